"""Tools for the tests of programs that send or receive mail.

- `SmtpServer` is a server in threads.
- `SmtpPair` is a client and a server connected in memory.
- `Clock` is a clock that a test advances.
- `Faults` makes any server fail on purpose.
- The module `smtpcore_adapters.testing.strategies` has strategies for Hypothesis.

pytest finds the fixtures `smtp_server` and `smtp_pair` without configuration.
"""

from smtpcore import show_texts

from ._memory import Clock
from ._pair import SmtpPair
from ._received import Inbox, Received
from ._server import ServerOptions, SmtpServer
from .faults import Fault, FaultError, Faults, parse_fault

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

show_texts(globals())
