"""Defences of the session loop against abusive clients."""

import asyncio
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Budgets, Command, ConnectionOpened, Reply
from smtpcore_adapters import (
    DROP,
    Address,
    App,
    Drop,
    LimitReached,
    Limits,
    Message,
    Observed,
    Refusal,
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
    FakeStream,
    MessageStore,
    Step,
    accepting,
    register,
    watch,
)
from tests.adapters.playbook import SessionPlaybook, accepted, session

HERE = Address("192.0.2.1", 1)
TIMES: dict[str, Any] = {
    "budgets": Budgets(greeting=11, command=12, body=13, session=1000),
    "timeouts": Timeouts(close=16),
}


def limits_of(app: App) -> list[str]:
    """Return a list that collects the names of the limits reached from now on."""
    reached: list[str] = []

    def look(session: Session, item: Observed) -> None:
        if isinstance(item, LimitReached):
            reached.append(item.limit)

    app.observe(look)
    return reached


def rules_of(app: App) -> list[str]:
    """Return a list that collects the rules of all refusals from now on."""
    rules: list[str] = []

    def look(session: Session, item: Observed) -> None:
        if isinstance(item, Refusal):
            rules.append(item.rule)

    app.observe(look)
    return rules


# Slow clients


def drip(dialogue: SessionPlaybook, data: bytes, seconds: float) -> None:
    """Send each octet of `data` after `seconds` of silence."""
    for octet in data:
        dialogue.send(dialogue.stream.advance(seconds), bytes([octet]))


def test_byte_by_byte_command_does_not_extend_the_timeout() -> None:
    dialogue = session(App(), **TIMES).send(EHLO)
    drip(dialogue, b"NOOP\r\n" * 3, 5)
    assert dialogue.codes == [220, 250, 421]
    assert dialogue.replies[-1] == "421 4.4.2 s.example closing: you took too long"


def test_body_below_the_minimum_rate_times_out() -> None:
    app = accepting(store := MessageStore())
    dialogue = session(app, budgets=replace(TIMES["budgets"], body_rate=1)).send(ENVELOPE)
    drip(dialogue, b"x" * 100, 5)
    dialogue.expect(220, 250, 250, 250, 354, 421)
    assert dialogue.reasons == ["timeout"]
    assert dialogue.stream.now == 1020  # 13 seconds, extended by one second for each of four octets, end before 20
    assert store.bodies == []


def test_body_at_the_minimum_rate_does_not_time_out() -> None:
    app = accepting(store := MessageStore())
    dialogue = session(app, budgets=replace(TIMES["budgets"], body_rate=10)).send(ENVELOPE).skip()
    for _ in range(60):
        dialogue.send(dialogue.stream.advance(10), b"x" * 98 + b"\r\n")
    dialogue.send(b".\r\n", QUIT).expect(250, 221)
    assert len(store.bodies[0]) == 6000


def test_bdat_chunks_share_one_timeout() -> None:
    dialogue = session(accepting(MessageStore()), **TIMES).send(EHLO + MAIL + RCPT)
    for _ in range(20):
        dialogue.send(dialogue.stream.advance(5), b"BDAT 1\r\nx")
    dialogue.expect(220, *[250] * 7, 421)


def test_time_spent_in_handlers_does_not_count_as_client_time() -> None:
    app = accepting()

    @app.on("message")
    async def work(session: Session, message: Message) -> Reply:
        async for _ in message:
            dialogue.stream.now += 50
        return Reply(250)

    dialogue = session(app, **TIMES)
    dialogue.send(ENVELOPE, *[b"x\r\n"] * 10, b".\r\n", QUIT)
    assert dialogue.codes[-2:] == [250, 221]


def test_idle_sessions_have_a_shorter_timeout_on_a_crowded_server() -> None:
    limits = Limits(connections=20)
    table = PeerTable(limits)
    options: dict[str, Any] = {"timeouts": Timeouts(crowded=3), "limits": limits, "peers": table}
    for _ in range(18):
        table.enter("", 0)
    assert session(accepting(), **options).send(EHLO, SILENCE).stream.receive_timeouts == [
        3,
        3,
    ]  # the nineteenth of 20 connections: the server is crowded
    assert session(accepting(), **options).send(ENVELOPE, SILENCE).stream.receive_timeouts == [3, 300]
    table.leave("")
    assert session(App(), **options).send(EHLO, SILENCE).stream.receive_timeouts == [300, 300]


def test_server_with_a_low_connection_limit_is_never_crowded() -> None:
    limits = Limits(connections=1)
    assert session(App(), limits=limits).send(SILENCE).stream.receive_timeouts == [300]


