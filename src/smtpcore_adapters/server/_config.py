"""The options of a server, and the configuration that follows from them."""

import logging
import platform
from collections.abc import Iterable, Sequence, Set
from dataclasses import fields, replace
from datetime import datetime
from ssl import SSLContext
from typing import Any, TypedDict

from smtpcore import EXTENSIONS, BareNewlines, Bodies, Budgets, Config, Extension, LocalProtocolError, Tolerance

from .._names import unknown_name
from ..tls._channel_binding import ServerContext
from ._app import App
from ._authentication import check_mechanisms
from ._counts import Counts
from ._limits import Limits, Timeouts
from ._listeners import Listener

logger = logging.getLogger("smtpcore")


class Options(TypedDict, total=False):
    """The options that every adapter's `serve`, `serving` and `run` take. The options hold for the whole server.

    The fields of `smtpcore.Config` are options, too, such as `hostname`, `require_tls`, `require_auth`, `lmtp`,
    `max_message_size` and `enabled`. These fields add to `config`, and to the `config` of each listener; a field that
    is set in both places raises `ValueError`. A `Listener` has fields of the same names for the other options that can
    differ between listeners.
    """

    host: str | None
    """The address to listen on, `"127.0.0.1"` by default. A host name stands for all of its addresses; None, `""` and
    `"::"` stand for every address of the machine, IPv6 and IPv4."""
    grace: float
    """Seconds that sessions have to end when the server stops, 30 by default. Sessions that take longer are
    cancelled."""
    config: Config
    """The limits and the behaviour of the protocol, by default `default_config()`."""
    extensions: Sequence[Extension]
    """The extensions, by default `smtpcore.EXTENSIONS`. Add your own with `(*smtpcore.EXTENSIONS, yours)`."""
    tls: SSLContext | None
    """The context for TLS, with a minimum version of at least TLS 1.2. With this option, STARTTLS is offered. `tls`
    takes the place of `Config.starttls`."""
    implicit_tls: bool
    """Whether TLS comes before the greeting (RFC 8314 section 3.3)."""
    budgets: Budgets
    """The time limits of a session, by default `Budgets()`."""
    timeouts: Timeouts
    """The delays of a session, and the time for its end, by default `Timeouts()`."""
    limits: Limits
    """The limits of one client, and of all clients together, by default `Limits()`."""
    counts: Counts
    """The counts to which `limits` apply, by default in the memory of this process. `run_workers` passes counts that
    all workers share."""
    proxies: Iterable[str]
    """The addresses and networks of proxies that begin each connection with a PROXY header. The header gives the
    client's address, also for `Limits`. `"unix"` stands for every client of a Unix socket."""
    trusted: Iterable[str]
    """The addresses and networks of peers that may send the data of other clients, with XCLIENT and XFORWARD.
    A connection through one of `proxies` is never trusted. `"unix"` stands for every client of a Unix socket."""
    listeners: Iterable[Listener]
    """The listeners of the server, in place of a port and a host."""

    hostname: str
    """See `Config.hostname`."""
    bare_newlines: BareNewlines
    """See `Config.bare_newlines`."""
    tolerance: Tolerance
    """See `Config.tolerance`."""
    require_tls: bool
    """See `Config.require_tls`."""
    lmtp: bool
    """See `Config.lmtp`."""
    auth_mechanisms: tuple[str, ...]
    """See `Config.auth_mechanisms`."""
    plaintext_auth: bool | tuple[str, ...]
    """See `Config.plaintext_auth`."""
    require_auth: bool
    """See `Config.require_auth`."""
    disabled: frozenset[str]
    """See `Config.disabled`."""
    enabled: Set[str]
    """See `Config.enabled`."""
    unknown_parameters: bool
    """See `Config.unknown_parameters`."""
    min_by_time: int | None
    """See `Config.min_by_time`."""
    max_hold_for: int | None
    """See `Config.max_hold_for`."""
    max_hold_until: datetime | None
    """See `Config.max_hold_until`."""
    priority_policy: str | None
    """See `Config.priority_policy`."""
    solicitation_classes: tuple[str, ...]
    """See `Config.solicitation_classes`."""
    burl: tuple[str, ...]
    """See `Config.burl`."""
    max_command_line: int
    """See `Config.max_command_line`."""
    max_text_line: int | None
    """See `Config.max_text_line`."""
    max_message_size: int | None
    """See `Config.max_message_size`."""
    max_header: int | None
    """See `Config.max_header`."""
    max_recipients: int
    """See `Config.max_recipients`."""
    max_recipients_per_session: int | None
    """See `Config.max_recipients_per_session`."""
    max_recipient_domains: int | None
    """See `Config.max_recipient_domains`."""
    max_messages: int | None
    """See `Config.max_messages`."""
    max_errors: int | None
    """See `Config.max_errors`."""
    max_refusals: int | None
    """See `Config.max_refusals`."""
    max_idle_commands: int | None
    """See `Config.max_idle_commands`."""
    max_auth_failures: int | None
    """See `Config.max_auth_failures`."""


