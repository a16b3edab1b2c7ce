"""Admission of new connections, and the end of all sessions at shutdown."""

import errno
import logging
from asyncio import CancelledError
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import OFF_BY_DEFAULT, Budgets, Config, LocalProtocolError
from smtpcore_adapters import Address, App, Limits, Listener, Server
from smtpcore_adapters.server._acceptor import Acceptor, pause_after_accept_error
from tests.adapters.fakes import CONFIG, EHLO, QUIT, FakeStream, suspend
from tests.adapters.playbook import accepted

HERE = Address("192.0.2.1", 1)
THERE = Address("192.0.2.2", 2)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({}, "no client is offered XCLIENT or XFORWARD: name the peers with the option trusted"),
        ({"trusted": ["192.0.2.80"]}, ""),
        ({"trusted": ["unix"]}, ""),
        ({"config": CONFIG}, ""),
    ],
)
def test_xclient_without_trusted_peers_is_reported(
    options: dict[str, Any], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    enabled = replace(CONFIG, disabled=OFF_BY_DEFAULT - {"XCLIENT", "XFORWARD"})
    Acceptor(App(), **{"config": enabled, **options})
    assert [record.message for record in caplog.records] == [warning] * bool(warning)


def test_connection_over_the_limit_is_greeted_with_421(caplog: pytest.LogCaptureFixture) -> None:
    acceptor = Acceptor(App(), config=CONFIG, limits=Limits(connections=2))
    first, second = accepted(acceptor, HERE).expect(220), accepted(acceptor, None).expect(220)
    third = accepted(acceptor, THERE).send(EHLO).expect("421 s.example closing: too many connections")
    assert third.is_over
    assert "connection from 192.0.2.2:2 refused: 421 4.7.0 closing: too many connections" in caplog.text

    first.send(QUIT).expect(221)
    accepted(acceptor, THERE).expect(220)
    assert not second.is_over


def test_connections_per_address_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    acceptor = Acceptor(App(), config=CONFIG, limits=Limits(connections_per_address=1))
    here = accepted(acceptor, HERE).expect(220)
    refused = accepted(acceptor, Address(HERE.host, 99)).send(EHLO)
    refused.expect("421 s.example closing: too many connections from your address")
    others = [accepted(acceptor, peer).expect(220) for peer in (THERE, None, None, None)]
    here.send(QUIT).expect(221)
    accepted(acceptor, HERE).expect(220)
    assert not any(other.is_over for other in others)


class StuckStream(FakeStream):
    """The stream of a client that never reads its replies."""

    async def send(self, data: bytes, timeout: float) -> None:
        await suspend(self)


def test_connections_being_refused_do_not_count_against_the_limits() -> None:
    acceptor = Acceptor(App(), config=CONFIG, limits=Limits(connections=3, connections_per_address=1))
    sessions = [accepted(acceptor, HERE).expect(220)]
    stuck = [accepted(acceptor, HERE, StuckStream).send(EHLO) for _ in range(3)]
    sessions.append(accepted(acceptor, THERE).expect(220))

    # The number of connections being refused is limited too: a further connection is closed without a reply.
    stuck.append(accepted(acceptor, HERE, StuckStream).send(EHLO))
    stream = accepted(acceptor, Address("192.0.2.3", 3)).send(EHLO).stream
    assert (stream.sent, stream.close_timeouts) == ([], [0])
    assert not any(dialogue.is_over for dialogue in (*sessions, *stuck))


def test_drain_ends_all_sessions_and_refuses_new_connections() -> None:
    acceptor = Acceptor(App(), config=CONFIG)
    sessions = [accepted(acceptor, HERE).expect(220) for _ in range(3)]
    acceptor.drain()
    accepted(acceptor, HERE).send(EHLO).expect("421 s.example closing: the server is shutting down")
    for dialogue in sessions:
        dialogue.send().expect("421 4.3.2 s.example closing: the server is shutting down")


def test_drain_does_not_wait_for_a_proxy_that_connects_later() -> None:
    acceptor = Acceptor(App(), config=CONFIG, proxies=[HERE.host])
    acceptor.drain()
    stream = accepted(acceptor, HERE).end().stream
    assert (stream.sent, stream.close_timeouts) == ([], [0])


def test_cancelled_session_is_no_longer_counted() -> None:
    acceptor = Acceptor(App(), config=CONFIG, limits=Limits(connections=1))
    dialogue = accepted(acceptor, HERE).expect(220)
    with pytest.raises(CancelledError):
        dialogue.cancel(CancelledError())
    assert dialogue.stream.close_timeouts == [0]
    accepted(acceptor, HERE).expect(220)


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


@pytest.mark.parametrize(("own", "seconds"), [(None, 7), (Budgets(greeting=8), 8)])
def test_timeouts_of_the_listener_or_the_server_apply_to_the_session(own: Budgets | None, seconds: float) -> None:
    acceptor = Acceptor(App(), config=CONFIG, budgets=Budgets(greeting=7), listeners=[Listener(budgets=own)])
    assert accepted(acceptor).send(QUIT).stream.receive_timeouts == [seconds]


@pytest.mark.parametrize(("own", "is_trusted"), [(None, True), ((), False), (("192.0.2.0/24",), True)])
def test_networks_of_the_listener_or_the_server_are_trusted(own: tuple[str, ...] | None, is_trusted: bool) -> None:
    acceptor = Acceptor(App(), config=CONFIG, trusted=iter([HERE.host]), listeners=[Listener(trusted=own)])
    assert ("XCLIENT" in accepted(acceptor, HERE).send(EHLO, QUIT).replies[1]) is is_trusted


def test_session_names_its_listener() -> None:
    names: list[str] = []
    app = App()
    app.on("connect")(lambda session, opened: names.append(session.listener.name if session.listener else ""))
    acceptor = Acceptor(app, config=CONFIG, listeners=[Listener(name="mx"), Listener(name="other")])
    accepted(acceptor).send(QUIT)
    assert names == ["mx"]


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
