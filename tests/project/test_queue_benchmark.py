"""The benchmark of servers with a queue."""

import pytest

from benchmarks.queue import Kind, compare, main
from tests.adapters.stores.nats_servers import needs_nats
from tests.long import long


@long
@needs_nats
def test_nodes_with_a_queue_are_measured_beside_nodes_that_discard() -> None:
    head, line, row = compare("asyncio", [2], [Kind("2 KB", 2_000, 40)], rounds=1)
    assert head.count("|") == line.count("|") == row.count("|")
    assert row.startswith("| 2 KB | 2 | ")
    assert all(int(figure.replace(",", "")) > 0 for figure in row.split("|")[3:-1])


def test_missing_nats_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.queue.PROGRAM", None)
    with pytest.raises(SystemExit, match="there is no nats-server"):
        main(["--quick"])
