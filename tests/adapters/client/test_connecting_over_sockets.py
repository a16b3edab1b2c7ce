"""Connecting over real sockets on each framework: names, refusals, logins and timeouts."""

import base64
import contextlib
import platform
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import trustme

from smtpcore import Auth, Bdat, ClientBudgets, LocalProtocolError, StartTls
from smtpcore.sasl import Credentials
from smtpcore_adapters import AuthenticationRefused, Client, Refused, Stream, TlsMode, connected
from tests.adapters.client.test_over_sockets import Connect, run
from tests.adapters.clocks import Clock
from tests.adapters.harness import connect_of, module_of, run_in
from tests.adapters.peers import Answering, Peer, serving
from tests.certificates import context_trusting
from tests.playbook import GREETING

pytestmark = pytest.mark.usefixtures("frozen_heap")

PLAINTEXT = {"tls": TlsMode.NONE, "auth": ("tim", "secret"), "plaintext_auth": True}
WELCOME = b"235 2.7.0 welcome\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    return context_trusting(authority)


def use(backend: str, server: Answering, **options: Any) -> None:
    """Connect, and close the connection."""

    async def main(connect: Connect) -> None:
        async with connect():
            pass

    with serving(server) as address:
        run(backend, main, address.port, **options)


def fail(backend: str, server: Answering, kind: type[BaseException], **options: Any) -> Any:
    """Connect, and return the error that is raised."""
    with pytest.raises(kind) as caught:
        use(backend, server, **options)
    return caught.value


# Names


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("mail.c.example", "mail.c.example"),
        ("mail.c.example.", "mail.c.example"),
        ("my_host.local", "[127.0.0.1]"),
        ("müllers-mac.local", "[127.0.0.1]"),
        ("1.2.3.4", "[127.0.0.1]"),
        ("localhost.localdomain", "[127.0.0.1]"),
        ("nodots", "[127.0.0.1]"),
        ("", "[127.0.0.1]"),
    ],
)
def test_client_without_a_domain_sends_its_address_in_ehlo(
    backend: str, monkeypatch: pytest.MonkeyPatch, node: str, name: str
) -> None:
    monkeypatch.setattr(platform, "node", lambda: node)
    server = Answering()
    use(backend, server, hostname=None)
    assert server.heard[0] == f"EHLO {name}"


@pytest.mark.parametrize("mode", [TlsMode.IMPLICIT, TlsMode.REQUIRED])
def test_final_dot_of_a_host_is_left_out_for_tls(
    backend: str, authority: trustme.CA, client_tls: ssl.SSLContext, mode: TlsMode
) -> None:
    asked: list[str | None] = []

    def start_tls(peer: Peer) -> None:
        peer.send(b"220 go\r\n" if mode is TlsMode.REQUIRED else b"")
        peer.start_tls(context)
        if mode is TlsMode.IMPLICIT:
            peer.send(GREETING)

    async def open_stream(host: str, port: int, timeout: float, **options: Any) -> Stream:
        looked_up.append(host)
        stream: Stream = await module_of(backend).open_stream("127.0.0.1", port, timeout, **options)
        return stream

    async def main() -> None:
        async with connected(open_stream, "mx.s.example.", address.port, tls=mode, context=client_tls) as client:
            assert client.is_verified
            assert client.host == "mx.s.example."

    looked_up: list[str] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mx.s.example").configure_cert(context)
    context.sni_callback = lambda connection, name, context: asked.append(name)
    server = Answering("STARTTLS", **{"GREETING" if mode is TlsMode.IMPLICIT else "STARTTLS": start_tls})
    with serving(server) as address:
        run_in(backend, main)
    assert looked_up == ["mx.s.example."]
    assert asked == ["mx.s.example"]


# Sockets and streams of the program


