"""An incoming body: framing, checks, and splitting into lines, combined."""

from .._buffer import ReceiveBuffer
from .._config import Bodies, Config
from .._rules import Refusal
from ._checks import BodyCheck
from ._framing import ChunkFraming, DotFraming, PartFraming
from ._lines import LineSplitter


class Body:
    """A body that is being received, returned in the form that `Config.bodies` selects."""

    __slots__ = ("_check", "_framing", "_last", "_splitter", "ended")

    def __init__(self, config: Config, *, binary: bool = False) -> None:
        self._framing: DotFraming | ChunkFraming | PartFraming = DotFraming()
        self._last = True
        self._check = BodyCheck(config, binary=binary)
        self._splitter = LineSplitter(config, binary=binary) if config.bodies is Bodies.LINES else None
        self.ended = False
        """Whether the end of the body, or of its current chunk, was found."""

    def begin_chunk(self, size: int, *, last: bool) -> None:
        """Continue the body with a BDAT chunk of `size` octets."""
        self._begin(ChunkFraming(size), last=last)

    def begin_part(self, *, last: bool) -> None:
        """Continue the body with a part that the program fetches for a BURL."""
        self._begin(PartFraming(), last=last)

    def end_part(self) -> None:
        """Mark the current part as complete."""
        assert isinstance(self._framing, PartFraming), "end_part follows begin_part"
        self._framing.complete = True

    @property
    def takes_part(self) -> bool:
        """Whether the current part is still incomplete."""
        return isinstance(self._framing, PartFraming) and not self._framing.complete

    def _begin(self, framing: ChunkFraming | PartFraming, *, last: bool) -> None:
        self._framing = framing
        self._last = last
        self.ended = False

    @property
    def fault(self) -> Refusal | None:
        """The refusal of a body that cannot be accepted, or None."""
        return self._check.fault

    def take(self, buffer: ReceiveBuffer) -> list[bytes]:
        """Take the next lines or the next run. The list is empty if more input is needed or the body has `ended`."""
        pieces: list[bytes] = []
        while not pieces and not self.ended:
            run = self._framing.take(buffer)
            self.ended = self._framing.ended
            if not run and not self.ended:
                break

            passed = self._check.pass_on(run, is_paired=self._framing.is_paired)
            if self.ended and self._last:
                passed += self._check.finish()

            pieces = self._split(passed) if self._splitter else [passed] * bool(passed)

        return pieces

    def _split(self, run: bytes) -> list[bytes]:
        assert self._splitter, "_split is only called when bodies are split into lines"
        lines = self._splitter.split(run)
        return lines + self._splitter.finish() if self.ended and self._last and not self.fault else lines
