"""Shared by all tests: the Hypothesis profiles, the adapter fixtures, and the number of test processes."""

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from . import profiles as profiles
from .adapters.conftest import backend as backend
from .adapters.conftest import loop_backend as loop_backend

MIN_WORKERS = 3
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
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests, and exempt all their objects from garbage collection.

    These objects are kept until the end. Some tests collect garbage, which would take much longer with them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
