"""Checks of the order of commands."""

from ._checks import SYNTAX_ERRORS, Check, Probe, Stage, answered, check, dialogue, expect
from ._findings import Failed, Inconclusive, Severity
from ._raw_client import RawClient, ServerClosed

_WARNING = Severity.WARNING

_MAIL = "MAIL FROM:<{sender}>"
_RCPT = "RCPT TO:<{recipient}>"


@check(
    "seq-hello-again", "A second EHLO ends a transaction", "RFC 5321 4.1.4", "250, then 5yz to RCPT", control=Stage.RCPT
)
def _hello_again(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    expect(client.greet(), "250")
    expect(client.ask(probe.rcpt), "5yz")


@check(
    "seq-two-messages",
    "A session can send a second message",
    "RFC 5321 3.3",
    "2yz to both messages",
    control=Stage.SENT,
)
def _two_messages(probe: Probe) -> None:
    client = probe.at(Stage.SENT)
    for line, codes in ((probe.mail, "250"), (probe.rcpt, "2yz"), ("DATA", "354")):
        expect(client.ask(line), codes, objections=SYNTAX_ERRORS)

    client.send(probe.message() + b".\r\n")
    expect(client.reply(), "2yz", objections=SYNTAX_ERRORS)


@check(
    "seq-message-ends",
    "The end of a message ends its transaction",
    "RFC 5321 4.1.1.4",
    "2yz to the message, then 5yz to RCPT",
    control=Stage.RCPT,
)
def _message_ends(probe: Probe) -> None:
    expect(probe.at(Stage.SENT).ask(probe.rcpt), "5yz")


@check(
    "seq-rset-recipients",
    "RSET removes the recipients of a transaction",
    "RFC 5321 4.1.1.5",
    "after RSET and MAIL, 5yz to DATA or to the message",
    control=Stage.RCPT,
)
def _rset_recipients(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    probe.prepare(client, "RSET", "250")
    _expect_no_recipients(probe, client)


@check(
    "seq-hello-recipients",
    "A second EHLO removes the recipients of a transaction",
    "RFC 5321 4.1.4",
    "after EHLO and MAIL, 5yz to DATA or to the message",
    control=Stage.RCPT,
)
def _hello_recipients(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    probe.prepare_hello(client)
    _expect_no_recipients(probe, client)


@check(
    "seq-message-recipients",
    "The end of a message removes its recipients",
    "RFC 5321 4.1.1.4",
    "after a message and MAIL, 5yz to DATA or to the message",
    control=Stage.SENT,
)
def _message_recipients(probe: Probe) -> None:
    _expect_no_recipients(probe, probe.at(Stage.SENT))


def _expect_no_recipients(probe: Probe, client: RawClient) -> None:
    """Begin a transaction, and raise `Failed` if it has the recipients of an earlier transaction."""
    probe.prepare(client, probe.mail, "250")
    seen = client.ask("DATA")
    # RFC 2920 3.1: some servers reply 354 without recipients, and refuse the message. In LMTP, no reply could follow.
    if seen.code == 354 and not probe.target.lmtp:
        client.send(probe.message() + b".\r\n")
        seen = client.reply()
    expect(seen, "5yz")


@check(
    "seq-quit",
    "The server replies 221 to QUIT and closes the connection",
    "RFC 5321 4.1.1.10",
    "221, then the end of the stream",
)
def _quit(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    expect(client.ask("QUIT"), "221")
    if not client.has_ended():
        raise Failed("the server sent more after its reply to QUIT")


@check(
    "seq-goodbye",
    "The server closes the connection after a 421 for too many errors",
    "RFC 5321 3.8",
    "the end of the stream after a 421, or no 421",
    severity=_WARNING,
)
def _goodbye(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    try:
        if not any(client.ask("XSMTPCORECHECK").code == 421 for _ in range(_MANY_MISTAKES)):
            return  # a server need not limit errors
    except ServerClosed as exc:
        raise Inconclusive(f"the server sent no 421: {exc}") from exc

    if not client.has_ended():
        raise Failed("the server sent more after its 421")


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
        "NOOP before EHLO is accepted",
        "RFC 5321 4.1.4",
        "NOOP",
        "250",
        at=Stage.CONNECTED,
        severity=_WARNING,
    ),
    answered(
        "seq-rset-first",
        "RSET before EHLO is accepted",
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
        "HELO {helo}",
        "250",
        at=Stage.CONNECTED,
        lmtp=False,
        objections=SYNTAX_ERRORS,
    ),
    dialogue(
        "seq-rset",
        "RSET ends a transaction",
        "RFC 5321 4.1.1.5",
        ("RSET", "250"),
        (_RCPT, "5yz"),
        at=Stage.RCPT,
        preparing=1,
    ),
    _rset_recipients,
    _hello_again,
    _hello_recipients,
    dialogue(
        "seq-noop",
        "NOOP does not change a transaction",
        "RFC 5321 4.1.1.9",
        ("NOOP", "250"),
        (_RCPT, "2yz"),
        at=Stage.MAIL,
        preparing=1,
    ),
    dialogue(
        "seq-vrfy",
        "VRFY does not change a transaction",
        "RFC 5321 4.1.1.6",
        ("VRFY {recipient}", "2yz 4yz 5yz"),
        (_RCPT, "2yz"),
        at=Stage.MAIL,
        preparing=1,
    ),
    dialogue(
        "seq-unknown",
        "An unknown command does not change a transaction",
        "RFC 5321 4.1.4",
        ("XSMTPCORECHECK", "5yz"),
        (_RCPT, "2yz"),
        at=Stage.MAIL,
        preparing=1,
    ),
    dialogue(
        "seq-refused-mail",
        "RCPT is refused after a refused MAIL",
        "RFC 5321 3.3",
        ("MAIL FROM:<unclosed@{sender_domain}", "5yz"),
        (_RCPT, "5yz"),
        preparing=1,
    ),
    _two_messages,
    _message_ends,
    _message_recipients,
    _quit,
    _goodbye,
)
