"""XCLIENT and XFORWARD from trusted peers, ETRN, EXPN and VRFY handlers, and BURL."""

import logging
import smtplib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from smtpcore import Burl, ByMode, DeliverBy, Etrn, Expn, Notify, Rcpt, Reply, Ret, Vrfy, Xclient, Xforward
from smtpcore.proxy import ProxyCommand, ProxyHeader
from smtpcore.trace import received
from smtpcore_adapters import Address, App, Limits, Message, Session
from smtpcore_adapters.server._acceptor import Acceptor
from tests.adapters.command import TIMEOUT, running, split_trace
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    MAIL,
    QUIT,
    RCPT,
    FakeStream,
    MessageStore,
    Step,
    accepting,
    replies,
    step,
)

TRUSTED = Address("192.0.2.80", 40_000)
CLIENT = b"XCLIENT ADDR=198.51.100.7 PORT=1234 DESTADDR=IPV6:2001:db8::19 DESTPORT=587 HELO=h.example PROTO=ESMTP\r\n"


def run_session(app: App, *script: Step, peer: Address | None = TRUSTED, **options: Any) -> FakeStream:
    stream = FakeStream(*script, peer=peer)
    options = {"config": CONFIG, "trusted": ["192.0.2.80/31"], **options}
    step(Acceptor(app, **options).session_for(stream))
    return stream


def codes(stream: FakeStream) -> list[int]:
    return [int(reply[:3]) for reply in replies(stream.output)]


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
    stream = run_session(accepting(recorder), EHLO + CLIENT + EHLO + MAIL + QUIT)

    assert recorder.greeted == [
        (TRUSTED, Address("192.0.2.25", 25), None, None),
        (Address("198.51.100.7", 1234), Address("2001:db8::19", 587), "EHLO h.example", None),
    ]
    assert recorder.mails == [(Address("198.51.100.7", 1234), "EHLO c.example", None)]
    assert codes(stream) == [220, 250, 220, 250, 250, 221]
    assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in replies(stream.output)[1]


@pytest.mark.parametrize("peer", [Address("192.0.2.82", 40_000), Address("/run/client"), None])
@pytest.mark.parametrize("disabled", [CONFIG.disabled, frozenset[str]()])
def test_xclient_and_xforward_are_refused_from_untrusted_peers(peer: Address | None, disabled: frozenset[str]) -> None:
    recorder = SessionRecorder()
    script = EHLO + CLIENT + b"XFORWARD NAME=x\r\n" + MAIL + QUIT
    stream = run_session(accepting(recorder), script, peer=peer, config=replace(CONFIG, disabled=disabled))
    assert codes(stream) == [220, 250, 502, 502, 250, 221]
    assert "XCLIENT" not in replies(stream.output)[1]
    assert "XFORWARD" not in replies(stream.output)[1]
    assert [mail[0] for mail in recorder.mails] == [peer]


def test_xclient_over_the_proxy_protocol_is_refused() -> None:
    header = ProxyHeader(ProxyCommand.LOCAL)
    stream = run_session(accepting(), header.encode(version=2), EHLO + CLIENT + QUIT, proxies=["192.0.2.80"])
    assert codes(stream) == [220, 250, 502, 221]


@pytest.mark.parametrize("reply", [Reply(554, "Not this one"), Reply(450, "Later")])
def test_session_ends_if_the_connect_handler_refuses_the_xclient_peer(reply: Reply) -> None:
    app = accepting()

    @app.on("connect")
    def refuse(session: Session, opened: object) -> Reply | None:
        return reply if session.peer == Address("198.51.100.7", 1234) else None

    stream = run_session(app, EHLO + CLIENT + MAIL + CLIENT + EHLO + QUIT)
    assert codes(stream) == [220, 250, reply.code, 503, 503, 503, 221]


