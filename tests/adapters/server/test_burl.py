"""Messages that the server fetches for BURL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Burl, Reply
from smtpcore_adapters import App, Message, Session
from tests.adapters.fakes import (
    CONFIG,
    EHLO,
    MAIL,
    QUIT,
    RCPT,
    MessageStore,
    Step,
    accepting,
)
from tests.adapters.playbook import StreamPlaybook, trusted

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


def fetching(*script: Step, app: App | None = None, **options: Any) -> tuple[StreamPlaybook, list[bytes], Fetcher]:
    store, fetcher = MessageStore(), Fetcher()
    app = accepting(store, fetcher) if app is None else app
    return trusted(app, **{"config": BURLS, **options}).send(*script).end(), store.bodies, fetcher


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
        dialogue, stored, fetcher = fetching(*segments)
        dialogue.expect(220, 250, 250, 250, *expected, 250, 250, 250, 221)
        assert stored == [*bodies, PARTS[b"bytes"]]
        assert len(fetcher.closed) == sum(name in script for name in (b"/stream", b"/broken", b"/text", b"/lf-stream"))


def test_message_handler_may_reply_before_the_end_of_a_burl_part() -> None:
    app = accepting(fetcher := Fetcher())

    @app.on("message")
    def decide(session: Session, message: Message) -> Reply:
        return Reply(250, "Taken unseen")

    dialogue, _, _ = fetching(ENVELOPE + burl("stream", " LAST") + burl("bytes", " LAST") + QUIT, app=app)
    dialogue.expect(220, 250, 250, 250, 250, 503, 221)
    dialogue, _, _ = fetching(ENVELOPE + burl("broken", " LAST") + QUIT, app=app)
    dialogue.expect(220, 250, 250, 250, 451, 221)
    assert fetcher.closed == ["stream", "broken"]


def test_burl_message_is_refused_without_a_message_handler() -> None:
    dialogue, _, _ = fetching(ENVELOPE + burl("bytes", " LAST") + QUIT, app=accepting(Fetcher()))
    dialogue.expect(220, 250, 250, 250, 554, 221)


@pytest.mark.parametrize(("handler", "urls"), [(False, ()), (True, ())])
def test_burl_is_offered_only_with_a_handler_and_a_url_scheme(handler: bool, urls: tuple[str, ...]) -> None:
    app = accepting(*[Fetcher()] * handler)
    for disabled in (CONFIG.disabled, frozenset[str]()):
        config = replace(BURLS, burl=urls, disabled=disabled)
        dialogue, _, _ = fetching(ENVELOPE + burl("bytes", " LAST") + QUIT, app=app, config=config)
        assert dialogue.codes == [220, 250, 250, 250, 502, 221]
        assert "BURL" not in dialogue.replies[1]


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
    dialogue, _, _ = fetching(client + ENVELOPE + burl(f"bytes{access}", " LAST") + QUIT)
    assert dialogue.codes == [220, 220, 250, 250, 250, code, 221]
    assert ("5.7.0" in dialogue.replies[5]) is (code == 554)


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

    dialogue, _, _ = fetching(ENVELOPE + burl("x", " LAST") + QUIT, app=app)
    dialogue.expect(220, 250, 250, 250, 550, 221)
    assert "no way to log out" in caplog.text


def test_refusal_limit_applies_to_burl() -> None:
    script = ENVELOPE + burl("broken", " LAST") + MAIL + RCPT + burl("bytes", " LAST")
    dialogue, stored, _ = fetching(script, config=replace(BURLS, max_refusals=1))
    assert dialogue.codes[-1] == 421
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


def test_async_iterator_with_aclose_is_closed_when_its_part_is_refused() -> None:
    closed: list[bool] = []

    class Pieces:
        def __aiter__(self) -> "Pieces":
            return self

        async def __anext__(self) -> bytes:
            return b"a\nb"

        async def aclose(self) -> None:
            closed.append(True)

    app = accepting(MessageStore())
    app.on("BURL")(lambda session, burl: Pieces())
    dialogue, _, _ = fetching(ENVELOPE + burl("x", " LAST") + QUIT, app=app)
    dialogue.expect(220, 250, 250, 250, 550, 221)
    assert closed == [True]


def test_burl_part_without_aclose_may_be_abandoned() -> None:
    class Endless:
        def __aiter__(self) -> "Endless":
            return self

        async def __anext__(self) -> bytes:
            return b"a\nb"

    app = accepting(MessageStore())
    app.on("BURL")(lambda session, burl: Endless())
    dialogue, _, _ = fetching(ENVELOPE + burl("x", " LAST") + QUIT, app=app)
    dialogue.expect(220, 250, 250, 250, 550, 221)


def test_refusal_limit_ends_the_session_before_a_burl_part_is_fetched() -> None:
    app = accepting(store := MessageStore())
    app.on("BURL")(lambda session, burl: pytest.fail("fetched although the limit is reached"))
    app.on("VRFY")(lambda session, vrfy: Reply(450, "Later"))
    config = replace(BURLS, max_refusals=1)
    dialogue, _, _ = fetching(ENVELOPE + b"VRFY x\r\n" + burl("x", " LAST"), app=app, config=config)
    assert dialogue.codes[-2:] == [450, 421]
    assert store.bodies == []
