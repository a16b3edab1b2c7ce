"""Standard output with an exception of its own for a full disk or a closed pipe."""

# Many commands catch `OSError` around their work, and report it as a failure of a server or a file. For a closed pipe,
# click and rich end the process with status 1, which is the status of `smtpcore check` for faults.

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CLOSED_PIPE = 141
"""The exit status if nobody reads the output any more: 128 + SIGPIPE, as shells report it of other programs."""


class OutputError(Exception):
    """Standard output cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.reason = error.strerror or str(error)
        """The text of the system for the error."""
        self.is_closed_pipe = isinstance(error, BrokenPipeError)
        """Whether standard output is a pipe that nobody reads any more, as in `smtpcore config | head -1`."""


class _File(io.FileIO):
    """The file of standard output."""

    is_given_up = False
    """Whether everything is discarded, because Python writes the rest of the buffers once more at the end."""

    def write(self, data: "ReadableBuffer", /) -> int | None:  # type: ignore[override] # a full pipe gives None
        if self.is_given_up:
            return memoryview(data).nbytes

        try:
            return super().write(data)
        except OSError as exc:
            raise OutputError(exc) from exc


@contextmanager
def raising_output_errors() -> Iterator[None]:
    """Raise `OutputError` in place of `OSError` for standard output in the block, if it is a file, pipe or terminal."""
    before = sys.stdout
    buffer = before.buffer if isinstance(before, io.TextIOWrapper) else None
    raw = getattr(buffer, "raw", buffer)  # with `python -u` there is no buffer
    if not isinstance(before, io.TextIOWrapper) or type(raw) is not io.FileIO:
        yield  # closed, replaced by a test, or a console of Windows
        return

    before.flush()
    file = _File(raw.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        file if buffer is raw else io.BufferedWriter(file),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=bool(before.line_buffering),
        write_through=before.write_through,
    )
    try:
        yield
    finally:
        used: TextIO | None = sys.stdout
        sys.stdout = before
        try:
            if used:  # None if the command has ignored a failure
                used.flush()
        finally:
            file.is_given_up = True
