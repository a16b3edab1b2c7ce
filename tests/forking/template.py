"""The process that is forked: it has imported the packages, and its children run programs."""

# isort: off
from . import clock  # first, so that the packages use clocks that can be moved

# isort: on
import atexit
import gc
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from .program import Program, parse

_MAX_REQUEST = 1_000_000  # octets
_NOT_YET = ("__main__", ".metrics")  # `prometheus_client` reads a variable when it is imported
_FRAMEWORKS = ["asyncio", "trio", "anyio", "anyio._backends._asyncio", "anyio._backends._trio", "uvloop", "smtplib"]


def _import_packages() -> None:
    import smtpcore_adapters

    modules = pkgutil.walk_packages(smtpcore_adapters.__path__, "smtpcore_adapters.", onerror=lambda name: None)
    for name in [*_FRAMEWORKS, *(module.name for module in modules)]:
        if not name.endswith(_NOT_YET):
            with suppress(ImportError):
                import_module(name)


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Return the request in the child, and None in the template after the last request."""
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    children: dict[int, tuple[int, int]] = {}  # the process id and the descriptor for the status, by pidfd
    while True:
        for ready, _ in poll.poll():
            if ready in children:
                pid, status = children.pop(ready)
                poll.unregister(ready)
                os.write(status, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                os.close(status)
                os.close(ready)
                continue

            message, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 4)
            if not message:
                return None

            *streams, status = descriptors
            if (pid := os.fork()) == 0:
                for descriptor, (_, other) in children.items():
                    os.close(descriptor)
                    os.close(other)
                os.close(status)
                requests.close()
                for own, stream in enumerate(streams):
                    os.dup2(stream, own)
                    os.close(stream)
                return json.loads(message)  # type: ignore[no-any-return]

            os.write(status, str(pid).encode())
            for stream in streams:
                os.close(stream)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid, status
            poll.register(pidfd, select.POLLIN)


def _become(request: Mapping[str, Any]) -> Program:
    """Make this child of the template a new process."""
    program = parse(request["arguments"])
    assert program
    if request["session"]:
        os.setsid()
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for each in program.filters:
        assert each in ("error", "ignore"), each
        warnings.simplefilter(each)  # type: ignore[arg-type]
    sys.warnoptions[:] = program.filters
    sys.argv[:] = ["-m" if program.name else "-c", *program.arguments]
    sys.path[0] = os.getcwd() if program.name else ""
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = _stream(0, is_unbuffered)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, is_unbuffered)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, is_unbuffered)  # type: ignore[misc]
    return program


def _stream(descriptor: int, is_unbuffered: bool) -> io.TextIOWrapper:
    mode, buffering = ("wb", 0 if is_unbuffered else -1) if descriptor else ("rb", -1)
    binary: Any = open(descriptor, mode, buffering=buffering, closefd=False)  # noqa: SIM115 - as long as the process
    return io.TextIOWrapper(
        binary,
        encoding="utf-8",
        errors="backslashreplace" if descriptor == 2 else "strict",
        line_buffering=descriptor == 2 or os.isatty(descriptor),
        write_through=is_unbuffered,
    )


def _run(program: Program) -> int:
    """Run the program to its end, and return the status of the process."""
    try:
        if program.name:
            runpy.run_module(program.name, run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(program.code, "<string>", "exec"), vars(main))
    except SystemExit as exc:
        if exc.code is None or isinstance(exc.code, int):
            return exc.code or 0
        sys.stderr.write(f"{exc.code}\n")
        return 1
    except BaseException as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)
        return -signal.SIGINT if isinstance(exc, KeyboardInterrupt) else 1
    return 0


def _end(status: int) -> None:
    """End the process as Python does, but leave the objects of the template alone: to free all takes 0.1 seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    main_module = vars(sys.modules["__main__"])
    if main_module is not globals() and threading.active_count() == 1:
        main_module.clear()
    gc.collect()  # complains about open sockets and files of the program
    sys.stdout.flush()
    sys.stderr.flush()
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def main() -> None:
    """Fork at each request."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is for the tests
    sys.modules["clock"] = clock
    _import_packages()
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        signal.signal(signal.SIGINT, before)
        _end(_run(_become(request)))


if __name__ == "__main__":
    main()
