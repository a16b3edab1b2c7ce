"""Split the blocks of a body into lines."""

from .._config import BareNewlines, Config


class LineSplitter:
    """Splits runs into lines that end with CR LF. Long lines of a binary body are split into pieces."""

    __slots__ = ("_binary", "_has_bare_newlines", "_longest", "_partial")

    def __init__(self, config: Config, *, binary: bool) -> None:
        self._binary = binary
        self._has_bare_newlines = binary or config.bare_newlines is BareNewlines.ACCEPT
        assert config.max_text_line, "Config requires a limit for lines"
        self._longest = config.max_text_line
        self._partial = bytearray()  # a list of single octets would take forty times the memory

    def split(self, run: bytes, *, is_end: bool = False) -> list[bytes]:
        """Return the lines that are complete after `run`.

        `is_end` marks the end of the body. A last line without CR LF, which BDAT permits, is then returned too.
        """
        if self._has_bare_newlines:
            *found, rest = run.split(b"\r\n")
            lines = [line + b"\r\n" for line in found] + [rest] * bool(rest)
        else:
            lines = run.splitlines(keepends=True)

        if lines and self._partial and lines[0].endswith(b"\r\n"):
            lines[0] = self._take_partial() + lines[0]
        if lines and not lines[-1].endswith(b"\r\n"):
            self._partial += lines.pop()
        if self._binary:
            lines = self._cut(lines)
        if is_end and self._partial:
            lines.append(self._take_partial())

        return lines

    def _take_partial(self) -> bytes:
        partial = bytes(self._partial)
        self._partial.clear()
        return partial

    def _cut(self, lines: list[bytes]) -> list[bytes]:
        # Without this cut, an endless line would fill the memory.
        if len(self._partial) > self._longest:
            lines.append(self._take_partial())

        pieces: list[bytes] = []
        for line in lines:
            # CR LF is not counted, so that it stays with the last piece of its line.
            cuts = range(self._longest, len(line.removesuffix(b"\r\n")), self._longest)
            pieces += [line[start:end] for start, end in zip((0, *cuts), (*cuts, len(line)), strict=True)]
        if pieces and not pieces[-1].endswith(b"\r\n"):
            self._partial += pieces.pop()

        return pieces
