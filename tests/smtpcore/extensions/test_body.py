"""8BITMIME (RFC 6152) and BINARYMIME (RFC 3030): the BODY parameter."""

import pytest

from smtpcore import (
    OFF_BY_DEFAULT,
    BodyType,
    Config,
)
from smtpcore._extensions._body import BINARY_BODY

from .helpers import assert_limit_grows, assert_round_trip, parse_params, refusal_of, relayed


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        ("MAIL", "BODY=7BIT", BodyType.SEVEN_BIT),
        pytest.param("MAIL", "BODY=8bitMIME", BodyType.EIGHT_BIT_MIME, id="R6152-2-02"),
        ("MAIL", "BODY=BinaryMIME", BodyType.BINARYMIME),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize("value", ["", "=", "=9BIT", "=7B\u0131T", "=SEVEN_BIT"])
def test_malformed_body_is_refused(value: str) -> None:
    assert refusal_of("MAIL", f"BODY{value}") == (501, "5.5.4")


def test_binarymime_body_is_refused_where_not_offered() -> None:
    """R3030-3-02, R6152-2-02"""
    config = Config(hostname="s.example", disabled=OFF_BY_DEFAULT | {"BINARYMIME"})

    assert refusal_of("MAIL", "BODY=BINARYMIME", config=config) == (501, "5.5.4")
    assert parse_params("MAIL", "BODY=8bitmime", config=config) == parse_params("MAIL", "BODY=8BITMIME")
    assert parse_params("MAIL", "BODY=BinaryMIME")["BODY"].value == "BINARYMIME"  # type: ignore[attr-defined]


def test_line_limit_grows_by_the_body_parameter() -> None:
    """R3030-3-03"""
    assert_limit_grows("8BITMIME", "MAIL", "BODY=8BITMIME", 14)
    assert_limit_grows("BINARYMIME", "MAIL", "BODY=BINARYMIME", 16)


NOT_BINARY = "554 5.6.3 The next server does not accept binary messages"


@pytest.mark.parametrize(
    ("value", "offers", "expected"),
    [
        (BodyType.EIGHT_BIT_MIME, {"8BITMIME"}, BodyType.EIGHT_BIT_MIME),
        (BodyType.EIGHT_BIT_MIME, {"BINARYMIME"}, BodyType.EIGHT_BIT_MIME),
        (BodyType.SEVEN_BIT, set(), None),
        (BodyType.BINARYMIME, {"BINARYMIME", "CHUNKING"}, BodyType.BINARYMIME),
        (BodyType.BINARYMIME, {"BINARYMIME"}, NOT_BINARY),
        (BodyType.BINARYMIME, {"8BITMIME"}, NOT_BINARY),
    ],
)
def test_relay_passes_body_on_only_if_the_next_server_offers_the_extension(
    value: BodyType, offers: set[str], expected: object
) -> None:
    assert relayed(BINARY_BODY, value, offers=dict.fromkeys(offers, True)) == expected
