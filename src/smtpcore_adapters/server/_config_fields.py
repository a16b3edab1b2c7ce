"""The fields of `Config` that are options of a server themselves: `serve(app, hostname="mx.example.org")`."""

from collections.abc import Mapping, Set
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any, Final, TypedDict

from smtpcore import BareNewlines, Config, LocalProtocolError, Tolerance


class ConfigFields(TypedDict, total=False):
    """Fields of `smtpcore.Config`, which describes them. They replace the defaults, or add to the option `config`.

    `starttls` is missing, because a server with the option `tls` offers STARTTLS. `bodies` is missing, because the
    handlers of a server get runs of octets for each value.
    """

    hostname: str
    bare_newlines: BareNewlines
    tolerance: Tolerance
    require_tls: bool
    lmtp: bool
    auth_mechanisms: tuple[str, ...]
    plaintext_auth: bool | tuple[str, ...]
    require_auth: bool
    disabled: frozenset[str]
    enabled: Set[str]
    unknown_parameters: bool
    min_by_time: int | None
    max_hold_for: int | None
    max_hold_until: datetime | None
    priority_policy: str | None
    solicitation_classes: tuple[str, ...]
    burl: tuple[str, ...]
    max_command_line: int
    max_text_line: int | None
    max_message_size: int | None
    max_header: int | None
    max_recipients: int
    max_recipients_per_session: int | None
    max_recipient_domains: int | None
    max_messages: int | None
    max_errors: int | None
    max_refusals: int | None
    max_idle_commands: int | None
    max_auth_failures: int | None


CONFIG_FIELDS: Final = frozenset(ConfigFields.__annotations__)
_DEFAULTS: Final = {field.name: field.default for field in fields(Config)}


def config_fields(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options that are fields of `Config`."""
    return {name: value for name, value in options.items() if name in CONFIG_FIELDS}


def check_given_once(config: Config, given: Mapping[str, Any]) -> None:
    """Raise `ValueError` if one of the options in `given` has a value of its own in `config`, too."""
    for name in given:
        default = _DEFAULTS.get(name, MISSING)
        if name in _DEFAULTS and (default is MISSING or getattr(config, name) != default):
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
