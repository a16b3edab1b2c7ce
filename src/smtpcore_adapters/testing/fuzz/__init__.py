"""Property-based tests of any SMTP or LMTP server.

`fuzz_server(Target(...))` plays generated sessions against a server, and returns a `Report` with each `Finding`: a law
that the server breaks, and the shortest session that shows it. The package hypothesis is needed: `pip install
'smtpcore[testing]'`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from smtpcore import show_texts

from ...check import Target
from ..steps import AuthStep, LineStep, Step, TlsStep
from ._dialogue import dialogue, dialogues, lines_sent
from ._differences import Comparison, Difference, Rank
from ._engine import Finding, Fuzzer, Progress, Report, Settings, group_by_law
from ._laws import LAWS, Evidence, Law, Violation, judge
from ._logins import Credentials, LoginStep
from ._peers import CannotFuzz, Connect, ConnectWith, Peer, SocketPeer
from ._plans import Experiment, Kind, Plan
from ._player import End, Entry, Exchange, Recording
from ._process import ServerProcess
from ._replies import WireReply
from ._sinks import CommandSink, MaildirSink, Sink
from ._storage import Unreadable, load, save

__all__ = [
    "LAWS",
    "CannotFuzz",
    "CommandSink",
    "Comparison",
    "Connect",
    "ConnectWith",
    "Credentials",
    "Difference",
    "End",
    "Entry",
    "Evidence",
    "Exchange",
    "Experiment",
    "Finding",
    "Fuzzer",
    "Kind",
    "Law",
    "LoginStep",
    "MaildirSink",
    "Peer",
    "Plan",
    "Progress",
    "Rank",
    "Recording",
    "Report",
    "ServerProcess",
    "Settings",
    "Sink",
    "SocketPeer",
    "Target",
    "Unreadable",
    "Violation",
    "WireReply",
    "compare",
    "dialogue",
    "dialogues",
    "fuzz_server",
    "fuzzer_of",
    "group_by_law",
    "judge",
    "lines_sent",
    "load",
    "save",
]


def fuzz_server(
    target: Target, settings: Settings | None = None, *, sink: Sink | None = None, saved: Iterable[Experiment] = ()
) -> Report:
    """Play sessions against a server until the time is over, and return the report.

    Args:
        target: The server. Its sender, recipient, timeout, name and login replace those of `settings`.
        settings: The duration and the seed; by default 60 seconds.
        sink: A view of the delivered messages.
        saved: Experiments to play first.

    Raises:
        CannotFuzz: the server cannot be reached, or does not speak the protocol.
    """
    return fuzzer_of(target, settings or Settings(), sink=sink).run(saved)


def fuzzer_of(
    target: Target,
    settings: Settings,
    *,
    sink: Sink | None = None,
    restart: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> Fuzzer:
    """Return a `Fuzzer` for `target`.

    Args:
        target: As in `fuzz_server`.
        settings: As in `fuzz_server`.
        sink: As in `fuzz_server`.
        restart: Starts the server again after it died, and returns whether it accepts connections.
        progress: Called after each experiment.
    """
    hello = target.helo or "c.example"
    merged = replace(
        settings,
        sender=target.sender,
        recipients=tuple(dict.fromkeys((target.recipient, *settings.recipients))),
        hello=hello,
        lmtp=target.lmtp,
        timeout=target.timeout,
        login=_login(target, LineStep(f"{target.hello} {hello}".encode())),
        credentials=Credentials(target.user, target.password) if target.user else None,
    )
    return Fuzzer(
        partial(SocketPeer, target, proxy=settings.proxy),
        merged,
        sink=sink,
        restart=restart,
        progress=progress,
        connect_with=lambda header: SocketPeer(target, header=header),
    )


def _login(target: Target, hello: LineStep) -> tuple[Step, ...]:
    steps: list[Step] = []
    if target.tls == "starttls":
        steps += [hello, TlsStep()]
    if target.user:
        steps += [hello, AuthStep("PLAIN", target.credentials)]

    return tuple(steps)


def compare(one: Fuzzer, other: Fuzzer, settings: Settings) -> Comparison:
    """Play the same sessions at two servers until the time is over. Raise `CannotFuzz`."""
    from ._comparison import compare_servers  # needs hypothesis

    return compare_servers(one, other, settings)


show_texts(globals())
