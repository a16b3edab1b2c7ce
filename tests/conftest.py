"""Shared by all tests: the Hypothesis profiles, the adapter fixtures, and the number of test processes."""

import gc
import os
import sys
from collections.abc import Generator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from . import profiles as profiles
from .adapters.conftest import backend as backend
from .adapters.conftest import loop_backend as loop_backend

MIN_WORKERS = 4
"""Test processes on a machine with few processors: some tests wait for servers, and each process costs a collection."""

# Compiled modules are kept, also where the environment says otherwise, as in many containers. Else each test process
# compiles all test modules, and each program that a test starts compiles the packages.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of test processes for `-n auto`: 0 (no extra process) if all arguments are files."""
    if all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0

    return max(MIN_WORKERS, os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect the tests, and exempt all their objects from garbage collection.

    These objects are kept until the end. Some tests collect garbage, which would take much longer with them.
    """
    gc.disable()
    try:
        _share_compilation(session.config)
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def _share_compilation(config: pytest.Config) -> None:
    """Import the test modules, in an order that begins at a different place in each test process.

    Python keeps compiled modules. In the first run of a checkout, each process compiles its share of the modules, and
    loads the modules that the others have compiled. In the same order, each process would compile all modules.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if count == 1:
        return

    directories = [config.rootpath / argument.partition("::")[0] for argument in config.args]
    modules = sorted({path for each in directories for path in each.rglob("test_*.py")})
    first = len(modules) * int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) // count
    for path in modules[first:] + modules[:first]:
        # Collection reports the module that cannot be imported, or that skips its tests.
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(config.rootpath).with_suffix("").parts))
