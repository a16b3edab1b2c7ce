"""Start the server again when a Python file changes, for `smtpcore serve --reload`."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import click

from .._hangups import is_hangup_noted

_STOP = 10.0  # seconds for the server to end
_STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_DEBOUNCE = 300  # milliseconds in which several changes count as one
_SETTINGS = (".toml",)


def serve_again_after_changes(arguments: Sequence[str], descriptors: Iterable[int] = ()) -> None:
    """Run the command with `arguments` as a process, and start it again after each change, until SIGINT or SIGTERM.

    SIGHUP, which a closed terminal sends, also ends both processes. By default it would end this process only.

    The process inherits the file `descriptors`, which are sockets to listen on, if they are open.

    A process that has ended, for example because of a syntax error, is started again after the next change.

    Raises:
        click.UsageError: watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, watch
    except ImportError as exc:
        raise click.UsageError("--reload needs another package: pip install 'smtpcore[reload]'") from exc

    stop = threading.Event()
    if is_hangup_noted():
        return

    before = {number: signal.signal(number, lambda *_: stop.set()) for number in _STOP_SIGNALS}
    start = partial(_start, arguments, [each for each in descriptors if _is_open(each)])
    server = start()
    try:
        changes = watch(
            Path.cwd(), watch_filter=PythonFilter(extra_extensions=_SETTINGS), debounce=_DEBOUNCE, stop_event=stop
        )
        for changed in changes:
            names = ", ".join(sorted(Path(path).name for _, path in changed))
            click.echo(f"{names} changed: starting the server again", err=True)
            _end(server)
            server = start()
    finally:
        _end(server)
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(arguments: Sequence[str], descriptors: Sequence[int]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "smtpcore", *arguments, "--no-reload"]
    return subprocess.Popen(command, pass_fds=descriptors)  # noqa: S603 - this program


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
        return True
    except (OSError, OverflowError):
        return False


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_STOP)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
