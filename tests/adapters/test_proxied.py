"""Behind a proxy that was named as trusted, a client has its own address; from anyone else a header is nothing."""

import shutil
import smtplib
import socket
import ssl
import subprocess
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore_adapters import Address, App, Limits, Session
from smtpcore_adapters.server._acceptor import Acceptor
from tests.adapters.command import TIMEOUT, running, split_trace
from tests.adapters.fakes import CONFIG, EHLO, QUIT, SILENCE, FakeStream, Step, replies, step

PROXY = Address("192.0.2.80", 40_000)
HEADER = ProxyHeader(
    ProxyCommand.PROXY, Endpoint(ip_address("198.51.100.7"), 1234), Endpoint(ip_address("192.0.2.25"), 25)
)


class Witness:
    """Remembers the addresses of each client."""

    def __init__(self) -> None:
        self.seen: list[tuple[Address | None, Address | None]] = []

    def on_connect(self, session: Session, opened: object) -> None:
        self.seen.append((session.peer, session.local))


def attend(witness: Witness, *script: Step, peer: Address | None = PROXY, **options: object) -> FakeStream:
    app = App()
    app.include(witness)
    stream = FakeStream(*script, peer=peer)
    step(Acceptor(app, config=CONFIG, **{"proxies": ["192.0.2.80/31"], **options}).session_for(stream))  # type: ignore[arg-type]
    return stream


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cut", [0, 1, 20])
def test_the_header_tells_the_clients_address(version: int, cut: int) -> None:
    header = HEADER.encode(version=version)
    witness = Witness()
    parts = [part for part in (header[:cut], header[cut:]) if part]
    stream = attend(witness, *parts, EHLO, QUIT)

    assert witness.seen == [(Address("198.51.100.7", 1234), Address("192.0.2.25", 25))]
    assert [reply[:3] for reply in replies(stream.output)] == ["220", "250", "221"]


def test_what_comes_with_the_header_is_heard() -> None:
    stream = attend(Witness(), HEADER.encode(version=1) + EHLO + QUIT)
    assert [reply[:3] for reply in replies(stream.output)] == ["220", "250", "221"]


def test_a_connection_of_the_proxy_itself_keeps_its_address() -> None:
    witness = Witness()
    attend(witness, ProxyHeader(ProxyCommand.LOCAL).encode(version=2), QUIT)
    assert witness.seen == [(PROXY, Address("192.0.2.25", 25))]


def test_a_unix_socket_is_its_path_and_an_unknown_client_has_no_address() -> None:
    witness = Witness()
    attend(witness, ProxyHeader(ProxyCommand.PROXY, b"/run/client", b"/run/server").encode(version=2), QUIT)
    attend(witness, ProxyHeader(ProxyCommand.PROXY).encode(version=2), QUIT)
    assert witness.seen == [(Address("/run/client"), Address("/run/server")), (None, None)]


@pytest.mark.parametrize("script", [[EHLO], [b"PROXY TCP4 nonsense\r\n"], [b""], [b"PROXY", b""]])
def test_a_proxy_that_sends_no_header_is_not_served(script: list[Step]) -> None:
    witness = Witness()
    assert attend(witness, *script).output == b""
    assert witness.seen == []


def test_a_proxy_that_sends_nothing_is_not_waited_for_without_end() -> None:
    witness = Witness()
    stream = attend(witness, SILENCE)
    assert stream.limits == [300.0]
    assert witness.seen == []


@pytest.mark.parametrize("peer", [Address("192.0.2.82", 40_000), Address("/run/client"), None])
def test_from_anyone_else_a_header_is_an_unknown_command(peer: Address | None) -> None:
    witness = Witness()
    stream = attend(witness, HEADER.encode(version=1), QUIT, peer=peer)
    assert witness.seen[0][0] == peer
    assert [reply[:3] for reply in replies(stream.output)] == ["220", "500", "221"]


def test_the_header_comes_before_tls() -> None:
    witness = Witness()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stream = attend(witness, HEADER.encode(version=2), QUIT, tls=context, implicit_tls=True)
    assert stream.tls
    assert len(witness.seen) == 1

    stream = attend(witness, HEADER.encode(version=2) + b"\x16\x03", tls=context, implicit_tls=True)
    assert stream.output == b""
    assert len(witness.seen) == 1


@pytest.mark.parametrize(("host", "code"), [("198.51.100.8", b"220"), ("198.51.100.7", b"421")])
def test_the_limits_of_an_address_are_those_of_the_client_and_not_of_the_proxy(host: str, code: bytes) -> None:
    app = App()
    acceptor = Acceptor(app, config=CONFIG, proxies=["192.0.2.80"], limits=Limits(connections_per_address=1))
    other = replace(HEADER, source=Endpoint(ip_address(host), 99))
    inner = FakeStream(other.encode(version=2), QUIT, peer=PROXY)
    outer = FakeStream(HEADER.encode(version=2), lambda: step(acceptor.session_for(inner)), QUIT, peer=PROXY)
    step(acceptor.session_for(outer))
    assert inner.output[:3] == code
    assert outer.output[:3] == b"220"


def test_a_proxy_is_named_by_its_address() -> None:
    with pytest.raises(ValueError, match=r"proxy\.example"):
        Acceptor(App(), config=replace(CONFIG), proxies=["proxy.example"])


HAPROXY = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen smtp
    bind fd@{front}
    server smtp 127.0.0.1:{back} {send}
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_haproxy_shows_the_clients_true_address(tmp_path: Path, send: str, backend: str) -> None:
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        pytest.skip("haproxy is not installed")

    configuration = tmp_path / "haproxy.cfg"
    with (
        socket.create_server(("127.0.0.1", 0)) as front,  # bound here, so that clients may connect at once
        running(tmp_path, "--proxy-protocol", "--backend", backend) as server,
    ):
        configuration.write_text(HAPROXY.format(front=front.fileno(), back=server.port, send=send))
        command = [haproxy, "-db", "-q", "-f", str(configuration)]
        with subprocess.Popen(command, pass_fds=[front.fileno()], stderr=subprocess.DEVNULL) as proxy:
            try:
                port = front.getsockname()[1]
                with smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT, source_address=("127.0.0.2", 0)) as smtp:
                    smtp.sendmail("a@client.example", ["b@example.org"], b"hello\r\n")
            finally:
                proxy.terminate()

        (message,) = server.messages()

    trace, content = split_trace(message)
    assert b"([127.0.0.2])" in trace
    assert content == b"hello\r\n"
