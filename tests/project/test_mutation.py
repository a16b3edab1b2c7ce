"""The list of surviving mutants: its form, and how it is compared with the results."""

from pathlib import Path

import pytest

from tests.mutation.survivors import (
    HEADING,
    LIST,
    NO_TESTS,
    NOT_TRIED,
    NOTICED,
    SURVIVED,
    Change,
    change_of,
    format_list,
    is_reason,
    merge,
    missing_in_source,
    number_changes,
    objections,
    parse_list,
)

FUNCTION = "smtpcore._buffer.xǁReceiveBufferǁclear"
FIRST = Change(FUNCTION, "a = 0", "a = 1")
SECOND = Change(FUNCTION, "a = 0", "a = 1", occurrence=2)
OTHER = Change("smtpcore._xtext.x_encode", 'return "`"', "")


def test_each_listed_mutant_is_in_the_source_and_has_a_reason() -> None:
    listed = parse_list(LIST.read_text())
    wrong = {str(change): missing for change in listed if (missing := missing_in_source(change))}

    assert not wrong, "no longer in the source: change or remove the entries in tests/mutation/survivors.md"
    assert [str(change) for change, reason in listed.items() if not is_reason(reason)] == []


# The form of the list


def test_list_of_survivors_is_parsed_as_it_was_written() -> None:
    listed = {FIRST: "It is replaced.", SECOND: "? It is equally false.", OTHER: ""}
    lines = ["# Results", "- `not a` -> `survivor`", *format_list(listed)]

    assert parse_list("\n".join(lines)) == listed
    assert lines[2:] == [
        "## Survivors",
        "",
        f"### {FUNCTION}",
        "",
        "- `a = 0` -> `a = 1`",
        "  It is replaced.",
        "- `a = 0` -> `a = 1` (occurrence 2)",
        "  ? It is equally false.",
        "",
        "### smtpcore._xtext.x_encode",
        "",
        '- `return "`"` -> ``',
    ]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["- `a` -> `b`"], id="no function"),
        pytest.param(["### f", "", "- a -> b"], id="no code"),
        pytest.param(["### f", "", "  A reason."], id="no mutant"),
        pytest.param(["### f", "", "- `a` -> `b`", "  A reason.", "  Another."], id="two reasons"),
        pytest.param(["### f", "", "- `a` -> `b`", "A reason."], id="reason without indentation"),
        pytest.param(["### f", "", "- `a` -> `b`", "- `a` -> `b`"], id="twice"),
        pytest.param(["### f", "", "- `a` -> `b` (occurrence 1)"], id="first occurrence"),
    ],
)
def test_malformed_line_in_the_list_of_survivors_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"listed twice|not a function, a mutant or its reason"):
        parse_list("\n".join([HEADING, "", *lines]))


def test_change_is_read_from_a_diff() -> None:
    diff = ["--- a.py", "+++ a.py", "@@ -1,4 +1,4 @@", " def f():", "-    if a:", "+    if not a:", "         return"]
    assert change_of("\n".join(diff)) == ("if a:", "if not a:")
    diff = ["@@ -1,5 +1,5 @@", " f(", "-  x", "+  (x", "   or y", "-  or z", "+  or z) and False", " )"]
    assert change_of("\n".join(diff)) == ("x or y or z", "(x or y or z) and False")
    assert change_of("@@ -1,2 +1,1 @@\n case _:\n-    pass") == ("pass", "")


def test_equal_changes_of_a_function_are_numbered() -> None:
    texts = [(FUNCTION, "a = 0", "a = 1"), (FUNCTION, "a = 0", "a = None"), (FUNCTION, "a = 0", "a = 1")]
    assert number_changes(texts) == [FIRST, Change(FUNCTION, "a = 0", "a = None"), SECOND]


# Comparison with the results


def test_list_of_survivors_with_reasons_is_accepted() -> None:
    listed = {FIRST: "It is replaced.", SECOND: "It is not reached.", OTHER: "It is not tried."}
    assert list(objections(listed, {FIRST: SURVIVED, SECOND: NO_TESTS, OTHER: NOT_TRIED})) == []


@pytest.mark.parametrize(
    ("listed", "found", "objection"),
    [
        pytest.param({}, {FIRST: SURVIVED}, "no test notices it, and it is not listed", id="not listed"),
        pytest.param({}, {FIRST: NO_TESTS}, "no test notices it, and it is not listed", id="no test"),
        pytest.param({FIRST: "why"}, {}, "listed, but there is no such mutant", id="does not exist"),
        pytest.param({FIRST: "why"}, {FIRST: NOTICED}, "listed, but a test notices it", id="noticed"),
        pytest.param({FIRST: ""}, {FIRST: SURVIVED}, "listed without a confirmed reason", id="no reason"),
        pytest.param({FIRST: "? why"}, {FIRST: SURVIVED}, "listed without a confirmed reason", id="suggestion"),
    ],
)
def test_difference_between_list_and_results_is_reported(
    listed: dict[Change, str], found: dict[Change, str], objection: str
) -> None:
    assert list(objections(listed, found)) == [f"{objection}: {FUNCTION}: `a = 0` -> `a = 1`"]


def test_second_occurrence_of_a_survivor_needs_its_own_entry() -> None:
    assert len(list(objections({FIRST: "why"}, {FIRST: SURVIVED, SECOND: SURVIVED}))) == 1


def test_new_list_keeps_reasons_and_drops_mutants_that_no_longer_survive() -> None:
    listed = {FIRST: "It is replaced.", SECOND: "It was noticed.", OTHER: "It was not tried."}
    new = Change(FUNCTION, "b = 0", "b = 1")

    assert merge(listed, {FIRST: SURVIVED, SECOND: NOTICED, OTHER: NOT_TRIED, new: NO_TESTS}) == {
        FIRST: "It is replaced.",
        OTHER: "It was not tried.",
        new: "",
    }


@pytest.mark.parametrize("reason", ["It is replaced.", "? It is replaced."])
def test_reason_is_suggested_for_an_equal_change_in_another_function(reason: str) -> None:
    renamed = Change("smtpcore._buffer.xǁReceiveBufferǁreset", FIRST.before, FIRST.after)
    assert merge({FIRST: reason}, {renamed: SURVIVED}) == {renamed: "? It is replaced."}


# The source


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A directory with a module and a package, which contain functions."""
    package = tmp_path / "core"
    (package / "inner").mkdir(parents=True)
    lines = [
        "class A:",
        "    b = 1",
        "    @cache",
        "    def f(self):",
        "        return g(",
        "            1,",
        "        )",
    ]
    (package / "_a.py").write_text("\n".join(lines))
    (package / "inner" / "__init__.py").write_text("def f():\n    return 1\n\n\nx = 2\n")
    return tmp_path


@pytest.mark.parametrize(
    ("function", "before", "missing"),
    [
        ("core._a.xǁAǁf", "return g( 1, )", ""),
        ("core._a.xǁAǁf", "@cache", ""),
        ("core._a.xǁAǁf", "b = 1", "b = 1"),
        ("core._a.xǁAǁg", "return g(", "function xǁAǁg"),
        ("core._a.x_f", "return g(", "function x_f"),
        ("core._b.x_f", "return 1", "module core._b"),
        ("core.inner.x_f", "return 1", ""),
        ("core.inner.x_f", "x = 2", "x = 2"),
    ],
)
def test_function_and_text_of_a_mutant_are_found_in_the_source(
    function: str, before: str, missing: str, sources: Path
) -> None:
    assert missing_in_source(Change(function, before, ""), sources) == missing