def test_xclient_handler_may_set_the_greeting_or_refuse() -> None:
    app = accepting()

    @app.on("XCLIENT")
    def judge(session: Session, xclient: Xclient) -> Reply | None:
        return {"a": Reply(220, "Hello a"), "b": Reply(550, "Not b")}.get(xclient.attributes.get("NAME") or "")

    stream = run_session(app, EHLO + b"XCLIENT NAME=a\r\nXCLIENT NAME=c\r\nXCLIENT NAME=b\r\n" + MAIL + QUIT)
    assert [reply[:11] for reply in replies(stream.output)[2:]] == [
        "220 s.examp",
        "220 s.examp",
        "550 5.0.0 N",
        "503 5.5.1 B",
        "221 2.0.0 s",
    ]
    assert "Hello a" in replies(stream.output)[2]


def test_connect_handler_that_raises_after_xclient_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()

    @app.on("connect")
    def fail(session: Session, opened: object) -> None:
        if session.helo:
            raise RuntimeError("no idea")

    assert codes(run_session(app, EHLO + CLIENT + MAIL)) == [220, 250, 421]
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
        (["HELO=not+20a+20host"], TRUSTED, None, None),
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
    run_session(accepting(recorder), *(f"XCLIENT {text}\r\n".encode() for text in attributes), EHLO + MAIL + QUIT)
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
    stream = run_session(
        accepting(recorder), EHLO + f"XCLIENT {attribute}\r\nXCLIENT DEST{attribute}\r\n".encode() + MAIL
    )
    assert codes(stream) == [220, 250, 501, 501, 250]
    assert [mail[0] for mail in recorder.mails] == [TRUSTED]


def test_received_field_names_the_xclient_peer() -> None:
    app = accepting(MessageStore())
    fields: list[bytes] = []

    @app.on("DATA")
    def trace(session: Session, data: object) -> None:
        assert session.peer
        peer = ip_address(session.peer.host)
        fields.append(received(helo=session.helo, peer=peer, by="s.example", date=datetime.now(UTC), id="1"))

    run_session(app, CLIENT + EHLO + MAIL + RCPT + DATA + b".\r\n" + QUIT)
    assert fields[0].startswith(b"Received: from c.example ([198.51.100.7])\r\n")


def test_limits_per_address_count_the_xclient_peer() -> None:
    app = accepting()
    acceptor = Acceptor(app, config=CONFIG, trusted=["192.0.2.80"], limits=Limits(connections_per_address=1))

    def another(client: bytes) -> FakeStream:
        return FakeStream(EHLO + client, QUIT, peer=TRUSTED)

    inner = [another(CLIENT), another(CLIENT.replace(b"100.7", b"100.8")), another(CLIENT)]
    outer = FakeStream(
        EHLO + CLIENT,
        lambda: [step(acceptor.session_for(stream)) for stream in inner],
        CLIENT.replace(b".7", b".9"),
        QUIT,
        peer=TRUSTED,
    )
    step(acceptor.session_for(outer))
    assert [codes(stream) for stream in inner] == [[220, 250, 421], [220, 250, 220, 221], [220, 250, 421]]
    assert codes(outer) == [220, 250, 220, 220, 221]

    # Ended connections are no longer counted.
    last = another(CLIENT)
    step(acceptor.session_for(last))
    assert codes(last) == [220, 250, 220, 221]


# XFORWARD


def test_xforward_attributes_apply_to_one_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpcore")
    seen: list[dict[str, str | None]] = []
    app = accepting(MessageStore())

    @app.on("MAIL")
    def look(session: Session, mail: object) -> None:
        seen.append(dict(session.forwarded))

    script = EHLO + b"XFORWARD NAME=spike.example ADDR=[UNAVAILABLE]\r\nXFORWARD SOURCE=REMOTE NAME=x\r\n"
    stream = run_session(app, script + MAIL + RCPT + DATA + b".\r\n" + MAIL + b"XFORWARD NAME=y\r\n" + QUIT)
    assert seen == [{"NAME": "x", "ADDR": None, "SOURCE": "REMOTE"}, {}]
    assert codes(stream) == [220, 250, 250, 250, 250, 250, 354, 250, 250, 503, 221]
    assert "forwarded: {'NAME': 'x', 'ADDR': None, 'SOURCE': 'REMOTE'}" in caplog.text


