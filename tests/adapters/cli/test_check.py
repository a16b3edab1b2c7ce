"""`smtpcore check` prints its findings, and its exit status is 1 if a fault was found."""

import json
import threading
from typing import Any

import pytest

from smtpcore_adapters.check import CHECKS, choose
from smtpcore_adapters.cli import main
from smtpcore_adapters.users import Users
from tests.adapters.check.faulty_servers import CONTEXT, scripted
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import running
from tests.adapters.peers import Peer, Serve, serving

TO = ("--to", "b@s.example", "--timeout", "5")


def test_correct_server_passes_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    with running("asyncio", accepting(MessageStore())) as server:
        status = main(["check", str(server.server.address), *TO, "--only", "seq", "--only", "size-exact"])

    output = capsys.readouterr().out
    assert status == 0
    assert "PASS           seq-rset: RSET ends a transaction\n" in output
    assert "NOT APPLICABLE size-exact: " in output
    assert output.splitlines()[-1].endswith("failed: 0 security, 0 fault, 0 warning")


def test_fault_is_explained_and_gives_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(scripted({"XSMTPCORECHECK": "250-fine\r\n250 [red]fine\r\n"})) as address:
        assert main(["check", str(address), *TO, "--only", "verb-unknown"]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "FAIL           verb-unknown: An unknown verb is refused (fault, RFC 5321 4.2.4)",
        "          sent: XSMTPCORECHECK\\r\\n",
        "      expected: 5yz",
        "          seen: 250-fine / 250 [red]fine",
        "                the reply was: 250-fine / 250 [red]fine",
        "0 pass, 1 fail, 0 not applicable, 0 inconclusive; failed: 0 security, 1 fault, 0 warning",
    ]


def test_warning_gives_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(scripted({})) as address:
        assert main(["check", str(address), *TO, "--only", "seq-mail-first"]) == 0

    assert "1 warning" in capsys.readouterr().out


class FastClock:
    """A clock that moves forward by each sleep only."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def dying(*greetings: str) -> Serve:
    """Return a server that dies of an unknown verb. Later clients get one of `greetings` each, or the end."""
    died = threading.Event()
    left = iter(greetings)

    def serve(peer: Peer) -> None:
        if died.is_set():
            scripted({"": next(left, "")})(peer)
        else:
            scripted({"XSMTPCORECHECK": ""})(peer)
            died.set()

    return serve


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.check._checks.time", FastClock())


UNKNOWN = ("--only", "verb-unknown")


@pytest.mark.usefixtures("fast_clock")
def test_server_that_dies_during_the_checks_gives_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(dying()) as address:
        assert main(["check", str(address), *TO, "--only", "verb"]) == 2

    output = capsys.readouterr()
    assert "INCONCLUSIVE   verb-unknown: " in output.out
    assert output.out.splitlines()[-1].endswith(f"{len(choose(['verb'])) - 1} not run")
    assert output.err == (
        f"smtpcore: the server was lost: 127.0.0.1 port {address.port}: the connection: the server closed the "
        "connection; the last check was verb-unknown\n"
    )


@pytest.mark.usefixtures("fast_clock")
def test_json_report_names_the_checks_that_did_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(dying()) as address:
        assert main(["check", str(address), *TO, "--json", "--only", "verb"]) == 2

    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [finding["id"] for finding in report["findings"]] == ["verb-unknown"]
    assert report["left"] == [check.id for check in choose(["verb"])[1:]]


@pytest.mark.usefixtures("fast_clock")
def test_server_that_dies_of_the_last_check_gives_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    closes = scripted({"": "", "QUIT": ""})
    greeted = iter((True, True))
    usual = scripted({"XSMTPCORECHECK": "500 no\r\n"})

    with serving(lambda peer: (usual if next(greeted, False) else closes)(peer)) as address:
        assert main(["check", str(address), *TO, *UNKNOWN]) == 2

    assert "PASS           verb-unknown: " in capsys.readouterr().out


@pytest.mark.usefixtures("fast_clock")
@pytest.mark.parametrize("greetings", [("", "", "220 s.example\r\n"), ("", "421 busy\r\n")])
def test_server_that_starts_again_or_is_busy_is_not_lost(
    greetings: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(dying(*greetings)) as address:
        assert main(["check", str(address), *TO, *UNKNOWN]) == 0

    output = capsys.readouterr()
    assert "INCONCLUSIVE   verb-unknown: " in output.out
    assert output.err == ""


def test_json_report_has_all_fields_of_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(scripted({})) as address:
        assert main(["check", str(address), *TO, "--json", "--only", "verb-unknown", "--only", "verb-case"]) == 1

    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (report["host"], report["port"], report["faults"]) == ("127.0.0.1", address.port, 1)
    assert [(finding["id"], finding["outcome"]) for finding in report["findings"]] == [
        ("verb-unknown", "fail"),
        ("verb-case", "pass"),
    ]
    assert report["findings"][0] == {
        "id": "verb-unknown",
        "title": "An unknown verb is refused",
        "severity": "fault",
        "section": "RFC 5321 4.2.4",
        "outcome": "fail",
        "expected": "5yz",
        "sent": "XSMTPCORECHECK\\r\\n",
        "seen": "250 s.example",
        "note": "the reply was: 250 s.example",
    }


def test_options_choose_tls_and_login(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPCORE_PASSWORD", "se:cret")
    app = accepting(MessageStore())
    app.include(Users({"tim": "se:cret"}))
    options = ["--tls", "starttls", "--insecure", "--auth", "tim", "--only", "auth-twice"]
    with running("asyncio", app, tls=CONTEXT) as server:
        assert main(["check", str(server.server.address), *TO, *options]) == 0

    assert "PASS           auth-twice" in capsys.readouterr().out


def test_list_option_lists_all_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--list"]) == 0

    assert [line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()] == [check.id for check in CHECKS]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["127.0.0.1:1", *TO], "cannot check 127.0.0.1 port 1: "),
        (["[::1]:1", *TO], "cannot check ::1 port 1: "),
        (["::1"], "give the recipient of the test messages: --to ADDRESS"),
        (["", *TO], "give a server: HOST or HOST:PORT"),
        (["s.example:smtp", *TO], "'s.example:smtp' is not a server: give HOST or HOST:PORT"),
        (["s.example:99999", *TO], "'s.example:99999' is not a server: give HOST or HOST:PORT"),
        (["s.example"], "give the recipient of the test messages: --to ADDRESS"),
        (["s.example", "--to", "b"], "'b' is not a mailbox"),
        (["s.example", *TO, "--from", "a@"], "'a@' is not a mailbox"),
        (["s.example", *TO, "--auth", "tim:x", "--tls", "starttls"], "--auth takes the USER only, as the process list"),
        (["s.example", *TO, "--auth", "tim"], "--auth without TLS would expose the password"),
        (["s.example", *TO, "--helo", "my pc"], "--helo: hostname 'my pc' is neither a domain nor an address literal"),
        (["s.example", *TO, "--only", "nothing"], "there is no check 'nothing': see --list"),
    ],
)
def test_error_is_one_line_and_gives_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    monkeypatch.setenv("SMTPCORE_PASSWORD", "x")
    assert main(["check", *arguments]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"smtpcore: {why}")
