"""The states of an SMTP session, and every transition between them."""

# Both ends of a session keep one `State`. A command alone does not change it: the reply does, because only the reply
# says what the next octets mean. After 354 they are a body, after 334 a SASL response, after 220 to STARTTLS a TLS
# handshake, and after 550 simply the next command. So a transition (a "move") is a row of a table, keyed
# by the state, by the event that is answered, and by the class of the reply (RFC 5321 4.1.4). Without a row, the state
# stays the same.
#
# Example: in READY the client sends MAIL. With 250 the row (READY, Mail, COMPLETION) leads to MAIL. For 550 there is no
# row, so the session stays in READY, and the client may try another sender.
#
# Some moves need no reply. These moves are the rows of `Step`: a chunk begins, the last chunk begins, an LMTP chunk
# without recipients is discarded, a TLS handshake is complete, and the connection closes.
#
# The tables do not know the role. The server looks up the reply that it sends, the client looks up the reply that it
# receives, and both arrive in the same state. `Endpoint._advance` is the only code that assigns a state.
#
# A message takes this path; the last arrow is taken with any reply:
#
#     CONNECTED --greeting 220--> GREETED --EHLO 250--> READY --MAIL 250--> MAIL --RCPT 250--> RCPT --DATA 354--> DATA
#                                                         ^                                                        |
#                                                         +----------------------- end of the body ----------------+
#
# With BDAT the body comes in chunks, whose octets follow the command without waiting for a reply (RFC 3030 section 2):
#
#     RCPT --BDAT--> CHUNK --end of the chunk 250--> CHUNKED --BDAT LAST--> LAST_CHUNK --end of the body--> READY
#
# The side paths: AUTH leads from READY to AUTH while challenges are sent, and back. STARTTLS leads to TLS, and the
# handshake from there to GREETED. RSET and a further EHLO lead back to READY. A refused chunk leads to CHUNK_REFUSED,
# where the transaction can only be cleared. A negative greeting leads to REFUSED, where only QUIT is allowed. QUIT, and
# a 421 or 521 in reply to anything, lead to CLOSED.
#
# `docs/state-machine.md` shows the tables as diagrams.

from collections.abc import Iterable, Mapping
from enum import auto
from types import MappingProxyType
from typing import Final, TypeAlias

from ._command import UnknownCommand
from ._commands import Auth, Bdat, Data, Ehlo, Expn, Helo, Help, Lhlo, Mail, Noop, Quit, Rcpt, Rset, StartTls, Vrfy
from ._events import AuthCancel, AuthResponse, ChunkEnd, ConnectionOpened, DataEnd, InvalidCommand, InvalidData
from ._extensions._builtin import EXTENSIONS
from ._extensions._burl import Burl
from ._extensions._definition import ExtensionCommand
from ._extensions._xclient import Xclient
from ._replies import ReplyClass
from ._states import Key
from ._states import State as State
from ._states import Wait as Wait


class Step(Key):
    """A transition that needs no reply."""

    CHUNK = auto()
    """A chunk other than the last begins: after BDAT, or when the first octets for a BURL were fetched."""
    LAST_CHUNK = auto()
    """The last chunk begins."""
    DISCARDED_CHUNK = auto()
    """An LMTP client sends the last chunk of a message without recipients; the server discards the octets."""
    HANDSHAKE = auto()
    """The TLS handshake is complete."""
    CLOSE = auto()
    """The stream has ended or failed, or the peer broke the protocol."""


_2YZ: Final = frozenset({ReplyClass.COMPLETION})
_3YZ: Final = frozenset({ReplyClass.INTERMEDIATE})
_NEGATIVE: Final = frozenset({ReplyClass.TRANSIENT, ReplyClass.PERMANENT, ReplyClass.GOODBYE})
FINAL: Final = _NEGATIVE | _2YZ
"""The classes of replies that may answer any command, including the commands of your own extensions."""

_OF_EXTENSIONS: Final = tuple(command for extension in EXTENSIONS for command in extension.commands)

_ALWAYS: Final = (Helo, Ehlo, Lhlo, Rset, Noop, Quit, Vrfy, Expn, Help, StartTls, UnknownCommand)

