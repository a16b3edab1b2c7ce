"""FUTURERELEASE: holding a message back (RFC 4865)."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpcore.parameters import Params, format_date_time

from .helpers import NEW_YEAR, assert_limit_grows, assert_round_trip, parse_params, refusal_of


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "HOLDFOR=3600", 3600, id="R4865-3-02, R4865-4.2-02"),
        ("MAIL", "HOLDFOR=604800", 604_800),
        pytest.param("MAIL", "HOLDUNTIL=2029-12-31T23:59:59Z", NEW_YEAR - timedelta(seconds=1), id="R4865-3-03"),
        ("MAIL", "HOLDUNTIL=2030-01-01T00:00:00Z", NEW_YEAR),
        ("MAIL", "HOLDUNTIL=2029-12-31T23:59:59.5Z", NEW_YEAR - timedelta(seconds=0.5)),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", f"HOLDFOR{value}") for value in ("", "=0", "=01", "=1234567890", "=x", "=-1", "=604801")),
        *(("MAIL", f"HOLDUNTIL{value}") for value in ("", "=2029-12-31", "=2029-12-31T23:59:59+01:00")),
        *(("MAIL", f"HOLDUNTIL={value}") for value in ("2029-02-30T00:00:00Z", "2030-01-01T00:00:01Z")),
        *(("MAIL", params) for params in ("HOLDFOR=10 HOLDUNTIL=2029-12-31T23:59:59Z", "HOLDFOR=1 HOLDFOR=1")),
        *(("MAIL", f"HOLDFOR=3600 BY={value}") for value in ("600;R", "600;N", "-1;N")),
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R4865-3-02, R4865-3-03, R4865-4.2-05, R4865-4.2-06, R4865-4.2-07, R4865-4.2-08, R4865-5.2.2-01, R4865-5.2.2-02"""
    assert refusal_of(verb, params) == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters() -> None:
    """R4865-3-04"""
    assert_limit_grows("FUTURERELEASE", "MAIL", "HOLDUNTIL=2029-12-31T23:59:59.0Z", 34)


def test_message_may_be_held_until_its_delivery_deadline() -> None:
    """R4865-5.2.2-01"""
    assert parse_params("MAIL", "HOLDFOR=600 BY=600;R").holdfor == 600


offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(timezones=offsets).map(lambda time: time.replace(microsecond=0))


@settings(deadline=None)
@given(times)
def test_holduntil_accepts_only_utc(time: datetime) -> None:
    if time.utcoffset():
        with pytest.raises(ValueError, match="UTC"):
            Params.holduntil.parse(format_date_time(time))
    else:
        assert Params.holduntil.parse(format_date_time(time)) == time
