"""Timeouts made from the functions of a framework."""

import pytest

from tests.adapters.streams.frameworks import FRAMEWORKS


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_fail_after_raises_timeout_error(name: str) -> None:
    framework, run = FRAMEWORKS[name]

    async def main() -> None:
        with pytest.raises(TimeoutError), framework.fail_after(0.01):
            await framework.sleep_forever()

    run(main)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_fail_after_lets_a_quick_block_finish(name: str) -> None:
    framework, run = FRAMEWORKS[name]
    steps: list[str] = []

    async def main() -> None:
        with framework.fail_after(60):
            await framework.checkpoint()
            steps.append("finished")

    run(main)
    assert steps == ["finished"]
