"""`Forward` in front of real servers: they accept the client attributes that it sends, and store the messages."""

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from smtpcore_adapters import App, TlsMode
from smtpcore_adapters.forward import Forward
from tests.adapters.command import running as serve
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT
from tests.adapters.harness import Client, running
from tests.interop import relays, servers
from tests.interop.relays import Hop
from tests.interop.servers import RECIPIENTS, MailServer

ENVELOPE = MAIL + RCPT.replace(b"u@s.example", RECIPIENTS[0].encode()) + DATA


@pytest.fixture(scope="module")
def postfix() -> Iterator[MailServer]:
    with servers.server("postfix") as server:
        yield server


@contextmanager
def relay(server: MailServer, **options: Any) -> Iterator[Client]:
    """Connect to a relay in front of `server`. `options` are those of `Forward`."""
    app = App()
    app.include(Forward("127.0.0.1", server.port, tls=TlsMode.NONE, lmtp=server.lmtp, **options))
    with (
        running("asyncio", app, config=CONFIG, trusted=["127.0.0.0/8"]) as running_relay,
        running_relay.connect() as client,
    ):
        yield client.expect(220).send(EHLO).expect(250)
        client.send(QUIT).expect(221)


def deliver(client: Client, start: bytes = b"") -> str:
    """Deliver a message that begins with `start`, and return its marker."""
    marker = uuid4().hex
    client.send(ENVELOPE).expect(250, 250, 354).send(start + f"Subject: {marker}\r\n\r\n.\r\n".encode()).expect(250)
    return marker


def test_postfix_gets_each_client_by_xclient(postfix: MailServer) -> None:
    traces = []
    with relay(postfix, xclient=True) as client:
        for told in (b"NAME=one.example ADDR=203.0.113.1 PORT=5", b"ADDR=203.0.113.2"):
            client.send(b"XCLIENT " + told + b"\r\n" + EHLO).expect(220, 250)
            traces.append(postfix.message(deliver(client)).partition(b"\n\n")[0])

    assert b"(one.example [203.0.113.1])" in traces[0]
    assert b"(unknown [203.0.113.2])" in traces[1]


@pytest.mark.parametrize(
    "told",
    [b"NAME=one.example ADDR=203.0.113.5 PORT=5 PROTO=SMTP HELO=h.example IDENT=7 SOURCE=LOCAL", b"ADDR=203.0.113.5"],
)
def test_postfix_accepts_forwarded_client_attributes(postfix: MailServer, told: bytes) -> None:
    with relay(postfix, xforward=True) as client:
        client.send(b"XFORWARD " + told + b"\r\n").expect(250)
        assert postfix.message(deliver(client))
        assert postfix.message(deliver(client))
    assert "[203.0.113.5]" in postfix.log()


def test_postfix_does_not_join_white_space_at_the_start_of_a_message_to_a_field(postfix: MailServer) -> None:
    with relay(postfix) as client:
        message = postfix.message(deliver(client, b" (forged) by evil.example\r\n"))
    assert b"\n\n (forged) by evil.example\n" in message


def test_relay_announces_the_extensions_that_postfix_offers(postfix: MailServer) -> None:
    app = App()
    app.include(Forward("127.0.0.1", postfix.port, tls=TlsMode.NONE, announce=True))
    with running("asyncio", app, config=CONFIG) as running_relay, running_relay.connect() as client:
        offers = client.expect(220).send(EHLO).read()
    assert "DSN" in offers
    assert "SMTPUTF8" in offers
    assert "BINARYMIME" not in offers


def test_dovecot_gets_a_message_for_several_recipients() -> None:
    with servers.server("dovecot") as dovecot, relay(dovecot) as client:
        one, two = (b"RCPT TO:<" + name.encode() + b">\r\n" for name in RECIPIENTS[:2])
        marker = uuid4().hex
        client.send(MAIL + one + b"RCPT TO:<nobody@example.org>\r\n" + two + DATA).expect(250, 250, 550, 250, 354)
        client.send(f"Subject: {marker}\r\n\r\n.\r\n".encode()).expect(250)
        assert dovecot.message(marker)


def test_smtpcore_is_a_filter_before_the_queue_of_postfix(postfix: MailServer, tmp_path: Path) -> None:
    options = ["--deliver", f"smtp://127.0.0.1:{postfix.port}?xforward=true", "--trusted", "127.0.0.0/8"]
    message = "Message-ID: <{}>\r\n\r\n.\r\nGrüße\r\n"
    marker = uuid4().hex
    with (
        serve(tmp_path, *options, "--accept", "example.org") as middle,
        relays.relay("postfix", {"direct": Hop(middle.port, proxy_filter=True)}) as front,
        smtplib.SMTP("127.0.0.1", front.ports["direct"], timeout=servers.TIMEOUT) as smtp,
    ):
        smtp.ehlo()
        assert smtp.docmd("XCLIENT", "ADDR=203.0.113.9 NAME=client.example")[0] == 220
        smtp.ehlo("client.example")
        recipients = [RECIPIENTS[0], "nobody@example.org", "later@example.org", "a@elsewhere.example"]
        refused = smtp.sendmail("s@client.example", recipients, message.format(marker).encode(), ["BODY=8BITMIME"])
        assert {name: code for name, (code, _) in refused.items()} == {
            "nobody@example.org": 550,
            "later@example.org": 450,
            "a@elsewhere.example": 550,
        }
        stored = postfix.message(marker)
        assert stored.endswith("\n\n.\nGrüße\n".encode())
        assert b"client=client.example[203.0.113.9]" in postfix.log().encode()

        with pytest.raises(smtplib.SMTPDataError, match="No dead parrots"):
            smtp.sendmail("s@client.example", [RECIPIENTS[0]], f"X-Refuse: 1\r\n{message.format(1)}".encode())
    assert middle.errors == []
