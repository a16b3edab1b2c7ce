"""Who may import whom, and what nobody may import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import smtpcore.sasl as sasl

PACKAGE = Path(sasl.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))

# A module imports from the rows above its own, and from nowhere else: neither sideways nor in a circle.
LAYERS = (
    {"_stringprep", "_saslname"},
    {"_keys", "_scram_messages"},
    {"_context", "_steps"},
    {"_mechanism"},
    {"_plain", "_cram", "_scram", "_oauth", "_external", "_anonymous"},
    {"_table"},
    {"__init__"},
)
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


def test_each_module_has_its_layer() -> None:
    assert set(LAYER_OF) == {path.stem for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=stem)
def test_imports_go_from_a_higher_layer_to_a_lower_one_and_out_of_the_room_only_to_the_errors(path: Path) -> None:
    for name in imports(path):
        if name.startswith(".."):
            assert name == ".._errors"
        elif name.startswith("."):
            assert LAYER_OF[name[1:]] < LAYER_OF[path.stem]
        else:
            assert name.partition(".")[0] in ALLOWED


def test_nothing_that_does_IO_is_loaded_and_the_core_does_not_load_this_room() -> None:
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


def test_the_front_door_opens_to_what_it_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]

    assert sorted(sasl.__all__) == sorted(imported)
    assert all(hasattr(sasl, name) and not name.startswith("_") for name in sasl.__all__)
