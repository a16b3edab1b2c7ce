"""`smtpcore explain` annotates a recording, and its exit status is 1 if a side breached an RFC."""

import json
from pathlib import Path
from typing import Any

import pytest

from smtpcore_adapters.cli import main
from tests.adapters.command import run

LEGAL = """S: 220 s.example
C: EHLO c.example
S: 250-s.example
S: 250 STARTTLS
C: STARTTLS
S: 220 go
-- TLSv1.3
C: EHLO c.example
S: 250 s.example
C: MAIL FROM:<a@c.example>
S: 250 OK
C: RCPT TO:<b@s.example>
S: 250 OK
C: DATA
S: 354 go
C: Subject: \x1b[31mred
C:
C: text
C: .
S: 250 taken
"""


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_legal_dialogue_is_shown_with_events_and_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", written(tmp_path / "legal", LEGAL)]) == 0

    output = capsys.readouterr().out
    assert "S: 220 s.example   [answers ConnectionOpened -> GREETED]\n" in output
    assert "-- (TLS)\n" in output
    assert "C: (3 lines of a message)\nC: .   [DataEnd -> DATA]\n" in output
    assert "   note: the dialogue ends without QUIT\n" in output
    assert output.endswith("\n0 breaches of the RFCs\n")
    assert "\x1b" not in output


def test_breach_is_shown_with_its_section_and_gives_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "S: 220 s.example\nC: RCPT TO:<[b]@s.example>\nS: 354 what\n"
    assert main(["explain", written(tmp_path / "wrong", text)]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "S: 220 s.example   [answers ConnectionOpened -> GREETED]",
        "C: RCPT TO:<[b]@s.example>   [InvalidCommand -> GREETED]",
        "   BREACH by the client: EHLO must come first (RFC 5321 4.1.4)",
        "S: 354 what   [answers InvalidCommand -> RCPT]",
        "   note: the server accepts the client's breach",
        "   note: the dialogue ends without QUIT",
        "1 breach of the RFCs",
    ]


def test_json_report_has_all_fields_of_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json", written(tmp_path / "wrong", "S: 220 s\nC: DATA\nS: 503 no\n")]) == 1

    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["breaches"] == 1
    assert report["lines"][1] == {
        "side": "client",
        "text": "DATA",
        "is_body": False,
        "events": ["InvalidCommand"],
        "state": "GREETED",
        "breaches": [{"side": "client", "text": "EHLO must come first", "section": "RFC 5321 4.1.4"}],
        "notes": [],
    }


def test_octets_of_each_side_are_read_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = written(tmp_path / "client", "EHLO c\nQUIT\n")
    server = written(tmp_path / "server", "220 s\n250 s\n221 bye\n")

    assert main(["explain", "--client", client, "--server", server]) == 1
    assert main(["explain", "--client", client]) == 1
    assert main(["explain", "--server", server]) == 1
    assert "the line does not end in CR LF (RFC 5321 2.3.8)" in capsys.readouterr().out


def test_recording_is_read_from_standard_input() -> None:
    assert run("explain", "-").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give one FILE, or the octets of each side with --client and --server"),
        (["FILE", "--client", "FILE"], "give one FILE, or the octets of each side"),
        (["FILE"], "the file is not a recording of a dialogue: no line is from a client or server"),
        (["missing"], "Invalid value for '[FILE]': 'missing': No such file"),
    ],
)
def test_error_is_one_line_and_gives_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    path = written(tmp_path / "empty", "\n")
    assert main(["explain", *(path if argument == "FILE" else argument for argument in arguments)]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"smtpcore: {why}")
