"""Handlers and observers that raise a `BaseException` other than an `Exception`, on every adapter."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any, Never

import pytest

from smtpcore import Command, Reply
from smtpcore_adapters import AbortConnection, App, Message, Session
from smtpcore_adapters.server._acceptor import Acceptor
from tests.adapters.fakes import CONFIG, accepting
from tests.adapters.harness import TIMEOUT, loop_of, running
from tests.forking import run_python

ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\nDATA\r\n"


class OwnError(BaseException):
    """An exception as `pytest.fail` raises one."""


def raising(exc: BaseException) -> Callable[..., Any]:
    def fail(*args: object) -> Never:
        raise exc

    return fail


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("exc", [OwnError("no"), GeneratorExit()], ids=repr)
def test_base_exception_of_a_handler_affects_only_its_session(
    exc: BaseException, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    app.on("NOOP")(raising(exc))
    with running(backend, app, config=CONFIG) as server, server.connect() as other, server.connect() as client:
        client.expect(220).send(b"NOOP\r\n").expect(451).send(b"QUIT\r\n").expect(221)
        other.expect(220).send(b"QUIT\r\n").expect(221)
    assert [message.partition(": ")[2] for message in errors(caplog)] == [
        "a handler failed, the client gets " + errors(caplog)[0].partition("gets ")[2]
    ]
    assert type(exc).__name__ in caplog.text


@pytest.mark.parametrize("blocking", [False, True])
def test_error_handler_gets_each_kind_of_exception(blocking: bool, backend: str) -> None:
    app = accepting()
    failure = OwnError("no")
    seen: list[BaseException] = []
    app.on("NOOP")(raising(failure))
    app.on("message")(raising(failure))

    @app.on("error", blocking=blocking)
    def refuse(session: Session, exception: BaseException) -> Reply:
        seen.append(exception)
        return Reply(450, "4.3.5 Ask again")

    with running(backend, app, config=CONFIG) as server, server.connect() as client:
        client.send(b"NOOP\r\n").expect(220, "450 4.3.5 Ask again")
        client.send(ENVELOPE + b"x\r\n.\r\nQUIT\r\n").expect(250, 250, 250, 354, "450 4.3.5 Ask again", 221)
    assert seen == [failure, failure]


def test_base_exception_of_a_message_or_disconnect_handler_is_logged(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = accepting()
    app.on("message")(raising(OwnError("in the message")))
    app.on("disconnect")(raising(OwnError("at the end")))
    with running(backend, app, config=CONFIG) as server, server.connect() as client:
        client.send(ENVELOPE + b"x\r\n.\r\nQUIT\r\n").expect(220, 250, 250, 250, 354, 451, 221)
    assert len(errors(caplog)) == 2


def test_base_exception_of_an_observer_changes_nothing(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.observe(raising(OwnError("seen")))
    with running(backend, app, config=CONFIG) as server, server.connect() as client:
        client.expect(220).send(b"QUIT\r\n").expect(221)
    assert {message.partition(": ")[2] for message in errors(caplog)} == {"an observer failed"}


def test_cancelled_error_of_another_task_counts_as_a_failure_of_the_handler(
    loop_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    if loop_of(loop_backend) == "trio":
        pytest.skip("tasks of trio have no result that could be a cancellation")
    app = App()

    @app.on("NOOP")
    async def noop(session: Session, event: Command) -> Reply:
        lookup = asyncio.ensure_future(asyncio.sleep(60))
        lookup.cancel()  # a pool that is closed does the same
        await lookup
        return Reply(250)

    with running(loop_backend, app, config=CONFIG) as server, server.connect() as other, server.connect() as client:
        other.expect(220)
        client.expect(220).send(b"NOOP\r\n").expect(451).send(b"QUIT\r\n").expect(221)
        other.send(b"QUIT\r\n").expect(221)
    assert "CancelledError" in caplog.text


def test_cancellation_of_a_session_is_not_logged_as_an_error(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()

    @app.on("message")
    async def wait(session: Session, message: Message) -> Reply:
        await message.read()
        return Reply(250)

    with running(backend, app, config=CONFIG, grace=0.0) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354)
        server.leave().result(TIMEOUT)
        assert server.reason() == "cancelled"
    assert errors(caplog) == []


def test_abort_connection_sends_its_data_and_closes_the_connection(backend: str) -> None:
    app = App()
    app.on("NOOP")(raising(AbortConnection(b"bye\r\n")))
    with running(backend, app, config=CONFIG) as server, server.connect() as client:
        client.expect(220).send(b"NOOP\r\n")
        assert client.rest() == b"bye\r\n"


def test_observer_may_abort_the_connection(backend: str) -> None:
    app = App()

    def abort(session: Session, item: object) -> None:
        if isinstance(item, Command):
            raise AbortConnection(b"bye\r\n")

    app.observe(abort)
    with running(backend, app, config=CONFIG) as server, server.connect() as client:
        client.expect(220).send(b"NOOP\r\n")
        assert client.rest() == b"bye\r\n"


def test_two_handlers_may_end_the_server() -> None:
    acceptor = Acceptor(App(), config=CONFIG)
    calls: list[int] = []
    acceptor.on_exit = lambda: calls.append(1)
    first, second = SystemExit(1), SystemExit(2)
    acceptor._exit(first)
    acceptor._exit(second)
    assert acceptor.exit is first
    assert calls == [1]


PROGRAM = """
import socket, sys, threading
from smtpcore import Config, Reply
from smtpcore_adapters import App
from smtpcore_adapters.{module} import run

