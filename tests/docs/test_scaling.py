"""The configuration in docs/scaling.md, and its figures."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import partitions, scaling
from tests.adapters.command import run_in_process
from tests.paths import DOCS

PAGE = (DOCS / "scaling.md").read_text()
HAPROXY = (DOCS / "deploy" / "haproxy.cfg").read_text()
(FILE,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_file_of_a_node_is_valid(tmp_path: Path) -> None:
    (tmp_path / "smtpcore.toml").write_text(FILE)
    done = run_in_process("config", "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("key", ["port", "metrics_port", "drain_delay"])
def test_file_and_the_configuration_of_haproxy_agree(key: str) -> None:
    (value,) = re.findall(rf"^{key} = (\d+)$", FILE, re.MULTILINE)
    assert re.search(rf"--{key.replace('_', '-')} {value}\b", HAPROXY)


def test_haproxy_notices_a_stop_before_the_delay_is_over() -> None:
    (interval, fall), (delay,) = (
        re.findall(r"inter (\d+)s fall (\d+)", HAPROXY)[0],
        re.findall(r"drain_delay = (\d+)", FILE),
    )
    assert 2 * int(interval) * int(fall) < int(delay)


def test_systemd_waits_for_the_delay_and_the_last_sessions() -> None:
    (limit,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DOCS / "deploy" / "smtpcore.service").read_text(), re.MULTILINE)
    (delay,) = re.findall(r"drain_delay = (\d+)", FILE)
    assert int(limit) >= int(delay) + 35
    assert "at least 35 seconds longer than the delay" in PAGE


# Figures


def test_tables_are_those_of_the_benchmark() -> None:
    assert all(table in PAGE for table in "\n".join(scaling.tables(scaling.published())).split("\n\n"))


def test_costs_of_the_page_are_those_of_the_tables() -> None:
    costs = scaling.published()
    figures = (
        (costs.session_messages, "| messages of 2 KB, one in each session | 3,580 |"),
        (costs.pipelined_messages, "| messages of 2 KB in long sessions, with PIPELINING | 10,200 |"),
        (costs.megabytes, "| octets of large messages | 435 MB |"),
        (costs.handshakes, "| TLS of a connection, with a P-256 certificate | 2,200 |"),
        (costs.limit_sessions, "| 4,300 on the node"),
        (costs.limit_store, "23,000 in the store |"),
        (costs.publishing, "publishes to JetStream | 3,300 |"),
        (costs.acknowledgements, "5,600 with 64 at a time |"),
    )
    for figure, text in figures:
        assert text in PAGE
        (number,) = [int(each.replace(",", "")) for each in re.findall(r"\b(?:\d+,\d{3}|435)\b", text)]
        assert figure == pytest.approx(number, rel=0.01)


def test_a_rate_needs_what_its_parts_need() -> None:
    costs = replace(scaling.published(), session_messages=1000, handshakes=1000, limit_sessions=1000, publishing=1000)
    assert scaling.need(600, 2_000, costs).nodes == 4
    assert scaling.need(600, 2_000, replace(costs, acknowledgements=250)).streams == 4
    assert scaling.need(600, 2_000, costs).sessions == 1200
    assert scaling.need(1000, 125_000, costs).gigabits == 1
    seconds = scaling.seconds_per_message(2_000 + 1e6 * costs.megabytes, costs)
    assert seconds["sessions and bodies"] == pytest.approx(1 + 0.001)


# The simulation

SHARES = partitions.zipf(10_000)


@pytest.mark.parametrize(
    ("count", "split", "text"),
    [
        (8, 1, "With 8 partitions it has 19.9 % in place of 12.5 %"),
        (64, 1, "64 partitions 11.2 % in place of 1.6 %"),
        (64, 16, "the hottest then has 2.7 %"),
    ],
)
def test_share_of_the_hottest_partition_is_that_of_the_page(count: int, split: int, text: str) -> None:
    share = max(partitions.loads(SHARES, count, split, 0.001))
    assert f"{100 * share:.1f} %" in text
    assert text in PAGE
    assert f"the largest has {100 * SHARES[0]:.1f} % of all messages" in PAGE


@pytest.mark.parametrize("split", [1, 16])
def test_hottest_partition_decides_the_rate_of_all(split: int) -> None:
    shares, capacity, seconds = partitions.zipf(500), 40.0, 20.0
    loads = partitions.loads(shares, 8, split, 0.01)
    most = partitions.most(capacity, loads)
    below = partitions.backlogs(0.8 * most, seconds, shares, 8, capacity, split=split, hot=0.01)
    assert max(below) < capacity  # less than the work of a second

    backlogs = partitions.backlogs(1.6 * most, seconds, shares, 8, capacity, split=split, hot=0.01)
    for backlog, share in zip(backlogs, loads, strict=True):
        expected = seconds * partitions.growth(1.6 * most, share, capacity)
        assert backlog == pytest.approx(expected, abs=5 * (seconds * 1.6 * most * share) ** 0.5)
    assert sum(loads) == pytest.approx(1)


@pytest.mark.parametrize("utilization", [0.3, 0.6, 0.85, 0.93])
def test_backlog_after_the_loss_of_a_node_is_gone_when_the_formula_says(utilization: float) -> None:
    case = (utilization * 10_000, 10, 1_000.0, 60.0, 5.0)
    expected = partitions.recovery(*case)
    assert partitions.seconds_to_recover(*case) == pytest.approx(expected, rel=0.05)
    assert (partitions.recovery(*case[:4], stopped=0) == 0) == (utilization < partitions.headroom(10))


def test_example_of_the_page_is_that_of_the_formulas() -> None:
    assert round(partitions.recovery(6_000, 10, 1_000, 60, 5)) == 15
    assert [round(100 * partitions.headroom(nodes)) for nodes in (3, 10)] == [67, 90]


def test_benchmarks_print_their_figures(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["scaling"])
    scaling.main()
    partitions.main()
    text = capsys.readouterr().out
    assert "| core hours per million messages |" in text
    assert "the hottest has 19.9%" in text


def test_costs_are_measured() -> None:
    assert scaling.handshakes(2) > 1
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        pytest.skip("redis-server is not installed")
    assert min(scaling.shared_limits(50)) > 1
