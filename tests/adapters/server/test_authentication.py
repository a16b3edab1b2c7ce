"""Authentication through the session loop: handlers answer typed questions about the client's credentials."""

import asyncio
import logging
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from smtpcore import Auth, Connection, LocalProtocolError, Reply
from smtpcore.sasl import Answer, Channel, CheckPassword, Credentials, GivePassword, Question, make_client
from smtpcore_adapters import App, Session
from smtpcore_adapters.server._authentication import check_mechanisms
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG, EHLO, MAIL, QUIT, RCPT, FakeStream, Step
from tests.adapters.playbook import SessionPlaybook, session

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")
OFFERING = replace(CONFIG, auth_mechanisms=MECHANISMS, plaintext_auth=True)
CREDENTIALS = Credentials(username="tim", password="tanstaaf")
PLAIN = b64encode(b"\0tim\0tanstaaf")
WRONG = b64encode(b"\0tim\0tanstaag")


def users() -> App:
    app = App()
    app.include(Users({"tim": "tanstaaf"}))
    return app


class SaslClient:
    """The client's side of a SASL exchange."""

    def __init__(self, name: str, credentials: Credentials = CREDENTIALS, *, initial: bool = True) -> None:
        self.mechanism = make_client(name, credentials, Channel(tls=True))
        first = self.mechanism.initial() if initial else None
        self.command = (
            b"AUTH " + name.encode() + (b"" if first is None else b" " + (b64encode(first) or b"=")) + b"\r\n"
        )

    def respond(self, stream: FakeStream) -> bytes | None:
        challenge = stream.output.splitlines()[-1]
        if not challenge.startswith(b"334 "):
            return None

        return b64encode(self.mechanism.respond(b64decode(challenge[4:]))) + b"\r\n"


def exchange(app: App, client: SaslClient, *script: Step) -> SessionPlaybook:
    """Run a session in which `client` authenticates and then `script` follows."""
    dialogue = session(app, config=OFFERING)
    stream = dialogue.stream
    receive = stream.receive

    async def receive_or_respond(timeout: float) -> bytes:
        response = client.respond(stream) if stream.output else None
        return response if response is not None else await receive(timeout)

    stream.receive = receive_or_respond  # type: ignore[method-assign]
    return dialogue.send(EHLO, client.command, *script).end()


@pytest.mark.parametrize("name", MECHANISMS)
def test_each_mechanism_accepts_the_right_password(name: str) -> None:
    seen: list[str | None] = []
    app = users()

    @app.on("NOOP")
    def look(session: Session, noop: object) -> None:
        seen.append(session.identity)

    dialogue = exchange(app, SaslClient(name), b"NOOP\r\n", QUIT)

    assert seen == ["tim"]
    assert "235 2.7.0 Welcome" in dialogue.replies


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("username", ["tim", "nobody"])
def test_no_mechanism_accepts_a_wrong_user_or_password(name: str, username: str) -> None:
    credentials = Credentials(username=username, password="wrong")
    dialogue = exchange(users(), SaslClient(name, credentials), QUIT)

    assert dialogue.session.identity is None
    assert dialogue.replies[-2] == "535 5.7.8 Authentication failed"


def test_initial_response_may_follow_an_empty_challenge() -> None:
    dialogue = session(users(), config=OFFERING).send(EHLO + b"AUTH PLAIN\r\n", PLAIN + b"\r\n", QUIT)
    assert dialogue.replies[2:] == ["334 ", "235 2.7.0 Welcome", "221 2.0.0 s.example closing"]


@pytest.mark.parametrize(
    ("responses", "code"),
    [(b"*\r\n", 501), (b"not base64\r\n", 501), (b"x" * 13_000 + b"\r\n", 500), (b"AA\n", 500)],
)
def test_failed_exchange_leaves_the_session_unchanged(responses: bytes, code: int) -> None:
    dialogue = session(users(), config=OFFERING).send(
        EHLO + b"AUTH LOGIN\r\n", responses + b"AUTH PLAIN " + PLAIN + b"\r\n" + QUIT
    )
    assert dialogue.codes[2:] == [334, code, 235, 221]


