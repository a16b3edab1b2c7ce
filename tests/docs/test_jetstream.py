"""The programs of docs/jetstream.md: a server that stores mail in a stream, and the consumer of the stream."""

import asyncio
import smtplib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from smtpcore import Path, Rcpt, Reply
from smtpcore_adapters import SendResult
from smtpcore_adapters.asyncio import BackgroundServer
from tests.adapters.stores.jetstreams import Streams, streams
from tests.adapters.stores.nats_servers import needs_nats
from tests.docs.test_readme import run_example, source_of

YES, NO, LATER = Reply(250, "OK"), Reply(550, "No"), Reply(450, "Later")


def at(found: Streams, source: str) -> str:
    """Return a program that uses a stream of the tests."""
    url = "nats://127.0.0.1:4222/MAIL"
    assert source.count(url) == 1
    return source.replace(url, found.url)


@needs_nats
def test_message_goes_from_the_server_to_the_consumer() -> None:
    with streams() as found:
        names: dict[str, Any] = {"__name__": "example"}
        exec(at(found, source_of("app.include(StoreHandler(JetStream(")), names)
        with BackgroundServer(names["app"]) as server:
            with smtplib.SMTP(server.address.host, server.address.port, "c.example", timeout=10) as smtp:
                smtp.sendmail("a@c.example", ["u@example.org"], b"Subject: x\r\n\r\nHello\r\n")
                with pytest.raises(smtplib.SMTPRecipientsRefused):
                    smtp.sendmail("a@c.example", ["u@elsewhere.example"], b"")
            (record,) = found.records()
            assert record.body.endswith(b"Subject: x\r\n\r\nHello\r\n")

        program = at(found, source_of("jetstream import consume"))
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as consumer:
            assert consumer.stdout
            assert consumer.stdout.readline() == f"a@c.example u@example.org {record.size}\n"
            consumer.kill()


class FakeMessage:
    """A message from the queue whose decisions are recorded."""

    def __init__(self) -> None:
        self.envelope = self.mail = self
        self.reverse_path = Path("a@c.example")
        self.replies: dict[str, Reply] = {}
        self.decision: tuple[object, ...] = ()

    @property
    def recipients(self) -> list[Rcpt]:
        names = ("u@s.example", "v@s.example")
        return [Rcpt(Path(name)) for name in names if name not in self.replies]

    async def ack(self) -> None:
        self.decision = ("ack",)

    async def retry(self, seconds: float) -> None:
        self.decision = ("retry", seconds)

    async def fail(self) -> None:
        self.decision = ("fail",)


class FakeClient:
    """A client whose server gives the replies in `replies`."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self._replies = replies

    async def send(self, sender: Path, recipients: list[Rcpt], body: object) -> SendResult:
        paths = [rcpt.forward_path for rcpt in recipients]
        return SendResult({path: self._replies[path.address] for path in paths}, YES)


@pytest.mark.parametrize(
    ("one", "other", "decision"),
    [(YES, YES, ("ack",)), (YES, LATER, ("retry", 1800)), (YES, NO, ("fail",)), (NO, LATER, ("retry", 1800))],
)
def test_each_recipient_has_a_result_of_its_own(one: Reply, other: Reply, decision: tuple[object, ...]) -> None:
    deliver = run_example("async def deliver(message, client)")["deliver"]
    message = FakeMessage()
    asyncio.run(deliver(message, FakeClient({"u@s.example": one, "v@s.example": other})))
    assert message.decision == decision
    assert message.replies["u@s.example"] == one
