"""Checks of a client's first commands, its reading of replies, and its end of a session."""

import re
from collections.abc import Callable

from .._findings import Failed, Severity
from .._raw_client import printable
from ._client_checks import Case, ClientCheck, client_check
from ._visit import Line, Script, Visit, VisitEnded, closing

_MOST_TO_READ = 4_194_304
"""Octets of an endless reply that a client may read."""
_MAX_COMMAND_LINE = 512

_WARNING = Severity.WARNING

_match_hello_name = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|IPv6:[0-9A-Fa-f:.]+|[A-Za-z0-9-]*[A-Za-z0-9]:[!-Z^-~]+)\])"
).fullmatch
_match_path = re.compile(r"(?:MAIL FROM|RCPT TO):<[^<>]*>(?: [A-Za-z0-9][A-Za-z0-9-]*(?:=[!-<>-~]+)?)*", re.I).fullmatch


# The start of a session


def _expect_wait_for_greeting(case: Case) -> None:
    early = [line for line in case.lines if line.is_early and line.after == "GREETING"]
    if early:
        raise Failed(f"sent before the greeting: {early[0].verb}")


def _expect_only_quit(case: Case) -> None:
    lines = [line.octets for line in case.lines] + [visit.rest for visit in case.visits if visit.rest]
    others = [octets for octets in lines if octets[:4].upper() != b"QUIT"]
    if others:
        raise Failed(f"sent after the refusal: {printable(others[0])}")


def _expect_no_transaction(case: Case) -> None:
    if any(line.after in ("EHLO", "HELO") for line in case.of("MAIL")):
        raise Failed("the client sent MAIL after the refusal of EHLO")


def expect_hello_first(case: Case) -> None:
    """Raise `Failed` if another command precedes EHLO or HELO."""
    for visit in case.visits:
        verbs = [line.verb for line in visit.lines if line.verb in _COMMANDS_AFTER_HELLO]
        if verbs and verbs[0] not in ("EHLO", "HELO"):
            raise Failed(f"the client sent {verbs[0]} before EHLO")


_COMMANDS_AFTER_HELLO = ("EHLO", "HELO", "MAIL", "RCPT", "DATA", "STARTTLS", "AUTH")


def expect_hello_name(case: Case) -> None:
    """Raise `Failed` if the name in EHLO or HELO is neither a domain nor an address literal."""
    for line in case.need("EHLO", "HELO"):
        name = line.text.partition(" ")[2].rstrip(" ")
        if not _match_hello_name(name):
            raise Failed(f"{name!r} is neither a domain nor an address literal")


def _expect_fallback(case: Case) -> None:
    case.need("EHLO")
    if not case.of("HELO"):
        raise Failed(f"the client did not send HELO: {case.visits[-1].ended}")


def _expect_no_parameters(case: Case) -> None:
    for line in case.need("MAIL", "RCPT"):
        if re.search(r"> *[^ ]", line.text):
            raise Failed(f"parameters of an extension that was not offered: {line.text}")


# Commands


def expect_line_ends(case: Case) -> None:
    """Raise `Failed` if a command has another CR or LF than its final CR LF."""
    for line in case.lines:
        if not line.octets.endswith(b"\r\n") or b"\r" in line.octets[:-2]:
            raise Failed(f"this command has another CR or LF than its final CR LF: {_shown(line)}")


def expect_paths(case: Case) -> None:
    """Raise `Failed` if MAIL or RCPT is malformed."""
    for line in case.need("MAIL", "RCPT"):
        if not _match_path(line.text):
            raise Failed(f"this command is malformed: {line.text}")


def expect_command_length(case: Case) -> None:
    """Raise `Failed` if a command is longer than RFC 5321 4.5.3.1.4 permits."""
    for line in case.lines:
        if len(line.octets) > _MAX_COMMAND_LINE and line.verb in ("EHLO", "HELO", "RCPT"):
            raise Failed(f"a command line has {len(line.octets)} octets: {line.verb}")


