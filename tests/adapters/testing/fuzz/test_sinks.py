"""Delivered messages are read from a Maildir or from a command, and compared with the accepted messages."""

from pathlib import Path

import pytest

from smtpcore_adapters.testing.fuzz import CannotFuzz, CommandSink, MaildirSink
from smtpcore_adapters.testing.fuzz._sinks import differences

MESSAGE = b"Subject: x\r\n\r\n.y\r\n"


@pytest.mark.parametrize(
    ("accepted", "delivered", "difference"),
    [
        ([], [], ""),
        ([(MESSAGE, True)], [b"Received: z\nSubject: x\n\n.y\n"], ""),
        ([(MESSAGE, True)], [MESSAGE, MESSAGE], ""),
        ([(MESSAGE, True)], [], "an accepted message was not delivered"),
        ([(MESSAGE, True)], [b"Subject: x\n\ny\n"], "an accepted message was delivered changed"),
        ([(MESSAGE, True)], [b"X: x\n\n.y\n"], "an accepted message was delivered changed"),
        ([(MESSAGE, True)], [MESSAGE, b"Subject: z\n\n"], "a message was delivered that was not accepted"),
        ([], [MESSAGE], "a message was delivered that was not accepted"),
        ([(MESSAGE, False)], [b"changed"], ""),
    ],
)
def test_difference(accepted: list[tuple[bytes, bool]], delivered: list[bytes], difference: str) -> None:
    assert differences(accepted, delivered) == difference


def test_new_messages_of_a_maildir_are_read(tmp_path: Path) -> None:
    for name in ("new", "cur", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "1").write_bytes(b"old")
    sink = MaildirSink(tmp_path)
    sink.begin()
    (tmp_path / "new" / "1").rename(tmp_path / "cur" / "1")
    (tmp_path / "new" / "2").write_bytes(MESSAGE)

    assert sink.take(1, 5) == [MESSAGE]
    assert sink.take(2, 0.01) == [MESSAGE]


def test_new_messages_of_a_command_are_read(tmp_path: Path) -> None:
    mbox = tmp_path / "mbox"
    mbox.write_bytes(b"")
    sink = CommandSink(f"cat {mbox}")
    sink.begin()
    assert sink.take(0, 5) == []
    mbox.write_bytes(b"From a\nSubject: x\n\n1\n\nFrom b\nSubject: x\n\n2\n\n")
    assert sink.take(2, 5) == [b"Subject: x\n\n1\n", b"Subject: x\n\n2\n"]
    sink.begin()
    assert sink.take(1, 0.001) == []


def test_command_that_fails_is_an_error() -> None:
    with pytest.raises(CannotFuzz, match="cannot see what is delivered"):
        CommandSink("exit 3").begin()


def test_message_that_is_moved_away_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "1").symlink_to("missing")
    monkeypatch.setattr(Path, "is_file", lambda self: True)

    assert MaildirSink(tmp_path).take(1, 0) == []


def test_command_may_print_one_message(tmp_path: Path) -> None:
    message = tmp_path / "message"
    message.write_bytes(MESSAGE)

    assert CommandSink(f"cat {message}").take(1, 5) == [MESSAGE.replace(b"\r\n", b"\n")]
