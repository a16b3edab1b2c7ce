"""Measure the core alone, without sockets.

    python -m benchmarks.core [--quick] [--json FILE] [--python PATH ...]

All rates are per CPU time and measured in interleaved rounds.
"""

import argparse
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from itertools import repeat as repeat_object
from pathlib import Path
from typing import Any

from smtpcore import (
    NEED_DATA,
    Bodies,
    Config,
    Connection,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Ehlo,
    Mail,
    Noop,
    Rcpt,
    Reply,
    Rset,
)

from .rounds import Work, rates
from .traffic import DATA, DOTS_EVERYWHERE, DOTS_SOMETIMES, EHLO, END, MAIL, NO_DOTS, RCPT, body_of

OK = Reply(250, "OK", enhanced="2.0.0")
ANSWERS: Mapping[object, Reply | None] = {
    DataChunk: None,
    DataLine: None,
    ConnectionOpened: Reply(220, "ready"),
    Ehlo: Reply(250, "hello"),
    Mail: Reply(250, "Sender OK", enhanced="2.1.0"),
    Rcpt: Reply(250, "Recipient OK", enhanced="2.1.5"),
    Data: Reply(354, "Go on"),
    DataEnd: Reply(250, "Queued", enhanced="2.0.0"),
    Rset: OK,
    Noop: OK,
}
SEGMENTS = (1_460, 65_536)
MAX_SIZE = 1_000_000_000


def config(bodies: Bodies = Bodies.CHUNKS) -> Config:
    """Return a configuration with all checks, but without the limits that would end a long measurement."""
    return Config(hostname="mx.example.org", bodies=bodies, max_message_size=MAX_SIZE, max_idle_commands=None)


def converse(conn: Connection, segments: Iterable[bytes | memoryview]) -> None:
    """Receive `segments` one at a time and answer all events. Raises `KeyError` for an invalid command."""
    for segment in segments:
        conn.receive_data(segment)
        while (event := conn.next_event()) is not NEED_DATA:
            reply = ANSWERS[type(event)]
            if reply:
                conn.send(reply)
        conn.data_to_send()


def greeted(config: Config) -> Connection:
    """Return a connection that has received EHLO."""
    conn = Connection(config)
    converse(conn, [EHLO])
    return conn


def cut(data: bytes, size: int) -> list[memoryview]:
    """Return `data` in segments of `size` octets."""
    view = memoryview(data)
    return [view[start : start + size] for start in range(0, len(data), size)]


# Commands and messages


def repeat(segments: Sequence[bytes | memoryview], amount: float, *, bodies: Bodies = Bodies.CHUNKS) -> Work:
    """Return a function that passes `segments` to the same session at each call, and returns `amount`."""
    conn = greeted(config(bodies))

    def work() -> float:
        converse(conn, segments)
        return amount

    return work


def command_works() -> dict[str, Work]:
    """Return the workloads that send commands. Their amount of work is the number of commands."""
    envelope = [MAIL, RCPT, RCPT, b"RSET\r\n"] * 25
    return {
        "commands: MAIL, 2 x RCPT, RSET, one at a time": repeat(envelope, 100),
        "commands: MAIL, 2 x RCPT, RSET, pipelined": repeat([b"".join(envelope)], 100),
        "commands: NOOP, one at a time": repeat([b"NOOP\r\n"] * 100, 100),
    }


def message_works() -> dict[str, Work]:
    """Return the workloads that send messages of 2 KB. Their amount of work is the number of messages."""
    body = body_of(2_000)
    works = {}
    for bodies in (Bodies.CHUNKS, Bodies.LINES):
        name = f"messages: 2 KB, {bodies.name.lower()}"
        works[f"{name}, one command at a time"] = repeat([MAIL, RCPT, DATA, body], 1, bodies=bodies)
        works[f"{name}, envelope pipelined"] = repeat([MAIL + RCPT + DATA, body], 1, bodies=bodies)

    return works


def body_works(size: int) -> dict[str, Work]:
    """Return the workloads that send bodies. Their amount of work is the number of MB."""
    works = {}
    for bodies in (Bodies.CHUNKS, Bodies.LINES):
        for segment in SEGMENTS:
            for dots in (NO_DOTS, DOTS_SOMETIMES, DOTS_EVERYWHERE):
                body = body_of(size, dots)
                segments: list[bytes | memoryview] = [MAIL, RCPT, DATA, *cut(body, segment)]
                name = f"bodies: {bodies.name.lower()}, segments of {segment:,}, {dots.name}"
                works[name] = repeat(segments, len(body) / 1e6, bodies=bodies)

    return works


# Linearity