def _shown(line: Line) -> str:
    return line.verb if line.verb == "AUTH" else printable(line.octets)


# Pipelining

COMMANDS = ("EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT")


def _early(case: Case, *after: str) -> list[Line]:
    # Lines that are no commands are the rest of a body that ended too early.
    return [line for line in case.lines if line.is_early and line.after in after and line.verb in COMMANDS]


def _expect_lock_step(case: Case) -> None:
    case.need("MAIL")
    early = _early(case, "MAIL", "RCPT", "RSET", "END")
    if early:
        raise Failed(f"{early[0].verb} was sent before the reply to {early[0].after}")


def _expect_wait_for_hello(case: Case) -> None:
    case.need("EHLO")
    early = _early(case, "EHLO", "HELO")
    if early:
        raise Failed(f"{early[0].verb} was sent before the reply to {early[0].after}")


def _expect_end_of_group(case: Case) -> None:
    case.need("DATA")
    if any(body.is_early for body in case.bodies):
        raise Failed("the message was sent before the reply to DATA")


# Replies


def endless(first: bytes, piece: bytes) -> Callable[[Visit], None]:
    """Return an answer that repeats `piece` after `first`, up to the limit of the check."""

    def answer(visit: Visit) -> None:
        visit.reply(first)
        sent = 0
        while sent < _MOST_TO_READ:
            visit.transmit(piece)
            sent += len(piece)
        visit.was_read_without_end = True
        raise VisitEnded(f"the client read {_MOST_TO_READ} octets of one reply")

    return answer


def expect_bound(case: Case) -> None:
    """Raise `Failed` if the client read an endless reply up to the limit of the check."""
    if any(visit.was_read_without_end for visit in case.visits):
        raise Failed(f"the client read more than {_MOST_TO_READ} octets of one reply")


def _expect_reply_in_order(case: Case) -> None:
    # No RFC requires a client to notice the early reply, so this is less severe than another false report of success.
    if case.reported and not case.accepted:
        raise Failed("the client took the early reply for the reply to its message")


def _two_hello_lines(visit: Visit) -> None:
    visit.reply(visit.hello().replace(b"250-check.example\r\n", b"250-check.example at your service, = <odd>\r\n"))


# The end of a session


def _expect_quit(case: Case) -> None:
    for visit in case.visits:
        if visit.accepted and not any(line.verb == "QUIT" for line in visit.lines):
            raise Failed(f"the session ended without QUIT: {visit.ended}")


def expect_nothing_after_quit(case: Case) -> None:
    """Raise `Failed` if octets follow QUIT."""
    case.need("QUIT")
    for visit in case.visits:
        if visit.lines and visit.lines[-1].verb == "QUIT" and visit.rest:
            raise Failed(f"sent after QUIT: {printable(visit.rest)}")


def _expect_silence_after_421(case: Case) -> None:
    case.need("MAIL")
    for visit in case.visits:
        # Commands that were pipelined before the 421 arrived are no mistake.
        late = [line for line in visit.rest.split(b"\r\n") if line[:4].upper() in (b"MAIL", b"DATA")]
        if visit.bodies or (late and not visit.is_early):
            raise Failed(f"sent after the 421: {printable(late[0]) if late else 'a message'}")


def _expect_mail(case: Case) -> None:
    case.need("MAIL")


_BUSY = closing(b"421 4.3.2 check.example closes the connection\r\n")

