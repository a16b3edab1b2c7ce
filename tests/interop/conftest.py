"""Fixtures shared by the tests with real programs."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all test processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "clients"
    path.mkdir(exist_ok=True)
    return path
