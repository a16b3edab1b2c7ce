"""Which commands may go out before the replies to those before them."""

# RFC 2920 3.1: RSET, MAIL and RCPT may appear anywhere in a group, and so may the octets of a body that DATA has opened
# at its beginning. All other commands end their group, those of extensions too, unless their definition says otherwise.
#
# RFC 3030 and RFC 4468 say otherwise for the parts of one body, which may follow each other; RFC 3030 section 2 wants
# the replies to MAIL and RCPT before the first chunk, and RFC 4468 3.2 the reply to the last part before whatever comes
# next. RFC 4954 section 4 says otherwise for mechanisms that are done with the initial response.

from typing import Final

from ._commands import Auth, Bdat, Mail, Rcpt, Rset
from ._events import ConnectionOpened, DataEnd, Request
from ._extensions._burl import Burl

ONE_ROUND: Final = frozenset({"EXTERNAL", "PLAIN"})
"""Mechanisms that are done with the initial response (RFC 4468 3.4)."""


def may_follow(before: Request | ConnectionOpened, request: Request) -> bool:
    """Whether `request` may be sent although `before`, which was sent last, has no reply yet."""
    match before:
        case Rset() | Mail() | Rcpt() | DataEnd():
            return not isinstance(request, Bdat)
        case Bdat(last=False) | Burl(last=False):
            return isinstance(request, Bdat | Burl)
        case Auth(initial_response=bytes()):
            return before.mechanism in ONE_ROUND
        case _:
            return False
