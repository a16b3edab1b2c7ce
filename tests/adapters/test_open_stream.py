"""Client streams of each framework."""

import contextlib
import errno
import gc
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpcore_adapters import Address, App, Stream
from smtpcore_adapters.streams import _tls_codec
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG, EHLO, QUIT
from tests.adapters.harness import TIMEOUT, Running, module_of, run_in, running
from tests.certificates import context_trusting

Open = Callable[..., Awaitable[Stream]]

pytestmark = pytest.mark.usefixtures("frozen_heap")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    return context_trusting(authority)


@pytest.fixture
def server(backend: str, authority: trustme.CA) -> Iterator[Running]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("s.example").configure_cert(context)
    with running(backend, App(), config=CONFIG, tls=context) as server:
        yield server


def run(backend: str, test: Callable[[Open], Awaitable[None]], *, clock: Clock | None = None) -> None:
    """Run a test with a framework. With a `clock`, the peers never send anything, and no wait takes time."""
    with clock.skipping_waits() if clock else contextlib.nullcontext():
        run_in(backend, test, module_of(backend).open_stream, clock=clock)
    gc.collect()  # turns a socket left open into a ResourceWarning


async def read_until(stream: Stream, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = await stream.receive(TIMEOUT)
        assert piece, data
        data += piece
    return data


def test_stream_sends_and_receives(server: Running, backend: str) -> None:
    async def test(open_stream: Open) -> None:
        stream = await open_stream(server.server.address.host, server.server.address.port, TIMEOUT)
        assert (stream.peer, stream.tls) == (server.server.address, None)
        assert stream.local
        assert stream.local.host == "127.0.0.1"
        assert await read_until(stream, b"\r\n") == b"220 s.example ESMTP\r\n"
        await stream.send(QUIT, TIMEOUT)
        assert (await read_until(stream, b"\r\n")).startswith(b"221 ")
        assert await stream.receive(TIMEOUT) == b""
        await stream.aclose(TIMEOUT)

    run(backend, test)
    assert server.reason() == "QUIT"


@pytest.mark.parametrize("name", ["s.example", "other.example", ""])
def test_certificate_is_verified_against_the_server_name(
    name: str, server: Running, backend: str, client_tls: ssl.SSLContext
) -> None:
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE

    async def test(open_stream: Open) -> None:
        stream = await open_stream("127.0.0.1", server.server.address.port, TIMEOUT)
        await read_until(stream, b"220 s.example ESMTP\r\n")
        await stream.send(EHLO, TIMEOUT)
        await read_until(stream, b"\r\n")
        await stream.send(b"STARTTLS\r\n", TIMEOUT)
        assert (await read_until(stream, b"\r\n")).startswith(b"220 ")
        if name == "other.example":
            with pytest.raises(ssl.SSLCertVerificationError):
                await stream.start_tls(client_tls, TIMEOUT, server_name=name)
        else:
            await stream.start_tls(client_tls if name else unchecked, TIMEOUT, server_name=name)
            assert stream.tls
            assert stream.tls.version == "TLSv1.3"
            await stream.send(QUIT, TIMEOUT)
            assert (await read_until(stream, b"\r\n")).startswith(b"221 ")
        await stream.aclose(0)

    run(backend, test)
    assert server.reason() == ("lost" if name == "other.example" else "QUIT")


def test_handshake_times_out(backend: str, client_tls: ssl.SSLContext) -> None:
    async def test(open_stream: Open) -> None:
        stream = await open_stream("127.0.0.1", silent.getsockname()[1], TIMEOUT)
        with pytest.raises(TimeoutError):
            await stream.start_tls(client_tls, 0.05, server_name="s.example")
        await stream.aclose(0)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        run(backend, test, clock=Clock())


def test_local_address_is_configurable(server: Running, backend: str) -> None:
    async def test(open_stream: Open) -> None:
        stream = await open_stream("localhost", server.server.address.port, TIMEOUT, local_address="127.0.0.2")
        assert stream.local
        assert stream.local.host == "127.0.0.2"
        await stream.aclose(0)

        with pytest.raises(OSError, match=r"."):
            await open_stream("127.0.0.1", server.server.address.port, TIMEOUT, local_address="::1")

    run(backend, test)


def test_stream_connects_to_a_link_local_address(link_local: str, backend: str) -> None:
    async def test(open_stream: Open) -> None:
        stream = await open_stream(link_local, running_server.server.address.port, TIMEOUT)
        assert (await stream.receive(TIMEOUT)).startswith(b"220 ")
        await stream.aclose(0)

    with running("threads", App(), config=CONFIG, host=link_local) as running_server:
        run(backend, test)


def test_client_connects_to_a_unix_socket(backend: str, tmp_path: Path) -> None:
    path = str(tmp_path / "smtp")

    async def test(open_stream: Open) -> None:
        stream = await open_stream("", 0, TIMEOUT, path=path)
        assert stream.peer == Address(path)
        connection, _ = listener.accept()
        connection.settimeout(TIMEOUT)
        with connection:
            connection.send(b"x")
            assert await stream.receive(TIMEOUT) == b"x"
            await stream.aclose(0)
            assert await stream.run_blocking(connection.recv, 1) == b""

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        run(backend, test)


def test_each_address_of_a_host_is_tried(server: Running, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.server.address.port
    found: list[Any] = [("127.0.0.9", port), ("127.0.0.1", port)]

    async def test(open_stream: Open) -> None:
        def resolve(host: object, *args: Any, **options: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in found]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        stream = await open_stream("mx.example", port, TIMEOUT)
        assert stream.peer == server.server.address
        await stream.aclose(0)

        found.pop()
        with pytest.raises(ConnectionRefusedError):
            await open_stream("mx.example", port, TIMEOUT)

    run(backend, test)


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "nowhere.invalid"])
def test_unknown_host_is_a_gaierror(host: str, backend: str) -> None:
    async def test(open_stream: Open) -> None:
        with pytest.raises(socket.gaierror):
            await open_stream(host, 25, TIMEOUT)

    run(backend, test)


