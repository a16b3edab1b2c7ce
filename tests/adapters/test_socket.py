"""Tests of the thread adapter alone; behaviour that all adapters share is in `test_contract`."""

import errno
import os
import select
import selectors
import signal
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from smtpcore import Reply
from smtpcore_adapters import Address, App, TlsMode
from smtpcore_adapters.socket import complete, connect, open_stream, serve
from smtpcore_adapters.testing import SmtpServer
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import TIMEOUT, Client, running


def check_served(client: Client) -> None:
    client.expect(220).send(b"QUIT\r\n").expect(221)


def test_server_continues_after_a_thread_could_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._acceptor._PAUSE", 0.01)
    start = threading.Thread.start
    failures = [RuntimeError("can't start new thread")]

    def fail_once(thread: threading.Thread) -> None:
        if thread.name.startswith("smtpcore 127.0.0.1:") and failures:
            raise failures.pop()
        start(thread)

    with running("threads", App(), config=CONFIG) as server:
        monkeypatch.setattr(threading.Thread, "start", fail_once)
        with server.connect() as unlucky, server.connect() as client:
            assert unlucky.is_closed()
            check_served(client)
    assert "can't start new thread" in caplog.text


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this system has no eventfd(2)")
def test_server_continues_after_file_descriptors_ran_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._acceptor._PAUSE", 0.01)
    eventfd = os.eventfd
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def fail_once(*args: int) -> int:
        if failures:
            raise failures.pop()
        return eventfd(*args)

    with running("threads", App(), config=CONFIG) as server:
        monkeypatch.setattr(os, "eventfd", fail_once)
        with server.connect() as unlucky, server.connect() as client:
            assert unlucky.is_closed()
            check_served(client)
    assert "Too many open files" in caplog.text


@pytest.fixture
def select_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer no eventfd, and waits for sockets only, as Windows does."""

    def select_sockets(readers: Any, writers: Any, others: Any, timeout: float | None = None) -> Any:
        for each in (*readers, *writers):
            descriptor = each if isinstance(each, int) else each.fileno()
            assert stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        return original(readers, writers, others, timeout)

    original = select.select
    monkeypatch.delattr(os, "eventfd", raising=False)
    monkeypatch.delattr(select, "poll", raising=False)
    monkeypatch.setattr(select, "select", select_sockets)
    monkeypatch.setattr(selectors.SelectSelector, "_select", staticmethod(select_sockets))
    for module in ("streams._wakeup", "socket"):
        monkeypatch.setattr(f"smtpcore_adapters.{module}.Selector", selectors.SelectSelector)


@pytest.mark.usefixtures("select_of_windows")
def test_client_waits_with_a_selector_for_sockets_only() -> None:
    with SmtpServer() as server, connect(server.host, server.port, tls=TlsMode.NONE) as client:
        assert client.send("a@c.example", ["b@s.example"], b"Subject: x\r\n\r\n")
    assert len(server.messages) == 1


@pytest.mark.usefixtures("select_of_windows")
def test_socket_pairs_are_used_without_eventfd() -> None:
    with running("threads", App(), config=CONFIG) as server, server.connect() as client, server.connect() as idle:
        check_served(client)
        idle.expect(220)
        server.leave()
        assert idle.rest().startswith(b"421 4.3.2 ")


def test_exception_in_on_ready_ends_sessions_with_421() -> None:
    ends: list[bytes] = []

    def visit(address: Address) -> None:
        client = Client(address)
        client.expect(220)
        thread = threading.Thread(target=read_to_the_end, args=(client,))
        thread.start()
        threads.append(thread)
        raise KeyboardInterrupt

    def read_to_the_end(client: Client) -> None:
        with client:
            ends.append(client.rest())

    threads: list[threading.Thread] = []
    with suppress(KeyboardInterrupt):
        serve(App(), config=CONFIG, on_ready=visit)
    for thread in threads:
        thread.join(TIMEOUT)
    assert ends == [b"421 4.3.2 s.example closing: the server is shutting down\r\n"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no pthread_kill")
def test_signal_that_arrives_in_another_thread_stops_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    # Linux delivers a SIGTERM to another thread if the main thread has not handled a SIGHUP yet.
    monkeypatch.setattr("smtpcore_adapters.socket._SIGNAL_DELAY", 0.02)
    main = threading.main_thread().ident or 0
    waited: list[bool] = []

    def signal_this_thread() -> None:
        end = time.monotonic() + TIMEOUT
        while not waited and time.monotonic() < end:
            frame = sys._current_frames().get(main)
            # "_select" on Windows, and "wait_for_any" of `tests/platforms/windows.py`
            if frame and frame.f_code.co_name.endswith(("select", "wait_for_any")):
                waited.append(True)
            time.sleep(0.001)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    thread = threading.Thread(target=signal_this_thread)
    serve(App(), config=CONFIG, handle_signals=True, on_ready=lambda address: thread.start())
    thread.join()
    assert waited


def test_blocking_handlers_run_side_by_side(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    both = threading.Barrier(2)
    app.on("NOOP")(lambda session, noop: Reply(250, str(both.wait(TIMEOUT) < 2)))
    with running("threads", app, config=CONFIG) as server, server.connect() as one, server.connect() as other:
        one.send(b"NOOP\r\n")
        other.send(b"NOOP\r\n")
        for client in (one, other):
            client.expect(220, "250 2.0.0 True")


def test_refused_connection_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionRefusedError):
        complete(open_stream("127.0.0.1", 1, TIMEOUT))
