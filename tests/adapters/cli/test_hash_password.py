"""`smtpcore hash-password` prints a hash that `smtpcore serve --auth-file` accepts."""

import smtplib
from pathlib import Path

import click
import pytest

from smtpcore_adapters.cli import hash_password as module
from smtpcore_adapters.users import parse_hash
from tests.adapters.command import TIMEOUT, run_in_process, running


def test_user_with_a_hashed_password_can_log_in(tmp_path: Path) -> None:
    done = run_in_process("hash-password", stdin=b"s3cret\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert parse_hash(done.stdout.strip()).iterations == 4096

    (tmp_path / "users").write_text(f"tim:{done.stdout}tom:other\n")
    with running(tmp_path, "--auth-file", str(tmp_path / "users"), "--allow-plaintext-auth") as server:
        for user, password in (("tim", "s3cret"), ("tom", "other")):
            with smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp:
                smtp.ehlo()
                assert smtp.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
                smtp.login(user, password)
        with (
            smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp,
            pytest.raises(smtplib.SMTPAuthenticationError),
        ):
            smtp.login("tim", done.stdout.strip())


def test_malformed_hash_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("tim:SCRAM-SHA-256$4096:oops\n")
    done = run_in_process("serve", "--auth-file", str(tmp_path / "users"), "--allow-plaintext-auth", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("smtpcore: --auth: a hashed password has the form SCRAM-SHA-256$iterations:")
    assert "oops" not in done.stderr


def test_password_is_asked_for_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    asked: list[dict[str, object]] = []

    def prompt(text: str, **options: object) -> str:
        asked.append(options)
        return "s3cret"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(click, "prompt", prompt)
    module.hash_password_command.main([], standalone_mode=False)
    assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]
    assert parse_hash(capsys.readouterr().out.strip()).iterations == 4096


def test_password_that_saslprep_prohibits_is_an_error() -> None:
    done = run_in_process("hash-password", stdin=b"a\x07\n")
    assert done.returncode == 2
    assert done.stderr.startswith("smtpcore: the password cannot be used with SCRAM")
