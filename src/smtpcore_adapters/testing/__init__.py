"""For the tests of programs that send or receive mail.

`SmtpServer` is a server in threads, `SmtpPair` a client and a server joined in memory, `Faults` lets any server fail on
purpose. With pytest installed, the fixtures `smtp_server` and `smtp_pair` are there without further ado. The module
`smtpcore_adapters.testing.strategies` has strategies for Hypothesis.
"""

from ._pair import SmtpPair
from ._received import Inbox, Received
from ._server import ServerOptions, SmtpServer
from .faults import Fault, FaultError, Faults, parse_fault

__all__ = [
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