def test_refused_connection_is_an_os_error(backend: str, tmp_path: Path) -> None:
    async def test(open_stream: Open) -> None:
        with pytest.raises(FileNotFoundError):
            await open_stream("", 0, TIMEOUT, path=str(tmp_path / "none"))
        with pytest.raises(OSError, match=r".") as caught:
            await open_stream("127.0.0.1", port, TIMEOUT)
        assert caught.value.errno == errno.ECONNREFUSED

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # holds the port, but does not listen: connections are refused
        port = holder.getsockname()[1]
        run(backend, test)


@contextlib.contextmanager
def unreachable() -> Iterator[int]:
    """Yield a port whose listener accepts no connection, because its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_connect_times_out(backend: str) -> None:
    async def test(open_stream: Open) -> None:
        with pytest.raises(TimeoutError):
            await open_stream("127.0.0.1", port, 0.05)

    with unreachable() as port:
        run(backend, test, clock=Clock())


def test_next_address_is_tried_while_the_first_is_slow(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[int] = []
    clock = Clock()

    async def test(open_stream: Open) -> None:
        def resolve(host: object, *args: Any, **options: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        start = clock()
        stream = await open_stream("mx.example", 25, TIMEOUT)
        assert 0.25 <= clock() - start < TIMEOUT / len(ports), "the first address has not used up its share"
        assert stream.peer == Address("127.0.0.1", ports[1])
        await stream.aclose(0)

    with unreachable() as port, socket.create_server(("127.0.0.1", 0)) as listener:
        ports += [port, listener.getsockname()[1]]
        run(backend, test, clock=clock)


def test_refused_address_of_a_host_does_not_delay_the_next_address(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HAPPY_EYEBALLS[backend], TIMEOUT)

    async def test(open_stream: Open) -> None:
        def resolve(host: object, *args: Any, **options: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        start = time.monotonic()
        stream = await open_stream("mx.example", 25, TIMEOUT)
        assert time.monotonic() - start < TIMEOUT
        await stream.aclose(0)

        addresses.pop()
        with pytest.raises(ConnectionRefusedError):
            await open_stream("mx.example", 25, TIMEOUT)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses: list[Any] = [("127.0.0.8", port), ("127.0.0.9", port), ("127.0.0.1", port)]
        run(backend, test)


def test_connect_waits_for_the_last_address(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HAPPY_EYEBALLS[backend], 0.01)

    async def test(open_stream: Open) -> None:
        def resolve(host: object, *args: Any, **options: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with pytest.raises(TimeoutError):
            await open_stream("mx.example", 25, 0.2)

    with unreachable() as port:
        # A connection to the broadcast address fails at once.
        addresses: list[Any] = [("127.0.0.1", port), ("255.255.255.255", port), ("127.0.0.9", port)]
        run(backend, test, clock=Clock())


HAPPY_EYEBALLS = {
    **dict.fromkeys(("asyncio", "asyncio-uvloop"), "smtpcore_adapters.streams._asyncio.HAPPY_EYEBALLS"),
    **dict.fromkeys(("anyio-asyncio", "anyio-trio", "trio"), "smtpcore_adapters.streams._connector.HAPPY_EYEBALLS"),
    "threads": "smtpcore_adapters.streams._socket_stream.HAPPY_EYEBALLS",
}


def test_stream_opens_another_stream_and_reports_waiting_input(backend: str) -> None:
    async def test(open_stream: Open) -> None:
        first = await open_stream("127.0.0.1", listener.getsockname()[1], TIMEOUT)
        stream = await first.open("127.0.0.1", listener.getsockname()[1], TIMEOUT)
        connections = [listener.accept()[0] for _ in range(2)]
        assert not stream.has_input()
        connections[1].send(b"x")
        assert await stream.receive(TIMEOUT) == b"x"
        connections[1].close()
        assert await stream.receive(TIMEOUT) == b""
        assert stream.has_input()
        connections[0].close()
        for each in (first, stream):
            await each.aclose(0)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(backend, test)


def test_has_input_is_true_for_a_further_tls_record(
    backend: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tls_codec, "_AT_ONCE", len(b"one"))  # otherwise one call returns both records
    server_tls, client_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), context_trusting(authority)
    authority.issue_cert("s.example").configure_cert(server_tls)

    async def test(open_stream: Open) -> None:
        stream = await open_stream("127.0.0.1", listener.getsockname()[1], TIMEOUT)
        await stream.start_tls(client_tls, TIMEOUT, server_name="s.example")
        assert await stream.run_blocking(sent.wait, TIMEOUT)
        assert await stream.receive(TIMEOUT) == b"one"
        assert stream.has_input()
        assert await stream.receive(TIMEOUT) == b"two"
        await stream.aclose(0)

    def send_two_records() -> None:
        connection, _ = listener.accept()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = server_tls.wrap_bio(incoming, outgoing, server_side=True)
        with connection:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65_536))
            tls.write(b"one")
            tls.write(b"two")
            connection.sendall(outgoing.read())  # both records in one segment, after the session tickets
            sent.set()
            connection.recv(65_536)

    sent = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=send_two_records)
        thread.start()
        run(backend, test)
        thread.join(TIMEOUT)
