"""What mutmut found, as tests/mutation/survivors.md has it: `python -m tests.mutation.report`, where mutmut has run."""

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

# What survives for a reason, by what was changed.
REASONS = {
    r"assert .*, [\"']": "the text of an assertion, which tells a reader why it holds",
    r"super\(\).__init__\(": "what an exception of our own shows of itself, when no one catches it",
    r"= (False|None)$": "a first value that is as false as the other, or that is set before it is read",
    r"return hash\(": "a hash that is the same for all values is slow, and right",
    r"\(text or \"": "a parameter without value is refused whatever stands for its text",
    r"split\(\"=\", ": "what has a second = in it is refused in any case",
    r"enhanced=": "an enhanced status code that the connection would add as well (RFC 2034 section 4)",
}
KILLED, SURVIVED, TIMEOUT = (1, 3), (0,), (24, 36, 152, 255)


def results() -> Iterator[tuple[str, str, int | None]]:
    """Module, mutant and exit code of each run; None where there was none yet."""
    for path in sorted(Path("mutants/src/smtpcore").rglob("*.meta")):
        module = str(path.relative_to("mutants/src/smtpcore")).removesuffix(".py.meta")
        for mutant, code in json.loads(path.read_text())["exit_code_by_key"].items():
            yield module, mutant, code


def change(mutant: str) -> tuple[str, str]:
    """The lines before and after it, without their indentation."""
    lines = get_diff_for_mutant(mutant).splitlines()
    return (
        " ".join(line[1:].strip() for line in lines if re.match(r"-(?!--)", line)),
        " ".join(line[1:].strip() for line in lines if re.match(r"\+(?!\+\+)", line)),
    )


def reason(before: str) -> str:
    """Why a change of such a line survives."""
    return next((why for pattern, why in REASONS.items() if re.search(pattern, before)), "no test yet")


def main() -> None:
    """Print the report."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors: dict[str, list[str]] = defaultdict(list)
    for module, mutant, code in results():
        if code is None:
            counts[module]["not run"] += 1
        elif code in SURVIVED:
            counts[module]["survived"] += 1
            before, after = change(mutant)
            survivors[reason(before)].append(f"`{module}`: `{before}` -> `{after}`")
        else:
            counts[module]["killed" if code in (*KILLED, *TIMEOUT) else "no tests"] += 1

    total = sum(counts.values(), Counter())
    ran = total.total() - total["not run"]
    out = [f"mutmut {version('mutmut')}: {total['killed']} of {ran} changes were noticed"]
    out += [f"({total['killed'] / max(ran, 1):.1%}); {total['not run']} were not tried.", ""]
    out += ["| module | killed | survived | no tests | not tried |", "|---|---|---|---|---|"]
    for module, found in counts.items():
        cells = (found[kind] for kind in ("killed", "survived", "no tests", "not run"))
        out.append(f"| {module} | {' | '.join(map(str, cells))} |")
    for why, changes in survivors.items():
        out += ["", f"## {why[0].upper()}{why[1:]} ({len(changes)})", "", *(f"- {change}" for change in changes)]
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
