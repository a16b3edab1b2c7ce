"""Sessions that nobody runs any more, and that the garbage collector ends at any place of the program."""

import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from smtpcore_adapters import Limits
from smtpcore_adapters.server._counts import Counts, MemoryCounts
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.server._shared_counts import SharedCounts


class _Ending(dict[str, Any]):
    """A dictionary that lets the garbage collector end a session as soon as it is read."""

    def get(self, key: str, default: Any = None) -> Any:
        gc.collect()
        return super().get(key, default)


async def _session(leave: Callable[[], None]) -> None:
    class Never:
        def __await__(self) -> Any:
            yield

    try:
        await Never()
    finally:
        leave()


def _abandoned(leave: Callable[[], None]) -> None:
    """Begin a session that only the garbage collector ends."""
    coroutine: Coroutine[Any, Any, None] = _session(leave)
    coroutine.send(None)
    cycle: list[Any] = [coroutine]
    cycle.append(cycle)


@pytest.mark.parametrize("kind", ["memory", "workers"])
def test_session_that_ends_while_another_is_counted_gives_its_place_back(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()
    with SharedCounts(1, 10) as shared:
        counts: Counts = MemoryCounts() if kind == "memory" else shared.of_worker(0)
        name = "_taken" if kind == "memory" else "_slots"
        assert counts.take("a", 2)
        _abandoned(lambda: counts.give_back("a"))
        monkeypatch.setattr(counts, name, _Ending(getattr(counts, name)))

        assert counts.take("a", 2)
        assert counts.count("a") == 1


def test_session_that_ends_while_another_is_admitted_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    table = PeerTable(Limits(connections=2))
    assert table.enter("192.0.2.1", 0.0) is None
    _abandoned(lambda: table.leave("192.0.2.1"))
    counts = table._counts
    assert isinstance(counts, MemoryCounts)
    monkeypatch.setattr(counts, "_taken", _Ending(counts._taken))

    assert table.enter("192.0.2.2", 0.0) is None
    assert table._here == 1


def test_place_that_is_given_back_while_the_table_is_locked_is_free_for_the_next_connection() -> None:
    table = PeerTable(Limits(connections=1))
    assert table.enter("192.0.2.1", 0.0) is None
    with table._returns.lock:
        table.leave("192.0.2.1")
    assert table.enter("192.0.2.2", 0.0) is None


def test_place_that_is_given_back_while_the_slots_are_locked_is_free_for_the_next_connection() -> None:
    with SharedCounts(1, 10) as shared:
        counts = shared.of_worker(0)
        assert counts.take("a", 1)
        with counts._returns.lock:
            counts.give_back("a")
        assert counts.take("a", 1)
