"""The options of a server, and the extensions that follow from them."""

import platform
import ssl
from dataclasses import replace

import pytest

from smtpcore import BareNewlines, Bodies, Config, LocalProtocolError, Reply, Tolerance
from smtpcore_adapters import App, Listener, default_config
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG, EHLO, QUIT
from tests.adapters.playbook import accepted

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")
OFFERING = replace(CONFIG, auth_mechanisms=MECHANISMS, plaintext_auth=True)


def users() -> App:
    app = App()
    app.include(Users({"tim": "tanstaaf"}))
    return app


def hello(acceptor: Acceptor) -> str:
    return accepted(acceptor).send(EHLO, QUIT).replies[1]


def reply_to_ehlo(app: App, **options: object) -> str:
    acceptor = Acceptor(app, **options)  # type: ignore[arg-type]
    return accepted(acceptor).send(EHLO, QUIT).stream.output.decode()


@pytest.mark.parametrize(("node", "hostname"), [("mx.example", "mx.example"), ("", "localhost"), ("ä", "localhost")])
def test_default_hostname_is_the_name_of_the_machine(node: str, hostname: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: node)
    assert default_config() == Config(
        hostname=hostname,
        bodies=Bodies.CHUNKS,
        bare_newlines=BareNewlines.NORMALIZE,
        tolerance=Tolerance.LENIENT,
        max_text_line=None,
    )
    assert hello(Acceptor(App())).startswith(f"250-{hostname}")


def test_starttls_is_offered_only_with_an_ssl_context() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert "STARTTLS" in hello(Acceptor(App(), config=CONFIG, tls=context))
    assert "STARTTLS" not in hello(Acceptor(App(), config=CONFIG))
    assert "STARTTLS" not in hello(Acceptor(App(), config=CONFIG, tls=context, implicit_tls=True))


def test_expn_is_offered_only_with_a_handler() -> None:
    app = App()
    assert "EXPN" not in hello(Acceptor(app, config=CONFIG))
    app.on("EXPN")(lambda session, expn: Reply(250, "<a@s.example>"))
    assert "EXPN" in hello(Acceptor(app, config=CONFIG))


def test_auth_is_offered_only_with_a_handler_and_tls() -> None:
    assert "AUTH" not in reply_to_ehlo(users(), config=CONFIG)
    assert "250-AUTH PLAIN LOGIN\r\n" in reply_to_ehlo(users(), config=replace(CONFIG, plaintext_auth=True))
    assert "250-AUTH CRAM-MD5\r\n" in reply_to_ehlo(users(), config=replace(OFFERING, auth_mechanisms=("CRAM-MD5",)))
    assert "AUTH" not in reply_to_ehlo(App(), config=replace(CONFIG, plaintext_auth=True))


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (replace(CONFIG, starttls=True), "starttls needs a TLS context: pass tls="),
        (replace(CONFIG, starttls=True, require_tls=True), "require_tls needs a TLS context: pass tls="),
        (OFFERING, "auth_mechanisms needs a handler of auth"),
        (replace(OFFERING, require_auth=True), "auth_mechanisms needs a handler of auth"),
        (replace(CONFIG, burl=("imap",)), "burl needs a handler of BURL"),
    ],
)
def test_configuration_that_the_server_cannot_fulfil_is_an_error(config: Config, error: str) -> None:
    with pytest.raises(LocalProtocolError, match=error):
        Acceptor(App(), config=config)
    with pytest.raises(LocalProtocolError, match=error):
        Acceptor(App(), listeners=[Listener(config=config)])


@pytest.mark.parametrize("name", ["plain", "GSSAPI"])
def test_unknown_mechanism_in_the_configuration_is_an_error(name: str) -> None:
    with pytest.raises(LocalProtocolError, match=name):
        Acceptor(users(), config=replace(OFFERING, auth_mechanisms=(name,)))
