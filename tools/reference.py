"""The pages of the reference: every public name, and every option and limit with its default and reply."""

import ast
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, InitVar, fields
from enum import Enum
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import pytest_smtpcore
import smtpcore
import smtpcore_adapters
from smtpcore import texts_of
from smtpcore._rules import Refusal
from smtpcore_adapters.server._limits import REPLIES

PACKAGES: Final = (smtpcore, smtpcore_adapters)

OPTIONS: Final = {
    "smtpcore.Config": "The protocol of a server's session, with all sizes and counts of a session",
    "smtpcore.Budgets": "The time that a server grants its client, in seconds, and the minimum rate of a body",
    "smtpcore_adapters.Timeouts": "The delays of a server's session, in seconds",
    "smtpcore_adapters.Limits": "The counts and rates of one address, one network, and the whole server",
    "smtpcore_adapters.Options": "The options of a server, and of `serve`, `serving`, `start` and `run`",
    "smtpcore_adapters.Listener": "One address of a server",
    "smtpcore.ClientConfig": "The protocol of a client's session",
    "smtpcore.ClientBudgets": "The time that a client grants its server, in seconds",
    "smtpcore_adapters.ConnectOptions": "The options of `connect`, `open_client`, `send` and pools",
    "smtpcore_adapters.SendOptions": "The options of a message",
    "smtpcore_adapters.testing.ServerOptions": "The options of the test server and the fixture `smtp_server`",
}
"""The classes of options, each with a title."""

_AFTER_GUIDES: Final = ("---", "search:", "  boost: 0.4", "---", "")
"""The head of a page with many names: in results of a search, the pages that explain the names come first."""

FIXTURES: Final = ("smtp_server", "smtp_server_options", "smtp_pair")


def public_modules() -> Iterator[ModuleType]:
    """Yield every public module with public names of its own, except the commands."""
    for package in PACKAGES:
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not re.search(r"\._|\.cli\b", found.name):
                module = import_module(found.name)
                if names_of(module):
                    yield module


