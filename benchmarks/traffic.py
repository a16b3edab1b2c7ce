"""The octets that clients send in the measurements."""

from dataclasses import dataclass

EHLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<sender@client.example>\r\n"
RCPT = b"RCPT TO:<recipient@example.org>\r\n"
DATA = b"DATA\r\n"
QUIT = b"QUIT\r\n"
END = b".\r\n"

HEADER = b"From: sender@client.example\r\nTo: recipient@example.org\r\nSubject: a measurement\r\n\r\n"
LINE = b"The quick brown fox jumps over the lazy dog, and the lazy dog lets it do..\r\n"
DOTTED = b"." + LINE.replace(b"The", b".he")  # with dot-stuffing


@dataclass(frozen=True, slots=True)
class Dots:
    """The share of body lines that begin with a dot."""

    name: str
    block: bytes
    """Ten lines, which are repeated to make a body."""


NO_DOTS = Dots("no dots", LINE * 10)
DOTS_SOMETIMES = Dots("a dot in every tenth line", DOTTED + LINE * 9)
DOTS_EVERYWHERE = Dots("a dot in every line", DOTTED * 10)


def body_of(size: int, dots: Dots = NO_DOTS) -> bytes:
    """Return a message of about `size` octets in the form on the wire: a header, whole lines, and the end of data."""
    lines = dots.block * (size // len(dots.block) + 1)
    room = max(size - len(HEADER) - len(END), len(LINE))
    end = lines.rindex(b"\r\n", 0, room) + 2
    return HEADER + lines[:end] + END
