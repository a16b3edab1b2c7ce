"""SCRAM-PLUS: channel binding to a real TLS connection."""

import hashlib
import logging
import ssl
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpcore.sasl import Channel, ChannelBinding, Credentials, make_client
from smtpcore_adapters import App, Timeouts
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.tls import ServerTls, self_signed_context
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG, EHLO, QUIT
from tests.adapters.harness import BACKENDS, Client, running
from tests.adapters.playbook import accepted

PLUS = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")
CREDENTIALS = Credentials(username="tim", password="tanstaaf")


def users() -> App:
    app = App()
    app.include(Users({"tim": "tanstaaf"}))
    return app


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def authenticate(client: Client, name: str, binding: ChannelBinding) -> int:
    mechanism = make_client(name, CREDENTIALS, Channel(tls=True, bindings=(binding,)))
    first = mechanism.initial()
    assert first
    client.send(b"AUTH %b %b\r\n" % (name.encode(), b64encode(first)))
    while (reply := client.read()).startswith("334 "):
        client.send(b64encode(mechanism.respond(b64decode(reply[4:]))) + b"\r\n")
    if reply.startswith("235"):
        mechanism.finish()
    return int(reply[:3])


def end_point(client: Client) -> ChannelBinding:
    assert isinstance(client.socket, ssl.SSLSocket)
    certificate = client.socket.getpeercert(binary_form=True)
    assert certificate
    return ChannelBinding("tls-server-end-point", hashlib.sha256(certificate).digest())


def test_login_in_a_new_session_succeeds_after_the_renewal_of_the_certificate(tmp_path: Path) -> None:
    files = tmp_path / "chain", tmp_path / "key"

    def renew() -> None:
        certificate = trustme.CA().issue_cert("s.example")
        certificate.cert_chain_pems[0].write_to_path(files[0])
        certificate.private_key_pem.write_to_path(files[1])

    renew()
    tls, session, context = ServerTls(*files), None, trusting()
    config = replace(CONFIG, auth_mechanisms=PLUS)
    with running("asyncio", users(), tls=tls.context, implicit_tls=True, config=config) as server:
        for _ in range(2):
            with server.connect() as client:
                connection = context.wrap_socket(client.socket, server_hostname="s.example", session=session)
                client.socket = connection
                client.expect(220).send(EHLO).expect(250)
                assert authenticate(client, PLUS[0], end_point(client)) == 235
                session = connection.session
            renew()
            tls.reload()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("implicit", [False, True])
def test_login_succeeds_only_with_the_binding_of_the_connection(backend: str, implicit: bool) -> None:
    config, context = replace(CONFIG, auth_mechanisms=(*PLUS, "PLAIN")), self_signed_context(["s.example"])
    options: dict[str, Any] = {"config": config, "tls": context}
    timeouts = Timeouts(auth_delay=0)
    with running(backend, users(), implicit_tls=implicit, timeouts=timeouts, **options) as server:
        for name in PLUS:
            with server.connect() as client:
                if implicit:
                    client.start_tls(trusting())
                    client.expect(220)
                else:
                    client.expect(220)
                    client.send(b"EHLO c.example\r\n").expect(250).send(b"STARTTLS\r\n").expect(220)
                    client.start_tls(trusting())
                client.send(EHLO)
                assert "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS PLAIN" in client.read()
                binding = end_point(client)
                assert authenticate(client, name, replace(binding, data=binding.data[::-1])) == 535
                assert authenticate(client, name, ChannelBinding("tls-unique", binding.data)) == 535
                assert authenticate(client, name, binding) == 235


@pytest.mark.parametrize("tls", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)])
def test_plus_mechanisms_are_not_offered_without_a_channel_binding(
    tls: ssl.SSLContext | None, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, auth_mechanisms=(*PLUS, "PLAIN"), plaintext_auth=True)
    with caplog.at_level(logging.WARNING, "smtpcore"):
        acceptor = Acceptor(users(), config=config, tls=tls)

    dialogue = accepted(acceptor).send(EHLO, b"AUTH SCRAM-SHA-256-PLUS\r\n", QUIT)
    dialogue.expect(220, "...250-AUTH PLAIN\n...", "504 5.5.4 ...", 221)
    assert "smtpcore_adapters.tls" in caplog.text


def test_scram_without_plus_accepts_a_client_that_supports_binding() -> None:
    # The client's first message says that the client supports channel binding. If the server offered -PLUS, the server
    # would have to treat that message as a downgrade attack.
    config = replace(CONFIG, auth_mechanisms=("SCRAM-SHA-256",))
    tls = self_signed_context(["s.example"])
    with running("asyncio", users(), config=config, tls=tls) as server, server.connect() as client:
        client.expect(220).send(b"EHLO c.example\r\n").expect(250).send(b"STARTTLS\r\n").expect(220)
        client.start_tls(trusting())
        client.send(b"EHLO c.example\r\n").read()
        assert authenticate(client, "SCRAM-SHA-256", end_point(client)) == 235


def test_login_may_be_bound_to_a_secret_of_the_session() -> None:
    class Exporting(ssl.SSLObject):
        def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
            return b"secret" if cb_type == "tls-exporter" else None

    config = replace(CONFIG, auth_mechanisms=("SCRAM-SHA-256-PLUS",))
    tls = self_signed_context(["s.example"])
    tls.sslobject_class = Exporting
    timeouts = Timeouts(auth_delay=0)
    with running("asyncio", users(), config=config, tls=tls, timeouts=timeouts) as server, server.connect() as client:
        client.expect(220).send(b"EHLO c.example\r\n").expect(250).send(b"STARTTLS\r\n").expect(220)
        client.start_tls(trusting())
        client.send(b"EHLO c.example\r\n").read()
        assert authenticate(client, "SCRAM-SHA-256-PLUS", ChannelBinding("tls-exporter", b"other")) == 535
        assert authenticate(client, "SCRAM-SHA-256-PLUS", ChannelBinding("tls-exporter", b"secret")) == 235
