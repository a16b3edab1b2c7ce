"""Bodies of each supported type."""

import io
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from email.message import EmailMessage
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest

from smtpcore import BodyType, LocalProtocolError, Reply
from smtpcore_adapters import Unsendable
from smtpcore_adapters.client._sources import PIECE, source_of
from tests.adapters.client.test_envelope import FULL
from tests.adapters.fakes import Early, chunks
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


@pytest.mark.parametrize("pieces", [[b"a", None], [b"a", ""], [None], [""]])
def test_file_without_octets_yet_does_not_end_the_body(pieces: list[Any]) -> None:
    class File:
        def read(self, size: int = -1) -> Any:
            return pieces.pop(0) if pieces else b""

    book = client()
    with pytest.raises(TypeError, match="each piece of a body must be bytes, not "):
        book.deliver(File())
    book.wire()


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


@pytest.mark.parametrize("body", [bytearray(b"a\nb"), memoryview(b"a\nb"), [bytearray(b"a\n"), memoryview(b"b")]])
def test_body_may_be_any_buffer_of_octets(body: Any) -> None:
    assert sent_body(body) == b"a\r\nb\r\n.\r\n"


WRONG = [io.StringIO("text"), 1, None, ["text"], [b"text", "text"], (1, 2), {"a": b"b"}, array("b", b"text")]


@pytest.mark.parametrize("body", WRONG)
def test_body_of_a_wrong_type_is_a_type_error(body: Any) -> None:
    book = client()
    with pytest.raises(TypeError):
        book.deliver(body)
    book.wire()


def test_text_file_of_a_wrapper_is_a_type_error(tmp_path: Path) -> None:
    book = client()
    with NamedTemporaryFile("w+", dir=tmp_path) as file, pytest.raises(TypeError, match="binary mode"):
        book.deliver(file)
    book.wire()


def test_binary_file_of_a_wrapper_is_sent_in_large_pieces(tmp_path: Path) -> None:
    with NamedTemporaryFile("w+b", dir=tmp_path) as file:
        file.write(b"x\n" * 10)
        file.seek(0)
        source = source_of(file, eight_bit=True, smtputf8=False)
        assert source.is_repeatable


LONG = b"fine\r\n" * PIECE
"""More than is read before MAIL."""


def texts(first: bytes) -> Iterator[Any]:
    yield first
    yield "text"


async def async_texts(first: bytes) -> AsyncIterator[Any]:
    yield first
    yield "text"


@pytest.mark.parametrize("make", [texts, async_texts])
def test_iterator_that_yields_text_is_a_type_error_and_leaves_the_message_unfinished(make: Any) -> None:
    book = client().send(OK, OK, GO_AHEAD)
    with pytest.raises(TypeError, match="must be bytes, not str"):
        book.deliver(make(LONG))
    assert not book.client.is_open
    assert not book.output.endswith(b".\r\n")


@pytest.mark.parametrize("make", [texts, async_texts])
def test_iterator_that_soon_yields_text_is_a_type_error_before_mail(make: Any) -> None:
    book = client()
    with pytest.raises(TypeError, match="must be bytes, not str"):
        book.deliver(make(b"fine\r\n"))
    assert book.client.is_open
    book.wire()


@pytest.mark.parametrize(
    "body", [b"x\0y\r\n", io.BytesIO(b"x\0y\r\n"), "x\0y\r\n", [b"x\0y\r\n"], chunks(b"x\0y\r\n"), Pipe(b"\0")]
)
def test_body_with_a_nul_is_refused_before_mail(body: Any) -> None:
    book = client()
    with pytest.raises(LocalProtocolError, match="NUL"):
        book.deliver(body)
    assert book.client.is_open
    book.wire()


@pytest.mark.parametrize("body", [b"\xff\r\n", io.BytesIO(b"\xff\r\n")])
def test_octets_beyond_ascii_are_refused_before_mail_if_they_are_known(body: Any) -> None:
    book = client("8BITMIME")
    with pytest.raises(LocalProtocolError, match="7BIT"):
        book.deliver(body, body_type=BodyType.SEVEN_BIT)
    with pytest.raises(Unsendable):
        client().deliver(body)
    book.wire()


BIG = b"x\n" * 40_000


@pytest.mark.parametrize(
    "body",
    [
        BIG,
        BIG.decode(),
        io.BytesIO(BIG),
        bytearray(BIG),
        io.BytesIO(BIG[:-1]),
        b"x\r\n" * 40_000,
        io.BytesIO(b"x\r\n" * 40_000),
        [BIG[:5], BIG[5:]],
        dict.fromkeys([BIG]),
    ],
)
def test_size_counts_the_line_ends_that_are_sent(body: Any) -> None:
    with pytest.raises(Unsendable):
        client("SIZE 119999").deliver(body)
    book = client("SIZE 120000").send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(body).accepted
    assert b" SIZE=120000\r\n" in book.sent[0]
    assert len(b"".join(book.sent[3:])) == 120_000 + len(b".\r\n")


