"""A client over a scripted stream in memory."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from smtpcore import ProtocolError, Reply
from smtpcore_adapters import Client, SendResult, Stream, TlsMode
from smtpcore_adapters.client._connecting import open_client
from tests.adapters.fakes import FakeStream, Step, step

GREETING = b"220 s.example\r\n"
OK = b"250 ok\r\n"
CONTINUE = b"354 go on\r\n"
ACCEPTED = b"250 2.0.0 taken\r\n"
BYE = b"221 bye\r\n"
SENDER = "a@c.example"
ONE = "b@s.example"
TWO = "c@s.example"


def ehlo(*keywords: str) -> bytes:
    lines = ["s.example", *keywords]
    return "".join(f"250{'-' if line is not lines[-1] else ' '}{line}\r\n" for line in lines).encode()


class ScriptedClient:
    """A client connected to a scripted stream; each write after the hello is in `stream.sent`."""

    def __init__(self, *script: Step, hello: bytes = ehlo(), **options: Any) -> None:
        self.stream = FakeStream(GREETING, hello, *script)
        self.client = self.connect(**options)
        self.stream.sent.clear()

    def connect(self, **options: Any) -> Client:
        options.setdefault("hostname", "c.example")
        options.setdefault("tls", TlsMode.NONE)
        return step(open_client(opener(self.stream), "s.example", 25, **options))

    def send(self, body: Any = b"hi\r\n", to: Any = ONE, **options: Any) -> SendResult:
        return step(self.client.send(SENDER, to, body, **options))

    @property
    def lines(self) -> list[str]:
        return self.stream.output.decode().split("\r\n")


def opener(stream: FakeStream) -> Any:
    async def open_stream(
        host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        stream.opened.append((host, port))
        return stream

    return open_stream


def connect(*script: Step, **options: Any) -> tuple[Client, FakeStream]:
    stream = FakeStream(*script)
    options.setdefault("hostname", "c.example")
    return step(open_client(opener(stream), "s.example", 25, **options)), stream


def refuse(*script: Step, **options: Any) -> tuple[BaseException, FakeStream]:
    stream = FakeStream(*script)
    options.setdefault("hostname", "c.example")
    with pytest.raises((OSError, ProtocolError)) as caught:
        step(open_client(opener(stream), "s.example", 25, **options))
    return caught.value, stream


ACCEPTED_REPLY = Reply(250, "taken", enhanced="2.0.0")


async def chunks(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
