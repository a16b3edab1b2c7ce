"""The error of a missing package says how to install it."""

import subprocess
import sys
import tomllib

import pytest

from smtpcore_adapters._extras import from_extra
from tests.adapters.command import TIMEOUT
from tests.paths import ROOT

MODULES = {
    "anyio": ("anyio", "anyio"),
    "metrics": ("prometheus_client", "metrics"),
    "shared_limits": ("redis", "shared-limits"),
    "stores.jetstream": ("nats", "nats"),
    "stores.webhook": ("h11", "webhook"),
    "testing.strategies": ("hypothesis", "testing"),
    "trio": ("trio", "trio"),
}
"""For each public module that needs a package, the package and its extra."""


@pytest.mark.parametrize("module", MODULES)
def test_missing_package_is_reported_with_its_extra(module: str) -> None:
    package, extra = MODULES[module]
    code = f"import sys; sys.modules[{package!r}] = None; import smtpcore_adapters.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last.partition(": ")[0]) == (1, "ModuleNotFoundError")
    assert last.endswith(f": pip install 'smtpcore[{extra}]'")


def test_named_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, extra in MODULES.values()} <= extras.keys()


def test_error_keeps_the_name_of_the_package() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match=r"^No module named 'nats_': pip") as caught,
        from_extra("nats"),
    ):
        import nats_  # type: ignore[import-not-found]  # noqa: F401
    assert caught.value.name == "nats_"


def test_other_errors_are_passed_on() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nothing'") as caught, from_extra("nats"):
        from json import nothing  # type: ignore[attr-defined]  # noqa: F401
    assert type(caught.value) is ImportError