def test_xforward_handler_may_refuse() -> None:
    app = accepting()
    seen: list[object] = []

    @app.on("XFORWARD")
    def refuse(session: Session, xforward: Xforward) -> Reply:
        return Reply(550, "I log nothing", enhanced="5.7.0")

    app.on("MAIL")(lambda session, mail: seen.append(dict(session.forwarded)))
    assert codes(run_session(app, EHLO + b"XFORWARD NAME=x\r\n" + MAIL + QUIT)) == [220, 250, 550, 250, 221]
    assert seen == [{}]


# ETRN, EXPN and VRFY


def test_etrn_and_expn_are_offered_with_a_handler() -> None:
    """R5321-3.5.1-01"""
    app = accepting()

    @app.on("ETRN")
    def start(session: Session, etrn: Etrn) -> Reply:
        return Reply(253, f"7 messages for {etrn.argument} started", enhanced="2.5.0")

    @app.on("EXPN")
    def expand(session: Session, expn: Expn) -> Reply:
        return Reply(250, "<a@s.example>", "<b@s.example>", enhanced="2.1.5")

    stream = run_session(app, EHLO + b"ETRN example.org\r\nEXPN list\r\n" + QUIT)
    hello, queue, members = replies(stream.output)[1:4]
    assert "250-ETRN" in hello
    assert "250-EXPN" in hello
    assert queue == "253 2.5.0 7 messages for example.org started"
    assert members == "250-2.1.5 <a@s.example>\n250 2.1.5 <b@s.example>"

    stream = run_session(accepting(), EHLO + b"ETRN example.org\r\nEXPN list\r\n" + QUIT)
    assert codes(stream) == [220, 250, 502, 502, 221]


@pytest.mark.parametrize(("argument", "code"), [("tim", "252 2.6.8 "), ("tim SMTPUTF8", "250 2.1.5 ")])
def test_non_ascii_vrfy_reply_is_sent_only_with_smtputf8(argument: str, code: str) -> None:
    """R6531-3.7.4.2-02, R6531-3.7.4.2-03"""
    app = accepting()

    @app.on("VRFY")
    def verify(session: Session, vrfy: Vrfy) -> Reply:
        return Reply(250, "<t\u00efm@s.example>", enhanced="2.1.5")

    stream = run_session(app, EHLO + f"VRFY {argument}\r\n".encode() + QUIT)
    assert replies(stream.output)[2].startswith(code)


def test_ehlo_name_that_does_not_match_the_peer_is_accepted() -> None:
    """R5321-4.1.4-06, R5321-4.1.4-07"""
    app = accepting()
    seen: list[tuple[str, str]] = []
    app.on("EHLO")(lambda session, ehlo: seen.append((ehlo.domain, session.peer.host)))
    stream = run_session(app, b"EHLO [203.0.113.9]\r\n" + MAIL + RCPT + QUIT)
    assert seen == [("[203.0.113.9]", "192.0.2.80")]
    assert codes(stream) == [220, 250, 250, 250, 221]