def test_end_of_stream_ends_the_exchange() -> None:
    dialogue = session(users(), config=OFFERING).send(EHLO + b"AUTH LOGIN\r\n").end().expect(220, 250, 334)
    assert dialogue.reasons == ["closed"]


def test_malformed_response_is_refused_with_501() -> None:
    dialogue = session(users(), config=OFFERING).send(EHLO + b"AUTH PLAIN " + b64encode(b"tim") + b"\r\n" + QUIT)
    assert dialogue.replies[2] == "501 5.5.2 Malformed authentication"


def test_failed_anonymous_login_is_logged_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.on("auth")(lambda session, question: False)
    config = replace(OFFERING, auth_mechanisms=("ANONYMOUS",))
    session(app, config=config).send(EHLO + b"AUTH ANONYMOUS " + b64encode(b"tracer") + b"\r\n", QUIT).expect(
        220, 250, 535, 221
    )
    assert "failed to authenticate as None by ANONYMOUS" in caplog.text


@pytest.mark.parametrize(
    ("line", "tried"),
    [
        (b"AUTH PLAIN " + b64encode(b"\0tim\x07\0x"), "tim\\x07"),
        (b"AUTH LOGIN " + b64encode(b"tim\x1b[2J") + b"\r\n" + b64encode(b"x"), "tim\\x1b[2J"),
        (b"AUTH SCRAM-SHA-256 " + b64encode("n,,n=t\u2028,r=abc".encode()), "t\\u2028"),
    ],
)
def test_name_that_saslprep_refuses_is_logged_in_printable_form(
    line: bytes, tried: str, caplog: pytest.LogCaptureFixture
) -> None:
    session(users(), config=OFFERING).send(EHLO, *(each + b"\r\n" for each in line.split(b"\r\n")), QUIT)
    (record,) = [record for record in caplog.records if "failed to authenticate" in record.message]
    assert vars(record)["tried"] == tried
    assert f"failed to authenticate as {tried!r} by " in record.message


def test_too_many_failures_end_the_session() -> None:
    attempt = b"AUTH PLAIN " + WRONG + b"\r\n"
    session(users(), config=OFFERING).send(EHLO + 4 * attempt).end().expect(220, 250, 535, 535, 535, 421)


def test_authenticated_client_may_send_to_any_recipient() -> None:
    app = users()
    dialogue = session(app, config=OFFERING).send(
        EHLO + MAIL + RCPT + b"RSET\r\nAUTH PLAIN " + PLAIN + b"\r\n" + MAIL + RCPT + QUIT
    )
    assert dialogue.codes[2:] == [250, 550, 250, 235, 250, 250, 221]


def test_different_authorization_identity_is_refused() -> None:
    dialogue = session(users(), config=OFFERING).send(
        EHLO + b"AUTH PLAIN " + b64encode(b"boss\0tim\0tanstaaf") + b"\r\n" + QUIT
    )
    assert dialogue.codes[2:] == [535, 221]


def test_interrupted_wait_for_a_response_does_not_end_the_exchange() -> None:
    dialogue = session(users(), config=OFFERING).send(EHLO + b"AUTH PLAIN\r\n").expect(220, 250, 334)
    dialogue.send(dialogue.stream.interrupt, PLAIN + b"\r\n", QUIT).expect(235, 221)


# Handlers


def asking(handler: Callable[[Session, Question], Answer | Reply | Awaitable[Answer | Reply]]) -> App:
    app = App()
    app.on("auth")(handler)
    return app


LOGIN = EHLO + b"AUTH PLAIN " + PLAIN + b"\r\n" + QUIT


def test_first_answer_of_the_auth_handlers_decides_the_login() -> None:
    asked: list[str] = []

    def decide_nothing(session: Session, question: Question) -> None:
        asked.append("first")

    async def decide(session: Session, question: Question) -> bool:
        asked.append("second")
        assert isinstance(question, CheckPassword)
        return (question.username, question.password) == ("tim", "tanstaaf")

    app = asking(decide_nothing)
    app.on("auth")(decide)
    app.on("auth")(lambda session, question: asked.append("third"))

    assert session(app, config=OFFERING).send(LOGIN).end().codes[2:] == [235, 221]
    assert asked == ["first", "second"]


