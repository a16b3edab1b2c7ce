"""The connection of one session: pipelined replies, timeouts and TLS."""

import logging
import ssl
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import (
    Budgets,
    Command,
    Ehlo,
    Reply,
    TimedOut,
    Vrfy,
    Wait,
)
from smtpcore_adapters import (
    Address,
    App,
    Session,
    SessionClosed,
    Timeouts,
)
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.server._app import Handler
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
    replies,
    watch,
)
from tests.adapters.playbook import accepted, session, trusted

END = b".\r\n"
HERE = Address("192.0.2.1", 5)
TIMES: dict[str, Any] = {
    "budgets": Budgets(greeting=11, command=12, body=13, session=1000, handshake=14, send=15),
    "timeouts": Timeouts(close=16),
}


def fail(session: Session, subject: object) -> Reply | None:
    raise RuntimeError("the secret of the database")


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


def failing(name: str, handler: Handler) -> App:
    app = App() if name == "RCPT" else accepting()
    register(app, name, handler)
    return app


# Pipelining


def test_replies_to_pipelined_commands_are_sent_together() -> None:
    # RFC 2920 3.2
    stream = session(accepting()).send(EHLO, MAIL + RCPT + RCPT + DATA, END + QUIT).stream
    assert [len(replies(data)) for data in stream.sent] == [1, 1, 4, 1, 1]


def test_reply_to_a_body_is_sent_before_the_next_command_is_handled() -> None:
    app = accepting(MessageStore())
    sent_before: list[bytes] = []

    @app.on("NOOP")
    def look(session: Session, noop: Command) -> None:
        sent_before.append(dialogue.stream.output)

    dialogue = session(app)
    dialogue.send(ENVELOPE, END + b"NOOP\r\n" + QUIT)
    assert sent_before[0].endswith(b"Stored\r\n")


def test_pending_replies_are_bounded_for_a_pipelining_client() -> None:
    dialogue = session(accepting()).send(EHLO + MAIL + RCPT * 950 + QUIT)
    assert max(data.count(b"\r\n") for data in dialogue.stream.sent) <= 100
    dialogue.expect(220, 250, 250, *[250] * 950, 221)


@pytest.mark.parametrize(("argument", "code"), [("tim", "252 2.6.8 "), ("tim SMTPUTF8", "250 2.1.5 ")])
def test_non_ascii_vrfy_reply_is_sent_only_with_smtputf8(argument: str, code: str) -> None:
    """R6531-3.7.4.2-02, R6531-3.7.4.2-03"""
    app = accepting()

    @app.on("VRFY")
    def verify(session: Session, vrfy: Vrfy) -> Reply:
        return Reply(250, "<t\u00efm@s.example>", enhanced="2.1.5")

    dialogue = trusted(app).send(EHLO + f"VRFY {argument}\r\n".encode() + QUIT)
    assert dialogue.replies[2].startswith(code)


# Timeouts


LIMITS: dict[str, tuple[tuple[Step, ...], float, list[str], int]] = {
    "greeting": ((SILENCE,), 11, ["timeout"], 2),
    "command": ((EHLO, SILENCE), 12, ["timeout"], 3),
    "in a transaction": ((EHLO + MAIL + RCPT, SILENCE), 12, ["timeout"], 5),
    "after a refusal to serve": ((EHLO, SILENCE), 12, ["timeout"], 3),
    "body": ((ENVELOPE, b"one\r\n", SILENCE), 13, ["timeout"], 6),
}


@pytest.mark.parametrize("phase", LIMITS)
def test_silent_client_gets_421(phase: str) -> None:
    script, limit, reasons, count = LIMITS[phase]
    store = MessageStore()
    app = accepting(store)
    if phase == "after a refusal to serve":
        app.on("connect")(lambda session, opened: Reply(554))

    dialogue = session(app, **TIMES).send(*script).end()
    assert dialogue.stream.receive_timeouts[-1] == limit
    assert dialogue.replies[-1] == "421 4.4.2 s.example closing: you took too long"
    assert len(dialogue.replies) == count
    assert dialogue.reasons == reasons
    assert dialogue.stream.close_timeouts == [16]
    assert store.bodies == []


def test_session_timeout_ends_a_busy_session() -> None:
    def noops(stream: FakeStream) -> list[Step]:
        return [part for _ in range(60) for part in (stream.advance(100), b"NOOP\r\n")]

    dialogue = session(App(), **TIMES)
    dialogue.send(*noops(dialogue.stream)).expect(220, *10 * [250], 421)
    assert dialogue.reasons == ["timeout"]


