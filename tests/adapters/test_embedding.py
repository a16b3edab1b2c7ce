"""`Driver`, without an event loop: two drivers joined, with TLS, writes that take time, and failures."""

import logging
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from smtpcore import (
    Bodies,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    DataEnd,
    LocalProtocolError,
    Rcpt,
    Reply,
    State,
    sasl,
)
from smtpcore.dialogues import serving, submission
from smtpcore_adapters.embedding import Driver
from tests.certificates import context_trusting

AUTHORITY = trustme.CA()

TIM = sasl.Credentials(username="tim", password="tanstaaftanstaaf")


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    return context_trusting(AUTHORITY)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def accept(item: object) -> object:
    match item:
        case Rcpt() | DataEnd():
            return Reply(250)
        case sasl.CheckPassword():
            return item.matches("tanstaaftanstaaf")
        case _:
            return None


class End:
    """A driver, and the octets that it has written."""

    def __init__(self, make: Callable[..., Any], conn: Any, *args: Any, **options: Any) -> None:
        self.clock = Clock()
        self.conn = conn
        self.output = bytearray()
        self.is_slow = False
        self.failure: OSError | None = None
        steps = make(conn, self.clock, *args, **options.pop("steps", {}))
        self.driver = Driver(steps, self.write, clock=self.clock, **options)
        self.driver.start()

    def write(self, data: bytes) -> bool | None:
        if self.failure:
            raise self.failure
        self.output += data
        return False if self.is_slow else None

    def take(self) -> bytes:
        data = bytes(self.output)
        self.output.clear()
        return data


def server(*, implicit_tls: bool = False, answer: Any = accept, tls: Any = None, **changes: Any) -> End:
    config = Config(hostname="s.example", bodies=Bodies.CHUNKS, **changes)
    exchange = sasl.ServerExchange() if config.auth_mechanisms else None
    conn = Connection(config, implicit_tls=implicit_tls)
    return End(serving, conn, steps={"exchange": exchange}, answer=answer, tls=tls)


def client(*, implicit_tls: bool = False, **options: Any) -> End:
    conn = ClientConnection(ClientConfig(hostname="c.example"), implicit_tls=implicit_tls)
    return End(submission, conn, "a@c.example", ["u@s.example"], [b"x\r\n"], **options)


def join(*ends: End) -> None:
    one, other = ends
    while not (one.driver.is_over and other.driver.is_over):
        data, reply = one.take(), other.take()
        assert data or reply, "both ends wait"
        for end, octets in ((other, data), (one, reply)):
            if octets:
                end.driver.receive(octets)


@pytest.mark.parametrize("implicit_tls", [False, True])
def test_two_drivers_exchange_a_message_over_tls(implicit_tls: bool) -> None:
    one = server(implicit_tls=implicit_tls, starttls=True, auth_mechanisms=("PLAIN",), tls=server_context())
    steps = {"require_tls": True, "credentials": TIM}
    other = client(implicit_tls=implicit_tls, tls=client_context(), server_name="localhost", steps=steps)
    join(one, other)

    assert other.driver.result == {"u@s.example": Reply(250, enhanced="2.0.0")}
    assert one.conn.authenticated


def test_driver_waits_until_its_output_is_written() -> None:
    end = server()
    end.is_slow = True
    end.driver.receive(b"NOOP\r\n")
    assert not end.driver.wants_input
    end.driver.receive(b"NOOP\r\n")
    assert end.take().count(b"250") == 1
    end.driver.written()
    end.driver.written()

    assert end.take().count(b"250") == 1


def test_written_without_a_pending_write_does_nothing() -> None:
    end = server()
    end.driver.written()

    assert end.driver.wants_input
    assert end.take().startswith(b"220")


def test_driver_ends_the_session_at_its_deadline() -> None:
    end = server()
    left = end.driver.left
    end.clock.now += 300
    assert (left, end.driver.left) == (300, 0)
    end.driver.tick()

    assert end.driver.is_over
    assert b"\r\n421 4.4.2" in end.take()
    end.driver.tick()
    end.driver.receive(b"NOOP\r\n")
    end.driver.lost()
    assert (end.take(), end.driver.left, end.driver.wants_input) == (b"", 10, False)


