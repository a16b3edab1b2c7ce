"""The examples in docs/stores.md run as described."""

import gzip
import smtplib
from pathlib import Path
from typing import Any

import pytest

from smtpcore_adapters.asyncio import BackgroundServer
from tests.adapters.stores.endpoint import running_program
from tests.docs.test_readme import run_example
from tests.paths import DOCS

PAGE = (DOCS / "stores.md").read_text()
TIMEOUT = 10
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


def deliver(app: Any, sender: str = "a@c.example") -> tuple[int, bytes]:
    """Send a message to the app, and return the reply to it."""
    with (
        BackgroundServer(app) as server,
        smtplib.SMTP("127.0.0.1", server.address.port, "c.example", timeout=TIMEOUT) as client,
    ):
        client.ehlo()
        client.mail(sender)
        client.rcpt("u@example.org")
        try:
            return client.data(MESSAGE)
        except smtplib.SMTPDataError as exc:
            return exc.smtp_code, bytes(exc.smtp_error)  # type: ignore[arg-type]  # the stub allows text


def test_archive_keeps_messages_as_compressed_files(tmp_path: Path) -> None:
    app = run_example("class Archive")["make_app"](tmp_path)
    code, text = deliver(app)
    (path,) = tmp_path.iterdir()
    assert (code, text.decode()) == (250, f"2.0.0 Stored as {path.name}")
    assert gzip.decompress(path.read_bytes()).endswith(MESSAGE)


def test_maildir_keeps_messages_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = run_example("app.include(Maildir(")["app"]
    code, _ = deliver(app)
    (path,) = (tmp_path / "Mail/new").iterdir()
    assert code == 250
    assert path.read_bytes().endswith(MESSAGE.replace(b"\r\n", b"\n"))


def test_archive_removes_a_message_that_is_refused(tmp_path: Path) -> None:
    app = run_example("class Archive")["make_app"](tmp_path)
    with (
        BackgroundServer(app) as server,
        smtplib.SMTP("127.0.0.1", server.address.port, "c.example", timeout=TIMEOUT) as client,
        pytest.raises(smtplib.SMTPDataError, match=r"5\.6\.0"),
    ):
        client.sendmail("a@c.example", ["u@example.org"], b"x\0")
    assert list(tmp_path.iterdir()) == []


def test_receiver_accepts_signed_messages_and_refuses_others() -> None:
    pytest.importorskip("multipart", reason="python-multipart is not installed")
    receiver = run_example("def is_signed(")
    make_app = run_example("app.include(Webhook(url")["make_app"]
    secret = receiver["SECRET"]
    with running_program(receiver["web"]) as origin:
        assert deliver(make_app(f"{origin}/mail", secret))[0] == 250
        assert deliver(make_app(f"{origin}/mail", secret), "x@spam.example") == (550, b"5.7.1 No spam here")
        assert deliver(make_app(f"{origin}/mail", b"another secret"))[0] == 451
        assert deliver(make_app(f"{origin}/missing", secret))[0] == 451
    ((recipient, content),) = receiver["received"]
    assert recipient == "u@example.org"
    assert content.endswith(MESSAGE)


def test_statuses_that_are_temporary_are_listed() -> None:
    from smtpcore_adapters.stores.webhook import _NOT_ABOUT_THE_MESSAGE

    assert f"| {', '.join(map(str, sorted(_NOT_ABOUT_THE_MESSAGE)))} |" in PAGE
