"""DELIVERBY: a deadline for the delivery (RFC 2852)."""

from typing import Any

import pytest

from smtpcore import (
    ByMode,
    Config,
    DeliverBy,
    LocalProtocolError,
)

from ...playbook import MAIL, READY, server
from .helpers import assert_limit_grows, assert_round_trip, parse_params, refusal_of


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "BY=240;R", DeliverBy(240, ByMode.RETURN), id="R2852-3-02"),
        pytest.param("MAIL", "BY=+240;rt", DeliverBy(240, ByMode.RETURN, trace=True), id="R2852-4-01"),
        pytest.param("MAIL", "BY=-30;N", DeliverBy(-30, ByMode.NOTIFY), id="R2852-4-02"),
        ("MAIL", "BY=0;NT", DeliverBy(0, ByMode.NOTIFY, trace=True)),
        ("MAIL", "BY=1;N", DeliverBy(1, ByMode.NOTIFY)),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", f"BY{value}") for value in ("", "=", "=120", "=1234567890;R", "=10;X", "=500;TR", "=;R", "=0;R")),
        *(("MAIL", f"BY={value}") for value in ("-1;R", "\u0661;N", "1;\u212a", "+-1;N", "1;NTT")),
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R2852-4-01, R2852-4-03"""
    assert refusal_of(verb, params) == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters() -> None:
    """R2852-2-02"""
    assert_limit_grows("DELIVERBY", "MAIL", "BY=-999999999;NT", 17)


@pytest.mark.parametrize("seconds", [1, 120, 239])
def test_by_time_below_the_announced_minimum_is_refused(seconds: int) -> None:
    """R2852-3-01, R2852-4-04"""
    assert refusal_of("MAIL", f"BY={seconds};R") == (555, "5.5.4")
    config = Config(hostname="s.example", disabled=frozenset())
    assert parse_params("MAIL", f"BY={seconds};R", config=config).by == DeliverBy(seconds, ByMode.RETURN)


def test_refused_parameter_leaves_the_session_unchanged() -> None:
    """R2852-3-01"""
    options: dict[str, Any] = {"disabled": frozenset(), "min_by_time": 240}

    group = b"MAIL FROM:<a@c.example> BY=120;R\r\nMAIL FROM:<a@c.example> BY=240;R\r\n"
    server(READY, **options).send(group).expect(555, 250)
    group = b"RCPT TO:<u@s.example> NOTIFY=X\r\nRCPT TO:<u@s.example> NOTIFY=DELAY\r\n"
    server(MAIL, **options).send(group).expect(501, 250)


@pytest.mark.parametrize(("seconds", "mode"), [(0, ByMode.RETURN), (-1, ByMode.RETURN), (10**9, ByMode.NOTIFY)])
def test_deliver_by_time_out_of_bounds_is_refused(seconds: int, mode: ByMode) -> None:
    """R2852-4-03"""
    with pytest.raises(LocalProtocolError, match=r"positive|nine digits"):
        DeliverBy(seconds, mode)


def test_negative_deliver_by_time_is_allowed_in_notify_mode() -> None:
    """R2852-4-02"""
    assert str(DeliverBy(-30, ByMode.NOTIFY, trace=True)) == "-30;NT"
    assert str(DeliverBy(-999_999_999, ByMode.NOTIFY)) == "-999999999;N"
