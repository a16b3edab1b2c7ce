"""The side of the tests: ask the template for a process, and use the process as a `subprocess.Popen`."""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, AnyStr

_POLL = 1.0
"""Seconds after which a wait looks whether another thread has read the status."""
_READ_LATER = {"PYTHONUNBUFFERED", "PYTHONPYCACHEPREFIX"}


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python and coverage read only at the start of a process."""
    names = ("PYTHON", "COVERAGE", "LC_", "LANG")
    return {name: value for name, value in environment.items() if name.startswith(names) and name not in _READ_LATER}


@cache
def _template() -> socket.socket:
    """Start the template of this test process, and return the socket for requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking.template", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    @atexit.register
    def stop() -> None:
        ours.close()
        process.wait()

    return ours


class Forked(subprocess.Popen[AnyStr]):
    """A process that the template has forked."""

    _status: int
    """Descriptor from which the process id and, after the end of the process, the status are read."""

    def _execute_child(
        self,
        command: Sequence[str],
        executable: None,
        preexec_fn: None,
        close_fds: bool,
        pass_fds: tuple[int, ...],
        cwd: "os.PathLike[str] | None",
        env: Mapping[str, str],
        *rest: Any,
    ) -> None:
        """Fork the template instead of this process. `subprocess.Popen` has opened the pipes."""
        ends: tuple[int, ...] = rest[3:9]  # after startupinfo, creationflags and shell
        start_new_session = rest[-2]
        request = {
            "arguments": [os.fspath(each) for each in command[1:]],
            "directory": os.fspath(cwd or os.getcwd()),
            "environment": dict(env),
            "session": bool(start_new_session),
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            streams: list[int] = [own if end == -1 else end for own, end in enumerate((ends[0], ends[3], ends[5]))]
            socket.send_fds(_template(), [json.dumps(request).encode()], [*streams, theirs.fileno()])
        self.args = command
        self._status = ours.detach()
        self._reading = threading.Lock()
        self.pid = int(os.read(self._status, 32))
        self._child_created = True
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined]

    def poll(self) -> int | None:
        with self._reading:
            if self.returncode is None and select.select([self._status], [], [], 0)[0]:
                self.returncode = int(os.read(self._status, 32))
                os.close(self._status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = _POLL if end is None else min(end - time.monotonic(), _POLL)
            if left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)

            select.select([self._status], [], [], left)
        return self.returncode
