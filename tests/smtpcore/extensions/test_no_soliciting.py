"""NO-SOLICITING: classes of unwanted messages (RFC 3865)."""

import pytest

from .helpers import assert_limit_grows, assert_round_trip, refusal_of


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "SOLICIT=org.example:ADV:ADLT", ("org.example:ADV:ADLT",), id="R3865-2.3-01"),
        ("MAIL", "SOLICIT=a,B_c", ("a", "B_c")),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", f"SOLICIT{value}") for value in ("", "=", "=1x", "=a,,b", "=a,", "=\u00e9", "=" + "x" * 1001)),
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R3865-2.2-01"""
    assert refusal_of(verb, params) == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters() -> None:
    """R3865-4.1-01"""
    assert_limit_grows("NO-SOLICITING", "MAIL", "SOLICIT=" + "x" * 1000, 1009)
