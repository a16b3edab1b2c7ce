"""What a server answers when the program leaves it to the protocol."""

from collections.abc import Mapping
from typing import Final

from ._buffer import LineFault
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
    Event,
    InvalidCommand,
    UnknownCommand,
)
from ._parser import COMMANDS, verb_of
from ._replies import Reply, ReplyCode
from ._state import State

BEFORE_TLS: Final = frozenset({Noop, Ehlo, Lhlo, StartTls, Quit})
"""What is heard before TLS where that is required (RFC 3207 section 4)."""

BEFORE_AUTH: Final = frozenset({Noop, Ehlo, Helo, Lhlo, StartTls, Auth, Rset, Quit, UnknownCommand, Xclient, Xforward})
"""What is heard before authentication where that is required (RFC 4954 section 6)."""

LINE_FAULTS: Final[Mapping[LineFault, Reply]] = {
    LineFault.TOO_LONG: Reply(500, "Line too long", enhanced="5.5.2"),
    LineFault.BARE_NEWLINE: Reply(500, "Lines end in CR LF: a bare CR or LF ends none", enhanced="5.5.2"),
}

BAD_SEQUENCE: Final = Reply(503, "Bad sequence of commands", enhanced="5.5.1")

PRIORITY_LOWERED: Final = Reply(250, "0 is the priority, since you are not authenticated", enhanced="2.3.6")
"""The answer to MAIL with a priority that is not granted (RFC 6710 4.1)."""

NO_RECIPIENTS: Final = Reply(554, "No valid recipients", enhanced="5.5.1")  # RFC 5321 3.3

OUT_OF_SEQUENCE: Final[Mapping[tuple[State, type[object]], Reply]] = {
    (State.GREETED, Mail): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Rcpt): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Data): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Bdat): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Etrn): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Burl): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Auth): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.READY, Rcpt): Reply(503, "MAIL has to come first", enhanced="5.5.1"),
    (State.READY, Data): Reply(503, "MAIL has to come first", enhanced="5.5.1"),
    (State.READY, Burl): Reply(503, "MAIL has to come first", enhanced="5.5.1"),
    (State.READY, Bdat): Reply(503, "MAIL has to come first", enhanced="5.5.1"),
    (State.MAIL, Mail): Reply(503, "A transaction is open already", enhanced="5.5.1"),
    (State.RCPT, Mail): Reply(503, "A transaction is open already", enhanced="5.5.1"),
    (State.MAIL, Data): NO_RECIPIENTS,
    (State.MAIL, Bdat): NO_RECIPIENTS,
    (State.MAIL, Burl): NO_RECIPIENTS,
    (State.CHUNKED, Data): Reply(503, "A message that began with BDAT goes on with BDAT", enhanced="5.5.1"),
    (State.CHUNK_REFUSED, Bdat): Reply(503, "A chunk was refused: give the transaction up with RSET", enhanced="5.5.1"),
}

DEFAULTS: Final[Mapping[type[object], Reply]] = {
    ConnectionOpened: Reply(220, "ESMTP"),
    Helo: Reply(250),
    Ehlo: Reply(250),
    Lhlo: Reply(250),
    Mail: Reply(250, "Sender accepted", enhanced="2.1.0"),
    # No relaying, and no mail taken, unless the program says so.
    Rcpt: Reply(550, "We do not accept mail for this recipient", enhanced="5.7.1"),
    Data: Reply(354, "Start mail input; end with <CRLF>.<CRLF>"),
    ChunkEnd: Reply(250, "Chunk received", enhanced="2.0.0"),
    DataEnd: Reply(554, "No one here takes messages", enhanced="5.3.0"),
    Rset: Reply(250, "Flushed", enhanced="2.0.0"),
    Noop: Reply(250, "Fine", enhanced="2.0.0"),
    Quit: Reply(221, "closing", enhanced="2.0.0"),
    Vrfy: Reply(252, "Cannot verify, but will accept a message and attempt delivery", enhanced="2.5.0"),
    Expn: Reply(252, "Cannot expand", enhanced="2.5.0"),  # RFC 5321 7.3
    Help: Reply(214, "HELO EHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP", "See RFC 5321", enhanced="2.0.0"),
    StartTls: Reply(220, "Go ahead", enhanced="2.0.0"),
    Burl: Reply(554, "This URL cannot be fetched", enhanced="5.6.6"),
    Etrn: Reply(458, "No queue can be started for this node", enhanced="4.5.0"),
    Xforward: Reply(250, "Noted", enhanced="2.0.0"),
    # No one is who he says he is, unless the program says so.
    Auth: Reply(535, "Authentication credentials invalid", enhanced="5.7.8"),
    AuthResponse: Reply(535, "Authentication credentials invalid", enhanced="5.7.8"),
    Xclient: Reply(550, "You may not speak for others", enhanced="5.7.0"),
    AuthCancel: Reply(501, "Authentication cancelled", enhanced="5.7.0"),
    UnknownCommand: Reply(500, "Command not recognized", enhanced="5.5.1"),
}

