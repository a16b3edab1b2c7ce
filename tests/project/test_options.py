"""Each option has one place: no name is in two option classes, except where one class overrides another."""

from dataclasses import fields, is_dataclass
from itertools import combinations
from typing import Any

import pytest

from smtpcore import Budgets, ClientBudgets, ClientConfig, Config
from smtpcore_adapters import ConnectOptions, Limits, Listener, Options, SendOptions, Timeouts
from tests.paths import DOCS

SERVER = (Config, Budgets, Timeouts, Limits, Options, Listener)
CLIENT = (ClientConfig, ClientBudgets, ConnectOptions, SendOptions)

OVERRIDES = {"config", "tls", "implicit_tls", "budgets", "timeouts", "proxies", "trusted"}
"""The fields of `Listener` that replace an option of the server."""
FIELDS = {field.name for field in fields(Config)} - {"bodies", "starttls"}
"""The fields of `Config` that a server takes as options: `tests/adapters/server/test_config_fields.py`."""
PLACE = {"host"}
"""The option that, with the port, makes the `Listener` of a server that has only one."""
MADE_BY_CONNECT = {"hostname", "lmtp", "pipelining", "plaintext_auth"}
"""The options of `connect` from which it makes a `ClientConfig`. There is no option for a `ClientConfig` itself."""


def names(options: Any) -> set[str]:
    return {each.name for each in fields(options)} if is_dataclass(options) else set(options.__annotations__)


@pytest.mark.parametrize(("one", "other"), [*combinations(SERVER, 2), *combinations(CLIENT, 2)])
def test_no_option_is_in_two_places(one: object, other: object) -> None:
    allowed: dict[tuple[object, object], set[str]] = {
        (Config, Options): FIELDS,
        (Options, Listener): OVERRIDES | PLACE,
        (ClientConfig, ConnectOptions): MADE_BY_CONNECT,
    }
    assert names(one) & names(other) == allowed.get((one, other), set())


def test_listener_documents_its_overrides() -> None:
    own = [each.name for each in fields(Listener)]
    assert own[own.index("config") :] == [name for name in own if name in OVERRIDES]
    assert "The fields from `config` on override the options of the server" in (Listener.__doc__ or "")
    (row,) = [line for line in (DOCS / "server.md").read_text().splitlines() if line.startswith("| `Listener` |")]
    assert all(f"`{name}`" in row for name in OVERRIDES)


@pytest.mark.parametrize(("options", "page"), [(Options, "server.md"), (ConnectOptions, "sending.md")])
def test_each_option_is_documented(options: object, page: str) -> None:
    text = (DOCS / page).read_text()
    assert [name for name in names(options) if f"`{name}`" not in text and f"`{name}=" not in text] == []
