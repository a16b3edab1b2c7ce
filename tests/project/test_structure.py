"""Layers of the adapters, circles of imports, sizes of classes and functions, and who may write a private attribute."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import smtpcore

SRC = Path(smtpcore.__file__).parent.parent
CORE = sorted((SRC / "smtpcore").rglob("*.py"))
ADAPTERS = sorted((SRC / "smtpcore_adapters").rglob("*.py"))

# A package or module of smtpcore_adapters imports from the rows above its own only. So the client and the server do not
# import each other, and neither do the modules of the frameworks.
ADAPTER_LAYERS = (
    {"_extras", "_hangups", "_installation", "_names", "_printable", "tls"},
    {"streams"},
    {"client", "server"},
    {"_adapter", "check", "compat", "embedding", "forward", "greylist", "metrics"}
    | {"recipients", "shared_limits", "stores", "transcript", "users", "workers"},
    {"anyio", "asyncio", "maildir", "socket", "trio"},
    {"drain", "explain", "testing"},
    {"cli"},
    {"__init__", "__main__"},
)
ADAPTER_LAYER_OF = {name: number for number, names in enumerate(ADAPTER_LAYERS) for name in names}

MAX_CLASS_LINES = 400
MAX_FUNCTION_LINES = 50


def identify(path: Path) -> str:
    return path.relative_to(SRC).with_suffix("").as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the full names of the modules, and of the names in them, that a file imports when it is loaded."""
    package = ".".join(path.relative_to(SRC).parts[:-1])
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            yield from (origin, *(f"{origin}.{alias.name}" for alias in node.names))


def adapter_part(name: str) -> str:
    """Return the package or module right below smtpcore_adapters to which the full name of a module belongs."""
    return name.split(".")[1] if "." in name else "__init__"


def test_adapters_import_from_lower_layers_only() -> None:
    imports = {
        (identify(path), adapter_part(module_name(path)), adapter_part(name))
        for path in ADAPTERS
        for name in imported_modules(path)
        if name.startswith("smtpcore_adapters.")
    }
    assert {
        (path, other)
        for path, part, other in imports
        if other != part and ADAPTER_LAYER_OF[other] >= ADAPTER_LAYER_OF[part]
    } == set()


def test_adapters_have_at_most_eight_layers() -> None:
    assert len(ADAPTER_LAYERS) <= 8
    assert {adapter_part(module_name(path)) for path in ADAPTERS} == set(ADAPTER_LAYER_OF)


@pytest.mark.parametrize("paths", [CORE, ADAPTERS], ids=["smtpcore", "smtpcore_adapters"])
def test_modules_do_not_import_each_other_in_a_circle(paths: list[Path]) -> None:
    # The __init__ of a package re-exports names of its modules, so the modules count here, not the package.
    modules = {module_name(path): path for path in paths if path.name != "__init__.py"}
    graph = {name: {other for other in imported_modules(path) if other in modules} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(f"circle of imports: {' -> '.join(exc.args[1])}")


def test_classes_and_functions_are_short() -> None:
    limits = {
        ast.ClassDef: MAX_CLASS_LINES,
        ast.FunctionDef: MAX_FUNCTION_LINES,
        ast.AsyncFunctionDef: MAX_FUNCTION_LINES,
    }
    lengths = [
        (f"{identify(path)}: {node.name}", node.end_lineno - node.lineno + 1, limits[type(node)])
        for path in (*CORE, *ADAPTERS)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]

    assert [(name, lines) for name, lines, limit in lengths if lines > limit] == []


def own_names(definition: ast.ClassDef) -> set[str]:
    """Return the attributes that a class declares: in its body, in `__slots__`, or by `self.name = ...`."""
    names: set[str] = set()
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            names |= {str(each.value) for each in ast.walk(node.value) if isinstance(each, ast.Constant)}

    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def foreign_writes(path: Path) -> Iterator[str]:
    """Yield each assignment to a private attribute of an object of another class."""
    owned: dict[ast.AST, set[str]] = {}
    for definition in ast.walk(tree_of(path)):
        if isinstance(definition, ast.ClassDef):
            owned |= dict.fromkeys(ast.walk(definition), own_names(definition))
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Attribute) or isinstance(node.ctx, ast.Load) or is_self(node.value):
            continue
        if node.attr.startswith("_") and not node.attr.endswith("__") and node.attr not in owned.get(node, set()):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_private_attributes_are_written_by_their_own_class_only() -> None:
    writes = [f"{identify(path)}, {write}" for path in (*CORE, *ADAPTERS) for write in foreign_writes(path)]
    assert writes == []
