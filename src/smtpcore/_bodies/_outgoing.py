"""Encode a body for sending: check its content, and add the dot-stuffing."""

# RFC 5321 4.5.2: a line that begins with a dot gets a second dot, and a line with a single dot ends the body. So a dot
# is doubled after each CR LF and at the very start. A block takes one `replace` and one look at its first octet. The
# preceding check never ends a block between CR and LF, so that every start of a line is found however the body was cut.
#
# The check enforces the rules of RFC 5321 and of the BODY parameter of MAIL. No octet of a block that breaks a rule is
# sent: the caller encodes the block with a copy of the object, which replaces the original only on success.

from .._config import ClientConfig
from .._errors import LocalProtocolError
from ..parameters import BodyType
from ._checks import BodyCheck

_EIGHT_BIT = (BodyType.EIGHT_BIT_MIME, BodyType.BINARYMIME)


class OutgoingBody(BodyCheck):
    """A body that is being sent to the server."""

    __slots__ = ("_at_line_start", "_config", "_in_chunks", "_type")

    def __init__(self, config: ClientConfig, type: BodyType | None, *, in_chunks: bool = False) -> None:
        # The size of a chunk is announced first, so line ends cannot be normalized.
        super().__init__(config, binary=type is BodyType.BINARYMIME, fixed_size=in_chunks)
        self._config, self._type, self._in_chunks = config, type, in_chunks
        self._at_line_start = True

    def copy(self) -> "OutgoingBody":
        """Return an object in the same state, for trying out the next block."""
        new = OutgoingBody(self._config, self._type, in_chunks=self._in_chunks)
        new.continue_from(self)
        new._at_line_start = self._at_line_start
        return new

    def stuff(self, data: bytes) -> bytes:
        """Return the octets to send with DATA for a run of the body. Raises `LocalProtocolError` like `check`."""
        return self._stuff(self.check(data))

    def end(self) -> bytes:
        """Return the octets that end the body sent with DATA. Raises `LocalProtocolError` like `check`."""
        tail = self._stuff(self.check(b"", is_end=True))
        if not self._at_line_start:
            # RFC 5321 4.1.1.4: CR LF is added to a last line without line end, and only to such a line.
            tail += self._stuff(self.check(b"\r\n"))

        return tail + b".\r\n"

    def _stuff(self, run: bytes) -> bytes:
        stuffed = run.replace(b"\r\n.", b"\r\n..")
        if self._at_line_start and run.startswith(b"."):
            stuffed = b"." + stuffed
        if run:
            self._at_line_start = run.endswith(b"\r\n")

        return stuffed

    def check(self, data: bytes, *, is_end: bool = False) -> bytes:
        """Return `data` if it may be sent. The next call returns a final CR of `data`, unless `is_end` is set.

        Raises `LocalProtocolError` for content that may not be sent. The object cannot be used afterwards.
        """
        if self._type not in _EIGHT_BIT and not data.isascii():
            # RFC 6152 section 3, RFC 6531 section 1.2
            raise LocalProtocolError("the body has octets beyond ASCII: send MAIL with BODY=8BITMIME, or encode it")
        if self._type is not BodyType.BINARYMIME and b"\0" in data:
            # RFC 2045 2.7 and 2.8: neither 7-bit nor 8-bit data contain NUL.
            raise LocalProtocolError("the body has a NUL octet: send MAIL with BODY=BINARYMIME, or encode it")

        run = self.pass_on(data, is_end=is_end)
        if self.fault:
            raise LocalProtocolError(self.fault.reply.lines[0])

        return run
