"""The envelope has the facts about a message before its body, and can be written as JSON."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smtpcore import Extension, Mail, Parameter, Path, Rcpt, Reply
from smtpcore.parameters import BodyType, Notify
from smtpcore_adapters import Address, Message, Session, Tls
from smtpcore_adapters.stores import Envelope
from tests.adapters.fakes import CONFIG, DATA, EHLO, accepting
from tests.adapters.playbook import session

PEER = Address("192.0.2.1", 5)


def envelope_of(script: bytes, **options: Any) -> Envelope:
    """Return the envelope of a message that begins after `script`."""
    app, seen = accepting(), list[Envelope]()

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        seen.append(Envelope.of(session, message))
        return Reply(250, "seen")

    session(app, peer=PEER, config=replace(CONFIG, disabled=frozenset()), **options).send(script + DATA, b".\r\n").end()
    (envelope,) = seen
    return envelope


FULL = (
    b"MAIL FROM:<a@c.example> SIZE=1000 BODY=8BITMIME SMTPUTF8 MT-PRIORITY=-2 ENVID=x\r\n"
    b"RCPT TO:<u@s.example> NOTIFY=FAILURE,DELAY\r\nRCPT TO:<@r.example:v@s.example>\r\n"
)


def test_envelope_has_the_facts_of_the_session_and_the_transaction() -> None:
    envelope = envelope_of(EHLO + FULL)
    assert envelope.id.startswith(f"{envelope.session}.")
    assert (envelope.sender, envelope.addresses) == ("a@c.example", ("u@s.example", "v@s.example"))
    assert (envelope.size, envelope.is_binary, envelope.is_lmtp) == (1000, False, False)
    assert (envelope.peer, envelope.helo, envelope.protocol) == (PEER, "c.example", "UTF8SMTP")
    assert (envelope.tls, envelope.identity, envelope.priority) == (None, None, -2)
    assert envelope.recipients[0].params.notify == frozenset({Notify.FAILURE, Notify.DELAY})
    assert abs(datetime.now(UTC) - envelope.received_at) < timedelta(minutes=1)
    assert envelope.received.startswith(b"Received: from c.example")
    assert envelope.delivery_fields == (
        b"Return-Path: <a@c.example>\r\nX-Original-To: u@s.example\r\nX-Original-To: v@s.example\r\n"
        + envelope.received
    )


def test_key_differs_for_each_message() -> None:
    one, other = (envelope_of(EHLO + FULL) for _ in range(2))
    assert len(one.key) == 32
    assert one.key != other.key


def test_lmtp_session_expects_a_reply_for_each_recipient() -> None:
    app, seen = accepting(), list[bool]()

    @app.on("message")
    async def look(session: Session, message: Message) -> list[Reply]:
        seen.append(Envelope.of(session, message).is_lmtp)
        return [Reply(250, "seen")]

    script = b"LHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<u@s.example>\r\n" + DATA
    session(app, config=replace(CONFIG, lmtp=True)).send(script, b".\r\n").end()
    assert seen == [True]


MINIMAL = Envelope(
    id="1",
    mail=Mail(Path("")),
    recipients=(Rcpt(Path("u@s.example")),),
    received_at=datetime(2026, 1, 2, tzinfo=UTC),
    protocol="SMTP",
    hostname="s.example",
)


@pytest.mark.parametrize(
    "envelope",
    [
        MINIMAL,
        replace(MINIMAL, tls=Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384"), identity="tim", peer=PEER, helo="c.example"),
        envelope_of(EHLO + FULL),
    ],
)
def test_envelope_survives_json(envelope: Envelope) -> None:
    again = Envelope.from_json(json.loads(json.dumps(envelope.as_json())))
    assert replace(again, mail=envelope.mail, recipients=envelope.recipients) == envelope
    assert str(again.mail) == str(envelope.mail)
    assert again.mail.params == envelope.mail.params
    assert [rcpt.params for rcpt in again.recipients] == [rcpt.params for rcpt in envelope.recipients]
    assert again.addresses == envelope.addresses


def test_parameters_of_own_extensions_survive_json() -> None:
    ticket = Parameter("XTICKET", int, int, octets=20)
    value = MINIMAL.as_json()
    value["sender"]["parameters"] = {"XTICKET": "5", "XOTHER": "text", "XFLAG": True, "BODY": "BINARYMIME"}
    envelope = Envelope.from_json(value, extensions=[Extension(keyword="XTICKETS", mail=(ticket,))])
    assert ticket.of(envelope.mail.params) == 5
    assert dict(envelope.mail.params) == {"XTICKET": 5, "XOTHER": "text", "XFLAG": True, "BODY": "BINARYMIME"}
    assert Envelope.from_json(value).mail.params.body is BodyType.BINARYMIME


@pytest.mark.parametrize("name", MINIMAL.as_json())
def test_value_that_is_not_an_envelope_is_a_value_error(name: str) -> None:
    value = MINIMAL.as_json()
    with pytest.raises(ValueError, match="is not an envelope"):
        Envelope.from_json({key: item for key, item in value.items() if key != name})
    for wrong in (5, None, "x", [], {}, [5], ["x", 5, 5], {"address": 5}, {"address": "a b", "parameters": {}}):
        with suppress(ValueError):
            Envelope.from_json({**value, name: wrong})
