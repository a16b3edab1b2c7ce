"""Checks of the end of a message: only CR LF . CR LF may end a body (SMTP smuggling)."""

from ._checks import SYNTAX_ERRORS, Check, Probe, Stage, check, expect, expect_nothing_more, one_reply
from ._findings import Severity

_END = b"\r\n.\r\n"

# Sequences that some server was known to accept as the end of a message, or that differ from the true end by one octet.
# A server that accepts one of them parses the following text as commands, so that an attacker can smuggle a second
# message into the first.
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
    "cr-crcrlf": b"\r.\r\r\n",
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
    # If the server takes the sequence for the end, RSET and NOOP are commands and get their own replies.
    return one_reply(
        f"smuggling-{name}",
        f"The sequence {no_end!r} does not end a message",
        "RFC 5321 4.1.1.4",
        [b"first" + no_end + b"RSET\r\nNOOP\r\nlast" + _END],
        "2yz 5yz 4yz",
    )


@check(
    "data-octets",
    "A message may arrive octet by octet",
    "RFC 5321 4.1.1.4",
    "2yz to the message, no other reply",
    control=Stage.SENT,
)
def _octets(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    client.trickle(probe.message(b"..dot\r\n") + b".\r\n")
    seen = client.reply()
    expect_nothing_more(client)
    expect(seen, "2yz")


@check(
    "data-segment",
    "A segment that consists of a dot and CR LF does not end a message",
    "RFC 5321 4.1.1.4",
    "one reply, after the true end",
    severity=Severity.SECURITY,
    control=Stage.SENT,
)
def _segment(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    for segment in (probe.header + b"text", b".\r\n", b"NOOP\r\ntext", b"\n.\r\n", b"NOOP\r\n"):
        client.send(segment)
        client.pause()

    client.send(_END)
    probe.expect_alone(client, "2yz 5yz 4yz")


@check(
    "data-end-cut",
    "CR LF . CR LF may arrive in separate segments",
    "RFC 5321 4.1.1.4",
    "2yz, and no other reply",
    control=Stage.SENT,
)
def _end_cut(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    client.send(probe.header + b"text")
    for octet in _END:
        client.send(bytes((octet,)))
        client.pause()

    seen = client.reply()
    expect_nothing_more(client)
    expect(seen, "2yz")


@check(
    "data-8bit",
    "A message with octets beyond ASCII is accepted",
    "RFC 6152 3",
    "2yz to the message",
    control=Stage.SENT,
)
def _eight_bit(probe: Probe) -> None:
    probe.need(probe.at(Stage.READY), "8BITMIME")
    client = probe.at(Stage.DATA, params=" BODY=8BITMIME")
    # The header declares the octets, because filters refuse undeclared octets.
    header = probe.header.removesuffix(b"\r\n") + _EIGHT_BIT_FIELDS
    client.send(header + b"\r\n\xc3\xa4\xff\xa0\r\n.\r\n")
    seen = client.reply()
    is_about_content = seen.status is not None and seen.status[0] == _CONTENT
    expect(seen, "2yz", objections="5yz" if is_about_content else SYNTAX_ERRORS)


_CONTENT = 6
"""The subject of an enhanced status code about the content of a message (RFC 3463 3.7)."""
_EIGHT_BIT_FIELDS = (
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n"
)


# A filter may refuse any message. So only a reply that makes no sense after a message is a failure.
@check("data-header", "A simple message is accepted", "RFC 5321 3.3", "2yz to the message")
def _plain(probe: Probe) -> None:
    client = probe.at(Stage.DATA)
    client.send(probe.message() + b".\r\n")
    expect(client.reply(), "2yz", objections=SYNTAX_ERRORS)


def _after_354(id: str, title: str, data: bytes) -> Check:
    @check(id, title, "RFC 5321 4.1.1.4", "one reply", control=Stage.SENT)
    def probe(given: Probe) -> None:
        client = given.at(Stage.DATA)
        client.send(data)
        given.expect_alone(client, "2yz 5yz 4yz")

    return probe


BODIES: tuple[Check, ...] = (
    _plain,
    _after_354("data-empty", "A dot directly after the 354 ends an empty message", b".\r\n"),
    _after_354("data-no-header", "A message without a header gets one reply", b"text\r\n.\r\n"),
    one_reply(
        "data-dots",
        "Longer lines that begin with a dot do not end a message",
        "RFC 5321 4.5.2",
        [b"..\r\n...\r\n.NOOP\r\n.. \r\n.\r\n"],
        "2yz 5yz 4yz",
    ),
    one_reply("data-nul", "A message with a NUL gets one reply", "RFC 5321 4.5.2", [b"a\x00b\r\n.\r\n"], "2yz 5yz 4yz"),
    _octets,
    _segment,
    _end_cut,
    _eight_bit,
    *(_smuggling(name, no_end) for name, no_end in _NO_ENDS.items()),
)