def test_session_timeout_shortens_other_timeouts() -> None:
    dialogue = session(App(), **TIMES).send(EHLO)
    dialogue.send(dialogue.stream.advance(995), b"NOOP\r\n", SILENCE)
    assert dialogue.stream.receive_timeouts == [11, 12, 5]
    assert dialogue.reasons == ["timeout"]


@pytest.mark.parametrize("name", ["NOOP", "QUIT", "message"])
def test_pending_reply_is_sent_before_the_421_of_the_session_timeout(name: str) -> None:
    app = accepting()

    def reply_late(session: Session, subject: object) -> Reply:
        dialogue.stream.now += 2000
        return Reply(221 if name == "QUIT" else 250, "Done at last")

    register(app, name, reply_late)
    line = ENVELOPE + END if name == "message" else name.encode() + b"\r\n"
    dialogue = session(app, **TIMES)
    dialogue.send(line).end()
    assert "Done at last" in dialogue.replies[-1 if name == "QUIT" else -2]
    assert dialogue.codes[-1] == (221 if name == "QUIT" else 421)
    assert dialogue.reasons == ["timeout"]


def test_nothing_is_sent_after_a_write_that_timed_out() -> None:
    dialogue = session(App(), **TIMES)
    dialogue.stream.send_errors.extend([None, TimeoutError("full")])
    dialogue.send(EHLO, b"NOOP\r\n").end().expect(220)
    assert dialogue.reasons == ["timeout"]


def test_end_of_a_session_names_the_budget_that_was_spent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    app = App()
    closed = watch(app, SessionClosed)
    over = watch(app, TimedOut)

    session(app, **TIMES).send(EHLO, SILENCE)
    slow = session(app, **TIMES)
    slow.stream.send_errors.extend([None, TimeoutError("full")])
    slow.send(EHLO).end()
    handshake = session(app, config=TLS_CONFIG, tls=CONTEXT, implicit_tls=True, **TIMES)
    handshake.stream.handshake_error = TimeoutError("slow")
    handshake.send(EHLO).end()
    assert handshake.stream.output == b""  # RFC 8314 3.3: the client of a TLS port cannot read plaintext
    session(app, **TIMES).send(EHLO, QUIT)

    assert [each.budget for each in closed] == ["command", "send", "handshake", ""]
    assert [(each.wait, each.budget) for each in over] == [(Wait.COMMAND, "command"), (Wait.TLS, "handshake")]
    assert [record.__dict__["budget"] for record in caplog.records if "disconnected" in record.getMessage()] == [
        each.budget for each in closed
    ]
    assert "disconnected: timeout (command)" in caplog.text
    assert "closing: the time budget handshake is spent" in caplog.text


@pytest.mark.parametrize("end", [SILENCE, b" TCP4"])
@pytest.mark.parametrize("is_implicit", [False, True])
def test_waits_for_a_proxy_header_add_up(end: Step, is_implicit: bool) -> None:
    options: dict[str, Any] = {"tls": CONTEXT, "implicit_tls": True} if is_implicit else {}
    dialogue = accepted(Acceptor(App(), config=CONFIG, proxies=["192.0.2.1"], **TIMES, **options), HERE)
    stream = dialogue.stream
    dialogue.send(b"PRO", stream.advance(10), b"XY", *([] if end is SILENCE else [stream.advance(5)]), end)

    first, *_, last = stream.receive_timeouts
    assert (first, last) == ((14, 4) if is_implicit else (11, 1))
    assert dialogue.is_over
    assert stream.output == (b"" if is_implicit else b"421 s.example closing: you took too long\r\n")


class SlowStream(FakeStream):
    """A stream whose writes take a second."""

    async def send(self, data: bytes, timeout: float) -> None:
        await super().send(data, timeout)
        self.now += 1


@pytest.mark.parametrize(("left", "limit"), [(1.5, 0.5), (0.5, 0)])
def test_handshake_does_not_begin_after_the_end_of_the_session(left: float, limit: float) -> None:
    app = App()

    @app.on("STARTTLS")
    def use_up_the_time(session: Session, command: Command) -> None:
        dialogue.stream.now = 2000 - left  # the session began at 1000

    dialogue = session(app, config=TLS_CONFIG, tls=CONTEXT, kind=SlowStream, **TIMES)
    dialogue.send(EHLO, b"STARTTLS\r\n").end().expect(220, 250, 220)
    assert dialogue.stream.handshake_limit == limit
    assert dialogue.reasons == (["closed"] if limit else ["timeout"])


