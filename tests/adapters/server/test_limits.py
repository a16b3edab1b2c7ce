"""Validation and documentation of `Timeouts` and `Limits`."""

import logging
import re
import sys
from dataclasses import FrozenInstanceError, fields

import pytest

from smtpcore import Budgets, Config
from smtpcore_adapters import Limits, Timeouts
from smtpcore_adapters.server._limits import REPLIES, fit_to_descriptors, with_crowded
from tests.paths import DOCS

MAY_BE_ZERO = {"greeting_delay", "auth_delay", "max_auth_delay"}
POSITIVE = [field.name for field in fields(Timeouts) if field.name not in MAY_BE_ZERO]


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_timeout_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"timeout {name} is .*, but must be more than 0 seconds"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", [field.name for field in fields(Timeouts)])
def test_timeout_may_be_short_or_infinite(name: str) -> None:
    assert getattr(Timeouts(**{name: 0.001}), name) == 0.001
    assert getattr(Timeouts(**{name: float("inf")}), name) == float("inf")


@pytest.mark.parametrize("name", sorted(MAY_BE_ZERO))
def test_delay_may_be_zero(name: str) -> None:
    assert getattr(Timeouts(**{name: 0}), name) == 0
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match=f"timeout {name} is {wrong}, but must be at least 0"):
            Timeouts(**{name: wrong})


def test_only_the_waits_for_commands_are_shorter_while_the_server_is_nearly_full() -> None:
    budgets = Budgets(greeting=300, command=7)
    assert with_crowded(budgets, Timeouts(crowded=10)) == (budgets, Budgets(greeting=10, command=7))


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_limit_below_its_minimum_is_a_value_error(name: str) -> None:
    for wrong in (0, float("nan")):
        with pytest.raises(ValueError, match=f"{name} is {wrong}"):
            Limits(**{name: wrong})  # type: ignore[arg-type]

    assert getattr(Limits(**{name: 1}), name) == 1


@pytest.mark.parametrize(("name", "bits"), [("ipv4_prefix", 33), ("ipv6_prefix", 129)])
def test_prefix_longer_than_an_address_is_a_value_error(name: str, bits: int) -> None:
    assert getattr(Limits(**{name: bits - 1}), name) == bits - 1
    with pytest.raises(ValueError, match="at most 32 bits in IPv4, and 128 in IPv6"):
        Limits(**{name: bits})


def test_connections_per_prefix_default_to_twice_the_connections_per_address() -> None:
    assert Limits(connections_per_address=7).most_per_prefix == 14
    assert Limits(connections_per_prefix=3).most_per_prefix == 3


@pytest.mark.parametrize(
    ("descriptors", "per_connection", "connections"),
    [(1024, 1, 480), (1024, 2, 240), (2064, 1, 1000), (-1, 1, 1000), (60, 1, 15), (3, 1, 1)],
)
def test_connections_fit_into_the_file_descriptors(
    descriptors: int,
    per_connection: int,
    connections: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda name: (descriptors, descriptors))
    with caplog.at_level(logging.INFO, "smtpcore"):
        fitting = fit_to_descriptors(Limits(), per_connection)
        assert fit_to_descriptors(fitting, per_connection) == fitting == Limits(connections=connections)
    lowered = f"lowered from 1000 to {connections}: this process may open only {descriptors} files (ulimit -n)"
    assert [record.levelname for record in caplog.records if lowered in record.message] == ["INFO"] * (
        connections < 1000
    )
    assert len(caplog.records) == (connections < 1000)


def test_lowering_a_limit_of_the_user_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda name: (1024, 1024))
    fit_to_descriptors(Limits(connections=481), 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_system_without_limits_of_descriptors_keeps_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert fit_to_descriptors(Limits(connections=10**6), 1).connections == 10**6


def test_each_reply_is_named_after_a_limit() -> None:
    assert set(REPLIES) - {field.name for field in fields(Limits)} == {"greeting_delay", "http"}


def test_limits_and_timeouts_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().connections = 5  # type: ignore[misc]


# The documentation


SERVER = (DOCS / "server.md").read_text()


DOCUMENTED = {
    field.name: field.default
    for cls in (Budgets, Timeouts, Limits, Config)
    for field in fields(cls)
    if cls is not Config or (field.name.startswith("max_") and "hold" not in field.name)
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_each_limit_is_documented_with_its_default(name: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|", SERVER, re.MULTILINE))
    value = DOCUMENTED[name]
    special = {"connections_per_prefix": "twice `connections_per_address`"}
    assert rows[name] == special.get(name, "none" if value is None else f"{value:,.10g}")


@pytest.mark.parametrize("name", REPLIES)
def test_reply_of_each_limit_is_documented(name: str) -> None:
    (row,) = [line for line in SERVER.splitlines() if line.startswith(f"| `{name}` |")]
    assert f"{REPLIES[name].code} {REPLIES[name].enhanced}" in row
