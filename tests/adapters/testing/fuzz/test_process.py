"""A command starts the tested server, and the process ends with the run."""

import socket
import sys
from collections.abc import Iterator

import pytest

from benchmarks.ports import reserved_ports
from smtpcore_adapters.testing.fuzz import ServerProcess

SERVER = "import socket, time; {more}; s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_ports(1) as (port,):
        yield port


def command(port: int, more: str = "pass") -> str:
    return f'{sys.executable} -c "{SERVER.format(port=port, more=more)}"'


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_server_is_started_and_stopped(port: int) -> None:
    process = ServerProcess(command(port), "127.0.0.1", port)
    process.stop()
    assert process.start()
    assert accepts(port)
    assert process.start()
    process.stop()

    assert not accepts(port)


def test_command_that_ends_is_not_a_server(port: int) -> None:
    assert not ServerProcess(f"{sys.executable} -c 0", "127.0.0.1", port).start()


def test_process_that_has_ended_is_stopped_without_error(port: int) -> None:
    process = ServerProcess(f"{sys.executable} -c 0", "127.0.0.1", port)
    process.start()
    process.stop()


def test_server_that_ignores_the_signal_is_killed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    process = ServerProcess(command(port, "import signal; signal.signal(15, signal.SIG_IGN)"), "127.0.0.1", port)
    assert process.start()
    monkeypatch.setattr(process, "_timeout", 0.01)
    process.stop()

    assert not accepts(port)