def test_size_of_a_file_counts_the_octets_after_its_current_position() -> None:
    text = b"\r\n" * PIECE
    file = io.BytesIO(b"?" + text)
    file.seek(1)
    assert sent_body(file, offers=("SIZE",)) == text + b".\r\n"
    file = io.BytesIO(b"x" + text)
    book = client("SIZE").send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(file).accepted
    assert f" SIZE={len(text) + 1}\r\n".encode() in book.sent[0]


def test_size_of_a_binary_body_is_the_number_of_its_octets() -> None:
    for body in (b"\n\0", io.BytesIO(b"\n\0")):
        book = client("SIZE", "CHUNKING", "BINARYMIME").send(OK, OK, ACCEPTED)
        assert book.deliver(body, body_type=BodyType.BINARYMIME).accepted
        assert b" SIZE=2 " in book.sent[0]


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

    def lost() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("lost")

    book = client()
    with pytest.raises(KeyError):
        book.deliver(lost())
    assert book.client.is_open
    book.wire()
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
        book.deliver(iter([LONG, b"\xff\r\n"]))
    assert not book.client.is_open
    assert not book.output.endswith(b".\r\n")


def test_invalid_octet_in_a_chunk_closes_the_connection() -> None:
    book = client("CHUNKING").send(OK, OK, *[OK] * (len(LONG) // PIECE))
    with pytest.raises(LocalProtocolError, match="NUL"):
        book.deliver(iter([LONG, b"\0\r\n"]))
    assert b"LAST" not in book.output
    assert not book.client.is_open


# Text


@pytest.mark.parametrize("text", ["a\n.b", "Subject: x\r\n\r\nhi"])
def test_text_is_sent_with_crlf_line_ends(text: str) -> None:
    assert (
        sent_body(text) == text.replace("\r\n", "\n").replace("\n", "\r\n").replace(".b", "..b").encode() + b"\r\n.\r\n"
    )


UTF8 = "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n"


def test_text_beyond_ascii_is_sent_in_utf8_if_the_message_says_so() -> None:
    assert sent_body(UTF8) == UTF8.replace("\n", "\r\n").encode() + b".\r\n"
    assert b"Content-Transfer-Encoding: base64\r\n\r\nR3LDvMOfZQ0K\r\n" in sent_body(UTF8, offers=())


@pytest.mark.parametrize(
    "text", ["Grüße", UTF8.replace("UTF-8", "latin-1"), UTF8.replace("; charset=UTF-8", ""), "\ud800"]
)
def test_text_with_another_charset_is_unsendable(text: str) -> None:
    book = client("8BITMIME", "SMTPUTF8")
    with pytest.raises(Unsendable) as caught:
        book.deliver(text)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (554, "5.6.3")
    book.wire()


def test_text_with_a_header_beyond_ascii_needs_smtputf8() -> None:
    book = client("8BITMIME", "SMTPUTF8").send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver("Subject: Grüße\n\nhi\n").accepted
    assert book.sent[0].endswith(b" SMTPUTF8\r\n")
    with pytest.raises(Unsendable):
        client("8BITMIME").deliver("Subject: Grüße\n\nhi\n")


# Closing


@pytest.mark.parametrize("size", [1, PIECE])
def test_iterator_is_closed_if_the_message_is_not_sent(size: int) -> None:
    closed: list[bool] = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"\xff" * size
            yield b"\r\n"
        finally:
            closed.append(True)

    with pytest.raises(Unsendable):
        client().deliver(body(), requiretls=True)
    assert closed == [True]


def test_body_is_not_read_before_mail_without_need() -> None:
    def body() -> Iterator[bytes]:
        yield LONG
        assert b"MAIL" in book.output
        yield b"end\r\n"

    book = client("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(body()).accepted


def test_refusal_that_arrives_during_a_long_body_stops_the_chunks() -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * PIECE
        yield b"x" * PIECE
        book.send(Early(b"552 too large\r\n"), OK)
        yield b"x" * PIECE

    book = client("8BITMIME", "CHUNKING", "PIPELINING").send(OK + OK)
    assert book.deliver(body()).final == Reply(552, "too large")
    assert [line for line in book.output.split(b"\r\n") if b"BDAT" in line] == [b"BDAT %d" % PIECE]


def test_error_of_a_body_does_not_name_the_server() -> None:
    def body() -> Iterator[bytes]:
        yield LONG
        raise OSError("the disk is broken")

    with pytest.raises(OSError, match=r"^the disk is broken$"):
        client("8BITMIME").send(OK, OK, GO_AHEAD).deliver(body())
