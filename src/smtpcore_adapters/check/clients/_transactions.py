"""Checks of transactions: refusals, ends of connections, sizes, and the octets of the message."""

import re

from .._findings import Failed, NotApplicable, Severity
from .._raw_client import printable
from ._client_checks import Case, ClientCheck, Judged, client_check
from ._visit import Body, Script, Visit, closing

_MAX_TEXT_LINE = 1000
_SMALL = 16

_WARNING = Severity.WARNING

_find_bare = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
_match_end_of_header = re.compile(rb"\r?\n\r?\n").search


# Refusals


def _expect_no_message(case: Case) -> None:
    case.need("RCPT")
    # A client that does not wait for the 354 sends the message in place of commands.
    others = [line for line in case.lines if line.after == "DATA" and line.verb not in AFTER_DATA]
    if others:
        raise Failed(f"the client sent its message without a 354: {printable(others[0].octets)}")


AFTER_DATA = ("QUIT", "RSET", "MAIL", "NOOP", "EHLO", "HELO")


def _expect_empty_message(case: Case) -> None:
    case.need("RCPT")
    if any(body.octets for body in case.bodies):
        raise Judged("the client sent its message, although all recipients were refused", _WARNING)


def _refuse_others(visit: Visit) -> None:
    """Accept the first recipient of a connection, and refuse the others."""
    paths = [line.text for line in visit.lines if line.verb == "RCPT"]
    visit.play(visit.ordinary if paths[-1] == paths[0] else b"550 5.1.1 No such user\r\n")


def _expect_several_recipients(case: Case) -> None:
    if len({line.text for line in case.need("RCPT")}) < _SEVERAL:
        raise NotApplicable("the client sent a single recipient: give it two")


_SEVERAL = 2


def _expect_recipients(case: Case) -> None:
    case.need("MAIL")
    if case.of("RCPT", "DATA") and not all(line.is_early for line in case.of("RCPT", "DATA")):
        raise Failed("the client continued the transaction after the refusal of MAIL")


# The end of the message


def _expect_body(case: Case) -> None:
    case.need_body()


def _expect_one_delivery(case: Case) -> None:
    case.need_body()
    if case.accepted > 1:
        raise Failed(f"the client sent the message {case.accepted} times")


def _expect_small(case: Case) -> None:
    case.need("EHLO")
    if any(len(body.octets) > _SMALL for body in case.bodies):
        raise Failed("the client sent a message larger than the SIZE that the server offers")


# The octets of the message


def expect_crlf(case: Case) -> None:
    """Raise `Failed` if a message has a CR without LF, or a LF without CR."""
    for body in case.need_body():
        bare = _find_bare(body.octets)
        if bare:
            name = "CR without LF" if bare[0] == b"\r" else "LF without CR"
            raise Failed(f"the message has a {name}: {_around(body, bare.start())}")


def expect_doubled_dots(case: Case) -> None:
    """Raise `Failed` if a dot at the start of a line is not doubled."""
    bodies = [body for body in case.need_body() if not body.is_chunked]
    for body in bodies:
        # A LF without CR does not end a line (2.3.8), so a dot after it need not be doubled.
        dot = re.search(rb"(?:\A|\r\n)\.(?!\.)", body.octets)
        if dot:
            raise Failed(f"a dot at the start of a line is not doubled: {_around(body, dot.start())}")

    others = [line for line in case.lines if line.after == "END" and line.verb not in AFTER_DATA]
    if others:
        raise Failed(f"the message has a line with a single dot: this was sent after it: {printable(others[0].octets)}")
    if not any(re.search(rb"(?:\A|\r\n)\.\.", body.octets) for body in bodies):
        raise NotApplicable("no line of the message begins with a dot")


def expect_short_lines(case: Case) -> None:
    """Raise `Failed` if a line of a message is too long."""
    for body in case.need_body():
        longest = max((len(line) for line in body.octets.splitlines(keepends=True)), default=0)
        if longest > _MAX_TEXT_LINE:
            raise Failed(f"a line of the message has {longest} octets")


def _expect_seven_bits(case: Case) -> None:
    for body in case.need_body():
        if not body.octets.isascii():
            at = next(at for at, octet in enumerate(body.octets) if octet > 0x7F)
            raise Failed(f"the message has octets beyond ASCII: {_around(body, at)}")


def _expect_ascii_addresses(case: Case) -> None:
    for line in case.need("MAIL"):
        if not line.octets.isascii() or "SMTPUTF8" in line.text.upper().split():
            raise Failed(f"without SMTPUTF8, the client sent: {line.text}")
    for line in case.of("RCPT"):
        if not line.octets.isascii():
            raise Failed(f"without SMTPUTF8, the client sent: {line.text}")
    for body in case.bodies:
        end = _match_end_of_header(body.octets)
        if not body.octets[: end.start() if end else None].isascii():
            raise Failed("without SMTPUTF8, the client sent a header with octets beyond ASCII")


def _around(body: Body, at: int) -> str:
    return printable(body.octets[max(0, at - 20) : at + 20])


_WITHOUT_8BIT = ("PIPELINING", "SIZE 67108864")

