"""Connecting: the greeting, EHLO, and TLS."""

import ssl
from ipaddress import IPv4Address
from typing import Any

import pytest

from smtpcore import ClientBudgets, LocalProtocolError, RemoteProtocolError, Reply
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore_adapters import Address, Client, Disconnected, Refused, TlsMode
from smtpcore_adapters.client._connecting import connected, open_client
from tests.adapters.fakes import SILENCE, Step, step
from tests.adapters.playbook import BYE, ScriptedServer, new_client, next_server
from tests.playbook import GREETING, OK, offer


def test_client_sends_ehlo_and_quit() -> None:
    hop = next_server("SIZE 1000", "8BITMIME").send(BYE)

    async def main() -> None:
        async with connected(hop.open, "s.example", 25, hostname="c.example") as client:
            clients.append(client)
            assert client.greeting == Reply(220, "s.example ESMTP")
            assert client.extensions == {"SIZE": 1000, "8BITMIME": True}
            assert client.peer is None
            assert client.is_open
            assert repr(client) == "<Client of s.example at None>"

    clients: list[Client] = []
    step(main())
    assert not clients[0].is_open
    assert repr(clients[0]).endswith(", closed>")
    hop.wire(b"EHLO c.example\r\n", b"QUIT\r\n")
    assert hop.stream.close_timeouts == [0]
    assert hop.stream.receive_timeouts[-1] <= ClientBudgets().quit


@pytest.mark.parametrize("code", [500, 502, 550])
def test_client_falls_back_to_helo_if_ehlo_is_refused(code: int) -> None:
    book = new_client().send(GREETING, f"{code} what?\r\n".encode(), OK).connect()

    book.wire(b"EHLO c.example\r\n", b"HELO c.example\r\n")
    assert book.client.extensions == {}


def test_session_over_a_unix_socket_has_no_tls_by_default() -> None:
    book = new_client(path="/run/lmtp", lmtp=True).send(GREETING, offer("STARTTLS")).connect()
    book.wire(b"LHLO c.example\r\n")
    again = new_client(path="/run/lmtp", tls=TlsMode.OPPORTUNISTIC).send(GREETING, offer("STARTTLS"), OK, offer())
    again.connect().wire(b"EHLO c.example\r\n", b"STARTTLS\r\n", b"EHLO c.example\r\n")


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "192.0.2.1", "s.example."])
def test_host_may_be_a_name_or_an_address(host: str) -> None:
    hop = next_server()
    assert step(open_client(hop.open, host, 25, tls=TlsMode.NONE, hostname="c.example")).host == host


def test_lmtp_client_has_no_fallback_if_lhlo_is_refused() -> None:
    book = new_client(lmtp=True).send(GREETING, b"500 what?\r\n")
    error = book.fail()

    assert isinstance(error, Refused)
    book.wire(b"LHLO c.example\r\n", b"QUIT\r\n")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([b"554 no mail here\r\n"], 554),
        ([b"421 later\r\n"], 421),
        ([GREETING, b"421 later\r\n"], 421),
        ([GREETING, b"451 later\r\n"], 451),
        ([GREETING, b"550 no\r\n", b"550 no\r\n"], 550),
    ],
)
def test_negative_greeting_or_hello_reply_raises_refused_with_the_reply(script: list[bytes], code: int) -> None:
    book = new_client().send(*script)
    error = book.fail()

    assert isinstance(error, Refused)
    assert error.reply
    assert error.reply.code == code
    assert book.stream.close_timeouts == [0]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([], Disconnected),
        ([b"220"], Disconnected),
        ([GREETING], Disconnected),
        ([ConnectionResetError("gone")], ConnectionResetError),
        ([SILENCE], TimeoutError),
        ([GREETING, SILENCE], TimeoutError),
        ([b"HTTP/1.1 400 Bad Request\r\n"], RemoteProtocolError),
        ([GREETING + b"250 too early\r\n"], RemoteProtocolError),
        ([b"220 a\rb\r\n"], RemoteProtocolError),
        ([b"354 go on\r\n"], RemoteProtocolError),
        ([b"220-x\r\n" * 2000], RemoteProtocolError),
        ([b"220 " + b"x" * 100_000], RemoteProtocolError),
    ],
)
def test_failed_connect_raises_a_documented_error_and_closes_the_stream(
    script: list[Step], kind: type[Exception]
) -> None:
    book = new_client().send(*script)
    error = book.fail()

    assert isinstance(error, kind)
    assert book.stream.close_timeouts == [0]


def test_client_hostname_defaults_to_its_domain_or_address_literal(monkeypatch: pytest.MonkeyPatch) -> None:
    for node, local, name in [
        ("mail.c.example", None, b"mail.c.example"),
        ("laptop", Address("192.0.2.1", 9), b"[192.0.2.1]"),
        ("laptop", Address("2001:db8::1", 9), b"[IPv6:2001:db8::1]"),
        ("laptop", Address("/run/x"), b"localhost"),
        ("laptop", None, b"localhost"),
        ("not a.name", None, b"localhost"),
    ]:
        monkeypatch.setattr("platform.node", lambda node=node: node)
        hop = next_server()
        hop.stream.local = local
        step(open_client(hop.open, "s.example", 25))
        hop.wire(b"EHLO " + name + b"\r\n")


