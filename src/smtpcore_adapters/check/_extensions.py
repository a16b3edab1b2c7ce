"""Checks of extensions: PIPELINING, CHUNKING, BINARYMIME, SMTPUTF8, and LMTP."""

from ._checks import (
    SYNTAX_ERRORS,
    Check,
    Probe,
    Stage,
    answered,
    check,
    dialogue,
    expect,
    expect_nothing_more,
    matches,
    one_reply,
    preparing,
)
from ._findings import Failed, Inconclusive, Severity
from ._raw_client import RawClient

_SECURITY = Severity.SECURITY


def _expect_all(client: RawClient, codes: tuple[str, ...]) -> None:
    for expected in codes:
        expect(client.reply(), expected)


# PIPELINING


@check(
    "pipelining-order",
    "Replies come in the order of the commands",
    "RFC 2920 3.2",
    "250, 2yz, 5yz, 250, 250",
    control=Stage.RCPT,
    plain=("RSET", "NOOP"),
)
def _order(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    probe.need(client, "PIPELINING")
    lines = (probe.mail, probe.rcpt, "RCPT TO:<unclosed", "RSET", "NOOP")
    client.send("".join(f"{line}\r\n" for line in lines).encode())
    _expect_all(client, ("250", "2yz", "5yz", "250", "250"))
    expect_nothing_more(client)


@check(
    "pipelining-data",
    "DATA may be the last command of a pipelined group",
    "RFC 2920 3.1",
    "250, 2yz, 354, and 2yz to the message",
    control=Stage.SENT,
    plain=("NOOP",),
)
def _data(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    probe.need(client, "PIPELINING")
    client.send(f"{probe.mail}\r\n{probe.rcpt}\r\nDATA\r\n".encode())
    _expect_all(client, ("250", "2yz", "354"))
    client.send(probe.message() + b".\r\nNOOP\r\n")
    _expect_all(client, ("2yz", "250"))


@check(
    "pipelining-no-recipient",
    "A message without an accepted recipient is refused",
    "RFC 2920 3.1",
    "5yz to DATA, or 354 and 5yz to the end of the empty message",
    control=Stage.MAIL,
)
def _no_recipient(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    probe.need(client, "PIPELINING")
    client.send(f"{probe.mail}\r\nRCPT TO:<unclosed\r\nDATA\r\n".encode())
    for expected in ("250", "5yz"):
        with preparing(client):
            seen = client.reply()
        if not matches(seen.code, expected):
            raise Inconclusive(f"the server refused the sender, or accepted the malformed recipient: {seen}")

    if expect(client.reply(), "354 5yz").code == 354:
        expect(client.ask("."), "5yz")


@check(
    "pipelining-octets",
    "Commands may arrive octet by octet",
    "RFC 5321 2.3.8",
    "the same replies as to commands in one segment",
    control=Stage.RCPT,
    plain=("RSET",),
)
def _octets(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    for line, codes in ((probe.mail, "250"), (probe.rcpt, "2yz"), ("RSET", "250")):
        client.trickle(f"{line}\r\n".encode())
        expect(client.reply(), codes)

    expect_nothing_more(client)


# CHUNKING


@check(
    "chunking-message",
    "A message can be sent in chunks with BDAT",
    "RFC 3030 2",
    "250 to each chunk",
    control=Stage.SENT,
)
def _chunks(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    probe.need(client, "CHUNKING")
    message = probe.message()
    client.send(b"BDAT %d\r\n" % len(message) + message)
    expect(client.reply(), "250")
    client.send(b"BDAT 0 LAST\r\n")
    probe.expect_alone(client, "2yz")


@check(
    "chunking-dot",
    "A line with a dot does not end a chunk, and the content of a chunk is not parsed as commands",
    "RFC 3030 2",
    "one reply to the chunk",
    severity=_SECURITY,
    control=Stage.SENT,
)
def _dot(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    probe.need(client, "CHUNKING")
    chunk = probe.message(b".\r\nNOOP\r\n.\r\n")
    client.send(b"BDAT %d LAST\r\n" % len(chunk) + chunk)
    probe.expect_alone(client, "2yz 5yz 4yz")


@check("binarymime-data", "DATA is refused after BODY=BINARYMIME", "RFC 3030 3", "5yz to DATA")
def _binary(probe: Probe) -> None:
    probe.need(probe.at(Stage.READY), "BINARYMIME")
    expect(probe.at(Stage.RCPT, params=" BODY=BINARYMIME").ask("DATA"), "5yz")


# LMTP


@check(
    "lmtp-replies",
    "The message gets one reply for each accepted recipient",
    "RFC 2033 4.2",
    "two replies",
    lmtp=True,
    control=Stage.SENT,
)
def _replies(probe: Probe) -> None:
    client = probe.at(Stage.RCPT)
    for line, codes in (("RCPT TO:<unclosed", "5yz"), (probe.rcpt, "2yz"), ("DATA", "354")):
        probe.prepare(client, line, codes)

    client.send(probe.message() + b".\r\n")
    for _ in range(2):
        if expect(client.reply(), "2yz 4yz 5yz").code == 421:
            raise Inconclusive("the server ended the session")

    expect_nothing_more(client)


@check(
    "lmtp-extensions", "PIPELINING and ENHANCEDSTATUSCODES are offered", "RFC 2033 5", "both in the reply", lmtp=True
)
def _lmtp_extensions(probe: Probe) -> None:
    client = probe.at(Stage.READY)
    missing = {"PIPELINING", "ENHANCEDSTATUSCODES"} - set(client.offered)
    if missing:
        raise Failed(f"not offered: {', '.join(sorted(missing))}")


def _hello(verb: str, *, lmtp: bool) -> Check:
    return answered(
        f"lmtp-{verb.lower()}",
        f"{'An LMTP' if lmtp else 'An SMTP'} server refuses {verb}",
        "RFC 2033 4.1",
        f"{verb} {{helo}}",
        "5yz",
        at=Stage.CONNECTED,
        severity=Severity.FAULT if lmtp else Severity.WARNING,
        lmtp=lmtp,
    )


EXTENSIONS: tuple[Check, ...] = (
    _order,
    _data,
    _no_recipient,
    _octets,
    _chunks,
    _dot,
    dialogue(
        "chunking-data",
        "DATA is refused in a transaction that has begun with BDAT",
        "RFC 3030 2",
        ("BDAT 5\r\nabc", "250"),
        ("DATA", "5yz"),
        at=Stage.RCPT,
        needs="CHUNKING",
        preparing=1,
    ),
    dialogue(
        "chunking-rset",
        "RSET discards the chunks of a message",
        "RFC 3030 2",
        ("BDAT 5\r\nabc", "250"),
        ("RSET", "250"),
        ("RCPT TO:<{recipient}>", "5yz"),
        at=Stage.RCPT,
        needs="CHUNKING",
        preparing=2,
    ),
    one_reply(
        "chunking-refused",
        "The octets of a refused chunk are not parsed as commands",
        "RFC 3030 2",
        [b"BDAT 6\r\nNOOP\r\n"],
        "5yz",
        at=Stage.READY,
        severity=_SECURITY,
        needs="CHUNKING",
    ),
    one_reply(
        "chunking-refused-last",
        "The octets of a last chunk without recipients are not parsed as commands",
        "RFC 3030 2",
        [b"BDAT 6 LAST\r\nNOOP\r\n"],
        "5yz",
        at=Stage.MAIL,
        severity=_SECURITY,
        needs="CHUNKING",
        lmtp=False,
    ),
    answered(
        "chunking-malformed",
        "BDAT with a size that is not a number is refused",
        "RFC 3030 2",
        "BDAT x",
        "5yz",
        at=Stage.RCPT,
        needs="CHUNKING",
    ),
    answered(
        "chunking-negative",
        "BDAT with a negative size is refused",
        "RFC 3030 2",
        "BDAT -1",
        "5yz",
        at=Stage.RCPT,
        needs="CHUNKING",
    ),
    _binary,
    answered(
        "utf8-accepted",
        "A non-ASCII address with SMTPUTF8 is not a syntax error",
        "RFC 6531 3.1",
        "MAIL FROM:<\u00e4@{sender_domain}> SMTPUTF8",
        "2yz 4yz 5yz",
        needs="SMTPUTF8",
        refused=SYNTAX_ERRORS,
    ),
    answered(
        "utf8-undeclared",
        "A non-ASCII address without SMTPUTF8 is refused",
        "RFC 6531 3.5",
        "MAIL FROM:<\u00e4@{sender_domain}>",
        "5yz",
    ),
    _replies,
    _lmtp_extensions,
    _hello("HELO", lmtp=True),
    _hello("EHLO", lmtp=True),
    _hello("LHLO", lmtp=False),
)
