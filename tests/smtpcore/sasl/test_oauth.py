"""The OAUTHBEARER (RFC 7628) and XOAUTH2 mechanisms."""

import base64
import json
from typing import Any

import pytest

from smtpcore import RemoteProtocolError
from smtpcore.sasl import (
    MAX_NAME,
    Accepted,
    Answer,
    Challenge,
    Channel,
    CheckAuthorization,
    CheckToken,
    Credentials,
    OAuthBearerClient,
    Question,
    Reason,
    Rejected,
    TokenError,
    XOAuth2Client,
    make_client,
    make_server,
)

from .helpers import join

TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
INVALID = Rejected(Reason.INVALID_CREDENTIALS)

# RFC 7628 4.1
SUCCESS = base64.b64decode(
    "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNS"
    "bGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
)
# RFC 7628 4.3
QUERY = base64.b64decode("bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9AQE=")
QUERY_ERROR = base64.b64decode(
    "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3BlbmlkLWNvbmZpZ3VyYXRpb24iOiJodHRwczovL2V4"
    "YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn0="
)
# RFC 7628 4.4. The header of this example is invalid: it has "user=" in the place of "a=".
FAILURE = base64.b64decode(
    "bix1c2VyPXNvbWV1c2VyQGV4YW1wbGUuY29tLAFhdXRoPUJlYXJlciB2RjlkZnQ0cW1UYzJOdmIzUmxja0JoZEhSaGRtbHpkR0V1WTI5dENnPT0B"
    "AQ=="
)
# The description of XOAUTH2 by Google
XOAUTH2 = base64.b64decode(
    "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cB"
    "AQ=="
)
XOAUTH2_ERROR = base64.b64decode(
    "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIG1hYyIsInNjb3BlIjoiaHR0cHM6Ly9tYWlsLmdvb2dsZS5jb20vIn0K"
)


def status(step: object) -> str:
    assert isinstance(step, Challenge)
    text: str = json.loads(step.data)["status"]
    return text


def test_both_ends_complete_the_successful_example_of_rfc_7628() -> None:
    """R7628-3.1-01"""
    server = make_server("OAUTHBEARER")
    assert server.start(SUCCESS) == CheckToken("user@example.com", TOKEN, "server.example.com", 587)
    assert server.answer("user@example.com") == Accepted("user@example.com", "user@example.com")

    credentials = Credentials(username="user@example.com", token=TOKEN)
    client = make_client("OAUTHBEARER", credentials, Channel(tls=True, host="server.example.com", port=587))
    assert client.initial() == SUCCESS
    client.finish()


def test_server_answers_the_query_example_of_rfc_7628_with_an_error() -> None:
    """R7628-3.2.3-02"""
    server = make_server("OAUTHBEARER")
    assert server.start() == Challenge(b"")
    assert status(server.respond(QUERY)) == "invalid_token"
    assert server.respond(b"\x01") == INVALID


def test_server_refuses_the_failing_example_of_rfc_7628() -> None:
    server = make_server("OAUTHBEARER")
    assert status(server.start(FAILURE)) == "invalid_request"
    assert server.respond(b"\x01") == INVALID


def test_both_ends_complete_the_xoauth2_example_of_google() -> None:
    token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    client = make_client("XOAUTH2", Credentials(username="someuser@example.com", token=token))
    assert client.initial() == XOAUTH2
    assert client.done

    server = make_server("XOAUTH2")
    assert server.start(XOAUTH2) == CheckToken("someuser@example.com", token)
    assert status(server.answer(None)) == "401"
    assert server.respond(b"") == INVALID


def message(*pairs: str, header: str = "n,,") -> bytes:
    return "\x01".join([header, *pairs, "", ""]).encode()


@pytest.mark.parametrize(
    ("sent", "question"),
    [
        pytest.param(message("auth=Bearer t"), CheckToken(None, "t"), id="only the token"),
        pytest.param(
            message("foo=bar", "auth=Bearer t", "qs="), CheckToken(None, "t"), id="R7628-3.1-02: unknown keys"
        ),
        pytest.param(message("auth=BEARER t"), CheckToken(None, "t"), id="R7628-4-01: upper case"),
        pytest.param(message("auth=bearer  t"), CheckToken(None, "t"), id="R7628-4-01: lower case, spaces"),
        pytest.param(message("auth=Bearer t", header="y,a=a=2Cb,"), CheckToken("a,b", "t"), id="escaped"),
        pytest.param(message("auth=Bearer t", header="n,a=I\u00adX,"), CheckToken("IX", "t"), id="prepared"),
        pytest.param(message("port=25", "auth=Bearer t", "host=h"), CheckToken(None, "t", "h", 25), id="any order"),
    ],
)
def test_server_parses_the_first_message_of_oauthbearer(sent: bytes, question: CheckToken) -> None:
    assert make_server("OAUTHBEARER").start(sent) == question


