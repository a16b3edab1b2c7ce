"""The steps of a server's mechanism: questions, challenges and outcomes."""

from typing import Any

import pytest

from smtpcore import LocalProtocolError, Reply
from smtpcore.sasl import (
    CheckAnonymous,
    CheckAuthorization,
    CheckIdentity,
    CheckPassword,
    CheckToken,
    GivePassword,
    GiveScramKeys,
    Reason,
    Rejected,
    ScramKeys,
    TokenError,
    scram_keys,
)

QUESTIONS: list[tuple[Any, list[object]]] = [
    (CheckPassword("tim", "Secret"), [True, False]),
    (GivePassword("tim"), ["Secret"]),
    (GiveScramKeys("tim", "SHA-256"), [scram_keys("Secret")]),
    (CheckToken("tim", "Secret", "s.example", 587), ["tim", TokenError()]),
    (CheckIdentity("CN=tim", "tim"), ["tim"]),
    (CheckAnonymous("trace"), [True, False]),
    (CheckAuthorization("tim", "kurt"), [True, False]),
]
ANSWERS: list[object] = [True, "Secret", b"Secret", 1, scram_keys("Secret"), TokenError(), object()]


@pytest.mark.parametrize(("question", "answers"), QUESTIONS)
def test_question_accepts_answers_of_its_types_and_none(question: Any, answers: list[object]) -> None:
    for answer in (*answers, None):
        question.check_answer(answer)

    types = tuple(map(type, answers))
    for answer in ANSWERS:
        if type(answer) not in types:
            with pytest.raises(LocalProtocolError, match=type(question).__name__) as caught:
                question.check_answer(answer)
            assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("question", [question for question, _ in QUESTIONS])
def test_repr_of_a_question_hides_secrets(question: Any) -> None:
    assert "Secret" not in repr(question)
    assert "Secret" not in str(question)


def test_error_for_a_wrong_answer_lists_the_accepted_types() -> None:
    with pytest.raises(
        LocalProtocolError, match=r"^CheckToken is answered with str, TokenError or None, not with int$"
    ):
        CheckToken("tim", "Secret", "s.example", 587).check_answer(1)


def test_scram_keys_of_another_hash_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="SHA-1"):
        GiveScramKeys("tim", "SHA-1").check_answer(ScramKeys(b"salt", 4096, b"k" * 32, b"k" * 32))


@pytest.mark.parametrize(
    ("password", "matches"), [("tanstaaf", True), ("tanstaaff", False), ("t\u00e9", False), ("", False), (None, False)]
)
def test_password_matches_only_an_equal_password(password: str | None, matches: bool) -> None:
    assert CheckPassword("tim", "tanstaaf").matches(password) is matches


@pytest.mark.parametrize("hash_name", ["SHA-1", "SHA-256"])
def test_password_matches_only_its_own_keys(hash_name: str) -> None:
    keys = scram_keys("tanstaaf", hash_name=hash_name)
    assert CheckPassword("tim", "tanstaaf").matches(keys)
    assert not CheckPassword("tim", "tanstaaff").matches(keys)


@pytest.mark.parametrize("password", ["", "bell\a"])
def test_password_that_saslprep_prohibits_matches_no_keys(password: str) -> None:
    assert not CheckPassword("tim", password).matches(scram_keys("tanstaaf"))


def test_password_matches_no_keys_of_another_hash() -> None:
    assert not CheckPassword("tim", "tanstaaf").matches(ScramKeys(b"salt", 1, b"key", b"key"))


def test_empty_password_matches_only_an_empty_password() -> None:
    assert CheckPassword("tim", "").matches("")
    assert not CheckPassword("tim", "XXXX").matches("")


def test_unknown_user_does_not_match_an_empty_password() -> None:
    assert not CheckPassword("tim", "").matches(None)


@pytest.mark.parametrize("reason", Reason)
def test_every_rejection_reason_has_a_negative_reply(reason: Reason) -> None:
    reply = Reply(reason.code, "No", enhanced=reason.enhanced)

    assert not reply.is_positive
    assert reason.text
    assert Rejected(reason).reason is reason


def test_rejected_credentials_have_the_same_reply_for_every_reason() -> None:
    """R4422-3.6-02"""
    reasons = (Reason.INVALID_CREDENTIALS, Reason.NOT_AUTHORIZED, Reason.CHANNEL_BINDING)

    assert {(reason.code, reason.enhanced) for reason in reasons} == {(535, "5.7.8")}


def test_token_error_is_encoded_as_a_json_object() -> None:
    """R7628-3.2.2-01, R7628-3.2.2-02"""
    assert TokenError().encode() == b'{"status": "invalid_token"}'
    assert TokenError("invalid_token", "example_scope", "https://example.com/.well-known/openid-config").encode() == (
        b'{"status": "invalid_token", "scope": "example_scope",'
        b' "openid-configuration": "https://example.com/.well-known/openid-config"}'
    )
