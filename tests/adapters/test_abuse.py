"""Clients that mean no good, and what the session loop has against each of them."""

import asyncio
import logging
import ssl
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Command, ConnectionOpened, Rcpt, Reply
from smtpcore_adapters import (
    DROP,
    Address,
    App,
    Drop,
    LimitReached,
    Limits,
    Message,
    Observed,
    Session,
    SessionClosed,
    Timeouts,
)
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.server._app import Handler
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.users import Users
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    ENVELOPE,
    MAIL,
    QUIT,
    RCPT,
    SILENCE,
    Dialogue,
    FakeStream,
    Step,
    Store,
    accepting,
    converse,
    step,
    watch,
)

HERE = Address("192.0.2.1", 1)
TIMEOUTS = Timeouts(greeting=11, command=12, body=13, session=1000, close=16)


def limits_of(app: App) -> list[str]:
    """The names of the limits that are reached from now on."""
    reached: list[str] = []

    def look(session: Session, item: Observed) -> None:
        if isinstance(item, LimitReached):
            reached.append(item.limit)

    app.observe(look)
    return reached


# Talking before the greeting


@pytest.mark.parametrize("early", [b"E", EHLO, EHLO + MAIL + RCPT + DATA + b"spam\r\n.\r\n"])
def test_a_client_that_talks_before_the_greeting_is_sent_away(early: bytes) -> None:
    app = accepting(Store())
    reached = limits_of(app)
    app.on("connect")(lambda session, opened: pytest.fail("no handler is asked"))
    dialogue = converse(app, early, QUIT, limits=Limits(greeting_delay=5), timeouts=TIMEOUTS)
    assert dialogue.replies == ["554 s.example closing: you talked before the greeting"]
    assert dialogue.stream.limits == [5]
    assert dialogue.reasons == ["early talker"]
    assert dialogue.stream.closings == [16]
    assert reached == ["greeting_delay"]


def test_a_client_that_waits_for_the_greeting_is_served() -> None:
    dialogue = converse(accepting(), SILENCE, EHLO, QUIT, limits=Limits(greeting_delay=5), timeouts=TIMEOUTS)
    assert dialogue.codes == [220, 250, 221]
    assert dialogue.stream.limits == [5, 11, 12]


def test_a_client_that_leaves_before_the_greeting_has_said_nothing_wrong() -> None:
    dialogue = converse(App(), b"", limits=Limits(greeting_delay=5))
    assert dialogue.codes == [220]
    assert dialogue.reasons == ["closed"]


def test_draining_does_not_wait_for_the_greeting() -> None:
    dialogue = Dialogue(App(), limits=Limits(greeting_delay=5))
    dialogue.stream.script.append(dialogue.loop.drain)
    dialogue.run()
    assert dialogue.codes == [421]
    assert dialogue.reasons == ["shutdown"]


def test_who_is_refused_anyway_need_not_wait() -> None:
    for draining in (True, False):
        dialogue = Dialogue(App(), limits=Limits(greeting_delay=5))
        if draining:
            dialogue.loop.drain()
        else:
            dialogue.loop.refuse(Reply(421, "closing: full"))
        dialogue.run()
        assert dialogue.codes == [421]
        assert dialogue.stream.limits == []


def test_the_time_of_the_session_is_over_before_the_greeting() -> None:
    dialogue = converse(App(), SILENCE, limits=Limits(greeting_delay=5), timeouts=Timeouts(session=3))
    assert dialogue.stream.limits == [3]
    assert dialogue.codes == [220, 421]


# Taking forever


def drip(dialogue: Dialogue, data: bytes, seconds: float) -> None:
    """Let each octet come after so many seconds."""
    for octet in data:
        dialogue.stream.script.extend([dialogue.stream.passing(seconds), bytes([octet])])


def test_a_command_has_to_be_complete_in_time_whatever_its_pieces() -> None:
    dialogue = Dialogue(App(), EHLO, timeouts=TIMEOUTS)
    drip(dialogue, b"NOOP\r\n" * 3, 5)
    dialogue.run()
    assert dialogue.codes == [220, 250, 421]
    assert dialogue.last == "421 4.4.2 s.example closing: you took too long"


