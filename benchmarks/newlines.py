"""Compare ways to detect a bare CR or LF in a block, on this build of Python.

    python benchmarks/newlines.py

Prints GB per second of CPU time, by variant and size of the block, as JSON. The module uses the standard library only,
so that `python -m benchmarks.core --python PATH` can run it on several builds, whose results differ.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from statistics import median

LINE = b"x" * 74 + b"\r\n"

_bare_cr = re.compile(rb"\r(?!\n)").search
_bare_cr_by_class = re.compile(rb"\r[^\n]").search
_bare = re.compile(rb"\r(?!\n)|(?<!\r)\n").search


def three_counts(block: bytes) -> bool:
    return block.count(b"\r") == block.count(b"\n") == block.count(b"\r\n")


def two_counts_and_expression(block: bytes) -> bool:
    return not _bare_cr(block) and block.count(b"\n") == block.count(b"\r\n")


def expression_and_counts_of_one(block: bytes) -> bool:
    # If each CR has its LF, the counts are equal only if no LF is bare.
    return not _bare_cr(block) and block.count(b"\n") == block.count(b"\r")


def expression_and_translate(block: bytes) -> bool:
    return not _bare_cr(block) and 2 * block.count(b"\r\n") == len(block) - len(block.translate(None, b"\r\n"))


def class_and_two_translates(block: bytes) -> bool:
    size = len(block.translate(None, b"\r"))
    return not _bare_cr_by_class(block) and size == len(block.translate(None, b"\n"))


def count_and_translate(block: bytes) -> bool:
    # If no CR or LF is bare, there are twice as many CRs and LFs as pairs of CR LF.
    return 2 * block.count(b"\r\n") == len(block) - len(block.translate(None, b"\r\n"))


def replace(block: bytes) -> bool:
    rest = block.replace(b"\r\n", b"")
    return b"\r" not in rest and b"\n" not in rest


def split_and_join(block: bytes) -> bool:
    rest = b"".join(block.split(b"\r\n"))
    return b"\r" not in rest and b"\n" not in rest


def split_length(block: bytes) -> bool:
    # For `splitlines`, a bare CR and a bare LF are line ends too. So a bare newline adds a line without a CR LF.
    return len(block.splitlines()) == block.count(b"\r\n")


def look_around(block: bytes) -> bool:
    return not _bare(block)


def line_by_line(block: bytes) -> bool:
    return all(b"\r" not in line and b"\n" not in line for line in block.split(b"\r\n"))


VARIANTS: tuple[Callable[[bytes], bool], ...] = (
    three_counts,
    two_counts_and_expression,
    expression_and_counts_of_one,
    expression_and_translate,
    class_and_two_translates,
    count_and_translate,
    replace,
    split_and_join,
    split_length,
    look_around,
    line_by_line,
)
SIZES = (1_460, 65_536)


def measure(variant: Callable[[bytes], bool], block: bytes, seconds: float) -> float:
    """Return the gigabytes that `variant` examines in a second of CPU time."""
    done, spent = 0, 0.0
    start = time.process_time()
    while spent < seconds:  # measures at least once, even if another thread of the process has used up the CPU time
        for _ in range(16):
            variant(block)
        done += 16
        spent = time.process_time() - start

    return done * len(block) / spent / 1e9


def measure_all(rounds: int = 5, seconds: float = 0.05) -> "dict[str, dict[str, float]]":
    """Return medians of interleaved rounds, by variant and size."""
    # As many whole lines as fit: a variant may rely on whole lines, because the core can cut its blocks in this way.
    blocks = {str(size): LINE * (size // len(LINE)) for size in SIZES}
    measured: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for variant in VARIANTS:
            for size, block in blocks.items():
                measured.setdefault((variant.__name__, size), []).append(measure(variant, block, seconds))

    names = [variant.__name__ for variant in VARIANTS]
    return {name: {size: float(f"{median(measured[name, size]):.3g}") for size in blocks} for name in names}


if __name__ == "__main__":
    json.dump({"python": sys.version.split()[0], "speed": measure_all()}, sys.stdout)
