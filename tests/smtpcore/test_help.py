"""The texts of fields, attributes and members in `help()`."""

import inspect
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from pydoc import plain, render_doc
from typing import Any, TypedDict

import pytest

from smtpcore import Wait, show_texts, texts_of


@dataclass(frozen=True, slots=True)
class Point:
    """A point."""

    x: int
    """The distance to the left border, in millimetres. The text is so long that it needs several lines in the help."""
    y: int = 0
    """The distance to the upper border.

    The second paragraph.
    """
    _cached: int = 0
    """A private text."""
    z: int = 0


class Labelled(Point):
    """A point with a label."""

    def __init__(self, label: str) -> None:
        super().__init__(0)
        self.label = label
        """The label."""


class Colour(Enum):
    """A colour."""

    RED = 1
    """Like blood."""


@dataclass(frozen=True, slots=True)
class Pen:
    """A pen."""

    colour: Colour = Colour.RED
    """The colour of the ink."""
    name: str = "A name that is much too long for the list"
    """The name on the pen."""
    maker: str = "A name that is as long as possible, or"
    """The maker, whose name is a part of the well-known text on the pen. The text is broken at spaces."""
    width: float = 0.5
    """The width of a line in millimetres, 0.5 by default."""
    lines: list[Point] = field(default_factory=list)
    """The lines that the pen has drawn."""


class Choices(TypedDict, total=False):
    """The choices."""

    colour: Colour
    """The colour of the line."""


class Shape:
    """A shape."""

    edges: int = 0
    """The number of edges."""


class Plain:
    """A class without fields."""


show_texts(globals())


def shown(kind: Any) -> str:
    """Return the docstring of a class as `help()` shows it."""
    text = plain(render_doc(kind))
    return "\n".join(line.removeprefix(" |").removeprefix("  ") for line in text.splitlines())


def test_fields_follow_the_docstring_in_the_order_of_the_source() -> None:
    assert inspect.getdoc(Point) == (
        "A point.\n"
        "\n"
        "Fields:\n"
        "    x: The distance to the left border, in millimetres. The text is so long that it needs several\n"
        "        lines in the help.\n"
        "    y = 0: The distance to the upper border. The second paragraph."
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Point, "A point.\n\nFields:\n    x: The distance"),
        (Labelled, "    label: The label.\n"),
        (Colour, "A colour.\n\nMembers:\n    RED: Like blood.\n"),
        (Choices, "The choices.\n\nKeys:\n    colour: The colour of the line.\n"),
        (Shape, "A shape.\n\nAttributes:\n    edges: The number of edges.\n"),
        (Plain, "A class without fields.\n"),
    ],
)
def test_help_shows_the_texts(kind: Any, expected: str) -> None:
    assert expected in shown(kind)


def test_short_defaults_follow_the_names_of_fields() -> None:
    assert inspect.getdoc(Pen) == (
        "A pen.\n"
        "\n"
        "Fields:\n"
        "    colour = Colour.RED: The colour of the ink.\n"
        "    name: The name on the pen.\n"
        "    maker = 'A name that is as long as possible, or': The maker, whose name is a part of the\n"
        "        well-known text on the pen. The text is broken at spaces.\n"
        "    width: The width of a line in millimetres, 0.5 by default.\n"
        "    lines: The lines that the pen has drawn."
    )


def test_texts_of_base_classes_come_first() -> None:
    assert list(texts_of(Labelled)) == ["x", "y", "label"]


def test_class_without_source_keeps_its_docstring() -> None:
    namespace: dict[str, Any] = {"__name__": "tests.nowhere"}
    exec('class Lost:\n    "A class."\n    x = 1\n    "A text."', namespace)
    show_texts(namespace)

    assert inspect.getdoc(namespace["Lost"]) == "A class."


def test_class_whose_source_cannot_be_parsed_alone_keeps_its_docstring() -> None:
    class Nested:
        """A class."""

        x: str = """
at the first column
"""
        """A text."""

    show_texts({"__name__": "tests", "Nested": Nested})

    assert inspect.getdoc(Nested) == "A class."


def test_classes_of_other_modules_in_the_package_show_their_texts() -> None:
    class Own:
        """A class."""

        x: int = 0
        """A text."""

    show_texts({"__name__": "tests.elsewhere", "Own": Own})

    assert inspect.getdoc(Own) == "A class.\n\nAttributes:\n    x: A text."


def test_classes_of_other_packages_keep_their_docstrings() -> None:
    before = type(Path.__doc__), type(Wait.__doc__)
    show_texts({"__name__": "tests", "Path": Path, "Wait": Wait, "function": shown})

    assert (type(Path.__doc__), type(Wait.__doc__)) == before


def test_class_without_docstring_stays_without() -> None:
    class Bare:
        x: int = 0
        """A text."""

    show_texts({"__name__": "tests", "Bare": Bare})

    assert Bare.__doc__ is None
