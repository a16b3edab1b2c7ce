"""Transcripts of sessions, with secrets masked."""

import io
import re
import ssl
import stat
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from smtpcore import Reply
from smtpcore_adapters import App, Session, Timeouts
from smtpcore_adapters.testing.faults import Faults
from smtpcore_adapters.transcript import Transcript, to_directory, to_stream
from smtpcore_adapters.users import Users
from tests.adapters.fakes import (
    CONFIG,
    EHLO,
    ENVELOPE,
    MAIL,
    QUIT,
    RCPT,
    MessageStore,
    Step,
    accepting,
)
from tests.adapters.playbook import session

OFFERING = replace(CONFIG, auth_mechanisms=("PLAIN", "LOGIN"), plaintext_auth=True)
NAME, PASSWORD = b64encode(b"tim"), b64encode(b"tanstaaf")
PLAIN = b64encode(b"\0tim\0tanstaaf")


def transcribe(app: App, *script: Step, **options: object) -> list[str]:
    lines: list[str] = []
    app.include(Transcript(lambda session, line: lines.append(line)))
    session(app, **options).send(*script).end()
    return lines


def test_transcript_shows_octets_that_a_fault_sends() -> None:
    app = App()
    app.include(Faults("MAIL -> stray 250 Again", "RCPT -> early 354 Go", "NOOP -> 554 No, then drop"))
    app.on("RCPT")(lambda session, rcpt: Reply(250, "2.1.5 Yes"))
    lines = transcribe(app, EHLO + MAIL + RCPT + b"RSET\r\nNOOP\r\n")
    shown = lines[lines.index("C: MAIL FROM:<a@c.example>") :]
    assert shown == [
        "C: MAIL FROM:<a@c.example>",
        "S: 250 2.1.0 Sender accepted",
        r"-- sent instead: '250 2.1.0 Sender accepted\r\n250 Again\r\n'",
        "C: RCPT TO:<u@s.example>",
        "S: 250 2.1.5 Yes",
        r"-- sent instead: '250 2.1.5 Yes\r\n354 Go\r\n'",
        "C: RSET",
        "S: 250 2.0.0 Transaction cleared",
        "-- sent instead: ''",
        "C: NOOP",
        r"-- sent unchanged: '554 No\r\n'",
        "-- closed after 0.0 s: aborted",
    ]


def test_transcript_shows_the_dialogue_without_the_body() -> None:
    lines = transcribe(accepting(MessageStore()), ENVELOPE, b"a secret\r\n.\r\n" + QUIT)
    assert lines == [
        "-- opened",
        "S: 220 s.example ESMTP",
        "C: EHLO c.example",
        *[line for line in lines if line.startswith("S: 250") and line[6] in "- " and "2." not in line[6:10]],
        "C: MAIL FROM:<a@c.example>",
        "S: 250 2.1.0 Sender accepted",
        "C: RCPT TO:<u@s.example>",
        "S: 250 2.1.5 Taken",
        "C: DATA",
        "S: 354 Start mail input; end with <CRLF>.<CRLF>",
        "C: .",
        "S: 250 2.0.0 Stored",
        "C: QUIT",
        "S: 221 2.0.0 s.example closing",
        "-- closed after 0.0 s: QUIT",
    ]


def test_transcript_shows_chunks_and_refused_commands() -> None:
    lines = transcribe(
        accepting(MessageStore()),
        EHLO + MAIL + RCPT + b"BDAT 1\r\nx" + b"BDAT 2 LAST\r\na\n" + b"MAIL x\r\n" + b"XX y\r\n",
    )
    first = lines.index("C: BDAT 1")
    assert lines[first : first + 5] == [
        "C: BDAT 1",
        "-- the end of a chunk",
        "S: 250 2.0.0 Chunk received",
        "C: BDAT 2 LAST",
        "C: .",
    ]
    assert lines[first + 5].startswith("S: 550 5.6.0")
    assert "C: MAIL x" in lines
    assert "C: XX y" in lines