def test_handlers_receive_typed_parameters_of_enabled_extensions() -> None:
    seen: list[object] = []
    app = App()
    app.on("MAIL")(lambda session, mail: seen.append((mail.params.ret, mail.params.by)))

    @app.on("RCPT")
    def take(session: Session, rcpt: Rcpt) -> Reply:
        seen.append(rcpt.params.notify)
        return Reply(250)

    mail = b"MAIL FROM:<a@c.example> RET=HDRS BY=120;R\r\n"
    script = EHLO + mail + b"RCPT TO:<u@s.example> NOTIFY=FAILURE,DELAY\r\n" + QUIT
    config = replace(CONFIG, disabled=CONFIG.disabled - {"DSN", "DELIVERBY"}, min_by_time=60)
    stream = run_session(app, script, config=config)
    assert codes(stream) == [220, 250, 250, 250, 221]
    assert seen == [(Ret.HDRS, DeliverBy(120, ByMode.RETURN)), frozenset({Notify.FAILURE, Notify.DELAY})]
    assert codes(run_session(app, script)) == [220, 250, 555, 503, 221]
    assert {"DSN", "DELIVERBY 60"} <= {line[4:] for line in replies(stream.output)[1].splitlines()}


# BURL

URL = "imap://u@s.example/outbox;uid=1"
PARTS = {b"bytes": b"From: u\r\n\r\nHi\r\n", b"empty": b"", b"lf": b"a\nb\r\n", b"big": b"x" * 70_000 + b"\r\n"}
BURLS = replace(CONFIG, burl=("imap",), max_message_size=65_536, max_text_line=100_000)


