"""The rows on features in the table of docs/sending.md: smtpcore, smtplib, aiosmtplib and nodemailer.

Each client does the same work in the way that its documentation describes. The cells of the table are the results.
"""

import asyncio
import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiosmtplib
import dkim  # type: ignore[import-untyped]
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from smtpcore_adapters import TlsMode
from smtpcore_adapters.asyncio import send as send_on_asyncio
from smtpcore_adapters.socket import Pool, send
from tests.adapters.command import run_in_process
from tests.adapters.harness import TIMEOUT
from tests.adapters.peers import Answering, Peer, closing, serving
from tests.interop import test_comparison, test_comparison_sending
from tests.interop.clients import NODE_MODULES
from tests.interop.comparison import cells_of
from tests.paths import DOCS
from tests.playbook import GREETING

CLIENTS = ("smtpcore", "smtplib", "aiosmtplib", "nodemailer")
ERRORS = (OSError, TypeError, ValueError, smtplib.SMTPException, aiosmtplib.SMTPException)
SENDER, RECIPIENT = "a@c.example", "b@s.example"
ENVELOPE: Any = {"sender": SENDER, "recipients": RECIPIENT}
OPTIONS: Any = {"tls": TlsMode.NONE, "hostname": "c.example"}
BODY = b"Subject: hi\r\n\r\nhi\r\n"


def message() -> EmailMessage:
    new = EmailMessage()
    new["From"], new["To"], new["Subject"] = SENDER, RECIPIENT, "hi"
    new.set_content("hi\n")
    return new


def node(script: str, *arguments: object) -> str:
    """Run a program of Node.js, in which `options` are those of a transport, and return its output."""
    found = shutil.which("node")
    if found is None or not (NODE_MODULES / "nodemailer").exists():
        pytest.skip("nodemailer is not installed by .ci/clients")

    start = (
        "const nodemailer = require('nodemailer'), args = process.argv.slice(1).map((text) => JSON.parse(text));"
        "const options = { host: '127.0.0.1', port: args[0], ignoreTLS: true };"
        "const mail = { from: 'a@c.example', to: 'b@s.example', subject: 'hi', text: 'hi' };"
        "const fail = (error) => { console.log(error.message); process.exitCode = 1; };"
    )
    done = subprocess.run(
        [found, "-e", start + script, *map(json.dumps, arguments)],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        timeout=TIMEOUT,
        text=True,
    )
    return done.stdout


def is_sent(server: Answering) -> str:
    return "yes" if any(b"hi\r\n" in body for body in server.bodies) else "no"


def signer(client: str) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; p=" + b"".join(public.splitlines()[1:-1])
    server = Answering()
    with serving(server) as address:
        if client == "smtpcore":
            sign = lambda octets: dkim.sign(octets, b"s", b"c.example", private)  # noqa: E731
            send(message(), host="127.0.0.1", port=address.port, sign=sign, **OPTIONS)
        elif client == "nodemailer":
            dkim_options = "options.dkim = { domainName: 'c.example', keySelector: 's', privateKey: args[1] };"
            node(f"{dkim_options} nodemailer.createTransport(options).sendMail(mail);", address.port, private.decode())
        else:
            names = {
                "smtplib": [*signature(smtplib.SMTP.send_message).parameters, *vars(smtplib.SMTP)],
                "aiosmtplib": [*signature(aiosmtplib.send).parameters, *vars(aiosmtplib.SMTP)],
            }[client]
            return "none" if not any("sign" in name or "dkim" in name for name in names) else "?"

    signed = server.bodies[0].removesuffix(b".\r\n")
    is_valid = dkim.verify(signed, dnsfunc=lambda name, timeout=5: record)
    return {"smtpcore": "any function", "nodemailer": "DKIM"}[client] if is_valid else "?"


def progress(client: str) -> str:
    if client == "smtpcore":
        reports: list[tuple[int, int | None]] = []
        with serving(Answering()) as address:
            send(
                BODY,
                host="127.0.0.1",
                port=address.port,
                progress=lambda sent, total: reports.append((sent, total)),
                **ENVELOPE,
                **OPTIONS,
            )
        return "yes" if reports[-1] == (len(BODY), len(BODY)) else "?"
    if client == "nodemailer":
        node("")  # skips the test without nodemailer
        sources = (NODE_MODULES / "nodemailer" / "dist" / "cjs").rglob("*.js")
        return "no" if not any("'progress'" in path.read_text() for path in sources) else "?"

    names = {"smtplib": dir(smtplib.SMTP), "aiosmtplib": [*signature(aiosmtplib.SMTP).parameters]}[client]
    return "no" if not any("progress" in name for name in names) else "?"


