"""RRVS: deliver only if the mailbox has had the same owner since a given time (RFC 7293)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from smtpcore import (
    LocalProtocolError,
    NoSupport,
    ValidSince,
)
from smtpcore._extensions._rrvs import RRVS

from .helpers import assert_limit_grows, assert_round_trip, refusal_of, relayed

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param(
            "RCPT",
            "RRVS=2014-04-03T23:01:00Z;C",
            ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=UTC), NoSupport.CONTINUE),
            id="R7293-3.1-01",
        ),
        pytest.param(
            "RCPT",
            "RRVS=2014-04-03T23:01:00-07:00",
            ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=timezone(timedelta(hours=-7)))),
            id="R7293-3.1-02",
        ),
        ("RCPT", "RRVS=2014-04-03T23:01:00Z;r", ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=UTC))),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("RCPT", f"RRVS{value}") for value in ("", "=x", "=2014-04-03T23:01:00Z;X", "=2014-04-03T23:01:00.5Z")),
        *(("RCPT", f"RRVS={value}") for value in ("2014-04-03T23:01:00Z;", "2014-04-03T23:01:00", ";C")),
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R7293-3.1-01"""
    assert refusal_of(verb, params) == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters() -> None:
    """R7293-3.1-03"""
    assert_limit_grows("RRVS", "RCPT", "RRVS=2014-04-03T23:01:00-07:00;R", 33)


@pytest.mark.parametrize(
    "time",
    [
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(seconds=1))),
        NOON.replace(microsecond=1),
    ],
)
def test_rrvs_time_needs_whole_seconds_and_a_utc_offset_in_minutes(time: datetime) -> None:
    """R7293-3.1-01"""
    with pytest.raises(LocalProtocolError):
        ValidSince(time)


def test_rrvs_action_is_encoded_unless_default() -> None:
    """R7293-3.1-02, R7293-5.1.1-03"""
    assert str(ValidSince(NOON)) == "2030-01-01T12:00:00Z"
    assert str(ValidSince(NOON, NoSupport.CONTINUE)) == "2030-01-01T12:00:00Z;C"


def test_relay_without_rrvs_refuses_or_continues_as_the_sender_chose() -> None:
    """RFC 7293 5.1.1"""
    since = ValidSince(NOON)

    assert relayed(RRVS, since, offers={"RRVS": True}) == since
    assert relayed(RRVS, since) == "550 5.7.19 The next server does not support RRVS"
    assert relayed(RRVS, ValidSince(NOON, NoSupport.CONTINUE)) is None
