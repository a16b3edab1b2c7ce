"""The rows on logins and messages in the table of docs/sending.md: smtpcore, smtplib, aiosmtplib and nodemailer."""

import asyncio
import base64
import email
import email.policy
import gc
import json
import os
import shutil
import smtplib
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
import trustme

from smtpcore import ProtocolError
from smtpcore_adapters import BearerToken, TlsMode
from smtpcore_adapters.socket import connect
from tests.adapters.client.test_messages import SIGNED, part
from tests.adapters.peers import Answering, Peer, serving
from tests.interop.clients import NODE_MODULES
from tests.paths import DOCS
from tests.playbook import GREETING

SENDER, RECIPIENT = "a@c.example", "b@s.example"
WELCOME = b"235 2.7.0 welcome\r\n"
WRONG = b"535 5.7.8 wrong\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return authority, path


class Job:
    """A message to send over implicit TLS, with a password or a token."""

    def __init__(self, port: int, ca: Path) -> None:
        self.port = port
        self.ca = ca
        self.context = ssl.create_default_context(cafile=ca)
        self.login: tuple[str, str] | None = None
        self.tokens: list[str] = []
        self.recipient = RECIPIENT
        self.octets = b""
        """The octets of `message`, for the client that has no messages of Python."""
        self.message: Message | str = "Subject: x\r\n\r\nhi\r\n"


def with_smtpcore(job: Job) -> None:
    tokens = iter(job.tokens)
    auth = BearerToken("tim", lambda: next(tokens)) if job.tokens else job.login
    with connect("127.0.0.1", job.port, tls=TlsMode.IMPLICIT, context=job.context, auth=auth) as client:
        client.send(SENDER, job.recipient, job.message)


def with_smtplib(job: Job) -> None:
    with smtplib.SMTP_SSL("127.0.0.1", job.port, context=job.context) as client:
        if job.tokens:
            raise NotImplementedError("smtplib has no XOAUTH2")
        if job.login:
            client.login(*job.login)
        if isinstance(job.message, Message):
            client.send_message(job.message, SENDER, [job.recipient])
        else:
            client.sendmail(SENDER, [job.recipient], job.message)


def with_aiosmtplib(job: Job) -> None:
    async def fetch() -> str:
        return next(tokens)

    tokens = iter(job.tokens)
    name, password = job.login or (None, None)
    options: dict[str, Any] = {"use_tls": True, "tls_context": job.context, "username": name, "password": password}
    if job.tokens:
        options |= {"username": "tim", "oauth_token_generator": fetch}
    asyncio.run(
        aiosmtplib.send(
            job.message, sender=SENDER, recipients=[job.recipient], hostname="127.0.0.1", port=job.port, **options
        )
    )


NODEMAILER = """
const [port, ca, auth, to, raw] = process.argv.slice(1).map((text) => JSON.parse(text));
const options = { host: "127.0.0.1", port, secure: true, tls: { ca: require("fs").readFileSync(ca) }, auth };
const transport = require("nodemailer").createTransport(options);
if (auth && auth.type) {
  const tokens = auth.tokens;
  transport.set("oauth2_provision_cb", (user, renew, callback) => callback(null, tokens.shift()));
}
const octets = raw && Buffer.from(raw, "base64");
const message = raw ? { envelope: { from: "a@c.example", to }, raw: octets } : { from: "a@c.example", to, text: "hi" };
transport.sendMail(message).catch((error) => { console.error(error); process.exitCode = 1; });
"""


def with_nodemailer(job: Job) -> None:
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "nodemailer").exists():
        pytest.skip("nodemailer is not installed by .ci/clients")

    auth: dict[str, Any] | None = {"user": job.login[0], "pass": job.login[1]} if job.login else None
    if job.tokens:
        auth = {"type": "OAuth2", "user": "tim", "tokens": job.tokens}
    raw = base64.b64encode(job.octets).decode() if job.octets else None
    arguments = [json.dumps(each) for each in (job.port, str(job.ca), auth, job.recipient, raw)]
    environment = {**os.environ, "NODE_PATH": str(NODE_MODULES)}
    subprocess.run([node, "-e", NODEMAILER, *arguments], env=environment, check=True, capture_output=True, timeout=30)


CLIENTS: dict[str, Callable[[Job], None]] = {
    "smtpcore": with_smtpcore,
    "smtplib": with_smtplib,
    "aiosmtplib": with_aiosmtplib,
    "nodemailer": with_nodemailer,
}


REFUSALS = (
    OSError,
    ProtocolError,
    ValueError,
    NotImplementedError,
    aiosmtplib.SMTPException,
    subprocess.CalledProcessError,
)
"""The errors of a client whose login or message was refused."""

ROWS: dict[str, list[str]] = {}
"""The rows of the table: the cells, in the order of `CLIENTS`."""


def row(title: str, *cells: str) -> pytest.MarkDecorator:
    """Run a test for each cell of a row."""
    ROWS[title] = [*cells]
    return pytest.mark.parametrize(("name", "expected"), [*zip(CLIENTS, cells, strict=True)], ids=CLIENTS)


