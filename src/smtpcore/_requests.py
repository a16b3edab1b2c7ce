"""The rules that a request of a client has to pass, besides the sequence of commands."""

# A group is a sequence of commands that is sent without waiting for replies. RFC 2920 3.1 allows RSET, MAIL and RCPT at
# any place in a group, and a group may begin with the octets of a body after DATA. Any other command is the last of its
# group. Three RFCs make exceptions:
#
# - The parts of one body may follow each other (RFC 3030, RFC 4468). But the replies to MAIL and RCPT have to come
#   before the first chunk (RFC 3030 section 2), and the reply to the last part before the next command (RFC 4468 3.2).
# - Commands may follow AUTH if its mechanism needs only the initial response (RFC 4954 section 4).

from collections.abc import Mapping
from typing import Final

from ._command import Command, UnknownCommand
from ._commands import Auth, Bdat, Data, Ehlo, Helo, Lhlo, Mail, Rcpt, Rset, StartTls
from ._config import MIN_COMMAND_LINE
from ._dialects import Dialect
from ._errors import LocalProtocolError
from ._events import ConnectionOpened, DataEnd, Question, Request
from ._extensions._burl import Burl
from ._grammar import is_domain
from ._parser import CommandRejected, parse_command
from ._replies import ReplyClass
from ._state import chunk_step, next_state
from ._states import State
from .parameters import BodyType

_BODIES: Final = {member.value: member for member in BodyType}
_ONE_ROUND: Final = frozenset({"EXTERNAL", "PLAIN"})  # RFC 4468 3.4: only the initial response is needed


def name_of(event: Request | Question) -> str:
    """Return a name for error messages, without arguments, which may be secret or long."""
    return event.verb if isinstance(event, Command | UnknownCommand) else type(event).__name__


def may_follow(before: Request | ConnectionOpened, request: Request) -> bool:
    """Return whether `request` may be sent before the reply to the last request, `before`, has arrived."""
    match before:
        case Rset() | Mail() | Rcpt() | DataEnd():
            return not isinstance(request, Bdat)
        case Bdat(last=False) | Burl(last=False):
            return isinstance(request, Bdat | Burl)
        case Auth(initial_response=bytes()):
            return before.mechanism in _ONE_ROUND
        case _:
            return False


def hoped_for(state: State, request: Request | ConnectionOpened, kind: type[object]) -> State:
    """Return the state that follows `state` if `request` is accepted. `kind` is the type of the event in `MOVES`."""
    if isinstance(request, Bdat):
        state = next_state(state, chunk_step(last=request.last))

    reply_class = ReplyClass.INTERMEDIATE if isinstance(request, Data) else ReplyClass.COMPLETION
    return next_state(state, kind, reply_class)


def check_values(request: Command | UnknownCommand, mail: Mail | None, offers: Mapping[str, object], tls: bool) -> None:
    """Raise `LocalProtocolError` if a value of `request` is not allowed.

    `mail` is the last MAIL that was sent, and `offers` are the extensions that the server offers.
    """
    match request:
        case Mail(reverse_path=path, params=params):
            if not path.text.isascii() and not params.smtputf8:
                raise LocalProtocolError("a non-ASCII sender needs the parameter SMTPUTF8")  # RFC 6531 3.4
            if params.requiretls and not tls:
                raise LocalProtocolError("REQUIRETLS needs TLS: send STARTTLS first")  # RFC 8689 section 2
            if body_of(request) is BodyType.BINARYMIME and "CHUNKING" not in offers:
                raise LocalProtocolError("BODY=BINARYMIME needs CHUNKING, which is not offered")  # RFC 3030 section 3
        case Rcpt(forward_path=path) if not path.text.isascii() and not (mail and mail.params.smtputf8):
            raise LocalProtocolError("a non-ASCII recipient needs the parameter SMTPUTF8 of MAIL")  # RFC 6531 3.4
        case Data() if body_of(mail) is BodyType.BINARYMIME:
            raise LocalProtocolError("a binary message must be sent with BDAT")  # RFC 3030 section 3
        case Ehlo(domain=name) | Helo(domain=name) | Lhlo(domain=name) if not name.isascii() or not is_domain(name):
            raise LocalProtocolError(f"{name!r} is neither a domain nor an address literal")  # RFC 5321 4.1.1.1
        case StartTls() if tls:
            raise LocalProtocolError("TLS is already active")  # RFC 3207 4.2
        case Auth(mechanism=mechanism):
            mechanisms = offers.get("AUTH")
            if not isinstance(mechanisms, tuple) or mechanism not in mechanisms:
                raise LocalProtocolError(f"the mechanism {mechanism} is not offered")
            if len(request.encode()) > MIN_COMMAND_LINE:  # RFC 4954 section 4
                raise LocalProtocolError("the initial response exceeds a command line: send it after the challenge")


def body_of(mail: Mail | None) -> BodyType | None:
    """Return the BODY parameter of a MAIL. A program may have given it as a text, such as `"8BITMIME"`."""
    value = mail.params.get("BODY") if mail else None
    return value if isinstance(value, BodyType) else _BODIES.get(str(value).upper())


def encode(request: Command | UnknownCommand, dialect: Dialect) -> bytes:
    """Return the octets of `request`. Raise `LocalProtocolError` if a server would parse them as another command."""
    octets = request.encode()
    try:
        parsed = parse_command(request.verb, octets.removesuffix(b"\r\n"), dialect)  # parse the line as a server would
    except CommandRejected as exc:
        raise LocalProtocolError(f"the server rejects {name_of(request)}: {exc.refusal.reply.lines[0]}") from None

    # The value of a parameter may have another type than the parsed value, so MAIL and RCPT need not be equal.
    if type(parsed) is not type(request) or (not isinstance(request, Mail | Rcpt) and parsed != request):
        raise LocalProtocolError(f"{name_of(request)} would be read as {name_of(parsed)} with another argument")

    return octets