def test_slow_reader_is_disconnected() -> None:
    end = server()
    end.is_slow = True
    end.driver.receive(b"NOOP\r\n")
    end.driver.tick()
    before = end.driver.is_over
    end.clock.now += 300
    end.driver.tick()

    assert (before, end.driver.is_over) == (False, True)
    assert end.conn.state is State.CLOSED


def test_end_of_stream_ends_the_session() -> None:
    end = server()
    end.driver.receive(b"EHLO c.example\r\n")
    end.driver.receive(b"")

    assert end.driver.is_over


@pytest.mark.parametrize("error", [None, TimeoutError("gone")])
def test_lost_connection_ends_the_session(error: OSError | None) -> None:
    end = client()
    end.driver.lost(error)

    assert isinstance(end.driver.result["u@s.example"], type(error) if error else ConnectionResetError)


def test_write_that_fails_ends_the_session() -> None:
    end = server()
    end.failure = BrokenPipeError()
    end.driver.receive(b"NOOP\r\n")

    assert end.driver.is_over


@pytest.mark.parametrize("early", [b"", b"nonsense\r\n"])
def test_failed_handshake_ends_the_session(early: bytes) -> None:
    end = server(implicit_tls=True, tls=server_context())
    end.driver.receive(early)

    assert end.driver.is_over
    assert not end.conn.tls


def test_octets_received_before_the_handshake_are_part_of_the_handshake() -> None:
    end = server(starttls=True, tls=server_context())
    end.driver.receive(b"EHLO c.example\r\n")
    end.is_slow = True
    end.driver.receive(b"STARTTLS\r\n")
    end.driver.receive(b"EHLO injected.example\r\n")
    end.driver.receive(b"")
    end.driver.written()

    assert end.driver.is_over
    assert end.conn.helo is None or end.conn.helo.domain == "c.example"


def test_tls_without_a_context_ends_the_session() -> None:
    end = server(starttls=True)
    end.driver.receive(b"EHLO c.example\r\n")
    end.driver.receive(b"STARTTLS\r\n")

    assert end.driver.is_over


def test_failed_answer_is_logged_and_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    def fail(item: object) -> object:
        raise OSError("disk full")

    with caplog.at_level(logging.ERROR, "smtpcore"):
        end = server(answer=fail)

    assert end.driver.is_over
    assert "disk full" in caplog.text


def test_close_notify_that_cannot_be_written_is_ignored() -> None:
    one, other = (
        server(implicit_tls=True, tls=server_context()),
        client(implicit_tls=True, tls=client_context(), server_name="localhost"),
    )
    while not one.conn.tls:
        other.driver.receive(one.take()) if one.output else one.driver.receive(other.take())
    one.failure = BrokenPipeError()
    one.driver.lost()

    assert one.driver.is_over


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", "x"), ("write", b""), ("answer", "250 OK"), ("tls", "cert.pem"), ("server_name", 5), ("clock", 0.0)],
)
def test_wrong_argument_of_a_driver_is_a_type_error(name: str, value: Any) -> None:
    steps = serving(Connection(Config(hostname="s.example")), lambda: 0.0)
    given: dict[str, Any] = {"steps": steps, "write": lambda data: None, name: value}
    with pytest.raises(TypeError, match=f"^{name} is .*: use "):
        Driver(**given)


def test_driver_has_no_deadline_before_start() -> None:
    driver = Driver(serving(Connection(Config(hostname="s.example")), lambda: 0.0), lambda data: None)
    with pytest.raises(LocalProtocolError, match="call start"):
        _ = driver.left


def test_answer_that_is_no_reply_is_a_type_error() -> None:
    steps = serving(Connection(Config(hostname="s.example")), lambda: 0.0)
    driver = Driver(steps, lambda data: None, answer=lambda item: "250 OK")
    with pytest.raises(TypeError, match="answer is '250 OK', which is of type str: use an iterable of Reply"):
        driver.start()
