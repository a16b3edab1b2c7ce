"""`smtpcore serve`: receive mail and store or forward it."""

import logging
import re
import signal
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler

from smtpcore import EXTENSIONS, OFF_BY_DEFAULT, BareNewlines, Budgets, Config, LocalProtocolError, Tolerance
from smtpcore.sasl import ScramKeys

from .._names import unknown_name
from ..client._options import TlsMode
from ..forward import Forward
from ..maildir import Maildir
from ..recipients import AnyRecipient, RecipientFilter, RecipientPolicy, Recipients
from ..server._app import App
from ..server._config import default_config, effective_config
from ..server._limits import Limits, Timeouts
from ..server._listeners import Listener, inherited_sockets
from ..tls import ServerTls, self_signed_context
from ..transcript import Transcript
from ..users import Users, parse_hash
from ._display import Arrivals, JsonLog, LineLog, PrintableLog, Terminal, log_arrival, log_dialogue
from ._endpoint import parse_server
from ._printing import PrintedCopies, PrintedMessages, Printer
from ._processes import Run, raise_descriptor_limit, reloading, run_alone, run_workers

_MAILDIR = Path("Maildir")
_AT_LEAST_ONE = click.IntRange(1)
_FILES_PER_CONNECTION = 4  # threads need two for a connection, and two for another connection that is being refused
_OTHER_FILES = 64
_HASHED = "SCRAM-SHA-256$"
"""The beginning of a hashed password."""
_FOR_HASHES = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
"""The mechanisms that work for users with hashed passwords."""
_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=2525, show_default=True, help="Port; 0 selects a free port."
)
@click.option("--unix", type=click.Path(), metavar="PATH", help="Unix socket to listen on, instead of a port.")
@click.option(
    "--unix-mode", metavar="MODE", default="600", show_default=True, help="Permissions of the Unix socket, in octal."
)
@click.option("--hostname", help="Name of this server in its replies.  [default: the name of this machine]")
@click.option(
    "--backend",
    type=click.Choice(["asyncio", "trio", "threads"]),
    default="asyncio",
    show_default=True,
    help="Framework that runs the server.",
)
@click.option(
    "--maildir",
    type=click.Path(path_type=Path),
    help="Maildir to store messages in; created if missing.  [default: Maildir, without --print]",
)
@click.option(
    "--print",
    is_flag=True,
    help="Write messages to standard output, and all other lines to standard error. Messages are stored only if"
    " --maildir or --forward is given too.",
)
@click.option("--accept", multiple=True, metavar="ADDRESS-or-DOMAIN", help="Accept only these recipients. Repeatable.")
@click.option("--forward", metavar="HOST:PORT", help="Forward mail to this server instead of storing it.")
@click.option("--forward-lmtp", is_flag=True, help="Speak LMTP to the server of --forward.")
@click.option(
    "--forward-tls",
    type=click.Choice([mode.value for mode in TlsMode]),
    help="Use of TLS for --forward.  [default: none to a loopback address, else opportunistic]",
)
@click.option("--forward-xclient", is_flag=True, help="Send the client's address, HELO and login with XCLIENT.")
@click.option("--forward-xforward", is_flag=True, help="Send the client's address with XFORWARD, for the log.")
@click.option("--forward-proxy-protocol", is_flag=True, help="Send the client's address in a PROXY header.")
@click.option("--forward-announce", is_flag=True, help="Offer the extensions that the server of --forward offers.")
@click.option(
    "--max-size",
    type=click.IntRange(0),
    metavar="OCTETS",
    default=52_428_800,
    show_default=True,
    help="Maximum size of a message; 0 for no limit.",
)
@click.option(
    "--max-recipients", type=int, metavar="N", default=1000, show_default=True, help="Maximum recipients of a message."
)
@click.option(
    "--auth",
    multiple=True,
    metavar="USER:PASSWORD",
    envvar="SMTPCORE_AUTH",
    help="User who may log in and send to any recipient. Repeatable. The process list shows this option: use the"
    " variable SMTPCORE_AUTH or --auth-file on a machine with other users.",
)
@click.option(
    "--auth-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with a USER:PASSWORD in each line, which the process list does not show. The password may be hashed:"
    " see smtpcore hash-password.",
)
@click.option("--require-auth", is_flag=True, help="Accept mail only from authenticated clients.")
@click.option("--allow-plaintext-auth", is_flag=True, help="Offer AUTH also without TLS.")
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Private key of the certificate, PEM.")
@click.option("--self-signed", is_flag=True, help="Use a new self-signed certificate, for tests.")
@click.option("--implicit-tls", is_flag=True, help="Start TLS before the greeting instead of offering STARTTLS.")
@click.option("--require-tls", is_flag=True, help="Accept mail only under TLS.")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP.")
@click.option("--extension", multiple=True, metavar="NAME", help="Offer this extension, such as DSN. Repeatable.")
@click.option("--without", multiple=True, metavar="NAME", help="Do not offer this extension. Repeatable.")
@click.option("--proxy-protocol", is_flag=True, help="Require a PROXY header on each connection from a proxy.")
@click.option(
    "--proxy",
    multiple=True,
    metavar="NETWORK",
    help='Network of the proxies, or "unix". Repeatable.  [default: loopback]',
)
@click.option(
    "--trusted",
    multiple=True,
    metavar="NETWORK",
    help='Network that may use XCLIENT and XFORWARD, or "unix". Repeatable.',
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Disconnect a client after this many seconds of silence.  [default: 300]",
)
@click.option(
    "--bare-newlines",
    type=click.Choice(["reject", "normalize", "accept"]),
    default="normalize",
    show_default=True,
    help="Treatment of messages with a bare CR or LF.",
)
@click.option(
    "--lenient/--strict",
    default=True,
    show_default=True,
    help='Treatment of commands with a clear meaning but malformed syntax, such as "MAIL FROM: <a@b>".',
)
@click.option(
    "--max-connections",
    type=_AT_LEAST_ONE,
    metavar="N",
    default=1000,
    show_default=True,
    help="Maximum connections at a time.",
)
@click.option(
    "--max-connections-per-address",
    type=_AT_LEAST_ONE,
    metavar="N",
    default=100,
    show_default=True,
    help="Maximum connections of one address at a time.",
)
@click.option(
    "--max-new-connections",
    type=_AT_LEAST_ONE,
    metavar="N",
    help="Maximum new connections of one address in a minute.  [default: no limit]",
)
@click.option(
    "--greeting-delay",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=0,
    show_default=True,
    help="Delay before the greeting; clients that talk first are rejected.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 128),
    metavar="N",
    default=1,
    show_default=True,
    help="Worker processes; the connection limits apply to each of them separately.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    help="Port on 127.0.0.1 for Prometheus metrics; 0 selects a free port.  [default: no metrics]",
)
@click.option(
    "--fault", multiple=True, metavar="LINE", help='Scripted fault, to test clients: "RCPT 2 -> 451". Repeatable.'
)
@click.option(
    "--fault-seed", type=int, metavar="N", help='Seed of random faults, such as "RCPT 10% -> 451".  [default: random]'
)
@click.option("--log-json", is_flag=True, help="Log to standard error, one JSON object per line.")
@click.option("-v", "--verbose", is_flag=True, help="Show each command and reply.")
def serve(**options: Any) -> None:
    """Receive mail, and store it in a Maildir or forward it.

    Sockets of systemd (socket activation) are used in place of --host and --port.

    Without --accept and --auth every recipient is accepted. The server must then be
    unreachable for other machines: on a loopback address, without --proxy-protocol and --trusted.
    """
    options["auth"] += _users_in(options["auth_file"])
    for name, needed in _NEEDED.items():
        if options[name] is not None and options[name] is not False and not options[needed]:
            raise click.UsageError(f"--{name.replace('_', '-')} has no effect without --{needed}: give both")
    if options["maildir"] and options["forward"]:
        raise click.UsageError("--maildir has no effect with --forward, which stores no messages: give one of them")

    listeners = _listeners(options)
    _log(json=options["log_json"], verbose=options["verbose"])
    tls = _tls(options)
    app = _application(options, listeners, tls)
    _show(app, options)
    arguments: dict[str, Any] = {
        "config": _config(options, tls),
        "tls": _context(tls),
        "implicit_tls": options["implicit_tls"],
        "proxies": _proxies(options),
        "trusted": _networks("--trusted", options["trusted"]),
        "budgets": _budgets(options["timeout"]),
        "timeouts": Timeouts(greeting_delay=options["greeting_delay"]),
        "limits": _limits(options),
    }
    run: Run = partial(_runner(options["backend"]), app, **arguments)
    run = _reloading(run, tls)
    raise_descriptor_limit(_FILES_PER_CONNECTION * options["max_connections"] + _OTHER_FILES)

    try:
        if options["workers"] > 1:
            run_workers(run, listeners, options["workers"], app, options["metrics_port"])
        else:
            run_alone(run, listeners, app, options["metrics_port"])
    except ChildProcessError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        place = options["unix"] or f"{options['host']} port {options['port']}"
        raise click.UsageError(f"cannot listen on {place}: {exc.strerror or exc}") from exc