_CORE_COMMANDS: Final[Mapping[State, Iterable[type[object]]]] = {
    State.GREETED: _ALWAYS,
    State.READY: (*_ALWAYS, Mail, Auth),
    State.MAIL: (*_ALWAYS, Rcpt),
    State.RCPT: (*_ALWAYS, Rcpt, Data, Bdat),
    State.CHUNKED: (*_ALWAYS, Bdat),
    State.CHUNK_REFUSED: _ALWAYS,
    State.REFUSED: (Quit,),
    State.AUTH: (AuthResponse, AuthCancel),
    State.DATA: (DataEnd,),
}

ALLOWED_COMMANDS: Final[Mapping[State, frozenset[type[object]]]] = MappingProxyType(
    {
        state: frozenset({*commands, *(command for command in _OF_EXTENSIONS if state in command.states)})
        for state, commands in _CORE_COMMANDS.items()
    }
)
"""For each state, the requests that are in sequence (RFC 5321 4.1.4). Other states allow no request."""

ALLOWED_REPLIES: Final[Mapping[type[object], frozenset[ReplyClass]]] = MappingProxyType(
    {
        **dict.fromkeys((ConnectionOpened, *_ALWAYS, Mail, Rcpt, ChunkEnd, DataEnd, *_OF_EXTENSIONS), FINAL),
        Data: _NEGATIVE | _3YZ,
        **dict.fromkeys((Auth, AuthResponse), FINAL | _3YZ),
        **dict.fromkeys((AuthCancel, InvalidCommand, InvalidData), _NEGATIVE),
    }
)
"""For each event, the classes of replies that may answer it (RFC 5321 4.3.2). All other events need no reply."""

_OPEN: Final = (State.MAIL, State.RCPT, State.CHUNKED, State.CHUNK_REFUSED)
_IN_SESSION: Final = (State.GREETED, State.READY, *_OPEN)
_BEFORE_CHUNK: Final = (State.RCPT, State.CHUNKED)

_Row: TypeAlias = tuple[Iterable[State], Iterable[type[object]], frozenset[ReplyClass], State]

# Columns: the states, the answered events, the classes of the reply, and the next state.
_ON_REPLY: Final[tuple[_Row, ...]] = (
    ((State.CONNECTED,), (ConnectionOpened,), _2YZ, State.GREETED),
    ((State.CONNECTED,), (ConnectionOpened,), _NEGATIVE, State.REFUSED),
    # RFC 5321 4.1.4: a further EHLO clears the transaction, like RSET.
    (_IN_SESSION, (Helo, Ehlo, Lhlo), _2YZ, State.READY),
    (_OPEN, (Rset,), _2YZ, State.READY),
    ((State.READY,), (Mail,), _2YZ, State.MAIL),
    ((State.MAIL,), (Rcpt,), _2YZ, State.RCPT),
    # RFC 2920 3.1: a server may accept DATA although it refused every MAIL or RCPT of the group. Then the client sends
    # only the end of the body.
    ((State.READY, State.MAIL, State.RCPT), (Data,), _3YZ, State.DATA),
    # RFC 5321 4.1.1.4: the end of the body clears the transaction, with a positive and with a negative reply.
    ((State.DATA, State.LAST_CHUNK), (DataEnd, InvalidData), FINAL, State.READY),
    ((State.CHUNK,), (ChunkEnd,), _2YZ, State.CHUNKED),
    ((State.CHUNK,), (ChunkEnd, InvalidData), _NEGATIVE, State.CHUNK_REFUSED),
    # RFC 4468 section 3: a part that the server fetches is like a chunk, and BURL LAST is an end of data.
    (_BEFORE_CHUNK, (Burl,), _2YZ, State.CHUNKED),
    ((*_BEFORE_CHUNK, State.CHUNK), (Burl,), _NEGATIVE, State.CHUNK_REFUSED),
    (_BEFORE_CHUNK, (DataEnd,), FINAL, State.READY),
    # RFC 4954 section 4: challenges continue until the exchange succeeds, fails, or is cancelled.
    ((State.READY,), (Auth,), _3YZ, State.AUTH),
    ((State.AUTH,), (AuthResponse, AuthCancel, InvalidCommand), FINAL, State.READY),
    (_IN_SESSION, (StartTls,), _2YZ, State.TLS),
    # Postfix XCLIENT_README: the session starts again, for another client. If the server refuses that client, the proxy
    # must not continue in its own name.
    ((State.GREETED, State.READY), (Xclient,), _2YZ, State.GREETED),
    ((State.GREETED, State.READY), (Xclient,), _NEGATIVE, State.REFUSED),
    # RFC 5321 4.1.1.10: QUIT closes with any reply. RFC 5321 4.2.2: 421 closes in reply to any command.
    ((*_IN_SESSION, State.REFUSED), (Quit,), FINAL, State.CLOSED),
    (State, ALLOWED_REPLIES, frozenset({ReplyClass.GOODBYE}), State.CLOSED),
)