BEARER = "auth=Bearer t"


@pytest.mark.parametrize(
    ("name", "sent", "expected"),
    [
        pytest.param("OAUTHBEARER", message(), "invalid_token", id="R7628-3.1-03: no auth"),
        pytest.param("OAUTHBEARER", message("auth=Basic t"), "invalid_token", id="another scheme"),
        pytest.param("OAUTHBEARER", message("auth=Bearer a b"), "invalid_token", id="two tokens"),
        pytest.param("OAUTHBEARER", b"", "invalid_request", id="empty"),
        pytest.param("OAUTHBEARER", b"n,,", "invalid_request", id="no separator"),
        pytest.param("OAUTHBEARER", message(BEARER)[:-1], "invalid_request", id="one separator at the end"),
        pytest.param("OAUTHBEARER", message(BEARER) + b"x", "invalid_request", id="more after the end"),
        pytest.param("OAUTHBEARER", message(BEARER, ""), "invalid_request", id="an empty pair"),
        pytest.param("OAUTHBEARER", message(BEARER, BEARER), "invalid_request", id="token twice"),
        pytest.param("OAUTHBEARER", message(BEARER, "k3y=x"), "invalid_request", id="digit in a key"),
        pytest.param("OAUTHBEARER", message(BEARER, "key"), "invalid_request", id="no value"),
        pytest.param("OAUTHBEARER", message(BEARER, "key=\u00e9"), "invalid_request", id="value beyond ASCII"),
        pytest.param("OAUTHBEARER", message(BEARER, "key=\0"), "invalid_request", id="NUL"),
        pytest.param("OAUTHBEARER", message(BEARER, "port=025"), "invalid_request", id="port with leading zero"),
        pytest.param("OAUTHBEARER", message(BEARER, "port="), "invalid_request", id="empty port"),
        pytest.param("OAUTHBEARER", message(BEARER, "port=123456"), "invalid_request", id="long port"),
        pytest.param("OAUTHBEARER", message(BEARER, header=""), "invalid_request", id="no header"),
        pytest.param("OAUTHBEARER", message(BEARER, header="p=tls-unique,,"), "invalid_request", id="channel binding"),
        pytest.param("OAUTHBEARER", message(BEARER, header="n,a=,"), "invalid_request", id="empty name"),
        pytest.param("OAUTHBEARER", message(BEARER, header="n,a=b=c,"), "invalid_request", id="unescaped"),
        pytest.param("OAUTHBEARER", message(BEARER, header="n,a=\x07,"), "invalid_request", id="prohibited"),
        pytest.param(
            "OAUTHBEARER",
            message(BEARER, header=f"n,a={'x' * (MAX_NAME + 1)},"),
            "invalid_request",
            id="long user name",
        ),
        pytest.param("OAUTHBEARER", b"\xff\x01\x01", "invalid_request", id="not UTF-8"),
        pytest.param("XOAUTH2", message(BEARER, header="user="), "400", id="XOAUTH2: empty user"),
        pytest.param("XOAUTH2", message(BEARER, header="n,,"), "400", id="XOAUTH2: no user"),
        pytest.param("XOAUTH2", message(BEARER, header="name=u"), "400", id="XOAUTH2: another key"),
        pytest.param("XOAUTH2", b"", "400", id="XOAUTH2: empty"),
        pytest.param("XOAUTH2", message(header="user=u"), "401", id="XOAUTH2: no token"),
    ],
)
def test_malformed_first_message_is_refused_without_asking_the_application(
    name: str, sent: bytes, expected: str
) -> None:
    """R7628-3.2.2-01"""
    server = make_server(name)
    assert status(server.start(sent)) == expected
    assert server.respond(b"\x01") == INVALID


def test_xoauth2_user_name_may_contain_an_equals_sign() -> None:
    question = make_server("XOAUTH2").start(message(BEARER, header="user=a=b"))

    assert isinstance(question, CheckToken)
    assert question.username == "a=b"


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
def test_error_acknowledgement_as_first_message_is_rejected(name: str) -> None:
    """R7628-3.1-04"""
    assert make_server(name).start(b"\x01") == INVALID


