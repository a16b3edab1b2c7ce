"""An incoming body: framing, checks, finding the header, and splitting into lines, combined."""

from .. import _rules as rules
from .._buffer import ReceiveBuffer
from .._config import Bodies, Config
from .._rules import Refusal
from ._checks import BodyCheck
from ._framing import ChunkFraming, DotFraming
from ._header import HeaderCollector
from ._lines import LineSplitter


class Body:
    """A body that is being received, returned in the form that `Config.bodies` selects."""

    __slots__ = ("_check", "_collector", "_framing", "_last", "_rest", "_splitter", "ended", "header")

    def __init__(self, config: Config, *, binary: bool = False) -> None:
        self._framing: DotFraming | ChunkFraming = DotFraming()
        self._last = True
        self._check = BodyCheck(config, binary=binary)
        self._splitter = LineSplitter(config, binary=binary) if config.bodies is Bodies.LINES else None
        self._collector = HeaderCollector(config.max_header) if config.max_header else None
        """Collects the header until the header is complete."""
        self._rest = b""
        """Octets that follow the header, to be returned after `header`."""
        self.header: bytes | None = None
        """The complete header. The caller sets None after using the header; until then `take` returns nothing."""
        self.ended = False
        """Whether the end of the body, or of its current chunk, was found."""

    def begin_chunk(self, size: int | None, *, last: bool) -> None:
        """Continue the body with a BDAT chunk of `size` octets, or with a part for a BURL, whose size is None."""
        self._framing = ChunkFraming(size)
        self._last = last
        self.ended = False

    def end_part(self, left: int) -> None:
        """End the part for a BURL after `left` more octets."""
        assert isinstance(self._framing, ChunkFraming), "a part has begun"
        self._framing.left = left

    @property
    def takes_part(self) -> bool:
        """Whether a part for a BURL is being received, and may get more octets."""
        return isinstance(self._framing, ChunkFraming) and self._framing.left is None

    @property
    def fault(self) -> Refusal | None:
        """The refusal of a body that cannot be accepted, or None."""
        return self._check.fault

    def refuse(self, refusal: Refusal) -> None:
        """Make `refusal` the fault of the body, and drop the octets that were not yet taken."""
        self._check.fault = refusal
        self._collector = self.header = None
        self._rest = b""

    def take(self, buffer: ReceiveBuffer) -> list[bytes]:
        """Take the next lines or the next run.

        The list is empty if more input is needed, if `header` was found, or if the body has `ended`.
        """
        pieces: list[bytes] = []
        while not pieces and self.header is None and (self._rest or not self.ended):
            if self._rest:
                passed, self._rest = self._rest, b""
            else:
                run = self._framing.take(buffer)
                self.ended = self._framing.ended
                if not run and not self.ended:
                    break

                is_end = self.ended and self._last
                passed = self._check.pass_on(run, is_paired=self._framing.is_paired, is_end=is_end)
                if self._collector:
                    passed, self._rest = self._cut_header(self._collector, passed)

            if self._splitter:
                is_end = self.ended and self._last and not self._rest
                pieces = self._splitter.split(passed, is_end=is_end and not self.fault)
            elif passed:
                pieces = [passed]

        return pieces

    def _cut_header(self, collector: HeaderCollector, passed: bytes) -> tuple[bytes, bytes]:
        """Return the octets of `passed` in the header, and the octets after the header."""
        octets, is_complete = collector.take(passed)
        if collector.is_too_large:
            self._check.fault = rules.HEADER_TOO_LARGE
            self._collector = None
            return passed[: octets - 1], b""
        if is_complete or (self.ended and self._last and not self.fault):
            self.header = collector.octets
            self._collector = None

        return passed[:octets], passed[octets:]