def test_failed_write_of_the_last_reply_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    dialogue = session(App())
    dialogue.stream.send_errors.extend([None, None, BrokenPipeError("gone")])
    dialogue.send(EHLO, SILENCE).expect(220, 250)
    assert dialogue.reasons == ["timeout"]
    assert "the last reply did not arrive: gone" in caplog.text


# TLS


TLS_CONFIG = replace(CONFIG, starttls=True)
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_starttls_resets_the_session() -> None:
    app = accepting()
    seen: list[tuple[object, bool]] = []
    app.on("NOOP")(lambda session, noop: seen.append((session.helo, session.tls is not None)))
    script = (EHLO, b"NOOP\r\n", b"STARTTLS\r\n", b"NOOP\r\n", MAIL, EHLO, QUIT)
    dialogue = session(app, config=TLS_CONFIG, tls=CONTEXT, **TIMES).send(*script).end()
    assert dialogue.codes == [220, 250, 250, 220, 250, 503, 250, 221]
    assert "STARTTLS" in dialogue.replies[1]
    assert "STARTTLS" not in dialogue.replies[6]
    assert seen == [(Ehlo("c.example"), False), (None, True)]
    assert dialogue.stream.handshake_limit == 14


def test_plaintext_command_after_starttls_is_never_executed() -> None:
    dialogue = (
        session(failing("NOOP", fail), config=TLS_CONFIG, tls=CONTEXT)
        .send(EHLO, b"STARTTLS\r\nNOOP\r\n", QUIT)
        .expect(220, 250, 421)
    )
    assert dialogue.stream.tls is None
    assert dialogue.reasons == ["421"]


@pytest.mark.parametrize("failure", [ssl.SSLError("no"), TimeoutError("slow"), ConnectionResetError("gone")])
def test_nothing_is_sent_after_a_failed_handshake(failure: OSError, caplog: pytest.LogCaptureFixture) -> None:
    dialogue = session(App(), config=TLS_CONFIG, tls=CONTEXT)
    dialogue.stream.handshake_error = failure
    dialogue.send(EHLO, b"STARTTLS\r\n", QUIT).expect(220, 250, 220)
    assert dialogue.reasons == ["lost"]
    assert dialogue.stream.close_timeouts == [0]
    assert tracebacks(caplog) == []


def test_implicit_tls_starts_before_the_greeting() -> None:
    app = App()
    seen: list[bool] = []
    app.on("connect")(lambda session, opened: seen.append(session.tls is not None))
    dialogue = session(app, config=TLS_CONFIG, tls=CONTEXT, implicit_tls=True).send(EHLO + QUIT)
    assert dialogue.codes == [220, 250, 221]
    assert "STARTTLS" not in dialogue.replies[1]
    assert seen == [True]


def test_failed_implicit_tls_sends_no_greeting() -> None:
    dialogue = session(App(), config=TLS_CONFIG, tls=CONTEXT, implicit_tls=True)
    dialogue.stream.handshake_error = ssl.SSLError("no")
    dialogue.send(EHLO).end()
    assert dialogue.stream.output == b""
    assert dialogue.reasons == ["lost"]


def test_starttls_without_a_context_loses_the_connection() -> None:
    dialogue = session(App(), config=TLS_CONFIG).send(EHLO, b"STARTTLS\r\n", QUIT).expect(220, 250, 220)
    assert dialogue.reasons == ["lost"]


def test_drain_before_the_tls_handshake_closes_the_connection_at_once() -> None:
    app = App()

    @app.on("STARTTLS")
    def drain(session: Session, command: Command) -> None:
        dialogue.loop.drain()

    dialogue = session(app, config=TLS_CONFIG, tls=CONTEXT)
    dialogue.send(EHLO, b"STARTTLS\r\n", EHLO).end().expect(220, 250, 220)
    assert dialogue.stream.tls is None
    assert dialogue.stream.close_timeouts == [0]
    assert dialogue.reasons == ["shutdown"]


def test_plaintext_found_before_the_handshake_ends_the_session() -> None:
    app = App()

    @app.on("STARTTLS")
    def inject(session: Session, command: Command) -> None:
        dialogue.loop._wire.conn.receive_data(b"NOOP\r\n")

    dialogue = session(app, config=TLS_CONFIG, tls=CONTEXT)
    dialogue.send(EHLO, b"STARTTLS\r\n").end()
    assert dialogue.codes[:2] == [220, 250]
    assert 250 not in dialogue.codes[2:]
    assert dialogue.stream.tls is None
