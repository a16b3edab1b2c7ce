"""SIZE: the limit on the size of a message (RFC 1870)."""

from dataclasses import replace

import pytest

from smtpcore import (
    Config,
)
from smtpcore._extensions._size import SIZE

from .helpers import (
    ALL,
    announced,
    assert_limit_grows,
    assert_round_trip,
    parse_params,
    refusal_of,
    relayed,
)


@pytest.mark.parametrize(("limit", "line"), [(None, "SIZE"), (65536, "SIZE 65536")])
def test_size_announces_the_limit(limit: int | None, line: str) -> None:
    """R1870-3-01, R1870-3-02"""
    assert line in announced(Config(hostname="s.example", max_message_size=limit))


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        ("MAIL", "SIZE=0", 0),
        ("MAIL", "SIZE=1000", 1000),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize("value", ["", "=", "=abc", "=-1", "=1_0", "=\u0661", "=123456789012345678901"])
def test_malformed_size_is_refused(value: str) -> None:
    assert refusal_of("MAIL", f"SIZE{value}") == (501, "5.5.4")


def test_size_may_have_20_digits() -> None:
    """R1870-3-03"""
    config = replace(ALL, max_message_size=None)
    assert parse_params("MAIL", "SIZE=12345678901234567890", config=config).size == 12345678901234567890


def test_line_limit_grows_by_the_parameters() -> None:
    """R1870-3-04"""
    assert_limit_grows("SIZE", "MAIL", "SIZE=12345678901234567890", 26)


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ({"SIZE": 1000}, 1000),
        ({"SIZE": 999}, "552 5.3.4 The next server accepts at most 999 octets"),
        ({"SIZE": None}, 1000),
        ({}, None),
    ],
)
def test_relay_refuses_a_size_above_the_limit_of_the_next_server(
    offers: dict[str, int | None], expected: object
) -> None:
    assert relayed(SIZE, 1000, offers=offers) == expected
