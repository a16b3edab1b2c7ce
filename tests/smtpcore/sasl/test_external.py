"""The EXTERNAL mechanism (RFC 4422 appendix A)."""

import pytest

from smtpcore.sasl import (
    MAX_NAME,
    Accepted,
    Answer,
    Challenge,
    Channel,
    CheckAuthorization,
    CheckIdentity,
    Credentials,
    Question,
    Reason,
    Rejected,
    make_client,
    make_server,
)

from .helpers import say

CHANNEL = Channel(tls=True, external="CN=fred")


def answers(question: Question) -> Answer:
    match question:
        case CheckIdentity("CN=fred"):
            return "fred@example.com"
        case _:
            return None


@pytest.mark.parametrize("message", [b"", b"fred@example.com"])
def test_server_accepts_the_external_examples_of_rfc_4422(message: bytes) -> None:
    """R4422-A.1-01, R4422-A.1-04, R8314-4.2-02, R4954-4-11"""
    assert say(make_server("EXTERNAL", CHANNEL), message, answers=answers) == Accepted(
        "fred@example.com", "fred@example.com"
    )

    server = make_server("EXTERNAL", CHANNEL)
    assert server.start() == Challenge(b"")
    assert server.respond(message) == CheckIdentity("CN=fred", message.decode() or None)


@pytest.mark.parametrize(
    ("channel", "message", "reason"),
    [
        pytest.param(Channel(tls=True), b"", Reason.INVALID_CREDENTIALS, id="R4422-A.1-02: no credentials"),
        pytest.param(Channel(external="CN=eve"), b"", Reason.INVALID_CREDENTIALS, id="unknown credentials"),
        pytest.param(CHANNEL, b"admin", Reason.NOT_AUTHORIZED, id="R4422-A.1-03: another user"),
        pytest.param(CHANNEL, b"a\0b", Reason.MALFORMED, id="R4422-A.1-03: NUL"),
        pytest.param(CHANNEL, b"\xff", Reason.MALFORMED, id="R4422-A.1-03: not UTF-8"),
        pytest.param(CHANNEL, b"x" * (MAX_NAME + 1), Reason.MALFORMED, id="long"),
        pytest.param(CHANNEL, b"\x07", Reason.INVALID_CREDENTIALS, id="prohibited"),
        pytest.param(CHANNEL, "\u00ad".encode(), Reason.INVALID_CREDENTIALS, id="empty after preparation"),
    ],
)
def test_external_is_rejected_with_the_right_reason(channel: Channel, message: bytes, reason: Reason) -> None:
    assert say(make_server("EXTERNAL", channel), message, answers=answers) == Rejected(reason)


def test_empty_identity_as_answer_rejects_the_client() -> None:
    server = make_server("EXTERNAL", CHANNEL)
    server.start(b"")

    assert server.answer("") == Rejected(Reason.INVALID_CREDENTIALS)


def test_application_may_map_the_certificate_to_the_requested_user() -> None:
    server = make_server("EXTERNAL", CHANNEL)
    step = server.start("\u2168".encode())

    assert step == CheckIdentity("CN=fred", "IX")
    assert server.answer("IX") == Accepted("IX", "IX")


def test_user_may_be_allowed_to_act_as_another_user() -> None:
    server = make_server("EXTERNAL", CHANNEL)
    server.start(b"admin")

    assert server.answer("fred") == CheckAuthorization("fred", "admin")
    assert server.answer(True) == Accepted("fred", "admin")


def test_client_sends_its_authorization_identity_or_an_empty_response() -> None:
    """R4954-4-10"""
    assert make_client("EXTERNAL", Credentials(), CHANNEL).initial() == b""
    assert make_client("EXTERNAL", Credentials(authorization="fred"), CHANNEL).initial() == b"fred"