def test_given_socket_is_used_and_closed(backend: str, authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    async def main() -> None:
        async with connect_of(backend)("s.example", 1, sock=sock, hostname=None, context=client_tls) as client:
            assert client.peer == address
            assert client.is_verified

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("s.example").configure_cert(context)
    server = Answering("STARTTLS", STARTTLS=lambda peer: peer.send(b"220 go\r\n").start_tls(context))
    with serving(server) as address:
        sock = socket.create_connection(address)
        run_in(backend, main)
    assert sock.fileno() == -1
    assert server.heard[-1] == "QUIT"


def test_given_socket_must_be_connected(backend: str) -> None:
    async def main() -> None:
        async with connect_of(backend)("s.example", 1, sock=sock):
            pass

    with socket.socket() as sock, pytest.raises(OSError, match="not connected"):
        run_in(backend, main)


def test_login_and_tls_follow_on_demand(backend: str, authority: trustme.CA, client_tls: ssl.SSLContext) -> None:
    async def main(connect: Connect) -> None:
        async with connect() as client:
            await client.starttls(client_tls)
            assert (await client.login(("tim", "secret"))).code == 235

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    start_tls = lambda peer: peer.send(b"220 go\r\n").start_tls(context)  # noqa: E731
    server = Answering("STARTTLS", "AUTH PLAIN", STARTTLS=start_tls, AUTH=WELCOME)
    with serving(server) as address:
        run(backend, main, address.port, tls=TlsMode.NONE)
    assert [line.split()[0] for line in server.heard] == ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]


# Refusals


@pytest.mark.parametrize(
    ("server", "options"),
    [
        (lambda: Answering(GREETING=b"554 no mail here\r\n"), {}),
        (lambda: Answering(EHLO=b"550 no\r\n", HELO=b"550 no\r\n"), {}),
        (lambda: Answering(LHLO=b"550 no\r\n"), {"lmtp": True}),
        (lambda: Answering(), {"tls": TlsMode.REQUIRED}),
        (lambda: Answering("STARTTLS", STARTTLS=b"454 not now\r\n"), {"tls": TlsMode.REQUIRED}),
        (lambda: Answering("AUTH PLAIN", AUTH=b"535 5.7.8 no\r\n"), PLAINTEXT),
        (lambda: Answering("AUTH GSSAPI"), PLAINTEXT),
        (lambda: Answering("AUTH PLAIN"), {"auth": ("tim", "secret")}),
    ],
)
def test_client_sends_quit_after_a_refusal(backend: str, server: Any, options: dict[str, Any]) -> None:
    answering = server()
    fail(backend, answering, Refused, **options)
    assert answering.heard[-1:] == ["QUIT"]


def test_silent_server_delays_the_refusal_by_the_timeout_of_quit_only(backend: str) -> None:
    clock = Clock()
    server = Answering(GREETING=b"554 no\r\n", QUIT=lambda peer: clock.advance(6))
    error = fail(backend, server, Refused, clock=clock)
    assert error.reply.code == 554


# Logins


@pytest.mark.parametrize("offers", [["AUTH LOGIN PLAIN", "AUTH XOAUTH2"], ["AUTH=PLAIN LOGIN"]])
def test_client_logs_in_to_servers_with_unusual_auth_offers(backend: str, offers: list[str]) -> None:
    server = Answering(*offers, AUTH=WELCOME)
    use(backend, server, **PLAINTEXT)
    assert server.heard[1].startswith("AUTH PLAIN ")


REFUSALS = [b"534 5.7.9 too weak\r\n", b"504 5.5.4 unknown\r\n", b"538 TLS first\r\n", b"535 5.7.9 not CRAM-MD5\r\n"]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_next_mechanism_is_used_if_the_server_refuses_a_mechanism(backend: str, refusal: bytes) -> None:
    replies = iter([refusal, WELCOME])
    server = Answering("AUTH CRAM-MD5 PLAIN LOGIN", AUTH=lambda peer: peer.send(next(replies)))
    use(backend, server, **PLAINTEXT)
    assert [line.split()[1] for line in server.heard if line.startswith("AUTH")] == ["CRAM-MD5", "PLAIN"]


@pytest.mark.parametrize("refusal", [b"535 5.7.8 wrong\r\n", b"535 no\r\n", b"454 4.7.0 later\r\n", b"421 bye\r\n"])
def test_refused_credentials_are_not_tried_with_another_mechanism(backend: str, refusal: bytes) -> None:
    server = Answering("AUTH CRAM-MD5 PLAIN LOGIN", AUTH=refusal)
    error = fail(backend, server, AuthenticationRefused, **PLAINTEXT)
    assert error.reply.code == int(refusal[:3])
    assert len([line for line in server.heard if line.startswith("AUTH")]) == 1


