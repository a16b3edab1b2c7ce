"""Compare the core of two environments, such as the pure and the compiled build.

    python -m benchmarks.builds PYTHON PYTHON [--rounds N]

Each PYTHON is the interpreter of an environment with smtpcore. Commands and messages pass through the core alone. Both
environments are measured in alternating rounds, by CPU time.
"""

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from statistics import median

from smtpcore import COMPILED

from .core import command_works, message_works
from .rounds import rate

_CODE = "from benchmarks.builds import print_rates; print_rates({seconds})"


def print_rates(seconds: float) -> None:
    """Print as JSON whether the core of this environment is compiled, and its commands or messages per second."""
    works = command_works() | message_works()
    for work in works.values():
        work()  # warm up
    print(json.dumps([COMPILED, {name: rate(work, seconds) for name, work in works.items()}]))


def measure(pythons: Sequence[str], *, rounds: int, seconds: float = 0.3) -> list[list[tuple[bool, dict[str, float]]]]:
    """Return for each round and each environment whether its core is compiled, and its rates."""
    return [[_measure(python, seconds) for python in pythons] for _ in range(rounds)]


def _measure(python: str, seconds: float) -> tuple[bool, dict[str, float]]:
    done = subprocess.run([python, "-c", _CODE.format(seconds=seconds)], check=True, capture_output=True, text=True)
    compiled, found = json.loads(done.stdout)
    return compiled, found


def lines_of(results: list[list[tuple[bool, dict[str, float]]]]) -> Iterator[str]:
    """Return a table with the median rates of both environments, and their ratio."""
    heads = ["compiled" if compiled else "pure" for compiled, _ in results[0]]
    yield f"| the core alone, per second of CPU time | {' | '.join(heads)} | ratio |"
    yield "|---|---|---|---|"
    for name in results[0][0][1]:
        first, second = (median(result[number][1][name] for result in results) for number in range(2))
        ratio = median(result[1][1][name] / result[0][1][name] for result in results)
        yield f"| {name} | {first:,.0f} | {second:,.0f} | {ratio:.2f} |"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.builds", description="Compare two environments.")
    parser.add_argument("pythons", nargs=2, metavar="PYTHON", help="the interpreter of an environment with smtpcore")
    parser.add_argument("--rounds", type=int, default=5, help="how often each environment is measured")
    options = parser.parse_args()
    print("\n".join(lines_of(measure(options.pythons, rounds=options.rounds))))


if __name__ == "__main__":
    main()
