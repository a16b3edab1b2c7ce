"""Behaviour of smtpcore on Windows only. `test_platforms.py` runs these tests on a simulated Windows."""

import errno
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest

from smtpcore_adapters import App, Limits, Listener
from smtpcore_adapters.cli._processes import run_workers
from smtpcore_adapters.maildir import Maildir
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import TIMEOUT, module_of, run_in, running
from tests.platforms.running import RUNS, check_run


@pytest.mark.parametrize(("fields", "reason"), [({"path": "smtp"}, "Unix sockets"), ({"reuse_port": True}, "SO_REUSE")])
def test_listener_of_unix_is_an_error(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"this system has no {reason}"):
        Listener(**fields)


def test_client_with_a_path_is_an_error(backend: str) -> None:
    with pytest.raises(OSError, match="this system has no Unix sockets: connect to a host and a port"):
        run_in(backend, partial(module_of(backend).open_stream, "", 0, 1, path="smtp"))


def test_several_workers_are_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match="--workers needs a system that can fork"):
        run_workers(lambda **options: None, [Listener()], 2, App(), limits=Limits())


def test_port_that_is_in_use_is_an_error(backend: str) -> None:
    with (
        running(backend, App(), config=CONFIG) as server,
        pytest.raises(OSError, match=r"127.0.0.1") as caught,
        running(backend, App(), config=CONFIG, port=server.server.address.port),
    ):
        pass
    assert caught.value.errno == errno.EADDRINUSE


def test_client_connects_from_a_local_address(backend: str) -> None:
    connect = partial(module_of(backend).open_stream, "127.0.0.1", local_address="127.0.0.1")

    async def visit(port: int) -> None:
        stream = await connect(port, TIMEOUT)
        assert stream.local.host == "127.0.0.1"
        await stream.aclose(0)

    with running(backend, App(), config=CONFIG) as server:
        run_in(backend, visit, server.server.address.port)


def test_refused_connection_has_a_readable_text(backend: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError, match=r"[Cc]onnect"):
            run_in(backend, partial(module_of(backend).open_stream, *unused.getsockname(), 1))


def test_maildir_warns_that_directories_are_not_synced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Maildir(tmp_path)
    assert "this system cannot sync a directory" in caplog.text


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_run_of_each_adapter_serves_until_a_signal(run: Callable[..., None]) -> None:
    check_run(run)
