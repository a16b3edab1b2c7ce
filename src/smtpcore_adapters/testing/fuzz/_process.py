"""Start the tested server, and start it again after it died."""

import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import suppress

_POLL = 0.02
"""Seconds between two attempts to connect."""


class ServerProcess:
    """A server that a command starts."""

    def __init__(self, command: str, host: str, port: int, *, timeout: float = 10.0) -> None:
        self._command = command
        self._address = host, port
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Stop the process if there is one, start a new one, and return whether the port accepts connections."""
        self.stop()
        self._process = subprocess.Popen(  # noqa: S603 - the user's own command
            shlex.split(self._command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + self._timeout
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(self._address, timeout=1):
                return True
            time.sleep(_POLL)

        return False

    def stop(self) -> None:
        """Stop the process and its children."""
        if self._process is None:
            return

        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