class Fetcher:
    """A BURL handler that returns a body or fails, as the last part of the URL says."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def on_burl(self, session: Session, burl: Burl) -> object:
        way = burl.uri.rpartition("/")[2].partition(";")[0]
        if way == "refused":
            return Reply(554, "No such message", enhanced="5.6.6")
        if way == "wrong":
            return "text"
        if way == "positive":
            return Reply(250, "Trust me")
        if way in ("stream", "broken", "text", "lf-stream"):
            return self.stream(way)

        return PARTS.get(way.encode())

    async def stream(self, way: str) -> AsyncIterator[bytes]:
        try:
            yield b"From: u\r\n"
            yield b""
            if way == "broken":
                raise OSError("the mailbox is gone")
            if way == "text":
                yield "text"  # type: ignore[misc]
            if way == "lf-stream":
                yield b"a\nb\r\n"
            for _ in range(3):
                yield b"line\r\n"
        finally:
            self.closed.append(way)


def burl(way: str, last: str = "") -> bytes:
    return f"BURL imap://s.example/{way}{last}\r\n".encode()


def fetching(*script: Step, app: App | None = None, **options: Any) -> tuple[FakeStream, list[bytes], Fetcher]:
    store, fetcher = MessageStore(), Fetcher()
    app = accepting(store, fetcher) if app is None else app
    stream = run_session(app, *script, **{"config": BURLS, **options})
    return stream, store.bodies, fetcher


ENVELOPE = EHLO + MAIL + RCPT


@pytest.mark.parametrize(
    ("script", "expected", "bodies"),
    [
        (burl("bytes", " LAST"), [250], [PARTS[b"bytes"]]),
        (burl("stream", " LAST"), [250], [b"From: u\r\nline\r\nline\r\nline\r\n"]),
        (
            burl("bytes") + b"BDAT 3\r\nabc" + burl("bytes") + b"BDAT 0 LAST\r\n",
            [250] * 4,
            [PARTS[b"bytes"] + b"abc" + PARTS[b"bytes"]],
        ),
        (b"BDAT 3\r\nabc" + burl("empty", " LAST"), [250, 250], [b"abc"]),
        (burl("empty", " LAST"), [250], [b""]),
        (burl("refused", " LAST"), [554], []),
        (burl("unknown", " LAST"), [554], []),
        (burl("positive", " LAST"), [451], []),
        (burl("wrong", " LAST"), [451], []),
        (burl("broken", " LAST"), [451], []),
        (burl("text", " LAST"), [451], []),
        (burl("lf", " LAST"), [550], []),
        (burl("lf-stream", " LAST"), [550], []),
        (burl("big", " LAST"), [552], []),
        (burl("broken") + b"BDAT 0 LAST\r\nRSET\r\n", [451, 503, 250], []),
        (burl("refused") + burl("bytes", " LAST") + b"RSET\r\n", [554, 503, 250], []),
        (burl("bytes") + burl("refused") + b"BDAT 0 LAST\r\nRSET\r\n", [250, 554, 503, 250], []),
        (burl("bytes") + burl("broken", " LAST"), [250, 451], []),
        (burl("bytes") + burl("lf") + b"RSET\r\n", [250, 550, 250], []),
        (burl("bytes") + b"RSET\r\n", [250, 250], []),
    ],
)
def test_burl_message_consists_of_the_fetched_parts(script: bytes, expected: list[int], bodies: list[bytes]) -> None:
    after = MAIL + RCPT + burl("bytes", " LAST") + QUIT
    for segments in ([ENVELOPE + script + after], [bytes([octet]) for octet in ENVELOPE + script + after]):
        stream, stored, fetcher = fetching(*segments)
        assert codes(stream) == [220, 250, 250, 250, *expected, 250, 250, 250, 221]
        assert stored == [*bodies, PARTS[b"bytes"]]
        assert len(fetcher.closed) == sum(name in script for name in (b"/stream", b"/broken", b"/text", b"/lf-stream"))


def test_burl_with_a_message_handler_that_replies_early() -> None:
    app = accepting(fetcher := Fetcher())

    @app.on("message")
    def decide(session: Session, message: Message) -> Reply:
        return Reply(250, "Taken unseen")

    stream, _, _ = fetching(ENVELOPE + burl("stream", " LAST") + burl("bytes", " LAST") + QUIT, app=app)
    assert codes(stream) == [220, 250, 250, 250, 250, 503, 221]
    stream, _, _ = fetching(ENVELOPE + burl("broken", " LAST") + QUIT, app=app)
    assert codes(stream) == [220, 250, 250, 250, 451, 221]
    assert fetcher.closed == ["stream", "broken"]


def test_burl_message_is_refused_without_a_message_handler() -> None:
    stream, _, _ = fetching(ENVELOPE + burl("bytes", " LAST") + QUIT, app=accepting(Fetcher()))
    assert codes(stream) == [220, 250, 250, 250, 554, 221]


@pytest.mark.parametrize(("handler", "urls"), [(False, ("imap",)), (True, ())])
def test_burl_is_offered_only_with_a_handler_and_a_url_scheme(handler: bool, urls: tuple[str, ...]) -> None:
    app = accepting(*[Fetcher()] * handler)
    for disabled in (CONFIG.disabled, frozenset[str]()):
        config = replace(BURLS, burl=urls, disabled=disabled)
        stream, _, _ = fetching(ENVELOPE + burl("bytes", " LAST") + QUIT, app=app, config=config)
        assert codes(stream) == [220, 250, 250, 250, 502, 221]
        assert "BURL" not in replies(stream.output)[1]


@pytest.mark.parametrize(
    ("login", "access", "code"),
    [
        ("tim", ";urlauth=submit+tim:internal:9135", 250),
        ("tim", ";URLAUTH=SUBMIT+tim:internal:9135", 250),
        ("t m", ";urlauth=submit+t%20m:internal:9135", 250),
        ("tim", ";urlauth=user+tom:internal:9135", 250),
        ("tim", ";urlauth=anonymous:internal:9135", 250),
        ("", ";urlauth=submit+tim:internal:9135", 554),
        ("tom", ";urlauth=submit+tim:internal:9135", 554),
        ("tim", ";urlauth=submit+tom:x:1;urlauth=submit+tim:internal:9135", 554),
        ("tim", ";urlauth=submit+Tim:internal:9135", 554),
    ],
)
def test_urlauth_for_a_submitter_is_refused_for_other_identities(login: str, access: str, code: int) -> None:
    """R4468-3.3-01"""
    client = b"XCLIENT LOGIN=" + login.replace(" ", "+20").encode() + b"\r\n"
    stream, _, _ = fetching(client + ENVELOPE + burl(f"bytes{access}", " LAST") + QUIT)
    assert codes(stream) == [220, 220, 250, 250, 250, code, 221]
    assert ("5.7.0" in replies(stream.output)[5]) is (code == 554)


def test_exception_while_closing_a_burl_part_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting(MessageStore())

    @app.on("BURL")
    async def fetch(session: Session, burl: Burl) -> AsyncIterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                yield b"a\nb"
                yield b"c"
            finally:
                raise OSError("no way to log out")

        return pieces()

    stream, _, _ = fetching(ENVELOPE + burl("x", " LAST") + QUIT, app=app)
    assert codes(stream) == [220, 250, 250, 250, 550, 221]
    assert "no way to log out" in caplog.text


def test_refusal_limit_applies_to_burl() -> None:
    script = ENVELOPE + burl("broken", " LAST") + MAIL + RCPT + burl("bytes", " LAST")
    stream, stored, _ = fetching(script, limits=Limits(refusals=1))
    assert codes(stream)[-1] == 421
    assert stored == []


def test_burl_part_may_be_an_async_iterator_without_aclose() -> None:
    class Pieces:
        def __init__(self) -> None:
            self.left = [b"a\r\n", b"b\r\n"]

        def __aiter__(self) -> "Pieces":
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    app = accepting(store := MessageStore())
    app.on("BURL")(lambda session, burl: Pieces())
    fetching(ENVELOPE + burl("x", " LAST") + QUIT, app=app)
    assert store.bodies == [b"a\r\nb\r\n"]


def test_burl_part_without_aclose_may_be_abandoned() -> None:
    class Endless:
        def __aiter__(self) -> "Endless":
            return self

        async def __anext__(self) -> bytes:
            return b"a\nb"

    app = accepting(MessageStore())
    app.on("BURL")(lambda session, burl: Endless())
    stream, _, _ = fetching(ENVELOPE + burl("x", " LAST") + QUIT, app=app)
    assert codes(stream) == [220, 250, 250, 250, 550, 221]


# Command line


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_trusted_option_enables_xclient(tmp_path: Path, backend: str) -> None:
    arguments = ["--trusted", "127.0.0.0/8", "--auth", "tim:tans", "--require-auth", "--allow-plaintext-auth"]
    with running(tmp_path, *arguments, "--backend", backend) as server:
        with smtplib.SMTP("127.0.0.1", server.port, "proxy.example", timeout=TIMEOUT) as smtp:
            smtp.ehlo()
            assert smtp.has_extn("xclient")
            assert smtp.docmd("XCLIENT", "ADDR=IPV6:2001:db8::7 LOGIN=tom")[0] == 220
            smtp.ehlo("c.example")
            smtp.sendmail("a@c.example", ["b@s.example"], b"hello\r\n")
        (message,) = server.messages()

    trace, content = split_trace(message)
    assert content == b"hello\r\n"
    assert b"Received: from c.example ([IPv6:2001:db8::7])\r\n" in trace
    assert b" with ESMTPA id " in trace


def test_xclient_is_disabled_by_default_on_the_command_line(tmp_path: Path) -> None:
    with running(tmp_path) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("xclient")
        assert smtp.docmd("XCLIENT", "ADDR=192.0.2.7")[0] == 502


def test_refusal_limit_ends_the_session_before_a_burl_part_is_fetched() -> None:
    app = accepting(store := MessageStore())
    app.on("BURL")(lambda session, burl: pytest.fail("fetched although the limit is reached"))
    app.on("VRFY")(lambda session, vrfy: Reply(450, "Later"))
    stream, _, _ = fetching(ENVELOPE + b"VRFY x\r\n" + burl("x", " LAST"), app=app, limits=Limits(refusals=1))
    assert codes(stream)[-2:] == [450, 421]
    assert store.bodies == []
