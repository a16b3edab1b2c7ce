"""PROXY headers: a trusted proxy sets the client's address; from any other peer the header is an unknown command."""

import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore_adapters import Address, App, Limits, Listener, Session
from smtpcore_adapters.server._acceptor import Acceptor
from tests.adapters.command import TIMEOUT, running, split_trace
from tests.adapters.fakes import CONFIG, EHLO, QUIT, SILENCE, Step
from tests.adapters.harness import BACKENDS
from tests.adapters.harness import running as served
from tests.adapters.playbook import StreamPlaybook, accepted
from tests.certificates import context_trusting

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
def test_proxy_header_sets_the_address_of_the_client(version: int, cut: int) -> None:
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


def test_proxy_header_may_have_a_unix_socket_or_an_unknown_address() -> None:
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
def test_proxy_header_from_an_untrusted_peer_is_an_unknown_command(peer: Address | None) -> None:
    recorder = AddressRecorder()
    proxied(recorder, peer).send(HEADER.encode(version=1), QUIT).expect(220, 500, 221)
    assert recorder.seen[0][0] == peer


def test_proxy_header_precedes_implicit_tls() -> None:
    recorder = AddressRecorder()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stream = proxied(recorder, tls=context, implicit_tls=True).send(HEADER.encode(version=2), QUIT).stream
    assert stream.tls
    assert len(recorder.seen) == 1

    stream = proxied(recorder, tls=context, implicit_tls=True).send(HEADER.encode(version=2) + b"\x16\x03").stream
    assert stream.received_before_tls == b"\x16\x03"


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


@pytest.mark.parametrize("name", ["proxies", "trusted"])
def test_unix_stands_for_the_clients_of_unix_sockets(name: str) -> None:
    options: dict[str, Any] = {name: ["unix", "192.0.2.80"]}
    acceptor = Acceptor(App(), config=CONFIG, **options)
    first: list[Step] = [HEADER.encode(version=1)] if name == "proxies" else []
    for peer in (None, Address("/run/client"), PROXY):
        said = accepted(acceptor, peer).send(*first, EHLO, QUIT).stream.output
        assert b"221" in said
        assert (b"XCLIENT" in said) is (name == "trusted")
    stranger = accepted(acceptor, Address("192.0.2.81", 9)).send(*first, EHLO, QUIT).stream.output
    assert b"XCLIENT" not in stranger
    assert (b"500 " in stranger) is (name == "proxies")


def test_addresses_as_proxies_of_a_unix_socket_are_a_value_error() -> None:
    Acceptor(App(), config=CONFIG, proxies=["192.0.2.80"], listeners=[Listener(path="/run/x"), Listener(2525)])
    Acceptor(App(), config=CONFIG, listeners=[Listener(path="/run/x", proxies=("unix",))])
    with pytest.raises(ValueError, match=r"no address: use proxies=\['unix'\] for /run/x"):
        Acceptor(App(), config=CONFIG, listeners=[Listener(path="/run/x", proxies=("0.0.0.0/0",))])


HAPROXY = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen smtp
    bind fd@{front}
    {inspect}
    server smtp 127.0.0.1:{back} {send}
"""


@contextmanager
def haproxy(directory: Path, back: int, send: str, inspect: str = "") -> Iterator[int]:
    """Run HAProxy in front of a port, and yield its own port."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("haproxy is not installed")

    configuration = directory / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as front:  # bound here, so that clients can connect at once
        configuration.write_text(HAPROXY.format(front=front.fileno(), back=back, send=send, inspect=inspect))
        command = [program, "-db", "-q", "-f", str(configuration)]
        with subprocess.Popen(command, pass_fds=[front.fileno()], stderr=subprocess.DEVNULL) as proxy:
            try:
                yield front.getsockname()[1]
            finally:
                proxy.terminate()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_haproxy_passes_the_address_of_the_client(tmp_path: Path, send: str, backend: str) -> None:
    options = ("--proxy-protocol", "--accept", "example.org", "--backend", backend)
    with running(tmp_path, *options) as server:
        with (
            haproxy(tmp_path, server.port, send) as port,
            smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT, source_address=("127.0.0.2", 0)) as smtp,
        ):
            smtp.sendmail("a@client.example", ["b@example.org"], b"hello\r\n")

        (message,) = server.messages()

    trace, content = split_trace(message)
    assert b"([127.0.0.2])" in trace
    assert content == b"hello\n"


BY_NAME = "tcp-request inspect-delay 3s\n    tcp-request content accept if { req_ssl_hello_type 1 }"
"""HAProxy waits for the ClientHello, because routing by server name needs the name in it."""


@pytest.mark.parametrize("inspect", ["", BY_NAME], ids=["at-once", "by-name"])
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_haproxy_passes_implicit_tls(tmp_path: Path, backend: str, send: str, inspect: str) -> None:
    authority = trustme.CA()
    server_context, context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context_trusting(authority)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    options: dict[str, Any] = {"tls": server_context, "implicit_tls": True, "proxies": ["127.0.0.0/8"]}
    with (
        served(backend, App(), config=CONFIG, **options) as server,
        haproxy(tmp_path, server.server.address.port, send, inspect) as port,
    ):

        def talk(number: int) -> int:
            with smtplib.SMTP_SSL("127.0.0.1", port, timeout=TIMEOUT, context=context) as smtp:
                return smtp.ehlo("c.example")[0]

        with ThreadPoolExecutor(5) as pool:
            assert list(pool.map(talk, range(20))) == [250] * 20
