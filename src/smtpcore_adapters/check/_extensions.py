"""Whether a server keeps what its extensions promise."""

from ._checks import Check, Probe, Stage, answered, check, dialogue, expect, expect_nothing_more, one_reply
from ._findings import Failed, Severity
from ._raw_client import Wire

_SECURITY = Severity.SECURITY


def _expect_all(wire: Wire, codes: tuple[str, ...]) -> None:
    for expected in codes:
        expect(wire.reply(), expected)


# PIPELINING


@check("pipelining-order", "Replies come in the order of the commands", "RFC 2920 3.2", "250, 2yz, 5yz, 250, 250")
def _order(probe: Probe) -> None:
    wire = probe.at(Stage.READY)
    probe.need(wire, "PIPELINING")
    lines = (probe.mail, probe.rcpt, "RCPT TO:<unclosed", "RSET", "NOOP")
    wire.send("".join(f"{line}\r\n" for line in lines).encode())
    _expect_all(wire, ("250", "2yz", "5yz", "250", "250"))
    expect_nothing_more(wire)


@check("pipelining-data", "DATA may end a group", "RFC 2920 3.1", "250, 2yz, 354, and 2yz to the message")
def _data(probe: Probe) -> None:
    wire = probe.at(Stage.READY)
    probe.need(wire, "PIPELINING")
    wire.send(f"{probe.mail}\r\n{probe.rcpt}\r\nDATA\r\n".encode())
    _expect_all(wire, ("250", "2yz", "354"))
    wire.send(probe.message() + b".\r\nNOOP\r\n")
    _expect_all(wire, ("2yz", "250"))


@check(
    "pipelining-no-recipient",
    "Where no recipient is accepted, neither is the message",
    "RFC 2920 3.1",
    "5yz to DATA, or 354 and 5yz to the end of nothing",
)
def _no_recipient(probe: Probe) -> None:
    wire = probe.at(Stage.READY)
    probe.need(wire, "PIPELINING")
    wire.send(f"{probe.mail}\r\nRCPT TO:<unclosed\r\nDATA\r\n".encode())
    _expect_all(wire, ("250", "5yz"))
    if expect(wire.reply(), "354 5yz").code == 354:
        expect(wire.ask("."), "5yz")


@check("pipelining-octets", "Commands may come octet by octet", "RFC 5321 2.3.8", "the same replies as to whole lines")
def _octets(probe: Probe) -> None:
    wire = probe.at(Stage.READY)
    for line, codes in ((probe.mail, "250"), (probe.rcpt, "2yz"), ("RSET", "250")):
        wire.trickle(f"{line}\r\n".encode())
        expect(wire.reply(), codes)

    expect_nothing_more(wire)


# CHUNKING


@check("chunking-message", "A message may come in chunks", "RFC 3030 2", "250 to each chunk")
def _chunks(probe: Probe) -> None:
    wire = probe.at(Stage.RCPT)
    probe.need(wire, "CHUNKING")
    message = probe.message()
    wire.send(b"BDAT %d\r\n" % len(message) + message)
    expect(wire.reply(), "250")
    wire.send(b"BDAT 0 LAST\r\n")
    probe.expect_alone(wire, "2yz")


@check(
    "chunking-dot",
    "A dot on a line ends no chunk, and nothing in a chunk is a command",
    "RFC 3030 2",
    "one reply to the chunk",
    severity=_SECURITY,
)
def _dot(probe: Probe) -> None:
    wire = probe.at(Stage.RCPT)
    probe.need(wire, "CHUNKING")
    chunk = probe.message(b".\r\nNOOP\r\n.\r\n")
    wire.send(b"BDAT %d LAST\r\n" % len(chunk) + chunk)
    probe.expect_alone(wire, "2yz 5yz 4yz")


