"""The rows on envelopes and connections in the table of docs/sending.md: smtpcore, smtplib, aiosmtplib and nodemailer.

Each client sends messages, one after the other, to a server that a test plays: over a pool if the client has a pool,
and otherwise over one connection. The cells of the table are the expected results.
"""

import asyncio
import json
import os
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from itertools import count
from typing import Any

import aiosmtplib
import pytest

from smtpcore import ProtocolError
from smtpcore_adapters import TlsMode
from smtpcore_adapters.socket import Pool
from tests.adapters.peers import Answering, Peer, Serve, closing, resetting, serving
from tests.interop.clients import NODE_MODULES
from tests.interop.comparison import cells_of
from tests.playbook import OK

CLIENTS = ("smtpcore", "smtplib", "aiosmtplib", "nodemailer")
ERRORS = (OSError, ProtocolError, ValueError, smtplib.SMTPException, aiosmtplib.SMTPException)
OPTIONS: Any = {"tls": TlsMode.NONE, "hostname": "c.example"}


def message(*fields: tuple[str, str]) -> EmailMessage:
    new = EmailMessage()
    for name, value in fields or (("From", "a@c.example"), ("To", "b@s.example")):
        new[name] = value
    new.set_content("hi\n")
    return new


# The clients


def by_smtpcore(port: int, messages: Sequence[EmailMessage]) -> Iterator[str]:
    with Pool("127.0.0.1", port, size=1, **OPTIONS) as pool:
        for each in messages:
            try:
                pool.send(each).raise_for_refused()
                yield ""
            except ERRORS as exc:
                yield str(exc)


def by_smtplib(port: int, messages: Sequence[EmailMessage]) -> Iterator[str]:
    with smtplib.SMTP("127.0.0.1", port, "c.example") as client:
        for each in messages:
            try:
                client.send_message(each)
                yield ""
            except ERRORS as exc:
                yield str(exc)


def by_aiosmtplib(port: int, messages: Sequence[EmailMessage]) -> Iterator[str]:
    async def main() -> None:
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=port, start_tls=False, local_hostname="c.example"
        ) as client:
            for each in messages:
                try:
                    await client.send_message(each)
                    errors.append("")
                except ERRORS as exc:
                    errors.append(str(exc))

    errors: list[str] = []
    asyncio.run(main())
    yield from errors


NODEMAILER = """
const [port, messages] = process.argv.slice(1).map((text) => JSON.parse(text));
const options = { host: "127.0.0.1", port, ignoreTLS: true, pool: true, maxConnections: 1 };
const transport = require("nodemailer").createTransport(options);
(async () => {
  const errors = [];
  for (const each of messages) {
    try { await transport.sendMail(each); errors.push(""); } catch (error) { errors.push(error.message); }
  }
  console.log(JSON.stringify(errors));
  transport.close();
})();
"""


def by_nodemailer(port: int, messages: Sequence[EmailMessage]) -> Iterator[str]:
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "nodemailer").exists():
        pytest.skip("nodemailer is not installed by .ci/clients")

    fields = [{**{name.lower(): str(value) for name, value in each.items()}, "text": "hi"} for each in messages]
    done = subprocess.run(
        [node, "-e", NODEMAILER, json.dumps(port), json.dumps(fields)],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        timeout=30,
        check=True,
        text=True,
    )
    yield from json.loads(done.stdout)


SEND: dict[str, Callable[[int, Sequence[EmailMessage]], Iterator[str]]] = {
    "smtpcore": by_smtpcore,
    "smtplib": by_smtplib,
    "aiosmtplib": by_aiosmtplib,
    "nodemailer": by_nodemailer,
}


def errors_of(client: str, server: Serve, *messages: EmailMessage) -> list[str]:
    """Let a client send messages, and return the text of the error for each: an empty text if the message was sent."""
    with serving(server) as address:
        try:
            return list(SEND[client](address.port, messages))
        except ERRORS as exc:  # from the end of a block
            return [str(exc)]