def test_last_refusal_is_raised_if_no_mechanism_is_left(backend: str) -> None:
    server = Answering("AUTH CRAM-MD5 PLAIN LOGIN", AUTH=REFUSALS[0])
    error = fail(backend, server, AuthenticationRefused, **PLAINTEXT)
    assert "AUTH LOGIN: 534" in str(error)
    assert len([line for line in server.heard if line.startswith("AUTH")]) == 3


def test_password_is_not_sent_without_tls_after_a_refused_mechanism(backend: str, authority: trustme.CA) -> None:
    def start_tls(peer: Peer) -> None:
        peer.send(b"220 go\r\n").start_tls(context)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    server = Answering("STARTTLS", "AUTH CRAM-MD5 PLAIN LOGIN", STARTTLS=start_tls, AUTH=REFUSALS[0])
    fail(backend, server, AuthenticationRefused, auth=("tim", "secret"), context=unverified)
    assert [line for line in server.heard if line.startswith("AUTH")] == ["AUTH CRAM-MD5"]


def test_auth_mechanisms_are_used_in_their_order(backend: str) -> None:
    server = Answering("AUTH CRAM-MD5 PLAIN LOGIN", AUTH=WELCOME)
    use(backend, server, auth_mechanisms=["SCRAM-SHA-256", "PLAIN", "CRAM-MD5"], **PLAINTEXT)
    assert server.heard[1].startswith("AUTH PLAIN ")
    error = fail(backend, Answering("AUTH PLAIN"), AuthenticationRefused, auth_mechanisms=["LOGIN"], **PLAINTEXT)
    assert "offered: PLAIN" in str(error)


