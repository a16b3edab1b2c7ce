"""`smtpcore fuzz` prints its findings as dialogues, saves them, and plays them again."""

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import reserved_ports
from smtpcore import Config
from smtpcore.sasl import CheckPassword
from smtpcore_adapters import Timeouts
from smtpcore_adapters.cli import main
from smtpcore_adapters.testing import SmtpServer
from smtpcore_adapters.testing.fuzz import CannotFuzz, Fuzzer, Report, Violation
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import running
from tests.adapters.testing.fuzz.servers import LfDotLf, ShowsTraceback, SmallServer, served
from tests.adapters.testing.fuzz.test_engine import RefusesEveryone, greeting
from tests.paths import ROOT

module = import_module("smtpcore_adapters.cli.fuzz")
TO = ("--to", "u@s.example", "--seed", "1")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broken() -> Iterator[str]:
    LfDotLf.delivered = []
    with served(LfDotLf) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def correct() -> Iterator[str]:
    SmallServer.delivered = []
    with served(SmallServer) as port:
        yield f"127.0.0.1:{port}"


def test_finding_is_printed_as_a_dialogue_and_saved(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", broken, *TO, "--examples", "8"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "count: Each command gets one reply in time; in LMTP each recipient"
    assert lines[1] == "  DATA: a reply that no command asked for (RFC 5321 4.2)"
    assert "    C: y\\n.\\n" in "\n".join(lines).replace("RSET", "")
    assert "    saved as smtpcore-fuzz/count-data-1.json" in lines
    assert lines[-1].endswith("1 findings, 0 warnings, 0 unstable")


def test_saved_finding_is_played_again(broken: str, correct: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fuzz", broken, *TO, "--examples", "8", "--corpus", "found"])
    capsys.readouterr()

    assert main(["fuzz", broken, *TO, "--replay", "found/count-data-1.json"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("count: DATA: a reply that no command asked for")
    assert main(["fuzz", correct, *TO, "--replay", "found/count-data-1.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no law is broken"


def test_corpus_is_played_first(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        assert main(["fuzz", broken, *TO, "--examples", "8" if number == 1 else "1", "--corpus", "found"]) == 1
        assert f"found/count-data-{number}.json" in capsys.readouterr().out


def test_damaged_files_of_a_corpus_are_named_and_left_out(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fuzz", broken, *TO, "--examples", "8", "--corpus", "found"])
    capsys.readouterr()
    Path("found/cut.json").write_text(Path("found/count-data-1.json").read_text()[:-9])
    Path("found/empty.json").touch()

    assert main(["fuzz", broken, *TO, "--examples", "1", "--corpus", "found"]) == 1
    output = capsys.readouterr()
    assert "found/count-data-2.json" in output.out
    assert output.err.splitlines() == [
        "left out: found/cut.json: this is not a file of smtpcore fuzz",
        "left out: found/empty.json: this is not a file of smtpcore fuzz",
    ]


def test_correct_server_gives_status_0(correct: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", correct, *TO, "--examples", "5"]) == 0

    assert "0 findings, 0 warnings, 0 unstable" in capsys.readouterr().out
    assert not Path("smtpcore-fuzz").exists()


def test_result_is_printed_as_json(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", broken, *TO, "--examples", "8", "--json"]) == 1

    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    (finding,) = report["findings"]
    assert (report["seed"], report["faults"]) == (1, 1)
    assert (finding["law"], finding["verb"], finding["section"]) == ("count", "DATA", "RFC 5321 4.2")
    assert "S: 354 Go" in finding["dialogue"]


def test_warning_gives_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    ShowsTraceback.delivered = []
    with served(ShowsTraceback) as port:
        assert main(["fuzz", f"127.0.0.1:{port}", *TO, "--seconds", "20", "--examples", "150"]) == 0

    assert "  warning: a malformed line: a reply shows internals" in capsys.readouterr().out


def test_progress_is_shown_on_a_terminal(
    correct: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["fuzz", correct, *TO, "--examples", "3"]) == 0

    assert " sessions, 0 findings, " in capsys.readouterr().err


def test_unstable_violations_wrong_laws_and_notes_are_printed(
    broken: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Fuzzer.run

    def changed(self: Fuzzer, saved: object = ()) -> Report:
        report = run(self)
        report.wrong_laws, report.findings = report.findings, []
        report.unstable.append(Violation("count", "RFC 5321 4.2", "NOOP", "no reply"))
        report.unstable.append(Violation("count", "RFC 5321 4.2", "", "no reply"))
        report.notes.append("slow")
        return report

    monkeypatch.setattr(Fuzzer, "run", changed)
    assert main(["fuzz", broken, *TO, "--examples", "8"]) == 0

    output = capsys.readouterr().out
    assert "unstable: NOOP: no reply (count); a second run did not show it\n" in output
    assert "unstable: a malformed line: no reply (count); a second run did not show it\n" in output
    assert "a correct server breaks this law too, please report: a reply that no command asked for\n" in output
    assert "note: slow\n" in output


@pytest.mark.parametrize(
    ("end", "status"), [(KeyboardInterrupt(), 1), (CannotFuzz("the server accepts no more connections"), 2)]
)
def test_findings_of_a_run_that_ends_early_are_printed_and_saved(
    end: BaseException,
    status: int,
    broken: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Fuzzer.run

    def interrupted(self: Fuzzer, saved: object = ()) -> Report:
        run(self)
        raise end

    monkeypatch.setattr(Fuzzer, "run", interrupted)
    assert main(["fuzz", broken, *TO, "--examples", "8"]) == status

    captured = capsys.readouterr()
    assert "    saved as smtpcore-fuzz/count-data-1.json\n" in captured.out
    assert captured.err.endswith("the server accepts no more connections\n" if status == 2 else "")


def test_interrupted_run_without_findings_has_status_130(correct: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Fuzzer, saved: object = ()) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(Fuzzer, "run", interrupted)

    assert main(["fuzz", correct, *TO]) == 130


# Two servers


def test_two_servers_are_compared(broken: str, correct: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", correct, broken, *TO, "--examples", "8"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "body: DATA: the body ends at different places (closed and surplus)"
    assert f"  {broken}" in lines
    assert lines[-1].endswith(": 1 differences")

    assert main(["fuzz", correct, broken, *TO, "--examples", "8", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [difference["rank"] for difference in report["differences"]] == ["body"]
    assert main(["fuzz", correct, correct, *TO, "--examples", "2", "--from", "x"]) == 2


def test_notes_about_both_servers_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with served(RefusesEveryone) as port:
        server = f"127.0.0.1:{port}"
        assert main(["fuzz", server, server, *TO, "--examples", "1"]) == 0

    assert capsys.readouterr().out.count("note: the recipient u@s.example is refused") == 2


def test_deliveries_are_seen(correct: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new").mkdir()
    for options in (["--maildir", "."], ["--delivered-by", "true"]):
        status = main(["fuzz", correct, *TO, "--examples", "1", *options, "--delivery-timeout", "0.01", "--json"])
        assert status == 1
        findings = json.loads(capsys.readouterr().out)["findings"]
        assert [finding["text"] for finding in findings] == ["an accepted message was not delivered"]

    assert (
        main(["fuzz", correct, correct, *TO, "--examples", "1", "--other-maildir", ".", "--delivery-timeout", "0"]) == 0
    )


def test_login_and_proxy_header_begin_each_session(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTPCORE_PASSWORD", "password")
    login = ("--auth", "user", "--allow-plaintext-auth", "--examples", "3")
    app = accepting(MessageStore())
    app.on("auth")(lambda session, asked: isinstance(asked, CheckPassword) and asked.matches("password"))
    options: dict[str, Any] = {"proxies": ["127.0.0.1"], "timeouts": Timeouts(auth_delay=0)}
    with running("threads", app, config=Config(hostname="s.example", plaintext_auth=True), **options) as server:
        address = f"127.0.0.1:{server.server.address.port}"
        assert main(["fuzz", address, *TO, *login, "--proxy", "v2", "--timeout", "20"]) == 0
        monkeypatch.setenv("SMTPCORE_PASSWORD", "wrong")
        assert main(["fuzz", address, *TO, *login, "--proxy", "v1", "--timeout", "20"]) == 2

    assert "the sessions cannot be prepared: AUTH got 535" in capsys.readouterr().err


# Starting a server


def test_server_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    code = "from tests.adapters.testing.fuzz.served import main; main({port})"
    with reserved_ports(1) as (port,):
        command = f"env PYTHONPATH={ROOT} {sys.executable} -c '{code.format(port=port)}'"
        assert main(["fuzz", f"127.0.0.1:{port}", *TO, "--examples", "2", "--start", command]) == 0


@pytest.mark.parametrize(
    ("command", "error"), [("true", "'true' does not open port"), ("/no/such/program", "--start: "), ("'", "--start: ")]
)
def test_command_that_starts_no_server_is_an_error(
    command: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuzz", "127.0.0.1:9", *TO, "--start", command]) == 2

    assert error in capsys.readouterr().err


# Errors


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["127.0.0.1:9"], "cannot connect: Connection refused"),
        (["192.0.2.1"], "192.0.2.1 is not this machine: add --mine if the server is yours"),
        (["no-such-host.invalid"], "cannot find no-such-host.invalid"),
        (["127.0.0.1:9", "192.0.2.1:25"], "192.0.2.1 is not this machine"),
        (["127.0.0.1:9", "--replay", "none.json"], "none.json: No such file or directory"),
        ([], "give a server: HOST or HOST:PORT"),
        (["127.0.0.1", "2525"], "give the port after a colon: 127.0.0.1:2525"),
        (["127.0.0.1:9", "--auth", "tim"], "or --allow-plaintext-auth"),
        (["127.0.0.1:9", "--allow-plaintext-auth"], "--allow-plaintext-auth has no effect without --auth"),
    ],
)
def test_error_is_one_line(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTPCORE_PASSWORD", "x")
    assert main(["fuzz", *arguments, *TO]) == 2

    captured = capsys.readouterr()
    assert error in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"* OK IMAP\r\n", "the greeting is not that of an SMTP server"),
        (b"", r"no greeting \(dropped\); does the server expect --tls implicit or --proxy\?"),
    ],
)
def test_server_of_another_protocol_is_an_error(text: bytes, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with served(greeting(text)) as port:
        assert main(["fuzz", f"127.0.0.1:{port}", *TO]) == 2

    assert re.search(error, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "arguments", "error"),
    [
        ({"lmtp": True}, [], "EHLO is needed: the reply was 500; --lmtp speaks LMTP"),
        ({}, ["--lmtp"], "LHLO is needed: the reply was 500; without --lmtp"),
        ({}, ["--tls", "implicit"], "this port speaks plaintext: try --tls starttls"),
        ({"tls": True}, ["--tls", "starttls"], "STARTTLS failed: .*certificate; --insecure accepts any certificate"),
    ],
    ids=str,
)
def test_error_says_what_to_try(
    options: dict[str, Any], arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with SmtpServer(**options) as server:
        assert main(["fuzz", f"127.0.0.1:{server.port}", *TO, *arguments]) == 2

    assert re.search(error, capsys.readouterr().err)


def test_missing_hypothesis_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "hypothesis" else find_spec(name))
    assert main(["fuzz", "127.0.0.1:9"]) == 2

    assert "pip install 'smtpcore[testing]'" in capsys.readouterr().err


def test_rate_is_limited_for_a_server_that_is_mine(correct: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", correct, "--mine", "--to", "u@s.example", "--examples", "1"]) == 0