def test_a_body_has_to_come_at_a_least_rate() -> None:
    app = accepting(store := Store())
    dialogue = Dialogue(app, ENVELOPE, timeouts=TIMEOUTS, limits=Limits(body_rate=1))
    drip(dialogue, b"x" * 100, 5)
    dialogue.run()
    assert dialogue.codes == [220, 250, 250, 250, 354, 421]
    assert dialogue.reasons == ["timeout"]
    assert dialogue.stream.now == 1020  # 13 seconds, and one for each of four octets, do not last for 20
    assert store.bodies == []


def test_a_body_at_the_least_rate_may_take_its_time() -> None:
    app = accepting(store := Store())
    dialogue = Dialogue(app, ENVELOPE, timeouts=TIMEOUTS, limits=Limits(body_rate=10))
    for _ in range(60):
        dialogue.stream.script.extend([dialogue.stream.passing(10), b"x" * 98 + b"\r\n"])
    dialogue.stream.script.extend([b".\r\n", QUIT])
    dialogue.run()
    assert dialogue.codes[-2:] == [250, 221]
    assert len(store.bodies[0]) == 6000


def test_chunks_of_a_body_have_one_time_together() -> None:
    dialogue = Dialogue(accepting(Store()), EHLO + MAIL + RCPT, timeouts=TIMEOUTS)
    for _ in range(20):
        dialogue.stream.script.extend([dialogue.stream.passing(5), b"BDAT 1\r\nx"])
    dialogue.run()
    assert dialogue.codes == [220, *[250] * 7, 421]


def test_the_time_of_handlers_is_not_that_of_the_client() -> None:
    app = accepting()

    @app.on("message")
    async def work(session: Session, message: Message) -> Reply:
        async for _ in message:
            dialogue.stream.now += 50
        return Reply(250)

    dialogue = Dialogue(app, ENVELOPE, *[b"x\r\n"] * 10, b".\r\n", QUIT, timeouts=TIMEOUTS)
    dialogue.run()
    assert dialogue.codes[-2:] == [250, 221]


def test_who_only_holds_a_place_gives_it_up_where_few_are_left() -> None:
    limits = Limits(connections=20)
    clients = PeerTable(limits)
    options: dict[str, Any] = {"timeouts": Timeouts(crowded=3), "limits": limits, "peers": clients}
    for _ in range(18):
        clients.enter("", 0)
    assert converse(accepting(), EHLO, SILENCE, **options).stream.limits == [3, 3]  # this one is the nineteenth
    assert converse(accepting(), ENVELOPE, SILENCE, **options).stream.limits == [3, 300]
    clients.leave("")
    assert converse(App(), EHLO, SILENCE, **options).stream.limits == [300, 300]


def test_a_server_with_few_places_is_not_crowded() -> None:
    limits = Limits(connections=1)
    assert converse(App(), SILENCE, limits=limits).stream.limits == [300]


# Guessing


OFFERING = replace(CONFIG, auth_mechanisms=("PLAIN", "LOGIN"), plaintext_auth=True)
WRONG = b"AUTH PLAIN " + b64encode(b"\0tim\0wrong") + b"\r\n"
RIGHT = b"AUTH PLAIN " + b64encode(b"\0tim\0tanstaaf") + b"\r\n"


def users() -> App:
    app = App()
    app.include(Users({"tim": "tanstaaf"}))
    return app


def test_a_failed_authentication_is_answered_ever_later() -> None:
    dialogue = converse(users(), EHLO + WRONG * 3 + QUIT, config=OFFERING)
    assert dialogue.codes == [220, 250, 535, 535, 535, 221]
    assert sum(dialogue.stream.naps) == 1 + 2 + 4
    assert max(dialogue.stream.naps) <= 0.5


