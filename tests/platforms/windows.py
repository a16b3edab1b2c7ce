"""Run tests on a simulated Windows: `python -m tests.platforms.windows proactor|selector PYTEST-ARGUMENTS`."""

import asyncio
import enum
import errno
import os
import select
import selectors
import signal
import socket
import stat
import struct
import sys
import threading
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tests.platforms.proactor import ProactorLoop
from tests.platforms.simulation import Altered, install, is_own_call, run

MISSING_MODULES = ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty")
_MISSING_IN_OS = (
    "O_ASYNC O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC chown chroot ctermid eventfd"
    " eventfd_read eventfd_write fchdir fchown fdatasync fork forkpty getegid geteuid getgid getgroups getpgid"
    " getpgrp getpriority getresgid getresuid getsid getuid initgroups killpg lchown lockf major mkfifo mknod nice"
    " openpty pathconf pipe2 posix_fallocate posix_spawn pread pwrite readv register_at_fork sched_getaffinity"
    " sendfile setegid seteuid setgid setgroups setpgid setsid setuid statvfs sync sysconf uname wait WNOHANG writev"
    " EFD_CLOEXEC"
)
_MISSING_IN_SOCKET = (
    "AF_NETLINK AF_PACKET AF_UNIX AF_VSOCK CMSG_LEN CMSG_SPACE MSG_DONTWAIT MSG_NOSIGNAL SCM_CREDENTIALS SCM_RIGHTS"
    " SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED SO_REUSEPORT recv_fds send_fds sethostname"
)
_MISSING_IN_SIGNAL = (
    "ITIMER_REAL SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 SIG_BLOCK"
    " SIG_SETMASK SIG_UNBLOCK alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending"
    " sigtimedwait sigwait"
)
_O_BINARY = 0x8000
_EXCLUSIVE = -5
_SIGBREAK = 21
_MOST = 512  # FD_SETSIZE
_ENOTSOCK = 10038
_FORBIDDEN = frozenset('<>:"|?*\\')
_CLOSED = 7  # TCP_CLOSE in `tcpi_state`


# Sockets


@contextmanager
def _deferred_signals() -> Iterator[None]:
    """Let no signal interrupt the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _number_of(waitable: Any) -> int:
    number: int = waitable if isinstance(waitable, int) else waitable.fileno()
    if number < 0:
        raise ValueError("file descriptor cannot be a negative integer (-1)")
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise OSError(_ENOTSOCK, "An operation was attempted on something that is not a socket")
    return number


def _has_failed(waitable: Any) -> bool:
    """Return whether an attempt to connect has failed."""
    borrowed = socket.socket(fileno=_number_of(waitable))
    try:
        with suppress(OSError):
            state: int = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            return state == _CLOSED
        return False
    finally:
        borrowed.detach()


def _select(
    readers: Sequence[Any], writers: Sequence[Any], exceptional: Sequence[Any], timeout: float | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Wait as `select` of Windows: for sockets only, and a failed attempt to connect is exceptional."""
    for waitables in (readers, writers, exceptional):
        if len(list(map(_number_of, waitables))) > _MOST:
            raise ValueError("too many file descriptors in select()")
    if not (readers or writers or exceptional):
        raise OSError(errno.EINVAL, "An invalid argument was supplied")

    with suppress(RuntimeError):  # without an event loop
        loop = asyncio.get_running_loop()
        if isinstance(loop, ProactorLoop):
            loop.proactor.complete()
    with _deferred_signals():
        readable, writable, exceptions = wait_for_any(readers, writers, exceptional, timeout)
    failed = [each for each in writable if _has_failed(each)]
    return (
        readable,
        [each for each in writable if each not in failed],
        exceptions + [each for each in exceptional if each in failed],
    )