@pytest.mark.parametrize(
    ("answer", "sent"),
    [
        (None, {"status": "invalid_token"}),
        ("", {"status": "invalid_token"}),
        (TokenError("insufficient_scope", "mail"), {"status": "insufficient_scope", "scope": "mail"}),
        (TokenError("x", configuration="https://"), {"status": "x", "openid-configuration": "https://"}),
        (TokenError("x", others={"schemes": ["Bearer"], "status": "y"}), {"status": "x", "schemes": ["Bearer"]}),
    ],
)
def test_rejected_token_is_explained_in_json(answer: Answer, sent: dict[str, str]) -> None:
    """R7628-3.2.2-02"""
    server = make_server("OAUTHBEARER")
    server.start(SUCCESS)
    step = server.answer(answer)

    assert isinstance(step, Challenge)
    assert json.loads(step.data) == sent
    assert server.respond(b"whatever") == INVALID


def test_host_and_port_of_oauthbearer_are_passed_to_the_application() -> None:
    """R7628-3.2-01"""

    def answers(question: Question) -> Answer:
        assert isinstance(question, CheckToken)
        return "user" if (question.host, question.port) == ("s.example", 587) else None

    outcomes = []
    for host in ("s.example", "other.example"):
        channel = Channel(tls=True, host=host, port=587)
        client = make_client("OAUTHBEARER", Credentials(token="t"), channel)
        outcomes.append(join(client, make_server("OAUTHBEARER", channel), answers).outcome)

    assert outcomes == [Accepted("user", "user"), INVALID]


def test_token_owner_may_be_allowed_to_act_as_another_user() -> None:
    server = make_server("XOAUTH2")
    server.start(message(BEARER, header="user=sales@s.example"))

    assert server.answer("tim@s.example") == CheckAuthorization("tim@s.example", "sales@s.example")
    assert server.answer(True) == Accepted("tim@s.example", "sales@s.example")


# The client


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (Credentials(token="t"), b"n,,"),
        (Credentials(token="t", username="a,b"), b"n,a=a=2Cb,"),
        (Credentials(token="t", username="tim", authorization="sales"), b"n,a=sales,"),
    ],
)
def test_client_header_names_the_user_or_authorization_identity(credentials: Credentials, header: bytes) -> None:
    assert make_client("OAUTHBEARER", credentials).initial() == header + b"\x01auth=Bearer t\x01\x01"


@pytest.mark.parametrize(
    ("name", "challenge", "error", "dummy"),
    [
        (
            "OAUTHBEARER",
            QUERY_ERROR,
            TokenError("invalid_token", "example_scope", "https://example.com/.well-known/openid-configuration"),
            b"\x01",
        ),
        ("XOAUTH2", XOAUTH2_ERROR, TokenError("401", "https://mail.google.com/"), b""),
        ("OAUTHBEARER", b"", TokenError("unknown"), b"\x01"),
        ("OAUTHBEARER", b"{", TokenError("unknown"), b"\x01"),
        ("OAUTHBEARER", b"[]", TokenError("unknown"), b"\x01"),
        ("OAUTHBEARER", b"1", TokenError("unknown"), b"\x01"),
        ("OAUTHBEARER", b'"invalid_token"', TokenError("unknown"), b"\x01"),
        ("OAUTHBEARER", b'{"status": 1, "scope": "s"}', TokenError("unknown", "s"), b"\x01"),
        ("OAUTHBEARER", b"\xff", TokenError("unknown"), b"\x01"),
        ("OAUTHBEARER", b"[" * 9000, TokenError("unknown"), b"\x01"),
        ("OAUTHBEARER", b"1" * 9000, TokenError("unknown"), b"\x01"),
    ],
)
def test_client_parses_the_error_and_acknowledges_it(
    name: str, challenge: bytes, error: TokenError, dummy: bytes
) -> None:
    """R7628-3.2.3-01"""
    client: Any = make_client(name, Credentials(username="u", token="t"))
    assert isinstance(client, OAuthBearerClient | XOAuth2Client)
    client.initial()
    assert client.done
    assert client.respond(challenge) == dummy
    assert client.token_error == error
    assert client.error == error.status
    assert not client.done


def test_client_keeps_the_other_members_of_the_error() -> None:
    client: Any = make_client("XOAUTH2", Credentials(username="u", token="t"))
    client.initial()
    client.respond(b'{"status": "400", "schemes": "Bearer", "scope": 5}')

    assert client.token_error.others == {"schemes": "Bearer", "scope": 5}


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
def test_challenge_or_success_after_an_error_is_a_remote_error(name: str) -> None:
    client = make_client(name, Credentials(username="u", token="t"))
    client.initial()
    client.respond(b"{}")

    with pytest.raises(RemoteProtocolError, match="success"):
        client.finish()

    client = make_client(name, Credentials(username="u", token="t"))
    client.initial()
    client.respond(b"{}")
    with pytest.raises(RemoteProtocolError, match="after the error"):
        client.respond(b"{}")
