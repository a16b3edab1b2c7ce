"""Admission of new connections, and the end of all sessions at shutdown."""

import errno
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from smtpcore import Config, LocalProtocolError
from smtpcore_adapters import Address, App, Limits, Listener, Server, Session, Timeouts
from smtpcore_adapters.server._acceptor import Acceptor, pause_after_accept_error
from tests.adapters.fakes import CONFIG, EHLO, QUIT, FakeStream, replies
from tests.adapters.playbook import accepted

HERE = Address("192.0.2.1", 1)
THERE = Address("192.0.2.2", 2)


class Suspension:
    """An awaitable that suspends a coroutine forever."""

    def __await__(self) -> Any:
        yield


class SuspendedSession:
    """A session of an acceptor, suspended in the handler of NOOP until `resume` is called."""

    def __init__(self, acceptor: Acceptor, peer: Address | None) -> None:
        self.stream = FakeStream(EHLO + b"NOOP\r\n", EHLO, QUIT, peer=peer)
        self.session: Coroutine[Any, Any, None] | None = acceptor.session_for(self.stream)
        self.resume()

    def resume(self) -> None:
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
        await Suspension()

    return app


def test_connection_over_the_limit_is_greeted_with_421(caplog: pytest.LogCaptureFixture) -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections=2))
    first, second, third = (
        SuspendedSession(acceptor, HERE),
        SuspendedSession(acceptor, None),
        SuspendedSession(acceptor, THERE),
    )
    assert third.replies == ["421 s.example closing: too many connections"]
    assert "connection from 192.0.2.2:2 refused: 421 4.7.0 closing: too many connections" in caplog.text

    first.resume()
    assert first.replies[-1].startswith("221")
    fourth = SuspendedSession(acceptor, THERE)
    assert fourth.replies[0].startswith("220")
    for suspended in (second, fourth):
        suspended.resume()


def test_connections_per_address_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections_per_address=1))
    here, refused, there = (
        SuspendedSession(acceptor, HERE),
        SuspendedSession(acceptor, Address(HERE.host, 99)),
        SuspendedSession(acceptor, THERE),
    )
    unknown = [SuspendedSession(acceptor, None) for _ in range(3)]
    assert refused.replies == ["421 s.example closing: too many connections from your address"]
    assert there.replies[0].startswith("220")
    here.resume()
    again = SuspendedSession(acceptor, HERE)
    for suspended in (there, again, *unknown):
        assert suspended.replies[0].startswith("220")
        suspended.resume()


class StuckStream(FakeStream):
    """The stream of a client that never reads its replies."""

    async def send(self, data: bytes, timeout: float) -> None:
        await Suspension()


def test_connections_being_refused_do_not_count_against_the_limits() -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections=3, connections_per_address=1))
    sessions = [SuspendedSession(acceptor, HERE)]
    stuck = [acceptor.session_for(StuckStream(peer=HERE)) for _ in range(3)]
    for session in stuck:
        session.send(None)

    sessions.append(SuspendedSession(acceptor, THERE))
    assert sessions[-1].replies[0].startswith("220")

    # The number of connections being refused is limited too: a further connection is closed without a reply.
    stuck.append(acceptor.session_for(StuckStream(peer=HERE)))
    stuck[-1].send(None)
    stream = accepted(acceptor, Address("192.0.2.3", 3)).send(EHLO).stream
    assert (stream.sent, stream.close_timeouts) == ([], [0])
    for suspended in sessions:
        suspended.resume()
    for session in stuck:
        session.close()


def test_drain_ends_all_sessions_and_refuses_new_connections() -> None:
    acceptor = Acceptor(app(), config=CONFIG)
    sessions = [SuspendedSession(acceptor, HERE) for _ in range(3)]
    acceptor.drain()
    late = SuspendedSession(acceptor, HERE)
    assert late.replies == ["421 s.example closing: the server is shutting down"]
    for suspended in sessions:
        suspended.resume()
        assert suspended.replies[-1] == "421 4.3.2 s.example closing: the server is shutting down"


def test_proxy_that_connects_after_drain_is_not_waited_for() -> None:
    acceptor = Acceptor(App(), config=CONFIG, proxies=[HERE.host])
    acceptor.drain()
    stream = accepted(acceptor, HERE).end().stream
    assert (stream.sent, stream.close_timeouts) == ([], [0])


def test_cancelled_session_is_no_longer_counted() -> None:
    acceptor = Acceptor(app(), config=CONFIG, limits=Limits(connections=1))
    suspended = SuspendedSession(acceptor, HERE)
    assert suspended.session
    suspended.session.close()
    assert suspended.stream.close_timeouts == [0]
    SuspendedSession(acceptor, HERE).resume()


# Configuration of a session


def test_implicit_tls_without_a_context_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="implicit_tls needs an SSLContext"):
        Acceptor(App(), implicit_tls=True)


def test_required_tls_without_a_context_is_an_error() -> None:
    with pytest.raises(LocalProtocolError, match="require_tls"):
        Acceptor(App(), config=Config(hostname="s.example", starttls=True, require_tls=True))


def test_invalid_configuration_is_an_error_at_construction() -> None:
    with pytest.raises(LocalProtocolError, match="SMTPUTF8 needs 8BITMIME"):
        Acceptor(App(), config=Config(hostname="s.example", disabled=frozenset({"8BITMIME"})))


@pytest.mark.parametrize(("own", "seconds"), [(None, 7), (Timeouts(greeting=8), 8)])
def test_timeouts_of_the_listener_or_the_server_apply_to_the_session(own: Timeouts | None, seconds: float) -> None:
    acceptor = Acceptor(App(), config=CONFIG, timeouts=Timeouts(greeting=7), listeners=[Listener(timeouts=own)])
    assert accepted(acceptor).send(QUIT).stream.receive_timeouts == [seconds]


@pytest.mark.parametrize(("own", "is_trusted"), [(None, True), ((), False), (("192.0.2.0/24",), True)])
def test_networks_of_the_listener_or_the_server_are_trusted(own: tuple[str, ...] | None, is_trusted: bool) -> None:
    acceptor = Acceptor(App(), config=CONFIG, trusted=iter([HERE.host]), listeners=[Listener(trusted=own)])
    assert ("XCLIENT" in accepted(acceptor, HERE).send(EHLO, QUIT).replies[1]) is is_trusted


def test_address_of_a_server_is_its_first_address() -> None:
    assert Server((HERE, THERE)).address == HERE


@pytest.mark.parametrize(
    ("number", "pauses"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ECONNABORTED, False)]
)
def test_accept_pauses_if_file_descriptors_run_out(number: int, pauses: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    assert (pause_after_accept_error(OSError(number, "as it is")) > 0) is pauses
    assert "a connection could not be accepted" in caplog.text
    assert "as it is" in caplog.text
    assert [record.levelno == logging.ERROR for record in caplog.records] == [pauses]
