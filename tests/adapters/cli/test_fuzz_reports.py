"""The output of both kinds of `smtpcore fuzz`; test_fuzz.py and test_fuzz_clients.py have whole runs."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from smtpcore_adapters.cli._fuzz_reports import Progress, print_findings, save_findings, saved
from smtpcore_adapters.testing.fuzz import Finding, Report, Violation
from smtpcore_adapters.testing.fuzz.clients import Behaviour, ClientEvidence, ClientFinding


def finding(law: str, verb: str = "END") -> ClientFinding:
    violation = Violation(law, "RFC 5321 4.2", verb, "a text", is_warning=law == "size")
    return ClientFinding(violation, Behaviour(), ClientEvidence(Behaviour(), []), 1)


def test_findings_are_grouped_by_law(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings([finding("once"), finding("size", ""), finding("once")], [Path("a"), Path("b"), Path("c")])

    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "once: An accepted message is not sent again",
        "  END: a text (RFC 5321 4.2)",
        "    saved as a",
        "  END: a text (RFC 5321 4.2)",
        "    saved as c",
        "size: A message is not larger than the offered SIZE",
        "  warning: a malformed line: a text (RFC 5321 4.2)",
        "    saved as b",
    ]


def test_long_verb_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings([finding("form", "X" * 500)], [Path("a")])

    assert f"  {'X' * 20}...: a text (RFC 5321 4.2)\n" in capsys.readouterr().out


def test_findings_are_saved_with_new_names(tmp_path: Path) -> None:
    def write(file: Path, each: ClientFinding, about: Mapping[str, str]) -> None:
        file.write_text(about["law"])

    files = save_findings(tmp_path / "new", [finding("once")] * 2, write)

    assert [file.name for file in files] == ["once-end-1.json", "once-end-2.json"]
    assert saved(tmp_path / "new") == files
    assert [file.name for file in save_findings(tmp_path, [finding("form", "X" * 500)], write)] == [
        f"form-{'x' * 20}-1.json"
    ]
    assert saved(None) == saved(tmp_path / "none") == []


def test_progress_is_shown_at_most_every_tenth_of_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(60)
    progress(Report(sessions=3))
    progress(Report(sessions=4))
    progress.clear()

    assert capsys.readouterr().err.split() == ["3", "sessions,", "0", "findings,", "60", "s", "left"]


def test_finding_about_a_server_has_lines() -> None:
    from tests.adapters.testing.fuzz.runs import RSET, play_at
    from tests.adapters.testing.fuzz.servers import SmallServer

    evidence = play_at(SmallServer, RSET)
    violation = Violation("form", "RFC 5321 4.2", "RSET", "a text")

    assert Finding(violation, evidence.experiment, evidence.recordings, 0).lines[1] == "C: RSET"