TRANSACTIONS: tuple[ClientCheck, ...] = (
    client_check(
        "mail-refused",
        "A refusal of MAIL ends the transaction",
        "RFC 5321 3.3",
        "no further command of the transaction; the client reports a failure",
        Script(answers={"MAIL": b"550 5.7.1 Not from you\r\n"}, watches=("MAIL",)),
        _expect_recipients,
    ),
    client_check(
        "recipients-refused",
        "Without an accepted recipient no message is sent",
        "RFC 5321 3.3",
        "no message; the client reports a failure",
        Script(answers={"RCPT": b"550 5.1.1 No such user\r\n"}),
        _expect_no_message,
    ),
    client_check(
        "recipients-354",
        "After a 354 without an accepted recipient only a dot is sent",
        "RFC 2920 3.1",
        "no DATA, or a message without octets; the client reports a failure",
        Script(
            answers={
                "RCPT": b"550 5.1.1 No such user\r\n",
                "DATA": b"354 Go ahead\r\n",
                "END": b"554 5.5.1 No recipients\r\n",
            }
        ),
        _expect_empty_message,
        is_for_lmtp=False,  # RFC 2033 4.2 forbids this 354
    ),
    client_check(
        "recipients-partly-refused",
        "A refusal of one of several recipients is reported",
        "RFC 5321 3.3",
        "the message for the other recipients, or no message; the client reports a failure",
        Script(answers={"RCPT": _refuse_others}),
        _expect_several_recipients,
        severity=_WARNING,
    ),
    client_check(
        "data-refused",
        "After a refusal of DATA no message is sent",
        "RFC 5321 3.3",
        "no octets of the message; the client reports a failure",
        Script(answers={"DATA": b"451 4.3.0 Try later\r\n"}),
        _expect_no_message,
    ),
    client_check(
        "end-refused",
        "A final refusal of the message is a failure",
        "RFC 5321 4.1.1.4",
        "the client reports a failure",
        Script(answers={"END": b"554 5.6.0 Refused\r\n"}),
        _expect_body,
    ),
    client_check(
        "end-deferred",
        "A temporary refusal of the message is a failure",
        "RFC 5321 4.2.1",
        "the client reports a failure",
        Script(answers={"END": b"451 4.3.0 Try later\r\n"}),
        _expect_body,
    ),
    client_check(
        "end-closed",
        "A message without a final reply is not delivered",
        "RFC 5321 3.8",
        "the client reports a failure",
        Script(answers={"END": closing(b"")}),
        _expect_body,
    ),
    client_check(
        "end-421",
        "A 421 in reply to the message is a failure",
        "RFC 5321 3.8",
        "the client reports a failure",
        Script(answers={"END": closing(b"421 4.3.2 Shutting down\r\n")}),
        _expect_body,
    ),
    client_check(
        "end-accepted-closed",
        "A message is delivered once the 250 has arrived, although the connection closes",
        "RFC 5321 4.1.1.4",
        "the message is sent once; the client reports success",
        Script(answers={"END": closing(b"250 2.0.0 Accepted\r\n")}),
        _expect_one_delivery,
        delivers=True,
    ),
    client_check(
        "end-quit-refused",
        "The reply to QUIT does not change the result",
        "RFC 5321 4.1.1.10",
        "the message is sent once; the client reports success",
        Script(answers={"QUIT": closing(b"500 5.5.1 What is QUIT?\r\n")}),
        _expect_one_delivery,
        delivers=True,
    ),
    client_check(
        "size-smaller",
        "A message larger than the offered SIZE is not sent",
        "RFC 1870 4",
        "no message; the client reports a failure",
        Script(
            offers=(f"SIZE {_SMALL}", "8BITMIME"),
            answers={"END": b"552 5.3.4 The message is too large\r\n"},
        ),
        _expect_small,
        severity=_WARNING,
    ),
    client_check(
        "body-line-ends",
        "The message has no CR without LF, and no LF without CR",
        "RFC 5321 2.3.8",
        "CR LF at the end of each line",
        Script(),
        expect_crlf,
    ),
    client_check(
        "body-dots",
        "Dots at the start of lines are doubled",
        "RFC 5321 4.5.2",
        "two dots where a line of the message has one",
        Script(),
        expect_doubled_dots,
    ),
    client_check(
        "body-line-length",
        "A line of the message has at most 1000 octets",
        "RFC 5321 4.5.3.1.6",
        "at most 1000 octets with CR LF",
        Script(),
        expect_short_lines,
    ),
    client_check(
        "body-8bit",
        "Octets beyond ASCII are sent only if 8BITMIME is offered",
        "RFC 6152 3",
        "an encoded message, or a refusal to send it",
        Script(offers=_WITHOUT_8BIT),
        _expect_seven_bits,
    ),
    client_check(
        "body-smtputf8",
        "Addresses and header fields beyond ASCII are sent only if SMTPUTF8 is offered",
        "RFC 6531 3.2",
        "ASCII in MAIL, RCPT and the header, or a refusal to send the message",
        Script(offers=(*_WITHOUT_8BIT, "8BITMIME")),
        _expect_ascii_addresses,
    ),
)