# Password guessing


OFFERING = replace(CONFIG, auth_mechanisms=("PLAIN", "LOGIN"), plaintext_auth=True)
WRONG = b"AUTH PLAIN " + b64encode(b"\0tim\0wrong") + b"\r\n"
RIGHT = b"AUTH PLAIN " + b64encode(b"\0tim\0tanstaaf") + b"\r\n"


def users() -> App:
    app = App()
    app.include(Users({"tim": "tanstaaf"}))
    return app


def test_reply_delay_doubles_with_each_failed_login() -> None:
    dialogue = session(users(), config=OFFERING).send(EHLO + WRONG * 3 + QUIT).expect(220, 250, 535, 535, 535, 221)
    assert sum(dialogue.stream.sleeps) == 1 + 2 + 4
    assert max(dialogue.stream.sleeps) <= 0.5


def test_failed_logins_are_counted_across_sessions_of_an_address() -> None:
    limits = Limits(auth_failures_per_hour=4)
    table = PeerTable(limits)
    app = users()
    reached = limits_of(app)
    options = {"config": OFFERING, "limits": limits, "peers": table}
    first = session(app, peer=HERE, **options).send(EHLO + WRONG * 2 + QUIT)
    second = session(app, peer=HERE._replace(port=2), **options).send(EHLO + WRONG * 3 + RIGHT + QUIT)
    first.expect(220, 250, 535, 535, 221)
    second.expect(220, 250, 535, 535, 454, 421)
    assert sum(second.stream.sleeps) == 4 + 8 + 16
    assert reached == ["auth_failures_per_hour"]
    session(app, peer=Address("192.0.2.2", 1), **options).send(EHLO + RIGHT + QUIT).expect(220, 250, 235, 221)


