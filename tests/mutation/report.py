"""Print the report of mutation testing for tests/mutation/survivors.md: `python -m tests.mutation.report`."""

import json
import platform
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

from .reasons import REASONS

NOTICED, SURVIVED = (1, 3, 24, 36, 152, 255), (0,)  # exit codes of mutmut; most noticed mutants are timeouts


def results() -> Iterator[tuple[str, str, int | None]]:
    """Yield module, mutant and exit code of each run; the code is None for a mutant not tried yet."""
    for path in sorted(Path("mutants/src/smtpcore").rglob("*.meta")):
        module = str(path.relative_to("mutants/src/smtpcore")).removesuffix(".py.meta")
        for mutant, code in json.loads(path.read_text())["exit_code_by_key"].items():
            yield module, mutant, code


def change(mutant: str) -> tuple[str, str]:
    """Return the lines before and after the change, without indentation."""
    lines = get_diff_for_mutant(mutant).splitlines()
    return (
        " ".join(line[1:].strip() for line in lines if re.match(r"-(?!--)", line)),
        " ".join(line[1:].strip() for line in lines if re.match(r"\+(?!\+\+)", line)),
    )


def reason(changed: str) -> str:
    """Return the reason why a change survives."""
    return next((why for why, pattern in REASONS if re.search(pattern, changed)), "no test yet")


def main() -> None:
    """Print the report."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors: dict[str, list[str]] = defaultdict(list)
    for module, mutant, code in results():
        if code is None:
            counts[module]["not tried"] += 1
        elif code in SURVIVED:
            counts[module]["survived"] += 1
            before, after = change(mutant)
            survivors[reason(f"{before} -> {after}")].append(f"`{module}`: `{before}` -> `{after}`")
        else:
            counts[module]["noticed" if code in NOTICED else "no tests"] += 1

    sys.stdout.write("\n".join([*head(counts), *table(counts), *explained(survivors)]) + "\n")


def head(counts: dict[str, Counter[str]]) -> Iterator[str]:
    """Yield the totals."""
    total = sum(counts.values(), Counter())
    tried = total.total() - total["not tried"]
    yield "# Mutation testing: the latest result"
    yield ""
    yield f"mutmut {version('mutmut')}, Python {platform.python_version()}: of {tried} changes that were tried,"
    yield f"**{total['noticed']} were noticed ({total['noticed'] / max(tried, 1):.1%})**;"
    yield f"{total['survived']} survived, {total['no tests']} are in code that no test calls."
    yield f"{total['not tried']} were not tried. `docs/testing.md` has the command."
    yield ""


def table(counts: dict[str, Counter[str]]) -> Iterator[str]:
    """Yield the counts per module."""
    columns = ("noticed", "survived", "no tests", "not tried")
    yield f"| module | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for module, found in counts.items():
        yield f"| {module} | {' | '.join(str(found[column]) for column in columns)} |"


def explained(survivors: dict[str, list[str]]) -> Iterator[str]:
    """Yield the surviving changes by reason, the most frequent reason first."""
    for why, changes in sorted(survivors.items(), key=lambda item: -len(item[1])):
        yield from ("", f"## {why[0].upper()}{why[1:]} ({len(changes)})", "", *(f"- {change}" for change in changes))


if __name__ == "__main__":
    main()
