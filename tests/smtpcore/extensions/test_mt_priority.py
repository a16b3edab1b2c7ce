"""MT-PRIORITY: the priority of a message (RFC 6710)."""

import pytest

from .helpers import assert_limit_grows, assert_round_trip, refusal_of


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "MT-PRIORITY=3", 3, id="R6710-4.1-02"),
        ("MAIL", "MT-PRIORITY=0", 0),
        ("MAIL", "MT-PRIORITY=1", 1),
        pytest.param("MAIL", "MT-PRIORITY=-4", -4, id="R6710-4.1-04"),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize("value", ["", "=10", "=-10", "=+3", "=03", "=-0", "=x", "=3 MT-PRIORITY=3", "=\u0661"])
def test_malformed_priority_is_refused_with_its_own_status_code(value: str) -> None:
    """R6710-4.1-01"""
    assert refusal_of("MAIL", f"MT-PRIORITY{value}") == (501, "5.5.2")


def test_line_limit_grows_by_the_parameters() -> None:
    """R6710-3-02"""
    assert_limit_grows("MT-PRIORITY", "MAIL", "MT-PRIORITY=-9", 15)
