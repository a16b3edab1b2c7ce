"""Compare the results of mutation testing with the list of survivors: `python -m tests.mutation.report`.

The command prints the results, and fails if a survivor is not listed in `survivors.md`, if a listed mutant does not
survive or does not exist, or if the share of noticed mutants is too low. `--write` writes the results and the survivors
to `survivors.md`. Entries that still apply keep their reasons; for a new entry, the reason has to be added by hand.
"""

import argparse
import json
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

from .survivors import (
    LIST,
    NO_TESTS,
    NOT_TRIED,
    NOTICED,
    OUTCOMES,
    SURVIVED,
    UNNOTICED,
    Change,
    change_of,
    format_list,
    is_reason,
    merge,
    number_changes,
    objections,
    parse_list,
)

LEAST_NOTICED = 0.971
"""The minimum share of mutants that the tests must notice. Raise it when more are noticed; never lower it."""
NOTICED_CODES = (1, 3, 24, 36, 152, 255)  # exit codes of mutmut: most of them are timeouts

Results = dict[Path, dict[str, list[tuple[str, str]]]]
"""The name and the outcome of each mutant, by file and function."""


def outcome_of(code: int | None) -> str:
    """Return the outcome for an exit code of mutmut."""
    if code is None:
        return NOT_TRIED
    return SURVIVED if code == 0 else NOTICED if code in NOTICED_CODES else NO_TESTS


def results() -> Results:
    """Return the results of the last run."""
    found: Results = {}
    for path in sorted(Path("mutants/src").rglob("*.meta")):
        functions: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for mutant, code in json.loads(path.read_text())["exit_code_by_key"].items():
            functions[mutant.partition("__mutmut_")[0]].append((mutant, outcome_of(code)))
        if functions:
            found[path.relative_to("mutants").with_suffix("")] = functions
    return found


def outcomes(found: Results, listed: dict[Change, str]) -> dict[Change, str]:
    """Return the outcomes in all functions that have a survivor or a listed mutant."""
    names = {change.function for change in listed}
    chosen: dict[Change, str] = {}
    for path, functions in found.items():
        for function, mutants in functions.items():
            if function in names or any(outcome in UNNOTICED for _, outcome in mutants):
                changes = changes_of(path, function, mutants)
                chosen |= dict(zip(changes, [outcome for _, outcome in mutants], strict=True))
    return chosen


def keep_listed() -> int:
    """Store the listed mutants without a result as survivors. Return their number.

    The reason has to be confirmed, and the text of the change has to be the same.
    """
    listed = {change for change, reason in parse_list(LIST.read_text()).items() if is_reason(reason)}
    names = {change.function for change in listed}
    kept = 0
    for path, functions in results().items():
        chosen = {function: mutants for function, mutants in functions.items() if function in names}
        known = [
            mutant
            for function, mutants in chosen.items()
            for (mutant, outcome), change in zip(mutants, changes_of(path, function, mutants), strict=True)
            if outcome == NOT_TRIED and change in listed
        ]
        stored = Path("mutants", path).with_suffix(f"{path.suffix}.meta")
        content = json.loads(stored.read_text())
        content["exit_code_by_key"] |= dict.fromkeys(known, 0)
        stored.write_text(json.dumps(content, indent=4))
        kept += len(known)
    return kept


def changes_of(path: Path, function: str, mutants: list[tuple[str, str]]) -> list[Change]:
    """Return the changes of all mutants of a function."""
    return number_changes((function, *change_of(get_diff_for_mutant(mutant, path=path))) for mutant, _ in mutants)


def count(found: Results) -> dict[str, Counter[str]]:
    """Return the number of mutants by module and outcome."""
    return {
        str(path.with_suffix("").relative_to("src/smtpcore")): Counter(
            outcome for mutants in functions.values() for _, outcome in mutants
        )
        for path, functions in found.items()
    }


def share(total: Counter[str]) -> float:
    """Return the share of noticed mutants among those that were tried."""
    return total[NOTICED] / max(total.total() - total[NOT_TRIED], 1)


def head(total: Counter[str]) -> Iterator[str]:
    """Yield the lines with the total counts."""
    yield "# Mutation testing: the latest result"
    yield ""
    yield f"mutmut {version('mutmut')}, Python {platform.python_version()}:"
    yield f"of {total.total() - total[NOT_TRIED]} changes that were tried,"
    yield f"**{total[NOTICED]} were noticed ({share(total):.1%})**;"
    yield f"{total[SURVIVED]} survived, {total[NO_TESTS]} are in code that no test calls."
    yield f"{total[NOT_TRIED]} were not tried. `docs/testing.md` has the command."
    yield ""


def table(counts: dict[str, Counter[str]]) -> Iterator[str]:
    """Yield the lines of a table with the counts of each module."""
    yield f"| module | {' | '.join(OUTCOMES)} |"
    yield "|---" * (1 + len(OUTCOMES)) + "|"
    for module, counter in counts.items():
        yield f"| {module} | {' | '.join(str(counter[outcome]) for outcome in OUTCOMES)} |"
    yield ""


def main() -> None:
    """Print the report, and fail if it contradicts the list."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.report")
    parser.add_argument("--write", action="store_true", help="write the results and the survivors to survivors.md")
    options = parser.parse_args()

    listed, found = parse_list(LIST.read_text()), results()
    changes = outcomes(found, listed)
    counts = count(found)
    total = sum(counts.values(), Counter[str]())
    report = [*head(total), *table(counts)]
    sys.stdout.write("\n".join(report) + "\n")
    if options.write:
        listed = merge(listed, changes)
        LIST.write_text("\n".join([*report, *format_list(listed)]) + "\n")

    problems = list(objections(listed, changes))
    if not total[NOT_TRIED] and share(total) < LEAST_NOTICED:
        problems.append(f"only {share(total):.1%} of the changes were noticed, less than {LEAST_NOTICED:.1%}")
    sys.exit("\n".join(problems) if problems else 0)


if __name__ == "__main__":
    main()