def connected_socket(client: str) -> str:
    server = Answering()
    with serving(server) as address:
        if client == "nodemailer":
            connect = "options.connection = require('net').connect(options.port, options.host);"
            node(f"{connect} nodemailer.createTransport(options).sendMail(mail);", address.port)
            return is_sent(server)

        sock = socket.create_connection(address)
        if client == "smtpcore":
            send(BODY, host="s.example", port=25, sock=sock, **ENVELOPE, **OPTIONS)
        elif client == "smtplib":
            sock.close()
            return "no" if "sock" not in signature(smtplib.SMTP).parameters else "?"
        else:
            asyncio.run(aiosmtplib.send(BODY, sender=SENDER, recipients=[RECIPIENT], sock=sock, start_tls=False))
    return is_sent(server)


@contextmanager
def unix_socket(server: Answering) -> Iterator[str]:
    def serve() -> None:
        with listener.accept()[0] as accepted, suppress(OSError, EOFError):
            server(Peer(accepted))

    with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(directory, "lmtp"))
        listener.bind(path)
        listener.listen()
        listener.settimeout(TIMEOUT)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        with socket.socket(socket.AF_UNIX) as last, suppress(OSError):
            last.connect(path)  # ends the thread if no client has connected
        thread.join(TIMEOUT)


def unix_path(client: str) -> str:
    def smtplib_client(kind: type[smtplib.SMTP], path: str) -> None:
        with kind(path) as client:
            client.sendmail(SENDER, [RECIPIENT], BODY)

    def sends(use: Callable[[str], object], lmtp: bool = False) -> bool:
        server = Answering()
        with unix_socket(server) as path, suppress(*ERRORS):
            use(path)
        return is_sent(server) == "yes"

    if client == "smtpcore":
        return "yes" if sends(lambda path: send(BODY, host="s.example", path=path, **ENVELOPE, **OPTIONS)) else "no"
    if client == "smtplib":
        is_smtp = sends(lambda path: smtplib_client(smtplib.SMTP, path))
        is_lmtp = sends(lambda path: smtplib_client(smtplib.LMTP, path))
        return {(False, True): "LMTP only"}[is_smtp, is_lmtp]
    if client == "aiosmtplib":
        options: Any = {"sender": SENDER, "recipients": [RECIPIENT], "start_tls": False}
        return "yes" if sends(lambda path: asyncio.run(aiosmtplib.send(BODY, socket_path=path, **options))) else "no"

    use = "nodemailer.createTransport({ ...options, ...args[1] }).sendMail(mail).catch(fail);"
    ways = [sends(lambda path, name=name: node(use, 1, {name: path})) for name in ("host", "path", "socketPath")]  # type: ignore[misc]
    return "yes" if any(ways) else "no"


def iterator(client: str) -> str:
    def pieces() -> Iterator[bytes]:
        yield from (BODY[:5], BODY[5:])

    server = Answering()
    with serving(server) as address, suppress(*ERRORS):
        match client:
            case "smtpcore":
                send(pieces(), host="127.0.0.1", port=address.port, **ENVELOPE, **OPTIONS)
            case "smtplib":
                _send_with_smtplib(address.port, pieces())
            case "aiosmtplib":
                asyncio.run(_send_with_aiosmtplib(address.port, pieces()))
            case _:
                pieces_of_node = "(function* () { yield 'Subject: hi\\r\\n'; yield '\\r\\nhi\\r\\n'; })()"
                node(_RAW.replace("PIECES", f"require('stream').Readable.from({pieces_of_node})"), address.port)
    return is_sent(server)


def async_iterator(client: str) -> str:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield BODY[:5]
        yield BODY[5:]

    async def send_with_smtpcore(port: int) -> None:
        await send_on_asyncio(pieces(), host="127.0.0.1", port=port, **ENVELOPE, **OPTIONS)

    server = Answering()
    with serving(server) as address, suppress(*ERRORS):
        match client:
            case "smtpcore":
                asyncio.run(send_with_smtpcore(address.port))
            case "smtplib":
                _send_with_smtplib(address.port, pieces())
            case "aiosmtplib":
                asyncio.run(_send_with_aiosmtplib(address.port, pieces()))
            case _:
                pieces_of_node = "(async function* () { yield 'Subject: hi\\r\\n'; yield '\\r\\nhi\\r\\n'; })()"
                node(_RAW.replace("PIECES", f"require('stream').Readable.from({pieces_of_node})"), address.port)
    return is_sent(server)


_RAW = """nodemailer.createTransport(options)
  .sendMail({ envelope: { from: "a@c.example", to: "b@s.example" }, raw: PIECES });"""


def _send_with_smtplib(port: int, body: Any) -> None:
    smtp = smtplib.SMTP("127.0.0.1", port, "c.example")
    try:
        smtp.sendmail(SENDER, [RECIPIENT], body)
    finally:
        smtp.close()  # `with` would wait 20 seconds for the reply to a QUIT that has become a part of the body


async def _send_with_aiosmtplib(port: int, body: Any) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="c.example") as smtp:
        await smtp.sendmail(SENDER, [RECIPIENT], body)