# Options


_NEEDED = {
    "allow_plaintext_auth": "auth",
    "fault_seed": "fault",
    "forward_lmtp": "forward",
    "forward_tls": "forward",
    "forward_xclient": "forward",
    "forward_xforward": "forward",
    "forward_proxy_protocol": "forward",
    "forward_announce": "forward",
}
"""Options that have no effect without another option."""


def _listeners(options: dict[str, Any]) -> Sequence[Listener]:
    """Return the listeners: the sockets of systemd, or else a Unix socket or a port."""
    options["host"] = options["host"].removeprefix("[").removesuffix("]")
    inherited = inherited_sockets()
    if inherited:
        return [Listener(bound=each) for each in inherited]
    if options["unix"]:
        return [Listener(path=options["unix"], mode=_mode(options["unix_mode"]))]

    return [Listener(options["port"], options["host"])]


def _mode(text: str) -> int:
    if re.fullmatch("0?[0-7]{3}", text) is None:
        raise click.UsageError(f"--unix-mode {text} is not a mode: use octal digits such as 660")

    return int(text, 8)


def _users_in(path: Path | None) -> tuple[str, ...]:
    try:
        return tuple(line for line in path.read_text().splitlines() if line) if path else ()
    except (OSError, UnicodeDecodeError) as exc:
        raise click.UsageError(f"--auth-file: cannot read {path}: {getattr(exc, 'strerror', exc)}") from exc


