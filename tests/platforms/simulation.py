"""Let the modules of this project see another operating system, while tests and libraries see the real one.

Each module of the project is loaded with an `__import__` of its own, which returns altered modules of the standard
library: names are missing, and functions behave as on the other system.
"""

import asyncio
import builtins
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any

import pytest

PACKAGES = ("smtpcore", "smtpcore_adapters", "pytest_smtpcore")
BACKENDS = ("asyncio", "threads")


class Altered(ModuleType):
    """A module without some of its names, and with other values for some of its names."""

    def __init__(self, real: ModuleType, without: str = "", **changes: object) -> None:
        super().__init__(real.__name__)
        self._real = real
        self._without = frozenset(without.split())
        vars(self).update(changes)

    def __getattr__(self, name: str) -> Any:
        if name in self._without:
            raise AttributeError(f"the simulated module {self.__name__} has no {name}")

        return getattr(self._real, name)


class _Loader(SourceFileLoader):
    names: Mapping[str, object] = {}

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = dict(self.names)
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in PACKAGES:
            return None

        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None or not isinstance(spec.loader, SourceFileLoader):
            return None  # not found, or compiled: a compiled module of the core uses nothing of the system

        places = spec.submodule_search_locations
        loader = _Loader(name, spec.origin)
        return spec_from_file_location(name, spec.origin, loader=loader, submodule_search_locations=places)


def is_own_call(depth: int = 2) -> bool:
    """Return whether the function that calls the caller of this function belongs to this project."""
    return str(sys._getframe(depth).f_globals.get("__name__")).partition(".")[0] in PACKAGES


def install(altered: Sequence[Altered], missing: Collection[str], loop: Callable[[], Any] | None) -> None:
    """Load the modules of the project with `altered` modules, without `missing` modules, and use the event loop."""
    assert not any(name in sys.modules for name in PACKAGES), "the simulation begins before the modules are loaded"
    modules = {each.__name__: each for each in altered}

    def simulated_import(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and name in missing:
            raise ImportError(f"the simulated system has no module {name}")
        if level == 0 and name in modules:
            return modules[name]

        return builtins.__import__(name, globals, locals, fromlist or (), level)

    _Loader.names = {**vars(builtins), "__import__": simulated_import}
    sys.meta_path.insert(0, _Finder())
    if loop:
        for module in (asyncio, asyncio.events):
            setattr(module, "new_event_loop", loop)  # noqa: B010 - mypy knows no other loop here
        setattr(asyncio, "SelectorEventLoop", loop)  # noqa: B010


class Selection:
    """A plugin that selects the tests that the simulated system can run."""

    def __init__(self, without: Sequence[str]) -> None:
        self._without = without

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests of the adapters in `BACKENDS`."""
        items[:] = [each for each in items if self._is_selected(each)]

    def _is_selected(self, item: pytest.Item) -> bool:
        spec = getattr(item, "callspec", None)
        backends = [value for name, value in spec.params.items() if name in ("backend", "loop_backend")] if spec else []
        return all(each in BACKENDS for each in backends) and not any(part in item.nodeid for part in self._without)


def run(arguments: Sequence[str], without: Sequence[str]) -> int:
    """Run tests on the simulated system."""
    # Without `--assert=plain`, pytest would load the modules of an installed project itself, to rewrite assertions.
    options = ["-q", "-n0", "-p", "no:cacheprovider", "--assert=plain"]
    return pytest.main([*options, *arguments], plugins=[Selection(without)])
