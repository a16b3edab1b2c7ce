"""The listeners of `smtpcore serve`: their places, certificates and configurations. Nothing is bound here."""

import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import combinations
from typing import Any, TypeVar

import click

from smtpcore import EXTENSIONS, OFF_BY_DEFAULT, Budgets, Config, LocalProtocolError, Tolerance

from .._names import unknown_name
from ..server._app import App
from ..server._config import default_config, default_mechanisms
from ..server._limits import Limits, Timeouts
from ..server._listeners import Listener, inherit_socket, inherited_sockets
from ..tls import ServerTls, self_signed_context
from ._certificates import Certificates
from ._files import check_regular, reason_of
from ._settings import SETTINGS, library_value
from ._sources import TABLE, Settings

T = TypeVar("T", Config, Budgets, Timeouts, Limits)
Tls = ServerTls | ssl.SSLContext

_LOOPBACK = ("127.0.0.0/8", "::1", "unix")
_PLACES = ("port", "unix", "fd", "systemd")
"""The settings that say where to listen; a listener has one of them."""
_ALL = frozenset({"", "::", "[::]"})
"""The hosts that stand for all addresses, IPv6 and IPv4."""
_WITH_TIMEOUT = ("timeout_greeting", "timeout_command", "timeout_block", "timeout_handshake")
"""The settings that `timeout` sets."""
_OF_COMMAND = {"hostname": "hostname", "plaintext_auth": "allow_plaintext_auth"}
"""The fields of the library that a setting of the command sets."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A listener that is ready to be bound."""

    settings: Settings
    """The settings of the listener."""
    listener: Listener
    """The listener with all options of its sessions."""
    tls: Tls | None
    """The certificates."""


def prepare_listeners(
    server: Settings, app: App[Any], mechanisms: tuple[str, ...], *, is_check: bool = False
) -> Sequence[Prepared]:
    """Return the listeners. `mechanisms` work for all users of the server, and are empty if there are no users.

    With `is_check`, a port takes the place of the sockets that systemd passes only to the service.

    Raises:
        click.UsageError: A setting is wrong, or a file or a socket cannot be used.
    """
    certificates: dict[object, Tls] = {}
    return [_prepare(*place, app, mechanisms, certificates) for place in _places(server, is_check=is_check)]


def _prepare(
    settings: Settings, listener: Listener, app: App[Any], mechanisms: tuple[str, ...], certificates: dict[object, Tls]
) -> Prepared:
    tls = _tls(settings, certificates)
    disabled = _disabled(settings, app)
    is_implicit = settings["tls"] == "implicit"
    options: dict[str, Any] = {
        "tls": context_of(tls) if is_implicit or "STARTTLS" not in disabled else None,
        "implicit_tls": is_implicit,
        "proxies": _proxies(settings),
        "trusted": _networks(settings, "trusted"),
        "budgets": _budgets(settings),
        "timeouts": library_object(settings, Timeouts()),
    }
    options["config"] = library_object(
        settings,
        default_config(),
        hostname=settings["hostname"] or default_config().hostname,
        tolerance=Tolerance.LENIENT if settings["lenient"] else Tolerance.STRICT,
        starttls=options["tls"] is not None,
        require_tls=settings["tls"] == "starttls",
        disabled=disabled,
        plaintext_auth=settings["allow_plaintext_auth"],
        auth_mechanisms=_mechanisms(settings, app, mechanisms, disabled, has_tls=options["tls"] is not None),
    )
    return Prepared(settings, replace(listener, **options), tls)


def library_object(settings: Settings, default: T, **more: Any) -> T:
    """Return `default`, an object of an option class of the library, with the values of the settings, and `more`."""
    sources = {setting.source: name for name, setting in SETTINGS.items() if setting.source}
    names = {field: name for (kind, field), name in sources.items() if kind is type(default)}
    values = {field: library_value(SETTINGS[name], settings[name]) for field, name in names.items()}
    try:
        return replace(default, **(values | more))
    except (LocalProtocolError, ValueError) as exc:
        raise _explained(settings, exc, type(default)) from exc


def _explained(settings: Settings, exc: Exception, kind: type) -> click.UsageError:
    """Return the error for an exception about fields of `kind`, an option class of the library."""
    known = {source[1]: name for name, each in SETTINGS.items() if (source := each.source) and source[0] is kind}
    known |= _OF_COMMAND
    found = [known[word] for word in re.findall(r"\w+", str(exc)) if word in known]
    if not found:
        return click.UsageError(str(exc))

    wrong = next((name for name in found if settings.is_set(name)), found[0])
    # The names with an underscore are no words of English.
    text = re.sub(r"[a-z]+_\w+", lambda word: known.get(word[0], word[0]), str(exc))
    return settings.error(f"{{{wrong}}}: {{reason}}", reason=text)


