"""The fields of `Config` that are options of a server themselves: `serve(app, hostname="mx.example.org")`."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, Final

from smtpcore import Config, LocalProtocolError, given_fields

FIXED: Final = frozenset({"bodies", "starttls"})
"""The fields that a server sets itself: handlers get runs of octets, and STARTTLS is offered with the option `tls`."""
_DEFAULTS: Final = {field.name: field.default for field in fields(Config)}
CONFIG_FIELDS: Final = frozenset({*_DEFAULTS, "enabled"}) - FIXED


def config_fields(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options that are fields of `Config`."""
    return {name: value for name, value in options.items() if name in CONFIG_FIELDS}


def check_given_once(config: Config, given: Mapping[str, Any]) -> None:
    """Raise `ValueError` if an option in `given` is also set in `config`, even if it is set to its default there.

    After `dataclasses.replace` or a copy, the fields that were set are unknown. Then the fields count that differ from
    their default.
    """
    passed = given_fields(config)
    if passed >= _DEFAULTS.keys():
        passed = frozenset()
    for name in given:
        default = _DEFAULTS.get(name, MISSING)
        if name in passed or (name in _DEFAULTS and (default is MISSING or getattr(config, name) != default)):
            value = getattr(config, name)
            raise ValueError(f"{name} is given twice, as an option and as {value!r} in config: leave one of them out")


def with_fields(config: Config, given: Mapping[str, Any], mechanisms: tuple[str, ...]) -> Config:
    """Return `config` with the fields in `given`, and with the values that these fields need.

    `require_tls` needs STARTTLS, and `require_auth` needs mechanisms: by default those in `mechanisms`. Raises
    `LocalProtocolError` for a wrong value.
    """
    needed: dict[str, Any] = {}
    if given.get("require_tls"):
        needed["starttls"] = True
    if given.get("require_auth") and not config.auth_mechanisms:
        needed["auth_mechanisms"] = mechanisms
        if not given.get("auth_mechanisms", mechanisms):
            raise LocalProtocolError("require_auth needs a handler of auth: register one, or leave require_auth out")

    return replace(config, **needed | {**given}) if given else config
