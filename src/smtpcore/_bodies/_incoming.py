"""An incoming body: framing, checks and lines, put together."""

from .._buffer import ReceiveBuffer
from .._config import Bodies, Config
from .._replies import Reply
from ._checks import BodyCheck
from ._framing import ChunkFraming, DotFraming, PartFraming
from ._lines import LineSplitter


class Body:
    """A body on its way from the buffer to the program, in the form that the configuration asks for."""

    __slots__ = ("_check", "_framing", "_last", "_splitter", "ended")

    def __init__(self, config: Config, *, binary: bool = False) -> None:
        self._framing: DotFraming | ChunkFraming | PartFraming = DotFraming()
        self._last = True
        self._check = BodyCheck(config, binary=binary)
        self._splitter = LineSplitter(config, binary=binary) if config.bodies is Bodies.LINES else None
        self.ended = False
        """Whether the end of the body, or of its chunk, was found."""

    def begin_chunk(self, size: int, *, last: bool) -> None:
        """Go on with a chunk of `size` octets, where the body is sent with BDAT."""
        self._begin(ChunkFraming(size), last=last)

    def begin_part(self, *, last: bool) -> None:
        """Go on with a part that the program fetches."""
        self._begin(PartFraming(), last=last)

    def end_part(self) -> None:
        """Tell that nothing more of the part will come."""
        assert isinstance(self._framing, PartFraming), "a part has begun"
        self._framing.complete = True

    @property
    def takes_part(self) -> bool:
        """Whether more of a part may come."""
        return isinstance(self._framing, PartFraming) and not self._framing.complete

    def _begin(self, framing: ChunkFraming | PartFraming, *, last: bool) -> None:
        self._framing = framing
        self._last = last
        self.ended = False

    @property
    def fault(self) -> Reply | None:
        """The answer to a body that cannot be accepted."""
        return self._check.fault

    def take(self, buffer: ReceiveBuffer) -> list[bytes]:
        """Take the next lines, or the next run: none if there is not enough input, or if the body has `ended`."""
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
        assert self._splitter, "bodies are asked for in lines"
        lines = self._splitter.split(run)
        return lines + self._splitter.finish() if self.ended and self._last and not self.fault else lines