CONNECTIONS: tuple[ClientCheck, ...] = (
    client_check(
        "session-plain",
        "A message is delivered to an ordinary server",
        "RFC 5321 3.3",
        "MAIL, RCPT, DATA and a message",
        Script(),
        delivers=True,
    ),
    client_check(
        "greeting-wait",
        "The client waits for the greeting",
        "RFC 5321 4.3.1",
        "no octets before the greeting",
        Script(watches=("GREETING",)),
        _expect_wait_for_greeting,
        severity=_WARNING,
    ),
    client_check(
        "greeting-421",
        "A 421 in place of the greeting ends the session",
        "RFC 5321 3.8",
        "no command, or only QUIT; the client reports a failure",
        Script(answers={"GREETING": _BUSY}),
        _expect_only_quit,
    ),
    client_check(
        "greeting-554",
        "A 554 in place of the greeting ends the session",
        "RFC 5321 3.1",
        "no command, or only QUIT; the client reports a failure",
        Script(answers={"GREETING": b"554 check.example has no SMTP service\r\n"}),
        _expect_only_quit,
        severity=_WARNING,
    ),
    client_check(
        "greeting-multiline",
        "A greeting may have several lines",
        "RFC 5321 4.2",
        "a message is delivered",
        Script(answers={"GREETING": b"220-check.example ESMTP\r\n220-\r\n220-554 is no code here\r\n220 \r\n"}),
        delivers=True,
    ),
    client_check(
        "hello-first",
        "EHLO or HELO precedes the first transaction",
        "RFC 5321 4.1.1.1",
        "EHLO or HELO as the first command",
        Script(),
        expect_hello_first,
    ),
    client_check(
        "hello-name",
        "EHLO gives a domain or an address literal",
        "RFC 5321 4.1.1.1",
        "a domain such as client.example, or an address literal such as [192.0.2.1]",
        Script(),
        expect_hello_name,
    ),
    client_check(
        "hello-fallback",
        "A client falls back to HELO if EHLO is not known",
        "RFC 5321 3.2",
        "HELO after a 500 to EHLO",
        Script(answers={"EHLO": b"500 What is EHLO?\r\n"}, mechanisms=()),
        _expect_fallback,
        severity=_WARNING,
        needs=("none", "implicit"),
        is_for_lmtp=False,
    ),
    client_check(
        "hello-refused",
        "A final refusal of EHLO ends the session",
        "RFC 5321 4.1.1.1",
        "no MAIL after 550 to EHLO and HELO; the client reports a failure",
        Script(answers=dict.fromkeys(("EHLO", "HELO"), b"550 5.7.1 Go away\r\n")),
        _expect_no_transaction,
    ),
    client_check(
        "hello-keywords",
        "Unknown and unusual lines in the reply to EHLO are ignored",
        "RFC 5321 4.1.1.1",
        "a message is delivered",
        Script(
            offers=(
                "XUNKNOWN a=b, (c) <d>",
                "size",
                "X-" + "LONG" * 100,
                "8bitmime",
                "AUTH=PLAIN",
                "XLAST  two  spaces ",
            ),
            answers={"EHLO": _two_hello_lines},
        ),
        delivers=True,
    ),
    client_check(
        "hello-nothing-offered",
        "Parameters of extensions are sent only if the extension is offered",
        "RFC 5321 4.1.1.11",
        "MAIL and RCPT without parameters",
        Script(offers=()),
        _expect_no_parameters,
    ),
    client_check(
        "command-line-ends",
        "Each command ends in CR LF, and has no other CR or LF",
        "RFC 5321 2.3.8",
        "CR LF at the end of each command",
        Script(),
        expect_line_ends,
    ),
    client_check(
        "command-path",
        "MAIL and RCPT have a path in angle brackets, and no other spaces",
        "RFC 5321 3.3",
        "MAIL FROM:<...> and RCPT TO:<...>",
        Script(),
        expect_paths,
    ),
    client_check(
        "command-length",
        "A command line has at most 512 octets",
        "RFC 5321 4.5.3.1.4",
        "at most 512 octets in EHLO and RCPT",
        Script(),
        expect_command_length,
    ),
    client_check(
        "pipelining-not-offered",
        "Commands are sent in groups only if PIPELINING is offered",
        "RFC 2920 3.1",
        "each command after the reply to the previous command",
        Script(offers=("SIZE 67108864",), watches=("MAIL", "RCPT", "RSET", "END")),
        _expect_lock_step,
    ),
    client_check(
        "pipelining-hello",
        "Commands are not sent before the reply to EHLO",
        "RFC 2920 3.1",
        "EHLO as the last command of a group",
        Script(watches=("EHLO", "HELO")),
        _expect_wait_for_hello,
    ),
    client_check(
        "pipelining-data",
        "The message is sent after the 354",
        "RFC 2920 3.1",
        "DATA as the last command of a group",
        Script(watches=("DATA",)),
        _expect_end_of_group,
    ),
    client_check(
        "reply-octets",
        "Replies may arrive in any pieces",
        "RFC 5321 4.2",
        "a message is delivered, although each octet of the replies arrives alone",
        Script(segment_size=1),
        delivers=True,
    ),
    client_check(
        "reply-bare-codes",
        "Replies may have a code without text",
        "RFC 5321 4.2",
        "a message is delivered",
        Script(
            answers={"MAIL": b"250\r\n", "RCPT": b"250 \r\n", "DATA": b"354\r\n", "END": b"250\r\n", "QUIT": b"221\r\n"}
        ),
        delivers=True,
        severity=_WARNING,
    ),
    client_check(
        "reply-multiline",
        "Every reply may have several lines, with enhanced status codes",
        "RFC 5321 4.2",
        "a message is delivered",
        Script(
            answers={
                "MAIL": b"250-2.1.0 Sender\r\n250-2.1.0\r\n250 2.1.0 OK\r\n",
                "RCPT": b"250-2.1.5 Recipient\r\n250 2.1.5 OK\r\n",
                "DATA": b"354-Send the message\r\n354 and a dot\r\n",
                "END": b"250-2.0.0 The message\r\n250-\r\n250 2.0.0 is queued\r\n",
            }
        ),
        delivers=True,
    ),
    client_check(
        "reply-unknown-codes",
        "A client decides by the first digit of a code that it does not know",
        "RFC 5321 4.2",
        "a message is delivered",
        Script(answers={"MAIL": b"253 OK\r\n", "RCPT": b"259 OK\r\n", "END": b"255 OK\r\n"}),
        delivers=True,
    ),
    client_check(
        "reply-endless-lines",
        "A reply with endless lines is not read forever",
        "RFC 5321 4.5.3.2",
        f"the client leaves before it has read {_MOST_TO_READ} octets",
        Script(answers={"EHLO": endless(b"250-check.example\r\n", b"250-XENDLESS\r\n" * 4096)}),
        expect_bound,
        severity=_WARNING,
    ),
    client_check(
        "reply-endless-line",
        "A reply with an endless line is not read forever",
        "RFC 5321 4.5.3.1.5",
        f"the client leaves before it has read {_MOST_TO_READ} octets",
        Script(answers={"EHLO": endless(b"250-check.example ", b"x" * 57_344)}),
        expect_bound,
        severity=_WARNING,
    ),
    client_check(
        "reply-early",
        "A reply that arrives before its command is not the reply to it",
        "RFC 5321 4.2",
        "the client leaves, or reports a failure after the 554 to the message",
        Script(answers={"DATA": b"354 Go ahead\r\n250 2.0.0 Early\r\n", "END": closing(b"554 5.6.0 Refused\r\n")}),
        _expect_reply_in_order,
        severity=_WARNING,
    ),
    client_check(
        "shutdown-421",
        "A 421 in a transaction ends the session",
        "RFC 5321 3.8",
        "no message is sent; the client reports a failure",
        Script(answers={"MAIL": _BUSY}, watches=("MAIL",)),
        _expect_silence_after_421,
    ),
    client_check(
        "shutdown-closed",
        "A connection that closes in a transaction is a temporary failure",
        "RFC 5321 3.8",
        "the client reports a failure",
        Script(answers={"RCPT": closing(b"")}),
        _expect_mail,
    ),
    client_check(
        "quit-sent",
        "A session ends with QUIT",
        "RFC 5321 4.1.1.10",
        "QUIT before the client closes the connection",
        Script(),
        _expect_quit,
    ),
    client_check(
        "quit-last",
        "Nothing follows QUIT",
        "RFC 5321 4.1.1.10",
        "no octets after QUIT",
        Script(),
        expect_nothing_after_quit,
    ),
)
