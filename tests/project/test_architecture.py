"""The import rules of both packages: layers, the standard library, frameworks, no I/O in the core."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from itertools import combinations
from pathlib import Path

import pytest

import smtpcore
from tests.paths import TESTS

SRC = Path(smtpcore.__file__).parent.parent
CORE = sorted((SRC / "smtpcore").rglob("*.py"))
ADAPTERS = sorted((SRC / "smtpcore_adapters").rglob("*.py"))

# A module imports only from the rows above its own: neither sideways nor in a circle.
LAYERS = (
    {"_errors", "_help", "_states"},
    {"_fields"},
    {"_grammar", "_buffer", "_base64", "_budgets"},
    {"_config", "_addresses", "_replies", "_command", "_xtext"},
    {"_extensions"},
    {"parameters"},
    {"_commands"},
    {"_rules"},
    {"_bodies", "_events", "_reply_reader"},
    {"_dialects", "_state"},
    {"_endpoint", "_parser"},
    {"_tolerance"},
    {"_default_replies", "_refusals", "_requests"},
    {"_connection", "_client", "trace", "proxy", "sasl"},
    {"dialogues"},
    {"__init__"},
    {"__main__"},
)
LAYER_OF = {module: number for number, modules in enumerate(LAYERS) for module in modules}

ALLOWED_EVERYWHERE = {
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "ipaddress",
    "math",
    "re",
    "types",
    "typing",
}
ALLOWED_IN = {
    "__main__": {"smtpcore_adapters"},  # `python -m smtpcore` is the command line; nothing imports this module
    "_base64": {"binascii"},
    "_endpoint": {"abc"},
    "_help": {"ast", "inspect", "textwrap"},
    "proxy": {"struct"},
    "sasl": {"abc", "base64", "binascii", "hashlib", "hmac", "json", "secrets", "stringprep", "unicodedata"},
}

# Parts of the core that the connection does not import.
BESIDE = {"__main__", "_help", "dialogues", "proxy", "sasl", "trace"}
# The size of h11, and as much again for BDAT, AUTH, some twenty-five extensions, a client that checks its requests
# against all of them, the tolerance for lines that break the grammar, all limits of time, an answer for every event in
# one call, the refusal of a message at its header, a text for each reply code and each member of every enum, and a
# check of the type of each value that a program passes.
MAX_CORE = 6916

# Each framework is imported by one module of the same name.
FRAMEWORKS = {"asyncio", "anyio", "trio"}
# Modules that provide a transport, and modules that choose between transports.
TRANSPORTS = FRAMEWORKS | {"socket"}
CHOOSES = {"cli", "__main__", "testing"}

DOES_IO = ("_socket", "_ssl", "asyncio", "logging", "select", "selectors", "socket", "ssl", "threading")


MODULES = [path for path in (*CORE, *ADAPTERS) if path.name != "__init__.py"]
# The directory of the tests of each package. Below it, a test file has the path of its module, without leading
# underscores.
TEST_DIRECTORIES = {"smtpcore": TESTS / "smtpcore", "smtpcore_adapters": TESTS / "adapters"}
WITHOUT_TEST_FILE = {
    "smtpcore/__main__": "calls the command line, which tests/adapters/cli/test_main.py runs",
    "smtpcore/_command": "the base class of the commands in test_commands.py, and the event UnknownCommand",
    "smtpcore/_errors": "declarations only",
    "smtpcore/_states": "declarations only",
    "smtpcore_adapters/__main__": "calls the command line, which tests/adapters/cli/test_main.py runs",
    "smtpcore_adapters/client/_options": "declarations only",
    "smtpcore_adapters/server/_handler_types": "declarations only, which test_options.py uses for type checkers",
    "smtpcore_adapters/server/_session_state": "declarations only, which test_typing.py uses for type checkers",
}
"""Modules without a test file of their own, with the reason."""


def module_id(path: Path) -> str:
    """Return the path of a module inside `src`, without the suffix."""
    return path.relative_to(SRC).with_suffix("").as_posix()


def expected_test_file(path: Path) -> Path:
    """Return the path of the test file of a module: `tests/smtpcore/bodies/test_lines.py` for `_bodies/_lines.py`."""
    package, *folders, name = path.relative_to(SRC).with_suffix("").parts
    return TEST_DIRECTORIES[package].joinpath(
        *(folder.lstrip("_") for folder in folders), f"test_{name.lstrip('_')}.py"
    )


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the full names of the modules that a file imports, anywhere in the file."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = ".".join(path.relative_to(SRC).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            yield from [origin] if node.module else (f"{origin}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """Return the module or subpackage of its package that a file belongs to."""
    return path.relative_to(SRC).parts[1].removesuffix(".py")


def siblings(path: Path) -> set[str]:
    """Return the other modules and subpackages of its package that a file imports."""
    package = path.relative_to(SRC).parts[0]
    return {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")} - {part_of(path)}


def roots(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, except its own."""
    return {name.partition(".")[0] for name in imports(path)} - {path.relative_to(SRC).parts[0]}


def test_every_core_module_has_a_layer() -> None:
    assert {part_of(path) for path in CORE} <= set(LAYER_OF)
    assert sum(map(len, LAYERS)) == len(LAYER_OF)