def test_guessing_goes_on_in_a_new_session_where_it_was_in_the_last() -> None:
    limits = Limits(auth_failures_per_hour=4)
    clients = PeerTable(limits)
    app = users()
    reached = limits_of(app)
    options = {"config": OFFERING, "limits": limits, "peers": clients}
    first = converse(app, EHLO + WRONG * 2 + QUIT, peer=HERE, **options)
    second = converse(app, EHLO + WRONG * 3 + RIGHT + QUIT, peer=replace(HERE, port=2), **options)
    assert first.codes == [220, 250, 535, 535, 221]
    assert second.codes == [220, 250, 535, 535, 454, 421]
    assert sum(second.stream.naps) == 4 + 8 + 16
    assert reached == ["auth_failures_per_hour"]
    other = converse(app, EHLO + RIGHT + QUIT, peer=Address("192.0.2.2", 1), **options)
    assert other.codes == [220, 250, 235, 221]


def test_clients_without_an_address_do_not_answer_for_each_other() -> None:
    limits = Limits(auth_failures_per_hour=1)
    clients = PeerTable(limits)
    for _ in range(2):
        dialogue = converse(users(), EHLO + WRONG + QUIT, config=OFFERING, limits=limits, peers=clients)
        assert dialogue.codes == [220, 250, 535, 221]


def test_what_is_no_guess_is_not_held_back() -> None:
    app = App()
    app.on("auth")(lambda session, question: Reply(454, "The database is down"))
    dialogue = converse(app, EHLO + WRONG, b"AUTH LOGIN\r\n", b"*\r\n", QUIT, config=OFFERING)
    assert dialogue.codes == [220, 250, 454, 334, 501, 221]
    assert dialogue.stream.naps == []


# Sleeping


def test_a_handler_may_let_the_client_wait() -> None:
    app = App()
    app.on("connect")(lambda session, opened: session.sleep(1.2))
    dialogue = converse(app, QUIT)
    assert dialogue.stream.naps == pytest.approx([0.5, 0.5, 0.2])
    assert dialogue.codes == [220, 221]


@pytest.mark.parametrize(("stop", "seconds"), [(True, 0), (False, 1000)])
def test_a_sleep_ends_when_the_server_stops_or_the_time_of_the_session_is_over(stop: bool, seconds: float) -> None:
    app = App()

    @app.on("NOOP")
    async def sleep(session: Session, noop: Command) -> None:
        if stop:
            dialogue.loop.drain()
        await session.sleep(10_000)

    dialogue = Dialogue(app, b"NOOP\r\n", timeouts=TIMEOUTS)
    dialogue.run()
    assert dialogue.codes == [220, 250, 421]
    assert dialogue.stream.now == 1000 + seconds


# Going on for ever


def test_recipients_of_a_session_may_be_limited() -> None:
    app = accepting(Store())
    reached = limits_of(app)
    limits = Limits(recipients_per_session=3)
    script = EHLO + MAIL + RCPT + RCPT + b"RSET\r\n" + MAIL + RCPT + RCPT + DATA
    dialogue = converse(app, script, b".\r\n" + QUIT, limits=limits)
    assert dialogue.codes == [220, 250, 250, 250, 250, 250, 250, 250, 452, 354, 250, 221]
    assert "452 4.5.3 Too many recipients in one session" in dialogue.replies
    assert reached == ["recipients_per_session"]


def test_commands_that_are_put_off_are_counted() -> None:
    app = App()
    reached = limits_of(app)
    app.on("RCPT")(lambda session, rcpt: Reply(450, "Greylisted"))
    dialogue = converse(app, EHLO + MAIL + RCPT * 9, limits=Limits(refusals=5))
    assert dialogue.codes == [220, 250, 250, 450, 450, 450, 450, 450, 421]
    assert dialogue.reasons == ["421"]
    assert reached == ["refusals"]


def test_messages_that_are_refused_are_counted() -> None:
    app = accepting()
    app.on("message")(lambda session, message: Reply(554, "Spam"))
    script = [part for _ in range(9) for part in (MAIL + RCPT + DATA, b"x\r\n.\r\n")]
    dialogue = converse(app, EHLO, *script, limits=Limits(refusals=3))
    assert dialogue.codes == [220, 250, *[250, 250, 354, 554] * 3, 421]


def test_limits_may_be_off() -> None:
    app = App()
    app.on("RCPT")(lambda session, rcpt: Reply(450, "Greylisted"))
    dialogue = converse(app, EHLO + MAIL + RCPT * 2000 + QUIT, limits=Limits(refusals=None))
    assert dialogue.codes == [220, 250, 250, *[450] * 2000, 221]


