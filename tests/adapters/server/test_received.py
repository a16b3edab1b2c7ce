"""The `Received:` field of a message that a session receives."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from smtpcore import Reply
from smtpcore_adapters import Address, App, Message, Session
from smtpcore_adapters.server._received import address_of_peer, received_by
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT, accepting
from tests.adapters.playbook import session


def field_of(script: bytes, app: App, peer: Address | None = None) -> str:
    """Run a session that receives one message, and return the field of that message without its folding."""
    fields: list[bytes] = []

    @app.on("message")
    async def receive(session: Session, message: Message) -> Reply:
        await message.read()
        fields.append(received_by(session, message))
        return Reply(250)

    config = replace(CONFIG, disabled=CONFIG.disabled - {"MT-PRIORITY"})
    session(app, peer=peer, config=config).send(EHLO + script + DATA + b".\r\n" + QUIT)
    (field,) = fields
    return " ".join(field.decode().split())


def test_received_field_names_both_ends_the_protocol_and_the_recipient() -> None:
    field = field_of(MAIL + RCPT, accepting(), Address("192.0.2.1", 5))
    assert field.startswith("Received: from c.example ([192.0.2.1]) by s.example")
    assert " with ESMTP id " in field
    assert "for <u@s.example>" in field
    assert "PRIORITY" not in field


def test_received_field_names_no_recipient_of_several() -> None:
    assert "for <" not in field_of(MAIL + RCPT + b"RCPT TO:<v@s.example>\r\n", accepting())


def test_received_field_has_a_requested_priority() -> None:
    field = field_of(b"MAIL FROM:<a@c.example> MT-PRIORITY=-3\r\n" + RCPT, accepting())
    assert "PRIORITY -3" in field


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("/run/smtp", None),
    ],
)
def test_address_of_a_peer_is_an_ip_address_or_none(host: str, expected: str | None) -> None:
    assert address_of_peer(Address(host)) == (ip_address(expected) if expected else None)
    assert address_of_peer(None) is None
