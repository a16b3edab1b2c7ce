"""The mutants that no test notices, each with the reason, as listed in `survivors.md`.

A mutant is listed under its function, by the exact text before and after the change:

    ### smtpcore._buffer.xǁReceiveBufferǁclear

    - `self._searched = 0` -> `self._searched = None`
      The value is replaced before it is read.

The number that mutmut gives to a mutant is left out, because it changes with each edit of the function. If a function
has the same line several times, `(occurrence 2)` follows the text. A reason that begins with `?` is a suggestion, which
somebody has to confirm by removing the `?`.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LIST: Final = Path(__file__).with_name("survivors.md")
SOURCES: Final = Path(__file__).parents[2] / "src"
HEADING: Final = "## Survivors"
"""The list starts after this line. The results are before it."""

NOTICED, SURVIVED, NO_TESTS, NOT_TRIED = OUTCOMES = ("noticed", "survived", "no tests", "not tried")
UNNOTICED: Final = (SURVIVED, NO_TESTS)

_ENTRY: Final = re.compile(r"- `(?P<before>.*)` -> `(?P<after>.*)`(?: \(occurrence (?P<occurrence>[2-9]|[1-9]\d+)\))?")


@dataclass(frozen=True, slots=True)
class Change:
    """A mutant, by the name of its function and the text of the change."""

    function: str
    """The full name that mutmut uses, without the number of the mutant: `smtpcore._buffer.xǁReceiveBufferǁclear`."""
    before: str
    """The changed lines, without indentation, joined by spaces."""
    after: str
    occurrence: int = 1
    """The number of this change among equal changes in the same function."""

    @property
    def text(self) -> str:
        return f"`{self.before}` -> `{self.after}`"

    def __str__(self) -> str:
        return f"{self.text} (occurrence {self.occurrence})" if self.occurrence > 1 else self.text


def parse_list(text: str) -> dict[Change, str]:
    """Return the listed mutants and their reasons. Raise `ValueError` for a line in another form."""
    listed: dict[Change, str] = {}
    function, change = "", None
    for line in text.partition(f"{HEADING}\n")[2].splitlines():
        if not line:
            change = None
        elif line.startswith("### "):
            function, change = line.removeprefix("### "), None
        elif function and (match := _ENTRY.fullmatch(line)):
            change = Change(function, match["before"], match["after"], int(match["occurrence"] or 1))
            if change in listed:
                raise ValueError(f"{function}: {change} is listed twice")
            listed[change] = ""
        elif change and not listed[change] and line.startswith("  "):
            listed[change] = line.strip()
        else:
            raise ValueError(f"not a function, a mutant or its reason: {line!r}")

    return listed


def format_list(listed: Mapping[Change, str]) -> Iterator[str]:
    """Yield the lines of the list, grouped by function."""
    yield HEADING
    functions = dict.fromkeys(change.function for change in listed)
    for function in functions:
        yield from ("", f"### {function}", "")
        for change, reason in listed.items():
            if change.function == function:
                yield f"- {change}"
                yield from [f"  {reason}"] if reason else []


def change_of(diff: str) -> tuple[str, str]:
    """Return the lines before and after a change, from the first changed line to the last."""
    lines = [line for line in diff.splitlines() if not line.startswith(("--- ", "+++ ", "@@ "))]
    changed = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    lines = lines[changed[0] : changed[-1] + 1]
    return (
        " ".join(line[1:].strip() for line in lines if not line.startswith("+")),
        " ".join(line[1:].strip() for line in lines if not line.startswith("-")),
    )


def number_changes(changes: Iterable[tuple[str, str, str]]) -> list[Change]:
    """Return a `Change` for each function, text before and text after. Equal changes are numbered."""
    found: list[Change] = []
    seen: dict[tuple[str, str, str], int] = {}
    for key in changes:
        seen[key] = seen.get(key, 0) + 1
        found.append(Change(*key, occurrence=seen[key]))
    return found


def objections(listed: Mapping[Change, str], found: Mapping[Change, str]) -> Iterator[str]:
    """Yield all differences between the list and the outcomes of mutants."""
    for change, outcome in found.items():
        if outcome in UNNOTICED and change not in listed:
            yield f"no test notices it, and it is not listed: {change.function}: {change}"
    for change, reason in listed.items():
        outcome = found.get(change, "")
        if not outcome:
            yield f"listed, but there is no such mutant: {change.function}: {change}"
        elif outcome == NOTICED:
            yield f"listed, but a test notices it: {change.function}: {change}"
        elif not is_reason(reason):
            yield f"listed without a confirmed reason: {change.function}: {change}"


def is_reason(reason: str) -> bool:
    """Return whether a reason is given and confirmed."""
    return bool(reason) and not reason.startswith("?")


def merge(listed: Mapping[Change, str], found: Mapping[Change, str]) -> dict[Change, str]:
    """Return a new list for these outcomes, with the known reasons.

    Entries for mutants that were not tried are kept. A new entry gets the reason of an entry with the same text in
    another function as a suggestion: the function may have been renamed or moved.
    """
    by_text = {change.text: reason.removeprefix("? ") for change, reason in listed.items() if reason}
    merged: dict[Change, str] = {}
    for change, outcome in found.items():
        if outcome in UNNOTICED or (outcome == NOT_TRIED and change in listed):
            suggestion = by_text.get(change.text)
            merged[change] = listed.get(change) or (f"? {suggestion}" if suggestion else "")
    return merged


def missing_in_source(change: Change, sources: Path = SOURCES) -> str:
    """Return what is missing in the source: the function or the text before the change. Empty if nothing is."""
    module, _, mangled = change.function.rpartition(".")
    path = sources.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return f"module {module}"

    text = path.read_text()
    for name, function in _functions(ast.parse(text)):
        if name == mangled:
            first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
            lines = text.splitlines()[first - 1 : function.end_lineno]
            return "" if change.before in " ".join(line.strip() for line in lines) else change.before
    return f"function {mangled}"


def _functions(module: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions and methods of a module, with the names that mutmut gives them."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef):
            yield f"x_{node.name}", node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    yield f"xǁ{node.name}ǁ{method.name}", method
