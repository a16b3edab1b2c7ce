"""PROXY headers: a trusted proxy sets the client's address; from any other peer the header is an unknown command."""

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
from tests.adapters.fakes import CONFIG, EHLO, QUIT, SILENCE, Step
from tests.adapters.playbook import StreamPlaybook, accepted

PROXY = Address("192.0.2.80", 40_000)
HEADER = ProxyHeader(
    ProxyCommand.PROXY, Endpoint(ip_address("198.51.100.7"), 1234), Endpoint(ip_address("192.0.2.25"), 25)
)


class AddressRecorder:
    """Records the peer and local address of each session."""

    def __init__(self) -> None:
        self.seen: list[tuple[Address | None, Address | None]] = []

    def on_connect(self, session: Session, opened: object) -> None:
        self.seen.append((session.peer, session.local))


def proxied(recorder: AddressRecorder, peer: Address | None = PROXY, **options: object) -> StreamPlaybook:
    """Return a dialogue with a server that expects a PROXY header from `PROXY`."""
    app = App()
    app.include(recorder)
    acceptor = Acceptor(app, config=CONFIG, **{"proxies": ["192.0.2.80/31"], **options})  # type: ignore[arg-type]
    return accepted(acceptor, peer)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cut", [0, 1, 20])
def test_header_sets_the_address_of_the_client(version: int, cut: int) -> None:
    header = HEADER.encode(version=version)
    recorder = AddressRecorder()
    parts = [part for part in (header[:cut], header[cut:]) if part]
    proxied(recorder).send(*parts, EHLO, QUIT).expect(220, 250, 221)
    assert recorder.seen == [(Address("198.51.100.7", 1234), Address("192.0.2.25", 25))]


def test_commands_in_the_segment_of_the_header_are_processed() -> None:
    proxied(AddressRecorder()).send(HEADER.encode(version=1) + EHLO + QUIT).expect(220, 250, 221)


def test_local_header_keeps_the_address_of_the_proxy() -> None:
    recorder = AddressRecorder()
    proxied(recorder).send(ProxyHeader(ProxyCommand.LOCAL).encode(version=2), QUIT)
    assert recorder.seen == [(PROXY, Address("192.0.2.25", 25))]


def test_header_with_unix_socket_or_unknown_address() -> None:
    recorder = AddressRecorder()
    proxied(recorder).send(ProxyHeader(ProxyCommand.PROXY, b"/run/client", b"/run/server").encode(version=2), QUIT)
    proxied(recorder).send(ProxyHeader(ProxyCommand.PROXY).encode(version=2), QUIT)
    assert recorder.seen == [(Address("/run/client"), Address("/run/server")), (None, None)]


@pytest.mark.parametrize("script", [[EHLO], [b"PROXY TCP4 nonsense\r\n"], [], [b"PROXY"]])
def test_proxy_without_a_valid_header_is_disconnected(script: list[Step]) -> None:
    recorder = AddressRecorder()
    assert proxied(recorder).send(*script).end().stream.output == b""
    assert recorder.seen == []


def test_silent_proxy_times_out() -> None:
    recorder = AddressRecorder()
    stream = proxied(recorder).send(SILENCE).stream
    assert stream.receive_timeouts == [300.0]
    assert recorder.seen == []


@pytest.mark.parametrize("peer", [Address("192.0.2.82", 40_000), Address("/run/client"), None])
def test_header_from_an_untrusted_peer_is_an_unknown_command(peer: Address | None) -> None:
    recorder = AddressRecorder()
    proxied(recorder, peer).send(HEADER.encode(version=1), QUIT).expect(220, 500, 221)
    assert recorder.seen[0][0] == peer


def test_header_precedes_implicit_tls() -> None:
    recorder = AddressRecorder()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stream = proxied(recorder, tls=context, implicit_tls=True).send(HEADER.encode(version=2), QUIT).stream
    assert stream.tls
    assert len(recorder.seen) == 1

    stream = proxied(recorder, tls=context, implicit_tls=True).send(HEADER.encode(version=2) + b"\x16\x03").end().stream
    assert stream.output == b""
    assert len(recorder.seen) == 1


@pytest.mark.parametrize(("host", "code"), [("198.51.100.8", 220), ("198.51.100.7", 421)])
def test_limits_per_address_count_the_client_instead_of_the_proxy(host: str, code: int) -> None:
    app = App()
    acceptor = Acceptor(app, config=CONFIG, proxies=["192.0.2.80"], limits=Limits(connections_per_address=1))
    other = replace(HEADER, source=Endpoint(ip_address(host), 99))
    outer = accepted(acceptor, PROXY).send(HEADER.encode(version=2)).expect(220)
    assert accepted(acceptor, PROXY).send(other.encode(version=2), QUIT).codes[0] == code
    outer.send(QUIT).expect(221)


def test_proxy_given_by_name_is_a_value_error() -> None:
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
def test_haproxy_passes_the_address_of_the_client(tmp_path: Path, send: str, backend: str) -> None:
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        pytest.skip("haproxy is not installed")

    configuration = tmp_path / "haproxy.cfg"
    with (
        socket.create_server(("127.0.0.1", 0)) as front,  # bound here, so that clients can connect at once
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