def recipients_of(server: Answering) -> list[str]:
    return [line.partition("<")[2].rstrip(">") for line in server.heard if line.upper().startswith("RCPT")]


# The rows


def bcc(client: str) -> str:
    server = Answering()
    errors_of(client, server, message(("From", "a@c.example"), ("To", "b@s.example"), ("Bcc", "c@s.example")))
    is_hidden = b"c@s.example" not in b"".join(server.bodies)
    return "yes" if recipients_of(server) == ["b@s.example", "c@s.example"] and is_hidden else "no"


def group(client: str) -> str:
    server = Answering()
    errors_of(client, server, message(("From", "a@c.example"), ("To", "Team: b@s.example, c@s.example;")))
    return "yes" if recipients_of(server) == ["b@s.example", "c@s.example"] else "no"


def resent_twice(client: str) -> str:
    server = Answering()
    block = (("Resent-Date", "Thu, 1 Jan 2026 00:00:00 +0000"), ("Resent-From", "r@c.example"))
    new = message(("From", "a@c.example"), ("To", "b@s.example"), *block, *block)
    return "sent" if errors_of(client, server, new) == [""] else "an error"


def idle_connection(client: str) -> str:
    def serve(peer: Peer) -> None:
        server = Answering(END=closing(OK)) if next(connections) == 0 else Answering()
        server(peer)

    connections = count()
    return "yes" if errors_of(client, serve, message(), message()) == ["", ""] else "no"


def mail_421(client: str) -> str:
    """Return how many of six messages are sent to a server that ends connections after two, and the number of 421s."""

    def serve(peer: Peer) -> None:
        def answer(peer: Peer) -> None:
            if next(messages) == 2:
                refusals.append(421)
                peer.send(b"421 4.7.0 too many messages\r\n").close()
            peer.send(OK)

        messages = count()
        Answering(MAIL=answer)(peer)

    refusals: list[int] = []
    sent = errors_of(client, serve, *[message()] * 6).count("")
    return f"{sent} of 6, with {len(refusals)} refused"


def lost_reply(client: str) -> str:
    """Return how many copies arrive of a message whose reply is lost the first time, as the second of a connection."""

    def serve(peer: Peer) -> None:
        def answer(peer: Peer) -> None:
            if next(bodies) == 1:
                peer.reset()
            peer.send(OK)

        server = Answering(END=answer)
        servers.append(server)
        server(peer)

    servers: list[Answering] = []
    bodies = count()
    errors_of(client, serve, message(), message(("From", "a@c.example"), ("To", "twice@s.example")))
    return str(sum(body.count(b"twice@s.example") for server in servers for body in server.bodies))


def server_in_errors(client: str) -> str:
    with_port: list[str] = []

    def serve(peer: Peer) -> None:
        with_port.append(f"127.0.0.1:{peer.socket.getsockname()[1]}")
        Answering(MAIL=resetting(b""))(peer)

    (error,) = errors_of(client, serve, message())[:1]
    return "yes" if with_port[0] in error else "no"


def quit_at_the_end(client: str) -> str:
    server = Answering()
    errors_of(client, server, message())
    return "yes" if server.heard[-1].upper() == "QUIT" else "no"


ROWS: dict[str, Callable[[str], str]] = {
    "Bcc gets the message, and is not sent": bcc,
    "the members of a group in To get the message": group,
    "a message with two blocks of Resent- fields": resent_twice,
    "a message is sent after the server has closed the idle connection": idle_connection,
    "messages sent to a server that ends each connection with a 421 after two": mail_421,
    "copies of a message whose reply was lost": lost_reply,
    "an error for a lost connection names the server": server_in_errors,
    "QUIT ends the connection": quit_at_the_end,
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("row", ROWS)
def test_cell_of_the_comparison_is_true(row: str, client: str) -> None:
    assert ROWS[row](client) == cells_of(row)[CLIENTS.index(client)]
