"""The states of an SMTP session, and its waits. `_state.py` has the transitions between the states."""

from enum import Enum, auto
from typing import Any


class Key(Enum):
    """Base class of enums whose members are keys of tables, with a fast hash: each command needs several look-ups."""

    __hash__: Any = object.__hash__  # the `__hash__` of Enum is slower


class State(Key):
    """A state of the session."""

    CONNECTED = auto()
    """The server has to send its greeting."""
    GREETED = auto()
    """The greeting was sent; the client has to send EHLO, HELO or LHLO."""
    READY = auto()
    """The client has sent EHLO, HELO or LHLO, and no transaction is open."""
    MAIL = auto()
    """A transaction has a sender, but no recipient."""
    RCPT = auto()
    """A transaction has a sender and at least one recipient."""
    DATA = auto()
    """The body is on its way, or its reply is pending."""
    CHUNK = auto()
    """A chunk other than the last is on its way, or its reply is pending."""
    CHUNKED = auto()
    """Chunks of the body were accepted; the last chunk is still to come."""
    LAST_CHUNK = auto()
    """The last chunk is on its way, or its reply is pending."""
    CHUNK_REFUSED = auto()
    """A chunk was refused; the transaction can only be cleared."""
    AUTH = auto()
    """A challenge was sent; the client has to send a SASL response."""
    TLS = auto()
    """The next octets belong to a TLS handshake."""
    REFUSED = auto()
    """The greeting was negative, such as 554 (RFC 5321 3.1), or an XCLIENT was refused. Only QUIT is allowed."""
    CLOSED = auto()
    """The session is over."""


class Wait(Key):
    """The kinds of timeouts of RFC 5321 4.5.3.2, named by the input that a connection waits for."""

    GREETING = auto()
    """A server waits for the first command after the greeting."""
    COMMAND = auto()
    """A server waits for the next command."""
    BODY = auto()
    """A server waits for more of a body."""
    AUTH = auto()
    """A server waits for a SASL response."""
    TLS = auto()
    """Either end waits for the TLS handshake."""
    NOTHING = auto()
    """No input: your program has to act, or the session is over."""

    # Waits of a client

    SERVER_GREETING = auto()
    """The server's greeting (RFC 5321 4.5.3.2.1: 5 minutes)."""
    MAIL_REPLY = auto()
    """The reply to MAIL (4.5.3.2.2: 5 minutes)."""
    RCPT_REPLY = auto()
    """The reply to RCPT (4.5.3.2.3: 5 minutes)."""
    DATA_REPLY = auto()
    """The reply to DATA (4.5.3.2.4: 2 minutes)."""
    DATA_BLOCK = auto()
    """The server's readiness for more octets of a body (4.5.3.2.5: 3 minutes for each block)."""
    END_REPLY = auto()
    """The reply to the end of a body or of a chunk (4.5.3.2.6: 10 minutes)."""
    COMMAND_REPLY = auto()
    """The reply to any other command."""
