"""`help()` of every public class: short, without tables, and with a text for every field and enum member."""

import ast
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from pydoc import plain, render_doc
from types import ModuleType
from typing import Any, is_typeddict

import pytest

import smtpcore
import smtpcore_adapters
from smtpcore import COMPILED
from smtpcore._help import texts_of

MAX_HELP = 8000  # characters, with margins and line breaks counted as one blank: Python's versions differ in them
MAX_DEFAULT = 150  # characters of the default of a parameter: more is the repr of a table


def public_modules() -> Iterator[ModuleType]:
    """Yield every public module of both packages, except the commands."""
    for package in (smtpcore, smtpcore_adapters):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not re.search(r"\._|\.cli\b", found.name):
                yield import_module(found.name)


def public_classes() -> dict[str, Any]:
    """Return every public class of both packages, by its shortest name."""
    found: dict[str, Any] = {}
    for module in public_modules():
        own = (name for name, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__)
        for name in getattr(module, "__all__", own):
            each = getattr(module, name)
            if isinstance(each, type) and not name.startswith("_") and each not in found.values():
                found[f"{module.__name__}.{name}"] = each
    return found


CLASSES = public_classes()


@cache
def help_of(kind: Any) -> str:
    """Return the text of `help()`, without the sections for attributes that are inherited from the standard library."""
    sections = re.split(r"\n \|  -{70}\n", plain(render_doc(kind)))
    library = re.compile(r" \|  .* inherited from (\w+)[\w.]*:\n")
    inherited = [match and match[1] in (*sys.stdlib_module_names, "builtins") for match in map(library.match, sections)]
    return "\n".join(section for section, is_library in zip(sections, inherited, strict=True) if not is_library)


def needing_text(kind: Any) -> set[str]:
    """Return the names of the fields, keys, members and attributes of a class that need a text."""
    if issubclass(kind, Enum):
        return set(kind.__members__)
    if is_typeddict(kind):
        return set(kind.__annotations__)

    names = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("smtpcore", "smtpcore_adapters") and "__init__" in vars(base):
            names.update(attributes_of(base))
    return {name for name in names if not name.startswith("_")}


def attributes_of(kind: Any) -> Iterator[str]:
    """Yield the attributes that `__init__` of a class assigns."""
    try:
        source = inspect.getsource(kind.__init__)
    except OSError:  # an `__init__` made by `dataclass` has no source
        return
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def test_help_is_short() -> None:
    sizes = {name: len(re.sub(r"[ |\n]+", " ", help_of(kind))) for name, kind in CLASSES.items()}
    assert {name: size for name, size in sizes.items() if size > MAX_HELP} == {}


def parameters_of(kind: Any) -> Iterator[inspect.Parameter]:
    with suppress(ValueError):  # an exception without `__init__`
        yield from inspect.signature(kind).parameters.values()


def test_help_shows_no_table() -> None:
    parameters = [(name, each) for name, kind in CLASSES.items() for each in parameters_of(kind)]
    assert [(name, each) for name, each in parameters if len(repr(each.default)) > MAX_DEFAULT] == []


@pytest.mark.skipif(COMPILED, reason="the texts of fields are read from the source")
def test_help_has_a_text_for_every_field() -> None:
    missing = {name: needing_text(kind) - {*texts_of(kind)} for name, kind in CLASSES.items()}
    assert {name: fields for name, fields in missing.items() if fields} == {}

    for name, kind in CLASSES.items():
        shown = " ".join(re.sub(r"^ \|", "", help_of(kind), flags=re.MULTILINE).split())
        texts = {each: " ".join(texts_of(kind)[each].split()) for each in needing_text(kind)}
        assert [each for each, text in texts.items() if text not in shown] == [], name
