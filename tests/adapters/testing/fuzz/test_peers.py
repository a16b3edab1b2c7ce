"""A connection over a socket sends segments, receives within a timeout, and starts TLS."""

import socket
import ssl
from typing import Any, Literal

import pytest
import trustme

from smtpcore import Config
from smtpcore_adapters.testing import SmtpServer
from smtpcore_adapters.testing.fuzz import SocketPeer, Target, fuzz_server, fuzzer_of
from smtpcore_adapters.testing.fuzz._engine import Settings
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import running

from .servers import SmallServer, served


def target_of(port: int, **options: object) -> Target:
    values: dict[str, object] = {"host": "127.0.0.1", "port": port, "sender": "a@c.example", "recipient": "u@s.example"}
    return Target(**{**values, **options})  # type: ignore[arg-type]


def test_segments_are_sent_and_octets_are_received() -> None:
    with served(SmallServer) as port:
        peer = SocketPeer(target_of(port))
        assert peer.receive(5) == b"220 small ESMTP\r\n"
        with pytest.raises(TimeoutError):
            peer.receive(0)
        peer.send([b"NO", b"OP\r\nQUIT\r\n"], 5)
        received = b""
        while data := peer.receive(5):
            received += data
        peer.close()

    assert received == b"250 OK\r\n221 Bye\r\n"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_own_server_has_no_finding_with_tls_and_auth(tls: str) -> None:
    with SmtpServer(tls=True, implicit_tls=tls == "implicit", auth={"user": "password"}) as server:
        target = target_of(server.port, tls=tls, insecure=True, user="user", password="password")
        report = fuzz_server(target, Settings(examples=3))

    assert (report.findings, report.wrong_laws, report.notes) == ([], [], [])


@pytest.mark.parametrize(("tls", "proxy"), [("none", 1), ("implicit", 2)])
def test_own_server_has_no_finding_behind_a_proxy(tls: str, proxy: Literal[1, 2]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("s.example").configure_cert(context)
    options: dict[str, Any] = {"implicit_tls": True, "tls": context} if tls == "implicit" else {}
    app = accepting(MessageStore())
    with running("threads", app, config=Config(hostname="s.example"), proxies=["127.0.0.1"], **options) as server:
        target = target_of(server.server.address.port, tls=tls, insecure=True)
        fuzzer = fuzzer_of(target, Settings(examples=1, proxy=proxy))
        fuzzer.run()
        for experiment in fuzzer.generator(frozenset()).openings():
            if experiment.plan.header is not None:
                fuzzer.try_experiment(experiment)

    assert (fuzzer.report.findings, fuzzer.report.unstable, fuzzer.report.notes) == ([], [], [])
    assert fuzzer.report.sessions > 15


def test_certificate_is_verified_by_default() -> None:
    with SmtpServer(implicit_tls=True) as server, pytest.raises(OSError, match="certificate"):
        SocketPeer(target_of(server.port, tls="implicit"))


def test_starttls_of_a_session_without_tls_option_accepts_any_certificate() -> None:
    with SmtpServer(tls=True) as server:
        report = fuzz_server(target_of(server.port), Settings(examples=45))

    assert (report.findings, report.wrong_laws) == ([], [])


# The servers of the tests


def test_client_that_stays_delays_no_other_client() -> None:
    with served(SmallServer) as port, socket.create_connection(("127.0.0.1", port)):
        assert fuzz_server(target_of(port), Settings(examples=1)).notes == []


def test_exception_in_a_served_server_fails_the_test() -> None:
    class Broken(SmallServer):
        def do_NOOP(self, rest: bytes) -> None:
            raise KeyError("broken")

    def use() -> None:
        with served(Broken) as port, socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"NOOP\r\n")
            while client.recv(1000):
                pass

    with pytest.raises(KeyError, match="broken"):
        use()
