"""The examples in `docs/client.md`, against a server connection in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

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
    Data,
    DataChunk,
    DataEnd,
    Event,
    Mail,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Request,
    Signal,
    sasl,
)

from .test_readme import run_example

TLS = sasl.Channel(tls=True)
TIM = sasl.Credentials(username="tim", password="tanstaaftanstaaf")


class Server:
    """A server in memory that accepts all recipients except local part `refused`."""

    def __init__(self, **changes: Any) -> None:
        self.conn = Connection(Config(hostname="s.example", bodies=Bodies.CHUNKS, **changes))
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


@pytest.mark.parametrize("disabled", [frozenset[str](), frozenset({"PIPELINING"})], ids=["grouped", "alone"])
def test_submit_sends_a_message_and_returns_the_replies(disabled: frozenset[str]) -> None:
    server = Server(disabled=disabled)
    submit = run_example("def submit")["submit"]
    recipients = ["u@s.example", "refused@s.example"]
    answers = submit(server.receive, server.send, "a@client.example", recipients, [b"Subject: x\r\n", b"\r\n.dot"])

    assert [(type(answer.to), answer.reply.code) for answer in answers] == [
        (Mail, 250),
        (Rcpt, 250),
        (Rcpt, 550),
        (Data, 354),
        (DataEnd, 250),
    ]
    assert b"".join(event.data for event in server.events if isinstance(event, DataChunk)) == (
        b"Subject: x\r\n\r\n.dot\r\n"
    )
    assert sum(written.count(b"\r\n") for written in server.written[1:2]) == (1 if disabled else 4)


def test_submit_sends_no_body_if_all_recipients_are_refused() -> None:
    server = Server()
    answers = run_example("def submit")["submit"](
        server.receive, server.send, "a@client.example", ["refused@s.example"], [b"x\r\n"]
    )

    assert [answer.reply.code for answer in answers] == [250, 550, 554]
    assert not any(isinstance(event, DataChunk) for event in server.events)


@contextmanager
def connected(
    server: Server, offered: tuple[str, ...]
) -> Iterator[tuple[ClientConnection, Callable[[Request], Reply]]]:
    conn = ClientConnection(ClientConfig(hostname="client.example"))
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
    log_in = run_example("def log_in")["log_in"]
    with connected(Server(auth_mechanisms=(mechanism,)), (mechanism,)) as (conn, ask):
        log_in(conn, ask, TIM, TLS)
        assert conn.authenticated


def test_log_in_raises_if_the_password_is_wrong() -> None:
    log_in = run_example("def log_in")["log_in"]
    wrong = sasl.Credentials(username="tim", password="x" * 400)
    with connected(Server(auth_mechanisms=("PLAIN",)), ("PLAIN",)) as (conn, ask):
        with pytest.raises(PermissionError, match="535"):
            log_in(conn, ask, wrong, TLS)
        assert not conn.authenticated


def test_log_in_cancels_after_an_invalid_challenge() -> None:
    log_in = run_example("def log_in")["log_in"]
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
    log_in = run_example("def log_in")["log_in"]
    token = sasl.Credentials(username="tim", token="x")
    no_mechanism = pytest.raises(PermissionError, match="no mechanism")
    with connected(Server(auth_mechanisms=("PLAIN",)), ("PLAIN",)) as (conn, ask), no_mechanism:
        log_in(conn, ask, token, TLS)