_FIELDS = {field.name: kind.__name__ for kind in (Limits, Budgets, Timeouts) for field in fields(kind)}
OPTIONS = frozenset(Options.__annotations__)
HINTS = {
    name: f"it is a field of {kind}, so pass {kind.lower()}={kind}({name}=...)"
    for name, kind in _FIELDS.items()
    if name not in OPTIONS
} | {
    "starttls": "a server offers STARTTLS if it has a context, so pass tls=...",
    "bodies": "the handlers of a server get runs of octets in any case",
}
"""The place of each field of `Budgets`, `Config`, `Limits` and `Timeouts` that is not an option of a server itself."""


def default_config() -> Config:
    """Return a configuration for mail from any client, with the name of this machine.

    Bodies come in chunks, with lines of any length. A bare CR or LF becomes CR LF (`BareNewlines.NORMALIZE`), and
    commands that break the grammar but have one meaning only are accepted (`Tolerance.LENIENT`).
    """
    config = Config(
        hostname="localhost",
        bodies=Bodies.CHUNKS,
        bare_newlines=BareNewlines.NORMALIZE,
        tolerance=Tolerance.LENIENT,
        max_text_line=None,
    )
    try:
        return replace(config, hostname=platform.node())
    except LocalProtocolError:
        return config


def default_mechanisms(app: App[Any]) -> tuple[str, ...]:
    """Return the SASL mechanisms that a server of `app` offers if its configuration names no mechanisms."""
    default = _DEFAULT_MECHANISMS if app.handles("auth") else ()
    return tuple(dict.fromkeys((*default, *app.mechanisms)))


def effective_config(
    config: Config, app: App[Any], tls: SSLContext | None, extensions: Iterable[Extension] = EXTENSIONS
) -> Config:
    """Return the configuration of a server of `app`.

    Raises `LocalProtocolError` if `config` demands something that the server does not have.
    """
    known = {extension.keyword for extension in (*EXTENSIONS, *extensions)}
    for keyword in config.disabled - known:
        raise LocalProtocolError(f"disabled: {unknown_name(keyword, 'an extension', known)}")
    if config.starttls and tls is None:
        demand = "require_tls" if config.require_tls else "starttls"
        raise LocalProtocolError(f"{demand} needs a TLS context: pass tls=... to the server too")
    if set(config.auth_mechanisms) - set(app.mechanisms) and not app.handles("auth"):
        raise LocalProtocolError("auth_mechanisms needs a handler of auth: register one, or name no mechanisms")
    if config.burl and not app.handles("BURL"):
        raise LocalProtocolError("burl needs a handler of BURL: register one, or leave burl out")

    # TLS is offered if there is a context, and EXPN, ETRN, BURL and AUTH are offered if they have a handler.
    handled = {verb for verb in ("EXPN", "ETRN") if app.handles(verb)}
    if config.burl:
        handled.add("BURL")
    missing = FOR_TRUSTED | ({"BURL"} - handled)
    mechanisms = config.auth_mechanisms or default_mechanisms(app)
    check_mechanisms(name for name in mechanisms if name not in app.mechanisms)
    fitting = replace(
        config,
        starttls=tls is not None,
        disabled=(config.disabled - handled) | missing,
        auth_mechanisms=tuple(name for name in mechanisms if not name.endswith("-PLUS") or _can_be_bound_to(tls)),
    )
    return config_for(app, app.configure(fitting))


def config_for(app: App[Any], config: Config) -> Config:
    """Return `config` with the values that sessions of `app` need: `Bodies.CHUNKS`, and a limit for the header.

    For a body of short lines, one object for each line would take many times the memory of the octets. Without a limit,
    `header` handlers would not be called.
    """
    if config.bodies is not Bodies.CHUNKS:
        config = replace(config, bodies=Bodies.CHUNKS)
    if config.max_header is None and app.handles("header"):
        config = replace(config, max_header=_MAX_HEADER)

    return config


def _can_be_bound_to(tls: SSLContext | None) -> bool:
    if isinstance(tls, ServerContext) and tls.binding:
        return True

    logger.warning("no -PLUS mechanism is offered: it needs an SSLContext of smtpcore_adapters.tls")
    return False


_MAX_HEADER = 262_144  # octets: real headers reach some 100,000
FOR_TRUSTED = frozenset({"XCLIENT", "XFORWARD"})


_DEFAULT_MECHANISMS = ("PLAIN", "LOGIN")  # a store of hashed passwords supports only these
