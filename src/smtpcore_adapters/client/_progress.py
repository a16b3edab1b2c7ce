"""The progress of a body: how much was sent, and how long the program took for it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int | None], object]
"""A function that gets the number of octets that were sent, and the size of the body or None."""


class Progress:
    """The octets of the current body that were sent."""

    def __init__(self, report: Report | None = None, total: int | None = None) -> None:
        self._report = report
        self._total = total
        self._sent = 0
        self.error: Exception | None = None
        """The exception that the iteration over the body, or the function of the program, raised."""
        self.slowest: float = 0.0
        """The longest time that the iteration over the body took for a piece, in seconds."""

    def begin(self) -> None:
        """Begin a body: a message may be sent in several transactions."""
        self._sent, self.slowest = 0, 0.0

    async def watched(
        self, pieces: AsyncGenerator[bytes, None], clock: Callable[[], float]
    ) -> AsyncGenerator[bytes, None]:
        """Iterate over the body, and remember its slowest piece and its exception."""
        async with aclosing(pieces):
            begin = clock()
            try:
                async for piece in pieces:
                    self.slowest = max(self.slowest, clock() - begin)
                    yield piece
                    begin = clock()
            except Exception as exc:
                self.error = exc
                raise

    def add(self, octets: int) -> None:
        """Count octets that were sent, and call the function of the program."""
        self._sent += octets
        if self._report is None:
            return

        try:
            self._report(self._sent, self._total)
        except Exception as exc:
            self.error = exc
            raise