def test_failed_logins_of_a_user_are_counted_over_all_addresses() -> None:
    limits = Limits(account_failures_per_hour=4)
    table = PeerTable(limits)
    app = users()
    reached = limits_of(app)
    options = {"config": OFFERING, "limits": limits, "peers": table}
    known = Address("198.51.100.1", 1)
    session(app, peer=known, **options).send(EHLO + RIGHT + QUIT).expect(220, 250, 235, 221)
    for number in range(4):
        attacker = session(app, peer=Address(f"192.0.2.{number}", 1), **options).send(EHLO + WRONG + QUIT)
        assert sum(attacker.expect(220, 250, 535, 221).stream.sleeps) == 2**number
    refused = session(app, peer=Address("192.0.2.9", 1), **options).send(EHLO + RIGHT + QUIT)
    assert (
        sum(refused.expect(220, 250, "454 4.7.0 Too many failures of this user, try again later", 221).stream.sleeps)
        == 16
    )
    assert reached == ["account_failures_per_hour"]
    session(app, peer=known._replace(port=2), **options).send(EHLO + RIGHT + QUIT).expect(220, 250, 235, 221)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_no_mechanism_avoids_the_limit_of_a_user(mechanism: str) -> None:
    limits = Limits(account_failures_per_hour=1)
    table = PeerTable(limits)
    table.auth_failed("192.0.2.1", 0, "tim")
    asked: list[object] = []
    app = App()
    app.on("auth")(lambda session, question: asked.append(question))
    steps = {
        "PLAIN": (RIGHT,),
        "LOGIN": (b"AUTH LOGIN dGlt\r\n", b64encode(b"tanstaaf") + b"\r\n"),
        "CRAM-MD5": (b"AUTH CRAM-MD5\r\n", b64encode(b"tim " + b"0" * 32) + b"\r\n"),
        "SCRAM-SHA-256": (b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=tim,r=abcdefgh") + b"\r\n",),
    }
    config = replace(OFFERING, auth_mechanisms=(mechanism,))
    dialogue = session(app, config=config, limits=limits, peers=table, peer=Address("192.0.2.9", 1))
    assert dialogue.send(EHLO, *steps[mechanism]).codes[-1] == 454
    assert asked == []


def test_failed_logins_without_an_address_are_not_counted_across_sessions() -> None:
    limits = Limits(auth_failures_per_hour=1)
    table = PeerTable(limits)
    for _ in range(2):
        session(users(), config=OFFERING, limits=limits, peers=table).send(EHLO + WRONG + QUIT).expect(
            220, 250, 535, 221
        )


@pytest.mark.parametrize(("failures", "delay"), [(0, 0.5), (2, 2), (3, 4), (9, 4), (2000, 4)])
def test_reply_delay_has_a_maximum_after_any_number_of_failures(failures: int, delay: float) -> None:
    table = PeerTable(Limits(auth_failures_per_hour=10_000))
    timeouts = Timeouts(auth_delay=0.5, max_auth_delay=4)
    dialogue = session(users(), config=OFFERING, peer=HERE, peers=table, timeouts=timeouts).send(EHLO)
    for _ in range(failures):
        table.auth_failed(HERE.host, dialogue.stream.now)
    before = dialogue.stream.now
    dialogue.send(WRONG).expect(220, 250, 535)
    assert dialogue.stream.now == pytest.approx(before + delay, abs=0.01)


def test_cancelled_or_undecided_login_is_not_delayed() -> None:
    app = App()
    app.on("auth")(lambda session, question: Reply(454, "The database is down"))
    dialogue = (
        session(app, config=OFFERING)
        .send(EHLO + WRONG, b"AUTH LOGIN\r\n", b"*\r\n", QUIT)
        .expect(220, 250, 454, 334, 501, 221)
    )
    assert dialogue.stream.sleeps == []


# Handlers that sleep


def test_handler_may_delay_the_session() -> None:
    app = App()
    app.on("connect")(lambda session, opened: session.sleep(1.2))
    dialogue = session(app).send(QUIT)
    assert dialogue.stream.sleeps == pytest.approx([0.5, 0.5, 0.2])
    dialogue.expect(220, 221)


@pytest.mark.parametrize(("stop", "seconds"), [(True, 0), (False, 1000)])
def test_sleep_of_a_handler_ends_at_shutdown_or_session_timeout(stop: bool, seconds: float) -> None:
    app = App()

    @app.on("NOOP")
    async def sleep(session: Session, noop: Command) -> None:
        if stop:
            dialogue.loop.drain()
        await session.sleep(10_000)

    dialogue = session(app, **TIMES)
    dialogue.send(b"NOOP\r\n").end().expect(220, 250, 421)
    assert dialogue.stream.now == 1000 + seconds


# Endless sessions


def test_recipients_per_session_are_limited() -> None:
    app = accepting(MessageStore())
    rules = rules_of(app)
    script = EHLO + MAIL + RCPT + RCPT + b"RSET\r\n" + MAIL + RCPT + RCPT + DATA
    dialogue = session(app, config=replace(CONFIG, max_recipients_per_session=3)).send(script, b".\r\n" + QUIT)
    assert dialogue.codes == [220, 250, 250, 250, 250, 250, 250, 250, 452, 354, 250, 221]
    assert "452 4.5.3 Too many recipients in one session" in dialogue.replies
    assert rules == ["max_recipients_per_session"]


def test_temporary_refusals_of_commands_are_limited() -> None:
    app = App()
    rules = rules_of(app)
    app.on("RCPT")(lambda session, rcpt: Reply(450, "Greylisted"))
    dialogue = (
        session(app, config=replace(CONFIG, max_refusals=5))
        .send(EHLO + MAIL + RCPT * 9)
        .end()
        .expect(220, 250, 250, 450, 450, 450, 450, 450, 421)
    )
    assert dialogue.reasons == ["421"]
    assert rules[-1] == "max_refusals"


def test_refused_messages_count_as_refusals() -> None:
    app = accepting()
    app.on("message")(lambda session, message: Reply(554, "Spam"))
    script = [part for _ in range(9) for part in (MAIL + RCPT + DATA, b"x\r\n.\r\n")]
    session(app, config=replace(CONFIG, max_refusals=3)).send(EHLO, *script).end().expect(
        220, 250, *[250, 250, 354, 554] * 3, 421
    )


def test_limit_of_none_is_unlimited() -> None:
    app = App()
    app.on("RCPT")(lambda session, rcpt: Reply(450, "Greylisted"))
    session(app, config=replace(CONFIG, max_refusals=None)).send(EHLO + MAIL + RCPT * 2000 + QUIT).expect(
        220, 250, 250, *[450] * 2000, 221
    )


def test_idle_commands_and_errors_are_limited() -> None:
    session(App()).send(b"NOOP\r\n" * 200).end().expect(220, *[250] * 100, 421)
    session(App()).send(b"XX\r\n" * 200).end().expect(220, *[500] * 50, 421)


# Other protocols


REQUESTS = {
    "GET": b"GET / HTTP/1.1\r\nHost: s.example\r\n\r\n",
    "POST": b"POST / HTTP/1.1\r\nHost: s.example\r\n\r\n" + ENVELOPE + b"spam\r\n.\r\n",
    "CONNECT": b"CONNECT mx.example:25 HTTP/1.0\r\n\r\n",
    "PRI": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_http_request_ends_the_session(name: str) -> None:
    app = accepting(store := MessageStore())
    reached = limits_of(app)
    dialogue = session(app).send(REQUESTS[name]).end()
    assert dialogue.replies[1:] == ["421 4.7.0 s.example closing: this is not a web server"]
    assert reached == ["http"]
    assert store.bodies == []


def test_default_handler_may_answer_an_http_request() -> None:
    app = App()
    app.on("default")(lambda session, command: Reply(502, "No"))
    session(app).send(b"GET / HTTP/1.1\r\n" + QUIT).expect(220, 502, 221)


# Refused and dropped connections


@pytest.mark.parametrize("code", [421, 450, 521, 554])
def test_connect_handler_may_refuse_the_connection(code: int) -> None:
    app = App()
    app.on("connect")(lambda session, opened: Reply(code, "Not you"))
    dialogue = session(app).send(EHLO + QUIT)
    assert dialogue.codes == ([code] if code in (421, 521) else [code, 503, 221])


def test_connect_handler_may_drop_the_connection_without_a_reply() -> None:
    app = App()

    @app.on("connect")
    async def drop(session: Session, opened: ConnectionOpened) -> Drop:
        return DROP

    app.on("connect")(
        lambda session, opened: pytest.fail("the first handler decides, and no further handler is called")
    )
    dialogue = session(app).send(EHLO + QUIT)
    assert dialogue.stream.output == b""
    assert dialogue.stream.close_timeouts == [0]
    assert dialogue.reasons == ["dropped"]


def test_drop_from_another_handler_gives_451(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    register(app, "NOOP", lambda session, noop: DROP)
    session(app).send(b"NOOP\r\n" + QUIT).expect(220, 451, 221)
    assert "a handler returns a Reply or None" in caplog.text


def reply_421(session: Session, subject: object) -> Reply:
    return Reply(421, "Go away")


@pytest.mark.parametrize("name", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "message", "auth", "default", "RSET"])
def test_421_from_a_handler_always_closes_the_connection(name: str) -> None:
    app = App() if name == "RCPT" else accepting()
    app.on("auth")(reply_421)
    register(app, name, reply_421)
    script: dict[str, bytes] = {"default": b"XX\r\n", "RSET": b"RSET\r\n", "auth": EHLO + WRONG}
    dialogue = session(app, config=OFFERING).send(script.get(name, ENVELOPE), b".\r\n" + QUIT)
    assert dialogue.codes[-1] == 421
    assert dialogue.codes.count(421) == 1
    assert dialogue.reasons == ["421"]
    assert dialogue.stream.close_timeouts


# The end of each session


class CancelledOnClose(FakeStream):
    """A stream that raises `CancelledError` on close, as in a second cancellation."""

    async def aclose(self, timeout: float) -> None:
        await super().aclose(timeout)
        raise asyncio.CancelledError


def fail(session: Session, subject: object) -> None:
    raise ZeroDivisionError


def leave(session: Session, subject: object) -> None:
    raise SystemExit


ENDS: dict[str, tuple[tuple[Step, ...], dict[str, Handler]]] = {
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
    "refused": ((QUIT,), {"connect": reply_421}),
    "dropped": ((QUIT,), {"connect": lambda session, opened: DROP}),
}


@pytest.mark.parametrize("stream", [FakeStream, CancelledOnClose])
@pytest.mark.parametrize("end", ENDS)
def test_each_end_calls_disconnect_once_and_uncounts_the_connection(
    end: str, stream: type[FakeStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.adapters.fakes.FakeStream", stream)
    app = accepting(MessageStore())
    closed = watch(app, SessionClosed)
    table = PeerTable(Limits())
    script, handlers = ENDS[end]
    dialogue = session(app, peers=table, peer=HERE)
    for name, handler in handlers.items():
        register(app, name, handler)
    with suppress(asyncio.CancelledError, SystemExit):
        dialogue.send(*script).end()
    assert len(dialogue.reasons) == 1
    assert [each.reason for each in closed] == dialogue.reasons
    assert len(dialogue.stream.close_timeouts) == 1
    assert table._here == 0


def test_connection_closed_without_service_counts_as_a_reached_limit_only() -> None:
    app = App()
    seen: list[object] = []
    app.observe(lambda session, item: seen.append(item))
    acceptor = Acceptor(app, config=CONFIG, limits=Limits(connections=1))
    acceptor._loops.update(session(App()).loop for _ in range(2))
    accepted(acceptor, HERE).send(EHLO).end()
    assert seen == [LimitReached("connections")]
