"""Whether commands mean what they should in the order in which they come."""

from ._checks import Check, Probe, Stage, answered, check, dialogue, expect
from ._findings import Failed, Severity

_WARNING = Severity.WARNING


_MAIL = "MAIL FROM:<{sender}>"
_RCPT = "RCPT TO:<{recipient}>"


@check("seq-hello-again", "A second EHLO gives a transaction up", "RFC 5321 4.1.4", "250, and 5yz to RCPT behind it")
def _hello_again(probe: Probe) -> None:
    wire = probe.at(Stage.RCPT)
    expect(wire.greet(), "250")
    expect(wire.ask(probe.rcpt), "5yz")


@check("seq-two-messages", "A second message can be sent", "RFC 5321 3.3", "2yz to both messages")
def _two_messages(probe: Probe) -> None:
    wire = probe.at(Stage.DATA)
    wire.send(probe.message() + b".\r\n")
    expect(wire.reply(), "2yz")
    for line, codes in ((probe.mail, "250"), (probe.rcpt, "2yz"), ("DATA", "354")):
        expect(wire.ask(line), codes)

    wire.send(probe.message() + b".\r\n")
    expect(wire.reply(), "2yz")


@check("seq-message-ends", "A message ends its transaction", "RFC 5321 4.1.1.4", "2yz to the message, 5yz to RCPT")
def _message_ends(probe: Probe) -> None:
    wire = probe.at(Stage.DATA)
    wire.send(probe.message() + b".\r\n")
    expect(wire.reply(), "2yz")
    expect(wire.ask(probe.rcpt), "5yz")


@check(
    "seq-quit", "QUIT is answered 221, then the server closes", "RFC 5321 4.1.1.10", "221, and the end of the stream"
)
def _quit(probe: Probe) -> None:
    wire = probe.at(Stage.READY)
    expect(wire.ask("QUIT"), "221")
    if not wire.has_ended():
        raise Failed("more came behind the reply to QUIT")


@check(
    "seq-goodbye",
    "A server that has lost its patience says 421, and closes",
    "RFC 5321 3.8",
    "421, and the end of the stream",
    severity=_WARNING,
)
def _goodbye(probe: Probe) -> None:
    wire = probe.at(Stage.READY)
    for _ in range(_MANY_MISTAKES):
        if wire.ask("XSMTPCORECHECK").code == 421:
            break
    else:
        return  # a server need not lose its patience

    if not wire.has_ended():
        raise Failed("more came behind the 421")


_MANY_MISTAKES = 120

SEQUENCE: tuple[Check, ...] = (
    answered(
        "seq-mail-first",
        "MAIL before EHLO is refused",
        "RFC 5321 4.1.4",
        _MAIL,
        "5yz",
        at=Stage.CONNECTED,
        severity=_WARNING,
    ),
    answered("seq-rcpt-first", "RCPT before MAIL is refused", "RFC 5321 4.1.4", _RCPT, "5yz"),
    answered("seq-data-first", "DATA before MAIL is refused", "RFC 5321 4.1.4", "DATA", "5yz"),
    answered("seq-data-early", "DATA before RCPT is refused", "RFC 5321 3.3", "DATA", "5yz", at=Stage.MAIL),
    answered(
        "seq-mail-nested",
        "MAIL inside a transaction is refused",
        "RFC 5321 4.1.4",
        _MAIL,
        "5yz",
        at=Stage.RCPT,
    ),
    answered(
        "seq-noop-first",
        "NOOP is heard before EHLO",
        "RFC 5321 4.1.4",
        "NOOP",
        "250",
        at=Stage.CONNECTED,
        severity=_WARNING,
    ),
    answered(
        "seq-rset-first",
        "RSET is heard before EHLO",
        "RFC 5321 4.1.4",
        "RSET",
        "250",
        at=Stage.CONNECTED,
        severity=_WARNING,
    ),
    answered("seq-rset-idle", "RSET without a transaction is accepted", "RFC 5321 4.1.1.5", "RSET", "250"),
    answered(
        "seq-helo",
        "HELO is accepted",
        "RFC 5321 3.2",
        "HELO smtpcore-check.example",
        "250",
        at=Stage.CONNECTED,
        lmtp=False,
    ),
    dialogue(
        "seq-rset", "RSET gives a transaction up", "RFC 5321 4.1.1.5", ("RSET", "250"), (_RCPT, "5yz"), at=Stage.RCPT
    ),
    _hello_again,
    dialogue("seq-noop", "NOOP changes nothing", "RFC 5321 4.1.1.9", ("NOOP", "250"), (_RCPT, "2yz"), at=Stage.MAIL),
    dialogue(
        "seq-vrfy",
        "VRFY changes nothing in a transaction",
        "RFC 5321 4.1.1.6",
        ("VRFY {recipient}", "2yz 4yz 5yz"),
        (_RCPT, "2yz"),
        at=Stage.MAIL,
    ),
    dialogue(
        "seq-unknown",
        "An unknown command changes nothing in a transaction",
        "RFC 5321 4.1.4",
        ("XSMTPCORECHECK", "5yz"),
        (_RCPT, "2yz"),
        at=Stage.MAIL,
    ),
    dialogue(
        "seq-refused-mail",
        "A refused MAIL begins no transaction",
        "RFC 5321 3.3",
        ("MAIL FROM:<unclosed@smtpcore-check.example", "5yz"),
        (_RCPT, "5yz"),
    ),
    _two_messages,
    _message_ends,
    _quit,
    _goodbye,
)
