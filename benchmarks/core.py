"""What the core costs by itself, without a socket.

    python -m benchmarks.core [--quick] [--json FILE] [--python PATH ...]

Everything is measured in CPU time, in interleaved rounds.
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
    """All checks are on; what would end a long measurement is off."""
    return Config(hostname="mx.example.org", bodies=bodies, max_message_size=MAX_SIZE, max_idle_commands=None)


def converse(conn: Connection, segments: Iterable[bytes | memoryview]) -> None:
    """Answer what is in `segments`, each of which is received by itself. Raises `KeyError` for anything invalid."""
    for segment in segments:
        conn.receive_data(segment)
        while (event := conn.next_event()) is not NEED_DATA:
            reply = ANSWERS[type(event)]
            if reply:
                conn.send(reply)
        conn.data_to_send()


def greeted(config: Config) -> Connection:
    """A connection that has said EHLO."""
    conn = Connection(config)
    converse(conn, [EHLO])
    return conn


def cut(data: bytes, size: int) -> list[memoryview]:
    """`data` in segments of `size` octets."""
    view = memoryview(data)
    return [view[start : start + size] for start in range(0, len(data), size)]


# Commands and messages


def repeat(segments: Sequence[bytes | memoryview], amount: float, *, bodies: Bodies = Bodies.CHUNKS) -> Work:
    """Work that says `segments` again and again in one session, and counts as `amount` each time."""
    conn = greeted(config(bodies))

    def work() -> float:
        converse(conn, segments)
        return amount

    return work


def command_works() -> dict[str, Work]:
    """Commands per second."""
    envelope = [MAIL, RCPT, RCPT, b"RSET\r\n"] * 25
    return {
        "commands: MAIL, 2 x RCPT, RSET, one at a time": repeat(envelope, 100),
        "commands: MAIL, 2 x RCPT, RSET, pipelined": repeat([b"".join(envelope)], 100),
        "commands: NOOP, one at a time": repeat([b"NOOP\r\n"] * 100, 100),
    }


def message_works() -> dict[str, Work]:
    """2 KB messages per second."""
    body = body_of(2_000)
    works = {}
    for bodies in (Bodies.CHUNKS, Bodies.LINES):
        name = f"messages: 2 KB, {bodies.name.lower()}"
        works[f"{name}, one command at a time"] = repeat([MAIL, RCPT, DATA, body], 1, bodies=bodies)
        works[f"{name}, envelope pipelined"] = repeat([MAIL + RCPT + DATA, body], 1, bodies=bodies)

    return works


def body_works(size: int) -> dict[str, Work]:
    """MB of body per second."""
    works = {}
    for bodies in (Bodies.CHUNKS, Bodies.LINES):
        for segment in SEGMENTS:
            for dots in (NO_DOTS, DOTS_SOMETIMES, DOTS_EVERYWHERE):
                body = body_of(size, dots)
                segments: list[bytes | memoryview] = [MAIL, RCPT, DATA, *cut(body, segment)]
                name = f"bodies: {bodies.name.lower()}, segments of {segment:,}, {dots.name}"
                works[name] = repeat(segments, len(body) / 1e6, bodies=bodies)

    return works


# Whether work is linear


def seconds_per_octet(size: int, segment: int | None, bodies: Bodies) -> float:
    """The CPU time that a body of `size` octets costs, divided by that, in segments or whole."""
    conn = greeted(config(bodies))
    converse(conn, [MAIL, RCPT, DATA])
    segments = segments_of(size, segment)
    start = time.process_time()
    converse(conn, segments)
    spent = time.process_time() - start
    assert conn.state.name == "READY", "the message was taken"
    return spent / size


def segments_of(size: int, segment: int | None) -> Iterable[bytes | memoryview]:
    """A body of about `size` octets in segments, without keeping them all."""
    if segment is None:
        return [body_of(size)]

    text = cut(body_of(min(size, 1_000_000)).removesuffix(END), segment)
    return chain(chain.from_iterable(repeat_object(text, max(size // 1_000_000, 1))), [END])


def linearity(sizes: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Nanoseconds per octet at either size, byte by byte and whole."""
    cases = (
        ("byte by byte, chunks", 1, Bodies.CHUNKS),
        ("segments of 65,536, chunks", 65_536, Bodies.CHUNKS),
        ("segments of 65,536, lines", 65_536, Bodies.LINES),
        ("whole, chunks", None, Bodies.CHUNKS),
        ("whole, lines", None, Bodies.LINES),
    )
    seconds_per_octet(min(sizes), 65_536, Bodies.LINES)  # the first time takes longer
    return {
        name: {f"{size:,}": seconds_per_octet(size, segment, bodies) * 1e9 for size in sizes}
        for name, segment, bodies in cases
    }


# Memory


def memory_per_connection(make: Callable[[Config], Connection], count: int = 2_000) -> float:
    """Octets that each of many connections holds."""
    shared = config()
    make(shared)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [make(shared) for _ in range(count)]
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / len(kept)


def memory() -> dict[str, float]:
    """Octets by what the connection has done."""
    return {
        "new": memory_per_connection(Connection),
        "after EHLO": memory_per_connection(greeted),
    }


# Bare CR and LF


def newlines(pythons: list[str]) -> list[dict[str, Any]]:
    """What each way of looking for bare newlines costs, on each build of Python."""
    script = str(Path(__file__).with_name("newlines.py"))
    runs = (subprocess.run([python, script], check=True, capture_output=True) for python in pythons)
    return [json.loads(run.stdout) for run in runs]


# All of it


def measure(*, quick: bool = False, pythons: Iterable[str] = ()) -> dict[str, Any]:
    """All figures of the core, as they go into the JSON file."""
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
    """The figures as a Markdown table."""
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description="What the core costs by itself.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--python", action="append", default=[], metavar="PATH", help="builds for the newline check")
    options = parser.parse_args()
    result = measure(quick=options.quick, pythons=options.python)
    print("\n".join(lines_of(result)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
