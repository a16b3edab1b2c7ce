"""Authentication with a client certificate: EXTERNAL (RFC 4422 appendix A, RFC 4954 4.1)."""

import shutil
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme

from smtpcore import Reply
from smtpcore.sasl import CheckIdentity, Question
from smtpcore_adapters import App, Session, Timeouts
from smtpcore_adapters.tls import ServerTls, server_context
from smtpcore_adapters.tls._channel_binding import subject_of
from tests.adapters.fakes import CONFIG, EHLO
from tests.adapters.harness import BACKENDS, TIMEOUT, Running, running
from tests.certificates import context_trusting


@dataclass
class Files:
    """PEM files of the server, of a trusted client, and of a client with an unknown authority."""

    directory: Path

    def path(self, name: str) -> str:
        return str(self.directory / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = Files(tmp_path_factory.mktemp("pem"))
    ca = trustme.CA()
    ca.cert_pem.write_to_path(files.path("ca"))
    for name, authority in (("server", ca), ("tim", ca), ("stranger", trustme.CA())):
        leaf = authority.issue_cert(
            "s.example", common_name=f"{name}, of +\\ #1", organization_name="Ex", organization_unit_name=" Mail"
        )
        leaf.private_key_and_cert_chain_pem.write_to_path(files.path(name))
    return files


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, files: Files) -> Iterator[Running]:
    app = App()
    app.on("EHLO")(lambda session, ehlo: Reply(250, f"subject {session.tls.subject if session.tls else 'plain'}"))

    @app.on("auth")
    def check(session: Session, question: Question) -> str | None:
        is_tim = isinstance(question, CheckIdentity) and question.external.startswith(r"CN=tim\, of")
        return "tim" if is_tim else None

    @app.on("RCPT")
    def take(session: Session, rcpt: object) -> Reply | None:
        return Reply(250, f"Welcome {session.identity}") if session.identity else None

    @app.on("message")
    def store(session: Session, message: object) -> Reply:
        return Reply(250, f"Taken from {session.identity}")

    context = server_context(files.path("server"), files.path("server"), client_ca=files.path("ca"))
    config = replace(CONFIG, auth_mechanisms=("EXTERNAL",))
    timeouts = Timeouts(auth_delay=0)
    with running(request.param, app, config=config, tls=context, implicit_tls=True, timeouts=timeouts) as server:
        yield server


def as_client(files: Files, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.path("ca"))
    context.check_hostname = False
    if name:
        context.load_cert_chain(files.path(name))
    return context


def test_client_is_authenticated_by_its_certificate(server: Running, files: Files) -> None:
    with server.connect() as client:
        client.start_tls(as_client(files, "tim"))
        client.expect(220)
        client.send(EHLO)
        assert client.read().splitlines()[0] == r"250-s.example subject CN=tim\, of \+\\ #1,OU=\ Mail,O=Ex"
        client.send(b"AUTH EXTERNAL =\r\n").expect(235)
        client.send(b"MAIL FROM:<>\r\n").expect(250)
        client.send(b"RCPT TO:<u@s.example>\r\n").expect("250 2.0.0 Welcome tim")

    with server.connect() as client:
        client.start_tls(as_client(files, "tim"))
        client.send(EHLO).expect(220, 250)
        client.send(b"AUTH EXTERNAL " + b64encode(b"tom") + b"\r\n").expect(
            535
        )  # the certificate does not authorize another identity


def test_external_without_a_certificate_is_refused(server: Running, files: Files) -> None:
    with server.connect() as client:
        client.start_tls(as_client(files, None))
        client.send(EHLO).expect(220, "250-s.example subject None\n...")
        client.send(b"AUTH EXTERNAL =\r\n").expect(535)


def test_client_certificate_of_an_unknown_authority_fails_the_handshake(server: Running, files: Files) -> None:
    def talk() -> None:
        with server.connect() as client:
            client.start_tls(as_client(files, "stranger"))
            client.send(EHLO)
            client.read()

    with pytest.raises(OSError, match=r"(?i)unknown.?ca|closed|reset|EOF"):
        talk()


