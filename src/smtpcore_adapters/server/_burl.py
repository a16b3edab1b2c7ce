"""The parts of a message that the server fetches (RFC 4468)."""

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from urllib.parse import unquote

from smtpcore import Burl

_find_submitters = re.compile(r";urlauth=submit\+([^:;]*)", re.IGNORECASE).findall


def is_for(uri: str, identity: str | None) -> bool:
    """Whether a client with this identity may have `uri` fetched: a URL that names a submitter is for no one else."""
    return all(unquote(submitter) == identity for submitter in _find_submitters(uri))  # RFC 4468 3.3


class BurlPart:
    """What a BURL asks for, while the program fetches it."""

    def __init__(self, burl: Burl, octets: bytes | AsyncIterable[bytes]) -> None:
        self.burl = burl
        self._pieces: AsyncIterator[bytes] = aiter(_once(octets) if isinstance(octets, bytes) else octets)

    async def next_piece(self) -> bytes:
        """The next octets, empty at the end of the part. Raises what the program raises."""
        async for piece in self._pieces:
            if piece:
                return piece

        return b""

    async def aclose(self) -> None:
        """Tell the program that no more is wanted. Raises what the program raises."""
        if isinstance(self._pieces, AsyncGenerator):
            await self._pieces.aclose()


async def _once(octets: bytes) -> AsyncIterator[bytes]:
    yield octets
