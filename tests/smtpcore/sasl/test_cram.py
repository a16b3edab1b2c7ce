"""The CRAM-MD5 mechanism (RFC 2195)."""

import hmac
import re

import pytest

from smtpcore.sasl import (
    MAX_NAME,
    Accepted,
    Answer,
    Challenge,
    Channel,
    CramServer,
    Credentials,
    GivePassword,
    Question,
    Reason,
    Rejected,
    make_client,
    make_server,
)

from .helpers import say

CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"
RESPONSE = b"tim b913a602c7eda7a495b4e6e7334d3890"
MALFORMED, INVALID = Rejected(Reason.MALFORMED), Rejected(Reason.INVALID_CREDENTIALS)


def answers(question: Question) -> Answer:
    assert isinstance(question, GivePassword)
    return {"tim": "tanstaaftanstaaf", "empty": ""}.get(question.username)


def test_server_accepts_the_example_of_rfc_2195() -> None:
    """R2195-2-03, R4954-4-33"""
    server = CramServer("CRAM-MD5", challenge=CHALLENGE)
    assert server.start() == Challenge(CHALLENGE)
    assert server.respond(RESPONSE) == GivePassword("tim")
    assert server.answer("tanstaaftanstaaf") == Accepted("tim", "tim")


def test_client_answers_the_example_of_rfc_2195() -> None:
    client = make_client("CRAM-MD5", Credentials(username="tim", password="tanstaaftanstaaf"))

    assert client.initial() is None
    assert client.respond(CHALLENGE) == RESPONSE
    client.finish()


def test_cram_md5_with_initial_response_is_rejected_with_501() -> None:
    """R4954-4-12, R4954-4-13"""
    outcome = make_server("CRAM-MD5").start(b"foo")

    assert outcome == Rejected(Reason.INITIAL_RESPONSE)
    assert (Reason.INITIAL_RESPONSE.code, Reason.INITIAL_RESPONSE.enhanced) == (501, "5.7.0")


def test_challenge_contains_digits_and_the_host_and_is_never_repeated() -> None:
    """R2195-2-01, R2195-2-02"""
    steps = [make_server("CRAM-MD5", Channel(host="s.example")).start() for _ in range(2)]
    for step in steps:
        assert isinstance(step, Challenge)
        assert re.fullmatch(rb"<[0-9]+\.[0-9]+@s\.example>", step.data)

    assert steps[0] != steps[1]
    unnamed = make_server("CRAM-MD5").start()
    assert isinstance(unnamed, Challenge)
    assert unnamed.data.endswith(b"@localhost>")


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        pytest.param(RESPONSE[:-1] + b"1", INVALID, id="R2195-2-04: another digit"),
        pytest.param(RESPONSE.replace(b"tim", b"kurt"), INVALID, id="unknown user"),
        pytest.param(b"empty 4b2e1b0d2f6a8d7a0e3c1f5b6a798081", INVALID, id="a user without a password"),
        pytest.param(RESPONSE.replace(b" ", b""), MALFORMED, id="R2195-2-04: no space"),
        pytest.param(RESPONSE[:-1], MALFORMED, id="R2195-2-04: short"),
        pytest.param(RESPONSE + b"0", MALFORMED, id="long"),
        pytest.param(RESPONSE.upper(), MALFORMED, id="upper case"),
        pytest.param(RESPONSE[3:], MALFORMED, id="no name"),
        pytest.param(b"\xff" + RESPONSE, MALFORMED, id="not UTF-8"),
        pytest.param(b"x" * MAX_NAME + RESPONSE, MALFORMED, id="long name"),
        pytest.param(b"\x07" + RESPONSE, INVALID, id="prohibited"),
        pytest.param(b"", MALFORMED, id="empty"),
    ],
)
def test_wrong_or_malformed_response_is_rejected(response: bytes, outcome: Rejected) -> None:
    server = CramServer("CRAM-MD5", challenge=CHALLENGE)
    server.start()

    step = server.respond(response)
    if isinstance(step, GivePassword):
        step = server.answer(answers(step))

    assert step == outcome


def test_empty_password_never_authenticates() -> None:
    response = b"empty " + hmac.digest(b"", CHALLENGE, "md5").hex().encode()
    for password in ("", None):
        server = CramServer("CRAM-MD5", challenge=CHALLENGE)
        server.start()
        assert isinstance(server.respond(response), GivePassword)
        assert server.answer(password) == INVALID


def test_user_name_may_contain_spaces() -> None:
    """R2195-2-05"""
    server = CramServer("CRAM-MD5", challenge=CHALLENGE)
    server.start()

    assert server.respond(RESPONSE.replace(b"tim", b"joe doe")) == GivePassword("joe doe")


def test_empty_initial_response_is_rejected() -> None:
    assert say(make_server("CRAM-MD5"), b"") == Rejected(Reason.INITIAL_RESPONSE)
