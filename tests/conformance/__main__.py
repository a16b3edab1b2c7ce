"""Print how many requirements the tests cover, by role and by RFC."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable

from ._rows import Requirement, named, requirements, uncovered


def table(rows: Iterable[Requirement], key: Callable[[Requirement], object]) -> list[str]:
    covered, reasons = named(), uncovered()
    counts: Counter[tuple[object, str]] = Counter()
    for row in rows:
        counts[key(row), "all"] += 1
        counts[key(row), "tested" if row.id in covered else "listed" if row.id in reasons else "open"] += 1

    columns = ("all", "tested", "listed", "open")
    keys = dict.fromkeys(key for key, _ in counts)
    return [f"{key!s:>8}" + "".join(f"{counts[key, column]:>8}" for column in columns) for key in keys]


def main() -> None:
    rows = requirements()
    sys.stdout.write(f"{'':8}{'rows':>8}{'tested':>8}{'listed':>8}{'open':>8}\n")
    for lines in (
        table(rows, lambda row: row.role),
        table(rows, lambda row: row.level.lower()),
        table(sorted(rows, key=lambda row: row.rfc), lambda row: row.rfc),
        table(rows, lambda row: "all"),
    ):
        sys.stdout.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