def _budgets(settings: Settings) -> Budgets:
    budgets = library_object(settings, Budgets())
    names = [name for name in _WITH_TIMEOUT if settings["timeout"] and not settings.is_set(name)]
    return replace(budgets, **{name.removeprefix("timeout_"): settings["timeout"] for name in names})


# Places


def _places(server: Settings, *, is_check: bool) -> Iterator[tuple[Settings, Listener]]:
    """Yield each place to listen at, with its settings."""
    for name in ("unix_mode", "unix_owner", "unix_group"):
        if server.is_set(name) and all(each["unix"] is None for each in server.listeners):
            raise server.error(f"{{{name}}} has no effect without {{unix}}: give both")

    _check_different_places(server)
    inherited = 0
    names: set[str] = set()
    for number, settings in enumerate(server.listeners, 1):
        name = settings["name"] or f"listener {number}"
        if name in names:
            raise settings.error("{name}: each listener needs its own name, but two have {value!r}", value=name)
        names.add(name)
        has_host = settings.is_set("host") and (not settings.place or settings.values["host"] != server.values["host"])
        for place in ("unix", "fd", "systemd"):
            if has_host and settings.is_set(place):
                raise settings.error(f"{{host}} has no effect with {{{place}}}: give one of them")
        for listener in _listeners_at(settings, is_check=is_check):
            inherited += settings["fd"] is None and listener.bound is not None
            yield settings, replace(listener, name=name)

    passed = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    if inherited < passed:
        text = f"systemd has passed {passed} sockets, and {inherited} of them are used"
        raise click.UsageError(f"{text}: each needs a [[{TABLE}]] with its host and port, or its path, or its name")


def _check_different_places(server: Settings) -> None:
    """Raise `click.UsageError` if two listeners would listen at the same place."""
    for one, other in combinations(server.listeners, 2):
        for place in _PLACES:
            have_one = other.is_set(place) and one.is_set(place) and one[place] == other[place]
            if have_one and (place != "port" or (other["port"] and _overlap(one["host"], other["host"]))):
                raise other.error(f"{{{place}}}: an earlier [[{TABLE}]] has the same place: remove one of them")


def _overlap(host: str, other: str) -> bool:
    """Return whether two hosts have an address in common, as far as this is known without a look-up."""
    hosts = {host, other}
    return host == other or bool(hosts & _ALL) or ("0.0.0.0" in hosts and ":" not in host + other)  # noqa: S104


def _listeners_at(settings: Settings, *, is_check: bool) -> Sequence[Listener]:
    given = [name for name in _PLACES if settings.is_set(name)]
    if len(given) > 1:
        raise settings.error(f"{{{given[1]}}} has no effect with {{{given[0]}}}: give one of them")
    if settings["systemd"] is not None:
        if is_check and "LISTEN_FDS" not in os.environ:
            text = "{systemd}: the socket {name!r} is not checked, because systemd passes it only to the service"
            click.echo(f"smtpcore: {settings.error(text, name=settings['systemd']).format_message()}", err=True)
            return [Listener()]
        return _inherited(settings, settings["systemd"])
    if settings["fd"] is not None:
        try:
            return [Listener(bound=inherit_socket(settings["fd"]))]
        except (OSError, ValueError) as exc:
            raise settings.error("{fd}: {reason}", reason=getattr(exc, "strerror", None) or exc) from exc
    if settings.place and not given:
        raise settings.error("a listener needs one of {port}, {unix}, {fd} and {systemd}")

    own = _listener_at(settings)
    return _inherited(settings, None, at=own if settings.place or own.path else None) or [own]


def _listener_at(settings: Settings) -> Listener:
    if settings["unix"] is not None:
        return _unix_listener(settings)

    return Listener(settings["port"], settings["host"].removeprefix("[").removesuffix("]"))


def _inherited(settings: Settings, name: str | None, at: Listener | None = None) -> Sequence[Listener]:
    """Return the sockets of systemd with this name, or at the place of a listener. With two None, return all."""
    try:
        sockets = inherited_sockets(name)
    except (OSError, ValueError) as exc:
        raise settings.error("{systemd}: {reason}", reason=exc) from exc
    if name is not None and not sockets:
        raise settings.error("{systemd}: systemd has passed no socket with FileDescriptorName={name}", name=name)

    return [Listener(bound=each) for each in sockets if at is None or _takes(each, at)]


