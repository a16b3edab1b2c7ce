"""SASL mechanisms of a program's own."""

import logging
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from smtpcore import LocalProtocolError, Reply
from smtpcore_adapters import App, AuthAborted, Limits, MechanismExchange, Session
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.server._peers import PeerTable
from tests.adapters.fakes import CONFIG, EHLO, QUIT, SILENCE, Step
from tests.adapters.harness import running
from tests.adapters.playbook import SessionPlaybook, accepted, session

OFFERING = replace(CONFIG, auth_mechanisms=("X-TOKEN",), plaintext_auth=True)
START = EHLO + b"AUTH X-TOKEN\r\n"


def encoded(data: bytes) -> bytes:
    return b64encode(data) + b"\r\n"


def token_app(seen: list[str] | None = None) -> App:
    """Return an application with a mechanism that asks for a name and a token."""
    app = App()

    @app.mechanism("x-token")
    async def check(session: Session, exchange: MechanismExchange) -> str | Reply | None:
        if exchange.initial_response is not None:
            name = exchange.initial_response
        else:
            name = await exchange.challenge(b"name")
        exchange.claimed = name.decode()
        match await exchange.challenge(b"token of " + name):
            case b"right":
                return name.decode()
            case b"later":
                return Reply(454, "4.7.0 Ask later")
            case b"fault":
                raise ValueError("a defect")
            case b"wrong type":
                wrong: Any = 5
                return wrong  # type: ignore[no-any-return]
            case b"positive":
                return Reply(235, "Welcome")
            case _:
                return None

    @app.on("NOOP")
    def show(session: Session, command: object) -> Reply:
        return Reply(250, str(session.identity))

    return app


def talk(*steps: Step, app: App | None = None, **options: Any) -> SessionPlaybook:
    return session(app or token_app(), config=OFFERING, **options).send(*steps)


def test_mechanism_accepts_a_client_that_answers_its_challenges() -> None:
    talk(START, encoded(b"tim"), encoded(b"right"), b"NOOP\r\n").expect(
        220, 250, "334 bmFtZQ==", "334 dG9rZW4gb2YgdGlt", 235, "250 2.0.0 tim"
    )


