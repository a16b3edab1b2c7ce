"""Addresses of an envelope may be written as in the header."""

import pytest

from smtpcore import LocalProtocolError
from smtpcore_adapters.client._address_lists import parse_field, parse_paths


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("a@c.example", ["a@c.example"]),
        ("", [""]),
        ('"a, b"@c.example', ['"a, b"@c.example']),
        ("Tim <a@c.example>", ["a@c.example"]),
        ('"Doe, Tim" <a@c.example>', ["a@c.example"]),
        ("a@c.example, Ann <b@c.example>,", ["a@c.example", "b@c.example"]),
        ("Team: a@c.example, b@c.example;", ["a@c.example", "b@c.example"]),
        ("J\u00f6rg <j@b\u00fccher.example>", ["j@b\u00fccher.example"]),
    ],
)
def test_text_has_one_or_more_addresses(text: str, addresses: list[str]) -> None:
    assert [path.text for path in parse_paths(text)] == addresses


@pytest.mark.parametrize(
    "text",
    [
        "no body",
        "a b@c.example",
        "a@c.example <b@c.example>",
        "<>, a@c.example",
        "a@c.example; b@c.example",
        "x <a",
        "x <",
    ],
)
def test_malformed_text_is_an_error(text: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a path"):
        parse_paths(text)


def test_line_break_is_an_error() -> None:
    with pytest.raises(LocalProtocolError, match="is not a path"):
        parse_paths("Tim <a@c.example>,\r\nRCPT TO:<b@c.example>")


def test_defects_of_a_field_are_returned() -> None:
    addresses, defects = parse_field("To", "a@c.example b@c.example")
    assert addresses == ["a@c.example"]
    assert defects
    assert parse_field("Cc", "a@c.example") == (["a@c.example"], [])
