"""The benchmarks of the core measure what they claim to measure."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count, groupby, product

import pytest

from benchmarks import calls, core, newlines, rounds
from benchmarks.traffic import DOTS_EVERYWHERE, DOTS_SOMETIMES, NO_DOTS, Dots, body_of
from smtpcore import COMPILED, Bodies, Connection, State


@pytest.mark.parametrize("variant", newlines.VARIANTS)
def test_all_newline_search_variants_agree(variant: Callable[[bytes], bool]) -> None:
    for octets in product(b"a\r\n", repeat=5):
        block = bytes(octets) + b"\r\n"
        rest = block.replace(b"\r\n", b"")
        assert variant(block) == (b"\r" not in rest and b"\n" not in rest), block


def test_newline_benchmark_measures_each_variant_and_size() -> None:
    speed = newlines.measure_all(rounds=1, seconds=0.0001)
    assert set(speed) == {variant.__name__ for variant in newlines.VARIANTS}
    assert all(figure > 0 for sizes in speed.values() for figure in sizes.values())


def test_work_is_done_once_even_if_other_threads_use_up_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.process_time", count().__next__)

    assert rounds.rate(lambda: 5.0, 0.5) == 5.0
    assert newlines.measure(newlines.three_counts, b"x" * 1_000, 0.5) == pytest.approx(16e-6)


@pytest.mark.parametrize("dots", [NO_DOTS, DOTS_SOMETIMES, DOTS_EVERYWHERE])
@pytest.mark.parametrize("size", [1_000, 2_000, 75_000])
def test_benchmark_bodies_have_the_requested_size_and_one_end(dots: Dots, size: int) -> None:
    body = body_of(size, dots)
    assert 0 <= size - len(body) < 100
    assert body.index(b"\r\n.\r\n") == len(body) - 5


@pytest.mark.parametrize(
    "works",
    [core.command_works(), core.message_works(), core.body_works(10_000)],
    ids=["commands", "messages", "bodies"],
)
def test_benchmark_sessions_are_never_refused(works: Mapping[str, rounds.Work]) -> None:
    for work in works.values():
        assert work() > 0
        assert work() > 0


def test_invalid_input_stops_a_measurement() -> None:
    with pytest.raises(KeyError):
        core.converse(Connection(core.config()), [b"EHLO client.example\r\nDATA\r\n"])


@pytest.mark.parametrize("segment", [1, None])
def test_linearity_benchmark_measures_whole_messages(segment: int | None) -> None:
    assert core.seconds_per_octet(1_000, segment, Bodies.CHUNKS) > 0
    assert sum(map(len, core.segments_of(2_000_000, 1_460))) == pytest.approx(2_000_000, rel=0.001)


def test_memory_benchmark_measures_greeted_connections() -> None:
    assert core.greeted(core.config()).state is State.READY
    assert core.memory_per_connection(Connection, count=10) > 100


def test_spread_is_the_median_with_quartiles() -> None:
    assert rounds.spread([5.0]) == rounds.Spread(5.0, 5.0, 5.0)
    assert rounds.spread([1.0, 100.0, 3.0, 2.0, 4.0]) == rounds.Spread(3.0, 2.0, 4.0)


def test_rates_are_measured_in_alternating_rounds() -> None:
    order: list[str] = []

    def work(name: str) -> float:
        order.append(name)
        return 1.0

    works = {name: partial(work, name) for name in "ab"}
    measured = rounds.rates(works, rounds=2, seconds=0.0001)
    assert all(rate.median > 0 for rate in measured.values())
    assert [name for name, _ in groupby(order)] == ["a", "b"] * 3  # one warm-up call each, then two rounds


def test_core_tables_show_every_figure() -> None:
    build = {"python": "3.11.0", "speed": {"three_counts": {"1460": 0.5, "65536": 0.6}}}
    result = {
        "rates": {"commands": {"median": 200_000.0, "low": 1.5, "high": 3e5}},
        "nanoseconds per octet": {"whole": {"1": 2.0, "2": 3.0}},
        "octets per connection": {"new": 815.0},
        "newlines": [build, build],
    }
    text = "\n".join(core.lines_of(result))
    for figure in ("200,000 (1.5 to 300,000)", "1 and 2 octets, whole | 2.00 and 3.00", "815", "three counts | 0.50"):
        assert figure in text


# Function calls


of_the_pure_core = pytest.mark.skipif(COMPILED, reason="the calls of compiled functions are not counted")


@of_the_pure_core
@pytest.mark.parametrize("name", calls.EXCHANGES)
def test_call_counter_counts_every_exchange(name: str) -> None:
    count = calls.count(name)
    packages = {call.package for call in count.calls}

    assert count.core > count.adapters > 0
    assert count.core + count.adapters <= len(count.calls)
    assert {"smtpcore", "smtpcore_adapters"} <= packages
    assert "benchmarks" not in packages
    assert count.builtins > 0
    assert 2 < count.modules < count.changes


def test_rcpt_is_answered_within_its_call_and_module_limits() -> None:
    # These limits only go down: calls take most of the time of a small message.
    count = calls.count("RCPT")

    assert len(count.calls) <= 30
    assert count.modules <= 9


def test_connection_is_opened_and_closed_within_its_call_limit() -> None:
    # This limit only goes down: with one message for each connection, a session takes more time than its message.
    assert len(calls.count("connection").calls) <= 189


def test_message_of_2_kb_is_received_within_its_call_limits() -> None:
    # These limits only go down.
    count = calls.count("message of 2 KB")

    assert len(count.calls) <= 158
    assert len(count.calls) + count.builtins <= 297


def test_call_counter_refuses_an_unexpected_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(calls.EXCHANGES, "refused", ((), (b"MAIL FROM:<a@client.example>\r\n",)))
    with pytest.raises(RuntimeError, match="503"):
        calls.count("refused")


@of_the_pure_core
def test_call_counter_prints_a_table_or_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["calls"])
    calls.main()
    table = capsys.readouterr().out
    assert all(f"| {name} | " in table for name in calls.EXCHANGES)

    monkeypatch.setattr("sys.argv", ["calls", "--list", "NOOP"])
    calls.main()
    listed = capsys.readouterr().out.splitlines()
    assert "smtpcore._endpoint Endpoint.receive_data" in map(str.strip, listed)
    assert min(len(line) - len(line.lstrip()) for line in listed) == 0
