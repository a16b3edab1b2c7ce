"""The dialogue as tables."""

# A command only asks; a reply moves the dialogue. So a transition is keyed by the state, by what was asked, and by the
# class of the reply: RFC 5321 4.1.4, with RFC 3207 section 4 for TLS. A key that is missing means "stay where you are".
#
# Nothing below knows which end of the wire it is used on. The server looks up the reply that it sends, a client the
# reply that it hears, and both then stand at the same place.
#
#     CONNECTED --220--> GREETED --EHLO 250--> READY --MAIL 250--> MAIL --RCPT 250--> RCPT --DATA 354--> DATA
#                                                ^                                                        |
#                                                +------------------- the end of the body, any reply -----+
#
# With BDAT a body comes in chunks: from RCPT to CHUNK, to CHUNKED at the reply to its end, to LAST_CHUNK at the last
# one, and from there to READY. BDAT is the one command that moves the dialogue itself, since its octets follow it
# without waiting for a reply (RFC 3030 section 2). A refused chunk leads to CHUNK_REFUSED, where nothing can be added.
# AUTH leads from READY to AUTH while challenges go out, and back with whatever ends them (RFC 4954 section 4).
#
# RSET, and a further EHLO, lead from MAIL and RCPT back to READY. STARTTLS leads from everywhere between GREETED and
# RCPT to TLS, and the handshake from there to GREETED. A 554 greeting leads to REFUSED, where only QUIT is heard.
# QUIT, and a 421 at any point, lead to CLOSED.

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ._commands import (
    Auth,
    Bdat,
    Burl,
    Data,
    Ehlo,
    Etrn,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
    Xforward,
)
from ._events import (
    AuthCancel,
    AuthResponse,
    ChunkEnd,
    ConnectionOpened,
    DataEnd,
    InvalidCommand,
    InvalidData,
    UnknownCommand,
)
from ._replies import ReplyClass


class State(Enum):
    """Where the dialogue stands."""

    if not TYPE_CHECKING:  # pragma: no branch - checkers know no type that fits
        __hash__ = object.__hash__  # Enum's own is slower, and several tables are asked for each command

    CONNECTED = auto()
    """The greeting is owed."""
    GREETED = auto()
    """The client has not said yet who it is."""
    READY = auto()
    """There is no transaction."""
    MAIL = auto()
    """A transaction has a sender, and no recipient yet."""
    RCPT = auto()
    """A transaction has a sender and recipients."""
    DATA = auto()
    """The body is being sent, or waits for its reply."""
    CHUNK = auto()
    """A chunk of the body is being sent, or waits for its reply; it is not the last."""
    CHUNKED = auto()
    """Chunks of the body were accepted, and more are to come."""
    LAST_CHUNK = auto()
    """The last chunk of the body is being sent, or waits for its reply."""
    CHUNK_REFUSED = auto()
    """A chunk was refused, so that the transaction can only be given up."""
    AUTH = auto()
    """The client is asked for SASL responses."""
    TLS = auto()
    """The next octets belong to a TLS handshake."""
    REFUSED = auto()
    """The greeting was 554 (RFC 5321 3.1)."""
    CLOSED = auto()
    """Nothing more is said or heard."""


class Wait(Enum):
    """What a connection waits for: the kinds of time limits of RFC 5321 4.5.3.2."""

    if not TYPE_CHECKING:  # pragma: no branch - checkers know no type that fits
        __hash__ = object.__hash__  # as above

    GREETING = auto()
    """The client's first words."""
    COMMAND = auto()
    BODY = auto()
    """More of a body."""
    AUTH = auto()
    """A SASL response."""
    TLS = auto()
    """The TLS handshake."""
    NOTHING = auto()
    """It is the program's turn, or the dialogue is over."""

    # What a client waits for

    SERVER_GREETING = auto()
    """The server's greeting (RFC 5321 4.5.3.2.1: 5 minutes)."""
    MAIL_REPLY = auto()
    """The reply to MAIL (4.5.3.2.2: 5 minutes)."""
    RCPT_REPLY = auto()
    """The reply to RCPT (4.5.3.2.3: 5 minutes)."""
    DATA_REPLY = auto()
    """The reply to DATA (4.5.3.2.4: 2 minutes)."""
    DATA_BLOCK = auto()
    """That the server takes the octets of a body (4.5.3.2.5: 3 minutes for each block)."""
    END_REPLY = auto()
    """The reply to the end of a body, or of a chunk of one (4.5.3.2.6: 10 minutes)."""
    COMMAND_REPLY = auto()
    """The reply to any other command."""


Asked = type[object]