def test_proxy_header_is_sent_first() -> None:
    header = ProxyHeader(
        ProxyCommand.PROXY,
        source=Endpoint(IPv4Address("192.0.2.1"), 1),
        destination=Endpoint(IPv4Address("192.0.2.2"), 25),
    )
    book = new_client(proxy=header).send(GREETING, offer()).connect()

    assert book.sent[0] == header.encode()


STARTTLS = offer("STARTTLS", "SIZE 1")


def test_offered_starttls_is_used_and_extensions_offered_before_tls_are_discarded() -> None:
    book = new_client().send(GREETING, STARTTLS, b"220 go\r\n", offer("8BITMIME")).connect()

    book.wire(b"EHLO c.example\r\n", b"STARTTLS\r\n", b"EHLO c.example\r\n")
    assert book.stream.server_name == "s.example"
    assert book.client.extensions == {"8BITMIME": True}
    assert book.client.tls
    assert book.client.is_verified


def test_tls_is_opportunistic_by_default() -> None:
    book = new_client().send(GREETING, offer()).connect()
    assert not book.client.tls
    book = new_client().send(GREETING, STARTTLS, b"454 not now\r\n").connect()
    assert not book.client.tls
    assert book.client.is_open


def test_tls_mode_none_ignores_offered_starttls() -> None:
    book = new_client(tls=TlsMode.NONE).send(GREETING, STARTTLS).connect()

    book.wire(b"EHLO c.example\r\n")
    assert not book.client.is_verified


@pytest.mark.parametrize("script", [[GREETING, offer()], [GREETING, STARTTLS, b"454 not now\r\n"]])
def test_connect_fails_if_required_tls_is_not_available(script: list[bytes]) -> None:
    error = new_client(tls=TlsMode.REQUIRED).send(*script).fail()
    assert isinstance(error, Refused)


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED])
def test_421_to_starttls_raises_refused(mode: TlsMode) -> None:
    error = new_client(tls=mode).send(GREETING, STARTTLS, b"421 bye\r\n").fail()
    assert isinstance(error, Refused)


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED])
def test_plaintext_after_the_reply_to_starttls_is_an_error(mode: TlsMode) -> None:
    error = new_client(tls=mode).send(GREETING, STARTTLS, b"220 go\r\n250 injected\r\n").fail()
    assert isinstance(error, RemoteProtocolError)


def test_nothing_is_sent_in_plaintext_after_a_failed_handshake() -> None:
    book = new_client().send(GREETING, STARTTLS, b"220 go\r\n")
    book.stream.handshake_error = ssl.SSLCertVerificationError("not valid")
    with pytest.raises(ssl.SSLCertVerificationError):
        book.connect()

    assert book.output.endswith(b"STARTTLS\r\n")
    assert book.stream.close_timeouts == [0]


def test_implicit_tls_starts_before_the_greeting() -> None:
    book = new_client(tls=TlsMode.IMPLICIT).send(GREETING, offer("STARTTLS")).connect()

    book.wire(b"EHLO c.example\r\n")
    assert book.client.is_verified


def test_tls_is_implicit_at_port_465() -> None:
    server = ScriptedServer().send(GREETING, offer())
    client = step(open_client(server.open, "s.example", 465, hostname="c.example"))

    assert client.tls
    server.wire(b"EHLO c.example\r\n")


def test_tls_at_port_465_is_what_the_option_says() -> None:
    server = ScriptedServer().send(GREETING, offer())
    client = step(open_client(server.open, "s.example", 465, hostname="c.example", tls=TlsMode.NONE))

    assert not client.tls


def test_unix_socket_has_no_tls_by_default() -> None:
    server = ScriptedServer().send(GREETING, offer("STARTTLS"))
    client = step(open_client(server.open, "s.example", 465, hostname="c.example", path="/run/smtp"))

    assert not client.tls


def test_client_is_not_verified_with_a_context_that_does_not_verify() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    book = new_client(tls=TlsMode.IMPLICIT, context=context).send(GREETING, offer()).connect()

    assert book.client.tls
    assert not book.client.is_verified


def test_invalid_hostname_is_an_error_that_closes_the_stream() -> None:
    book = new_client(hostname="not a domain")
    assert isinstance(book.fail(), LocalProtocolError)
    assert book.stream.close_timeouts == [0]


def test_interrupted_connecting_closes_the_stream_without_quit() -> None:
    book = new_client().send(GREETING, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        book.connect()
    book.wire(b"EHLO c.example\r\n")
    assert book.stream.close_timeouts == [0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"auth": ("tim", "secret"), "auth_mechanisms": ["PLAN"]}, "The nearest is 'PLAIN'"),
        ({"auth_mechanisms": ["PLAIN"]}, "auth_mechanisms has no effect without"),
    ],
)
def test_invalid_auth_mechanisms_are_a_value_error(options: dict[str, Any], text: str) -> None:
    book = new_client(**options)
    with pytest.raises(ValueError, match=text):
        book.connect()
    assert book.stream.opened == []
