"""XCLIENT and XFORWARD from trusted peers."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from smtpcore import Reply, Xclient, Xforward
from smtpcore.proxy import ProxyCommand, ProxyHeader
from smtpcore.trace import received
from smtpcore_adapters import Address, Limits, Session
from smtpcore_adapters.server._acceptor import Acceptor
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    MAIL,
    QUIT,
    RCPT,
    MessageStore,
    accepting,
)
from tests.adapters.playbook import TRUSTED, accepted, trusted

CLIENT = b"XCLIENT ADDR=198.51.100.7 PORT=1234 DESTADDR=IPV6:2001:db8::19 DESTPORT=587 HELO=h.example PROTO=ESMTP\r\n"


class SessionRecorder:
    """Records the peer, hello and identity of a session at each greeting and each MAIL."""

    def __init__(self) -> None:
        self.greeted: list[tuple[object, ...]] = []
        self.mails: list[tuple[object, ...]] = []

    def on_connect(self, session: Session, opened: object) -> None:
        self.greeted.append((session.peer, session.local, session.helo and str(session.helo), session.identity))

    def on_mail(self, session: Session, mail: object) -> None:
        self.mails.append((session.peer, session.helo and str(session.helo), session.identity))


# XCLIENT


def test_xclient_restarts_the_session_for_another_client() -> None:
    recorder = SessionRecorder()
    dialogue = trusted(accepting(recorder)).send(EHLO + CLIENT + EHLO + MAIL + QUIT)

    assert recorder.greeted == [
        (TRUSTED, Address("192.0.2.25", 25), None, None),
        (Address("198.51.100.7", 1234), Address("2001:db8::19", 587), "EHLO h.example", None),
    ]
    assert recorder.mails == [(Address("198.51.100.7", 1234), "EHLO c.example", None)]
    assert dialogue.codes == [220, 250, 220, 250, 250, 221]
    assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in dialogue.replies[1]


@pytest.mark.parametrize("peer", [Address("192.0.2.82", 40_000), Address("/run/client"), None])
@pytest.mark.parametrize("disabled", [CONFIG.disabled, frozenset[str]()])
def test_xclient_and_xforward_are_refused_from_untrusted_peers(peer: Address | None, disabled: frozenset[str]) -> None:
    recorder = SessionRecorder()
    script = EHLO + CLIENT + b"XFORWARD NAME=x\r\n" + MAIL + QUIT
    dialogue = trusted(accepting(recorder), peer=peer, config=replace(CONFIG, disabled=disabled)).send(script).end()
    assert dialogue.codes == [220, 250, 502, 502, 250, 221]
    assert "XCLIENT" not in dialogue.replies[1]
    assert "XFORWARD" not in dialogue.replies[1]
    assert [mail[0] for mail in recorder.mails] == [peer]


def test_xclient_over_the_proxy_protocol_is_refused() -> None:
    header = ProxyHeader(ProxyCommand.LOCAL)
    trusted(accepting(), proxies=["192.0.2.80"]).send(header.encode(version=2), EHLO + CLIENT + QUIT).expect(
        220, 250, 502, 221
    )


@pytest.mark.parametrize("reply", [Reply(554, "Not this one"), Reply(450, "Later")])
def test_session_ends_if_the_connect_handler_refuses_the_xclient_peer(reply: Reply) -> None:
    app = accepting()

    @app.on("connect")
    def refuse(session: Session, opened: object) -> Reply | None:
        return reply if session.peer == Address("198.51.100.7", 1234) else None

    trusted(app).send(EHLO + CLIENT + MAIL + CLIENT + EHLO + QUIT).expect(220, 250, reply.code, 503, 503, 503, 221)


def test_xclient_handler_may_set_the_greeting_or_refuse() -> None:
    app = accepting()

    @app.on("XCLIENT")
    def judge(session: Session, xclient: Xclient) -> Reply | None:
        return {"a": Reply(220, "Hello a"), "b": Reply(550, "Not b")}.get(xclient.attributes.get("NAME") or "")

    dialogue = trusted(app).send(EHLO + b"XCLIENT NAME=a\r\nXCLIENT NAME=c\r\nXCLIENT NAME=b\r\n" + MAIL + QUIT)
    assert [reply[:11] for reply in dialogue.replies[2:]] == [
        "220 s.examp",
        "220 s.examp",
        "550 5.0.0 N",
        "503 5.5.1 B",
        "221 2.0.0 s",
    ]
    assert "Hello a" in dialogue.replies[2]


def test_connect_handler_that_raises_after_xclient_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()

    @app.on("connect")
    def fail(session: Session, opened: object) -> None:
        if session.helo:
            raise RuntimeError("no idea")

    trusted(app).send(EHLO + CLIENT + MAIL).end().expect(220, 250, 421)
    assert "no idea" in caplog.text


@pytest.mark.parametrize(
    ("attributes", "peer", "helo", "identity"),
    [
        (["ADDR=[UNAVAILABLE]"], None, None, None),
        (["NAME=x"], TRUSTED, None, None),
        (["PORT=99"], TRUSTED, None, None),
        (["ADDR=IPV6:2001:DB8:0::1"], Address("2001:db8::1"), None, None),
        (["ADDR=198.51.100.7 PORT=[UNAVAILABLE]"], Address("198.51.100.7"), None, None),
        (["ADDR=198.51.100.7", "PORT=5"], Address("198.51.100.7", 5), None, None),
        (["HELO=h.example PROTO=SMTP"], TRUSTED, "HELO h.example", None),
        (["HELO=h.example", "PROTO=smtp"], TRUSTED, "HELO h.example", None),
        (["HELO=h.example"], TRUSTED, "EHLO h.example", None),
        (["HELO=My+20PC"], TRUSTED, "EHLO My PC", None),
        (["HELO=tab+09"], TRUSTED, None, None),
        (["HELO=[UNAVAILABLE]"], TRUSTED, None, None),
        (["LOGIN=tim"], TRUSTED, None, "tim"),
        (["LOGIN=tim", "ADDR=198.51.100.7"], Address("198.51.100.7"), None, "tim"),
        (["LOGIN=tim", "LOGIN=[UNAVAILABLE]"], TRUSTED, None, None),
        (["LOGIN=tim", "LOGIN="], TRUSTED, None, None),
    ],
)
def test_attributes_of_several_xclient_commands_are_combined(
    attributes: list[str], peer: Address | None, helo: str | None, identity: str | None
) -> None:
    recorder = SessionRecorder()
    trusted(accepting(recorder)).send(*(f"XCLIENT {text}\r\n".encode() for text in attributes), EHLO + MAIL + QUIT)
    assert (*recorder.greeted[-1][:1], *recorder.greeted[-1][2:]) == (peer, helo, identity)
    assert recorder.mails == [(peer, "EHLO c.example", identity)]


@pytest.mark.parametrize(
    "attribute",
    [
        "ADDR=x",
        "ADDR=",
        "ADDR=1.2.3",
        "ADDR=2001:db8::1",
        "ADDR=IPV6:::1%25lo",
        "PORT=",
        "PORT=-1",
        "PORT=65536",
        "PROTO=UUCP",
    ],
)
def test_invalid_xclient_attribute_is_refused(attribute: str) -> None:
    recorder = SessionRecorder()
    trusted(accepting(recorder)).send(
        EHLO + f"XCLIENT {attribute}\r\nXCLIENT DEST{attribute}\r\n".encode() + MAIL
    ).end().expect(220, 250, 501, 501, 250)
    assert [mail[0] for mail in recorder.mails] == [TRUSTED]


def test_received_field_names_the_xclient_peer() -> None:
    app = accepting(MessageStore())
    fields: list[bytes] = []

    @app.on("DATA")
    def trace(session: Session, data: object) -> None:
        assert session.peer
        peer = ip_address(session.peer.host)
        fields.append(received(helo=session.helo, peer=peer, by="s.example", date=datetime.now(UTC), id="1"))

    trusted(app).send(CLIENT + EHLO + MAIL + RCPT + DATA + b".\r\n" + QUIT)
    assert fields[0].startswith(b"Received: from c.example ([198.51.100.7])\r\n")


def test_limits_per_address_count_the_xclient_peer() -> None:
    app = accepting()
    acceptor = Acceptor(app, config=CONFIG, trusted=["192.0.2.80"], limits=Limits(connections_per_address=1))

    outer = accepted(acceptor, TRUSTED).send(EHLO + CLIENT).expect(220, 250, 220)
    accepted(acceptor, TRUSTED).send(EHLO + CLIENT, QUIT).expect(220, 250, 421)
    accepted(acceptor, TRUSTED).send(EHLO + CLIENT.replace(b"100.7", b"100.8"), QUIT).expect(220, 250, 220, 221)
    accepted(acceptor, TRUSTED).send(EHLO + CLIENT, QUIT).expect(220, 250, 421)
    outer.send(CLIENT.replace(b".7", b".9"), QUIT).expect(220, 221)

    # Ended connections are no longer counted.
    accepted(acceptor, TRUSTED).send(EHLO + CLIENT, QUIT).expect(220, 250, 220, 221)


# XFORWARD


def test_xforward_attributes_apply_to_one_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpcore")
    seen: list[dict[str, str | None]] = []
    app = accepting(MessageStore())

    @app.on("MAIL")
    def look(session: Session, mail: object) -> None:
        seen.append(dict(session.forwarded))

    script = EHLO + b"XFORWARD NAME=spike.example ADDR=[UNAVAILABLE]\r\nXFORWARD SOURCE=REMOTE NAME=x\r\n"
    dialogue = trusted(app).send(script + MAIL + RCPT + DATA + b".\r\n" + MAIL + b"XFORWARD NAME=y\r\n" + QUIT)
    assert seen == [{"NAME": "x", "ADDR": None, "SOURCE": "REMOTE"}, {}]
    dialogue.expect(220, 250, 250, 250, 250, 250, 354, 250, 250, 503, 221)
    assert "forwarded: {'NAME': 'x', 'ADDR': None, 'SOURCE': 'REMOTE'}" in caplog.text


def test_xforward_handler_may_refuse() -> None:
    app = accepting()
    seen: list[object] = []

    @app.on("XFORWARD")
    def refuse(session: Session, xforward: Xforward) -> Reply:
        return Reply(550, "I log nothing", enhanced="5.7.0")

    app.on("MAIL")(lambda session, mail: seen.append(dict(session.forwarded)))
    trusted(app).send(EHLO + b"XFORWARD NAME=x\r\n" + MAIL + QUIT).expect(220, 250, 550, 250, 221)
    assert seen == [{}]