@check("binarymime-data", "A binary message is not sent with DATA", "RFC 3030 3", "5yz to DATA")
def _binary(probe: Probe) -> None:
    probe.need(probe.at(Stage.READY), "BINARYMIME")
    expect(probe.at(Stage.RCPT, params=" BODY=BINARYMIME").ask("DATA"), "5yz")


# LMTP


@check("lmtp-replies", "Each accepted recipient gets a reply to the message", "RFC 2033 4.2", "two replies", lmtp=True)
def _replies(probe: Probe) -> None:
    wire = probe.at(Stage.RCPT)
    expect(wire.ask("RCPT TO:<unclosed"), "5yz")
    expect(wire.ask(probe.rcpt), "2yz")
    expect(wire.ask("DATA"), "354")
    wire.send(probe.message() + b".\r\n")
    _expect_all(wire, ("2yz 4yz 5yz", "2yz 4yz 5yz"))
    expect_nothing_more(wire)


@check("lmtp-extensions", "PIPELINING and ENHANCEDSTATUSCODES are offered", "RFC 2033 5", "both in LHLO", lmtp=True)
def _lmtp_extensions(probe: Probe) -> None:
    wire = probe.at(Stage.READY)
    missing = {"PIPELINING", "ENHANCEDSTATUSCODES"} - set(wire.offered)
    if missing:
        raise Failed(f"not offered: {', '.join(sorted(missing))}")


def _hello(verb: str, *, lmtp: bool) -> Check:
    return answered(
        f"lmtp-{verb.lower()}",
        f"{verb} is refused",
        "RFC 2033 4.1",
        f"{verb} smtpcore-check.example",
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
        "A message that began with BDAT does not go on with DATA",
        "RFC 3030 2",
        ("BDAT 5\r\nabc", "250"),
        ("DATA", "5yz"),
        at=Stage.RCPT,
        needs="CHUNKING",
    ),
    dialogue(
        "chunking-rset",
        "RSET gives chunks up",
        "RFC 3030 2",
        ("BDAT 5\r\nabc", "250"),
        ("RSET", "250"),
        ("RCPT TO:<{recipient}>", "5yz"),
        at=Stage.RCPT,
        needs="CHUNKING",
    ),
    one_reply(
        "chunking-refused",
        "The octets of a refused chunk are no commands",
        "RFC 3030 2",
        [b"BDAT 6\r\nNOOP\r\n"],
        "5yz",
        at=Stage.READY,
        severity=_SECURITY,
        needs="CHUNKING",
    ),
    one_reply(
        "chunking-refused-last",
        "Nor are those of a last chunk for no recipient",
        "RFC 3030 2",
        [b"BDAT 6 LAST\r\nNOOP\r\n"],
        "5yz",
        at=Stage.MAIL,
        severity=_SECURITY,
        needs="CHUNKING",
        lmtp=False,
    ),
    answered(
        "chunking-malformed", "A chunk needs a size", "RFC 3030 2", "BDAT x", "5yz", at=Stage.RCPT, needs="CHUNKING"
    ),
    answered(
        "chunking-negative", "A size is not negative", "RFC 3030 2", "BDAT -1", "5yz", at=Stage.RCPT, needs="CHUNKING"
    ),
    _binary,
    answered(
        "utf8-accepted",
        "An address beyond ASCII is accepted with SMTPUTF8",
        "RFC 6531 3.1",
        "MAIL FROM:<\u00e4@smtpcore-check.example> SMTPUTF8",
        "2yz 4yz 5yz",
        needs="SMTPUTF8",
        refused="500 501 502 503 504 555",
    ),
    answered(
        "utf8-undeclared",
        "An address beyond ASCII is refused without SMTPUTF8",
        "RFC 6531 3.5",
        "MAIL FROM:<\u00e4@smtpcore-check.example>",
        "5yz",
    ),
    _replies,
    _lmtp_extensions,
    _hello("HELO", lmtp=True),
    _hello("EHLO", lmtp=True),
    _hello("LHLO", lmtp=False),
)
