"""`smtpcore check --listen` checks the clients that connect, or that it starts."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpcore_adapters.check import Finding
from smtpcore_adapters.check.clients import ClientChecks, Run
from tests.adapters.check.clients.broken_clients import Correct
from tests.adapters.command import run_in_process

_SENDER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.recv(1000)
    connection.sendall(b"EHLO my_host\\r\\nQUIT\\r\\n")
    connection.recv(1000)
"""


@pytest.fixture
def sender(tmp_path: Path) -> str:
    """Return a command that gives an invalid name in EHLO, and sends no message."""
    program = tmp_path / "sender.py"
    program.write_text(_SENDER)
    return f"{sys.executable} -S -E {program} {{host}} {{port}}"


def test_faults_of_a_command_are_printed_with_status_1(sender: str) -> None:
    done = run_in_process("check", "--listen", "--run", sender, "--only", "hello-name")

    assert done.returncode == 1
    assert "FAIL           hello-name: " in done.stdout
    assert done.stdout.endswith("failed: 0 security, 1 fault, 0 warning\n")


def test_result_is_printed_as_json(sender: str) -> None:
    done = run_in_process("check", "--listen", "127.0.0.1:0", "--run", sender, "--only", "hello-name", "--json")

    report = json.loads(done.stdout)
    assert (report["host"], report["faults"], report["left"]) == ("127.0.0.1", 1, [])
    assert [finding["id"] for finding in report["findings"]] == ["hello-name"]


def _connecting(monkeypatch: pytest.MonkeyPatch, ending: Callable[[], None]) -> None:
    """Let one client connect as soon as the command waits for clients, and call `ending` after its check."""
    wait = ClientChecks.wait

    def wait_with_client(server: ClientChecks, *arguments: object) -> Iterator[Finding]:
        run = Run(host="127.0.0.1", port=server.port, authority=server.authority)
        tls = server.setup.tls
        threading.Thread(target=Correct(tls), args=(run,)).start()
        for finding in wait(server, *arguments):  # type: ignore[arg-type]
            yield finding
            ending()

    monkeypatch.setattr(ClientChecks, "wait", wait_with_client)


def test_clients_that_connect_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    _connecting(monkeypatch, lambda: None)
    done = run_in_process("check", "--listen", "localhost", "--only", "quit-sent", "--seconds", "60")

    assert done.returncode == 0
    assert done.stderr.startswith("smtpcore: listening on localhost port ".removeprefix("smtpcore: "))
    assert done.stdout.startswith("PASS           quit-sent: ")


def test_interrupt_ends_the_wait_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    _connecting(monkeypatch, interrupt)
    done = run_in_process("check", "--listen", "--tls", "starttls", "--only", "quit")

    assert done.returncode == 0
    assert done.stdout.endswith("; 1 without a connection\n")
    assert "the authority of the certificate is in " in done.stderr


def test_without_a_connection_the_status_is_2() -> None:
    done = run_in_process("check", "--listen", "--seconds", "0.01", "--only", "quit")

    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "smtpcore: cannot check the client: no client connected",
    )


def test_client_to_which_no_check_applies_is_an_error_with_the_reason(sender: str) -> None:
    done = run_in_process("check", "--listen", "--run", sender, "--only", "auth-refused", "--only", "command-path")

    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "smtpcore: cannot check the client: no check applies: "
        "the client did not send MAIL or RCPT: the client sent QUIT (command-path); "
        "the client does not log in (auth-refused); the client sent EHLO, QUIT",
    )


def test_client_that_does_not_connect_is_an_error() -> None:
    run = f"{sys.executable} -S -c exit({{port}})"
    done = run_in_process("check", "--listen", "--run", run, "--only", "quit-sent")

    assert done.stderr.splitlines()[-1].endswith("no check applies: the client did not connect (quit-sent)")


def test_checks_are_listed() -> None:
    done = run_in_process("check", "--listen", "--list", "--only", "quit-sent")

    assert done.stdout == "quit-sent  fault  A session ends with QUIT (RFC 5321 4.1.1.10)\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--listen", "192.0.2.1:0"], "add --mine"),
        (["--listen", "mx.example"], "add --mine"),
        (["--listen", "192.0.2.1:0", "--mine"], "cannot listen on 192.0.2.1: "),
        (["--listen", "--run", "swaks"], "--run: the command needs {port}"),
        (["--listen", "--run", "/no-such-program {port}"], "cannot run /no-such-program: "),
        (["--listen", "--to", "b@s.example"], "--to has no effect with --listen"),
        (["--listen", "127.0.0.1:70000"], "is not a server"),
        (["--listen", "--only", "tl"], "there is no check 'tl'"),
        (["--run", "swaks {port}"], "--run needs --listen"),
        (["mx.example:0", "--to", "b@s.example"], "is not a server"),
    ],
)
def test_mistake_is_reported_in_one_line_with_status_2(arguments: list[str], error: str) -> None:
    done = run_in_process("check", *arguments)

    assert done.returncode == 2
    assert error in done.stderr.splitlines()[-1]
