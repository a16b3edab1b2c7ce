"""Any text gives a reply that is refused as documented or sent unchanged, and `fitting` makes each reply sendable."""

from smtpcore import (
    Answered,
    ClientConfig,
    ClientConnection,
    LocalProtocolError,
    Noop,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    ReplyCode,
)
from tests.helpers import replies

from .harness import Draw

ENHANCED = (None, None, "2.0.0", "4.7.1", "5.999.999", "5.01.0", "2.1\n.1", "")


def check_heard(reply: Reply) -> None:
    """Check that a client receives an equal reply.

    If the text begins like an enhanced status code, the client may return this beginning as the `enhanced` code.
    """
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
    # RFC 5321 4.2.2: 221 closes the connection, so it answers no other request than QUIT.
    request = None if reply.code == ReplyCode.SERVICE_CLOSING else Noop()
    assert event == Answered(request, reply) or (event.to == request and event.reply.enhanced and not reply.enhanced)
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

    fitting = reply.fitting()
    assert (fitting.code, fitting.text_error) == (reply.code, None)
    check_wire(fitting)
    if reply.text_error is None:
        check_wire(reply)


def check_wire(reply: Reply) -> None:
    """Check that the octets of a reply have only its code and lines, and that a client receives the reply."""
    octets = reply.encode()
    check_heard(reply)
    assert all(len(line) <= 512 for line in octets.splitlines(keepends=True)) or reply.code == 334
    prefix = f"{reply.enhanced} " if reply.enhanced else ""
    *first, last = reply.lines
    text = "\n".join([*(f"{reply.code}-{prefix}{line}" for line in first), f"{reply.code} {prefix}{last}"])
    assert replies(octets) == [(reply.code, text)]
