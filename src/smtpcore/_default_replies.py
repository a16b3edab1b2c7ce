"""Default replies of a server without handlers, the codes that may answer an event, and the completion of a reply."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from . import _rules as rules
from ._command import UnknownCommand
from ._commands import HELLOS, Auth, Data, Ehlo, Expn, Helo, Help, Lhlo, Mail, Noop, Quit, Rcpt, Rset, StartTls, Vrfy
from ._endpoint import Transaction
from ._errors import LocalProtocolError
from ._events import AuthCancel, AuthResponse, ChunkEnd, ConnectionOpened, DataEnd, Event, InvalidCommand, InvalidData
from ._extensions._burl import Burl
from ._extensions._definition import ExtensionCommand
from ._extensions._xclient import Xclient
from ._parser import verb_of
from ._replies import NAMES_HOST, Reply, ReplyClass, ReplyCode
from ._state import ALLOWED_REPLIES, FINAL

PRIORITY_LOWERED: Final = Reply(250, "0 is the priority, because the session is not authenticated", enhanced="2.3.6")
"""The reply to MAIL if a client without authentication asks for a priority above 0 (RFC 6710 4.1)."""

TIMED_OUT: Final = Reply(421, "closing: you took too long", enhanced="4.4.2")
"""The last reply to a client that has used up a time budget."""

DEFAULTS: Final[Mapping[type[object], Reply]] = {
    ConnectionOpened: Reply(220, "ESMTP"),
    Helo: Reply(250),
    Ehlo: Reply(250),
    Lhlo: Reply(250),
    Mail: Reply(250, "Sender accepted", enhanced="2.1.0"),
    # Only your code can decide that a recipient is local, or that mail may be relayed.
    Rcpt: Reply(550, "This server does not accept mail for this recipient", enhanced="5.7.1"),
    Data: Reply(354, "Start mail input; end with <CRLF>.<CRLF>"),
    ChunkEnd: Reply(250, "Chunk received", enhanced="2.0.0"),
    DataEnd: Reply(554, "This server does not accept messages", enhanced="5.3.0"),
    Rset: Reply(250, "Transaction cleared", enhanced="2.0.0"),
    Noop: Reply(250, "OK", enhanced="2.0.0"),
    Quit: Reply(221, "closing", enhanced="2.0.0"),
    Vrfy: Reply(252, "Cannot verify, but will accept a message and attempt delivery", enhanced="2.5.0"),
    Expn: Reply(252, "Cannot expand", enhanced="2.5.0"),  # RFC 5321 7.3
    Help: Reply(214, "HELO EHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP", "See RFC 5321", enhanced="2.0.0"),
    StartTls: Reply(220, "Start the TLS handshake", enhanced="2.0.0"),
    # Only your code can check credentials.
    Auth: Reply(535, "Authentication credentials invalid", enhanced="5.7.8"),
    AuthResponse: Reply(535, "Authentication credentials invalid", enhanced="5.7.8"),
    AuthCancel: Reply(501, "Authentication cancelled", enhanced="5.7.0"),
    UnknownCommand: Reply(500, "Command not recognized", enhanced="5.5.1"),
}

_OF_AUTH: Final = (ReplyCode.AUTHENTICATION_SUCCEEDED, ReplyCode.AUTHENTICATION_CHALLENGE)

ONLY_POSITIVE: Final[Mapping[type[object], tuple[ReplyCode, ...]]] = {
    ChunkEnd: (ReplyCode.OK,),
    DataEnd: (ReplyCode.OK,),
    Auth: _OF_AUTH,
    AuthResponse: _OF_AUTH,
    Data: (ReplyCode.START_MAIL_INPUT,),
    StartTls: (ReplyCode.SERVICE_READY,),
    Xclient: (ReplyCode.SERVICE_READY,),
}
"""For each event, the only codes of a positive reply. The client acts on these codes."""

ONLY_FOR: Final[Mapping[int, frozenset[type[object]]]] = {
    ReplyCode.SERVICE_READY: frozenset({ConnectionOpened, StartTls, UnknownCommand}),
    ReplyCode.SERVICE_CLOSING: frozenset({Quit, UnknownCommand}),
    ReplyCode.AUTHENTICATION_SUCCEEDED: frozenset({Auth, AuthResponse, UnknownCommand}),
}
"""For each of these codes, the only events in `DEFAULTS` that it may answer (RFC 5321 4.3.2)."""

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
"""The enhanced status code to add to a reply without one, by reply code (RFC 5248)."""

_ADDED_TO: Final = HELLOS | {ConnectionOpened, Xclient, InvalidCommand}
"""Events whose replies get the host's name or keywords, or get no enhanced status code."""

SENT_AS_GIVEN: Final = frozenset(
    (kind, code)
    for kind in ALLOWED_REPLIES.keys() - _ADDED_TO - {Burl}
    for code in ReplyCode
    if Reply(code).reply_class in ALLOWED_REPLIES[kind]
    and (code >= 400 or (code in ONLY_POSITIVE.get(kind, ReplyCode) and kind in ONLY_FOR.get(code, DEFAULTS)))
)
"""Pairs of an event and a code for which a reply with `is_complete` needs neither `check_reply` nor `complete`."""

_NOT_A_LINE: Final = frozenset({rules.LINE_TOO_LONG.rule, rules.BARE_NEWLINE.rule})


