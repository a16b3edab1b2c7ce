"""The destinations of mail: each is a URL, and one row of `SCHEMES` turns the URL into a handler."""

# A further destination needs one row: the form of its URL, its parameters with their types, and a function that returns
# the object to include in the app. The parameters are written after a `?` in the URL, or next to `url` in the file:
#
#     deliver = "smtp://mx.example.org?tls=starttls"
#
#     [deliver]
#     url = "smtp://mx.example.org"
#     tls = "starttls"

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from errno import EACCES, ENOTDIR
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from ..client._options import ConnectOptions, TlsMode, default_tls
from ..forward import Forward
from ..maildir import Maildir
from ..streams._stream import is_loopback
from ._files import first_line, trusting
from ._jetstream import JETSTREAM_PARAMETERS, make_jetstream, match_servers
from ._printing import PrintedCopies, PrintedMessages, Printer
from ._settings import SETTINGS, describe
from ._webhook import HTTP_PARAMETERS, WEBHOOK_PARAMETERS, make_webhook

_match_server = re.compile(r"[\w.-]+:\d+|\[[\da-fA-F:.]+\]:\d+").fullmatch
_LOGIN_IN_URL = "a login does not belong in a URL: use the parameters user and password_file"
_match_host = re.compile(r"[\w.:-]+").fullmatch
DEFAULT = "maildir:Maildir"
"""The destination if no other is given."""


