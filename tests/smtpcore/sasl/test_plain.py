"""The PLAIN (RFC 4616) and LOGIN mechanisms."""

import pytest

from smtpcore.sasl import (
    MAX_NAME,
    Accepted,
    Answer,
    Challenge,
    CheckAuthorization,
    CheckPassword,
    Credentials,
    Policy,
    Question,
    Reason,
    Rejected,
    make_client,
    make_server,
)

from .helpers import say

MALFORMED, INVALID = Rejected(Reason.MALFORMED), Rejected(Reason.INVALID_CREDENTIALS)


def yes(question: Question) -> Answer:
    assert isinstance(question, CheckPassword)
    return True


def asked(message: bytes, policy: Policy | None = None) -> object:
    return make_server("PLAIN", policy=policy or Policy()).start(message)


def test_server_accepts_the_plain_examples_of_rfc_4616() -> None:
    """R4616-2-01, R4616-2-05"""
    server = make_server("PLAIN")
    assert server.start() == Challenge(b"")
    assert server.respond(b"\0tim\0tanstaaftanstaaf") == CheckPassword("tim", "tanstaaftanstaaf")
    assert server.answer(True) == Accepted("tim", "tim")

    server = make_server("PLAIN")
    assert server.start(b"Ursel\0Kurt\0xipj3plmq") == CheckPassword("Kurt", "xipj3plmq")
    assert server.answer(True) == CheckAuthorization("Kurt", "Ursel")
    assert server.answer(False) == Rejected(Reason.NOT_AUTHORIZED)


def test_server_accepts_the_plain_example_of_rfc_4954() -> None:
    """R4954-4-32: an authorization identity equal to the user name needs no permission."""
    assert say(make_server("PLAIN"), b"test\0test\x001234", answers=yes) == Accepted("test", "test")


def test_client_sends_the_examples_of_rfc_4616() -> None:
    credentials = Credentials(username="tim", password="tanstaaftanstaaf")
    client = make_client("PLAIN", credentials)
    assert client.initial() == b"\0tim\0tanstaaftanstaaf"
    client.finish()

    credentials = Credentials(username="Kurt", password="xipj3plmq", authorization="Ursel")
    assert make_client("PLAIN", credentials).respond(b"") == b"Ursel\0Kurt\0xipj3plmq"


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        pytest.param(b"", MALFORMED, id="empty"),
        pytest.param(b"tim", MALFORMED, id="no NUL"),
        pytest.param(b"tim\0tanstaaf", MALFORMED, id="R4616-2-01: one NUL"),
        pytest.param(b"\0tim\0tanstaaf\0", MALFORMED, id="R4616-2-01: three NULs"),
        pytest.param(b"\0t\xff\0pw", MALFORMED, id="R4616-2-03: not UTF-8, name"),
        pytest.param(b"\0t\0p\xc0\x80", MALFORMED, id="R4616-2-03: not UTF-8, NUL in two octets"),
        pytest.param(b"\xed\xa0\x80\0t\0p", MALFORMED, id="R4616-2-03: not UTF-8, a surrogate"),
        pytest.param(b"\0" + b"x" * (MAX_NAME + 1) + b"\0pw", MALFORMED, id="long name"),
        pytest.param(b"\0\0pw", INVALID, id="R4616-2-02: no name"),
        pytest.param(b"\0tim\0", INVALID, id="R4616-2-02: no password"),
        pytest.param(b"\0tim\0\x07", INVALID, id="R4616-2-07: prohibited in the password"),
        pytest.param("\0\u00ad\0pw".encode(), INVALID, id="R4616-2-07: name empty after preparation"),
        pytest.param(
            "\u00ad\0tim\0pw".encode(), INVALID, id="R4954-4-22: authorization identity empty after preparation"
        ),
        pytest.param(b"\x07\0tim\0pw", INVALID, id="R4954-4-22: prohibited in the authorization identity"),
    ],
)
def test_invalid_plain_message_is_rejected_without_asking_the_application(message: bytes, outcome: Rejected) -> None:
    assert asked(message) == outcome


def test_plain_fields_of_255_octets_each_are_accepted() -> None:
    """R4616-2-04"""
    name = "\u00e9" * 127 + "x"
    assert len(name.encode()) == 255
    step = say(make_server("PLAIN"), "\0".join([name] * 3).encode(), answers=lambda question: True)

    assert step == Accepted(name, name)


def test_names_and_passwords_are_prepared_before_the_application_checks_them() -> None:
    """R4616-2-06, R4616-2-08, R4954-4-21, R4422-3.4.1-01"""
    assert asked("\0I\u00adX\0\u00aa".encode()) == CheckPassword("IX", "a")
    assert say(make_server("PLAIN"), "\u2168\0IX\0a".encode(), answers=yes) == Accepted("IX", "IX")


def test_policy_can_switch_off_the_preparation_of_names_and_passwords() -> None:
    assert asked("\0I\u00adX\0\u00aa".encode(), Policy(prepare=str)) == CheckPassword("I\u00adX", "\u00aa")


# LOGIN


def test_login_asks_for_the_name_and_then_for_the_password() -> None:
    server = make_server("LOGIN")
    assert server.start() == Challenge(b"Username:")
    assert server.respond("I\u00adX".encode()) == Challenge(b"Password:")
    assert server.respond("\u00aa".encode()) == CheckPassword("IX", "a")
    assert server.answer(True) == Accepted("IX", "IX")


def test_login_accepts_the_name_as_initial_response() -> None:
    server = make_server("LOGIN")
    assert server.start(b"tim") == Challenge(b"Password:")
    assert server.respond(b"tanstaaf") == CheckPassword("tim", "tanstaaf")
    assert server.answer(False) == INVALID


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        ([b""], INVALID),
        ([b"\xff"], MALFORMED),
        ([b"x" * (MAX_NAME + 1)], MALFORMED),
        ([b"t\0im"], INVALID),
        ([b"tim", b""], INVALID),
        ([b"tim", b"\xff"], MALFORMED),
        ([b"tim", b"x" * (MAX_NAME + 1)], MALFORMED),
        ([b"tim", b"\x07"], INVALID),
    ],
)
def test_invalid_login_name_or_password_is_rejected_without_asking_the_application(
    messages: list[bytes], outcome: Rejected
) -> None:
    assert say(make_server("LOGIN"), *messages, answers=lambda question: pytest.fail("asked")) == outcome


def test_login_client_ignores_the_wording_of_the_prompts() -> None:
    client = make_client("LOGIN", Credentials(username="tim", password="tanstaaf"))

    assert client.initial() is None
    assert client.respond(b"User Name\0") == b"tim"
    assert not client.done
    assert client.respond(b"") == b"tanstaaf"
    client.finish()