def test_table_in_the_documentation_has_these_rows() -> None:
    _, _, rest = (DOCS / "sending.md").read_text().partition("## Comparison\n")
    lines = [line.strip("| ").split(" | ") for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    table = {title: cells for title, *cells in lines}
    assert {title: table.get(title) for title in ROWS} == ROWS


def run(name: str, authority: tuple[trustme.CA, Path], server: Answering, **job: Any) -> Answering:
    """Let a client send a message to `server` over TLS, and return the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)

    def greet(peer: Peer) -> None:
        peer.start_tls(context)
        peer.send(GREETING)

    server.answers["GREETING"] = greet
    with serving(server) as address:
        given = Job(address.port, authority[1])
        vars(given).update(job)
        with suppress(*REFUSALS):
            CLIENTS[name](given)
    if name == "aiosmtplib":
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()  # aiosmtplib may leave a TLS connection open, whose warning would reach another test
    return server


def mechanisms(server: Answering) -> list[str]:
    return [line.split()[1] for line in server.heard if line.upper().startswith("AUTH")]


@row("login where CRAM-MD5 is announced but never works", "yes", "yes", "yes", "yes")
def test_login_to_a_server_whose_cram_md5_never_works(
    name: str, expected: str, authority: tuple[trustme.CA, Path]
) -> None:
    def answer(peer: Peer) -> None:
        if "CRAM-MD5" in server.heard[-1]:
            peer.send(b"334 PDFAcz4=\r\n").until(b"\r\n")
            peer.send(WRONG)
        else:
            peer.send(WELCOME)

    server = Answering("AUTH CRAM-MD5 PLAIN", AUTH=answer)
    run(name, authority, server, login=("tim", "secret"))
    assert ("yes" if server.bodies else "no") == expected


@row("failed logins with a wrong password, if CRAM-MD5, PLAIN and LOGIN are offered", "2", "3", "3", "1")
def test_failed_logins_with_a_wrong_password(name: str, expected: str, authority: tuple[trustme.CA, Path]) -> None:
    server = run(name, authority, Answering("AUTH CRAM-MD5 PLAIN LOGIN", AUTH=WRONG), login=("tim", "wrong"))
    assert str(len(mechanisms(server))) == expected
    assert server.bodies == []


@row("refused OAuth token", "renewed once", "no OAuth", "not renewed", "renewed once")
def test_refused_token_is_renewed(name: str, expected: str, authority: tuple[trustme.CA, Path]) -> None:
    sent: list[str] = []

    def answer(peer: Peer) -> None:
        initial = base64.b64decode(server.heard[-1].split()[2]).decode()
        sent.append(initial.partition("Bearer ")[2].rstrip("\1"))
        if sent[-1] == "new":
            peer.send(WELCOME)
        else:
            peer.send(b"334 " + base64.b64encode(b'{"status":"401"}') + b"\r\n").until(b"\r\n")
            peer.send(WRONG)

    server = Answering("AUTH XOAUTH2", AUTH=answer)
    run(name, authority, server, tokens=["old", "new"])
    outcomes = {("old", "new"): "renewed once", ("old",): "not renewed", (): "no OAuth"}
    assert outcomes[tuple(sent)] == expected


@row("recipient `b@bücher.example`, server without SMTPUTF8", "A-label", "error", "error", "A-label")
def test_international_domain_is_sent_to_a_server_without_smtputf8(
    name: str, expected: str, authority: tuple[trustme.CA, Path]
) -> None:
    message = EmailMessage()
    message["To"] = "b@bücher.example"
    server = run(name, authority, Answering("8BITMIME"), recipient="b@bücher.example", message=message)
    is_sent = "RCPT TO:<b@xn--bcher-kva.example>" in server.heard and server.bodies
    assert ("A-label" if is_sent else "error") == expected


def arrives(server: Answering, octets: bytes) -> str:
    """Return how a message with a text part `octets` has arrived at a server that offers no 8BITMIME."""
    if not server.bodies:
        return "refused"
    if octets in server.bodies[0]:
        return "sent in 8 bits"

    parts = email.message_from_bytes(server.bodies[0].removesuffix(b".\r\n")).walk()
    found = [part.get_payload(decode=True) for part in parts if not part.is_multipart()]
    return "unchanged" if any(isinstance(each, bytes) and octets in each for each in found) else "changed"


@row(
    "signed part with 8 bits, server without 8BITMIME",
    "refused",
    "sent in 8 bits",
    "signature broken",
    "sent in 8 bits",
)
def test_signed_message_to_a_7bit_server(name: str, expected: str, authority: tuple[trustme.CA, Path]) -> None:
    # An encoded part is unchanged after it was decoded, but the signature covers the part as it was.
    message = email.message_from_bytes(SIGNED, policy=email.policy.default)
    server = run(name, authority, Answering(), message=message, octets=SIGNED)
    outcome = arrives(server, b"K\xc3\xb6rper")
    assert {"unchanged": "signature broken"}.get(outcome, outcome) == expected


@row(
    "octets that are invalid in their charset, server without 8BITMIME",
    "unchanged",
    "sent in 8 bits",
    "changed",
    "sent in 8 bits",
)
def test_octets_of_a_wrong_charset_to_a_7bit_server(
    name: str, expected: str, authority: tuple[trustme.CA, Path]
) -> None:
    octets = b"MIME-Version: 1.0\r\n" + part(b"a\xff b", charset="gb18030")
    message = email.message_from_bytes(octets, policy=email.policy.default)
    server = run(name, authority, Answering(), message=message, octets=octets)
    if name == "aiosmtplib" and sys.version_info >= (3, 13):
        expected = "unchanged"  # the `email` package of Python 3.13 keeps these octets
    assert arrives(server, b"a\xff b") == expected
