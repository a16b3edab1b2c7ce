"""The import rules of `smtpcore.sasl`: layers, the standard library, no I/O."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smtpcore.sasl as sasl

PACKAGE = Path(sasl.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))

# A module imports only from the rows above its own: neither sideways nor in a circle.
LAYERS = (
    {"_stringprep", "_saslname"},
    {"_keys", "_scram_messages"},
    {"_context", "_steps"},
    {"_mechanism"},
    {"_plain", "_cram", "_scram", "_oauth", "_external", "_anonymous"},
    {"_table"},
    {"_server"},
    {"__init__"},
)
# The events and replies that an exchange joins with a mechanism, the checks of types, and the texts for `help()`.
OF_THE_CORE = {
    "__init__": {".._help"},
    "_server": {".._commands", ".._events", ".._fields", ".._replies"},
    **{module: {".._fields"} for module in ("_context", "_keys", "_mechanism", "_steps", "_table")},
}
LAYER_OF = {module: number for number, modules in enumerate(LAYERS) for module in modules}

ALLOWED = {
    "abc",
    "base64",
    "binascii",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "json",
    "re",
    "secrets",
    "stringprep",
    "typing",
    "unicodedata",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def stem(path: Path) -> str:
    return path.stem


def test_every_sasl_module_has_a_layer() -> None:
    assert set(LAYER_OF) == {path.stem for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=stem)
def test_sasl_imports_only_lower_layers_and_the_errors_module(path: Path) -> None:
    for name in imports(path):
        if name.startswith(".."):
            assert name in {".._errors", *OF_THE_CORE.get(path.stem, ())}
        elif name.startswith("."):
            assert LAYER_OF[name[1:]] < LAYER_OF[path.stem]
        else:
            assert name.partition(".")[0] in ALLOWED


def test_sasl_loads_no_io_module_and_the_core_does_not_load_sasl() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent.parent)!r})
import smtpcore
print(*(name for name in sys.modules if name.startswith("smtpcore.sasl")))
before = set(sys.modules)
import smtpcore.sasl
forbidden = {{"_socket", "_ssl", "asyncio", "logging", "select", "selectors", "socket", "ssl", "threading", "time"}}
print(*forbidden & (set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-S", "-E", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_sasl_package_exports_exactly_its_imports() -> None:
    nodes = [node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.ImportFrom)]
    imported = [alias.name for node in nodes if node.level == 1 for alias in node.names]

    assert sorted(sasl.__all__) == sorted(imported)
    assert all(hasattr(sasl, name) and not name.startswith("_") for name in sasl.__all__)