def test_mechanism_gets_the_initial_response() -> None:
    talk(EHLO + b"AUTH X-TOKEN dGlt\r\n", encoded(b"right"), b"NOOP\r\n").expect(220, 250, 334, 235, "250 2.0.0 tim")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"no", "535 5.7.8 Authentication credentials invalid"),
        (b"later", "454 4.7.0 Ask later"),
        (b"fault", "454 4.7.0 Internal error"),
        (b"wrong type", "454 4.7.0 Internal error"),
        (b"positive", "454 4.7.0 Internal error"),
    ],
)
def test_client_is_refused_if_the_mechanism_refuses_or_fails(
    answer: bytes, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    dialogue = talk(START, encoded(b"tim"), encoded(answer), b"NOOP\r\n")
    assert dialogue.replies[4].startswith(expected)
    assert dialogue.replies[5] == "250 2.0.0 None"
    failed = [record.getMessage() for record in caplog.records if "failed to authenticate" in record.getMessage()]
    assert len(failed) == (answer in (b"no", b"later"))
    assert all("failed to authenticate as 'tim' by X-TOKEN" in text for text in failed)


@pytest.mark.parametrize("answer", [b"right", b"no"])
def test_mechanism_has_the_limit_of_failed_logins_of_a_user(answer: bytes) -> None:
    limits = Limits(account_failures_per_hour=1)
    options: dict[str, Any] = {"limits": limits, "peers": PeerTable(limits)}
    talk(START, encoded(b"tim"), encoded(b"no"), **options).expect(220, 250, 334, 334, 535)
    talk(START, encoded(b"tim"), encoded(answer), **options).expect(
        220, 250, 334, 334, "454 4.7.0 Too many failures of this user, try again later"
    )


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize(("line", "code"), [(b"*\r\n", 501), (b"not base64!\r\n", 501)])
def test_client_may_end_the_exchange(line: bytes, code: int, swallows: bool, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    aborted: list[str] = []

    @app.mechanism("X-TOKEN")
    async def ask(session: Session, exchange: MechanismExchange) -> str:
        try:
            await exchange.challenge(b"name")
        except AuthAborted as exc:
            aborted.append(str(exc))
            if not swallows:
                raise
        with suppress(AuthAborted):
            await exchange.challenge(b"again")
        return "anyone"

    dialogue = talk(START, line, b"NOOP\r\n", app=app).expect(220, 250, 334, code, 250)
    assert dialogue.session.identity is None
    assert aborted == ["the client has cancelled, or has sent no valid response"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize(("step", "reason"), [(SILENCE, "timeout"), (ConnectionResetError(), "lost"), (b"", "closed")])
def test_lost_client_ends_the_session(step: Any, reason: str, swallows: bool) -> None:
    app = App()

    @app.mechanism("X-TOKEN")
    async def ask(session: Session, exchange: MechanismExchange) -> str:
        with suppress(AuthAborted if swallows else ZeroDivisionError):
            await exchange.challenge(b"name")
        return "anyone"

    dialogue = talk(START, app=app)
    dialogue = dialogue.send(step) if step else dialogue.end()
    assert dialogue.codes == [220, 250, 334, *([421] if step is SILENCE else [])]
    assert dialogue.reasons == [reason]
    assert dialogue.session.identity is None


def test_challenge_that_is_too_long_is_a_failure_of_the_mechanism(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.mechanism("X-TOKEN")
    async def ask(session: Session, exchange: MechanismExchange) -> str:
        await exchange.challenge(b"x" * 20_000)
        return "anyone"

    talk(START, QUIT, app=app).expect(220, 250, 454, 221)
    assert "LocalProtocolError" in caplog.text


def test_exit_in_an_ended_exchange_ends_the_server() -> None:
    app = App()

    @app.mechanism("X-TOKEN")
    async def ask(session: Session, exchange: MechanismExchange) -> str:
        try:
            await exchange.challenge(b"name")
        finally:
            raise SystemExit

    dialogue = talk(START, b"*\r\n", app=app).expect(220, 250, 334, 501, 421)
    assert dialogue.reasons == ["shutdown"]


def test_mechanism_is_offered_beside_the_built_in_ones() -> None:
    config = replace(CONFIG, plaintext_auth=True)
    with_auth = token_app()
    with_auth.on("auth")(lambda session, question: None)
    for app, offered in ((token_app(), "AUTH X-TOKEN"), (with_auth, "AUTH PLAIN LOGIN X-TOKEN")):
        dialogue = accepted(Acceptor(app, config=config)).send(EHLO, QUIT)
        assert offered in [line[4:] for line in dialogue.replies[1].split("\n")]


def test_mechanism_may_replace_a_built_in_one() -> None:
    app = App()

    @app.mechanism("PLAIN")
    async def check(session: Session, exchange: MechanismExchange) -> str:
        return f"user of {exchange.mechanism}"

    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
    dialogue = accepted(Acceptor(app, config=config)).send(EHLO + b"AUTH PLAIN AHg=\r\n", QUIT)
    dialogue.expect(220, 250, 235, 221)


def test_configuration_may_name_only_known_mechanisms() -> None:
    with pytest.raises(LocalProtocolError, match="needs a handler of auth"):
        Acceptor(token_app(), config=replace(CONFIG, auth_mechanisms=("X-TOKEN", "PLAIN")))


def test_mechanism_with_an_impossible_name_is_an_error() -> None:
    async def ask(session: Session, exchange: MechanismExchange) -> None: ...

    with pytest.raises(LocalProtocolError, match="is not the name of a SASL mechanism"):
        App().mechanism("NO SPACES")(ask)


def test_mechanism_is_a_method_of_an_included_object() -> None:
    async def ask(session: Session, exchange: MechanismExchange) -> str:
        return "tim"

    app = App()
    app.include(SimpleNamespace(on_mechanism_X__TOKEN=ask))
    talk(START, app=app).expect(220, 250, 235)


def test_mechanism_runs_on_each_adapter(backend: str) -> None:
    with running(backend, token_app(), config=OFFERING) as server, server.connect() as client:
        client.send(START).expect(220, 250, 334).send(encoded(b"tim")).expect(334)
        client.send(encoded(b"right")).expect(235).send(QUIT).expect(221)