def names_of(module: ModuleType) -> list[str]:
    """Return the public names of a module: `__all__`, or the names that the module defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)

    names: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.append(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return [name for name in names if not name.startswith("_")]


def reference_pages() -> dict[str, str]:
    """Return the pages of the reference in Markdown, by their path."""
    modules = list(public_modules())
    pages = {f"reference/{module.__name__}.md": _module_page(module) for module in modules}
    pages["reference/pytest_smtpcore.md"] = _fixtures_page()
    pages["reference/options.md"] = options_page()
    pages["reference/index.md"] = _index_page(modules)
    return pages


def _index_page(modules: Iterable[ModuleType]) -> str:
    lines = [
        "# Reference",
        "",
        "Every public name, from the docstrings of the source. [Options and limits](options.md) has every option with "
        "its default and its reply.",
        "",
        "| module | content | names |",
        "|---|---|---|",
    ]
    for module in modules:
        page = f"{module.__name__}.md"
        names = ", ".join(f"[`{name}`]({page}#{module.__name__}.{name})" for name in sorted(names_of(module)))
        lines.append(f"| [`{module.__name__}`]({page}) | {_cell(_first_line(module))} | {names} |")
    plugin = f"| [`pytest_smtpcore`](pytest_smtpcore.md) | {_first_line(pytest_smtpcore)} |"
    return "\n".join([*lines, f"{plugin} {', '.join(f'`{name}`' for name in FIXTURES)} |", ""])


def _module_page(module: ModuleType) -> str:
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in names_of(module):
        kinds[_kind_of(getattr(module, name))].append(name)

    lines = [*_AFTER_GUIDES, f"# {module.__name__}", "", *_paragraphs(module), ""]
    for kind in ("Classes", "Functions", "Enumerations", "Exceptions", "Values and types"):
        if kinds[kind]:
            lines += [f"## {kind}", ""]
            lines += [line for name in sorted(kinds[kind]) for line in (f"::: {module.__name__}.{name}", "")]
    return "\n".join(lines)


def _fixtures_page() -> str:
    directives = [line for name in FIXTURES for line in (f"::: pytest_smtpcore.{name}", "")]
    return "\n".join(
        [*_AFTER_GUIDES, "# pytest_smtpcore", "", *_paragraphs(pytest_smtpcore), "", "## Fixtures", "", *directives]
    )


def _kind_of(value: object) -> str:
    if isinstance(value, type):
        if issubclass(value, BaseException):
            return "Exceptions"
        return "Enumerations" if issubclass(value, Enum) else "Classes"
    return "Functions" if callable(value) and hasattr(value, "__code__") else "Values and types"


def _paragraphs(module: ModuleType) -> list[str]:
    # Examples of the interpreter need a fence of their own to be shown as code.
    text = inspect.getdoc(module) or ""
    return [f"```pycon\n{block}\n```" if block.startswith(">>>") else block for block in text.split("\n\n")]


def _first_line(module: ModuleType) -> str:
    return " ".join((inspect.getdoc(module) or "").partition("\n\n")[0].split())


def options_page() -> str:
    """Return the page with every option and limit."""
    lines = [
        "# Options and limits",
        "",
        "Each class of options, with the default of each option, the reply to a client that exceeds a limit, and the "
        "RFC. Times are in seconds, sizes in octets. [Limits and their replies](../server.md#limits-and-their-replies) "
        "explains how limits count. A 421 closes the connection.",
    ]
    for path, title in OPTIONS.items():
        module, _, name = path.rpartition(".")
        lines += ["", f"## {name}", "", f"{title}: [`{path}`]({module}.md#{path}).", ""]
        lines += ["| option | default | meaning | reply | RFC |", "|---|---|---|---|---|"]
        lines += _rows(getattr(import_module(module), name))
    return "\n".join([*lines, ""])


def _rows(kind: Any) -> Iterator[str]:
    defaults, replies = _defaults_of(kind), _replies_of(kind)
    for name, text in texts_of(kind).items():
        if name in defaults:
            rfc = re.findall(r"RFC \d+(?: (?:section )?[\d.]*\d)?", text)
            cells = (f"`{name}`", defaults[name], _cell(text), replies.get(name, ""), ", ".join(dict.fromkeys(rfc)))
            yield f"| {' | '.join(cells)} |"


def _defaults_of(kind: Any) -> Mapping[str, str]:
    if hasattr(kind, "__total__"):  # a TypedDict: the text has the default
        return dict.fromkeys(inspect.get_annotations(kind) | kind.__annotations__, "")

    defaults = {each.name: _shown(each.default, each.default_factory) for each in fields(kind)}
    given = {name for name, value in inspect.get_annotations(kind).items() if isinstance(value, InitVar)}
    return defaults | {name: _shown(getattr(kind, name), MISSING) for name in given}


def _shown(default: object, factory: object) -> str:
    if default is MISSING:
        return "required" if factory is MISSING else "see the text"
    if isinstance(default, Enum):
        return f"`{default.name}`"
    if default == frozenset():
        return "none"
    return f"{default:,}" if isinstance(default, int) and not isinstance(default, bool) else f"`{default!r}`"


def _replies_of(kind: Any) -> Mapping[str, str]:
    if kind is smtpcore.Config:
        replies: dict[str, list[str]] = defaultdict(list)
        for each in vars(import_module("smtpcore._rules")).values():
            if isinstance(each, Refusal):
                replies[each.rule].append(_code(each.reply))
        return {rule: ", ".join(dict.fromkeys(codes)) for rule, codes in replies.items()}
    if kind is smtpcore.Budgets:
        closed = dict.fromkeys(("handshake", "send"), "the connection is closed")
        return {name: closed.get(name, "421 4.4.2") for name in texts_of(kind)}
    if kind is smtpcore_adapters.Timeouts:
        early = _code(REPLIES["greeting_delay"])
        return {"crowded": "421 4.4.2", "close": "the connection is closed", "greeting_delay": early}
    if kind is smtpcore_adapters.Limits:
        return {name: _code(reply) for name, reply in REPLIES.items()}
    return {}


def _code(reply: smtpcore.Reply) -> str:
    return f"{reply.code} {reply.enhanced or ''}".strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
