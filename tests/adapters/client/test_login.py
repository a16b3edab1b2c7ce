"""Authentication of the client."""

import ssl
from base64 import b64decode

import pytest

from smtpcore import RemoteProtocolError, Reply
from smtpcore.sasl import ChannelBinding, Credentials, make_client
from smtpcore_adapters import AuthenticationRefused, TlsMode
from tests.adapters.playbook import new_client
from tests.playbook import GREETING, offer


def greeting_with_auth(mechanisms: str) -> tuple[bytes, ...]:
    return GREETING, offer(f"AUTH {mechanisms}")


def test_strongest_suitable_mechanism_is_chosen() -> None:
    script = [*greeting_with_auth("LOGIN PLAIN CRAM-MD5"), b"334 PDE+\r\n", b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(*script).connect()
    assert book.sent[1] == b"AUTH CRAM-MD5\r\n"

    script = [*greeting_with_auth("XOAUTH2 PLAIN"), b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=Credentials(username="tim", token="abc")).send(*script).connect()
    assert book.sent[1].startswith(b"AUTH XOAUTH2 ")


def test_given_mechanism_object_is_used() -> None:
    login = make_client("LOGIN", Credentials(username="tim", password="secret"))
    script = [*greeting_with_auth("PLAIN LOGIN"), b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=login).send(*script).connect()

    assert book.sent[1:] == [b"AUTH LOGIN\r\n", b"dGlt\r\n", b"c2VjcmV0\r\n"]


@pytest.mark.parametrize("is_async", [False, True])
def test_function_returns_the_credentials_of_each_connection(is_async: bool) -> None:
    tokens = iter(["one", "two"])

    def login() -> Credentials:
        return Credentials(username="tim", token=next(tokens))

    async def fetch_login() -> Credentials:
        return login()

    for token in ("one", "two"):
        script = [*greeting_with_auth("XOAUTH2"), b"235 welcome\r\n"]
        book = new_client(tls=TlsMode.IMPLICIT, auth=fetch_login if is_async else login).send(*script).connect()
        assert b64decode(book.sent[1].split()[2]) == f"user=tim\1auth=Bearer {token}\1\1".encode()


def test_failed_function_for_the_credentials_closes_the_connection() -> None:
    def login() -> Credentials:
        raise OSError("the token server is down")

    book = new_client(tls=TlsMode.IMPLICIT, auth=login).send(*greeting_with_auth("XOAUTH2"), b"221 bye\r\n")
    assert str(book.fail()) == "the token server is down"
    assert book.sent[1:] == [b"QUIT\r\n"]


def test_credentials_are_not_fetched_without_tls() -> None:
    def login() -> Credentials:
        raise AssertionError

    assert isinstance(new_client(auth=login).send(GREETING, offer("AUTH PLAIN")).fail(), AuthenticationRefused)


def test_long_initial_response_is_sent_after_an_empty_challenge() -> None:
    script = [*greeting_with_auth("PLAIN"), b"334 \r\n", b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600)).send(*script).connect()
    assert book.sent[1] == b"AUTH PLAIN\r\n"
    assert len(book.sent[2]) > 800

    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600)).send(*greeting_with_auth("PLAIN"), b"504 no\r\n")
    error = book.fail()
    assert isinstance(error, AuthenticationRefused)


def test_password_is_sent_without_tls_only_with_plaintext_auth() -> None:
    script = [GREETING, offer("AUTH PLAIN"), b"235 welcome\r\n"]
    book = new_client(auth=("tim", "secret")).send(*script)
    error = book.fail()
    assert isinstance(error, AuthenticationRefused)
    assert b"AUTH" not in book.output

    book = new_client(auth=("tim", "secret"), plaintext_auth=True).send(*script).connect()
    assert b"AUTH PLAIN" in book.output


def test_password_is_not_sent_to_an_unverified_server() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    book = new_client(tls=TlsMode.IMPLICIT, context=context, auth=("tim", "secret")).send(*greeting_with_auth("PLAIN"))
    error = book.fail()

    assert isinstance(error, AuthenticationRefused)
    assert "only over verified TLS" in str(error)
    assert b"AUTH" not in book.output


@pytest.mark.parametrize("offered", [[], ["AUTH X-UNKNOWN"]])
def test_connect_fails_without_a_common_mechanism(offered: list[str]) -> None:
    error = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(GREETING, offer(*offered)).fail()

    assert isinstance(error, AuthenticationRefused)
    assert error.reply is None
    assert "secret" not in str(error)


def test_refused_login_raises_authentication_refused_with_the_reply() -> None:
    error = (
        new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret"))
        .send(*greeting_with_auth("PLAIN"), b"535 5.7.8 no\r\n")
        .fail()
    )

    assert isinstance(error, AuthenticationRefused)
    assert error.reply == Reply(535, "no", enhanced="5.7.8")


def test_malformed_challenge_is_cancelled() -> None:
    script = [*greeting_with_auth("CRAM-MD5"), b"334 ***\r\n", b"501 cancelled\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(*script)
    error = book.fail()

    assert isinstance(error, RemoteProtocolError)
    assert book.sent[-2:] == [b"*\r\n", b"QUIT\r\n"]


def test_scram_success_without_server_signature_is_an_error() -> None:
    error = (
        new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret"))
        .send(*greeting_with_auth("SCRAM-SHA-256"), b"235 trust me\r\n")
        .fail()
    )

    assert isinstance(error, RemoteProtocolError)


def test_mechanism_that_cannot_use_the_credentials_is_skipped() -> None:
    script = [*greeting_with_auth("SCRAM-SHA-256 PLAIN"), b"235 welcome\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "\u0221secret")).send(*script).connect()
    assert book.sent[1].startswith(b"AUTH PLAIN ")


def test_scram_without_plus_after_a_refused_scram_plus_claims_no_channel_binding() -> None:
    bindings = (ChannelBinding("tls-exporter", b"data"),)
    script = [*greeting_with_auth("SCRAM-SHA-256-PLUS SCRAM-SHA-256"), b"504 no\r\n", b"535 no\r\n"]
    book = new_client(tls=TlsMode.IMPLICIT, auth=("tim", "secret")).send(*script)
    book.stream.bindings = bindings
    assert isinstance(book.fail(), AuthenticationRefused)
    initial = [line.split() for line in book.sent[1:3]]
    assert [words[1] for words in initial] == [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]
    assert [b64decode(words[2]).split(b",")[0] for words in initial] == [b"p=tls-exporter", b"n"]