def test_commands_in_a_loop_end() -> None:
    assert converse(App(), b"NOOP\r\n" * 200).codes == [220, *[250] * 100, 421]
    assert converse(App(), b"XX\r\n" * 200).codes == [220, *[500] * 50, 421]


# Speaking another protocol


REQUESTS = {
    "GET": b"GET / HTTP/1.1\r\nHost: s.example\r\n\r\n",
    "POST": b"POST / HTTP/1.1\r\nHost: s.example\r\n\r\n" + ENVELOPE + b"spam\r\n.\r\n",
    "CONNECT": b"CONNECT mx.example:25 HTTP/1.0\r\n\r\n",
    "PRI": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_nothing_is_heard_behind_a_request_of_http(name: str) -> None:
    app = accepting(store := Store())
    reached = limits_of(app)
    dialogue = converse(app, REQUESTS[name])
    assert dialogue.replies[1:] == ["421 4.7.0 s.example closing: this is not a web server"]
    assert reached == ["http"]
    assert store.bodies == []


def test_a_handler_may_answer_what_looks_like_http() -> None:
    app = App()
    app.on("default")(lambda session, command: Reply(502, "No"))
    assert converse(app, b"GET / HTTP/1.1\r\n" + QUIT).codes == [220, 502, 221]


# Not taking replies


def test_replies_do_not_pile_up_whatever_a_client_sends_at_once() -> None:
    dialogue = converse(accepting(), EHLO + MAIL + RCPT * 950 + QUIT)
    assert max(data.count(b"\r\n") for data in dialogue.stream.sent) <= 100
    assert dialogue.codes == [220, 250, 250, *[250] * 950, 221]


def test_a_handshake_is_not_spent_on_who_is_refused() -> None:
    app = App()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    dialogue = Dialogue(app, EHLO, config=replace(CONFIG, tls=True), tls=context, implicit_tls=True)
    dialogue.loop.refuse(Reply(421, "closing: full"))
    dialogue.run()
    assert dialogue.stream.tls is None
    assert dialogue.stream.output == b""
    assert dialogue.reasons == ["dropped"]
    assert dialogue.stream.closings == [0]


# Refusing and dropping


@pytest.mark.parametrize("code", [421, 450, 521, 554])
def test_connect_handlers_may_refuse(code: int) -> None:
    app = App()
    app.on("connect")(lambda session, opened: Reply(code, "Not you"))
    dialogue = converse(app, EHLO + QUIT)
    assert dialogue.codes == ([code] if code in (421, 521) else [code, 503, 221])


def test_connect_handlers_may_drop_the_connection_without_a_word() -> None:
    app = App()

    @app.on("connect")
    async def drop(session: Session, opened: ConnectionOpened) -> Drop:
        return DROP

    app.on("connect")(lambda session, opened: pytest.fail("the first one decides"))
    dialogue = converse(app, EHLO + QUIT)
    assert dialogue.stream.output == b""
    assert dialogue.stream.closings == [0]
    assert dialogue.reasons == ["dropped"]


def test_no_other_handler_may_drop(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: DROP)
    assert converse(app, b"NOOP\r\n" + QUIT).codes == [220, 451, 221]
    assert "a handler returns a Reply or None" in caplog.text


def bye(session: Session, subject: object) -> Reply:
    return Reply(421, "Go away")


@pytest.mark.parametrize("name", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "message", "auth", "default", "RSET"])
def test_a_421_always_closes(name: str) -> None:
    app = App() if name == "RCPT" else accepting()
    app.on("auth")(bye)
    app.on(name)(bye)
    script: dict[str, bytes] = {"default": b"XX\r\n", "RSET": b"RSET\r\n", "auth": EHLO + WRONG}
    dialogue = converse(app, script.get(name, ENVELOPE), b".\r\n" + QUIT, config=OFFERING)
    assert dialogue.codes[-1] == 421
    assert dialogue.codes.count(421) == 1
    assert dialogue.reasons == ["421"]
    assert dialogue.stream.closings


