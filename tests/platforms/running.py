"""Run the server of each adapter on a simulated system."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from smtpcore_adapters import Address, App, anyio, asyncio, trio
from smtpcore_adapters import socket as threads
from tests.adapters.harness import TIMEOUT, Client

RUNS: dict[str, Callable[..., None]] = {
    "asyncio": asyncio.run,
    "trio": trio.run,
    "anyio on asyncio": partial(anyio.run, backend="asyncio"),
    "anyio on trio": partial(anyio.run, backend="trio"),
    "threads": threads.run,
}
"""The `run` of each adapter."""


def check_run(run: Callable[..., None]) -> None:
    """Check that a server of `run` has a session, and ends with a signal."""
    sessions: list[Any] = []
    threads: list[threading.Thread] = []

    def visit(address: Address) -> None:
        with Client(address) as client:
            client.expect(220).send(b"EHLO c.example\r\n").expect(250)
            sessions.append(client)
            os.kill(os.getpid(), signal.SIGTERM)
            client.expect(421)

    def start(address: Address) -> None:
        threads.append(threading.Thread(target=visit, args=(address,)))
        threads[0].start()

    run(App(), on_ready=start)
    threads[0].join(TIMEOUT)
    assert sessions
