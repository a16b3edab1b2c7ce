"""REQUIRETLS: verified TLS on the whole route (RFC 8689)."""

import pytest

from smtpcore._extensions._requiretls import REQUIRETLS

from .helpers import ALL, announced, assert_limit_grows, assert_round_trip, refusal_of, relayed


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "REQUIRETLS", True, id="R8689-2-01, R8689-4.1-01"),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", params) for params in ("REQUIRETLS=1", "REQUIRETLS=", "REQUIRETLS REQUIRETLS")),
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R8689-2-01"""
    assert refusal_of(verb, params) == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters() -> None:
    """R8689-2-02"""
    assert_limit_grows("REQUIRETLS", "MAIL", "REQUIRETLS", 11)


def test_requiretls_is_recognized_only_under_tls() -> None:
    """R8689-2-03, R8689-2-05"""
    assert refusal_of("MAIL", "REQUIRETLS", tls=False) == (555, "5.5.4")


@pytest.mark.parametrize("tls", [False, True])
def test_requiretls_is_offered_only_under_tls(tls: bool) -> None:
    """R8689-2-03"""
    assert ("REQUIRETLS" in announced(ALL, tls=tls)) is tls


INSECURE = "550 5.7.30 The next server lacks REQUIRETLS or a verified certificate"


@pytest.mark.parametrize(
    ("offers", "is_private", "sender", "expected"),
    [
        ({"REQUIRETLS": True}, True, "a@c.example", True),
        ({"REQUIRETLS": True}, False, "a@c.example", INSECURE),
        ({}, True, "a@c.example", INSECURE),
        ({"REQUIRETLS": True}, False, "", True),
        ({}, False, "", None),
    ],
)
def test_relay_needs_verified_tls_except_for_the_null_sender(
    offers: dict[str, bool], is_private: bool, sender: str, expected: object
) -> None:
    """RFC 8689 4.2.1 and 5"""
    assert relayed(REQUIRETLS, True, offers=offers, is_private=is_private, sender=sender) == expected
