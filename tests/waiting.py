"""Measure for how long the tests only wait: a pytest plugin.

    python -m pytest -p tests.waiting tests/adapters

Only waits that end by a timeout count: `time.sleep`, and calls of `select`, `recv`, locks and event loops that return
because their time is over. Waits for data or another thread do not count, so a busy machine does not change the result
much. Waits of several threads add up. The waits inside uvloop and other processes are not seen.
"""

import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any

import pytest
import trio._core._run

_FEW = 40
_seconds: dict[str, float] = {}
_name = ""
_now, _sleep = time.monotonic, time.sleep


def _measure(owner: Any, name: str, has_expired: Callable[[Any], bool]) -> None:
    """Count the time of each call of a function that returns because its time is over."""
    function = getattr(owner, name)

    @wraps(function)
    def measured(*args: Any, **options: Any) -> Any:
        begun = _now()
        try:
            result = function(*args, **options)
        except TimeoutError:
            _count(_now() - begun)
            raise
        if has_expired(result):
            _count(_now() - begun)
        return result

    setattr(owner, name, measured)


def _count(seconds: float) -> None:
    if _name:  # not while the main process of pytest-xdist waits for the other processes
        _seconds[_name] = _seconds.get(_name, 0.0) + seconds


def pytest_configure(config: pytest.Config) -> None:
    def never(result: object) -> bool:
        return False

    def empty(result: Any) -> bool:
        return not result

    for kind in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector"):
        if selector := getattr(selectors, kind, None):
            _measure(selector, "select", empty)
    _measure(select, "select", lambda result: not any(result))
    _measure(time, "sleep", lambda result: True)
    _measure(threading.Condition, "wait", lambda result: not result)
    for name in ("recv", "recv_into", "send", "sendall", "connect", "accept"):
        _measure(socket.socket, name, never)
    _measure(vars(trio._core._run)["TheIOManager"], "get_events", empty)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    global _name
    _name = item.nodeid.partition("[")[0]
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Collect the times of a process of pytest-xdist."""
    for name, seconds in getattr(node, "workeroutput", {}).get("waiting", {}).items():
        _seconds[name] = _seconds.get(name, 0.0) + seconds


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["waiting"] = dict(_seconds)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section(f"waited until a time was over: {sum(_seconds.values()):.1f} seconds")
    for name, seconds in sorted(_seconds.items(), key=lambda item: -item[1])[:_FEW]:
        terminalreporter.line(f"{seconds:8.2f} {name}")