def pool(client: str) -> str:
    """Return the number of connections over which four messages were sent at the same time, with a limit of two."""
    greeted: list[int] = []

    def greet(peer: Peer) -> None:
        greeted.append(1)
        peer.send(GREETING)

    server = Answering(GREETING=greet)
    with serving(server) as address:
        if client == "smtpcore":
            with Pool("127.0.0.1", address.port, size=2, **OPTIONS) as connections:
                threads = [threading.Thread(target=connections.send, args=(message(),)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(TIMEOUT)
        elif client == "nodemailer":
            node(
                "const transport = nodemailer.createTransport({ ...options, pool: true, maxConnections: 2 });"
                "Promise.all([0, 1, 2, 3].map(() => transport.sendMail(mail))).then(() => transport.close());",
                address.port,
            )
        else:
            module: Any = {"smtplib": smtplib, "aiosmtplib": aiosmtplib}[client]
            return "no" if not any("pool" in name.lower() for name in dir(module)) else "?"
    assert len(server.bodies) == 4
    return "yes" if len(greeted) <= 2 else "no"


def next_mechanism(client: str) -> str:
    """Return whether a login succeeds where the server refuses its first mechanism with 504, over TLS."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def answer(peer: Peer) -> None:
        mechanism, *initial = server.heard[-1].split()[1:]
        if mechanism in refused:
            peer.send(b"504 5.5.4 not this one\r\n")
        elif mechanism == "LOGIN":
            if not initial:
                peer.send(b"334 VXNlcm5hbWU6\r\n").until(b"\r\n")
            peer.send(b"334 UGFzc3dvcmQ6\r\n").until(b"\r\n")
            peer.send(b"235 welcome\r\n")
        else:
            peer.send(b"235 welcome\r\n")

    def greet(peer: Peer) -> None:
        peer.start_tls(context)
        peer.send(GREETING)

    refused = ("CRAM-MD5", "PLAIN")
    server = Answering("AUTH CRAM-MD5 PLAIN LOGIN", GREETING=greet, AUTH=answer)
    with TemporaryDirectory() as directory, serving(server) as address:
        path = Path(directory, "ca.pem")
        authority.cert_pem.write_to_path(path)
        job = test_comparison.Job(address.port, path)
        job.login = ("tim", "secret")
        with suppress(*test_comparison.REFUSALS):
            test_comparison.CLIENTS[client](job)
    return "yes" if server.bodies else "no"


def exit_statuses(client: str) -> str:
    statuses: list[str] = []
    for refusal in (b"450 later\r\n", b"550 no\r\n"):
        server = Answering(RCPT=refusal, DATA=closing(b"503 no\r\n"))
        with serving(server) as address:
            if client == "smtpcore":
                arguments = ["--server", f"127.0.0.1:{address.port}", "--from", SENDER, "--to", RECIPIENT]
                status = run_in_process("send", *arguments, stdin=BODY).returncode
            elif client == "smtplib":
                text = f"{SENDER}\n{RECIPIENT}\nhi\n"
                status = _run(["-c", _SMTPLIB.format(port=address.port)], text)
            elif client == "aiosmtplib":
                text = f"127.0.0.1\n{address.port}\n{SENDER}\n{RECIPIENT}\nhi\n"
                status = _run(["-m", "aiosmtplib"], text)
            else:
                node("")  # skips the test without nodemailer
                package = json.loads((NODE_MODULES / "nodemailer" / "package.json").read_text())
                return "no command" if "bin" not in package else "?"
        statuses.append(str(status))
    return ", ".join(statuses)


# `python -m smtplib` always connects to port 25.
_SMTPLIB = (
    "import runpy, socket; connect = socket.create_connection;"
    "socket.create_connection = lambda address, *args, **options: connect(('127.0.0.1', {port}), *args, **options);"
    "runpy.run_module('smtplib', run_name='__main__')"
)


def _run(arguments: list[str], text: str) -> int:
    command = [sys.executable, *arguments]
    return subprocess.run(command, input=text, text=True, capture_output=True, timeout=TIMEOUT).returncode


ROWS: dict[str, Callable[[str], str]] = {
    "signs the octets that the server gets": signer,
    "reports the progress of a body": progress,
    "uses a connected socket of the program": connected_socket,
    "connects to a Unix socket by its path": unix_path,
    "body from an iterator": iterator,
    "body from an async iterator": async_iterator,
    "pool of connections": pool,
    "login where the first two mechanisms are refused with 504": next_mechanism,
    "exit status of the command if a recipient is refused with 450, and with 550": exit_statuses,
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("row", ROWS)
def test_cell_of_the_comparison_is_true(row: str, client: str) -> None:
    assert ROWS[row](client) == cells_of(row)[CLIENTS.index(client)]


def test_each_row_of_the_table_is_a_test() -> None:
    _, _, rest = (DOCS / "sending.md").read_text().partition("## Comparison\n")
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    titles = {line.strip("| ").split(" | ")[0] for line in lines[2:]}
    assert titles == {*test_comparison.ROWS, *test_comparison_sending.ROWS, *ROWS}
