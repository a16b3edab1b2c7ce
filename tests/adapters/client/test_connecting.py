"""Connecting: the greeting, EHLO, and TLS."""

import ssl
from ipaddress import IPv4Address

import pytest

from smtpcore import RemoteProtocolError, Reply
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore_adapters import Address, Client, ClientTimeouts, Disconnected, Refused, TlsMode
from smtpcore_adapters.client._connecting import connected, open_client
from tests.adapters.client.scripted import BYE, GREETING, OK, connect, ehlo, opener, refuse
from tests.adapters.fakes import SILENCE, FakeStream, Step, step


def test_client_sends_ehlo_and_quit() -> None:
    stream = FakeStream(GREETING, ehlo("SIZE 1000", "8BITMIME"), BYE)

    async def main() -> None:
        async with connected(opener(stream), "s.example", 25, hostname="c.example") as client:
            clients.append(client)
            assert client.greeting == Reply(220, "s.example")
            assert client.extensions == {"SIZE": 1000, "8BITMIME": True}
            assert client.peer is None
            assert client.is_open
            assert repr(client) == "<Client of s.example at None>"

    clients: list[Client] = []
    step(main())
    assert not clients[0].is_open
    assert repr(clients[0]).endswith(", closed>")
    assert stream.output == b"EHLO c.example\r\nQUIT\r\n"
    assert stream.close_timeouts == [0]
    assert stream.receive_timeouts[-1] <= ClientTimeouts().quit


@pytest.mark.parametrize("code", [500, 502, 550])
def test_client_falls_back_to_helo_if_ehlo_is_refused(code: int) -> None:
    client, stream = connect(GREETING, f"{code} what?\r\n".encode(), OK)

    assert stream.output == b"EHLO c.example\r\nHELO c.example\r\n"
    assert client.extensions == {}


def test_lmtp_client_has_no_fallback_if_lhlo_is_refused() -> None:
    error, stream = refuse(GREETING, b"500 what?\r\n", lmtp=True)

    assert isinstance(error, Refused)
    assert stream.output == b"LHLO c.example\r\n"


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
    error, stream = refuse(*script)

    assert isinstance(error, Refused)
    assert error.reply
    assert error.reply.code == code
    assert stream.close_timeouts == [0]


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
    error, stream = refuse(*script)

    assert isinstance(error, kind)
    assert stream.close_timeouts == [0]


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
        stream = FakeStream(GREETING, ehlo())
        stream.local = local
        step(open_client(opener(stream), "s.example", 25))
        assert stream.output == b"EHLO " + name + b"\r\n"


def test_proxy_header_is_sent_first() -> None:
    header = ProxyHeader(
        ProxyCommand.PROXY,
        source=Endpoint(IPv4Address("192.0.2.1"), 1),
        destination=Endpoint(IPv4Address("192.0.2.2"), 25),
    )
    _, stream = connect(GREETING, ehlo(), proxy=header)

    assert stream.sent[0] == header.encode()


STARTTLS = ehlo("STARTTLS", "SIZE 1")


def test_offered_starttls_is_used_and_extensions_offered_before_tls_are_discarded() -> None:
    client, stream = connect(GREETING, STARTTLS, b"220 go\r\n", ehlo("8BITMIME"))

    assert stream.output == b"EHLO c.example\r\nSTARTTLS\r\nEHLO c.example\r\n"
    assert stream.server_name == "s.example"
    assert client.extensions == {"8BITMIME": True}
    assert client.tls
    assert client.is_verified


def test_tls_is_opportunistic_by_default() -> None:
    client, _ = connect(GREETING, ehlo())
    assert not client.tls
    client, _ = connect(GREETING, STARTTLS, b"454 not now\r\n")
    assert not client.tls
    assert client.is_open


def test_tls_mode_none_ignores_offered_starttls() -> None:
    client, stream = connect(GREETING, STARTTLS, tls=TlsMode.NONE)

    assert stream.output == b"EHLO c.example\r\n"
    assert not client.is_verified


@pytest.mark.parametrize("script", [[GREETING, ehlo()], [GREETING, STARTTLS, b"454 not now\r\n"]])
def test_connect_fails_if_required_tls_is_not_available(script: list[bytes]) -> None:
    error, _ = refuse(*script, tls=TlsMode.REQUIRED)
    assert isinstance(error, Refused)


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED])
def test_421_to_starttls_raises_refused(mode: TlsMode) -> None:
    error, _ = refuse(GREETING, STARTTLS, b"421 bye\r\n", tls=mode)
    assert isinstance(error, Refused)


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED])
def test_plaintext_after_the_reply_to_starttls_is_an_error(mode: TlsMode) -> None:
    error, _ = refuse(GREETING, STARTTLS, b"220 go\r\n250 injected\r\n", tls=mode)
    assert isinstance(error, RemoteProtocolError)


def test_nothing_is_sent_in_plaintext_after_a_failed_handshake() -> None:
    stream = FakeStream(GREETING, STARTTLS, b"220 go\r\n")
    stream.handshake_error = ssl.SSLCertVerificationError("not valid")
    with pytest.raises(ssl.SSLCertVerificationError):
        step(open_client(opener(stream), "s.example", 25, hostname="c.example"))

    assert stream.output.endswith(b"STARTTLS\r\n")
    assert stream.close_timeouts == [0]


def test_implicit_tls_starts_before_the_greeting() -> None:
    client, stream = connect(GREETING, ehlo("STARTTLS"), tls=TlsMode.IMPLICIT)

    assert stream.output == b"EHLO c.example\r\n"
    assert client.is_verified


def test_client_is_not_verified_with_a_context_that_does_not_verify() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client, _ = connect(GREETING, ehlo(), tls=TlsMode.IMPLICIT, context=context)

    assert client.tls
    assert not client.is_verified