# The end of each session


class Twice(FakeStream):
    """Is cancelled while the session is cancelled already."""

    async def aclose(self, timeout: float) -> None:
        await super().aclose(timeout)
        raise asyncio.CancelledError


def fail(session: Session, subject: object) -> None:
    raise ZeroDivisionError


def leave(session: Session, subject: object) -> None:
    raise SystemExit


FATES: dict[str, tuple[tuple[Step, ...], dict[str, Handler]]] = {
    "QUIT": ((QUIT,), {}),
    "a handler raises": ((b"NOOP\r\n",), {"NOOP": fail}),
    "the connect handler raises": ((), {"connect": fail}),
    "the disconnect handler raises": ((QUIT,), {"disconnect": fail}),
    "the disconnect handler is cancelled": ((QUIT,), {"disconnect": leave}),
    "cancelled": ((EHLO, asyncio.CancelledError()), {}),
    "cancelled in a body": ((ENVELOPE, b"x", asyncio.CancelledError()), {}),
    "the loop fails": ((ValueError("a bug"),), {}),
    "lost": ((ConnectionResetError(),), {}),
    "a handler exits": ((b"NOOP\r\n",), {"NOOP": leave}),
    "refused": ((QUIT,), {"connect": bye}),
    "dropped": ((QUIT,), {"connect": lambda session, opened: DROP}),
}


@pytest.mark.parametrize("stream", [FakeStream, Twice])
@pytest.mark.parametrize("fate", FATES)
def test_disconnect_is_told_once_and_the_place_is_given_back(
    fate: str, stream: type[FakeStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.adapters.fakes.FakeStream", stream)
    app = accepting(Store())
    closed = watch(app, SessionClosed)
    clients = PeerTable(Limits())
    script, handlers = FATES[fate]
    dialogue = Dialogue(app, *script, peers=clients, peer=HERE)
    for name, handler in handlers.items():
        app.on(name)(handler)
    with suppress(asyncio.CancelledError, SystemExit):
        dialogue.run()
    assert len(dialogue.reasons) == 1
    assert [each.reason for each in closed] == dialogue.reasons
    assert len(dialogue.stream.closings) == 1
    assert clients._total == 0


def test_a_session_that_is_not_served_at_all_is_counted_but_never_opened() -> None:
    app = App()
    seen: list[object] = []
    app.observe(lambda session, item: seen.append(item))
    acceptor = Acceptor(app, config=CONFIG, limits=Limits(connections=1))
    acceptor._loops.update(Dialogue(App()).loop for _ in range(2))
    step(acceptor.session_for(FakeStream(EHLO, peer=HERE)))
    assert seen == [LimitReached("connections")]


# The log


def test_one_client_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.on("RCPT")
    def stumble(session: Session, rcpt: Rcpt) -> Reply:
        raise RuntimeError("no such table")

    limits = Limits(log_records_per_minute=10, refusals=None)
    clients = PeerTable(limits)
    for port in range(3):
        converse(app, EHLO + MAIL + RCPT * 100, limits=limits, peers=clients, peer=replace(HERE, port=port))
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if "a handler failed" in text]) == 10
    assert [text for text in texts if "left out" in text] == ["1 records were left out, of clients that cause too many"]
    assert len(texts) == 11


def test_records_have_fields_for_machines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    dialogue = converse(users(), EHLO + RIGHT + QUIT, config=OFFERING, peer=HERE)
    fields = [record.__dict__ for record in caplog.records]
    assert {(each["session"], each["client"]) for each in fields} == {(dialogue.session.id, HERE.host)}
    assert fields[1]["identity"] == "tim"
    assert (fields[-1]["reason"], fields[-1]["seconds"]) == ("QUIT", 0)


def test_a_record_that_no_one_wants_costs_nothing() -> None:
    clients = PeerTable(Limits(log_records_per_minute=1))
    logging.getLogger("smtpcore").setLevel(logging.CRITICAL)
    try:
        converse(App(), ConnectionResetError(), peers=clients)
        assert clients.may_log("x", 0)
    finally:
        logging.getLogger("smtpcore").setLevel(logging.NOTSET)
