"""The stores that the contract tests run on. A further store needs a class here, and a row in `STORES`."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol

import pytest

from smtpcore import Reply
from smtpcore_adapters.maildir import Maildir
from smtpcore_adapters.stores import Envelope, Runtime, StoreHandler

from .endpoint import Endpoint, running_endpoint
from .nats_servers import PROGRAM, WITHOUT_PROGRAM


class TriedStore(Protocol):
    """A store with a view of its contents."""

    @property
    def handler(self) -> object:
        """The object to include in an app."""

    def contents(self) -> list[bytes]:
        """Return the stored messages, with the fields on top, in any order, with CR LF line ends."""

    def leftovers(self) -> Sequence[object]:
        """Return the parts of messages that were neither committed nor dropped."""


def without_fields(content: bytes) -> bytes:
    """Return a stored message without the fields that the server has added, whose last is `Received:`."""
    match = re.match(rb"(?s).*?\r\n\t[A-Z][a-z]{2}, [^\n]*\r\n", content)
    assert match, content[:1000]
    return content[match.end() :]


class MemoryWriter:
    """A message that is being written into a `MemoryStore`."""

    def __init__(self, store: "MemoryStore", envelope: Envelope) -> None:
        self.envelope = envelope
        self.blocks: list[bytes] = []
        self._store = store

    async def write(self, block: bytes) -> None:
        await self._store.step("write", len(self.blocks))
        assert block
        assert type(block) is bytes
        self.blocks.append(block)

    async def commit(self) -> str | Sequence[Reply]:
        await self._store.step("commit", 0)
        self._store.open_writers.remove(self)
        self._store.stored.append(self)
        return self._store.results or self.envelope.id

    async def abort(self) -> None:
        await self._store.step("abort", 0)
        self._store.open_writers.remove(self)


async def _nothing(name: str, number: int) -> None:
    pass


class MemoryStore:
    """A store in memory. `on_step` is called before each step, with its name and the number of earlier blocks."""

    def __init__(self) -> None:
        self.handler = StoreHandler(self)
        self.stored: list[MemoryWriter] = []
        self.open_writers: list[MemoryWriter] = []
        self.steps: list[str] = []
        self.results: list[Reply] = []
        """The results of the recipients; without them `commit` returns the id of the message."""
        self.on_step: Callable[..., object] = _nothing

    async def step(self, name: str, number: int) -> None:
        self.steps.append(name)
        await self.on_step(name, number)  # type: ignore[misc]

    async def open(self, envelope: Envelope, runtime: Runtime) -> MemoryWriter:
        await self.step("open", 0)
        writer = MemoryWriter(self, envelope)
        self.open_writers.append(writer)
        return writer

    def contents(self) -> list[bytes]:
        return [b"".join(writer.blocks) for writer in self.stored]

    def leftovers(self) -> list[MemoryWriter]:
        return self.open_writers


class TriedMaildir:
    """A Maildir."""

    def __init__(self, path: Path) -> None:
        self.handler = Maildir(path)

    def contents(self) -> list[bytes]:
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in (self.handler.path / "new").iterdir()]

    def leftovers(self) -> list[Path]:
        return list((self.handler.path / "tmp").iterdir())


class TriedWebhook:
    """A webhook to a program on a real HTTP server."""

    def __init__(self, endpoint: Endpoint, path: str, handler: object) -> None:
        self.handler = handler
        self._endpoint = endpoint
        self._path = path

    def contents(self) -> list[bytes]:
        return self._endpoint.messages.get(self._path, [])

    def leftovers(self) -> list[object]:
        return []  # the program keeps whole messages only


@contextmanager
def _memory(directory: Path) -> Iterator[TriedStore]:
    yield MemoryStore()


@contextmanager
def _maildir(directory: Path) -> Iterator[TriedStore]:
    yield TriedMaildir(directory / "Maildir")


@contextmanager
def _jetstream(directory: Path) -> Iterator[TriedStore]:
    if PROGRAM is None:
        pytest.skip(WITHOUT_PROGRAM)

    from .jetstreams import TriedJetStream, streams

    with streams() as found:
        tried = TriedJetStream(found)
        try:
            yield tried
        finally:
            tried.store.close()


@contextmanager
def _webhook(directory: Path, *, format: Literal["raw", "multipart"]) -> Iterator[TriedStore]:
    from smtpcore_adapters.stores.webhook import Webhook

    with running_endpoint() as (endpoint, url, path):
        yield TriedWebhook(endpoint, path, Webhook(url, format=format, secret="secret"))


STORES: Final[dict[str, Callable[[Path], AbstractContextManager[TriedStore]]]] = {
    "memory": _memory,
    "Maildir": _maildir,
    "JetStream": _jetstream,
    "webhook": partial(_webhook, format="raw"),
    "webhook form": partial(_webhook, format="multipart"),
}