def test_authentication_is_refused_if_the_handler_does_not_answer() -> None:
    assert session(asking(lambda session, question: None), config=OFFERING).send(LOGIN).end().codes[2:] == [535, 221]


def test_auth_handler_may_return_a_reply() -> None:
    dialogue = (
        session(
            asking(lambda session, question: Reply(432, "Change your password first", enhanced="4.7.12")),
            config=OFFERING,
        )
        .send(LOGIN)
        .end()
    )
    assert dialogue.replies[2] == "432 4.7.12 Change your password first"


@pytest.mark.parametrize("answer", ["tanstaaf", 1])
def test_answer_of_a_wrong_type_is_logged_and_refused_with_454(answer: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        dialogue = session(asking(lambda session, question: answer), config=OFFERING).send(LOGIN).end()

    assert dialogue.codes[2:] == [454, 221]
    assert dialogue.session.id in dialogue.replies[2]
    assert caplog.records


def test_exception_in_an_auth_handler_is_logged_and_refused_with_454(caplog: pytest.LogCaptureFixture) -> None:
    def fail(session: Session, question: Question) -> bool:
        raise ConnectionError("the directory at ldap.internal is gone")

    with caplog.at_level(logging.ERROR):
        dialogue = session(asking(fail), config=OFFERING).send(LOGIN).end()

    assert dialogue.codes[2:] == [454, 221]
    assert "ldap" not in dialogue.stream.output.decode()
    assert "ldap.internal" in caplog.text


def test_refusal_of_an_error_handler_does_not_count_as_a_failed_login() -> None:
    def fail(session: Session, question: Question) -> bool:
        raise ConnectionError("the directory is gone")

    app = asking(fail)
    app.on("error")(lambda session, exception: Reply(535, "5.7.8 No"))
    dialogue = session(app, config=OFFERING).send(LOGIN)
    dialogue.expect(220, 250, "535 5.7.8 No", 221)
    assert dialogue.stream.sleeps == []


def test_passwords_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        session(users(), config=OFFERING).send(
            EHLO + b"AUTH PLAIN " + WRONG + b"\r\nAUTH PLAIN " + PLAIN + b"\r\n" + QUIT
        )

    for secret in ("tanstaa", PLAIN.decode(), WRONG.decode()):
        assert secret not in caplog.text


def test_unknown_mechanism_never_reaches_the_auth_handlers() -> None:
    app = asking(lambda session, question: pytest.fail("was called"))
    assert session(app, config=OFFERING).send(EHLO + b"AUTH X-UNKNOWN\r\n" + QUIT).codes[2:] == [504, 221]


# The server


def test_users_return_known_passwords_and_hide_them_in_repr() -> None:
    store = Users({"tim": "tanstaaf"})
    asking_session = session(App()).session
    assert "tanstaaf" not in repr(store)
    assert "tim" in repr(store)
    assert asyncio.run(store.on_auth(asking_session, GivePassword("tim"))) == "tanstaaf"
    assert asyncio.run(store.on_auth(asking_session, GivePassword("tom"))) is None
    assert "tanstaaf" not in repr(Auth("PLAIN", b"\0tim\0tanstaaf"))


def test_mechanism_in_lower_case_is_an_error() -> None:
    with pytest.raises(LocalProtocolError, match="use capitals"):
        check_mechanisms(("PLAIN", "login"))


def test_challenge_that_cannot_be_sent_is_refused_with_454(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Connection.send

    def send_no_challenge(conn: Connection, reply: Reply) -> Reply:
        if reply.code == 334:
            raise LocalProtocolError("not now")
        return send(conn, reply)

    monkeypatch.setattr(Connection, "send", send_no_challenge)
    session(users(), config=OFFERING).send(EHLO + b"AUTH PLAIN\r\nNOOP\r\n" + QUIT).expect(220, 250, 454, 250, 221)