_COMPLETION: Final = ReplyClass.COMPLETION
_INTERMEDIATE: Final = ReplyClass.INTERMEDIATE
_REFUSALS: Final = frozenset({ReplyClass.TRANSIENT, ReplyClass.PERMANENT, ReplyClass.GOODBYE})
_ANY: Final = _REFUSALS | {_COMPLETION}

_OPEN: Final = (State.MAIL, State.RCPT, State.CHUNKED, State.CHUNK_REFUSED)
_IN_SESSION: Final = (State.GREETED, State.READY, *_OPEN)

MAY_ANSWER: Final[Mapping[Asked, frozenset[ReplyClass]]] = MappingProxyType(
    {
        ConnectionOpened: _ANY,
        Helo: _ANY,
        Ehlo: _ANY,
        Lhlo: _ANY,
        Auth: _ANY | {_INTERMEDIATE},
        AuthResponse: _ANY | {_INTERMEDIATE},
        AuthCancel: _REFUSALS,
        Mail: _ANY,
        Rcpt: _ANY,
        Data: _REFUSALS | {_INTERMEDIATE},
        ChunkEnd: _ANY,
        Burl: _ANY,
        Etrn: _ANY,
        Xclient: _ANY,
        Xforward: _ANY,
        DataEnd: _ANY,
        InvalidData: _REFUSALS,
        Rset: _ANY,
        Noop: _ANY,
        Quit: _ANY,
        Vrfy: _ANY,
        Expn: _ANY,
        Help: _ANY,
        StartTls: _ANY,
        UnknownCommand: _ANY,
        InvalidCommand: _REFUSALS,
    }
)
"""Which classes of replies answer what (RFC 5321 4.3.2). What is missing is owed no reply."""

_AT_ANY_TIME: Final = frozenset({Helo, Ehlo, Lhlo, Rset, Noop, Quit, Vrfy, Expn, Help, StartTls, UnknownCommand})

MAY_HEAR: Final[Mapping[State, frozenset[Asked]]] = MappingProxyType(
    {
        State.GREETED: _AT_ANY_TIME | {Xclient, Xforward},
        State.READY: _AT_ANY_TIME | {Mail, Auth, Etrn, Xclient, Xforward},
        State.MAIL: _AT_ANY_TIME | {Rcpt},
        State.RCPT: _AT_ANY_TIME | {Rcpt, Data, Bdat, Burl},
        State.CHUNKED: _AT_ANY_TIME | {Bdat, Burl},
        State.CHUNK_REFUSED: _AT_ANY_TIME,
        State.REFUSED: frozenset({Quit}),
        State.AUTH: frozenset({AuthResponse, AuthCancel}),
        State.DATA: frozenset({DataEnd}),
    }
)
"""Which commands are in sequence (RFC 5321 4.1.4). In a state that is missing none are heard."""

_BEFORE_CHUNK: Final = (State.RCPT, State.CHUNKED)
_CHUNK_FAILS: Final = (ChunkEnd, InvalidData)

