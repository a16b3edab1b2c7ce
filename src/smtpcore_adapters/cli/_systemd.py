"""Report the state of the server to systemd, for a service with `Type=notify`: sd_notify(3)."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_logger = logging.getLogger("smtpcore")


class Notifier:
    """Reports the state of this process to systemd, or to nobody if `NOTIFY_SOCKET` is not set.

    Processes that are forked later report nothing, because systemd accepts reports of the main process only.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        place = variables.get("NOTIFY_SOCKET", "")
        self._address = f"\0{place[1:]}" if place.startswith("@") else place
        self._process = os.getpid()
        self._is_ready = False

    def report_ready(self) -> None:
        """Report that the server listens at all addresses."""
        self._is_ready = True
        self._send("READY=1")

    def report_stopping(self) -> None:
        """Report once that the server accepts no more connections."""
        if self._is_ready:
            self._is_ready = False
            self._send("STOPPING=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Report a reload when the block begins, and its end when the block ends, unless the server starts or stops."""
        is_ready = self._is_ready
        if is_ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        yield
        if is_ready:
            self.report_ready()

    def _send(self, state: str) -> None:
        if not self._address or os.getpid() != self._process:
            return

        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(state.encode(), self._address)
        except OSError as exc:
            _logger.warning("cannot report %s to systemd: %s", state.partition("\n")[0], exc.strerror or exc)


NO_SYSTEMD = Notifier({})
"""A notifier that reports nothing."""


class WatchedSocket(socket.socket):
    """A listening socket that calls a function when it is closed: the first step of each server that stops."""

    def __init__(self, listening: socket.socket, on_close: Callable[[], object]) -> None:
        """Take the descriptor of `listening` over."""
        super().__init__(fileno=listening.detach())
        self._on_close = on_close

    def close(self) -> None:
        """Call the function, and close the socket."""
        self._on_close()
        super().close()
