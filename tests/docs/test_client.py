"""The examples in `docs/client.md`, against a server connection in memory."""

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import trustme

from smtpcore import (
    Answered,
    Auth,
    AuthResponse,
    Bodies,
    Challenge,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    ConnectionClosed,
    DataChunk,
    DataEnd,
    Event,
    LocalProtocolError,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Request,
    Signal,
    sasl,
)
from smtpcore_adapters import App, Message, Session
from smtpcore_adapters.socket import serving as app_serving
from tests.certificates import context_trusting

from ..adapters.peers import Answering, closing
from ..adapters.peers import serving as peer_serving
from .test_readme import run_example

AUTHORITY = trustme.CA()

TLS = sasl.Channel(tls=True)
TIM = sasl.Credentials(username="tim", password="tanstaaftanstaaf")


class Server:
    """A server in memory that accepts all recipients except local part `refused`."""

    def __init__(self, **changes: Any) -> None:
        config = Config(hostname="s.example", bodies=Bodies.CHUNKS, **changes)
        self.conn = Connection(config, implicit_tls=True)
        self.events: list[Event] = []
        self.written: list[bytes] = []
        self.mechanism: sasl.ServerMechanism | None = None

    def send(self, data: bytes) -> None:
        if data:
            self.written.append(data)
            self.conn.receive_data(data)

    def receive(self) -> bytes:
        while not isinstance(event := self.conn.next_event(), Signal | ConnectionClosed):
            self.events.append(event)
            if not isinstance(event, DataChunk):
                self.conn.send(self.answer(event))
        return self.conn.data_to_send()

    def answer(self, event: Event) -> Reply:
        match event:
            case Rcpt(forward_path=path) if path.local_part == "refused":
                return Reply(550, "No")
            case Rcpt() | DataEnd():
                return Reply(250, "Yes")
            case Auth(mechanism=name, initial_response=initial):
                self.mechanism = sasl.make_server(name, TLS)
                return self.step(self.mechanism.start(initial))
            case AuthResponse(data) if self.mechanism:
                return self.step(self.mechanism.respond(data))
            case _:
                return self.conn.default_reply(event)

    def step(self, step: sasl.Step) -> Reply:
        assert self.mechanism
        while isinstance(step, sasl.CheckPassword):
            step = self.mechanism.answer(step.matches("tanstaaftanstaaf"))
        match step:
            case sasl.Challenge(data):
                return Challenge(data)
            case sasl.Accepted():
                return Reply(235)
        return Reply(535)


Codes = dict[str, int | type[Exception]]


def submit(server: Answering | App, recipients: Sequence[str] = ("u@s.example",), **options: Any) -> Codes:
    """Run the program of the page against a server, and return the code or the error for each recipient."""
    program = run_example("def submit")["submit"]
    make = scripted_server if isinstance(server, Answering) else app_server
    with make(server) as port:
        result = program("localhost", port, "a@c.example", recipients, [b"Subject: x\r\n", b"\r\n.dot"], **options)
    return {name: item.code if isinstance(item, Reply) else type(item) for name, item in result.items()}


@contextmanager
def scripted_server(server: Any) -> Iterator[int]:
    with peer_serving(server) as address:
        yield address.port


@contextmanager
def app_server(app: Any) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    with app_serving(app, tls=context) as running:
        yield running.address.port


def test_submit_sends_a_message_with_tls_and_auth() -> None:
    messages: list[bytes] = []
    app = App()

    @app.on("auth")
    def check(session: Session, question: sasl.Question) -> bool | None:
        return question.matches("tanstaaftanstaaf") if isinstance(question, sasl.CheckPassword) else None

    @app.on("RCPT")
    def accept(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250) if session.identity and rcpt.forward_path.local_part != "refused" else Reply(550)

    @app.on("message")
    async def keep(session: Session, message: Message) -> Reply:
        messages.append(await message.read())
        return Reply(250)

    context = context_trusting(AUTHORITY)
    names = ["u@s.example", "refused@s.example", "ü@s.example"]

    assert submit(app, names, tls=context, credentials=TIM) == {
        names[0]: 250,
        names[1]: 550,
        names[2]: LocalProtocolError,
    }
    assert messages == [b"Subject: x\r\n\r\n.dot\r\n"]


