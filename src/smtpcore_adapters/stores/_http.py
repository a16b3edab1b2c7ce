"""One HTTP/1.1 request whose body is sent in blocks, over the streams of the adapters."""

# h11 parses and writes HTTP, and the stream belongs to the framework of the session. So a block is sent when it is
# there, without a task or a thread that feeds a client library, and the request may end with trailer fields.
#
# A server may answer, close the connection or stop reading before the body has ended. Input that has arrived is
# therefore parsed before each block is sent, and once more after a failure to send: an answer that explains the failure
# is then usually there.
#
# A block may take `timeout` seconds, and the whole answer as many again. A limit for each read alone could be defeated
# by a server that sends one octet just before it expires. The octets of an answer are bounded by `MAX_ANSWER`.

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import h11

from ..streams._stream import Stream
from ._store import StoreUnavailable

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Names and values of header fields, in ASCII."""

MAX_ANSWER = 131_072
"""Maximum octets of an answer: header and the part of the body that is read."""
_TIME_TO_EXPLAIN = 1.0  # seconds that a server which has closed the connection gets for its answer to arrive


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the server, at first without its body."""

    status: int
    """The status code, 200 or more."""
    content_type: str
    """The media type in lower case, without parameters; empty if the answer has none."""


class Exchange:
    """A POST request and its answer, on a connection of their own."""

    def __init__(self, stream: Stream, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._timeout = timeout
        self._clock = clock
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
        self._received = 0
        self._deadline = 0.0
        """The time at which the answer, with its body, has to be complete."""

    async def begin(self, target: str, headers: Headers) -> None:
        """Send the header of the request. Raises `OSError`."""
        await self._send(h11.Request(method="POST", target=target, headers=list(headers)))

    async def send(self, block: bytes) -> Answer | None:
        """Send a block of the body. Return the answer if the server has answered already; the request is then over.

        Raises `OSError` or `StoreUnavailable`.
        """
        try:
            arrived = await self._stream.receive_arrived()
            if arrived is not None:
                self._take(arrived)
                answer = self._parse()
                if answer:
                    self._start_deadline(self._timeout)
                    return answer
            await self._send(h11.Data(data=block))
        except OSError as exc:
            return await self._explain(exc)

        return None

    async def finish(self, trailers: Headers = ()) -> Answer:
        """Send the end of the body, and return the answer. Raises `OSError` or `StoreUnavailable`."""
        try:
            await self._send(h11.EndOfMessage(headers=list(trailers)))
        except OSError as exc:
            return await self._explain(exc)

        return await self._receive_answer(self._timeout)

    async def read(self) -> bytes:
        """Return the whole body of the answer. Raises `OSError` or `StoreUnavailable`."""
        body = b""
        while not isinstance(event := await self._next_event(), h11.EndOfMessage):
            body += event.data if isinstance(event, h11.Data) else b""

        return body

    async def read_line(self) -> bytes:
        """Return the first line of the body of the answer, or a part of this line if no more can be received."""
        body = b""
        try:
            while b"\n" not in body and not isinstance(event := await self._next_event(), h11.EndOfMessage):
                body += event.data if isinstance(event, h11.Data) else b""
        except (OSError, StoreUnavailable):
            pass  # the status has decided; the text only explains it

        return body.partition(b"\n")[0]

    async def aclose(self) -> None:
        """Close the connection. A server cannot mistake a part of a body for the whole, because its end is missing."""
        await self._stream.aclose(0)

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        await self._stream.send(data or b"", self._timeout)

    async def _explain(self, exc: OSError) -> Answer:
        """Return the answer of a server that reads no more, or raise `exc` without an answer."""
        try:
            return await self._receive_answer(_TIME_TO_EXPLAIN)
        except (OSError, StoreUnavailable):
            raise exc from None

    async def _receive_answer(self, seconds: float) -> Answer:
        self._start_deadline(seconds)
        while not (answer := self._parse()):
            await self._receive()

        return answer

    def _start_deadline(self, seconds: float) -> None:
        self._deadline = self._clock() + seconds

    async def _receive(self) -> None:
        left = self._deadline - self._clock()
        if left <= 0:
            raise TimeoutError("the answer took too long")

        self._require_room()
        self._take(await self._stream.receive(left))

    def _require_room(self) -> None:
        if self._received >= MAX_ANSWER:
            raise StoreUnavailable("the answer is too long")

    def _take(self, data: bytes) -> None:
        self._require_room()
        if not data and self._http.their_state is h11.SEND_RESPONSE:
            raise StoreUnavailable("the server has closed the connection without an answer")

        # The header can be complete within a block that exceeds the limit, so the block is cut.
        room = MAX_ANSWER - self._received
        self._received += len(data)
        self._http.receive_data(data[:room])

    def _parse(self) -> Answer | None:
        """Return the answer if its header has arrived."""
        event = self._event()
        while isinstance(event, h11.InformationalResponse):
            event = self._event()
        if event is h11.NEED_DATA:
            return None
        assert isinstance(event, h11.Response), "a server may send nothing else first"
        kind = next((value for name, value in event.headers if name == b"content-type"), b"")
        return Answer(event.status_code, kind.decode("latin-1").partition(";")[0].strip().lower())

    async def _next_event(self) -> object:
        while (event := self._event()) is h11.NEED_DATA:
            await self._receive()

        return event

    def _event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as exc:
            raise StoreUnavailable(f"the answer is not HTTP: {exc}") from exc
