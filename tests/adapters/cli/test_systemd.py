"""Reports to systemd: sd_notify(3)."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from smtpcore_adapters.cli._systemd import NO_SYSTEMD, Notifier, WatchedSocket
from tests.adapters.command import TIMEOUT


class Systemd:
    """The socket that receives the reports."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def reports(self) -> list[str]:
        found: list[str] = []
        try:
            while True:
                found.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the value of NOTIFY_SOCKET."""
    return str(tmp_path / "notify") if request.param == "file" else f"@smtpcore-test-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def systemd(place: str) -> Iterator[Systemd]:
    made = Systemd(f"\0{place[1:]}" if place.startswith("@") else place)
    yield made
    made.close()


@pytest.fixture
def notifier(place: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": place})


def test_start_reload_and_stop_are_reported(systemd: Systemd, notifier: Notifier) -> None:
    notifier.report_ready()
    assert systemd.reports() == ["READY=1"]
    with notifier.reloading():
        (report,) = systemd.reports()
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", report)
    assert systemd.reports() == ["READY=1"]
    notifier.report_stopping()
    notifier.report_stopping()
    assert systemd.reports() == ["STOPPING=1"]


def test_reload_while_the_server_starts_or_stops_is_not_reported(systemd: Systemd, notifier: Notifier) -> None:
    with notifier.reloading():
        pass
    notifier.report_stopping()  # a server that could not start
    assert systemd.reports() == []


def test_forked_process_reports_nothing(systemd: Systemd, notifier: Notifier) -> None:
    process = get_context("fork").Process(target=notifier.report_ready)
    process.start()
    process.join(TIMEOUT)
    assert systemd.reports() == []


def test_process_without_systemd_reports_nothing() -> None:
    NO_SYSTEMD.report_ready()
    with NO_SYSTEMD.reloading():
        pass
    NO_SYSTEMD.report_stopping()


def test_missing_socket_of_systemd_is_a_warning(notifier: Notifier, caplog: pytest.LogCaptureFixture) -> None:
    notifier.report_ready()
    ((_, level, text),) = caplog.record_tuples
    assert level == logging.WARNING
    assert text.startswith("cannot report READY=1 to systemd: ")


def test_watched_socket_takes_the_descriptor_over_and_reports_its_end() -> None:
    closed: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address, number = listening.getsockname(), listening.fileno()
        with WatchedSocket(listening, lambda: closed.append("closed")) as watched:
            assert (watched.getsockname(), watched.fileno(), listening.fileno()) == (address, number, -1)
            assert closed == []
        assert closed == ["closed"]
