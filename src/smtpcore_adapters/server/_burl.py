"""The parts of a message that the server fetches (RFC 4468)."""

import re
from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol, runtime_checkable
from urllib.parse import unquote

from smtpcore import Burl

_find_submitters = re.compile(r";urlauth=submit\+([^:;]*)", re.IGNORECASE).findall


def is_for(uri: str, identity: str | None) -> bool:
    """Return whether a client with this identity may use `uri`. A URL can name the user who may submit its content."""
    return all(unquote(submitter) == identity for submitter in _find_submitters(uri))  # RFC 4468 3.3


@runtime_checkable
class _Closable(Protocol):
    """An asynchronous iterator that can be closed, such as a generator."""

    async def aclose(self) -> None: ...


class BurlPart:
    """The content of one BURL, while the handler fetches it."""

    def __init__(self, burl: Burl, octets: bytes | AsyncIterable[bytes]) -> None:
        self.burl = burl
        self._pieces: AsyncIterator[bytes] = aiter(_once(octets) if isinstance(octets, bytes) else octets)

    async def next_piece(self) -> bytes:
        """Return the next octets, empty at the end of the part. Passes on the handler's exceptions."""
        async for piece in self._pieces:
            if piece:
                return piece

        return b""

    async def aclose(self) -> None:
        """Close the handler's iterator, if it can be closed. Passes on the handler's exceptions."""
        if isinstance(self._pieces, _Closable):
            await self._pieces.aclose()


async def _once(octets: bytes) -> AsyncIterator[bytes]:
    yield octets
