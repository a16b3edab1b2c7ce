"""The handler of stores: blocks, replies to failures, results of recipients, and aborts."""

import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from smtpcore import DataChunk, Reply
from smtpcore_adapters import Session
from smtpcore_adapters.stores import StoreFull, StoreHandler, StoreRefusal, StoreUnavailable
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG, DATA, EHLO, ENVELOPE, MAIL, QUIT, RCPT, SILENCE, Step, accepting
from tests.adapters.harness import running
from tests.adapters.playbook import SessionPlaybook, session

from .tried import MemoryStore, without_fields

LINE = b"x" * 98 + b"\r\n"
LARGE = LINE * 50
TWO = MAIL + RCPT + b"RCPT TO:<v@s.example>\r\n" + DATA


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.handler = StoreHandler(store, block_size=1000)
    return store


def deliver(store: MemoryStore, *script: Step) -> SessionPlaybook:
    return session(accepting(store.handler)).send(ENVELOPE, *script).end()


@pytest.mark.parametrize("size", [1, 7, 999, 1000, 1001, 100_000])
def test_blocks_have_the_configured_size_for_pieces_of_any_size(size: int, store: MemoryStore) -> None:
    script = b"".join(
        b"BDAT %d\r\n%b" % (len(piece), piece) for piece in (LARGE[at : at + size] for at in range(0, len(LARGE), size))
    )
    session(accepting(store.handler)).send(EHLO + MAIL + RCPT + script + b"BDAT 0 LAST\r\n").end()
    (writer,) = store.stored
    assert {len(block) for block in writer.blocks[:-1]} == {1000}
    assert 0 < len(writer.blocks[-1]) <= 1000
    assert without_fields(b"".join(writer.blocks)) == LARGE


def test_fields_on_top_are_those_that_the_store_wants() -> None:
    for content, on_top in ((b"", b"A: b\r\n"), (b" x\r\n", b"A: b\r\n\r\n"), (b"x\r\n", b"A: b\r\n")):
        store = MemoryStore()
        store.handler = StoreHandler(store, fields=lambda envelope: b"A: b\r\n")
        deliver(store, content + b".\r\n")
        assert store.contents() == [on_top + content]


def test_store_without_fields_gets_the_message_alone() -> None:
    store = MemoryStore()
    store.handler = StoreHandler(store, fields=lambda envelope: b"")
    deliver(store, b" x\r\n.\r\n")
    deliver(store, b".\r\n")
    assert store.contents() == [b" x\r\n", b""]


def test_block_size_has_to_be_positive(store: MemoryStore) -> None:
    with pytest.raises(ValueError, match="block_size is 0"):
        StoreHandler(store, block_size=0)


def test_looping_message_is_dropped(store: MemoryStore) -> None:
    store.handler = StoreHandler(store, max_hops=1)
    assert deliver(store, b"Received: x\r\n" * 2 + b".\r\n").replies[-1].startswith("554 5.4.6")
    assert store.steps == ["open", "abort"]


# Failures

