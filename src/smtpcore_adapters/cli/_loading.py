"""Load the `App` of a user: `smtpcore serve module:app`."""

import sys
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from inspect import iscoroutinefunction, signature
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import click

from ..server._app import App

_PACKAGES = "site-packages"
"""A part of the path of each installed package. Errors do not name lines of installed packages."""


def load_app(place: str) -> App[Any]:
    """Return the `App` at MODULE:ATTRIBUTE, or the result of the function there. The working directory is searched too.

    Raises:
        click.UsageError: The module or the attribute is missing, its import fails, or the result is not an `App`.
    """
    module_name, _, path = place.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        stem = Path(module_name).with_suffix("").as_posix().strip("./").replace("/", ".")
        raise click.UsageError(f"{place!r} is not a module: write {stem}:{path or 'app'}, without .py")
    if module_name.endswith(".toml"):
        raise click.UsageError(f"{place!r} is not a module: write --config {module_name}")
    if not all(part.isidentifier() for part in module_name.split(".")) or not path:
        raise click.UsageError(f"{place!r} does not name an app: write MODULE:ATTRIBUTE, such as server:app")

    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    module = _import(module_name)
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            advice = _advice(path, _apps_in(module), without="it has no App")
            raise click.UsageError(f"{module_name} has no attribute {path!r}: {advice}") from None
        except Exception as exc:  # of a property, or of `__getattr__` of the module
            raise _failed(exc, place) from exc

    if not isinstance(found, App) and callable(found):
        found = _call(found, place)
    if not isinstance(found, App):
        kind = type(found).__name__
        raise click.UsageError(f"{place} is of the type {kind}: it has to be an App, or a function that returns an App")

    return found


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name and f"{name}.".startswith(f"{exc.name}."):
            known = [found.name for found in iter_modules([str(Path.cwd())])]
            advice = _advice(exc.name, known, without="this directory has no modules")
            raise click.UsageError(f"there is no module {exc.name!r} in {Path.cwd()} or installed: {advice}") from exc
        raise _failed(exc, name) from exc
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise _failed(exc, name) from exc


def _call(function: Callable[[], object], place: str) -> object:
    try:
        signature(function).bind()
    except TypeError as exc:
        raise click.UsageError(f"{place} cannot be called without arguments: {exc}") from exc
    except ValueError:
        pass  # some functions of C have no signature
    if iscoroutinefunction(function):
        raise click.UsageError(f"{place} is a coroutine function: write def in place of async def")

    try:
        return function()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise _failed(exc, place) from exc


def _failed(exc: BaseException, place: str) -> click.UsageError:
    """Return the error for an exception in the code of the user, with the file and the line."""
    if isinstance(exc, SyntaxError):
        where = f"{exc.filename}, line {exc.lineno}"
    else:
        frames = traceback.extract_tb(exc.__traceback__)
        own = [each for each in frames if each.filename.startswith(str(Path.cwd())) and _PACKAGES not in each.filename]
        where = f"{(own or frames)[-1].filename}, line {(own or frames)[-1].lineno}"
    text = " ".join((exc.msg if isinstance(exc, SyntaxError) else str(exc)).split())
    return click.UsageError(f"{place} cannot be used: {type(exc).__name__}: {text} ({where})")


def _apps_in(module: ModuleType) -> list[str]:
    return [name for name, each in vars(module).items() if isinstance(each, App)]


def _advice(name: str, known: Iterable[str], *, without: str) -> str:
    """Return the nearest known name, or all of them. Without known names, return the text `without`."""
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1)
    if not names:
        return without
    return f"is it {nearest[0]!r}?" if nearest else f"use one of {', '.join(names)}"
