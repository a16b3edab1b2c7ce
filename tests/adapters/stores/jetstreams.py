"""Streams of a real NATS server, one server for all tests of a process."""

import asyncio
import atexit
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import cache
from secrets import token_hex
from typing import Any, TypeVar

import nats
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from benchmarks.ports import reserved_ports
from smtpcore import Mail, Path, Rcpt, Reply
from smtpcore_adapters import Stream
from smtpcore_adapters.stores import Envelope, StoreHandler
from smtpcore_adapters.stores.jetstream import JetStream
from smtpcore_adapters.stores.jetstream._records import Record, parse_record

from .nats_servers import NatsServer

T = TypeVar("T")


@cache
def shared_server() -> NatsServer:
    """Return a server without a cluster, which runs until the end of the process."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="nats"))
    stack = ExitStack()
    atexit.register(stack.close)
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    server = NatsServer(directory / "server", "alone", stack.enter_context(reserved_ports(3)))
    stack.callback(server.kill)
    server.start()
    return server


class Streams:
    """The two streams of a store, seen by another client."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name

    @property
    def url(self) -> str:
        return f"nats://{self.address}/{self.name}"

    def run(self, function: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """Call a coroutine function with a connection."""

        async def main() -> T:
            client = await nats.connect(f"nats://{self.address}", connect_timeout=10)
            try:
                return await function(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(main())

    def subjects(self, stream: str) -> list[str]:
        """Return the subjects of the messages in a stream."""

        async def read(context: JetStreamContext) -> list[str]:
            try:
                found = (await context.stream_info(stream, subjects_filter=">")).state.subjects
            except NotFoundError:
                return []
            return sorted(found or {})

        return self.run(read)

    def records(self) -> list[Record]:
        """Return the records in the order of their arrival, each with its whole body."""

        async def read(context: JetStreamContext) -> list[Record]:
            try:
                state = (await context.stream_info(self.name)).state
            except NotFoundError:
                return []
            return [
                await self._whole(context, await context.get_msg(self.name, number))
                for number in range(max(state.first_seq, 1), state.last_seq + 1)
                if number not in (state.deleted or ())
            ]

        return self.run(read)

    async def _whole(self, context: JetStreamContext, message: Any) -> Record:
        record = parse_record(message.data)
        body = record.body
        for number in range(record.chunks):
            chunk = await context.get_last_msg(
                f"{self.name}_bodies", f"{self.name}.body.{record.envelope.key}.{number}"
            )
            body += chunk.data or b""
        assert len(body) == record.size
        return Record(envelope=record.envelope, size=record.size, replies=record.replies, body=body)

    def chunks(self) -> list[str]:
        """Return the subjects of chunks and states."""
        return self.subjects(f"{self.name}_bodies")

    def delete(self) -> None:
        async def delete(context: JetStreamContext) -> None:
            for name in (self.name, f"{self.name}_bodies"):
                with suppress(NotFoundError):
                    await context.delete_stream(name)

        self.run(delete)


@contextmanager
def streams() -> Iterator[Streams]:
    """Lend the streams of a new name."""
    found = Streams(shared_server().address, f"T{token_hex(6)}")
    try:
        yield found
    finally:
        found.delete()


class TriedJetStream:
    """A stream of a server without a cluster."""

    def __init__(self, found: Streams) -> None:
        self.streams = found
        self.store = JetStream(found.url, replicas=1)
        self.handler = StoreHandler(self.store)

    def contents(self) -> list[bytes]:
        return [record.body for record in self.streams.records()]

    def leftovers(self) -> list[str]:
        used = {record.envelope.key for record in self.streams.records()}
        return [subject for subject in self.streams.chunks() if subject.split(".")[2] not in used]


def make_envelope(*recipients: str, **fields: Any) -> Envelope:
    """Return an envelope with these recipients."""
    return Envelope(
        **{
            "id": "1.1",
            "mail": Mail(Path("a@c.example")),
            "recipients": tuple(Rcpt(Path(address)) for address in recipients or ("u@s.example",)),
            "received_at": datetime.now(UTC),
            "protocol": "ESMTP",
            "hostname": "s.example",
            "received": b"Received: from c.example\r\n",
            **fields,
        }
    )


class AsyncioRuntime:
    """The surroundings of a store outside of a session."""

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return await asyncio.to_thread(function, *args)

    async def open_stream(self, host: str, port: int, timeout: float, **how: Any) -> Stream:
        raise NotImplementedError

    def shield(self, seconds: float) -> AbstractContextManager[object]:
        return nullcontext()


async def put(store: JetStream, *blocks: bytes, **fields: Any) -> str | Sequence[Reply]:
    """Write a message into a store."""
    writer = await store.open(make_envelope(**fields), AsyncioRuntime())
    for block in blocks:
        await writer.write(block)
    return await writer.commit()
