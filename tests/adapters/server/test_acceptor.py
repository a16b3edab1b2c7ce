"""Who may come in, and how all are asked to leave."""

import errno
import logging
import platform
import ssl
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Bodies, Config, LocalProtocolError, Reply
from smtpcore_adapters import Address, App, Limits, Server, Session, Timeouts, default_config
from smtpcore_adapters.server._acceptor import Acceptor, pause_after_accept_error
from tests.adapters.fakes import CONFIG, EHLO, QUIT, FakeStream, replies, step

HERE = Address("192.0.2.1", 1)
THERE = Address("192.0.2.2", 2)


class Waiting:
    """Holds a coroutine that is suspended for ever."""

    def __await__(self) -> Any:
        yield


class Guest:
    """A session that has come in, and stays in the handler of NOOP until it is told to go on."""

    def __init__(self, acceptor: Acceptor, peer: Address | None) -> None:
        self.stream = FakeStream(EHLO + b"NOOP\r\n", EHLO, QUIT, peer=peer)
        self.session: Coroutine[Any, Any, None] | None = acceptor.session_for(self.stream)
        self.go_on()

    def go_on(self) -> None:
        assert self.session
        try:
            self.session.send(None)
        except StopIteration:
            self.session = None

    @property
    def replies(self) -> list[str]:
        return replies(self.stream.output)


def app() -> App:
    app = App()

    @app.on("NOOP")
    async def wait(session: Session, noop: object) -> None:
        await Waiting()

    return app


def test_sessions_over_the_limit_are_greeted_with_421(caplog: pytest.LogCaptureFixture) -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections=2))
    first, second, third = Guest(acceptor, HERE), Guest(acceptor, None), Guest(acceptor, THERE)
    assert third.replies == ["421 s.example closing: too many connections"]
    assert "connection from 192.0.2.2:2 refused: 421 4.7.0 closing: too many connections" in caplog.text

    first.go_on()
    assert first.replies[-1].startswith("221")
    fourth = Guest(acceptor, THERE)
    assert fourth.replies[0].startswith("220")
    for guest in (second, fourth):
        guest.go_on()


def test_sessions_from_one_address_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections_per_address=1))
    here, refused, there = Guest(acceptor, HERE), Guest(acceptor, Address(HERE.host, 99)), Guest(acceptor, THERE)
    unknown = [Guest(acceptor, None) for _ in range(3)]
    assert refused.replies == ["421 s.example closing: too many connections from your address"]
    assert there.replies[0].startswith("220")
    here.go_on()
    again = Guest(acceptor, HERE)
    for guest in (there, again, *unknown):
        assert guest.replies[0].startswith("220")
        guest.go_on()


class Stuck(FakeStream):
    """A client that does not take the reply that refuses it."""

    async def send(self, data: bytes, timeout: float) -> None:
        await Waiting()


def test_those_who_are_refused_take_no_place_of_others() -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections=3, connections_per_address=1))
    guests = [Guest(acceptor, HERE)]
    stuck = [acceptor.session_for(Stuck(peer=HERE)) for _ in range(3)]
    for session in stuck:
        session.send(None)

    guests.append(Guest(acceptor, THERE))
    assert guests[-1].replies[0].startswith("220")

    # Those who are being refused are limited in number too: a further one costs nothing but its closing.
    stuck.append(acceptor.session_for(Stuck(peer=HERE)))
    stuck[-1].send(None)
    stream = FakeStream(EHLO, peer=Address("192.0.2.3", 3))
    step(acceptor.session_for(stream))
    assert (stream.sent, stream.closings) == ([], [0])
    for guest in guests:
        guest.go_on()
    for session in stuck:
        session.close()


def test_draining_ends_all_and_lets_no_one_in() -> None:
    acceptor = Acceptor(app(), config=CONFIG)
    guests = [Guest(acceptor, HERE) for _ in range(3)]
    acceptor.drain()
    late = Guest(acceptor, HERE)
    assert late.replies == ["421 s.example closing: the server is shutting down"]
    for guest in guests:
        guest.go_on()
        assert guest.replies[-1] == "421 4.3.2 s.example closing: the server is shutting down"


def test_a_session_that_is_cancelled_gives_its_place_back() -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections=1))
    guest = Guest(acceptor, HERE)
    assert guest.session
    guest.session.close()
    assert guest.stream.closings == [0]
    Guest(acceptor, HERE).go_on()


# What a session is made of


def hello(acceptor: Acceptor) -> str:
    stream = FakeStream(EHLO, QUIT)
    step(acceptor.session_for(stream))
    return replies(stream.output)[1]


def test_tls_is_offered_where_there_is_a_context() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert "STARTTLS" in hello(Acceptor(App(), config=CONFIG, tls=context))
    assert "STARTTLS" not in hello(Acceptor(App(), config=replace(CONFIG, tls=True)))
    assert "STARTTLS" not in hello(Acceptor(App(), config=CONFIG, tls=context, implicit_tls=True))


def test_expn_is_offered_where_there_is_a_handler() -> None:
    app = App()
    assert "EXPN" not in hello(Acceptor(app, config=CONFIG))
    app.on("EXPN")(lambda session, expn: Reply(250, "<a@s.example>"))
    assert "EXPN" in hello(Acceptor(app, config=CONFIG))


def test_implicit_tls_needs_a_context() -> None:
    with pytest.raises(ValueError, match="implicit_tls needs an SSLContext"):
        Acceptor(App(), implicit_tls=True)


def test_required_tls_needs_a_context() -> None:
    with pytest.raises(LocalProtocolError, match="require_tls"):
        Acceptor(App(), config=Config(hostname="s.example", tls=True, require_tls=True))


def test_a_configuration_that_cannot_be_served_is_refused_at_once() -> None:
    with pytest.raises(LocalProtocolError, match="SMTPUTF8 needs 8BITMIME"):
        Acceptor(App(), config=Config(hostname="s.example", disabled=frozenset({"8BITMIME"})))


def test_timeouts_reach_the_session() -> None:
    stream = FakeStream(QUIT)
    step(Acceptor(App(), config=CONFIG, timeouts=Timeouts(greeting=7)).session_for(stream))
    assert stream.limits == [7]


@pytest.mark.parametrize(("node", "hostname"), [("mx.example", "mx.example"), ("", "localhost"), ("ä", "localhost")])
def test_the_default_name_is_that_of_the_machine(node: str, hostname: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: node)
    assert default_config() == Config(hostname=hostname, bodies=Bodies.CHUNKS)
    assert hello(Acceptor(App())).startswith(f"250-{hostname}")


def test_a_server_has_an_address() -> None:
    assert Server((HERE, THERE)).address == HERE


@pytest.mark.parametrize(
    ("number", "pauses"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ECONNABORTED, False)]
)
def test_accepting_pauses_where_the_machine_has_run_out(
    number: int, pauses: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    assert (pause_after_accept_error(OSError(number, "as it is")) > 0) is pauses
    assert "a connection could not be accepted" in caplog.text
    assert "as it is" in caplog.text
    assert [record.levelno == logging.ERROR for record in caplog.records] == [pauses]
