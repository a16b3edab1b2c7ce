"""Any text in a reply is either refused as documented, or gives exactly one reply, encoded and parsed again."""

from smtpcore import (
    Answered,
    ClientConfig,
    ClientConnection,
    LocalProtocolError,
    Noop,
    RemoteProtocolError,
    Reply,
    ReplyClass,
)
from tests.helpers import replies

from .harness import Draw

ENHANCED = (None, None, "2.0.0", "4.7.1", "5.999.999", "5.01.0", "2.1\n.1", "")


def check_heard(reply: Reply) -> None:
    """Check that a client receives an equal reply. Only text that looks like an enhanced status code may move."""
    conn = ClientConnection(ClientConfig(hostname="c.example", max_reply_lines=4096))
    conn.receive_data(b"220 s.example\r\n")
    conn.next_event()
    conn.send(Noop())
    conn.data_to_send()
    conn.receive_data(reply.encode())
    try:
        event = conn.next_event()
    except RemoteProtocolError:
        assert reply.reply_class is ReplyClass.INTERMEDIATE
        return

    assert isinstance(event, Answered)
    assert event == Answered(Noop(), reply) or (event.reply.enhanced and not reply.enhanced)
    assert conn.trailing_data == b""


def test_one_input(data: bytes) -> None:
    """Make a reply from the lines of the input."""
    draw = Draw(data)
    code = draw.byte() * 4 + draw.byte() % 4
    enhanced = draw.choose(ENHANCED)
    separator = draw.choose("\n|")
    lines = draw.text().split(separator)
    try:
        reply = Reply(code, *lines, enhanced=enhanced)
    except LocalProtocolError:
        return

    octets = reply.encode()
    check_heard(reply)
    assert all(len(line) <= 512 for line in octets.splitlines(keepends=True)) or code == 334
    prefix = f"{enhanced} " if enhanced else ""
    *first, last = lines
    text = "\n".join([*(f"{code}-{prefix}{line}" for line in first), f"{code} {prefix}{last}"])
    assert replies(octets) == [(code, text)]
