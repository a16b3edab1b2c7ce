"""TLS and logins on demand, and streams that have TLS already."""

import ssl

import pytest

from smtpcore import LocalProtocolError
from smtpcore_adapters import AuthenticationRefused, Certificate, Refused, Tls, TlsMode
from tests.adapters.fakes import FakeStream, step
from tests.adapters.playbook import client, new_client
from tests.playbook import GREETING, offer

GO = b"220 go\r\n"
WELCOME = b"235 welcome\r\n"
TIM = ("tim", "secret")


def test_plaintext_session_gets_tls_and_a_login_on_demand() -> None:
    book = client("STARTTLS", hostname="c.example").send(GO, offer("AUTH PLAIN"), WELCOME)
    verified = [book.client.is_verified]
    step(book.client.starttls())
    verified.append(book.client.is_verified)
    assert verified == [False, True]
    idle = [book.client.is_idle]
    assert step(book.client.login(TIM)).code == 235
    idle.append(book.client.is_idle)
    assert idle == [True, False], "a pool must not give the connection to someone else"
    book.wire(b"STARTTLS\r\n", b"EHLO c.example\r\n", b"AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n")


def test_context_may_be_given_on_demand() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    book = client("STARTTLS").send(GO, offer())
    step(book.client.starttls(context))
    assert book.client.tls
    assert not book.client.is_verified


@pytest.mark.parametrize(("offers", "script"), [((), []), (("STARTTLS",), [b"454 not now\r\n"])])
def test_session_continues_without_tls_after_a_refusal(offers: tuple[str, ...], script: list[bytes]) -> None:
    book = client(*offers).send(*script, b"250 ok\r\n")
    with pytest.raises(Refused, match="STARTTLS"):
        step(book.client.starttls())
    assert step(book.client.noop()).is_positive


def test_tls_cannot_be_started_twice() -> None:
    book = new_client(tls=TlsMode.IMPLICIT).send(GREETING, offer(), b"250 ok\r\n").connect()
    with pytest.raises(LocalProtocolError, match="TLS is already active"):
        step(book.client.starttls())
    assert step(book.client.noop()).is_positive


def test_login_may_be_tried_again_after_a_refusal() -> None:
    book = new_client(tls=TlsMode.IMPLICIT).send(GREETING, offer("AUTH PLAIN LOGIN")).connect().skip()
    book.send(b"535 no\r\n", WELCOME)
    with pytest.raises(AuthenticationRefused):
        step(book.client.login(("tim", "wrong"), auth_mechanisms=["PLAIN"]))
    assert step(book.client.login(TIM)).code == 235


def test_login_on_demand_needs_tls() -> None:
    book = client("AUTH PLAIN")
    with pytest.raises(AuthenticationRefused, match="AUTH needs TLS"):
        step(book.client.login(TIM))
    book.wire()


def test_arguments_of_a_login_on_demand_are_checked() -> None:
    book = new_client(tls=TlsMode.IMPLICIT).send(GREETING, offer("AUTH PLAIN")).connect().skip()
    with pytest.raises(ValueError, match="The nearest is 'PLAIN'"):
        step(book.client.login(TIM, auth_mechanisms=["PLAN"]))
    with pytest.raises(TypeError, match="auth is a value of type str"):
        step(book.client.login("tim"))  # type: ignore[arg-type]
    book.wire()


@pytest.mark.parametrize("mode", TlsMode)
@pytest.mark.parametrize("is_verified", [True, False])
def test_stream_that_has_tls_already_is_used_without_a_handshake(mode: TlsMode, is_verified: bool) -> None:
    certificate = Certificate(b"der", {"subject": ()}) if is_verified else None
    stream = FakeStream(GREETING, offer("AUTH PLAIN"), WELCOME)
    stream.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", peer_certificate=certificate)
    stream.handshake_error = AssertionError("there is TLS already")
    book = new_client(stream=stream, tls=mode)
    book.stream = stream
    book.connect()
    assert stream.opened == []
    assert book.client.is_verified is is_verified
    if is_verified:
        assert step(book.client.login(TIM)).code == 235


def test_stream_of_the_program_is_closed_at_the_end() -> None:
    stream = FakeStream(GREETING, offer(), b"221 bye\r\n")
    book = new_client(stream=stream).connect()
    step(book.client.aclose())
    assert stream.sent == [b"EHLO c.example\r\n", b"QUIT\r\n"]
    assert stream.close_timeouts == [0]
