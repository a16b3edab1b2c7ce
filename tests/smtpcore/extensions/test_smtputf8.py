"""SMTPUTF8: UTF-8 in addresses and headers (RFC 6531)."""

import pytest

from smtpcore._extensions._smtputf8 import SMTPUTF8

from .helpers import assert_limit_grows, assert_round_trip, refusal_of, relayed


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "SMTPUTF8", True, id="R6531-3.1-05"),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize("value", ["=", "=1"])
def test_smtputf8_takes_no_value(value: str) -> None:
    assert refusal_of("MAIL", f"SMTPUTF8{value}") == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters() -> None:
    """R6531-3.1-04"""
    assert_limit_grows("SMTPUTF8", "MAIL", "SMTPUTF8", 10)


@pytest.mark.parametrize(
    ("offers", "sender", "expected"),
    [
        ({"SMTPUTF8": True}, "\u00e9@c.example", True),
        ({}, "\u00e9@c.example", "550 5.6.7 The next server accepts only ASCII addresses"),
        ({}, "a@c.example", None),
    ],
)
def test_relay_without_smtputf8_refuses_a_non_ascii_sender(
    offers: dict[str, bool], sender: str, expected: object
) -> None:
    """RFC 6531 3.5"""
    assert relayed(SMTPUTF8, True, offers=offers, sender=sender) == expected
