"""The number of processes in which the tests run."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import MIN_WORKERS, pytest_xdist_auto_num_workers


@pytest.mark.parametrize("arguments", [[__file__], [f"{__file__}::test_one"], [__file__, f"{__file__}::test_one"]])
def test_files_and_single_tests_run_in_one_process(arguments: list[str]) -> None:
    config: Any = SimpleNamespace(args=arguments)
    assert pytest_xdist_auto_num_workers(config) == 0


@pytest.mark.parametrize("arguments", [["tests"], ["tests", __file__]])
def test_directories_run_in_several_processes(arguments: list[str]) -> None:
    config: Any = SimpleNamespace(args=arguments)
    assert pytest_xdist_auto_num_workers(config) >= MIN_WORKERS
