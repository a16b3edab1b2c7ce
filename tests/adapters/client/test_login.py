"""Authentication of the client."""

import ssl

import pytest

from smtpcore import RemoteProtocolError, Reply
from smtpcore.sasl import Credentials, make_client
from smtpcore_adapters import AuthenticationRefused, TlsMode
from tests.adapters.client.scripted import GREETING, connect, ehlo, refuse


def greeting_with_auth(mechanisms: str) -> tuple[bytes, ...]:
    return GREETING, ehlo(f"AUTH {mechanisms}")


def test_strongest_suitable_mechanism_is_chosen() -> None:
    script = [*greeting_with_auth("LOGIN PLAIN CRAM-MD5"), b"334 PDE+\r\n", b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=("tim", "secret"))
    assert stream.sent[1] == b"AUTH CRAM-MD5\r\n"

    script = [*greeting_with_auth("XOAUTH2 PLAIN"), b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=Credentials(username="tim", token="abc"))
    assert stream.sent[1].startswith(b"AUTH XOAUTH2 ")


def test_given_mechanism_object_is_used() -> None:
    login = make_client("LOGIN", Credentials(username="tim", password="secret"))
    script = [*greeting_with_auth("PLAIN LOGIN"), b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=login)

    assert stream.sent[1:] == [b"AUTH LOGIN\r\n", b"dGlt\r\n", b"c2VjcmV0\r\n"]


def test_long_initial_response_is_sent_after_an_empty_challenge() -> None:
    script = [*greeting_with_auth("PLAIN"), b"334 \r\n", b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600))
    assert stream.sent[1] == b"AUTH PLAIN\r\n"
    assert len(stream.sent[2]) > 800

    error, stream = refuse(*greeting_with_auth("PLAIN"), b"504 no\r\n", tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600))
    assert isinstance(error, AuthenticationRefused)


def test_password_is_sent_without_tls_only_with_plaintext_auth() -> None:
    script = [GREETING, ehlo("AUTH PLAIN"), b"235 welcome\r\n"]
    error, stream = refuse(*script, auth=("tim", "secret"))
    assert isinstance(error, AuthenticationRefused)
    assert b"AUTH" not in stream.output

    _, stream = connect(*script, auth=("tim", "secret"), plaintext_auth=True)
    assert b"AUTH PLAIN" in stream.output


def test_password_is_not_sent_to_an_unverified_server() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    error, stream = refuse(*greeting_with_auth("PLAIN"), tls=TlsMode.IMPLICIT, context=context, auth=("tim", "secret"))

    assert isinstance(error, AuthenticationRefused)
    assert "only over verified TLS" in str(error)
    assert b"AUTH" not in stream.output


@pytest.mark.parametrize("offered", [[], ["AUTH X-UNKNOWN"]])
def test_connect_fails_without_a_common_mechanism(offered: list[str]) -> None:
    error, _ = refuse(GREETING, ehlo(*offered), tls=TlsMode.IMPLICIT, auth=("tim", "secret"))

    assert isinstance(error, AuthenticationRefused)
    assert error.reply is None
    assert "secret" not in str(error)


def test_refused_login_raises_authentication_refused_with_the_reply() -> None:
    error, _ = refuse(*greeting_with_auth("PLAIN"), b"535 5.7.8 no\r\n", tls=TlsMode.IMPLICIT, auth=("tim", "secret"))

    assert isinstance(error, AuthenticationRefused)
    assert error.reply == Reply(535, "no", enhanced="5.7.8")


def test_malformed_challenge_is_cancelled() -> None:
    script = [*greeting_with_auth("CRAM-MD5"), b"334 ***\r\n", b"501 cancelled\r\n"]
    error, stream = refuse(*script, tls=TlsMode.IMPLICIT, auth=("tim", "secret"))

    assert isinstance(error, RemoteProtocolError)
    assert stream.sent[-1] == b"*\r\n"


def test_scram_success_without_server_signature_is_an_error() -> None:
    error, _ = refuse(
        *greeting_with_auth("SCRAM-SHA-256"), b"235 trust me\r\n", tls=TlsMode.IMPLICIT, auth=("tim", "secret")
    )

    assert isinstance(error, RemoteProtocolError)
