"""Show the texts of fields, attributes and enum members in `help()`."""

# Such a text is a string literal below its field, where editors and documentation tools find it. Python discards these
# literals. So the docstring of a class becomes a `str` that adds a list of the texts when the docstring is displayed:
# `help()` and other tools call `inspect.cleandoc`, which first calls the method `expandtabs`. The texts are then read
# from the source of the class. Nothing is read at import, and without the source there is no list. A descriptor would
# be simpler, but `help()` ignores descriptors for classes that have a metaclass, such as enums.

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, SupportsIndex, is_typeddict

_WIDTH: Final = 100  # columns
_MAX_DEFAULT: Final = 40  # characters; the signature shows longer ones


def show_texts(module: Mapping[str, object]) -> None:
    """Make `help()` show the texts of the fields of each class in `module`, except classes of other packages.

    Call this function with `globals()` at the end of the module.
    """
    package = _package_of(str(module["__name__"]))
    for each in module.values():
        if isinstance(each, type) and _package_of(each.__module__) == package:
            text = vars(each).get("__doc__")
            if isinstance(text, str):
                type.__setattr__(each, "__doc__", _Docstring(text, each))


def _package_of(module: str) -> str:
    return module.partition(".")[0]


class _Docstring(str):
    """The docstring of a class, to be displayed with the texts of the class."""

    __slots__ = ("_kind",)
    _kind: Any

    def __new__(cls, docstring: str, kind: Any) -> "_Docstring":
        self = super().__new__(cls, docstring)
        self._kind = kind
        return self

    def expandtabs(self, tabsize: SupportsIndex = 8) -> str:
        """Return the docstring for display, with the texts of the class."""
        kind = self._kind
        title = "Members" if issubclass(kind, Enum) else "Keys" if is_typeddict(kind) else "Attributes"
        if is_dataclass(kind):
            title = "Fields"

        defaults = _defaults_of(kind)
        lines = [_entry(name, defaults.get(name, ""), " ".join(text.split())) for name, text in texts_of(kind).items()]
        docstring = inspect.cleandoc(str(self))
        return "\n".join([docstring, "", f"{title}:", *lines]) if lines else docstring


def _entry(name: str, default: str, text: str) -> str:
    # Many texts name the default with its unit.
    title = f"{name} = {default}" if default and "default" not in text.lower() else name
    indent = " " * 4
    return textwrap.fill(
        f"{title}: {text}", _WIDTH, initial_indent=indent, subsequent_indent=indent * 2, break_on_hyphens=False
    )


def _defaults_of(kind: Any) -> Mapping[str, str]:
    """Return the short defaults of the fields of a dataclass, by name."""
    given = [each for each in (fields(kind) if is_dataclass(kind) else ()) if each.default is not MISSING]
    shown = {each.name: str(each.default) if isinstance(each.default, Enum) else repr(each.default) for each in given}
    return {name: default for name, default in shown.items() if len(default) <= _MAX_DEFAULT}


def texts_of(kind: Any) -> Mapping[str, str]:
    """Return the texts of the public fields, attributes or members of a class and its base classes, by name."""
    texts = {name: text for base in reversed(kind.__mro__[:-1]) for name, text in _own_texts(base)}
    return {name: text for name, text in texts.items() if not name.startswith("_")}


@lru_cache(maxsize=256)
def _own_texts(kind: Any) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(_texts_in(ast.parse(textwrap.dedent(inspect.getsource(kind)))))
    except (OSError, TypeError, SyntaxError):  # the source is missing, or cannot be parsed alone
        return ()


def _texts_in(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                match before, after:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name))
                        | ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)]),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        yield name, text
