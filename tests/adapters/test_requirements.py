"""Requirements of the RFCs for a running server as a whole, such as its timeouts, instead of single replies."""

import ssl
from dataclasses import fields, replace

import pytest

from smtpcore import Reply
from smtpcore_adapters import App, Timeouts
from smtpcore_adapters.cli import main
from smtpcore_adapters.recipients import Recipients
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.tls import self_signed_context
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG, EHLO, MAIL, QUIT, accepting
from tests.adapters.harness import BACKENDS, running
from tests.adapters.playbook import accepted, session


@pytest.mark.parametrize("name", [field.name for field in fields(Timeouts)])
def test_each_timeout_is_configurable(name: str) -> None:
    """R5321-4.5.3.2-02"""
    assert getattr(replace(Timeouts(), **{name: 1.5}), name) == 1.5


def test_server_waits_at_least_five_minutes_for_a_command() -> None:
    """R5321-4.5.3.2.7-01"""
    stream = accepted(Acceptor(App(), config=CONFIG)).send(EHLO, b"NOOP\r\n", QUIT).stream
    assert len(stream.receive_timeouts) == 3
    assert min(stream.receive_timeouts) >= 300.0


ELSEWHERE = b"RCPT TO:<u@elsewhere.example>\r\n"


@pytest.mark.parametrize(
    ("login", "recipient", "code"),
    [
        (b"", b"u@s.example", 250),
        (b"", b"u@elsewhere.example", 550),
        (b"", b"@s.example:u@elsewhere.example", 550),
        (b"", b"u%s.example@elsewhere.example", 550),
        (b"", b"s.example!u@elsewhere.example", 550),
        (b"AUTH PLAIN AHRpbQB0YW5z\r\n", b"u@elsewhere.example", 250),
    ],
)
def test_only_authenticated_clients_may_relay(login: bytes, recipient: bytes, code: int) -> None:
    """R5321-7.9-02, R2505-2.1-01"""
    app = App()
    app.include(Users({"tim": "tans"}))
    app.include(Recipients(["s.example"]))
    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
    script = b"EHLO s.example\r\n" + login + b"MAIL FROM:<a@s.example>\r\nRCPT TO:<" + recipient + b">\r\n"
    assert session(app, config=config).send(script + QUIT).codes[-2] == code


def test_lmtp_on_port_25_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """R2033-5-01"""
    assert main(["serve", "--lmtp", "--port", "25"]) == 2
    assert "must not use port 25" in capsys.readouterr().err


def test_starttls_is_not_offered_without_a_certificate() -> None:
    """R8314-4-01"""
    sent = accepted(Acceptor(App(), config=CONFIG)).send(EHLO, b"STARTTLS\r\n", QUIT).replies
    assert "STARTTLS" not in sent[1]
    assert sent[2].startswith("502 ")


def test_client_certificate_is_not_requested_by_default() -> None:
    """R8314-4.2-01"""
    assert self_signed_context(["s.example"]).verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("backend", BACKENDS)
def test_tls_is_closed_before_the_connection(backend: str) -> None:
    """R8314-3.4-01"""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    app = accepting()
    app.on("MAIL")(lambda session, mail: Reply(421, "Enough"))
    with running(backend, app, config=CONFIG, tls=self_signed_context(["s.example"]), implicit_tls=True) as server:
        for last, code in ((QUIT, 221), (EHLO + MAIL, 421)):
            with server.connect() as client:
                client.start_tls(trusting)  # a missing close_notify alert makes the end of the stream an error
                client.expect(220)
                client.send(last)
                while not client.read().startswith(str(code)):
                    pass
                assert client.rest() == b""
