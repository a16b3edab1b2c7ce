"""Report the progress of a body to the program."""

from collections.abc import Callable
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

    def begin(self) -> None:
        """Begin a body: a message may be sent in several transactions."""
        self._sent = 0

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
