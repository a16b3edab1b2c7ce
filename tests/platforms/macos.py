"""Run tests on a simulated macOS: `python -m tests.platforms.macos PYTEST-ARGUMENTS`."""

import errno
import fcntl
import os
import select
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from tests.platforms.simulation import Altered, install, is_own_call, run

_MISSING_IN_OS = (
    "EFD_CLOEXEC EFD_NONBLOCK O_DIRECT O_LARGEFILE O_TMPFILE copy_file_range eventfd eventfd_read eventfd_write"
    " fdatasync getrandom memfd_create pidfd_open posix_fadvise posix_fallocate sched_getaffinity splice"
)
_MISSING_IN_SOCKET = (
    "AF_NETLINK AF_PACKET AF_VSOCK IP_BIND_ADDRESS_NO_PORT IP_TRANSPARENT MSG_CMSG_CLOEXEC SOCK_CLOEXEC"
    " SOCK_NONBLOCK SO_BINDTODEVICE SO_DOMAIN SO_PEERCRED SO_PROTOCOL TCP_INFO TCP_QUICKACK TCP_USER_TIMEOUT"
)
_FULL_SYNC = 51
_MOST_OF_A_PATH = 103  # octets of `sun_path`, without the final NUL
_CLOSED = 7  # TCP_CLOSE in `tcpi_state`


full_syncs = 0
"""The number of times that F_FULLFSYNC was called."""


def _fcntl(descriptor: int, command: int, *args: Any) -> Any:
    global full_syncs
    if command == _FULL_SYNC:
        full_syncs += 1
        return os.fsync(descriptor)
    return fcntl.fcntl(descriptor, command, *args)


_set_option = socket.socket.setsockopt
_bind_socket = socket.socket.bind


def _setsockopt(self: socket.socket, level: int, option: int, value: Any) -> None:
    if is_own_call() and option == socket.TCP_NODELAY:
        state = self.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state == _CLOSED and self.getsockname()[1]:
            raise OSError(errno.EINVAL, "Invalid argument")  # the peer has reset the connection
    _set_option(self, level, option, value)


def _bind(self: socket.socket, address: Any) -> None:
    if isinstance(address, str | bytes) and len(os.fsencode(address)) > _MOST_OF_A_PATH:
        raise OSError("AF_UNIX path too long")
    _bind_socket(self, address)


def begin() -> None:
    """Let the modules of the project see macOS."""
    altered = [
        Altered(os, _MISSING_IN_OS),
        Altered(sys, platform="darwin"),
        Altered(socket, _MISSING_IN_SOCKET),
        Altered(select, "epoll EPOLLIN EPOLLOUT"),
        Altered(selectors, "EpollSelector", DefaultSelector=selectors.PollSelector),
        Altered(signal, "SIGRTMAX SIGRTMIN sigtimedwait sigwaitinfo"),
        Altered(fcntl, F_FULLFSYNC=_FULL_SYNC, fcntl=_fcntl),
    ]
    setattr(socket.socket, "setsockopt", _setsockopt)  # noqa: B010 - a method may not be assigned otherwise
    setattr(socket.socket, "bind", _bind)  # noqa: B010
    install(altered, (), None)


LINUX_ONLY: Sequence[str] = (
    # macOS syncs with `fcntl`.
    "test_message_is_synced_then_renamed_then_answered",
    "fsync tmp]",
    "fsync new]",
    "test_full_sync_is_used_where_the_system_has_it",
    # On macOS a connection that was reset before `accept` has no session.
    "-connected]",
    # Linux has eventfd.
    "test_server_continues_after_file_descriptors_ran_out",
)
"""Parts of the names of tests that need Linux."""


if __name__ == "__main__":
    sys.modules["tests.platforms.macos"] = sys.modules["__main__"]  # for `checks_on_macos.py`
    begin()
    sys.exit(run(sys.argv[1:], LINUX_ONLY))
