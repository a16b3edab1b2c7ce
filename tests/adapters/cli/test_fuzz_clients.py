"""`smtpcore fuzz --listen` prints its findings about clients, saves them, and plays them again."""

import json
import sys
import threading
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from smtpcore_adapters.check.clients import Run
from smtpcore_adapters.cli import main
from smtpcore_adapters.testing.fuzz.clients import Behaviour, ClientFuzzer, ClientReport, save_behaviour
from tests.adapters.check.clients.broken_clients import Correct, IgnoresSize

module = import_module("smtpcore_adapters.cli._fuzz_clients")

_SENDER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    for line in (b"EHLO " + sys.argv[3].encode(), b"QUIT"):
        connection.recv(1000)
        connection.sendall(line + b"\\r\\n")
    connection.recv(1000)
sys.exit(1)
"""
LISTEN = ("fuzz", "--listen", "--seed", "1", "--timeout", "2")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sender(tmp_path: Path) -> str:
    """Return a command that gives an invalid name in EHLO, and sends no message."""
    program = tmp_path / "sender.py"
    program.write_text(_SENDER)
    return f"{sys.executable} -S -E {program} {{host}} {{port}}"


def test_finding_is_printed_as_a_dialogue_and_saved(sender: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LISTEN, "--run", f"{sender} my_host", "--examples", "1"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "form: Commands and messages have the syntax of SMTP",
        "  EHLO: 'my_host' is neither a domain nor an address literal (RFC 5321 4.1.1.1)",
        "    S: 220 check.example ESMTP",
        "    C: EHLO my_host",
        "    S: 250 check.example",
        "    saved as smtpcore-fuzz/form-ehlo-1.json",
    ]
    assert lines[-2].startswith("note: the client did not deliver its message to an ordinary server: ")
    assert lines[-1].endswith("1 findings, 0 warnings, 0 unstable")


def test_saved_finding_is_played_again(sender: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*LISTEN, "--run", f"{sender} my_host", "--examples", "1", "--corpus", "found"])
    capsys.readouterr()

    replay = ("--replay", "found/form-ehlo-1.json")
    assert main([*LISTEN, "--run", f"{sender} my_host", *replay]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("form: EHLO: 'my_host' is neither")
    assert main([*LISTEN, "--run", f"{sender} c.example", *replay]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no law is broken"


def test_warning_gives_status_0(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "client_of", lambda options: IgnoresSize())
    Path("found").mkdir()
    save_behaviour(Path("found/one.json"), Behaviour(offers=("SIZE 16",)), {})
    Path("found/cut.json").write_text("{")

    assert main([*LISTEN, "--examples", "1", "--corpus", "found"]) == 0
    output = capsys.readouterr()
    assert "0 findings, 1 warnings" in output.out
    assert output.err == "left out: found/cut.json: this is not a file of smtpcore fuzz --listen\n"
    assert main([*LISTEN, "--replay", "found/size-end-1.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("warning: size: END: a message larger")


def test_result_is_printed_as_json(sender: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("--run", f"{sender} my_host", "--examples", "1", "--json")
    assert main(["fuzz", "127.0.0.1:0", *LISTEN[1:], *run]) == 1

    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (report["host"], report["seed"], report["faults"]) == ("127.0.0.1", 1, 1)
    (finding,) = report["findings"]
    assert (finding["law"], finding["file"]) == ("form", "smtpcore-fuzz/form-ehlo-1.json")
    assert finding["dialogue"][1] == "C: EHLO my_host"


def test_progress_is_shown_on_a_terminal(
    sender: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main([*LISTEN, "--run", f"{sender} c.example", "--examples", "1"]) == 0

    assert " sessions, 0 findings, " in capsys.readouterr().err


# Clients that connect by themselves


def _connecting(monkeypatch: pytest.MonkeyPatch, ending: type[BaseException] | None = None) -> None:
    """Let two clients connect as soon as the command waits for clients; then raise `ending`."""
    run = ClientFuzzer.run

    def run_with_clients(fuzzer: ClientFuzzer, saved: Iterable[Behaviour]) -> ClientReport:
        listener = fuzzer.listener
        place = Run(host="127.0.0.1", port=listener.port, authority=listener.authority)
        thread = threading.Thread(target=lambda: [Correct(listener.setup.tls)(place) for _ in range(2)])
        thread.start()
        try:
            return run(fuzzer, saved)
        finally:
            thread.join()
            if ending:
                raise ending

    monkeypatch.setattr(ClientFuzzer, "run", run_with_clients)


def test_clients_that_connect_are_fuzzed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _connecting(monkeypatch)
    assert main([*LISTEN, "--examples", "1"]) == 0

    captured = capsys.readouterr()
    assert captured.err.startswith("listening on 127.0.0.1 port ")
    assert captured.out.startswith("2 sessions in ")


def test_interrupt_ends_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _connecting(monkeypatch, KeyboardInterrupt)
    assert main([*LISTEN, "--tls", "starttls", "--examples", "1"]) == 0

    captured = capsys.readouterr()
    assert "the authority of the certificate is in " in captured.err
    assert captured.out.startswith("2 sessions in ")


# Errors


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--listen", "192.0.2.1:0"], "add --mine"),
        (["--listen", "192.0.2.1:0", "--mine"], "cannot listen on 192.0.2.1: "),
        (["--listen", "--run", "swaks"], "--run: the command needs {port}"),
        (["--listen", "--run", "/no-such-program {port}"], "cannot run /no-such-program: "),
        (["--listen", "--run", "true {port}"], "the client did not connect"),
        (["--listen", "--run", "true {port}", "--replay", "one.json"], "the client did not connect"),
        (["--listen", "--seconds", "0.01"], "no client connected"),
        (["--listen", "--seconds", "0.01", "--replay", "one.json"], "no client connected"),
        (["--listen", "--run", "true {port}", "--replay", "none.json"], "none.json: No such file or directory"),
        (["--listen", "--to", "b@s.example"], "--to has no effect with --listen"),
        (["--listen", "a:1", "b:2"], "OTHER has no effect with --listen"),
        (["--run", "swaks {port}"], "--run needs --listen"),
    ],
)
def test_mistake_is_reported_in_one_line_with_status_2(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_behaviour(Path("one.json"), Behaviour(), {})
    assert main(["fuzz", *arguments]) == 2

    assert error in capsys.readouterr().err.splitlines()[-1]


def test_client_that_connects_only_once_cannot_be_replayed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class ConnectsOnce(Correct):
        runs = 0

        def __call__(self, run: Run) -> bool:
            self.runs += 1
            return self.runs == 1 and super().__call__(run)

    client = ConnectsOnce()
    monkeypatch.setattr(module, "client_of", lambda options: client)
    save_behaviour(Path("one.json"), Behaviour(), {})
    assert main([*LISTEN, "--replay", "one.json"]) == 2

    assert "the client did not connect" in capsys.readouterr().err
