"""Documentation of the public functions of the adapters."""

import inspect
from types import ModuleType

import pytest

import smtpcore_adapters.anyio
import smtpcore_adapters.asyncio
import smtpcore_adapters.socket
import smtpcore_adapters.trio
from smtpcore_adapters._adapter import documented_as

ADAPTERS = (smtpcore_adapters.anyio, smtpcore_adapters.asyncio, smtpcore_adapters.socket, smtpcore_adapters.trio)
FUNCTIONS = ("connect", "open_stream", "run", "serve", "serving")


CASES = [(adapter, name) for adapter in ADAPTERS for name in FUNCTIONS] + [
    (adapter, "start") for adapter in ADAPTERS if adapter is not smtpcore_adapters.socket
]


@pytest.mark.parametrize(("adapter", "name"), CASES, ids=lambda each: getattr(each, "__name__", each))
def test_each_function_documents_exactly_its_parameters(adapter: ModuleType, name: str) -> None:
    function = getattr(adapter, name)
    text = inspect.getdoc(function) or ""
    summary, _, rest = text.partition("\n")
    described = [line.strip(" *").partition(":")[0] for line in rest.partition("Args:\n")[2].splitlines()]
    described = described[: described.index("")]
    in_summary = [each for each in inspect.signature(function).parameters if f"`{each}`" in text.partition("Args:")[0]]
    assert name in adapter.__all__
    assert len(summary) > 20
    assert set(described) | set(in_summary) == set(inspect.signature(function).parameters)
    assert "Raises:\n    " in rest


def test_documented_as_copies_the_parameters_of_another_function() -> None:
    def original() -> None:
        """Do it.

        Args:
            left: One thing.
            right: Another thing.
        """

    @documented_as(original, without="left")
    def other() -> None:
        """Do it differently."""

    assert inspect.getdoc(other) == "Do it differently.\n\nArgs:\n    right: Another thing."


def test_documented_as_without_docstrings_adds_none() -> None:
    # `python -OO` removes all docstrings.
    @documented_as(lambda: None)
    def other() -> None:
        pass

    assert not inspect.getdoc(other)