_OF_AUTH: Final = (ReplyCode.AUTHENTICATION_SUCCEEDED, ReplyCode.AUTHENTICATION_CHALLENGE)

ONLY_POSITIVE: Final[Mapping[type[object], tuple[ReplyCode, ...]]] = {
    Auth: _OF_AUTH,
    AuthResponse: _OF_AUTH,
    Data: (ReplyCode.START_MAIL_INPUT,),
    StartTls: (ReplyCode.SERVICE_READY,),
    Xclient: (ReplyCode.SERVICE_READY,),
}
"""Where the client acts on the very code."""

NAMES_HOST: Final = frozenset({ReplyCode.SERVICE_CLOSING, ReplyCode.SERVICE_NOT_AVAILABLE})

NAMES_MAILBOX: Final = frozenset({ReplyCode.WILL_FORWARD, ReplyCode.USER_NOT_LOCAL})

ENHANCED: Final[Mapping[int, str]] = {
    235: "2.7.0",
    432: "4.7.12",
    454: "4.7.0",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    530: "5.7.0",
    534: "5.7.9",
    535: "5.7.8",
    555: "5.5.4",
}
"""RFC 5248: what goes with a code when the program does not say."""

HELLOS: Final = frozenset({Helo, Ehlo, Lhlo})
"""What opens a session."""

WRONG_HELLO: Final[Mapping[bool, Reply]] = {
    False: Reply(500, "This is SMTP: say EHLO"),
    True: Reply(500, "This is LMTP: say LHLO"),
}
"""The answer to a hello of the other protocol, by whether this one is LMTP (RFC 2033 4.1)."""

OUT_OF_SEQUENCE_IN_LMTP: Final = frozenset({(State.MAIL, Data)})
"""Where LMTP asks for a plain 503 (RFC 2033 4.2)."""

AUTH_LINE_FAULTS: Final[Mapping[LineFault, Reply]] = {
    **LINE_FAULTS,
    LineFault.TOO_LONG: Reply(500, "Authentication line too long", enhanced="5.5.6"),  # RFC 4954 section 6
}
"""The answer to a SASL response that is no line."""


def with_host(line: str, hostname: str) -> str:
    """`line` with the host's name as its first word, as RFC 5321 4.2 asks of the greeting, of 221 and of 421."""
    return line if line.partition(" ")[0] == hostname else f"{hostname} {line}".rstrip()


def enhanced_of(reply: Reply) -> str:
    """The enhanced status code of `reply`, which is no 3yz; if it has none, a general one (RFC 2034 section 4)."""
    return reply.enhanced or ENHANCED.get(reply.code, f"{reply.code // 100}.0.0")


def answers_helo(asked: Event) -> bool:
    """Whether a reply to `asked` is one to HELO, EHLO or LHLO, even to a malformed one."""
    if isinstance(asked, InvalidCommand):
        # What was no line at all was no EHLO either.
        return asked.reply not in LINE_FAULTS.values() and COMMANDS.get(verb_of(asked.line)) in HELLOS

    return type(asked) in HELLOS
