"""The server runs clients, or waits for them, and ends clients that hang."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from smtpcore_adapters.check import Finding, Outcome
from smtpcore_adapters.check.clients import (
    ClientChecks,
    ClientFailed,
    ClientNotEnded,
    ClientSetup,
    Run,
    choose_client_checks,
    command,
)
from tests.adapters.check.clients.broken_clients import Correct
from tests.adapters.check.clients.helpers import finding_of, run_on

_SENDER = """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as client:
    client.sendmail("a@c.example", ["b@s.example"], b"Subject: x\\r\\n\\r\\nHello")
"""


def test_command_is_run_with_the_address_and_the_authority(tmp_path: Path) -> None:
    program = tmp_path / "sender.py"
    program.write_text(_SENDER)

    finding = finding_of("session-plain", command(f"{sys.executable} {program} {{host}} {{port}} {{ca}}", timeout=60))

    assert (finding.outcome, finding.note) == (Outcome.PASS, "")
    assert "FROM:<a@c.example>" in finding.seen.replace("from:", "FROM:")  # smtplib of Python 3.13 sends lower case


def test_command_that_fails_without_a_connection_is_not_judged() -> None:
    finding = finding_of("session-plain", command(f"{sys.executable} -S -c exit({{port}})"))

    assert (finding.outcome, finding.note) == (Outcome.INCONCLUSIVE, "the client did not connect")


@pytest.mark.parametrize("has_groups", [True, False])
def test_command_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, *, has_groups: bool) -> None:
    if not has_groups:
        monkeypatch.delattr(os, "killpg")
    with pytest.raises(ClientNotEnded):
        command("sleep 60 {port}", timeout=0.05)(Run(host="127.0.0.1", port=1, authority=""))


def test_command_that_cannot_be_run_is_an_error() -> None:
    with pytest.raises(ClientFailed, match="no-such-program: "):
        finding_of("session-plain", command("/no-such-program {port}"))


@pytest.mark.parametrize("text", ["", "swaks --server 127.0.0.1"])
def test_command_without_port_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"needs \{port\}"):
        command(text)


def test_client_that_does_not_end_is_found() -> None:
    def hang(run: Run) -> bool:
        Correct()(run)
        raise ClientNotEnded

    finding = finding_of("session-plain", hang)

    assert finding.outcome is Outcome.FAIL
    assert finding.note.startswith("the client did not end")


def test_fault_is_reported_in_place_of_a_client_that_does_not_end() -> None:
    def hang(run: Run) -> bool:
        SendsNoQuit()(run)
        raise ClientNotEnded

    class SendsNoQuit(Correct):
        def quit(self) -> None:
            pass

    assert finding_of("quit-sent", hang).note.startswith("the session ended without QUIT")


def test_client_that_neither_connects_nor_ends_does_not_stop_the_checks() -> None:
    end = threading.Event()
    findings = run_on(lambda run: not end.wait(60), choose_client_checks(["quit-sent"]), timeout=0.02)
    end.set()

    assert [finding.note for finding in findings] == ["the client did not connect"]


def test_connections_of_one_client_are_bounded() -> None:
    opened: list[socket.socket] = []

    def connect_often(run: Run) -> None:
        for _ in range(12):
            connection = socket.create_connection((run.host, run.port))
            connection.close()
            opened.append(connection)

    finding = finding_of("quit-sent", connect_often)

    assert len(opened) == 12
    assert finding.outcome is not Outcome.FAIL


def _wait(setup: ClientSetup, client: Callable[[Run], bool], names: list[str], seconds: float) -> list[Finding]:
    with ClientChecks(setup) as server, ExitStack() as stack:
        run = Run(host=setup.host, port=server.port, authority=server.authority)

        def connect() -> None:
            for _ in range(2):
                client(run)

        thread = threading.Thread(target=connect)
        thread.start()
        stack.callback(thread.join)
        return list(server.wait(choose_client_checks(names), seconds))


def test_each_connection_gets_the_next_check() -> None:
    findings = _wait(ClientSetup(), Correct(), ["quit", "tls-stripped"], 60)

    assert [(finding.id, finding.outcome) for finding in findings] == [
        ("quit-sent", Outcome.PASS),
        ("quit-last", Outcome.PASS),
        ("tls-stripped", Outcome.NOT_APPLICABLE),
    ]


def test_server_stops_waiting_for_clients_after_a_time() -> None:
    with ClientChecks(ClientSetup()) as server:
        assert list(server.wait(choose_client_checks(["quit"]), 0.01)) == []


def test_server_waits_without_limit_by_default() -> None:
    with ClientChecks(ClientSetup()) as server:
        run = Run(host="127.0.0.1", port=server.port, authority=server.authority)
        threading.Thread(target=Correct(), args=(run,)).start()

        assert [finding.id for finding in server.wait(choose_client_checks(["quit-sent"]))] == ["quit-sent"]


@pytest.mark.parametrize("lmtp", [True, False])
def test_clients_of_lmtp_are_checked_with_their_commands(*, lmtp: bool) -> None:
    checks = choose_client_checks(["session-plain", "hello", "recipients-354"])
    findings = {finding.id: finding.outcome for finding in run_on(Correct(lmtp=lmtp), checks, lmtp=True)}

    assert (findings["session-plain"] is Outcome.PASS) == lmtp
    assert findings["hello-first"] is Outcome.PASS
    assert findings["hello-fallback"] is findings["recipients-354"] is Outcome.NOT_APPLICABLE


def test_server_listens_on_ipv6() -> None:
    assert [finding.outcome for finding in _wait(ClientSetup(host="::1"), Correct(), ["quit"], 60)] == [
        Outcome.PASS
    ] * 2


@pytest.mark.parametrize("options", [{"tls": "ssl"}, {"timeout": 0}, {"pause": -1}])
def test_invalid_setup_is_an_error(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"tls is none|timeout has to be"):
        ClientSetup(**options)  # type: ignore[arg-type]


class Vanished:
    """A listening socket whose first connection is gone before it can be accepted."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.attempts = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.attempts += 1
        if self.attempts == 1:
            raise BlockingIOError
        return self._listener.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)


@pytest.mark.parametrize("is_started", [True, False])
def test_connection_that_was_closed_early_is_skipped(is_started: bool) -> None:
    with ClientChecks(ClientSetup()) as server:
        vanished = Vanished(server._listener)
        server._listener = vanished  # type: ignore[assignment]
        run = Run(host="127.0.0.1", port=server.port, authority=server.authority)
        if is_started:
            found = [*server.run(Correct(), choose_client_checks(["quit-sent"]))]
        else:
            thread = threading.Thread(target=Correct(), args=(run,))
            thread.start()
            found = [*server.wait(choose_client_checks(["quit-sent"]))]
            thread.join()

        assert [finding.outcome for finding in found] == [Outcome.PASS]
        assert vanished.attempts == 2
