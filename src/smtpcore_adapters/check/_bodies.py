"""Whether a message ends where it ends, and nowhere else."""

from ._checks import Check, Probe, Stage, check, expect, expect_nothing_more, one_reply
from ._findings import Severity

_END = b"\r\n.\r\n"

# Every sequence that some server has been known to end a message at, or that is one octet away from the true end.
# What follows is a command there, so that a second message could be smuggled in behind the first.
_NO_ENDS = {
    "lf-lf": b"\n.\n",
    "cr-cr": b"\r.\r",
    "lf-crlf": b"\n.\r\n",
    "crlf-lf": b"\r\n.\n",
    "cr-crlf": b"\r.\r\n",
    "crlf-cr": b"\r\n.\r",
    "lf-cr": b"\n.\r",
    "cr-lf": b"\r.\n",
    "lfcr-lfcr": b"\n\r.\n\r",
    "crcrlf-crlf": b"\r\r\n.\r\n"[1:2] + b".\r\r\n",
    "crlf-crcrlf": b"\r\n.\r\r\n",
    "nul-before-dot": b"\r\n\x00.\r\n",
    "nul-behind-dot": b"\r\n.\x00\r\n",
    "nul-in-line-end": b"\r\x00\n.\r\x00\n",
    "space-behind-dot": b"\r\n. \r\n",
    "dot-dot": b"\r\n..\r\n",
    "vertical-tab": b"\x0b.\x0b",
    "form-feed": b"\x0c.\x0c",
    "next-line": b"\xc2\x85.\xc2\x85",
    "line-separator": b"\xe2\x80\xa8.\xe2\x80\xa8",
}


def _smuggling(name: str, no_end: bytes) -> Check:
    # Were the sequence an end, RSET and NOOP would be commands, and get replies of their own.
    return one_reply(
        f"smuggling-{name}",
        f"The sequence {no_end!r} ends no message",
        "RFC 5321 4.1.1.4",
        [b"first" + no_end + b"RSET\r\nNOOP\r\nlast" + _END],
        "2yz 5yz 4yz",
    )


@check("data-octets", "A message may come octet by octet", "RFC 5321 4.1.1.4", "2yz to the message, no other reply")
def _octets(probe: Probe) -> None:
    wire = probe.at(Stage.DATA)
    wire.trickle(probe.message(b"..dot\r\n") + b".\r\n")
    expect(wire.reply(), "2yz")
    expect_nothing_more(wire)


@check(
    "data-segment",
    "A segment that looks like the end of a message is none",
    "RFC 5321 4.1.1.4",
    "one reply, behind the true end",
    severity=Severity.SECURITY,
)
def _segment(probe: Probe) -> None:
    wire = probe.at(Stage.DATA)
    for segment in (probe.header + b"text", b".\r\n", b"NOOP\r\ntext", b"\n.\r\n", b"NOOP\r\n"):
        wire.send(segment)
        wire.pause()

    wire.send(_END)
    probe.expect_alone(wire, "2yz 5yz 4yz")


@check("data-end-cut", "The end may be cut anywhere", "RFC 5321 4.1.1.4", "2yz, and no other reply")
def _end_cut(probe: Probe) -> None:
    wire = probe.at(Stage.DATA)
    wire.send(probe.header + b"text")
    for octet in _END:
        wire.send(bytes((octet,)))
        wire.pause()

    expect(wire.reply(), "2yz")
    expect_nothing_more(wire)


@check("data-8bit", "Octets beyond ASCII are taken", "RFC 6152 3", "2yz to the message")
def _eight_bit(probe: Probe) -> None:
    probe.need(probe.at(Stage.READY), "8BITMIME")
    wire = probe.at(Stage.DATA, params=" BODY=8BITMIME")
    wire.send(probe.message(b"\xc3\xa4\xff\x80\r\n") + b".\r\n")
    expect(wire.reply(), "2yz")


@check("data-header", "A message is taken", "RFC 5321 3.3", "2yz to the message")
def _plain(probe: Probe) -> None:
    wire = probe.at(Stage.DATA)
    wire.send(probe.message() + b".\r\n")
    expect(wire.reply(), "2yz")


def _behind_354(id: str, title: str, data: bytes) -> Check:
    @check(id, title, "RFC 5321 4.1.1.4", "one reply")
    def probe(given: Probe) -> None:
        wire = given.at(Stage.DATA)
        wire.send(data)
        given.expect_alone(wire, "2yz 5yz 4yz")

    return probe


BODIES: tuple[Check, ...] = (
    _plain,
    _behind_354("data-empty", "An empty message ends at its dot", b".\r\n"),
    _behind_354("data-no-header", "A message without a header gets one reply", b"text\r\n.\r\n"),
    one_reply(
        "data-dots",
        "Lines that begin with dots end no message",
        "RFC 5321 4.5.2",
        [b"..\r\n...\r\n.NOOP\r\n.. \r\n.\r\n"],
        "2yz 5yz 4yz",
    ),
    one_reply("data-nul", "A NUL in a message gets one reply", "RFC 5321 4.5.2", [b"a\x00b\r\n.\r\n"], "2yz 5yz 4yz"),
    _octets,
    _segment,
    _end_cut,
    _eight_bit,
    *(_smuggling(name, no_end) for name, no_end in _NO_ENDS.items()),
)