def _disabled(options: dict[str, Any]) -> frozenset[str]:
    wanted, unwanted = ({name.upper() for name in options[option]} for option in ("extension", "without"))
    for name in sorted(wanted | unwanted):
        if name not in _EXTENSIONS:
            raise click.UsageError(unknown_name(name, "an extension", _EXTENSIONS))
    for name in sorted(wanted & _ONLY_WITH.keys()):
        if not any(options[needed] for needed in _ONLY_WITH[name]):
            others = " or ".join(f"--{needed.replace('_', '-')}" for needed in _ONLY_WITH[name]) or "a handler"
            raise click.UsageError(f"--extension {name} has no effect without {others}")
    if options["trusted"] and (offered := unwanted & {"XCLIENT", "XFORWARD"}):
        name = min(offered)
        raise click.UsageError(f"--without {name} has no effect with --trusted, which offers XCLIENT and XFORWARD")
    if wanted & unwanted:
        raise click.UsageError(f"--extension and --without exclude each other for {min(wanted & unwanted)}")

    disabled = (OFF_BY_DEFAULT - wanted) | unwanted
    for extension in EXTENSIONS:
        missing = extension.needs & disabled
        if missing and extension.keyword not in disabled:
            name = extension.keyword
            raise click.UsageError(f"--without {min(missing)} needs --without {name}: {name} needs {min(missing)}")
    if options["lmtp"] and (missing := disabled & {"PIPELINING", "ENHANCEDSTATUSCODES"}):  # RFC 2033 section 5
        raise click.UsageError(f"--without and --lmtp exclude each other for {min(missing)}")

    return disabled


_ONLY_WITH = {
    "AUTH": ("auth",),
    "BURL": (),
    "STARTTLS": ("tls_cert", "self_signed"),
    "XCLIENT": ("trusted",),
    "XFORWARD": ("trusted",),
}
"""For each extension, the options of which it needs at least one. BURL needs a handler, which no option can give."""

_EXTENSIONS = frozenset(extension.keyword for extension in EXTENSIONS)


def _application(
    options: dict[str, Any], listeners: Sequence[Listener], tls: ServerTls | ssl.SSLContext | None
) -> App[Any]:
    app = App()
    if options["fault"]:
        app.include(_faults(options, tls))

    users = _users(options["auth"]) if options["auth"] else None
    recipients = None
    if options["accept"] or not users or not _strangers(options, listeners):
        recipients = _recipients(options, listeners)

    policies = [policy for policy in (users, recipients) if policy]
    if options["forward"]:
        _include_forward(app, options, users, policies)
    else:
        for policy in policies:
            app.include(policy)
        if options["maildir"] or not options["print"]:
            app.include(_maildir(options["maildir"] or _MAILDIR))
    if options["print"]:
        printer = Printer(workers=options["workers"])
        is_copy = options["maildir"] or options["forward"]
        app.include(PrintedCopies(printer) if is_copy else PrintedMessages(printer))
    return app