ON_REPLY: Final[Mapping[tuple[State, Asked, ReplyClass], State]] = MappingProxyType(
    {
        (State.CONNECTED, ConnectionOpened, _COMPLETION): State.GREETED,
        (State.CONNECTED, ConnectionOpened, ReplyClass.TRANSIENT): State.REFUSED,
        (State.CONNECTED, ConnectionOpened, ReplyClass.PERMANENT): State.REFUSED,
        (State.READY, Mail, _COMPLETION): State.MAIL,
        (State.MAIL, Rcpt, _COMPLETION): State.RCPT,
        (State.RCPT, Data, _INTERMEDIATE): State.DATA,
        # RFC 2920 3.1: DATA may be taken though every MAIL or RCPT of its group was refused. Then only the end follows.
        (State.READY, Data, _INTERMEDIATE): State.DATA,
        (State.MAIL, Data, _INTERMEDIATE): State.DATA,
        # RFC 5321 4.1.1.4: the end of the body empties all buffers, whatever its reply.
        **{(State.DATA, DataEnd, reply_class): State.READY for reply_class in _ANY},
        **{(State.DATA, InvalidData, reply_class): State.READY for reply_class in _REFUSALS},
        (State.CHUNK, ChunkEnd, _COMPLETION): State.CHUNKED,
        **{
            (State.CHUNK, asked, reply_class): State.CHUNK_REFUSED
            for asked in _CHUNK_FAILS
            for reply_class in _REFUSALS
        },
        **{(State.LAST_CHUNK, DataEnd, reply_class): State.READY for reply_class in _ANY},
        **{(State.LAST_CHUNK, InvalidData, reply_class): State.READY for reply_class in _REFUSALS},
        # RFC 4468 section 3: a part that the server fetches is like a chunk. The last one is an end of data.
        **{(state, Burl, _COMPLETION): State.CHUNKED for state in _BEFORE_CHUNK},
        **{
            (state, Burl, reply_class): State.CHUNK_REFUSED
            for state in (*_BEFORE_CHUNK, State.CHUNK)
            for reply_class in _REFUSALS
        },
        **{(state, DataEnd, reply_class): State.READY for state in _BEFORE_CHUNK for reply_class in _ANY},
        # XCLIENT_README: the session begins again, as that of another client. Where that one is not wanted, its proxy
        # must not go on as itself.
        **{(state, Xclient, _COMPLETION): State.GREETED for state in (State.GREETED, State.READY)},
        **{(state, Xclient, refusal): State.REFUSED for state in (State.GREETED, State.READY) for refusal in _REFUSALS},
        # RFC 4954 section 4: challenges go on until the client has answered enough, wrongly, or not at all.
        (State.READY, Auth, _INTERMEDIATE): State.AUTH,
        **{(State.AUTH, AuthResponse, reply_class): State.READY for reply_class in _ANY},
        **{(State.AUTH, AuthCancel, reply_class): State.READY for reply_class in _REFUSALS},
        **{(State.AUTH, InvalidCommand, reply_class): State.READY for reply_class in _REFUSALS},
        # RFC 5321 4.1.4: a further EHLO clears the session exactly like RSET.
        **{(state, Helo, _COMPLETION): State.READY for state in _IN_SESSION},
        **{(state, Ehlo, _COMPLETION): State.READY for state in _IN_SESSION},
        **{(state, Lhlo, _COMPLETION): State.READY for state in _IN_SESSION},
        **{(state, Rset, _COMPLETION): State.READY for state in _OPEN},
        **{(state, StartTls, _COMPLETION): State.TLS for state in _IN_SESSION},
        # RFC 5321 4.1.1.10: QUIT closes, whatever its reply.
        **{(state, Quit, reply_class): State.CLOSED for state in (*_IN_SESSION, State.REFUSED) for reply_class in _ANY},
        # RFC 5321 4.2.2: so does a 421, to whatever.
        **{(state, asked, ReplyClass.GOODBYE): State.CLOSED for state in State for asked in MAY_ANSWER},
    }
)
"""Where a reply leads."""

ON_HANDSHAKE: Final[Mapping[State, State]] = MappingProxyType(
    # RFC 3207 4.2: back to the state behind the greeting. Where TLS comes first, the greeting is still owed.
    {State.CONNECTED: State.CONNECTED, State.TLS: State.GREETED}
)
"""Where a TLS handshake leads; elsewhere there can be none."""

ON_BDAT: Final[Mapping[bool, State]] = MappingProxyType({False: State.CHUNK, True: State.LAST_CHUNK})
"""Where BDAT leads that was heard in sequence, by whether it is the last."""

IN_TRANSACTION: Final = frozenset({*_OPEN, State.DATA, State.CHUNK, State.LAST_CHUNK})
"""Where a transaction is open."""

WAITING_FOR: Final[Mapping[State, Wait]] = MappingProxyType(
    {
        State.CONNECTED: Wait.NOTHING,
        State.GREETED: Wait.GREETING,
        State.READY: Wait.COMMAND,
        State.MAIL: Wait.COMMAND,
        State.RCPT: Wait.COMMAND,
        State.DATA: Wait.BODY,
        State.CHUNK: Wait.BODY,
        State.CHUNKED: Wait.COMMAND,
        State.LAST_CHUNK: Wait.BODY,
        State.CHUNK_REFUSED: Wait.COMMAND,
        State.AUTH: Wait.AUTH,
        State.TLS: Wait.TLS,
        State.REFUSED: Wait.COMMAND,
        State.CLOSED: Wait.NOTHING,
    }
)
"""What is waited for while no reply is owed."""

WAITING_FOR_REPLY: Final[Mapping[Asked, Wait]] = MappingProxyType(
    {
        **dict.fromkeys(MAY_ANSWER, Wait.COMMAND_REPLY),
        ConnectionOpened: Wait.SERVER_GREETING,
        Mail: Wait.MAIL_REPLY,
        Rcpt: Wait.RCPT_REPLY,
        Data: Wait.DATA_REPLY,
        ChunkEnd: Wait.END_REPLY,
        DataEnd: Wait.END_REPLY,
    }
)
"""What is waited for while a reply is due, by what it answers."""


def next_state(state: State, asked: Asked, reply_class: ReplyClass) -> State:
    """Where a reply of this class leads that answers `asked`."""
    return ON_REPLY.get((state, asked, reply_class), state)
