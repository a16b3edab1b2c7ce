"""The server benchmarks: loads, measurements and tables."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import builds, report, servers
from benchmarks.contenders import COMPILED, CONTENDERS, Contender, Running, running
from benchmarks.generator import Failed, Idle, Paced, Steady
from benchmarks.loads import LOADS, THROUGHPUT
from smtpcore import COMPILED as COMPILED_HERE
from tests.adapters.peers import serving

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the benchmarks need Linux")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(CONTENDERS["asyncio"], None) as server:
        yield server


@pytest.mark.parametrize("name", THROUGHPUT)
def test_server_accepts_every_message_of_a_load(server: Running, name: str) -> None:
    load = replace(LOADS[name], clients=2, size=min(LOADS[name].size, 1_000_000))
    with Steady(load, server.port, server.pid) as crowd:
        result = crowd.measure(0.02)

    assert result["messages"] == crowd.finished >= 2
    assert result["seconds"] > 0
    assert result["server"] > 0


def test_paced_load_sends_and_times_every_message(server: Running) -> None:
    with Paced(replace(LOADS["paced"], clients=2), server.port, server.pid) as crowd:
        result = crowd.measure(0.1)

    assert len(result["latencies"]) == 20
    assert all(latency > 0 for latency in result["latencies"])


def test_idle_load_measures_the_memory_of_the_server() -> None:
    # A new server: free memory left over from earlier bodies would hide the growth.
    load = replace(LOADS["idle"], clients=200)
    with running(CONTENDERS["asyncio"], None) as fresh, Idle(load, fresh.port, fresh.pid) as crowd:
        assert crowd.measure(0)["octets"] > 0


@pytest.mark.parametrize("octets", [b"554 no one is at home\r\n", b"220 half a gree", b""])
def test_server_that_refuses_messages_is_not_measured(octets: bytes) -> None:
    load = replace(LOADS["small"], clients=1)
    with (
        serving(lambda peer: peer.socket.sendall(octets)) as address,
        Steady(load, address.port, os.getpid()) as crowd,
        pytest.raises(Failed),
    ):
        crowd.measure(0.1)


@pytest.mark.parametrize("spins", [False, True])
def test_busy_waiting_of_clients_counts_as_idle_time(spins: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.generator.PATIENCE", 0.05)
    with Steady(LOADS["small"], 0, os.getpid()) as crowd:
        crowd.spins = spins
        with pytest.raises(Failed, match="has sent nothing"):
            crowd._wait()
        assert (crowd.idle > 0) is spins


def test_missing_server_is_skipped_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Contender("Twisted", lambda port: [], lambda: "pip install twisted")
    monkeypatch.setitem(CONTENDERS, "twisted", absent)
    assert servers.Arena(["asyncio", "twisted"], seconds=0).contenders == ["asyncio"]
    assert "skipped: twisted: pip install twisted" in capsys.readouterr().err


def test_go_smtp_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.contenders.CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert CONTENDERS["go-smtp"].missing() == "go is not installed"

    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setattr("benchmarks.contenders.GO_PACKAGES", tmp_path)
    assert "apt install" in (CONTENDERS["go-smtp"].missing() or "")

    (tmp_path / "src/github.com/emersion/go-smtp").mkdir(parents=True)
    assert CONTENDERS["go-smtp"].missing() == "go build: no such package"


def test_server_that_exits_at_once_raises_oserror() -> None:
    with (
        pytest.raises(OSError, match="ended with 1"),
        running(Contender("false", lambda port: ["false"], lambda: None), None),
    ):
        pass


def test_servers_are_measured_in_alternating_rounds() -> None:
    found = servers.measure(["asyncio"], ["small", "paced"], rounds=2, seconds=0.02)
    assert [set(sample) for sample in found["small"]["asyncio"]] == 2 * [
        {"per_cpu", "per_second", "server_share", "client_share"}
    ]
    assert all(sample["p50"] <= sample["p99"] <= sample["p99.9"] for sample in found["paced"]["asyncio"])


# The report


def rates(*figures: float) -> list[dict[str, float]]:
    return [{"per_cpu": each, "per_second": each, "server_share": 1.0, "client_share": 0.5} for each in figures]


RESULT: dict[str, Any] = {
    "date": "2026-01-01",
    "machine": "a machine",
    "servers": {
        "large": {"asyncio": rates(500, 600, 700), "aiosmtpd": rates(50, 40, 35), "smtp-sink": rates(400, 400, 400)},
        "stalled": {"asyncio": [{"p50": 0.001, "p99": 0.019, "p99.9": 0.5}]},
        "idle": {"asyncio": [{"octets": 6_144.0}], "aiosmtpd": [{"octets": 11_264.0}]},
    },
}


def test_ratios_compare_figures_of_the_same_round() -> None:
    large = RESULT["servers"]["large"]
    assert report.ratio(large, "asyncio", "aiosmtpd", "per_cpu") == 15  # median of 10, 15 and 20
    assert report.ratio(large, "asyncio", "twisted", "per_cpu") is None


def test_tables_show_every_figure_and_every_measured_aim() -> None:
    text = "\n".join(report.tables(RESULT))
    for row in (
        "| smtpcore, asyncio | 600 (550 to 650) | 600 (550 to 650) | 15.00 x | 1.50 x | 100% | 50% |",
        '| 10 MB | smtpcore, asyncio | at least 12 x the rate of "aiosmtpd" | 15.00 x | met |',
        '| 10 MB | smtpcore, asyncio | at least 2 x the rate of "Postfix\'s smtp-sink (C)" | 1.50 x | missed |',
        "| smtpcore, asyncio | 1.0 (1.0 to 1.0) | 19.0 (19.0 to 19.0) | 500.0 (500.0 to 500.0) |",
        "p99 of at most 20 ms | 19.0 ms | met |",
        'at most 0.35 x the memory of "aiosmtpd" | 0.55 x | missed |',
    ):
        assert row in text
    assert "trio" not in text


def test_every_aim_names_a_known_server_and_load() -> None:
    for aim in report.AIMS:
        assert aim.contender in CONTENDERS
        assert aim.reference in {"", *CONTENDERS}
        assert aim.load in servers.ALL_LOADS


def test_new_tables_replace_the_old_tables(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nbehind\n")
    report.put_between_markers(path, iter(["new", ""]))
    assert path.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nbehind\n"

    path.write_text(report.BEGIN)
    with pytest.raises(ValueError, match="needs these two lines"):
        report.put_between_markers(path, iter([]))


def test_benchmark_readme_has_markers_for_the_tables() -> None:
    text = Path(report.__file__).with_name("README.md").read_text()
    assert report.BEGIN in text
    assert report.END in text


def test_plots_show_every_server(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plots import draw

    paths = draw(json.loads(json.dumps(RESULT)), tmp_path)
    assert [path.name for path in paths] == ["throughput.svg", "latency.svg"]
    assert "aiosmtpd" in paths[0].read_text()
    assert "2026-01-01, a machine" in paths[0].read_text()


# The compiled build


def test_compiled_build_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(COMPILED, raising=False)
    assert "--compiled PYTHON" in (CONTENDERS["compiled"].missing() or "")

    python = tmp_path / "python"
    monkeypatch.setenv(COMPILED, str(python))
    for output, status, why in (("False", 0, "the pure build"), ("No module named 'uvloop'", 1, "'uvloop'")):
        python.write_text(f'#!/bin/sh\necho "{output}" >&{1 + status}\nexit {status}\n')
        python.chmod(0o755)
        assert why in (CONTENDERS["compiled-uvloop"].missing() or "")

    python.write_text("#!/bin/sh\necho True\n")
    assert CONTENDERS["compiled"].missing() is None
    assert CONTENDERS["compiled"].command(25)[0] == str(python)


def test_two_builds_are_compared_by_the_ratio_of_each_round() -> None:
    rounds = [[(False, {"NOOP": 100.0}), (True, {"NOOP": 200.0})], [(False, {"NOOP": 50.0}), (True, {"NOOP": 150.0})]]
    assert list(builds.lines_of(rounds)) == [
        "| the core alone, per second of CPU time | pure | compiled | ratio |",
        "|---|---|---|---|",
        "| NOOP | 75 | 175 | 2.50 |",
    ]
    assert "| NOOP | 75 | 175 | 2.50 |" in list(report.tables(RESULT | {"builds": rounds}))


def test_rates_of_an_environment_are_measured_in_its_own_process() -> None:
    (((is_compiled, rates),),) = builds.measure([sys.executable], rounds=1, seconds=0.001)
    assert is_compiled is COMPILED_HERE
    assert all(rate > 0 for rate in rates.values())