@dataclass(frozen=True, slots=True)
class Target:
    """A destination, as its URL describes it."""

    url: str
    """The URL, for errors and for display."""
    scheme: str
    """The name in `SCHEMES`."""
    host: str = ""
    """The host of a server, empty for a path."""
    port: int = 0
    """The port of a server, 0 for a path."""
    path: str = ""
    """The path of a directory or a Unix socket, empty for a host."""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The values of the parameters that were given."""


@dataclass(frozen=True, slots=True)
class Server:
    """Facts about the server that handlers of destinations need."""

    hostname: str | None = None
    """The name of the server, None for the name of the machine."""
    workers: int = 1
    """The number of worker processes, which share standard output."""
    is_printing_copies: bool = False
    """Whether `print:` is given together with another destination, and therefore prints copies."""
    is_check: bool = False
    """Whether the destinations are only checked: nothing is created, and no server is asked."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of destination."""

    form: str
    """The form of the URL, for help and errors."""
    make: Callable[[Target, Server], object]
    """A function that returns the object to include in the app; for a check, None if the object would create files or
    ask another server. Raises `ValueError` or `OSError`."""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The type of each parameter, as msgspec checks it."""
    port: int = 0
    """The default port of a server; 0 for a destination without a host."""
    has_path: bool = False
    """Whether the URL has a path; after the host, if `port` is not 0."""
    match_rest: Callable[[str], object] | None = None
    """A function that returns whether a text may follow the scheme. `make` then gets this text as the path."""
    asks_about_recipients: bool = False
    """Whether the handler decides about recipients itself. The recipients are then refused here, unless a rule accepts
    them."""


def without_secrets(entry: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
    """Return a URL, or a table, with `***` in place of a login or a password, which is a mistake here."""
    if not isinstance(entry, str):
        return {
            name: "***"
            if _is_password(name)
            else without_secrets(value)
            if name == "url" and isinstance(value, str)
            else value
            for name, value in entry.items()
        }

    scheme = SCHEMES.get(entry.partition(":")[0].lower())
    if not (scheme and scheme.has_path and not scheme.port):  # the path of a file may have an @
        entry = _find_login.sub(r"\1***@", entry)
    return _find_parameter.sub(lambda found: f"{found[1]}=***" if _is_password(found[1][1:]) else found[0], entry)


_find_login = re.compile(r"^((?:[\w+.-]+:)?(?://)?)[^?]*:[^?]*@")
_find_parameter = re.compile(r"([?&]\w+)=[^&]*")


def _is_password(name: str) -> bool:
    return name.lower().startswith(("pass", "secret", "token")) and not name.endswith(("_file", "_env"))


def parse_destination(entry: str | Mapping[str, Any]) -> Target:
    """Return the target of a URL, or of a table with a URL and parameters. Raises `ValueError` for any mistake."""
    more = {} if isinstance(entry, str) else {name: value for name, value in entry.items() if name != "url"}
    url = entry if isinstance(entry, str) else entry.get("url")
    if not isinstance(url, str):
        raise ValueError(f"a destination needs url: use one of {_forms()}")

    name, colon, rest = url.partition(":")
    if not colon or name.lower() not in SCHEMES:
        raise ValueError(_unknown_scheme(str(without_secrets(url)), name))

    scheme = SCHEMES[name.lower()]
    rest, _, query = rest.partition("?")
    parameters: dict[str, tuple[Any, bool]] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in parameters:
            raise ValueError(f"{key!r} is given twice: remove one of them")
        parameters[key] = value, True
    parameters |= {key: (value, False) for key, value in more.items()}
    target = Target(url, name.lower(), parameters=_checked(scheme, parameters))
    if scheme.port:
        return _with_server(target, scheme, urlsplit(f"smtp:{rest}"))

    if scheme.match_rest:
        if "@" in rest:
            raise ValueError(_LOGIN_IN_URL)
        if not scheme.match_rest(rest):
            raise ValueError(f"{without_secrets(url)!r} does not have the form {scheme.form}")
        return _replace(target, path=rest)

    path = unquote(rest.removeprefix("//"))
    if bool(path) != scheme.has_path:
        raise ValueError(f"{without_secrets(url)!r} does not have the form {scheme.form}")

    return _replace(target, path=str(Path(path).expanduser()) if path else "")


def make_handlers(
    targets: Sequence[Target], hostname: str | None, workers: int, *, is_check: bool = False
) -> list[object]:
    """Return the objects to include in the app. Raises `ValueError` if a destination cannot be used.

    With `is_check`, the files that the destinations name are read, but nothing is created, and no server is asked.
    """
    server = Server(hostname, workers, is_printing_copies=len(targets) > 1, is_check=is_check)
    made: list[object] = []
    # The object that prints copies comes last, because it observes the other destinations.
    for target in sorted(targets, key=lambda each: each.scheme == "print"):
        try:
            made.append(SCHEMES[target.scheme].make(target, server))
        except OSError as exc:
            file = f"{exc.filename}: " if exc.filename else ""
            raise ValueError(f"cannot use the destination {target.url}: {file}{exc.strerror or exc}") from exc

    return [each for each in made if each is not None]


def check_together(targets: Sequence[Target]) -> None:
    """Raise `ValueError` if more than one of the destinations would have to accept a message."""
    others = [target.url for target in targets if target.scheme != "print"]
    if len(others) > 1 or len(targets) - len(others) > 1:
        given = ", ".join(others or ["print:"])
        raise ValueError(f"mail has one destination, and may be printed too; give one of {given}")


def _replace(target: Target, **changes: Any) -> Target:
    return Target(**{name: getattr(target, name) for name in Target.__slots__} | changes)


def _forms() -> str:
    return ", ".join(scheme.form for scheme in SCHEMES.values())


def _unknown_scheme(url: str, name: str) -> str:
    nearest = get_close_matches(name.lower(), SCHEMES, n=1)
    if nearest:
        return f"{url!r} is not a destination: write {SCHEMES[nearest[0]].form}"
    if url.startswith(("/", "./", "~")):
        return f"{url!r} is not a destination: write maildir:{url} for a Maildir"

    if _match_server(url):
        return f"{url!r} is not a destination: write smtp://{url} to forward the mail to this server"

    return f"{url!r} is not a destination: use one of {_forms()}"


def _checked(scheme: Scheme, given: Mapping[str, tuple[Any, bool]]) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name, (raw, is_text) in given.items():
        if name not in scheme.parameters:
            known = ", ".join(scheme.parameters) or "no parameters"
            hint = "; set it above the first table" if name in SETTINGS else ""
            raise ValueError(f"{name!r} is not a parameter of {scheme.form}, which has {known}{hint}")
        kind = scheme.parameters[name]
        try:
            values[name] = msgspec.convert(raw, kind, strict=not is_text)
        except msgspec.ValidationError:
            raise ValueError(f"{name}: {raw!r:.200} is not {describe(kind)}") from None

    return values


def _with_server(target: Target, scheme: Scheme, parts: SplitResult) -> Target:
    try:
        host, port = parts.hostname, scheme.port if parts.port is None else parts.port
    except ValueError:  # the port is not a number, or is too large
        host, port = None, 0
    if parts.username is not None:
        raise ValueError(_LOGIN_IN_URL)
    is_wrong_end = parts.fragment or (parts.path not in ("", "/") and not scheme.has_path)
    if not host or _match_host(host) is None or not port or is_wrong_end:
        raise ValueError(f"{without_secrets(target.url)!r} does not have the form {scheme.form}")

    return _replace(target, host=host, port=port)


# The rows


def _make_maildir(target: Target, server: Server) -> object:
    if not server.is_check:
        return Maildir(target.path)

    for name in ("tmp", "new", "cur"):
        _check_writable(Path(target.path) / name)
    return None


def _check_writable(directory: Path) -> None:
    """Raise `OSError` if no files can be created in a directory, or if the directory itself cannot be created."""
    while not directory.exists():
        directory = directory.parent
    if not directory.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(directory))
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(EACCES, os.strerror(EACCES), str(directory))


def _make_printer(target: Target, server: Server) -> object:
    printer = Printer(workers=server.workers)
    return PrintedCopies(printer) if server.is_printing_copies else PrintedMessages(printer)


def _make_forward(target: Target, server: Server) -> object:
    given = target.parameters
    flags = {name: given.get(name, False) for name in _ORIGIN}
    return Forward(target.host, target.port, **flags, **connect_options(target, server.hostname))


def connect_options(target: Target, hostname: str | None) -> ConnectOptions:
    """Return the options of a connection to the server of a destination. Raises `ValueError` or `OSError`."""
    given = target.parameters
    options: ConnectOptions = {
        "hostname": hostname,
        "lmtp": target.scheme.startswith("lmtp"),
        "tls": _tls_mode(target),
    }
    if target.path:
        options["path"] = target.path
    if "tls_ca" in given:
        options["context"] = trusting(given["tls_ca"])
    if ("user" in given) != ("password_file" in given):
        raise ValueError(f"{target.url}: user and password_file need each other: give both")
    if "user" in given:
        if options["tls"] in (TlsMode.NONE, TlsMode.OPPORTUNISTIC):
            raise ValueError(f"{target.url}: a login needs TLS: use smtps:// or tls=starttls")
        options["auth"] = given["user"], first_line(given["password_file"])

    return options


def _tls_mode(target: Target) -> TlsMode:
    if target.scheme == "smtps":
        return TlsMode.IMPLICIT
    if "tls" in target.parameters:
        return TlsMode(target.parameters["tls"])
    default = default_tls(target.port, target.path)
    if default is not TlsMode.OPPORTUNISTIC:
        return default
    if "user" in target.parameters:
        return TlsMode.REQUIRED

    return TlsMode.NONE if is_loopback(target.host) else default


_ORIGIN = {"xclient": bool, "xforward": bool, "proxy_protocol": bool, "announce": bool}
_TLS = {"tls_ca": str, "user": str, "password_file": str}
_STARTTLS = {"tls": Literal["none", "opportunistic", "starttls"]}

SCHEMES: Mapping[str, Scheme] = {
    "maildir": Scheme("maildir:PATH", _make_maildir, has_path=True),
    "smtp": Scheme("smtp://HOST:PORT", _make_forward, _STARTTLS | _TLS | _ORIGIN, 25, asks_about_recipients=True),
    "smtps": Scheme("smtps://HOST:PORT", _make_forward, _TLS | _ORIGIN, 465, asks_about_recipients=True),
    "lmtp": Scheme("lmtp://HOST:PORT", _make_forward, _STARTTLS | _TLS | _ORIGIN, 24, asks_about_recipients=True),
    "smtp+unix": Scheme("smtp+unix:PATH", _make_forward, _ORIGIN, has_path=True, asks_about_recipients=True),
    "lmtp+unix": Scheme("lmtp+unix:PATH", _make_forward, _ORIGIN, has_path=True, asks_about_recipients=True),
    "nats": Scheme("nats://HOST[,HOST...]/STREAM", make_jetstream, JETSTREAM_PARAMETERS, match_rest=match_servers),
    "https": Scheme("https://HOST:PORT/PATH", make_webhook, WEBHOOK_PARAMETERS, 443, has_path=True),
    "http": Scheme("http://HOST:PORT/PATH", make_webhook, HTTP_PARAMETERS, 80, has_path=True),
    "print": Scheme("print:", _make_printer),
}
"""The kinds of destinations, by the part of the URL before its first colon."""
