"""`smtpcore ping` reports by its exit status whether a server is ready."""

import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.adapters.clocks import Clock
from tests.adapters.command import run_in_process
from tests.adapters.peers import Answering, Peer, closing, serving


def ping(server: object, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_in_process("ping", str(server), *arguments)


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("arguments", "commands"), [((), ["EHLO", "QUIT"]), (("--lmtp",), ["LHLO", "QUIT"])], ids=["SMTP", "LMTP"]
)
def test_server_that_greets_is_ready_and_receives_quit(arguments: tuple[str, ...], commands: list[str]) -> None:
    server = Answering()
    with serving(server) as address:
        done = ping(address, *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [line.split()[0] for line in server.heard] == commands


def test_unix_socket_is_checked(tmp_path: Path) -> None:
    done = ping(tmp_path / "socket")
    assert (done.returncode, done.stderr) == (1, f"smtpcore: {tmp_path}/socket: No such file or directory\n")


@pytest.mark.parametrize(("arguments", "status"), [((), 1), (("--insecure",), 0)])
def test_certificate_is_verified_unless_insecure(
    context: ssl.SSLContext, arguments: tuple[str, ...], status: int
) -> None:
    server = Answering()

    def serve(peer: Peer) -> None:
        peer.start_tls(context)
        server(peer)

    with serving(serve) as address:
        done = ping(address, "--tls", "implicit", *arguments)

    assert done.returncode == status
    assert ("the certificate is not valid" in done.stderr) is (status == 1)
    assert len(done.stderr.splitlines()) == status


def test_server_that_refuses_sessions_is_not_ready() -> None:
    with serving(Answering(GREETING=closing(b"421 4.3.2 closing\r\n"))) as address:
        done = ping(address)

    assert done.returncode == 1
    assert "421 4.3.2 closing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_silent_server_is_not_ready_after_the_timeout() -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as silent, clock.of_clients(), clock.skipping_waits():
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        done = ping(server)

    assert done.returncode == 1
    assert done.stderr.startswith(f"smtpcore: {server}: the server did not send its greeting within 5 seconds")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nonsense:port",), "SERVER needs HOST:PORT"),
        (("127.0.0.1:1", "--insecure"), "--insecure has no effect without --tls"),
        (("127.0.0.1:1", "--timeout", "0"), "--timeout"),
    ],
)
def test_wrong_option_is_one_line_and_status_2(arguments: tuple[str, ...], error: str) -> None:
    done = run_in_process("ping", *arguments)
    assert done.returncode == 2
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1
