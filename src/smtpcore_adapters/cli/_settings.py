"""The settings of `smtpcore serve`: the name, the type, the default and the text of each."""

# Each setting is a field: of a class in this module, or of an option class of the library (`Config`, `Budgets`,
# `Timeouts`, `Limits`), so that a new field is a new setting. The key in the file, the variable and the option follow
# from the name: `max_size`, `SMTPCORE_MAX_SIZE`, `--max-size`. The text of an option is the first sentence of the text
# below its field. A value is always a value of TOML; `library_value` converts the value for a class of the library.

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from smtpcore import Budgets, Config, texts_of

from ..server._config import default_config
from ..server._limits import Limits, Timeouts

Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, description="a number of seconds, more than 0")]
Delay = Annotated[float, Meta(ge=0, description="a number of seconds, at least 0")]
Mode = Annotated[str, Meta(pattern="^0?[0-7]{3}$", description="a mode: use octal digits such as 660")]
Names = dict[str, list[str]]
_TEXTS = list[str]
_DESTINATIONS = list[str | dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Listening:
    name: str = ""
    """Name of the listener, which handlers read as session.listener.name."""
    host: str = "127.0.0.1"
    """Address to listen on; "::" for all addresses, IPv6 and IPv4."""
    port: Port = 2525
    """Port; 0 selects a free port."""
    unix: str | None = None
    """Path of a Unix socket to listen on, instead of a port."""
    unix_mode: Mode = "600"
    """Permissions of the Unix socket, in octal."""
    unix_owner: str | None = None
    """Owner of the Unix socket: a name or a number."""
    unix_group: str | None = None
    """Group of the Unix socket: a name or a number."""
    fd: Count | None = None
    """Number of an open socket to listen on, instead of a port."""
    systemd: str | None = None
    """Name of the systemd sockets to listen on (FileDescriptorName=), instead of a port."""
    proxy_protocol: bool = False
    """Require a PROXY header on each connection from a proxy."""
    proxy: tuple[str, ...] = ()
    """Networks of the proxies, or "unix"; by default loopback."""
    trusted: tuple[str, ...] = ()
    """Networks that may use XCLIENT and XFORWARD, or "unix"."""


@dataclass(frozen=True, slots=True)
class _Tls:
    tls_cert: str | None = None
    """File with the certificate chain, PEM."""
    tls_key: str | None = None
    """File with the private key of the certificate, PEM."""
    tls_names: Names | None = None
    """Other certificates by the server name that a client asks for: a table of lists [certificate, key]."""
    self_signed: bool = False
    """Use a new self-signed certificate, for tests."""
    tls: Literal["none", "opportunistic", "starttls", "implicit"] | None = None
    """Use of TLS: STARTTLS is offered (opportunistic), mail needs STARTTLS (starttls), or TLS comes before the greeting
    (implicit); by default opportunistic if there is a certificate, else none."""


@dataclass(frozen=True, slots=True)
class _Access:
    accept: tuple[str, ...] = ()
    """Addresses or domains: accept only these recipients."""
    allow_plaintext_auth: bool = False
    """Offer AUTH also without TLS."""


@dataclass(frozen=True, slots=True)
class _Protocol:
    hostname: str | None = None
    """Name of this server in its replies; by default the name of this machine."""
    lenient: bool = True
    """Accept commands with a clear meaning but malformed syntax, such as "MAIL FROM: <a@b>"; on by default."""
    extension: tuple[str, ...] = ()
    """Extensions to offer, such as DSN."""
    without: tuple[str, ...] = ()
    """Extensions that are not offered."""


@dataclass(frozen=True, slots=True)
class _Times:
    timeout: Seconds | None = None
    """Disconnect a client after this many seconds of silence; sets four of the following options."""


@dataclass(frozen=True, slots=True)
class _Users:
    users: str | None = None
    """File with the users who may log in and send to any recipient; smtpcore user add writes it."""
    auth: tuple[str, ...] = ()
    """Further users, for tests: as an option USER, whose password is asked for at the terminal; in the file, and in
    each line of the variable, USER:PASSWORD."""


@dataclass(frozen=True, slots=True)
class _Delivery:
    deliver: tuple[str | dict[str, Any], ...] = ()
    """Destination of the mail, as a URL: maildir:PATH, smtp://HOST:PORT, smtps://HOST:PORT, lmtp://HOST:PORT,
    lmtp+unix:PATH, https://HOST/PATH or print:. By default maildir:Maildir. docs/running.md lists the parameters
    of each URL. With print: and another destination, messages are also printed."""
    maildir: str | None = None
    """Maildir to store messages in; created if missing. Short for --deliver maildir:PATH."""
    print: bool = False
    """Write messages to standard output, and all other lines to standard error. Short for --deliver print:."""
    fault: tuple[str, ...] = ()
    """Scripted faults, to test clients: "RCPT 2 -> 451"."""
    fault_seed: int | None = None
    """Seed of random faults, such as "RCPT 10% -> 451"; by default random."""


@dataclass(frozen=True, slots=True)
class _Sharing:
    shared_limits: str | None = None
    """URL of a server of Redis or Valkey, such as redis://:PASSWORD@10.0.0.5: the limits on addresses, networks and
    users, and the greylist, then hold for all servers with this URL together. A password belongs into the file or the
    variable, as other users of the machine can see options."""
    greylist: Seconds | None = None
    """Defer the first attempt of each unknown client, sender and recipient, for this many seconds, such as 300."""


@dataclass(frozen=True, slots=True)
class _Process:
    app: str | None = None
    """App of your own, as MODULE:ATTRIBUTE: an App, or a function that returns an App. This setting is also the
    argument of the command. The other settings then add to the handlers of the App."""
    reload: bool = False
    """Start again when a Python file changes, for development."""
    backend: Literal["asyncio", "trio", "threads"] = "asyncio"
    """Framework that runs the server."""
    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """Event loop of the backend asyncio: by default uvloop if it is installed, which is faster, else that of Python."""
    workers: Annotated[int, Meta(ge=1, le=128)] = 1
    """Number of worker processes; the limits apply to all of them together."""
    user: str | None = None
    """User of the system, a name or a number: after the start as root, the server has only the rights of this user."""
    group: str | None = None
    """Group of the server in place of the main group of user: a name or a number."""
    metrics_port: Port | None = None
    """Port for Prometheus metrics; 0 selects a free port. By default no metrics."""
    metrics_host: str = "127.0.0.1"
    """Address for the metrics, such as 0.0.0.0 in a container; anyone who reaches this address can read them."""
    drain_delay: Delay = 0.0
    """Seconds for which the server still accepts connections after SIGTERM, while /ready at the port of the metrics is
    503 already, so that a load balancer sends no more connections; a further SIGTERM ends this time."""
    log_json: bool = False
    """Log to standard error, one JSON object per line."""
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    """Least level of the log records; by default info with --verbose or --log-json, else warning."""
    quiet: bool = False
    """Show only the log: no line for each message, and no line for the address."""
    verbose: bool = False
    """Show each command and reply."""


_OWN = {
    "hostname": "`hostname` has a default of its own",
    "bodies": "the server sets it",
    "starttls": "the setting is `tls`",
    "require_tls": "the setting is `tls`",
    "tolerance": "the setting is `lenient`",
    "plaintext_auth": "the setting is `allow_plaintext_auth`",
    "disabled": "the settings are `extension` and `without`",
}
"""Fields of the library that do not become settings of the same name, each with the reason."""

_RENAMED = {
    "max_message_size": "max_size",
    "max_text_line": "max_line",
    **{name: f"timeout_{name}" for name in ("greeting", "command", "body", "block", "session", "handshake", "send")},
    **{name: f"timeout_{name}" for name in ("crowded", "close")},
    **{field.name: f"max_{field.name}" for field in fields(Limits) if not field.name.endswith("_prefix")},
    "connections_per_prefix": "max_connections_per_prefix",
}
"""The names of the settings whose field in the library has another name."""

OTHER_NAMES = _RENAMED | {
    "tolerance": "lenient",
    "plaintext_auth": "allow_plaintext_auth",
    "disabled": "without",
    "enabled": "extension",
    "starttls": "tls",
    "require_tls": "tls",
    "implicit_tls": "tls",
}
"""The names of settings by the names of the options of the library, which readers of its documentation may try."""

_LIBRARY = {Config: default_config(), Budgets: Budgets(), Timeouts: Timeouts(), Limits: Limits()}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the server."""

    name: str
    """The key in the file, from which the names of the variable and the option follow."""
    kind: Any
    """The type of the value, as msgspec checks it."""
    default: Any
    """The value if nothing sets it; None for no value."""
    text: str
    """The text for `--help`: one sentence."""
    group: str
    """The title in `--help`."""
    in_listener: bool
    """Whether a `[[listener]]` may have a value of its own."""
    source: tuple[type, str] | None = None
    """The class of the library and its field, None for a setting of the command itself."""

    @property
    def option(self) -> str:
        """The option of the command line, or the form of its argument."""
        return "MODULE:ATTRIBUTE" if self.name == ARGUMENT else f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"SMTPCORE_{self.name.upper()}"

    @property
    def is_list(self) -> bool:
        """Whether the value is a list, so that the option can be repeated."""
        return get_origin(self.kind) is list

    @property
    def is_secret(self) -> bool:
        """Whether the value must not be shown."""
        return self.name in _SECRET

    @property
    def is_of_one_listener(self) -> bool:
        """Whether each `[[listener]]` has its own value, and there is no value for all listeners."""
        return self.name in _OF_ONE_LISTENER

    @property
    def is_only_in_file(self) -> bool:
        """Whether the value is a table, which no option or variable can hold."""
        return self.kind is Names

    def convert(self, raw: object, *, is_text: bool) -> Any:
        """Return the value of `raw`; with `is_text`, a number may be given as text. The `ValueError` says what to use.

        A single item is a list of one item. The variable of a list has its items separated by white space, or by line
        ends if they are secret.
        """
        if self.is_list and isinstance(raw, str) and is_text:
            raw = raw.splitlines() if self.is_secret else raw.split()  # a password may have spaces
        elif self.is_list and isinstance(raw, str | dict):
            raw = [raw]
        elif raw == "" and self.kind is str and self.default is None:
            raise ValueError("the value is empty: leave it out, or give one")
        try:
            return msgspec.convert(raw, self.kind, strict=not is_text)
        except msgspec.ValidationError:
            shown = "the value" if self.is_secret else f"{raw!r:.200}"
            hint = "" if is_text else self._hint(raw)
            raise ValueError(f"{shown} is not {describe(self.kind)}{hint}") from None

    def _hint(self, raw: object) -> str:
        """Return advice about the quotes of a wrong value of the file."""
        if isinstance(raw, str) and self._takes(raw):
            return "; write it without quotes"
        if isinstance(raw, int) and not isinstance(raw, bool) and self._takes(str(raw)):
            return "; write it in quotes"
        if self.kind is Names and isinstance(raw, dict) and any(isinstance(each, dict) for each in raw.values()):
            return "; write a name with dots in quotes"
        return ""

    def _takes(self, text: str) -> bool:
        try:
            msgspec.convert(text, self.kind, strict=False)
            return True
        except msgspec.ValidationError:
            return False


_SECRET = frozenset({"auth", "shared_limits"})
_OF_ONE_LISTENER = ("name", "port", "unix", "fd", "systemd")
ARGUMENT = "app"
"""The setting that is an argument of the command, and not an option."""

_GROUPS: tuple[tuple[str, bool, tuple[type, ...]], ...] = (
    ("Listener", True, (_Listening,)),
    ("TLS", True, (_Tls,)),
    ("Recipients and users", False, (_Users,)),
    ("Recipients and users", True, (_Access,)),
    ("Destination", False, (_Delivery,)),
    ("Protocol; a limit of 0 is no limit", True, (_Protocol, Config)),
    ("Times, in seconds; inf for no limit", True, (_Times, Budgets, Timeouts)),
    ("Limits of the whole server; 0 for no limit", False, (Limits, _Sharing)),
    ("Process and log", False, (_Process,)),
)
"""The settings: their title in `--help`, whether each listener may have values of its own, and the classes."""


def _settings() -> Iterator[Setting]:
    for group, in_listener, kinds in _GROUPS:
        for kind in kinds:
            hints, texts = get_type_hints(kind, include_extras=True), texts_of(kind)
            for each in fields(kind):
                hint, text = hints[each.name], texts.get(each.name, "")
                if kind not in _LIBRARY:
                    value_type, default = _of_toml(hint, each.default)
                    yield Setting(each.name, value_type, default, " ".join(text.split()), group, in_listener)
                elif each.name not in _OWN:
                    value_type, default = _of_toml(hint, getattr(_LIBRARY[kind], each.name))
                    if value_type is int and NoneType in get_args(hint):
                        value_type, default = Count, default or 0
                    name, source = _RENAMED.get(each.name, each.name), (kind, each.name)
                    yield Setting(name, value_type, default, _short(text), group, in_listener, source)


def _of_toml(hint: Any, default: Any) -> tuple[Any, Any]:
    """Return the type and the default as in TOML: without None, and with names in place of enum members."""
    if get_origin(hint) is UnionType or NoneType in get_args(hint):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Literal[tuple(each.name.lower() for each in hint)], default.name.lower()
    if get_origin(hint) is tuple:
        return GenericAlias(list, get_args(hint)[:1]), [*default]

    return hint, default


def _short(text: str) -> str:
    """Return the first sentence of the text of a field, with the names of the settings and without the default."""
    sentence = re.split(r"\.\s+(?=[A-Z`])", " ".join(text.split()))[0].rstrip(".")
    sentence = re.sub(r"`(?:\w+\.)?(\w+)`", lambda match: _RENAMED.get(match[1], match[1]), sentence)
    return re.sub(r", [\w-]+ by default", "", sentence) + "."


SETTINGS: Mapping[str, Setting] = {each.name: each for each in _settings()}
"""All settings by name."""


def library_value(setting: Setting, value: Any) -> Any:
    """Return the value of a setting, converted for the field of its class in the library."""
    assert setting.source, "the setting is a field of the library"
    kind, name = setting.source
    hint = get_type_hints(kind)[name]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint[value.upper()]
    if get_origin(hint) is tuple:
        return tuple(value)

    return None if value == 0 and NoneType in get_args(hint) else value


def describe(kind: Any) -> str:
    """Return the text that says which values a type has: "a whole number from 0 to 65535"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        meta = arguments[1]
        if meta.description:
            return str(meta.description)
        if meta.le is not None:
            return f"{describe(arguments[0])} from {meta.ge} to {meta.le}"
        return f"{describe(arguments[0])} of at least {meta.ge}"
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    return next(text for each, text in _DESCRIPTIONS if each == kind)


_DESCRIPTIONS = (
    (int, "a whole number"),
    (float, "a number"),
    (bool, "true or false"),
    (str, "a text"),
    (_TEXTS, "a list of texts"),
    (_DESTINATIONS, "a list of destinations"),
    (datetime, "a time such as 2030-01-01T00:00:00Z"),
    (Names, "a table of lists of a certificate and a key"),
)