@pytest.mark.parametrize("offered", [(), ("PIPELINING",)])
@pytest.mark.parametrize("step", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END"])
@pytest.mark.parametrize("code", [421, 450, 550])
def test_refusal_of_each_step_is_the_result(step: str, code: int, offered: tuple[str, ...]) -> None:
    refusal = b"%d no\r\n" % code
    refusals: dict[str, Any] = {step: closing(refusal) if code == 421 else refusal}
    if step == "EHLO":
        refusals["HELO"] = refusals["EHLO"]
    server = Answering(*offered, **refusals)
    has_body = step == "RCPT" and code != 421 and offered  # DATA of the group is accepted, with an empty body

    assert submit(server, require_tls=False) == {"u@s.example": code}
    bodies = [b""] if has_body else [b"Subject: x\r\n\r\n..dot\r\n"] if step == "END" else []
    assert server.bodies == bodies


@pytest.mark.parametrize("step", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END"])
def test_connection_lost_at_each_step_is_the_result(step: str) -> None:
    lost: dict[str, Any] = {step: closing(b"")}

    assert submit(Answering(**lost), require_tls=False) == {"u@s.example": RemoteProtocolError}


@pytest.mark.parametrize("code", [421, 454, 554])
def test_refusal_of_starttls_is_the_result(code: int) -> None:
    refusal = b"%d no\r\n" % code
    server = Answering("STARTTLS", STARTTLS=closing(refusal) if code == 421 else refusal)

    assert submit(server) == {"u@s.example": code}
    assert not any("MAIL" in line for line in server.heard)


def test_connection_lost_instead_of_the_reply_to_starttls_is_the_result() -> None:
    assert submit(Answering("STARTTLS", STARTTLS=closing(b""))) == {"u@s.example": RemoteProtocolError}


@pytest.mark.parametrize("right", [False, None])
def test_refusal_of_the_login_is_the_result(right: bool | None) -> None:
    app = App()

    @app.on("auth")
    def refuse(session: Session, question: sasl.Question) -> bool | None:
        return right

    context = context_trusting(AUTHORITY)

    assert submit(app, ["u@s.example", "v@s.example"], tls=context, credentials=TIM) == {
        "u@s.example": 535,
        "v@s.example": 535,
    }


def test_nothing_is_sent_without_tls_if_tls_is_required() -> None:
    server = Answering()

    assert submit(server) == {"u@s.example": LocalProtocolError}
    assert not any("MAIL" in line for line in server.heard)


@contextmanager
def connected(
    server: Server, offered: tuple[str, ...]
) -> Iterator[tuple[ClientConnection, Callable[[Request], Reply]]]:
    conn = ClientConnection(ClientConfig(hostname="client.example"), implicit_tls=True)
    conn.tls_established()
    server.conn.tls_established()

    def next_reply() -> Reply:
        server.send(conn.data_to_send())
        conn.receive_data(server.receive())
        event = conn.next_event()
        assert isinstance(event, Answered)
        return event.reply

    def ask(request: Request) -> Reply:
        conn.send(request)
        return next_reply()

    next_reply()
    ask(conn.hello)
    assert conn.extensions["AUTH"] == offered
    yield conn, ask


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_login_example_succeeds_with_each_mechanism(mechanism: str) -> None:
    log_in = run_example("def log_in(conn")["log_in"]
    with connected(Server(auth_mechanisms=(mechanism,)), (mechanism,)) as (conn, ask):
        log_in(conn, ask, TIM, TLS)
        assert conn.authenticated


def test_log_in_raises_if_the_password_is_wrong() -> None:
    log_in = run_example("def log_in(conn")["log_in"]
    wrong = sasl.Credentials(username="tim", password="x" * 400)
    with connected(Server(auth_mechanisms=("PLAIN",)), ("PLAIN",)) as (conn, ask):
        with pytest.raises(PermissionError, match="535"):
            log_in(conn, ask, wrong, TLS)
        assert not conn.authenticated


def test_log_in_cancels_after_an_invalid_challenge() -> None:
    log_in = run_example("def log_in(conn")["log_in"]
    sent: list[Request] = []
    for challenge, error in [(Reply(334, "%%%"), PermissionError), (Challenge(b"more?"), RemoteProtocolError)]:
        replies = iter([challenge, Reply(501, "cancelled")])

        def ask(request: Request, replies: Iterator[Reply] = replies) -> Reply:
            sent.append(request)
            return next(replies)

        with connected(Server(auth_mechanisms=("PLAIN",)), ("PLAIN",)) as (conn, _), pytest.raises(error):
            log_in(conn, ask, TIM, TLS)

    assert [type(request).__name__ for request in sent] == ["Auth", "AuthCancel"] * 2


def test_log_in_raises_without_a_suitable_mechanism() -> None:
    log_in = run_example("def log_in(conn")["log_in"]
    token = sasl.Credentials(username="tim", token="x")
    no_mechanism = pytest.raises(PermissionError, match="no mechanism")
    with connected(Server(auth_mechanisms=("PLAIN",)), ("PLAIN",)) as (conn, ask), no_mechanism:
        log_in(conn, ask, token, TLS)