app = App()

def say(line):
    sys.stdout.write(line + "\\n")  # one write, as several threads say something
    sys.stdout.flush()

@app.on("NOOP")
def leave(session, event):
    raise {exc}

@app.on("disconnect")
def bye(session, reason):
    say(f"ended: {{reason}}")

def talk(address):
    other = socket.create_connection((address.host, address.port), 30)
    client = socket.create_connection((address.host, address.port), 30)
    other.recv(99), client.recv(99)
    client.sendall(b"NOOP\\r\\n")
    say(client.makefile().read().strip())
    say(other.makefile().read().strip())

def ready(address):
    threading.Thread(target=talk, args=[address]).start()

try:
    run(app, 0, on_ready=ready, config=Config(hostname="s.example"), {options})
finally:
    say("the server has ended")
"""

MODULES = {
    "asyncio": ("asyncio", ""),
    "anyio-asyncio": ("anyio", 'backend="asyncio"'),
    "anyio-trio": ("anyio", 'backend="trio"'),
    "trio": ("trio", ""),
    "threads": ("socket", ""),
}


@pytest.mark.parametrize(("exc", "status"), [("SystemExit(3)", 3), ("KeyboardInterrupt", None)])
@pytest.mark.parametrize("name", list(MODULES))
def test_system_exit_of_a_handler_ends_the_server_gracefully(name: str, exc: str, status: int | None) -> None:
    module, options = MODULES[name]
    program = PROGRAM.format(module=module, options=options, exc=exc)
    done = run_python([sys.executable, "-c", program], timeout=60)
    lines = done.stdout.splitlines()
    assert lines.count("421 4.3.2 s.example closing: the server is shutting down") == 2, done.stderr
    assert lines.count("ended: shutdown") == 2
    assert "the server has ended" in lines
    assert "a handler ends the server" in done.stderr
    if status is not None:
        assert done.returncode == status
    else:
        assert done.returncode != 0
        assert "KeyboardInterrupt" in done.stderr


def test_system_exit_of_a_handler_ends_the_block_of_a_server_in_threads() -> None:
    app = App()
    app.on("NOOP")(raising(SystemExit(3)))
    with pytest.raises(SystemExit), running("threads", app, config=CONFIG) as server, server.connect() as client:
        client.expect(220).send(b"NOOP\r\n").expect(421)