def wait_for_any(
    readers: Sequence[Any], writers: Sequence[Any], exceptional: Sequence[Any], timeout: float | None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Call the real `select`. `tests/adapters/clocks.py` finds by the name of this function that a thread waits."""
    return select.select(readers, writers, exceptional, timeout)


class _SelectSelector(selectors.SelectSelector):
    def _select(self, r: Any, w: Any, x: Any, timeout: float | None = None) -> tuple[Any, Any, Any]:
        readable, writable, failed = _select(r, w, w, timeout)
        return readable, writable + failed, []


class SelectorLoop(BaseSelectorEventLoop):
    """The other loop of Windows: without signal handlers and Unix sockets."""

    def __init__(self) -> None:
        super().__init__(_SelectSelector())


_set_option = socket.socket.setsockopt


def _setsockopt(self: socket.socket, level: int, option: int, value: Any) -> None:
    if is_own_call() and level == socket.SOL_SOCKET:
        assert option != socket.SO_REUSEADDR, "other programs could take the port"
        if option == _EXCLUSIVE:
            option = socket.SO_REUSEADDR  # this option of Linux is as exclusive as that of Windows
        elif option == socket.SO_LINGER:
            value = struct.pack("ii", *struct.unpack("HH", value))
    _set_option(self, level, option, value)


_shutdown_socket = socket.socket.shutdown


def _shutdown(self: socket.socket, how: int) -> None:
    try:
        _shutdown_socket(self, how)
    except OSError as exc:
        if exc.errno != errno.ENOTCONN:  # Windows takes it if both ends have closed
            raise


class _AddressFamily(enum.IntEnum):
    AF_UNSPEC = socket.AF_UNSPEC
    AF_INET = socket.AF_INET
    AF_INET6 = socket.AF_INET6


# Files


def _check_file(descriptor: int) -> int:
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(errno.EBADF, "Bad file descriptor")
    return descriptor


def _check_name(path: Any) -> None:
    if _FORBIDDEN & set(os.path.basename(os.fspath(path))):
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", path)


_text_files: set[int] = set()


def _open(path: Any, flags: int, mode: int = 0o777) -> int:
    _check_name(path)
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    descriptor = os.open(path, flags & ~_O_BINARY, mode)
    (_text_files.discard if flags & _O_BINARY else _text_files.add)(descriptor)
    return descriptor


def _write(descriptor: int, data: Any) -> int:
    _check_file(descriptor)
    if descriptor in _text_files:
        os.write(descriptor, bytes(data).replace(b"\n", b"\r\n"))
        return len(data)
    return os.write(descriptor, data)


def _rename(source: Any, target: Any) -> None:
    if os.path.exists(target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
    _replace(source, target)


def _replace(source: Any, target: Any) -> None:
    _check_name(target)
    for each in (source, target):
        _check_closed(each)
    os.rename(source, target)


def _unlink(path: Any) -> None:
    _check_closed(path)
    os.unlink(path)


def _check_closed(path: Any) -> None:
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{number}") == os.path.realpath(path):
                raise PermissionError(errno.EACCES, "The file is being used by another process", path)


# Signals


def _signal(number: int, handler: Any) -> Any:
    if number not in (signal.SIGINT, signal.SIGTERM, signal.SIGABRT, signal.SIGFPE, _SIGBREAK):
        raise ValueError("invalid signal value")
    return signal.signal(number, handler)


def begin(loop: str) -> None:
    """Let the modules of the project see Windows."""
    _files = {
        "open": _open,
        "read": lambda descriptor, count: os.read(_check_file(descriptor), count),
        "write": _write,
        "close": lambda descriptor: os.close(_check_file(descriptor)),
        "dup": lambda descriptor: os.dup(_check_file(descriptor)),
        "fstat": lambda descriptor: os.fstat(_check_file(descriptor)),
        "rename": _rename,
        "replace": _replace,
        "unlink": _unlink,
    }
    selector = {"SelectSelector": _SelectSelector, "DefaultSelector": _SelectSelector}
    altered = [
        Altered(os, _MISSING_IN_OS, name="nt", sep="/", O_BINARY=_O_BINARY, **_files),
        Altered(sys, "getdlopenflags", platform="win32"),
        Altered(
            socket,
            _MISSING_IN_SOCKET,
            SO_EXCLUSIVEADDRUSE=_EXCLUSIVE,
            AddressFamily=_AddressFamily,
            errorTab={errno.ECONNREFUSED: "Connection refused."},
        ),
        Altered(select, "epoll poll devpoll kqueue POLLIN POLLOUT", select=_select),
        Altered(selectors, "EpollSelector PollSelector KqueueSelector DevpollSelector", **selector),
        Altered(signal, _MISSING_IN_SIGNAL, SIGBREAK=_SIGBREAK, signal=_signal),
    ]
    setattr(socket.socket, "setsockopt", _setsockopt)  # noqa: B010 - a method may not be assigned otherwise
    setattr(socket.socket, "shutdown", _shutdown)  # noqa: B010
    install(altered, MISSING_MODULES, ProactorLoop if loop == "proactor" else SelectorLoop)


UNIX_ONLY: Sequence[str] = (
    # `Maildir` cannot sync directories, and has no `fcntl`.
    "test_message_is_synced_then_renamed_then_answered",
    "fsync new]",
    "test_full_sync_is_used_where_the_system_has_it",
    # Linux has eventfd, and POSIX has the loop with `add_reader` and Unix sockets.
    "test_server_continues_after_file_descriptors_ran_out",
    "test_server_may_stop_during_the_pause_after_an_accept_error",
    "test_connection_that_breaks_during_accept_is_closed[asyncio]",
    # The garbage collector closes a connection if its `accept` is complete when the server stops.
    "test_connection_that_arrives_during_shutdown_is_closed[asyncio]",
    # These tests start processes, to which the simulation does not extend.
    "test_signal_ends_the_process",
    "unix_socket",
    "test_one_server_has_several_listeners",
    # Windows has no limit of file descriptors.
    "test_connections_fit_into_the_file_descriptors_of_the_process",
)
"""Parts of the names of tests that need Unix."""


if __name__ == "__main__":
    begin(sys.argv[1])
    sys.exit(run(sys.argv[2:], UNIX_ONLY))
