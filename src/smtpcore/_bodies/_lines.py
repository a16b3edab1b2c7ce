"""Split the blocks of a body into lines."""

from .._config import BareNewlines, Config


class LineSplitter:
    """Cuts runs into lines, each with its CR LF; and those of a binary body, which need not have any, into pieces."""

    __slots__ = ("_binary", "_has_bare_newlines", "_longest", "_partial")

    def __init__(self, config: Config, *, binary: bool) -> None:
        self._binary = binary
        self._has_bare_newlines = binary or config.bare_newlines is BareNewlines.ACCEPT
        self._longest = config.max_text_line
        self._partial = bytearray()  # not a list: an octet in an object of its own takes the room of forty

    def split(self, run: bytes) -> list[bytes]:
        """The lines that are complete now."""
        lines = _split_at_crlf(run) if self._has_bare_newlines else run.splitlines(keepends=True)
        if lines and self._partial and lines[0].endswith(b"\r\n"):
            lines[0] = self._take_partial() + lines[0]
        if lines and not lines[-1].endswith(b"\r\n"):
            self._partial += lines.pop()

        return self._cut(lines) if self._binary else lines

    def finish(self) -> list[bytes]:
        """What is left at the end of the body: only one that was sent with BDAT may end in the middle of a line."""
        return [self._take_partial()] if self._partial else []

    def _take_partial(self) -> bytes:
        partial = bytes(self._partial)
        self._partial.clear()
        return partial

    def _cut(self, lines: list[bytes]) -> list[bytes]:
        # Else a line without end would have to be held whole.
        if len(self._partial) > self._longest:
            lines.append(self._take_partial())

        pieces = [piece for line in lines for piece in self._pieces(line)]
        if pieces and not pieces[-1].endswith(b"\r\n"):
            self._partial += pieces.pop()

        return pieces

    def _pieces(self, line: bytes) -> list[bytes]:
        # The CR LF does not count, so that it stays with the end of its line.
        cuts = range(self._longest, len(line.removesuffix(b"\r\n")), self._longest)
        return [line[start:end] for start, end in zip((0, *cuts), (*cuts, len(line)), strict=True)]


def _split_at_crlf(run: bytes) -> list[bytes]:
    *lines, rest = run.split(b"\r\n")
    return [line + b"\r\n" for line in lines] + [rest] * bool(rest)
