"""Many clients of smtplib send while their server stops: no client raises after its message was taken."""

import smtplib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from smtpcore import Reply
from smtpcore_adapters import Address, App, Message, Session
from smtpcore_adapters.asyncio import BackgroundServer
from tests.adapters.fakes import accepting
from tests.adapters.harness import BACKENDS, TIMEOUT, running

SENDERS: Final = 50
WAITING: Final = "waiting@c.example"
"""The sender of messages whose handler waits until the server stops."""


class Traffic:
    """An application, and clients that send messages to it until it stops."""

    def __init__(self) -> None:
        self.app: App = accepting(self)
        self.failures: list[Exception] = []
        """The exceptions that clients have raised after the 250 to their message."""
        self._held = threading.Semaphore(0)

    async def on_message(self, session: Session, message: Message) -> Reply:
        if str(message.reverse_path) == WAITING:
            self._held.release()
            await session.sleep(TIMEOUT)  # a stop of the server ends this wait
        await message.read()
        return Reply(250, "Stored")

    def run(self, address: Address, stop: Callable[[], object]) -> int:
        """Call `stop` while messages are in progress. Return the number of messages that were taken."""
        with ThreadPoolExecutor(SENDERS) as pool:
            taken = [
                pool.submit(self._send_until_refused, address, WAITING if number % 2 else "busy@c.example")
                for number in range(SENDERS)
            ]
            for _ in range(SENDERS // 2):
                assert self._held.acquire(timeout=TIMEOUT)
            stop()
            return sum(each.result() for each in taken)

    def _send_until_refused(self, address: Address, sender: str) -> int:
        messages = 0
        while True:
            was_taken = False
            try:
                with smtplib.SMTP(address.host, address.port, "c.example", timeout=TIMEOUT) as client:
                    client.sendmail(sender, ["u@s.example"], b"Subject: x\r\n\r\nbody\r\n")
                    messages += 1
                    was_taken = True
            except (smtplib.SMTPException, OSError) as exc:
                if was_taken:
                    self.failures.append(exc)
                return messages


@pytest.mark.parametrize("backend", [*BACKENDS, "background"])
def test_no_client_fails_after_its_message_was_taken_when_the_server_stops(backend: str) -> None:
    traffic = Traffic()
    if backend == "background":
        background = BackgroundServer(traffic.app).start()
        messages = traffic.run(background.address, background.stop)
    else:
        with running(backend, traffic.app) as server:
            messages = traffic.run(server.server.address, server.leave)

    assert traffic.failures == []
    assert messages >= SENDERS // 2
