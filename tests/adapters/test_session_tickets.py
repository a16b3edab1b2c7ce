"""TLS sessions that clients resume with a ticket (RFC 8446 2.2, RFC 5077)."""

import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from smtpcore_adapters import App
from smtpcore_adapters.tls import ServerTls
from tests.adapters.command import running as serving
from tests.adapters.fakes import CONFIG, EHLO
from tests.adapters.harness import TIMEOUT, Running, running
from tests.adapters.test_workers import children_of
from tests.certificates import context_trusting


class Site:
    """A server's certificate, which can be renewed, and a client that trusts its authority."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self.files = directory / "chain", directory / "key"
        self.renew()
        self.tls = ServerTls(*self.files)

    def renew(self) -> None:
        certificate = self._authority.issue_cert("s.example")
        certificate.cert_chain_pems[0].write_to_path(self.files[0])
        certificate.private_key_pem.write_to_path(self.files[1])

    def client(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = context_trusting(self._authority)
        context.minimum_version = context.maximum_version = version
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(params=[True, False], ids=["implicit", "STARTTLS"])
def implicit(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def server(site: Site, backend: str, implicit: bool) -> Iterator[Running]:
    with running(backend, App(), config=CONFIG, tls=site.tls.context, implicit_tls=implicit) as server:
        yield server


def is_resumed(server: Running, context: ssl.SSLContext, implicit: bool, sessions: list[ssl.SSLSession]) -> bool:
    """Say EHLO under TLS, and return whether the last of `sessions` was resumed. Append the new session."""
    with server.connect() as client:
        if not implicit:
            client.send(EHLO).expect(220, 250).send(b"STARTTLS\r\n").expect(220)
        session = sessions[-1] if sessions else None
        connection = context.wrap_socket(client.socket, server_hostname="s.example", session=session)
        client.socket = connection
        client.send(EHLO).expect(*[220] * implicit, 250)
        assert connection.session
        sessions.append(connection.session)
        return bool(connection.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_until_the_certificate_is_renewed(
    server: Running, site: Site, implicit: bool, version: ssl.TLSVersion
) -> None:
    context = site.client(version)
    sessions: list[ssl.SSLSession] = []
    assert not is_resumed(server, context, implicit, sessions)
    assert sessions[0].has_ticket
    assert is_resumed(server, context, implicit, sessions)
    site.tls.reload()
    assert is_resumed(server, context, implicit, sessions)
    site.renew()
    site.tls.reload()
    assert not is_resumed(server, context, implicit, sessions)
    assert is_resumed(server, context, implicit, sessions)
    assert not is_resumed(server, site.client(version), implicit, [])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the workers are read from /proc")
def test_session_of_one_worker_is_resumed_by_another(site: Site, tmp_path: Path) -> None:
    context = site.client(ssl.TLSVersion.TLSv1_3)
    files = ("--tls-cert", str(site.files[0]), "--tls-key", str(site.files[1]))
    with serving(tmp_path, "--workers", "2", "--tls", "implicit", *files) as server:

        def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
            with (
                socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname="s.example", session=session) as connection,
            ):
                assert connection.recv(1_024).startswith(b"220")
                return connection.session, bool(connection.session_reused)

        session, _ = visit(None)
        for child in children_of(server):
            os.kill(child, signal.SIGKILL)
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                _, resumed = visit(session)
                break
            except OSError:  # the system resets what waited for the killed workers
                assert time.monotonic() < end
        assert resumed