def test_error_for_a_missing_mechanism_does_not_name_tls_if_plaintext_is_allowed(backend: str) -> None:
    error = fail(backend, Answering("AUTH GSSAPI NTLM"), AuthenticationRefused, **PLAINTEXT)
    assert str(error).endswith(": no mechanism of the server suits the credentials; offered: GSSAPI, NTLM")


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_reason_for_a_refused_token_is_in_the_error(
    backend: str, mechanism: str, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    def refuse(peer: Peer) -> None:
        reason = b'{"status":"400","scope":"https://mail.example/\\u001b[2J"}'
        peer.send(b"334 " + base64.b64encode(reason) + b"\r\n").until(b"\r\n")
        peer.send(b"535 5.7.8 no\r\n")

    def start_tls(peer: Peer) -> None:
        peer.start_tls(context)
        peer.send(GREETING)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = Answering(f"AUTH {mechanism}", GREETING=start_tls, AUTH=refuse)
    login = Credentials(username="u@example.org", token="secret")
    error = fail(backend, server, AuthenticationRefused, auth=login, tls=TlsMode.IMPLICIT, context=client_tls)
    assert error.reply.code == 535
    assert error.token_error.status == "400"
    assert error.token_error.scope.startswith("https://mail.example/")
    assert f"{mechanism} (status 400, scope https://mail.example/\\x1b[2J): 535" in str(error)
    assert "secret" not in str(error)


# Timeouts


TIMEOUTS = [
    ("GREETING", "greeting", "the server did not send its greeting within 7 seconds"),
    ("EHLO", "command", "the server did not send the reply to EHLO within 7 seconds"),
    ("STARTTLS", "command", "the server did not send the reply to STARTTLS within 7 seconds"),
    ("AUTH", "command", "the server did not send the reply to AUTH within 7 seconds"),
    ("MAIL", "mail", "the server did not send the reply to MAIL within 7 seconds"),
    ("RCPT", "rcpt", "the server did not send the reply to RCPT within 7 seconds"),
    ("DATA", "data", "the server did not send the reply to DATA within 7 seconds"),
    ("END", "end", "the server did not send the reply to the message within 7 seconds"),
    ("NOOP", "command", "the server did not send the reply to NOOP within 7 seconds"),
]


@pytest.mark.parametrize(("step", "timeout", "text"), TIMEOUTS, ids=[step for step, _, _ in TIMEOUTS])
def test_timeout_names_the_server_and_the_step(backend: str, step: str, timeout: str, text: str) -> None:
    async def main(connect: Connect) -> None:
        try:
            async with connect() as client:
                await client.noop() if step == "NOOP" else await client.send("a@c.example", "b@s.example", b"hi\r\n")
        finally:
            ended.append(True)

    offers = ["STARTTLS"] * (step == "STARTTLS") + ["AUTH LOGIN"]
    options = {**PLAINTEXT, "tls": TlsMode.OPPORTUNISTIC, "budgets": ClientBudgets(**{timeout: 7})}
    if step != "AUTH":
        options["auth"] = None
    clock = Clock()

    def be_silent(peer: Peer) -> None:
        if step == "AUTH":
            peer.send(b"334 VXNlcm5hbWU6\r\n")
        clock.advance(6)
        assert not ended
        clock.advance(2)
        while peer.socket.recv(65_536):
            pass

    ended: list[bool] = []
    with serving(Answering(*offers, **{step: be_silent})) as address, pytest.raises(TimeoutError) as caught:
        run(backend, main, address.port, clock=clock, **options)
    assert str(caught.value) == f"{address}: {text}"


def test_timeout_of_the_handshake_names_the_server(backend: str, client_tls: ssl.SSLContext) -> None:
    clock = Clock()

    def be_silent(peer: Peer) -> None:
        clock.advance(61)
        while peer.socket.recv(65_536):  # the octets of a handshake may have a line end, which has no reply here
            pass

    error = fail(
        backend, Answering(GREETING=be_silent), TimeoutError, clock=clock, tls=TlsMode.IMPLICIT, context=client_tls
    )
    assert str(error).startswith("127.0.0.1:")
    assert str(error).endswith(": the server did not complete the TLS handshake within 60 seconds")


def test_timeout_of_connecting_names_the_host(backend: str) -> None:
    async def main(connect: Connect) -> None:
        async with connect():
            pytest.fail("nobody listens")

    with contextlib.ExitStack() as stack:
        address = stack.enter_context(full_backlog())
        clock = Clock()
        with clock.skipping_waits(), pytest.raises(TimeoutError) as caught:
            run(backend, main, address[1], connect_timeout=0.2, clock=clock)
    assert str(caught.value) == f"127.0.0.1:{address[1]}: no connection within 0.2 seconds"


@contextlib.contextmanager
def full_backlog() -> Iterator[Any]:
    """Listen with a full backlog, so that the system answers no further connection."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


# Contexts and commands


def test_default_tls_context_is_made_once(backend: str, authority: trustme.CA) -> None:
    make = ssl.create_default_context
    made: list[object] = []

    def count(*args: Any, **options: Any) -> ssl.SSLContext:
        made.append(args)
        return make(*args, **options)

    context = make(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with mock.patch("ssl.create_default_context", count):
        for _ in range(3):
            server = Answering("STARTTLS", STARTTLS=lambda peer: peer.send(b"220 go\r\n").start_tls(context))
            fail(backend, server, ssl.SSLCertVerificationError, tls=TlsMode.REQUIRED)
    assert len(made) <= 1


@pytest.mark.parametrize("command", [StartTls(), Bdat(5), Auth("LOGIN")])
def test_ask_refuses_commands_that_need_more_than_a_reply(backend: str, command: Any) -> None:
    async def main(connect: Connect) -> None:
        async with connect() as client:
            await refuse(client)
            assert (await client.noop()).is_positive

    async def refuse(client: Client) -> None:
        with pytest.raises(LocalProtocolError, match=r"tls=|auth=|send"):
            await client.ask(command)

    server = Answering("STARTTLS", "AUTH LOGIN", "CHUNKING")
    with serving(server) as address:
        run(backend, main, address.port, tls=TlsMode.NONE, plaintext_auth=True)
    assert server.heard == ["EHLO c.example", "NOOP", "QUIT"]
