"""Work and memory of the destinations of a message: linear in its octets, however they are cut into pieces."""

import gc
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from smtpcore import Config, Reply
from smtpcore_adapters import App, Message, Session
from smtpcore_adapters.maildir import Maildir
from smtpcore_adapters.stores.webhook import Webhook
from tests.adapters.fakes import ENVELOPE, FakeStream, MessageStore, accepting
from tests.adapters.forward.relay import OK, forwarding
from tests.adapters.harness import BACKENDS, running
from tests.adapters.playbook import ACCEPTED, next_server, session
from tests.playbook import GO_AHEAD

from ..helpers import pieces
from ..long import mostly_long

OCTETS = 120_000
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
FIELD = b"X-A: " + b"a" * 43 + b"\r\n"
HEADER = FIELD * (OCTETS // len(FIELD)) + b"\r\n"
BODIES = {"header": HEADER, "body": b"X: y\r\n\r\n" + HEADER}


class Forgetful(FakeStream):
    """A stream that keeps no record of its calls, which would need more memory than the octets."""

    async def receive(self, timeout: float) -> bytes:
        self.receive_timeouts.clear()
        return await super().receive(timeout)


async def iterate(session: Session, message: Message) -> Reply:
    async for _ in message:
        pass
    return Reply(250)


def iterating(directory: Path) -> App:
    app = accepting()
    app.on("message")(iterate)
    return app


def to_forward(directory: Path) -> App:
    app = App()
    app.include(forwarding())
    return app


DESTINATIONS: dict[str, Callable[[Path], App]] = {
    "iteration": iterating,
    "read": lambda directory: accepting(MessageStore()),
    "Maildir": lambda directory: accepting(Maildir(directory)),
    "Forward": to_forward,
    "Webhook": lambda directory: accepting(Webhook("http://127.0.0.1/")),
}


def receive(
    destination: str, directory: Path, body: bytes, size: int, run: Callable[[Callable[[], object]], None]
) -> None:
    """Let a session receive `body` in segments of `size` octets. `run` is called with the function that does so."""
    dialogue = session(DESTINATIONS[destination](directory), kind=Forgetful)
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED).stream
    dialogue.stream.opened_streams.append(FakeStream(ANSWER) if destination == "Webhook" else hop)
    dialogue.send(ENVELOPE)
    dialogue.stream.script.extend([*pieces(body, size), b".\r\n"])
    run(dialogue.send)
    assert dialogue.codes[-1] == 250, dialogue.replies[-1]


def seconds(destination: str, directory: Path, body: bytes, size: int) -> float:
    """Return the CPU time that a destination takes for a body."""
    taken = 0.0

    def run(work: Callable[[], object]) -> None:
        nonlocal taken
        begun = time.process_time()
        work()
        taken = time.process_time() - begun

    receive(destination, directory, body, size, run)
    return taken


def peak(destination: str, directory: Path, body: bytes, size: int) -> int:
    """Return the largest number of octets that a destination has allocated at a time for a body."""
    most = 0

    def run(work: Callable[[], object]) -> None:
        nonlocal most
        gc.collect()
        tracemalloc.start()
        try:
            work()
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    receive(destination, directory, body, size, run)
    return most


@pytest.mark.parametrize("destination", mostly_long(DESTINATIONS, "Forward"))
def test_header_in_small_pieces_takes_as_much_time_as_a_body(destination: str, tmp_path: Path) -> None:
    header, body = (seconds(destination, tmp_path / "M", BODIES[kind], 2) for kind in ("header", "body"))
    assert header < 3 * body


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("destination", mostly_long(DESTINATIONS, "Forward"))
def test_small_pieces_take_no_more_memory_than_large_pieces(destination: str, kind: str, tmp_path: Path) -> None:
    # The least of three runs counts, because the first use of a function may fill caches, and a thread that an earlier
    # test has left may allocate memory meanwhile.
    body = BODIES[kind][-25_000:]
    most = 3 * min(peak(destination, tmp_path / "M", body, 65_536) for _ in range(3)) + 50_000
    assert any(peak(destination, tmp_path / "M", body, 2) < most for _ in range(3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_of_short_lines_is_linear_in_octets(backend: str) -> None:
    if backend == "asyncio-uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")

    body = b"\r\n" * 200_000
    config = Config(hostname="s.example")
    with running(backend, accepting(MessageStore()), config=config) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354)
        tracemalloc.start()
        try:
            client.send(body + b".\r\n").expect(250)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert most < 10 * len(body)
