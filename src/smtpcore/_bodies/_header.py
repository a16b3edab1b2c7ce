"""Find the end of the header of a body."""

_EMPTY_LINE = b"\r\n"
_END = b"\r\n" + _EMPTY_LINE


class HeaderCollector:
    """Collects the header of a body, up to and including the empty line after the header."""

    __slots__ = ("_limit", "_octets")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._octets = bytearray()

    @property
    def octets(self) -> bytes:
        """The collected octets."""
        return bytes(self._octets)

    @property
    def is_too_large(self) -> bool:
        """Whether the header exceeds the limit. One octet more than the limit is then collected."""
        return len(self._octets) > self._limit

    def take(self, run: bytes) -> tuple[int, bool]:
        """Collect octets from the start of `run`. Return their number, and whether the header is complete."""
        octets = self._octets
        begun = len(octets)
        octets += run[: self._limit + 1 - begun]
        if octets.startswith(_EMPTY_LINE):
            end = len(_EMPTY_LINE)  # a header without fields (RFC 5322 3.5)
        else:
            before = octets.find(_END, max(begun - len(_END) + 1, 0))
            end = before + len(_END) if before >= 0 else self._limit + 1
        is_complete = end <= self._limit
        if is_complete:
            del octets[end:]

        return len(octets) - begun, is_complete