def _strangers(options: dict[str, Any], listeners: Sequence[Listener]) -> str:
    """Return the reason why clients on other machines can reach the server, or `""` if none can."""
    for listener in listeners:
        name = listener.bound.getsockname() if listener.bound else (listener.host, listener.port)
        if not listener.path and isinstance(name, tuple) and not _is_loopback(str(name[0])):
            return f"{name[0]} is not a loopback address"

    for option in ("proxy_protocol", "trusted"):
        if options[option]:
            return f"--{option.replace('_', '-')} admits clients from other machines"

    return ""


def _recipients(options: dict[str, Any], listeners: Sequence[Listener]) -> AnyRecipient | Recipients:
    accept, strangers = options["accept"], _strangers(options, listeners)
    if not accept and strangers:
        raise click.UsageError(f"{strangers}: restrict the recipients with --accept, or the senders with --auth")

    try:
        return Recipients(accept) if accept else AnyRecipient()
    except ValueError as exc:
        raise click.UsageError(f"--accept: {exc}") from exc


def _users(entries: Sequence[str]) -> Users:
    users = dict(entry.split(":", 1) for entry in entries if ":" in entry)
    if len(users) < len(entries) or "" in users or "" in users.values():
        # The error does not quote the entry, because the entry may contain a password.
        raise click.UsageError("--auth needs USER:PASSWORD, and each user only once")

    try:
        return Users({name: _password_of(text) for name, text in users.items()})
    except ValueError as exc:
        raise click.UsageError(f"--auth: {exc}") from exc


def _password_of(text: str) -> str | ScramKeys:
    return parse_hash(text) if text.startswith(_HASHED) else text


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _include_forward(
    app: App[Any], options: dict[str, Any], users: Users | None, policies: Sequence[RecipientPolicy]
) -> None:
    host, port, path = parse_server("--forward", options["forward"])
    default = TlsMode.NONE if path or _is_loopback(host) else TlsMode.OPPORTUNISTIC
    mode = TlsMode(options["forward_tls"]) if options["forward_tls"] else default
    if users:
        app.on("auth")(users.on_auth)

    app.include(RecipientFilter(*policies))  # the next server decides about the recipients that no policy refuses
    app.include(
        Forward(
            host,
            port,
            path=path,
            lmtp=options["forward_lmtp"],
            tls=mode,
            hostname=options["hostname"],
            xclient=options["forward_xclient"],
            xforward=options["forward_xforward"],
            proxy_protocol=options["forward_proxy_protocol"],
            announce=options["forward_announce"],
        )
    )


def _maildir(path: Path) -> Maildir:
    try:
        return Maildir(path)
    except OSError as exc:
        raise click.UsageError(f"cannot use the Maildir {path}: {exc.strerror or exc}") from exc


def _faults(options: dict[str, Any], tls: ServerTls | ssl.SSLContext | None) -> object:
    from ..testing.faults import FaultError, Faults, parse_fault

    trusted, implicit_tls, seed = bool(options["trusted"]), options["implicit_tls"], options["fault_seed"]
    context = _context(tls)
    try:
        for line in options["fault"]:
            if options["workers"] > 1 and parse_fault(line).counts_sessions:
                raise click.UsageError(f"--fault {line!r} and --workers exclude each other: each process counts alone")

        faults = Faults(*options["fault"], trusted=trusted, implicit_tls=implicit_tls, seed=seed)
        if context:
            faults.apply_to(context)
        only_faults = App()
        only_faults.include(faults)
        if options["auth"]:
            only_faults.on("auth")(lambda session, question: None)
        effective_config(_config(options, tls), only_faults, context)
        return faults
    except FaultError as exc:
        raise click.UsageError(f"--fault: {exc}") from exc


def _config(options: dict[str, Any], tls: ServerTls | ssl.SSLContext | None) -> Config:
    if options["require_tls"] and tls is None:
        raise click.UsageError("--require-tls needs --tls-cert and --tls-key, or --self-signed")
    if options["require_auth"] and not options["auth"]:
        raise click.UsageError("--require-auth needs --auth USER:PASSWORD")
    if options["auth"] and tls is None and not options["allow_plaintext_auth"]:
        raise click.UsageError(
            "--auth needs TLS: give --tls-cert and --tls-key, or --self-signed; or give --allow-plaintext-auth"
        )
    if options["lmtp"] and options["port"] == 25:
        raise click.UsageError("--lmtp must not use port 25 (RFC 2033 section 5): give another --port, such as 24")

    try:
        default = default_config()
        return replace(
            default,
            hostname=options["hostname"] or default.hostname,
            bare_newlines=BareNewlines[options["bare_newlines"].upper()],
            tolerance=Tolerance.LENIENT if options["lenient"] else Tolerance.STRICT,
            starttls=tls is not None,
            require_tls=options["require_tls"],
            auth_mechanisms=_mechanisms(options["auth"]),
            plaintext_auth=options["allow_plaintext_auth"],
            require_auth=options["require_auth"],
            lmtp=options["lmtp"],
            max_message_size=options["max_size"] or None,
            disabled=_disabled(options),
            max_recipients=options["max_recipients"],
        )
    except LocalProtocolError as exc:
        raise click.UsageError(str(exc)) from exc


