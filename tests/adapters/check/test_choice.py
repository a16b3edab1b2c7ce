"""Checks are chosen by their ids and groups."""

import pytest

from smtpcore_adapters.check._choice import chosen
from smtpcore_adapters.check.clients import CLIENT_CHECKS


def test_group_selects_its_checks() -> None:
    assert {check.id.partition("-")[0] for check in chosen(CLIENT_CHECKS, ["greeting", "tls-name"])} == {
        "greeting",
        "tls",
    }
    assert chosen(CLIENT_CHECKS, []) == CLIENT_CHECKS


def test_unknown_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no check 'tl'"):
        chosen(CLIENT_CHECKS, ["tl"])
