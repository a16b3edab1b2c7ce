"""Real clients send all kinds of messages to a server of `smtpcore_adapters`, which gets what was sent."""

import base64
import email
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from smtpcore import BareNewlines, Rcpt, Reply, Tolerance
from smtpcore.sasl import CheckIdentity, CheckToken, Question
from smtpcore_adapters import App, Message, Session, Timeouts, default_config
from smtpcore_adapters.tls import server_context
from smtpcore_adapters.users import Users
from tests.adapters.command import run_in_process as explain
from tests.adapters.harness import running
from tests.interop import servers
from tests.interop.clients import CLIENTS, SENDER, TIMEOUT, TOKEN, TOKENS, Job, MailClient
from tests.interop.servers import PASSWORD, USER
from tests.long import long, mostly_long

HEADER = (
    b"From: a@client.example\r\nTo: b@example.org\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <1@client.example>\r\nSubject: parrots\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)
TEXTS = {
    "text": b"Hello.\r\n",
    "octets beyond ASCII": "Grüße ☃\r\n".encode(),
    "long lines": b"x" * 998 + b"\r\n" + b"y " * 3000 + b"z\r\n",
    "dots": b".\r\n..\r\n.a dot\r\n...\r\nan end\r\n.\r\n",
    "empty lines": b"\r\n\r\nan end\r\n\r\n\r\n",
    "no line": b"",
    "no final line end": b"the end",
    "5 megabytes": b"".join(b"%08d %s\r\n" % (number, b"x" * 66) for number in range(65_000)),
}
Certificates = tuple[Path, Path, Path]


@dataclass(frozen=True)
class Delivery:
    """A message as the server got it."""

    content: bytes
    mail: str
    """The MAIL command."""
    recipients: tuple[str, ...]
    tls: bool
    identity: str | None
    events: frozenset[str]
    """The types of all events of the session so far."""


@dataclass(frozen=True)
class Place:
    """A running server, and the directories of the clients."""

    port: int
    deliveries: "Queue[Delivery]"
    ca: Path
    directory: Path
    build: Path

    def job(self, message: bytes, **options: Any) -> Job:
        """Return the job to send `message`."""
        file = self.directory / "message.eml"
        file.write_bytes(message)
        job = Job(self.port, file, self.directory, self.build, ("b@example.org",))
        return replace(job, **options)


@contextmanager
def serving(
    directory: Path, build: Path, certificates: Certificates, *, backend: str = "asyncio", **options: Any
) -> Iterator[Place]:
    """Run a server that refuses the recipient `nobody`, and messages with the subject `refuse this`.

    `options` are those of the server; `lmtp`, `require_auth` and `auth_mechanisms` are fields of its configuration, and
    `strict` stands for the fields that make a server strict.
    """
    ca, chain, key = certificates
    deliveries: Queue[Delivery] = Queue()
    events: dict[str, set[str]] = {}
    app = App()

    @app.on("RCPT")
    async def accept(session: Session, rcpt: Rcpt) -> Reply:
        if rcpt.forward_path.local_part == "nobody":
            return Reply(550, "Norwegian Blue does not live here", enhanced="5.1.1")
        return Reply(250, "Welcome")

    @app.on("message")
    async def record(session: Session, message: Message) -> Reply:
        content = await message.read()
        if b"\nSubject: refuse this" in content:
            return Reply(554, "No dead parrots", enhanced="5.7.1")

        transaction = session.transaction
        assert transaction
        recipients = tuple(str(rcpt.forward_path) for rcpt in transaction.recipients)
        tls, identity = session.tls is not None, session.identity
        deliveries.put(
            Delivery(content, str(transaction.mail), recipients, tls, identity, frozenset(events[session.id]))
        )
        return Reply(250, "Stored")

    def note(session: Session, event: object) -> None:
        events.setdefault(session.id, set()).add(type(event).__name__)

    app.observe(note)

    @app.on("auth")
    async def check(session: Session, question: Question) -> str | None:
        match question:
            case CheckToken(token=token):
                return USER if token == TOKEN else None
            case CheckIdentity():
                return USER
        return None

    app.include(Users({USER: PASSWORD}))
    fields: dict[str, Any] = {}
    if options.pop("strict", False):
        fields = {"tolerance": Tolerance.STRICT, "bare_newlines": BareNewlines.REJECT}
    fields |= {name: options.pop(name) for name in ("lmtp", "require_auth", "auth_mechanisms") if name in options}
    config = replace(default_config(), **fields)
    # EXTERNAL is offered to clients that have a certificate.
    context = server_context(chain, key, client_ca=ca if "EXTERNAL" in config.auth_mechanisms else None)
    with running(backend, app, config=config, tls=context, **options) as server:
        yield Place(server.server.address.port, deliveries, ca, directory, build)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return servers.certify(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def serve(tmp_path: Path, build: Path, certificates: Certificates) -> Callable[..., AbstractContextManager[Place]]:
    return partial(serving, tmp_path, build, certificates)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> MailClient:
    return CLIENTS[request.param]


def clients_that(*abilities: str) -> pytest.MarkDecorator:
    """Parametrize a test by the clients that have all `abilities`."""
    return pytest.mark.parametrize(
        "client", [client for client in CLIENTS.values() if client.can >= set(abilities)], ids=str
    )


def send(place: Place, client: MailClient, message: bytes, **options: Any) -> Delivery:
    """Send a message, and return what the server got. Check that the content is what was sent."""
    done = client.send(place.job(message, **options))
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    delivery = place.deliveries.get(timeout=TIMEOUT)
    assert place.deliveries.empty()
    if client.composes:
        # The client chooses the encoding, and adds or removes empty lines at the end.
        assert text_of(delivery.content) == text_of(message)
        assert b"\n" not in delivery.content.replace(b"\r\n", b"")
    else:
        assert delivery.content == (client.sends_in_chunks if options.get("bdat") else client.sends)(message)
    return delivery


def text_of(message: bytes) -> bytes:
    parsed = email.message_from_bytes(message)
    text = parsed.get_payload(decode=True)
    assert isinstance(text, bytes)
    return text.replace(b"\r\n", b"\n").rstrip(b"\n")


Serve = Callable[..., AbstractContextManager[Place]]


@pytest.mark.parametrize("tls", mostly_long(["none", "starttls", "implicit"], "starttls"))
def test_message_arrives_with_and_without_tls(serve: Serve, client: MailClient, tls: str) -> None:
    with serve(implicit_tls=tls == "implicit") as place:
        delivery = send(place, client, HEADER + TEXTS["text"], tls=tls, ca=None if tls == "none" else place.ca)

    assert delivery.tls == (tls != "none")
    assert delivery.mail.startswith(f"MAIL FROM:<{SENDER}>")
    assert delivery.recipients == ("b@example.org",)


@long
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_client_rejects_the_certificate_of_an_unknown_authority(serve: Serve, client: MailClient, tls: str) -> None:
    with serve(implicit_tls=tls == "implicit") as place:
        other, _, _ = servers.certify(place.directory)
        assert client.send(place.job(HEADER, tls=tls, ca=other)).returncode

    assert place.deliveries.empty()


LOGINS = pytest.mark.parametrize(
    ("client", "mechanism"), [(client, name) for client in CLIENTS.values() for name in client.mechanisms], ids=str
)


def secret_of(mechanism: str) -> str:
    return TOKEN if mechanism in TOKENS else PASSWORD


@long
@LOGINS
def test_client_logs_in(serve: Serve, certificates: Certificates, client: MailClient, mechanism: str) -> None:
    with serve(require_auth=True, auth_mechanisms=(mechanism,)) as place:
        job = {"tls": "starttls", "ca": place.ca, "mechanism": mechanism, "secret": secret_of(mechanism)}
        certificate = certificates[1:] if mechanism == "EXTERNAL" else None
        assert send(place, client, HEADER + TEXTS["text"], certificate=certificate, **job).identity == USER


@long
@LOGINS
def test_reply_to_a_refused_login_reaches_the_user(serve: Serve, client: MailClient, mechanism: str) -> None:
    with serve(require_auth=True, auth_mechanisms=(mechanism,), timeouts=Timeouts(auth_delay=0)) as place:
        wrong = secret_of(mechanism)[::-1]  # EXTERNAL is tried without a certificate
        done = client.send(place.job(HEADER, tls="starttls", ca=place.ca, mechanism=mechanism, secret=wrong))

    assert done.returncode
    assert place.deliveries.empty()
    # Some clients show the challenge with the reason for a refused token, and do not wait for the 535.
    code = b"(535|334)" if mechanism == "XOAUTH2" else b"535"
    assert client.hides_login_replies or re.search(code, done.stdout)


@pytest.mark.parametrize("kind", mostly_long(TEXTS, "dots"))
def test_text_arrives_unchanged(serve: Serve, client: MailClient, kind: str) -> None:
    with serve() as place:
        send(place, client, HEADER + TEXTS[kind])


def test_file_with_lf_line_ends_arrives_with_cr_lf(serve: Serve, client: MailClient) -> None:
    with serve() as place:
        send(place, client, (HEADER + TEXTS["dots"]).replace(b"\r\n", b"\n"))


def test_reply_to_a_refused_recipient_reaches_the_user(serve: Serve, client: MailClient) -> None:
    with serve() as place:
        done = client.send(place.job(HEADER + TEXTS["text"], recipients=("nobody@example.org",)))

    assert done.returncode
    assert place.deliveries.empty()
    assert b"Norwegian Blue" in done.stdout


def test_reply_to_a_refused_message_reaches_the_user(serve: Serve, client: MailClient) -> None:
    with serve() as place:
        done = client.send(place.job((HEADER + TEXTS["text"]).replace(b"parrots", b"refuse this")))

    assert done.returncode
    assert place.deliveries.empty()
    assert b"No dead parrots" in done.stdout


def test_message_arrives_for_several_recipients(serve: Serve, client: MailClient) -> None:
    recipients = ("b@example.org", "c@example.org", "d@example.net")
    with serve() as place:
        delivery = send(place, client, HEADER + TEXTS["dots"], recipients=recipients)
    assert delivery.recipients == recipients


@long
@pytest.mark.parametrize("name", ["curl", "nodemailer", "perl"])
def test_large_text_arrives_on_every_adapter(serve: Serve, backend: str, name: str) -> None:
    bdat = 100_000 if "BDAT" in CLIENTS[name].can else 0
    with serve(backend=backend) as place:
        message = HEADER + TEXTS["5 megabytes"]
        assert send(place, CLIENTS[name], message, tls="starttls", ca=place.ca, bdat=bdat).tls


@long
@pytest.mark.parametrize("mechanism", ["", "PLAIN"])
def test_strict_server_accepts_messages_with_correct_line_ends(
    serve: Serve, client: MailClient, mechanism: str
) -> None:
    with serve(strict=True, **({"auth_mechanisms": (mechanism,)} if mechanism else {})) as place:
        job = {"tls": "starttls", "ca": place.ca, "mechanism": mechanism, "secret": PASSWORD}
        send(place, client, HEADER + TEXTS["dots"], **job)
        send(place, client, HEADER + TEXTS["octets beyond ASCII"], **job)


RECORDINGS = [
    ("swaks", ()),
    ("swaks", ("--show-time-lapse",)),
    ("swaks", ("--show-raw-text",)),
    ("swaks", ("--pipeline",)),
    ("curl", ("-v",)),
    ("curl", ("-v", "--trace-time")),
    ("curl", ("--trace", "-")),
    ("curl", ("--trace", "-", "--trace-time")),
    ("curl", ("--trace-ascii", "-")),
    ("curl", ("--trace-ascii", "-", "--trace-time")),
    ("msmtp", ("--debug",)),
    ("nodemailer", ("1",)),
    ("PHPMailer", ("2",)),
    ("PHPMailer", ("4",)),
    ("java", ("1",)),
]
"""Clients that show the dialogue, and the options with which they do so."""


@long
@pytest.mark.parametrize(
    ("name", "options", "mechanism"),
    [
        (*each, name)
        for each in RECORDINGS
        for name in ("PLAIN", "LOGIN", "CRAM-MD5")
        if name in CLIENTS[each[0]].mechanisms
    ],
    ids=str,
)
def test_explain_reads_what_a_client_prints(serve: Serve, name: str, options: tuple[str, ...], mechanism: str) -> None:
    with serve(auth_mechanisms=(mechanism,)) as place:
        job = place.job(
            HEADER + TEXTS["dots"],
            tls="starttls",
            ca=place.ca,
            mechanism=mechanism,
            secret=PASSWORD,
            recipients=("b@example.org", "nobody@example.org"),
            debug=options,
        )
        done = CLIENTS[name].send(job)
    recording = place.directory / "recording"
    recording.write_bytes(done.stdout)
    explained = explain("explain", str(recording))
    assert explained.returncode == 0, explained.stdout + explained.stderr
    assert "MAIL FROM:<a@client.example>" in explained.stdout
    assert "Norwegian Blue" in explained.stdout
    secrets = (PASSWORD, f"\0{USER}\0{PASSWORD}")
    for secret in (PASSWORD, *(base64.b64encode(text.encode()).decode() for text in secrets)):
        assert secret not in explained.stdout


@clients_that("LMTP")
def test_message_arrives_over_lmtp(serve: Serve, client: MailClient) -> None:
    with serve(lmtp=True) as place:
        recipients = ("b@example.org", "c@example.org")
        assert send(place, client, HEADER + TEXTS["dots"], lmtp=True, recipients=recipients).recipients == recipients
        assert client.send(place.job(HEADER, lmtp=True, recipients=("nobody@example.org",))).returncode


@clients_that("PIPELINING")
def test_message_arrives_with_pipelining(serve: Serve, client: MailClient) -> None:
    recipients = ("b@example.org", "nobody@example.org")
    with serve() as place:
        send(place, client, HEADER + TEXTS["dots"], pipelining=True)
        client.send(place.job(HEADER, pipelining=True, recipients=recipients))
        done = client.send(place.job(HEADER, pipelining=True, recipients=recipients[1:]))
    assert done.returncode
    assert b"Norwegian Blue" in done.stdout


@clients_that("BDAT")
@pytest.mark.parametrize("kind", mostly_long(TEXTS, "dots"))
def test_text_arrives_in_chunks(serve: Serve, client: MailClient, kind: str) -> None:
    with serve() as place:
        delivery = send(place, client, HEADER + TEXTS[kind], bdat=1_000_000 if len(TEXTS[kind]) > 10_000 else 500)
    assert "Bdat" in delivery.events
    assert "Data" not in delivery.events


@clients_that("SMTPUTF8")
def test_addresses_beyond_ascii_arrive(serve: Serve, client: MailClient) -> None:
    with serve() as place:
        delivery = send(
            place,
            client,
            HEADER + TEXTS["octets beyond ASCII"],  # mutt sends EHLO only for such texts
            sender="grüße@client.example",
            recipients=("größe@example.org",),
        )
    assert delivery.recipients == ("größe@example.org",)
    assert delivery.mail.startswith("MAIL FROM:<grüße@client.example>")
    assert " SMTPUTF8" in delivery.mail
