"""Whatever text a reply is made of: it is refused as documented, or it is one reply on the wire with just this text."""

from smtpcore import LocalProtocolError, Reply
from tests.helpers import replies

from .harness import Draw

ENHANCED = (None, None, "2.0.0", "4.7.1", "5.999.999", "5.01.0", "2.1\n.1", "")


def test_one_input(data: bytes) -> None:
    """Make a reply of the lines of the input."""
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
    assert all(len(line) <= 512 for line in octets.splitlines(keepends=True)) or code == 334
    prefix = f"{enhanced} " if enhanced else ""
    *first, last = lines
    text = "\n".join([*(f"{code}-{prefix}{line}" for line in first), f"{code} {prefix}{last}"])
    assert replies(octets) == [(code, text)]
