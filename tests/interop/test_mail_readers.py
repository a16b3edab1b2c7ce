"""Real mail readers show the messages that `smtpcore serve` stores in its Maildir."""

import mailbox
import os
import pty
import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.command import running
from tests.interop.clients import TIMEOUT, program
from tests.interop.servers import wait_until

MESSAGE = (
    "From: a@client.example\r\nTo: b@example.org\r\nSubject: parrots\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "Grüße\r\n.a dot\r\nFrom here\r\n\r\nthe end\r\n"
).encode()
TEXT = "Grüße\n.a dot\nFrom here\n\nthe end\n"


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(home), "TERM": "xterm"}


def _python(maildir: Path, home: Path) -> str:
    (message,) = mailbox.Maildir(maildir)
    assert message["Subject"] == "parrots"
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


def _s_nail(maildir: Path, home: Path) -> str:
    arguments = ["-:/", "-S", "v15-compat", "-S", "ttycharset=utf-8", "-R", "-f", f"maildir://{maildir}"]
    done = subprocess.run(
        [program("s-nail"), *arguments],
        input=b"print 1\nexit\n",
        capture_output=True,
        env=_environment(home),
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stderr == b""
    header, _, text = done.stdout.decode().partition("\n\n")
    assert "\nSubject: parrots\n" in header
    return text


def _mutt(maildir: Path, home: Path) -> str:
    mutt = program("mutt")
    shown = home / "shown"
    keys = f"<pipe-message>cat >{shown}.part && mv {shown}.part {shown}<enter><exit>"
    settings = ["set pipe_decode=yes", "ignore *", "set wait_key=no", f"set folder={home}", f'push "{keys}"']
    arguments = [
        "-n",
        "-F",
        "/dev/null",
        *(item for each in settings for item in ("-e", each)),
        "-R",
        "-f",
        str(maildir),
    ]
    terminal, end = pty.openpty()  # mutt shows messages on a terminal only
    try:
        process = subprocess.Popen([mutt, *arguments], stdin=end, stdout=end, stderr=end, env=_environment(home))
        try:
            wait_until(lambda: shown.exists() or None, lambda: os.read(terminal, 65_536).decode(errors="replace"))
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(terminal)
        os.close(end)
    return shown.read_text().partition("\n\n")[2]


@pytest.mark.parametrize("read", [_python, _s_nail, _mutt], ids=["python", "s-nail", "mutt"])
def test_mail_reader_shows_a_stored_message(read: Callable[[Path, Path], str], tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with smtplib.SMTP("127.0.0.1", server.port, "client.example", timeout=TIMEOUT) as smtp:
            assert smtp.sendmail("a@client.example", ["b@example.org"], MESSAGE, ["BODY=8BITMIME"]) == {}

        assert read(server.maildir, tmp_path).rstrip("\n") == TEXT.rstrip("\n")
