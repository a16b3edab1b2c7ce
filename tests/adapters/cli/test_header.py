"""The envelope of `smtpcore send` is that of the header, if no other is given."""

import io
from typing import Any

import click
import pytest

from smtpcore_adapters.cli._header import MAX_HEADER, complete_envelope

HEADER = b"From: a@c.example\r\nTo: b@s.example\r\n"


def test_given_envelope_leaves_the_message_unread() -> None:
    file = io.BytesIO(b"Bcc: c@s.example\n\nhi\n")
    assert complete_envelope(file, "", ["b@s.example"]) == ("", ["b@s.example"], file)
    assert file.tell() == 0


def test_file_without_bcc_is_read_from_its_position_again() -> None:
    file = io.BytesIO(b"mbox\r\n" + HEADER + b"\r\nhi\r\n")
    file.seek(6)
    assert complete_envelope(file, None, []) == ("a@c.example", ["b@s.example"], file)
    assert file.read() == HEADER + b"\r\nhi\r\n"


@pytest.mark.parametrize(
    ("field", "left"),
    [
        (b"BCC: c@s.example,\r\n\td@s.example\r\n", b""),
        (b"Resent-Bcc: c@s.example\r\nResent-From: r@c.example\r\n", b"Resent-From: r@c.example\r\n"),
        (b"Bcc: c@s.example\r\nX: y\r\n z\r\n", b"X: y\r\n z\r\n"),
    ],
)
def test_bcc_is_removed(field: bytes, left: bytes) -> None:
    body = b"\r\nBcc: kept\r\n" * 10_000
    _, _, pieces = complete_envelope(io.BytesIO(field + HEADER + body), None, [])
    assert b"".join(pieces) == left + HEADER + body


def test_bcc_is_kept_if_the_recipients_are_given() -> None:
    message = b"Bcc: c@s.example\r\n" + HEADER
    assert b"".join(complete_envelope(io.BytesIO(message), None, ["b@s.example"])[2]) == message


def test_message_that_cannot_be_read_twice_is_complete() -> None:
    assert b"".join(complete_envelope(Pipe(HEADER + b"\r\nhi\r\n"), None, [])[2]) == HEADER + b"\r\nhi\r\n"


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
@pytest.mark.parametrize("arguments", [(None, []), ("a@c.example", ["b@s.example"])])
@pytest.mark.parametrize("bcc", [b"", b"Bcc: c@s.example\r\n"])
def test_line_that_separates_messages_in_an_mbox_file_is_not_sent(kind: Any, arguments: Any, bcc: bytes) -> None:
    for separator in (
        b"From a@c.example Thu Jan  1 00:00:00 2026\n",
        b"From 0123abc Mon Sep 17 00:00:00 2001\r\n",
        b"",
    ):
        file = kind(separator + HEADER + bcc + b"\r\nFrom here\r\n")
        sender, recipients, body = complete_envelope(file, *arguments)
        assert (sender, recipients[:1]) == ("a@c.example", ["b@s.example"])
        kept = bcc if arguments[1] else b""
        assert b"".join(body) == HEADER + kept + b"\r\nFrom here\r\n"


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
@pytest.mark.parametrize("field", [b"From : a@c.example\r\n", b"From \t: a@c.example\r\n", b"From x"])
def test_other_first_line_is_a_part_of_the_message(kind: Any, field: bytes) -> None:
    assert b"".join(complete_envelope(kind(field), "", ["b@s.example"])[2]) == field


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
def test_empty_message_can_be_sent(kind: Any) -> None:
    assert b"".join(complete_envelope(kind(b""), "", ["b@s.example"])[2]) == b""


@pytest.mark.parametrize(
    ("message", "arguments", "error"),
    [
        (b"hello\n", (None, []), "the message does not begin with a valid header: give --from and --to"),
        (b"\nTo: b@s.example\n", ("", []), "the message has no address in To, Cc or Bcc: give --to"),
        (b"From: a@c.example\n\nhi\n", (None, []), "the message has no address in To, Cc or Bcc: give --to"),
        (b"To: b@s.example\n", (None, ["b@s.example"]), "the message has no address in Sender or From: give --from"),
        (
            b"Resent-Date: x\nResent-Date: y\n\n",
            ("", []),
            "the message has several blocks of Resent- fields, so its header shows no envelope: give --from and --to",
        ),
        (
            b"x: " * (MAX_HEADER + 1),
            (None, []),
            "the header of the message is longer than 1048576 octets: give --from and --to",
        ),
    ],
)
def test_error_names_the_option_that_is_missing(message: bytes, arguments: Any, error: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        complete_envelope(io.BytesIO(message), *arguments)
    assert str(caught.value) == error
