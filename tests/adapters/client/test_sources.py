"""Bodies of each supported type."""

import io
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from typing import Any

import pytest

from smtpcore import LocalProtocolError
from smtpcore_adapters import Unsendable
from tests.adapters.client.test_envelope import FULL
from tests.adapters.fakes import chunks
from tests.adapters.playbook import ACCEPTED, client
from tests.playbook import GO_AHEAD, OK


def sent_body(body: Any, *, offers: Sequence[str] = ("8BITMIME",)) -> bytes:
    book = client(*offers).send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(body).accepted
    return b"".join(book.sent[3:])


@pytest.mark.parametrize(
    "body",
    [
        b"a\n.b\r\nc\rd",
        io.BytesIO(b"a\n.b\r\nc\rd"),
        [b"a\n.b\r", b"\nc", b"\rd"],
        [b"", b"a", b"\n", b".", b"b\r", b"", b"\n", b"c\r", b"d"],
    ],
)
def test_each_form_of_body_is_sent_with_crlf_line_ends_and_dot_stuffing(body: Any) -> None:
    assert sent_body(body) == b"a\r\n..b\r\nc\r\nd\r\n.\r\n"


def test_body_may_be_an_async_generator() -> None:
    assert sent_body(chunks(b"a\r", b"\r", b"b\r")) == b"a\r\n\r\nb\r\n.\r\n"


class AsyncPieces:
    """An asynchronous iterator that is not a generator, and has a `read` method."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def __aiter__(self) -> "AsyncPieces":
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)

    async def read(self) -> bytes:
        raise AssertionError("the client reads a body in pieces")


def test_async_iterator_body_with_a_read_method_is_iterated() -> None:
    assert sent_body(AsyncPieces(b"a\r", b"\nb")) == b"a\r\nb\r\n.\r\n"


@pytest.mark.parametrize("body", [b"", [], [b""], io.BytesIO()])
def test_empty_body_is_sent_as_a_single_dot(body: Any) -> None:
    assert sent_body(body) == b".\r\n"


class Pipe:
    """A file that cannot seek."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, size: int = -1, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_file_that_cannot_seek_is_sent() -> None:
    assert sent_body(Pipe(b"a\n", b"b\n")) == b"a\r\nb\r\n.\r\n"


def test_file_body_is_sent_from_its_current_position() -> None:
    file = io.BytesIO(b"header\r\nrest\r\n")
    file.seek(8)
    assert sent_body(file) == b"rest\r\n.\r\n"


@pytest.mark.parametrize("body", ["text", io.StringIO("text"), 1, None])
def test_body_of_a_wrong_type_is_a_type_error(body: Any) -> None:
    book = client()
    with pytest.raises(TypeError):
        book.deliver(body)
    book.wire()


def message(subject: str = "hello") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "a@c.example"
    mail["To"] = "Bé <b@s.example>"
    mail["Bcc"] = "secret@s.example"
    mail["Subject"] = subject
    mail.set_content("Grüße\n.\n")
    return mail


def test_email_message_is_sent_without_bcc() -> None:
    mail = message()
    body = sent_body(mail)

    assert b"Bcc" not in body
    assert b"secret" not in body
    assert mail["Bcc"] == "secret@s.example"
    assert body.endswith(b"\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n..\r\n.\r\n")
    assert b"\n" not in body.replace(b"\r\n", b"")


def test_email_message_is_encoded_as_7bit_for_a_server_without_8bitmime() -> None:
    body = sent_body(message("grüße"), offers=())

    assert body.isascii()
    assert b"Content-Transfer-Encoding: 8bit" not in body


def test_email_message_with_non_ascii_addresses_needs_smtputf8() -> None:
    mail = message()
    mail.replace_header("From", "grüße@c.example")
    book = client(*FULL).send(OK + OK + GO_AHEAD, ACCEPTED)
    assert book.deliver(mail).accepted
    assert b" SMTPUTF8\r\n" in book.sent[0]
    assert "From: grüße@c.example".encode() in book.output

    with pytest.raises(Unsendable):
        client("8BITMIME").deliver(mail)


def test_exception_in_a_body_iterator_leaves_the_message_unfinished() -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * 600_000
        raise KeyError("lost")

    for offers, answer in (["8BITMIME"], GO_AHEAD), (["8BITMIME", "CHUNKING"], OK):
        book = client(*offers).send(OK, OK, answer, OK, ACCEPTED)
        with pytest.raises(KeyError):
            book.deliver(body())
        assert not book.client.is_open
        assert not book.output.endswith(b"\r\n.\r\n")
        assert b"LAST" not in book.output


def test_undeclared_8bit_octets_leave_the_message_unfinished() -> None:
    book = client().send(OK, OK, GO_AHEAD)
    with pytest.raises(LocalProtocolError, match="beyond ASCII"):
        book.deliver([b"fine\r\n", b"\xff\r\n"])
    assert not book.client.is_open
    assert not book.output.endswith(b".\r\n")


def test_invalid_octet_in_a_chunk_closes_the_connection() -> None:
    book = client("CHUNKING").send(OK, OK)
    with pytest.raises(LocalProtocolError, match="NUL"):
        book.deliver([b"\0\r\n"])
    assert b"LAST" not in book.output
