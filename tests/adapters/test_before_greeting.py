"""Steps before the greeting, on every adapter: the PROXY header, the TLS handshake, and the identity of the client."""

import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
import trustme

from smtpcore import Noop, Reply
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore_adapters import Address, App, Listener, Session, Timeouts
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import TIMEOUT, Client, running

LOCAL = ["127.0.0.0/8"]
HEADER = ProxyHeader(
    ProxyCommand.PROXY, Endpoint(ip_address("198.51.100.7"), 1234), Endpoint(ip_address("192.0.2.25"), 25)
)


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of a server and a client."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("s.example").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.fixture
def dual_stack() -> Iterator[socket.socket]:
    """A socket for both IPv6 and IPv4, as systemd makes them."""
    try:
        with socket.socket(socket.AF_INET6) as bound:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind(("::", 0))
            yield bound
    except OSError as exc:
        pytest.skip(f"this machine has no IPv6: {exc}")


def host_app() -> App:
    """Return an application that answers NOOP with the address of the client."""
    app = App()

    @app.on("NOOP")
    def noop(session: Session, event: Noop) -> Reply:
        return Reply(250, str(session.peer and session.peer.host))

    return app


class TlsClient:
    """A TLS client whose octets are sent by hand."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="s.example")

    def hello(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def finish(self, client: Client) -> bytes:
        """Complete the handshake, and return the greeting."""
        while True:
            try:
                self._tls.do_handshake()
                client.send(self._outgoing.read())
                return self._tls.read(4096)
            except ssl.SSLWantReadError:
                client.send(self._outgoing.read())
                data = client.socket.recv(65536)
                assert data, "the server closed the connection"
                self._incoming.write(data)


# The header and the handshake


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cut", ["together", "in the header", "behind the header", "in the handshake"])
def test_tls_begins_after_the_proxy_header(
    cut: str, version: int, backend: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server_context, client_context = contexts
    header = HEADER.encode(version=version)
    at = {"together": 0, "in the header": 7, "behind the header": len(header), "in the handshake": len(header) + 9}[cut]
    options: dict[str, Any] = {"tls": server_context, "implicit_tls": True, "proxies": LOCAL}
    with running(backend, App(), config=CONFIG, **options) as server, server.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = TlsClient(client_context)
        stream = header + tls.hello()
        for part in filter(None, (stream[:at], stream[at:])):
            client.send(part)
        assert tls.finish(client).startswith(b"220 ")


def test_client_of_a_tls_port_gets_no_plaintext(backend: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    options: dict[str, Any] = {"tls": contexts[0], "implicit_tls": True}
    for proxies in (LOCAL, []):
        with running(backend, App(), clock=Clock(), config=CONFIG, proxies=proxies, **options) as server:
            with server.connect() as silent:
                server.clock.advance(301)
                assert silent.is_closed()
            assert server.reason() in ("timeout", "lost")


def test_plaintext_at_a_tls_port_is_answered_with_an_alert_or_not_at_all(
    backend: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    with running(backend, App(), config=CONFIG, tls=contexts[0], implicit_tls=True) as server:
        with server.connect() as client:
            said = client.send(b"EHLO c.example\r\n").rest()
        assert said[:1] in (b"", b"\x15")  # an alert is a record of type 21


# The end of the server

BEGINNINGS: dict[str, tuple[dict[str, Any], bytes]] = {
    "silent client of a TLS port": ({"implicit_tls": True}, b""),
    "part of a handshake": ({"implicit_tls": True}, b"\x16\x03\x01"),
    "silent proxy": ({"proxies": LOCAL}, b""),
    "part of a PROXY header": ({"proxies": LOCAL}, b"PROXY TCP4"),
    "handshake after a PROXY header": ({"proxies": LOCAL, "implicit_tls": True}, HEADER.encode(version=1)),
    "STARTTLS": ({}, b"EHLO c.example\r\nSTARTTLS\r\n"),
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_shutdown_closes_a_connection_before_its_header_or_handshake_is_complete(
    beginning: str, backend: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    # The session may neither wait for its client during the grace period, nor linger: both take longer than the test.
    options, sent = BEGINNINGS[beginning]
    app, opened = App(), threading.Event()
    app.observe(lambda session, item: opened.set())
    timeouts = Timeouts(close=3600)
    with (
        running(backend, app, config=CONFIG, grace=3600, timeouts=timeouts, tls=contexts[0], **options) as server,
        server.connect() as client,
    ):
        client.send(sent)
        assert opened.wait(TIMEOUT)
        if not options:
            client.expect(220, 250, 220)
        server.leave().result(TIMEOUT)
        assert server.reason() == "shutdown"
        assert client.is_closed()


# Addresses


def test_ipv4_client_of_a_dual_stack_socket_has_an_ipv4_address(backend: str, dual_stack: socket.socket) -> None:
    with running(backend, host_app(), config=CONFIG, listeners=[Listener(bound=dual_stack)]) as server:
        with ipv4_client(dual_stack) as client:
            client.expect(220).send(b"NOOP\r\n")
            assert client.read().split()[-1] == "127.0.0.1"
        assert server.reason()


@pytest.mark.parametrize("name", ["proxies", "trusted"])
def test_networks_of_ipv4_match_at_a_dual_stack_socket(name: str, backend: str, dual_stack: socket.socket) -> None:
    options: dict[str, Any] = {"listeners": [Listener(bound=dual_stack)], name: LOCAL}
    with running(backend, host_app(), config=CONFIG, **options) as server:
        with ipv4_client(dual_stack) as client:
            if name == "proxies":
                client.send(b"PROXY TCP6 ::ffff:198.51.100.7 ::ffff:192.0.2.25 1234 25\r\n").expect(220)
            else:
                client.expect(220).send(b"EHLO c.example\r\n")
                assert "XCLIENT" in client.read()
                client.send(b"XCLIENT ADDR=IPV6:::ffff:198.51.100.7\r\n").expect(220)
            client.send(b"NOOP\r\n")
            assert client.read().split()[-1] == "198.51.100.7"
        assert server.reason()


def ipv4_client(listening: socket.socket) -> Client:
    return Client(Address("127.0.0.1", listening.getsockname()[1]))