def _takes(passed: socket.socket, listener: Listener) -> bool:
    """Return whether a socket of systemd is at the place of a listener. If not, its descriptor stays open."""
    place = passed.getsockname()
    if isinstance(place, tuple):
        takes = place[1] == listener.port and listener.host in ("", "::", place[0])
    else:
        takes = place == listener.path
    if not takes:
        passed.detach()
    return takes


def _unix_listener(settings: Settings) -> Listener:
    try:
        listener = Listener(
            path=settings["unix"],
            mode=int(settings["unix_mode"], 8),
            owner=settings["unix_owner"],
            group=settings["unix_group"],
        )
    except ValueError as exc:
        raise settings.error("{unix}: {reason}", reason=exc) from exc

    import grp
    import pwd

    for name, kind, look_up in (("unix_owner", "user", pwd.getpwnam), ("unix_group", "group", grp.getgrnam)):
        value = settings[name]
        try:
            if value is not None and not (value.isdecimal() and int(value) < _NO_ID):
                look_up(value)
        except (KeyError, ValueError):
            raise settings.error(f"{{{name}}}: this system has no {kind} {{value!r}}", value=value) from None
    return listener


_NO_ID = 0xFFFFFFFF  # chown(2): this number leaves the owner as it is


# Peers


def _proxies(settings: Settings) -> tuple[str, ...]:
    networks = _networks(settings, "proxy") or _LOOPBACK
    if settings["proxy"] and not settings["proxy_protocol"]:
        raise settings.error("{proxy} needs {proxy_protocol}: give both")
    if settings["proxy_protocol"] and settings["unix"] is not None and "unix" not in networks:
        raise settings.error("{proxy} names no client of a Unix socket, which has no address: add unix")

    return networks if settings["proxy_protocol"] else ()


def _networks(settings: Settings, name: str) -> tuple[str, ...]:
    try:
        for network in settings[name]:
            if network != "unix":
                ip_network(network)
    except ValueError as exc:
        raise settings.error(f"{{{name}}}: {{reason}}", reason=exc) from exc

    return tuple(settings[name])


# TLS


def _tls(settings: Settings, certificates: dict[object, Tls]) -> Tls | None:
    """Return the certificates of a listener. `certificates` has those of the other listeners, to be shared."""
    certificate, key = settings["tls_cert"], settings["tls_key"]
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_names", "tls_cert")):
        if settings[one] and not settings[other]:
            raise settings.error(f"{{{one}}} needs {{{other}}}: give both")
    if certificate and settings["self_signed"]:
        raise settings.error("{self_signed} and {tls_cert} exclude each other: give one of them")
    if settings["tls"] == "none":
        return None
    if not certificate and not settings["self_signed"]:
        if settings["tls"]:
            raise settings.error("{tls} {mode} needs {tls_cert} and {tls_key}, or {self_signed}", mode=settings["tls"])
        return None

    cache_key = (certificate, key, str(settings["tls_names"]), settings["hostname"] if not certificate else None)
    if cache_key not in certificates:
        certificates[cache_key] = _read_certificates(settings) if certificate else _make_certificate(settings)
    return certificates[cache_key]


def _make_certificate(settings: Settings) -> ssl.SSLContext:
    return self_signed_context({settings["hostname"] or default_config().hostname, "localhost", "127.0.0.1", "::1"})


def _read_certificates(settings: Settings) -> ServerTls:
    certificate, key = settings["tls_cert"], settings["tls_key"]
    names: dict[str, list[str]] = settings["tls_names"] or {}
    for name, files in names.items():
        if len(files) != 2:
            raise settings.error("{tls_names}: {server} needs a list [certificate, key]", server=name)

    for name, files in (("", [certificate, key]), *names.items()):
        try:
            for file in files:
                check_regular(file)
            ServerTls(*files)
        except OSError as exc:
            setting, reason = "{tls_names}" if name else "{tls_cert}", reason_of(exc)
            text = f"{setting}: cannot use the certificate {{chain}} with {{key}}: {{reason}}"
            raise settings.error(text, chain=files[0], key=files[1], reason=reason) from exc

    try:
        return Certificates(certificate, key, {name: (files[0], files[1]) for name, files in names.items()})
    except ValueError as exc:
        raise settings.error("{tls_names}: {reason}", reason=exc) from exc


