"""The commands that a client may send before the replies to earlier ones."""

# A group is a sequence of commands that is sent without waiting for replies. RFC 2920 3.1 allows RSET, MAIL and RCPT at
# any place in a group, and the octets of a body after DATA at its beginning. Any other command is the last of its
# group. Three RFCs make exceptions:
#
# - The parts of one body may follow each other (RFC 3030, RFC 4468). But the replies to MAIL and RCPT have to come
#   before the first chunk (RFC 3030 section 2), and the reply to the last part before the next command (RFC 4468 3.2).
# - AUTH may be followed if its mechanism needs only the initial response (RFC 4954 section 4).

from typing import Final

from ._commands import Auth, Bdat, Mail, Rcpt, Rset
from ._events import ConnectionOpened, DataEnd, Request
from ._extensions._burl import Burl

ONE_ROUND: Final = frozenset({"EXTERNAL", "PLAIN"})
"""The mechanisms that need only the initial response (RFC 4468 3.4)."""


def may_follow(before: Request | ConnectionOpened, request: Request) -> bool:
    """Return whether `request` may follow `before`, the last request, before the reply to it."""
    match before:
        case Rset() | Mail() | Rcpt() | DataEnd():
            return not isinstance(request, Bdat)
        case Bdat(last=False) | Burl(last=False):
            return isinstance(request, Bdat | Burl)
        case Auth(initial_response=bytes()):
            return before.mechanism in ONE_ROUND
        case _:
            return False