def test_core_imports_only_lower_layers() -> None:
    imported = {(part_of(path), module) for path in CORE for module in siblings(path)}
    assert {(part, module) for part, module in imported if LAYER_OF[module] >= LAYER_OF[part]} == set()


def test_core_imports_only_allowed_standard_library_modules() -> None:
    imported = {(part_of(path), root) for path in CORE for root in roots(path) - ALLOWED_EVERYWHERE}
    assert {(part, root) for part, root in imported if root not in ALLOWED_IN.get(part, set())} == set()


def test_core_stays_within_its_size_limit() -> None:
    assert sum(len(path.read_text().splitlines()) for path in CORE if part_of(path) not in BESIDE) <= MAX_CORE


def test_only_advance_assigns_the_state_of_a_session() -> None:
    places = {
        (part_of(path), function.name)
        for path in CORE
        if part_of(path) not in BESIDE
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "_state" and not isinstance(node.ctx, ast.Load)
    }

    assert places == {("_endpoint", "__init__"), ("_endpoint", "_advance")}


def test_main_module_of_the_core_is_the_only_one_that_imports_the_adapters() -> None:
    (main,) = (path for path in CORE if "smtpcore_adapters" in roots(path))
    assert part_of(main) == "__main__"
    assert not [path for path in (*CORE, *ADAPTERS) if "smtpcore.__main__" in set(imports(path))]


def test_connection_does_not_import_proxy_sasl_or_trace() -> None:
    (connection,) = (path for path in CORE if part_of(path) == "_connection")
    assert not siblings(connection) & BESIDE


def test_importing_the_core_loads_no_io_module() -> None:
    script = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(SRC)!r})
import smtpcore, smtpcore.trace
loaded = set(sys.modules) - before
assert "smtpcore._connection" in loaded
print(*sorted(loaded & {{*{(*DOES_IO, "time")!r}}}))
print(*sorted(name for name in loaded if name.partition(".")[0] not in (*sys.stdlib_module_names, "smtpcore")))
"""
    done = subprocess.run([sys.executable, "-S", "-E", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_core_exports_exactly_its_imports() -> None:
    exported = {
        alias.asname or alias.name
        for node in ast.parse((SRC / "smtpcore" / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert set(smtpcore.__all__) == exported
    assert sorted(smtpcore.__all__) == sorted(set(smtpcore.__all__))
    assert all(not name.startswith("_") and hasattr(smtpcore, name) for name in smtpcore.__all__)


# The adapters


def test_adapters_import_only_the_public_core() -> None:
    private = [(module_id(path), name) for path in ADAPTERS for name in imports(path) if name.startswith("smtpcore._")]
    assert private == []


def test_frameworks_are_imported_only_by_their_own_modules() -> None:
    imported = {(path, root) for path in ADAPTERS for root in roots(path) & FRAMEWORKS}
    assert {
        (module_id(path), root) for path, root in imported if root not in {part_of(path), path.stem.removeprefix("_")}
    } == set()


def test_framework_modules_are_not_imported_by_other_adapters() -> None:
    others = [path for path in ADAPTERS if part_of(path) not in CHOOSES]
    assert {module_id(path): found for path in others if (found := siblings(path) & TRANSPORTS)} == {}


def lines(path: Path) -> Counter[str]:
    """Count each line of a file, except imports and lines of at most 4 characters, such as `)` or `try:`."""
    source = path.read_text()
    imported = {
        number
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    stripped = (line.strip() for number, line in enumerate(source.splitlines(), 1) if number not in imported)
    return Counter(line for line in stripped if len(line) > 4)


@pytest.mark.parametrize(("one", "other"), [*combinations(sorted(TRANSPORTS), 2)])
def test_two_adapters_have_less_than_a_fifth_of_their_lines_in_common(one: str, other: str) -> None:
    counts = [lines(SRC / "smtpcore_adapters" / f"{name}.py") for name in (one, other)]
    assert (counts[0] & counts[1]).total() < 0.2 * min(count.total() for count in counts)


def test_importing_the_adapters_loads_no_framework() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(SRC)!r})
import smtpcore_adapters, smtpcore_adapters.forward, smtpcore_adapters.maildir, smtpcore_adapters.stores
print(*sorted({{"asyncio", "anyio", "trio", "curio", "sniffio"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-S", "-E", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


# The test files


def test_each_module_has_its_test_file() -> None:
    files = {module_id(path): expected_test_file(path) for path in MODULES}
    missing = {name for name, file in files.items() if not file.exists()}

    assert missing - set(WITHOUT_TEST_FILE) == set(), "write a test file, or name a reason in WITHOUT_TEST_FILE"
    assert set(WITHOUT_TEST_FILE) - missing == set(), "these have a test file: remove them from WITHOUT_TEST_FILE"


def test_list_of_modules_without_test_file_names_existing_modules() -> None:
    assert set(WITHOUT_TEST_FILE) <= set(map(module_id, MODULES))


def test_each_test_file_of_the_core_belongs_to_a_module() -> None:
    files = set((TESTS / "smtpcore").rglob("test_*.py")) - {TESTS / "smtpcore" / "sasl" / "test_architecture.py"}

    assert files <= {expected_test_file(path) for path in CORE}