def default_reply(event: Event, is_authenticated: bool) -> Reply:
    """Return the reply of a server without handlers. Raise `LocalProtocolError` for an event that needs no reply."""
    if isinstance(event, Mail) and not is_authenticated and event.params.mt_priority > 0:
        return PRIORITY_LOWERED
    if type(event) in DEFAULTS:
        return DEFAULTS[type(event)]
    if isinstance(event, InvalidCommand | InvalidData):
        return event.reply
    if isinstance(event, ExtensionCommand):
        return event.default_reply

    raise LocalProtocolError(f"{type(event).__name__} needs no reply: continue with next_event()")


def one_for_each(replies: tuple[Reply, ...], wanted: int) -> tuple[Reply, ...]:
    """Return `wanted` replies: all of `replies`, or one reply repeated. Raises `LocalProtocolError` if neither fits."""
    if len(replies) == 1:
        return replies * wanted
    if len(replies) != wanted:
        raise LocalProtocolError(f"{len(replies)} replies cannot answer {wanted} recipients: give one or all")

    return replies


def check_reply(asked: Event, reply: Reply) -> None:
    """Raise `LocalProtocolError` if the code or the text of `reply` cannot answer `asked`."""
    kind = type(asked)
    if reply.text_error:
        raise LocalProtocolError(reply.text_error)
    if reply.reply_class not in ALLOWED_REPLIES.get(kind, FINAL):
        raise LocalProtocolError(f"{reply.code} cannot answer {kind.__name__}")
    must_close = isinstance(asked, InvalidCommand) and asked.reply.reply_class is ReplyClass.GOODBYE
    if must_close and reply.reply_class is not ReplyClass.GOODBYE:
        # After a BDAT without a valid size, for instance, the next octets are not a command.
        raise LocalProtocolError(f"{reply.code} would continue a session that has to end: use 421")
    if not reply.is_positive:
        return
    if kind is Burl:
        raise LocalProtocolError("a BURL is accepted by its octets: pass them to receive_part")
    if kind in ONLY_POSITIVE and reply.code not in ONLY_POSITIVE[kind]:
        only = " or ".join(str(code.value) for code in ONLY_POSITIVE[kind])
        raise LocalProtocolError(f"{reply.code} cannot answer {kind.__name__}: use {only}, or refuse")
    if reply.code in ONLY_FOR and kind in DEFAULTS and kind not in ONLY_FOR[reply.code]:
        raise LocalProtocolError(f"{reply.code} cannot answer {kind.__name__}: use 250, or refuse")


def complete(asked: Event, reply: Reply, *, hostname: str, keywords: tuple[str, ...], enhances: bool) -> Reply:
    """Return `reply` with the name of the host, the keywords of EHLO and a status code, where the RFCs require them.

    Raises `LocalProtocolError` if a line has become too long, and for a reply to EHLO of several lines.
    """
    kind: Any = type(asked)
    # RFC 2034 section 3 (4): a greeting, a 220 to XCLIENT, and a reply to HELO or EHLO have no enhanced code.
    is_exempt = answers_helo(asked) or (kind is Xclient and reply.is_positive)
    has_status = enhances and not is_exempt and reply.reply_class is not ReplyClass.INTERMEDIATE  # section 4: no 3yz
    if reply is DEFAULTS.get(kind):
        return _complete_default(kind, hostname, keywords, has_status)

    return _complete(kind, reply, hostname, keywords, has_status)


@lru_cache(maxsize=64)  # a server has few configurations, and all their sessions share these replies
def _complete_default(kind: type[object], hostname: str, keywords: tuple[str, ...], has_status: bool) -> Reply:
    return _complete(kind, DEFAULTS[kind], hostname, keywords, has_status)


def _complete(kind: type[object], reply: Reply, hostname: str, keywords: tuple[str, ...], has_status: bool) -> Reply:
    lines = reply.lines
    if reply.is_positive and kind in (Ehlo, Lhlo):
        if len(lines) > 1:
            raise LocalProtocolError("the extensions add the keywords to a reply to EHLO: give one line")
        lines = (*lines, *keywords)
    is_opening = kind is ConnectionOpened or (reply.is_positive and (kind is Xclient or kind in HELLOS))
    if (is_opening or reply.code in NAMES_HOST) and lines[0].partition(" ")[0] != hostname:
        lines = (f"{hostname} {lines[0]}".rstrip(), *lines[1:])

    # RFC 2034 section 4: by default a general code.
    enhanced = (reply.enhanced or ENHANCED.get(reply.code, f"{reply.code // 100}.0.0")) if has_status else None
    if lines == reply.lines and enhanced == reply.enhanced:
        return reply

    completed = Reply(reply.code, *lines, enhanced=enhanced)
    completed.encode()  # this raises if a line has become too long
    return completed


def may_be_utf8(asked: Event, reply: Reply, transaction: Transaction | None) -> bool:
    """Return whether the text of the reply to `asked` may have characters beyond ASCII (RFC 6531 3.7.4)."""
    # RFC 6531 3.7.4.1 and 3.7.4.2: the text of 251 and 551 names another mailbox.
    if isinstance(asked, Rcpt):
        permitted = transaction is not None and transaction.mail.params.smtputf8
        return permitted and reply.code in (ReplyCode.WILL_FORWARD, ReplyCode.USER_NOT_LOCAL)

    return isinstance(asked, Vrfy | Expn) and asked.smtputf8


def answers_helo(asked: Event) -> bool:
    """Return whether `asked` is HELO, EHLO or LHLO, well-formed or not."""
    if isinstance(asked, InvalidCommand) and asked.rule not in _NOT_A_LINE:
        return verb_of(asked.line) in (Helo.verb, Ehlo.verb, Lhlo.verb)

    return type(asked) in HELLOS