def _mechanisms(entries: Sequence[str]) -> tuple[str, ...]:
    if not entries:
        return ()

    return _FOR_HASHES if any(":" + _HASHED in entry for entry in entries) else _MECHANISMS


def _tls(options: dict[str, Any]) -> ServerTls | ssl.SSLContext | None:
    certificate, key = options["tls_cert"], options["tls_key"]
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key need each other: give both")
    if certificate and options["self_signed"]:
        raise click.UsageError("--self-signed and --tls-cert exclude each other: give one of them")

    if certificate:
        try:
            return ServerTls(certificate, key)
        except OSError as exc:
            raise click.UsageError(
                f"cannot use the certificate {certificate} with {key}: {exc.strerror or exc}"
            ) from exc
    if options["self_signed"]:
        return self_signed_context({options["hostname"] or default_config().hostname, "localhost", "127.0.0.1", "::1"})
    if options["implicit_tls"]:
        raise click.UsageError("--implicit-tls needs --tls-cert and --tls-key, or --self-signed")

    return None


def _context(tls: ServerTls | ssl.SSLContext | None) -> ssl.SSLContext | None:
    return tls.context if isinstance(tls, ServerTls) else tls


def _proxies(options: dict[str, Any]) -> Sequence[str]:
    networks = _networks("--proxy", options["proxy"] or ("127.0.0.0/8", "::1", "unix"))
    if options["proxy"] and not options["proxy_protocol"]:
        raise click.UsageError("--proxy needs --proxy-protocol: give both")

    return networks if options["proxy_protocol"] else ()


def _networks(option: str, networks: Sequence[str]) -> Sequence[str]:
    try:
        for network in networks:
            if network != "unix":
                ip_network(network)
    except ValueError as exc:
        raise click.UsageError(f"{option}: {exc}") from exc

    return networks


def _budgets(seconds: float | None) -> Budgets:
    if seconds is None:
        return Budgets()

    return Budgets(greeting=seconds, command=seconds, block=seconds, handshake=seconds)


def _limits(options: dict[str, Any]) -> Limits:
    return Limits(
        connections=options["max_connections"],
        connections_per_address=options["max_connections_per_address"],
        connections_per_minute=options["max_new_connections"],
    )


def _runner(backend: str) -> Callable[..., None]:
    if backend == "trio" and not find_spec("trio"):
        raise click.UsageError("--backend trio needs another package: pip install 'smtpcore[trio]'")

    module = import_module(_BACKENDS[backend])
    run: Callable[..., None] = module.run
    return run


_BACKENDS = {
    "asyncio": "smtpcore_adapters.asyncio",
    "trio": "smtpcore_adapters.trio",
    "threads": "smtpcore_adapters.socket",
}


def _reloading(run: Run, tls: ServerTls | ssl.SSLContext | None) -> Run:
    if not hasattr(signal, "SIGHUP"):
        return run  # Windows has no SIGHUP

    def run_reloading(**arguments: Any) -> None:
        with reloading(tls if isinstance(tls, ServerTls) else None):
            run(**arguments)

    return run_reloading


# Output


def _log_handler() -> logging.Handler:
    console = Console(stderr=True)
    handler = (
        RichHandler(console=console, show_path=False, markup=False) if console.is_terminal else logging.StreamHandler()
    )
    handler.setFormatter(PrintableLog() if console.is_terminal else LineLog())
    return handler


def _log(*, json: bool, verbose: bool) -> None:
    logger = logging.getLogger("smtpcore")
    if json:
        stream = logging.StreamHandler()
        stream.setFormatter(JsonLog())
        logger.addHandler(stream)
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    else:
        logger.addHandler(_log_handler())
        logger.setLevel(logging.INFO if verbose else logging.WARNING)


def _show(app: App[Any], options: dict[str, Any]) -> None:
    terminal = Terminal(stderr=options["print"])
    if options["verbose"]:
        app.include(Transcript(log_dialogue if options["log_json"] else terminal.show_dialogue))
    app.include(Arrivals(log_arrival if options["log_json"] else terminal.show_arrival))
