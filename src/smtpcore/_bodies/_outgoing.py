"""Put a body into the octets around it."""

# RFC 5321 4.5.2: a line that begins with a dot gets one more, and a line with a single dot ends the body. So a dot is
# doubled behind each CR LF and at the very start: one `replace` for a whole block, and one look at its first octet.
# The check before it never lets a block end between CR and LF, so that no cut can hide the start of a line.
#
# What is checked is what RFC 5321 and the BODY parameter of MAIL promise to the server. A block that breaks a promise
# is not sent at all: the state behind it is made in a copy, which replaces this one only if all is well.

from dataclasses import replace

from .._config import BareNewlines, ClientConfig
from .._errors import LocalProtocolError
from ..parameters import BodyType
from ._checks import BodyCheck

_EIGHT_BIT = (BodyType.EIGHT_BIT_MIME, BodyType.BINARYMIME)


class OutgoingBody:
    """A body on its way to the server."""

    __slots__ = ("_at_line_start", "_check", "_type")

    def __init__(self, config: ClientConfig, type: BodyType | None) -> None:
        self._type = type
        self._check = BodyCheck(config, binary=type is BodyType.BINARYMIME)
        self._at_line_start = True

    def copy(self) -> "OutgoingBody":
        """One that has sent the same, to try what may come next."""
        other = OutgoingBody.__new__(OutgoingBody)
        other._type = self._type
        other._check = self._check.copy()
        other._at_line_start = self._at_line_start
        return other

    # With DATA

    def stuff(self, data: bytes) -> bytes:
        """The octets for a run of the body. A CR at its end waits for what follows.

        Raises `LocalProtocolError` for what may not be sent, after which this object is of no use.
        """
        self._check_octets(data)
        return self._stuff(self._checked(self._check.pass_on(data)))

    def end(self) -> bytes:
        """The octets for the end of the body. Raises `LocalProtocolError` as `stuff` does."""
        tail = self._stuff(self._checked(self._check.finish()))
        if not self._at_line_start:
            # RFC 5321 4.1.1.4: a last line without its end gets one, and a last line that has one no other.
            tail += self._stuff(self._checked(self._check.pass_on(b"\r\n")))

        return tail + b".\r\n"

    def _stuff(self, run: bytes) -> bytes:
        stuffed = run.replace(b"\r\n.", b"\r\n..")
        if self._at_line_start and run.startswith(b"."):
            stuffed = b"." + stuffed
        if run:
            self._at_line_start = run.endswith(b"\r\n")

        return stuffed

    # With BDAT

    def check_chunk(self, data: bytes, *, is_end: bool) -> None:
        """Raise `LocalProtocolError` if `data`, which goes out as it is, may not be sent; `is_end` of the body."""
        self._check_octets(data)
        self._checked(self._check.pass_on(data))
        if is_end:
            self._checked(self._check.finish())

    # Checks

    def _check_octets(self, data: bytes) -> None:
        if self._type not in _EIGHT_BIT and not data.isascii():
            # RFC 6152 section 3, RFC 6531 section 1.2
            raise LocalProtocolError("the body has octets beyond ASCII: MAIL has to say BODY=8BITMIME, or encode it")
        if self._type is not BodyType.BINARYMIME and b"\0" in data:
            # RFC 2045 2.7 and 2.8: neither 7-bit nor 8-bit data have any.
            raise LocalProtocolError("the body has a NUL: MAIL has to say BODY=BINARYMIME, or encode it")

    def _checked(self, run: bytes) -> bytes:
        if self._check.fault:
            raise LocalProtocolError(self._check.fault.lines[0])

        return run


def outgoing_chunks(config: ClientConfig, type: BodyType | None) -> OutgoingBody:
    """A body that goes out in chunks, whose octets were counted before, so that none can be added."""
    return OutgoingBody(replace(config, bare_newlines=BareNewlines.REJECT), type)