def seconds_per_octet(size: int, segment: int | None, bodies: Bodies) -> float:
    """Return the CPU time per octet of a body of `size` octets, in segments or as a whole."""
    conn = greeted(config(bodies))
    converse(conn, [MAIL, RCPT, DATA])
    segments = segments_of(size, segment)
    start = time.process_time()
    converse(conn, segments)
    spent = time.process_time() - start
    assert conn.state.name == "READY", "the message was accepted"
    return spent / size


def segments_of(size: int, segment: int | None) -> Iterable[bytes | memoryview]:
    """Return a body of about `size` octets in segments, without holding all segments in memory."""
    if segment is None:
        return [body_of(size)]

    text = cut(body_of(min(size, 1_000_000)).removesuffix(END), segment)
    return chain(chain.from_iterable(repeat_object(text, max(size // 1_000_000, 1))), [END])


def linearity(sizes: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Return nanoseconds per octet for two sizes of bodies, in several segmentations."""
    cases = (
        ("byte by byte, chunks", 1, Bodies.CHUNKS),
        ("segments of 65,536, chunks", 65_536, Bodies.CHUNKS),
        ("segments of 65,536, lines", 65_536, Bodies.LINES),
        ("whole, chunks", None, Bodies.CHUNKS),
        ("whole, lines", None, Bodies.LINES),
    )
    seconds_per_octet(min(sizes), 65_536, Bodies.LINES)  # warm up
    return {
        name: {f"{size:,}": seconds_per_octet(size, segment, bodies) * 1e9 for size in sizes}
        for name, segment, bodies in cases
    }


# Memory


def memory_per_connection(make: Callable[[Config], Connection], count: int = 2_000) -> float:
    """Return the octets of memory per connection, measured with many connections."""
    shared = config()
    make(shared)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [make(shared) for _ in range(count)]
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / len(kept)


def memory() -> dict[str, float]:
    """Return the octets of memory of an idle connection in two states."""
    return {
        "new": memory_per_connection(Connection),
        "after EHLO": memory_per_connection(greeted),
    }


# Bare CR and LF


def newlines(pythons: list[str]) -> list[dict[str, Any]]:
    """Measure the variants of the search for bare newlines, on each build of Python."""
    script = str(Path(__file__).with_name("newlines.py"))
    runs = (subprocess.run([python, script], check=True, capture_output=True) for python in pythons)
    return [json.loads(run.stdout) for run in runs]


# Command line


def measure(*, quick: bool = False, pythons: Iterable[str] = ()) -> dict[str, Any]:
    """Return all figures of the core, for the JSON file."""
    rounds, seconds = (2, 0.05) if quick else (7, 0.4)
    works = command_works() | message_works() | body_works(1_000_000)
    sizes = (100_000, 1_000_000) if quick else (1_000_000, 100_000_000)
    return {
        "rates": {name: asdict(value) for name, value in rates(works, rounds=rounds, seconds=seconds).items()},
        "nanoseconds per octet": linearity(sizes),
        "octets per connection": memory(),
        "newlines": newlines(list(pythons) or [sys.executable]),
    }


def lines_of(result: dict[str, Any]) -> Iterator[str]:
    """Return the figures as Markdown tables."""
    yield "| the core alone | per second of CPU time |"
    yield "|---|---|"
    for name, value in result["rates"].items():
        unit = " MB" if name.startswith("bodies") else ""
        yield f"| {name} | {_figure(value['median'])}{unit} ({_figure(value['low'])} to {_figure(value['high'])}) |"
    yield ""
    yield "| a body of | ns per octet |"
    yield "|---|---|"
    for name, costs in result["nanoseconds per octet"].items():
        yield f"| {' and '.join(costs)} octets, {name} | {' and '.join(f'{cost:.2f}' for cost in costs.values())} |"
    yield ""
    yield "| one idle `Connection` | octets |"
    yield "|---|---|"
    for name, octets in result["octets per connection"].items():
        yield f"| {name} | {octets:,.0f} |"
    yield ""
    yield from _newline_lines(result["newlines"])


def _newline_lines(builds: list[dict[str, Any]]) -> Iterator[str]:
    heads = [f"{build['python']}, blocks of {int(size):,}" for build in builds for size in ("1460", "65536")]
    yield f"| bare CR or LF, GB/s | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 1) + "|"
    for name in builds[0]["speed"]:
        speeds = [build["speed"][name][size] for build in builds for size in ("1460", "65536")]
        yield f"| {name.replace('_', ' ')} | {' | '.join(f'{speed:.2f}' for speed in speeds)} |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Measure, print the tables, and write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description="Measure the core alone.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a test of the benchmark")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PATH", help="interpreters for the newline check"
    )
    options = parser.parse_args()
    result = measure(quick=options.quick, pythons=options.python)
    print("\n".join(lines_of(result)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