FAILURES: dict[str, tuple[Callable[[], Exception], str]] = {
    "no space": (lambda: OSError(errno.ENOSPC, "full"), "452 4.3.1 No space left for this message"),
    "full": (lambda: StoreFull("full"), "452 4.3.1 No space left for this message"),
    "error": (lambda: OSError(errno.EIO, "broken"), "451 4.3.0 Message {} could not be stored"),
    "timeout": (lambda: TimeoutError("slow"), "451 4.3.0 Message {} could not be stored"),
    "unavailable": (lambda: StoreUnavailable("away"), "451 4.3.0 Message {} could not be stored"),
    "refused": (lambda: StoreRefusal(Reply(550, "unwanted", enhanced="5.7.1")), "550 5.7.1 unwanted"),
    "goodbye": (lambda: StoreRefusal(Reply(421, "go away", enhanced="4.3.2")), "451 4.3.2 go away"),
}
STEPS = [("open", 0), ("write", 0), ("write", 1), ("commit", 0)]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("step", STEPS)
def test_failure_at_each_step_is_a_refusal_and_stores_nothing(
    step: tuple[str, int], failure: str, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    make, reply = FAILURES[failure]

    async def fail(name: str, number: int) -> None:
        if (name, number) == step:
            raise make()

    caplog.set_level("INFO", "smtpcore")
    store.on_step = fail
    dialogue = deliver(store, LARGE + b".\r\n" + MAIL + RCPT)
    name = f"{dialogue.session.id}.1"
    assert dialogue.replies[-3] == reply.format(name)
    assert dialogue.codes[-2:] == [250, 250]
    assert store.stored == []
    assert store.open_writers == []
    assert store.steps.count("abort") == (step[0] != "open")
    own = [record for record in caplog.records if record.message.startswith(f"{dialogue.session.id}: message {name}")]
    assert len(own) == 1
    assert own[0].levelname == ("INFO" if failure in ("refused", "goodbye") else "ERROR")
    assert not own[0].exc_info


@pytest.mark.parametrize("step", STEPS)
def test_mistake_of_a_store_is_a_temporary_refusal_and_logged_as_one(
    step: tuple[str, int], store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(name: str, number: int) -> None:
        if (name, number) == step:
            raise KeyError("a mistake")

    store.on_step = fail
    assert deliver(store, LARGE + b".\r\n").codes[-1] == 451
    assert store.stored == []
    assert store.open_writers == []
    assert "KeyError" in caplog.text


def test_error_of_abort_is_logged_and_changes_no_reply(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(name: str, number: int) -> None:
        if name == "commit":
            raise StoreFull
        if name == "abort":
            raise KeyError("a mistake")

    store.on_step = fail
    assert deliver(store, LARGE + b".\r\n").codes[-1] == 452
    assert "could not be aborted" in caplog.text


@pytest.mark.parametrize(
    "end",
    [SILENCE, b"", ConnectionResetError("gone"), b"one\rtwo\r\n.\r\n"],
    ids=["silence", "end", "reset", "bare CR"],
)
def test_incomplete_message_is_aborted(end: Step, store: MemoryStore) -> None:
    dialogue = session(accepting(store.handler)).send(ENVELOPE, LARGE)
    if end:
        dialogue.send(end)
    dialogue.end()
    assert store.steps[0] == "open"
    assert store.steps[-1] == "abort"
    assert "commit" not in store.steps
    assert store.open_writers == []


# Order


def test_store_opens_before_the_first_octet_and_writes_while_octets_arrive(store: MemoryStore) -> None:
    dialogue = session(accepting(store.handler)).send(ENVELOPE)
    assert store.steps == ["open"]
    dialogue.send(LARGE)
    assert store.steps == ["open", *["write"] * 5]
    assert dialogue.codes[-1] == 354
    dialogue.send(b".\r\n" + QUIT)
    assert store.steps == ["open", *["write"] * 6, "commit"]


def test_no_reply_is_sent_before_the_commit_has_returned(store: MemoryStore) -> None:
    dialogue = session(accepting(store.handler))
    codes: list[int] = []

    async def look(name: str, number: int) -> None:
        codes[:] = dialogue.codes

    store.on_step = look
    dialogue.send(ENVELOPE, LARGE + b".\r\n")
    assert codes[-1] == 354
    assert dialogue.codes[-1] == 250


# Results of recipients

UNKNOWN, FULL = Reply(550, "unknown", enhanced="5.1.1"), Reply(452, "full", enhanced="4.2.2")
FINE = Reply(250, "fine", enhanced="2.0.0")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([FINE, FINE], "250 2.0.0 fine"),
        ([UNKNOWN, FULL], "452 4.2.2 full"),
        ([FINE, UNKNOWN], "550-5.1.1 Accepted for 1 of 2 recipients\n550 5.1.1 v@s.example: unknown"),
        ([FINE], "451"),
        ([FINE, FINE, FINE], "451"),
        ([FINE, Reply(354, "more")], "451"),
        ([FINE, "250 fine"], "451"),
        (Reply(250, "one for all"), "451"),
    ],
)
def test_client_of_smtp_gets_one_reply(results: Any, expected: str, store: MemoryStore) -> None:
    store.results = results
    dialogue = session(accepting(store.handler)).send(EHLO + TWO, b"x\r\n.\r\n").end()
    assert dialogue.replies[-1].startswith(expected)


@pytest.mark.parametrize("reply", [Reply(250, "fine"), Reply(354, "more")])
def test_refusal_of_a_store_needs_a_negative_reply(reply: Reply, store: MemoryStore) -> None:
    with pytest.raises(ValueError, match="does not refuse a message"):
        StoreRefusal(reply)

    async def fail(name: str, number: int) -> None:
        if name == "commit":
            raise StoreRefusal(reply)

    store.on_step = fail
    assert deliver(store, LARGE + b".\r\n").codes[-1] == 451
    assert (store.stored, store.open_writers) == ([], [])


def test_client_of_lmtp_gets_the_results_of_the_recipients(store: MemoryStore) -> None:
    for results, codes in (([FINE, UNKNOWN], [250, 550]), ([], [250, 250])):
        store.results = results
        dialogue = session(accepting(store.handler), config=replace(CONFIG, lmtp=True))
        assert dialogue.send(b"LHLO c.example\r\n" + TWO, b"x\r\n.\r\n").end().codes[-2:] == codes


# Back-pressure and cancellation


def test_slow_store_stops_the_client_and_bounds_the_memory(backend: str) -> None:
    store, app = MemoryStore(), accepting()
    store.handler = StoreHandler(store, block_size=10_000)
    app.include(store.handler)
    begun, goes_on = threading.Event(), threading.Event()
    received = written = 0

    def count(session: Session, item: object) -> None:
        nonlocal received
        received += len(item.data) if isinstance(item, DataChunk) else 0

    async def wait(name: str, number: int) -> None:
        nonlocal written
        written = number * 10_000
        if name == "write" and number == 3:
            begun.set()
            await sessions[0].run_blocking(goes_on.wait, 10)

    sessions: list[Session] = []
    app.on("MAIL")(lambda session, mail: sessions.append(session))
    app.observe(count)
    store.on_step = wait
    most = 100_000_000
    with running(backend, app, config=CONFIG) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354)
        sent = client.send_until_blocked(LINE * 1000, most)
        assert begun.wait(10)
        assert sent < most
        assert received - written <= 10_000 + 2 * 65_536
        goes_on.set()
        client.send(LINE[sent % 100 :] + b".\r\n").expect(250)
    assert len(without_fields(store.contents()[0])) == sent + 100 - sent % 100


def test_message_of_a_slow_client_is_aborted(backend: str, store: MemoryStore) -> None:
    app = accepting(store.handler)
    with running(backend, app, clock=Clock(), config=CONFIG) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(LARGE)
        server.clock.advance(3600)
        client.expect(421)
        assert server.reason() == "timeout"
    assert store.steps[-1] == "abort"
    assert store.stored == []


@pytest.mark.parametrize("step", STEPS)
def test_cancelled_session_aborts_the_message(step: tuple[str, int], loop_backend: str, store: MemoryStore) -> None:
    begun, aborted = threading.Event(), []

    async def hang(name: str, number: int) -> None:
        if name == "abort":
            await anyio.lowlevel.checkpoint()  # a cancelled scope would raise here
            aborted.append(name)
        if (name, number) == step:
            begun.set()
            await anyio.sleep_forever()

    store.on_step = hang
    app = accepting(store.handler)
    with running(loop_backend, app, config=CONFIG, grace=0) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(LARGE + b".\r\n")
        assert begun.wait(10)
        server.leave().result(10)
    assert store.stored == []
    assert store.open_writers == []
    assert aborted == [] if step[0] == "open" else ["abort"]
