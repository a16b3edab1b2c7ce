"""Tools for the tests of programs that send or receive mail.

- `SmtpServer` is a server in threads.
- `SmtpPair` is a client and a server connected in memory.
- `Clock` is a clock that a test advances.
- `Faults` makes any server fail on purpose.
- The module `smtpcore_adapters.testing.strategies` has strategies for Hypothesis.
- `SessionMachine` tests an `App` with random sessions. It needs Hypothesis, so it is imported when it is first used.

pytest finds the fixtures `smtp_server` and `smtp_pair` without configuration.
"""

from typing import TYPE_CHECKING, Any

from smtpcore import show_texts

from .._extras import from_extra
from ._memory import Clock
from ._pair import SmtpPair
from ._received import Inbox, Received
from ._server import ServerOptions, SmtpServer
from .faults import Fault, FaultError, Faults, parse_fault

if TYPE_CHECKING:
    from .machine import SessionMachine as SessionMachine

__all__ = [
    "Clock",
    "Fault",
    "FaultError",
    "Faults",
    "Inbox",
    "Received",
    "ServerOptions",
    "SmtpPair",
    "SmtpServer",
    "parse_fault",
]


def __getattr__(name: str) -> Any:
    if name != "SessionMachine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    with from_extra("testing"):
        from .machine import SessionMachine

    return SessionMachine


show_texts(globals())