def context_of(tls: Tls | None) -> ssl.SSLContext | None:
    """Return the context with the certificates, or None without certificates."""
    return tls.context if isinstance(tls, ServerTls) else tls


# Extensions


_ONLY_WITH = {
    "AUTH": ("auth", "users"),
    "BURL": (),
    "STARTTLS": ("tls_cert", "self_signed"),
    "XCLIENT": ("trusted",),
    "XFORWARD": ("trusted",),
}
"""For each extension, the settings that it needs (at least one of them), unless the app has a handler for it."""
_EXTENSIONS = frozenset(extension.keyword for extension in EXTENSIONS)


def _disabled(settings: Settings, app: App[Any]) -> frozenset[str]:
    """Return the extensions that a listener does not offer."""
    if settings["tls"] in ("opportunistic", "starttls") and "STARTTLS" in map(str.upper, settings["without"]):
        text = "{tls} {mode} and {without} STARTTLS exclude each other: leave out one of them"
        raise settings.error(text, mode=settings["tls"])
    if settings["burl"] and not app.handles("BURL"):
        raise settings.error("{burl} needs an app of your own with a handler of BURL")
    wanted, unwanted = ({name.upper() for name in settings[setting]} for setting in ("extension", "without"))
    for setting, names in (("extension", wanted), ("without", unwanted)):
        for name in sorted(names - _EXTENSIONS):
            raise settings.error(f"{{{setting}}}: {{reason}}", reason=unknown_name(name, "an extension", _EXTENSIONS))
    for name in sorted(wanted & _ONLY_WITH.keys()):
        if not any(settings[needed] for needed in _ONLY_WITH[name]) and not app.handles(name):
            others = " or ".join(f"{{{needed}}}" for needed in _ONLY_WITH[name]) or "a handler"
            raise settings.error(f"{{extension}} {name} has no effect without {others}")
    if settings["trusted"] and (offered := unwanted & {"XCLIENT", "XFORWARD"}):
        text = "{without} {name} has no effect with {trusted}, which offers XCLIENT and XFORWARD"
        raise settings.error(text, name=min(offered))
    if wanted & unwanted:
        raise settings.error("{extension} and {without} exclude each other for {name}", name=min(wanted & unwanted))

    disabled = (OFF_BY_DEFAULT - wanted) | unwanted
    for extension in EXTENSIONS:
        if extension.keyword not in disabled and (missing := extension.needs & disabled):
            needed, name = min(missing), extension.keyword
            raise settings.error(f"{{without}} {needed} needs {{without}} {name}: {name} needs {needed}")
    if settings["lmtp"]:
        if missing := disabled & {"PIPELINING", "ENHANCEDSTATUSCODES"}:  # RFC 2033 section 5
            raise settings.error("{without} and {lmtp} exclude each other for {name}", name=min(missing))
        if settings["port"] == 25:
            raise settings.error("{lmtp} must not use port 25 (RFC 2033 section 5): give another {port}, such as 24")

    return disabled


def _mechanisms(
    settings: Settings, app: App[Any], of_users: tuple[str, ...], disabled: frozenset[str], *, has_tls: bool
) -> tuple[str, ...]:
    """Return the mechanisms that a listener offers."""
    usable = of_users or default_mechanisms(app)
    if "AUTH" in disabled or not usable:
        if settings["require_auth"]:
            raise settings.error("{require_auth} needs {users}" + "; AUTH is switched off" * bool(usable))
        for name in ("allow_plaintext_auth", "auth_mechanisms"):
            if settings[name] and not usable:
                raise settings.error(f"{{{name}}} has no effect without {{users}}: give both")
        return ()
    if of_users and not has_tls and not settings["allow_plaintext_auth"]:
        tls = "give {tls_cert} and {tls_key}, or {self_signed}; or give {allow_plaintext_auth}"
        name = "users" if settings["users"] else "auth"
        raise settings.error(f"{{{name}}} needs TLS: {tls}")

    unknown = set(settings["auth_mechanisms"]) - set(usable)
    if unknown and not settings["app"]:  # an app may have mechanisms of its own
        reason = f"{min(unknown)!r} does not work for these users: use {', '.join(usable)}"
        raise settings.error("{auth_mechanisms}: {reason}", reason=reason)

    return tuple(settings["auth_mechanisms"]) or usable


def limits_of(server: Settings) -> Limits:
    """Return the limits of the whole server."""
    return library_object(server, Limits())