# Columns: the states, the step, and the next state.
_ON_STEP: Final[tuple[tuple[Iterable[State], Step, State], ...]] = (
    (_BEFORE_CHUNK, Step.CHUNK, State.CHUNK),
    (_BEFORE_CHUNK, Step.LAST_CHUNK, State.LAST_CHUNK),
    # RFC 2033 4.3: in LMTP, a body has a reply for each recipient, so a body without recipients has no reply.
    ((State.MAIL,), Step.DISCARDED_CHUNK, State.READY),
    ((State.TLS,), Step.HANDSHAKE, State.GREETED),  # RFC 3207 4.2
    ((State.CONNECTED,), Step.HANDSHAKE, State.CONNECTED),  # implicit TLS
    (State, Step.CLOSE, State.CLOSED),
)

MOVES: Final[Mapping[tuple[State, type[object] | Step, ReplyClass | None], State]] = MappingProxyType(
    {
        **{
            (state, event, reply_class): then
            for states, events, classes, then in _ON_REPLY
            for state in states
            for event in events
            for reply_class in classes & ALLOWED_REPLIES[event]
        },
        **{(state, step, None): then for states, step, then in _ON_STEP for state in states},
    }
)
"""All transitions. A key is (state, answered event, class of the reply) or (state, step, None)."""

IN_BODY: Final = frozenset({State.DATA, State.CHUNK, State.LAST_CHUNK})
"""The states in which the next octets belong to a body."""

IN_TRANSACTION: Final = IN_BODY | frozenset(_OPEN)
"""The states in which a transaction is open."""

WAITING_FOR: Final[Mapping[State, Wait]] = MappingProxyType(
    {
        **dict.fromkeys((*_IN_SESSION, State.REFUSED), Wait.COMMAND),
        **dict.fromkeys((State.CONNECTED, State.CLOSED), Wait.NOTHING),
        **dict.fromkeys(IN_BODY, Wait.BODY),
        State.GREETED: Wait.GREETING,
        State.AUTH: Wait.AUTH,
        State.TLS: Wait.TLS,
    }
)
"""For each state, the wait of a server while no reply is pending."""

WAITING_FOR_REPLY: Final[Mapping[type[object], Wait]] = MappingProxyType(
    {
        **dict.fromkeys(ALLOWED_REPLIES, Wait.COMMAND_REPLY),
        ConnectionOpened: Wait.SERVER_GREETING,
        Mail: Wait.MAIL_REPLY,
        Rcpt: Wait.RCPT_REPLY,
        Data: Wait.DATA_REPLY,
        ChunkEnd: Wait.END_REPLY,
        DataEnd: Wait.END_REPLY,
    }
)
"""For each event that a reply can answer, the wait of a client for this reply."""


def next_state(state: State, cause: type[object] | Step, reply_class: ReplyClass | None = None) -> State:
    """Return the state after a reply of this class to an event of type `cause`, or after the `Step` in `cause`.

    Without an entry in `MOVES` the state stays the same.
    """
    return MOVES.get((state, cause, reply_class), state)


def row_of(event: object) -> type[object]:
    """Return the type of `event` in the tables: `UnknownCommand` for commands of your own extensions."""
    if isinstance(event, Burl) and event.last:
        return DataEnd  # RFC 4468 3.2

    is_own = isinstance(event, ExtensionCommand) and type(event) not in ALLOWED_REPLIES
    return UnknownCommand if is_own else type(event)


def is_allowed(state: State, kind: type[object]) -> bool:
    """Return whether a request of type `kind` is in sequence."""
    return kind in ALLOWED_COMMANDS.get(state, ()) or (issubclass(kind, ExtensionCommand) and state in kind.states)


def chunk_step(*, last: bool) -> Step:
    """Return the step that begins a chunk or a part."""
    return Step.LAST_CHUNK if last else Step.CHUNK