SECRETS: dict[str, tuple[bytes, ...]] = {
    "an initial response": (b"AUTH PLAIN " + PLAIN + b"\r\n",),
    "responses": (b"AUTH LOGIN\r\n", NAME + b"\r\n", PASSWORD + b"\r\n"),
    "sent ahead": (b"AUTH LOGIN\r\n" + NAME + b"\r\n" + PASSWORD + b"\r\n",),
    "after an unknown mechanism": (b"AUTH NONE\r\n" + NAME + b"\r\n" + PASSWORD + b"\r\n",),
    "after AUTH before EHLO": (b"AUTH LOGIN\r\n" + NAME + b"\r\n" + PASSWORD + b"\r\n",),
    "after a malformed AUTH": (b"AUTH\r\n" + PASSWORD + b"\r\n", b"auth login " + PLAIN + b" x\r\n" + PLAIN + b"\r\n"),
    "in a second AUTH": (b"AUTH PLAIN " + PLAIN + b"\r\nAUTH PLAIN " + PLAIN + b"\r\n" + PLAIN + b"\r\n",),
    "cancelled": (b"AUTH LOGIN\r\n*\r\n" + PASSWORD + b"\r\n",),
}


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("case", SECRETS)
def test_transcript_masks_secrets(case: str, offered: bool) -> None:
    app = App()
    app.include(Users({"tim": "tanstaaf"}))
    before = b"RSET\r\n" if "before EHLO" in case else EHLO
    lines = transcribe(app, before, *SECRETS[case], b"NOOP\r\nXX visible\r\n", config=OFFERING if offered else CONFIG)
    text = "\n".join(lines)
    for secret in (NAME, PASSWORD, PLAIN):
        assert secret.decode() not in text
        assert secret.decode().upper() not in text
    assert "***" in text
    assert "C: XX visible" in lines  # masking ends with the next known command


def test_transcript_has_printable_characters_only() -> None:
    app = App()
    lines = transcribe(app, b"X\x1b[31m \x9b\r\n" + b"\xff\x00\r\n" + QUIT)
    assert all(line.isprintable() for line in lines)


def test_transcript_shows_tls_and_limits() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    options = {"config": replace(CONFIG, starttls=True), "tls": context, "implicit_tls": True}
    assert "-- TLSv1.3 TLS_AES_256_GCM_SHA384" in transcribe(App(), QUIT, **options)
    lines = transcribe(App(), EHLO, timeouts=Timeouts(greeting_delay=1))
    assert lines[1] == "-- limit reached: greeting_delay"

    app = App()
    lines = []
    app.include(Transcript(lambda session, line: lines.append(line)))
    dialogue = session(app, **options)
    dialogue.stream.handshake_error = ssl.SSLError(1, "no\x1bshared cipher")
    dialogue.end()
    assert lines[1] == "-- TLS failed: no\\x1bshared cipher"


def test_transcript_shows_the_rule_that_refused() -> None:
    lines = transcribe(App(), EHLO + RCPT + MAIL + RCPT)
    refusals = [lines[at - 1 : at + 1] for at, line in enumerate(lines) if line.startswith("-- refused")]
    assert refusals == [
        ["S: 503 5.5.1 MAIL must come first", "-- refused (rule: sequence)"],
        ["S: 550 5.7.1 This server does not accept mail for this recipient", "-- refused (default: RCPT)"],
    ]


def test_transcript_is_written_to_a_stream() -> None:
    app = App()
    stream = io.StringIO()
    sessions: list[Session] = []
    app.on("connect")(lambda session, opened: sessions.append(session))
    app.include(Transcript(to_stream(stream)))
    session(app).send(QUIT)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(rf"\S+T\S+ {sessions[0].id} (C:|S:|--) .*", line) for line in lines)


def test_transcript_is_written_to_a_file_per_session(tmp_path: Path) -> None:
    app = App()
    directory = tmp_path / "new" / "transcripts"
    app.include(Transcript(to_directory(directory)))
    ids = {session(app).send(b"NOOP\r\n" + QUIT).session.id for _ in range(2)}
    files = sorted(directory.iterdir())
    assert {file.stem for file in files} == ids
    for file in files:
        assert [line.split(" ", 1)[1] for line in file.read_text().splitlines()][2:4] == [
            "C: NOOP",
            "S: 250 2.0.0 OK",
        ]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("verb", [b"AUTHPLAIN", b"authplain", b"AUTH"])
def test_malformed_auth_is_masked(verb: bytes) -> None:
    lines: list[str] = []
    app = App()
    app.include(Transcript(lambda session, text: lines.append(text)))
    session(app).send(b"EHLO c.example\r\n" + verb + b" AHRpbQBzZWNyZXQ=\r\nQUIT\r\n")

    assert "C: AUTH ***" in [text.upper() for text in lines]
    assert "AHRpbQBzZWNyZXQ" not in "".join(lines)
