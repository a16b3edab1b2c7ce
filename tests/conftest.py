"""Shared by all tests: the Hypothesis profiles, the adapter fixtures, and the number of test processes."""

import os
from pathlib import Path

import pytest

from . import profiles as profiles
from .adapters.conftest import backend as backend
from .adapters.conftest import loop_backend as loop_backend

MIN_WORKERS = 4
"""Test processes on a machine with few processors: many tests wait for servers."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of test processes for `-n auto`: 0 (no extra process) if all arguments are files."""
    if all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0

    return max(MIN_WORKERS, os.cpu_count() or 1)