@pytest.mark.parametrize("name", ["curl", "msmtp"])
def test_real_clients_authenticate_with_their_certificate(server: Running, files: Files, name: str) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")

    port = server.server.address.port
    arguments = {
        "curl": [
            *("-sS", "-k", "--cert", files.path("tim"), f"smtps://127.0.0.1:{port}/c.example", "-T", "-"),
            *("--user", "tim:", "--login-options", "AUTH=EXTERNAL"),
            *("--mail-from", "a@c.example", "--mail-rcpt", "b@s.example"),
        ],
        "msmtp": [
            *("-C", "/dev/null", "--host=127.0.0.1", f"--port={port}", "--from=a@c.example", "--tls=on"),
            *("--tls-starttls=off", "--tls-certcheck=off", "--auth=external", "--user=tim"),
            *(f"--tls-cert-file={files.path('tim')}", f"--tls-key-file={files.path('tim')}", "b@s.example"),
        ],
    }[name]
    done = subprocess.run(
        [program, *arguments], input=b"Subject: x\r\n\r\n", capture_output=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")


def test_subject_is_formatted_as_in_rfc_4514() -> None:
    class Connection:
        def __init__(self, subject: object) -> None:
            self.subject = subject

        def getpeercert(self) -> object:
            return self.subject

    for certificate, subject in (
        (None, None),
        ({}, None),
        ({"subject": ()}, None),
        (
            {"subject": ((("emailAddress", "a@b"),), (("userId", "x"), ("commonName", "#y ")))},
            r"UID=x+CN=\#y\ ,emailAddress=a@b",
        ),
    ):
        assert subject_of(Connection(certificate)) == subject  # type: ignore[arg-type]


# TLS sessions that are resumed


@dataclass
class Renewable:
    """A server whose authority for client certificates can be replaced."""

    directory: Path
    own: trustme.CA
    first: trustme.CA
    tls: ServerTls

    def context(self, authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
        """Return the context of a client with a certificate of `authority`."""
        context = context_trusting(self.own)
        context.minimum_version = context.maximum_version = version
        authority.issue_cert("tim@example.org", common_name="tim").configure_cert(context)
        return context


@pytest.fixture
def renewable(tmp_path: Path) -> Renewable:
    own, first = trustme.CA(), trustme.CA()
    leaf = own.issue_cert("s.example")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    leaf.private_key_pem.write_to_path(tmp_path / "key")
    first.cert_pem.write_to_path(tmp_path / "ca")
    return Renewable(tmp_path, own, first, ServerTls(tmp_path / "cert", tmp_path / "key", client_ca=tmp_path / "ca"))


def external(renewable: Renewable, backend: str) -> AbstractContextManager[Running]:
    app = App()
    app.on("auth")(lambda session, question: "tim")
    config = replace(CONFIG, auth_mechanisms=("EXTERNAL",))
    timeouts = Timeouts(auth_delay=0)
    return running(backend, app, config=config, tls=renewable.tls.context, implicit_tls=True, timeouts=timeouts)


def log_in(
    server: Running, context: ssl.SSLContext, code: int, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSession, bool]:
    """Log in by EXTERNAL, and return the TLS session, and whether it was resumed."""
    with server.connect() as client:
        connection = context.wrap_socket(client.socket, server_hostname="s.example", session=session)
        client.socket = connection
        client.expect(220).send(EHLO).expect(250).send(b"AUTH EXTERNAL =\r\n").expect(code)
        assert connection.session
        return connection.session, bool(connection.session_reused)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_session_of_a_removed_authority_is_not_resumed(
    version: ssl.TLSVersion, renewable: Renewable, backend: str
) -> None:
    context = renewable.context(renewable.first, version)
    second = trustme.CA()
    with external(renewable, backend) as server:
        session, _ = log_in(server, context, 235)
        _, resumed = log_in(server, context, 235, session)
        assert resumed is (version is ssl.TLSVersion.TLSv1_2)

        second.cert_pem.write_to_path(renewable.directory / "ca")
        renewable.tls.reload()
        with pytest.raises((OSError, AssertionError), match=r"(?i)unknown.?ca|closed|reset|EOF"):
            log_in(server, context, 235, session)
        log_in(server, renewable.context(second, version), 235)


@pytest.mark.parametrize("version", VERSIONS)
def test_certificate_is_not_accepted_at_a_name_with_another_authority(
    version: ssl.TLSVersion, renewable: Renewable, backend: str
) -> None:
    names = {"a.example": trustme.CA(), "b.example": trustme.CA()}
    contexts = {}
    for name, authority in names.items():
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].verify_mode = ssl.CERT_REQUIRED
        renewable.own.issue_cert(*names).configure_cert(contexts[name])
        authority.configure_trust(contexts[name])
    start = contexts["a.example"]  # a context of OpenSSL itself, which switches to the context for the name
    start.sni_callback = lambda connection, name, _: setattr(connection, "context", contexts[name or "a.example"])
    app = App()
    app.on("EHLO")(lambda session, ehlo: Reply(250, f"of {session.tls.server_name}" if session.tls else "plain"))

    def hello(name: str, session: ssl.SSLSession | None) -> ssl.SSLSession:
        with server.connect() as client:
            connection = context.wrap_socket(client.socket, server_hostname=name, session=session)
            client.socket = connection
            # In TLS 1.2, a resumed session keeps the name of its first handshake, and the context for this name.
            client.expect(220).send(EHLO).expect("250-s.example of a.example\n...")
            assert connection.session
            return connection.session

    context = renewable.context(names["a.example"], version)
    with running(backend, app, config=CONFIG, tls=start, implicit_tls=True) as server:
        session = hello("a.example", None)
        if version is ssl.TLSVersion.TLSv1_2:
            hello("b.example", session)
        else:
            with pytest.raises((OSError, AssertionError), match=r"(?i)unknown.?ca|closed|reset|EOF"):
                hello("b.example", session)


@pytest.mark.parametrize("version", VERSIONS)
def test_client_that_is_still_trusted_logs_in_after_a_reload(
    version: ssl.TLSVersion, renewable: Renewable, backend: str
) -> None:
    context = renewable.context(renewable.first, version)
    with external(renewable, backend) as server:
        session, _ = log_in(server, context, 235)
        renewable.tls.reload()
        session, resumed = log_in(server, context, 235, session)
        assert not resumed
        _, resumed = log_in(server, context, 235, session)
        assert resumed is (version is ssl.TLSVersion.TLSv1_2)


def test_certificate_that_has_expired_since_the_first_handshake_is_not_accepted(
    renewable: Renewable, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = renewable.context(renewable.first, ssl.TLSVersion.TLSv1_2)
    with external(renewable, "asyncio") as server:
        session, _ = log_in(server, context, 235)
        monkeypatch.setattr("smtpcore_adapters.tls._info.time.time", lambda: 1e11)
        with pytest.raises((OSError, AssertionError), match=r"(?i)closed|reset|EOF"):
            log_in(server, context, 235, session)


@pytest.mark.parametrize("demand", ["version", "certificate"])
def test_minimum_version_and_client_certificate_of_a_chosen_context_are_required(
    renewable: Renewable, backend: str, demand: str
) -> None:
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    renewable.own.issue_cert("s.example").configure_cert(strict)
    if demand == "version":
        strict.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        renewable.first.configure_trust(strict)
        strict.verify_mode = ssl.CERT_REQUIRED

    tls = ServerTls(renewable.directory / "cert", renewable.directory / "key", choose=lambda name: strict)
    context = context_trusting(renewable.own)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with running(backend, App(), config=CONFIG, tls=tls.context, implicit_tls=True) as server:
        with pytest.raises((OSError, AssertionError), match=r"(?i)closed|reset|EOF"):
            greet(server, context)
        if demand == "version":
            context.maximum_version = ssl.TLSVersion.TLSv1_3
            greet(server, context)


def test_context_that_cannot_turn_tickets_off_needs_another_protocol(backend: str) -> None:
    with pytest.deprecated_call():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    with running(backend, App(), config=CONFIG, tls=context):
        pass  # without client certificates

    context.verify_mode = ssl.CERT_OPTIONAL
    with (
        pytest.raises(ValueError, match="PROTOCOL_TLS_SERVER"),
        running(backend, App(), config=CONFIG, tls=context),
    ):
        pass


def greet(server: Running, context: ssl.SSLContext) -> None:
    with server.connect() as client:
        client.start_tls(context)
        client.expect(220)


@pytest.mark.parametrize("asks", [True, False])
def test_server_context_wraps_blocking_sockets(renewable: Renewable, asks: bool) -> None:
    files = (renewable.directory / "cert", renewable.directory / "key")
    server = renewable.tls if asks else ServerTls(*files)
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(server.context.wrap_socket, here, server_side=True)
        context = renewable.context(renewable.first, ssl.TLSVersion.TLSv1_2)
        with context.wrap_socket(there, server_hostname="s.example"), accepted.result(TIMEOUT) as connection:
            assert bool(connection.getpeercert(binary_form=True)) is asks
