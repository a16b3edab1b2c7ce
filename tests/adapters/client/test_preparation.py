"""Bodies in 7 bits, and bodies that the program signs."""

import email
import io
from collections.abc import Awaitable
from email.message import Message
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from smtpcore import BodyType, LocalProtocolError
from smtpcore_adapters import Unsendable
from smtpcore_adapters.client import _preparation
from smtpcore_adapters.client._sources import PIECE
from tests.adapters.client.test_messages import DKIM, SIGNED, TEXT, mixed, part
from tests.adapters.fakes import chunks
from tests.adapters.playbook import ACCEPTED, ONE, client
from tests.playbook import GO_AHEAD, OK


def sent(body: Any, *offers: str, **options: Any) -> bytes:
    book = client(*offers).send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver(body, **options).accepted
    return b"".join(book.sent[3:]).removesuffix(b".\r\n")


# 7 bits

MIME = b"MIME-Version: 1.0\r\n" + TEXT


@pytest.mark.parametrize(
    "make", [bytes, memoryview, io.BytesIO, lambda data: [data], chunks, lambda data: data.decode()]
)
def test_mime_message_of_any_type_is_converted_for_a_7bit_server(make: Any) -> None:
    data = sent(make(MIME), "SIZE")
    assert data.isascii()
    assert email.message_from_bytes(data).get_payload(decode=True) == b"K\xc3\xb6rper\r\n"


def test_parts_beside_the_converted_part_stay_as_they_are() -> None:
    data = mixed(TEXT, part(b"=3D as it is", encoding="quoted-printable"), b"X-Y:  z\r\n\r\nASCII")
    converted = sent(data)
    for unchanged in (b"=3D as it is", b"ASCII", b"boundary=M"):
        assert unchanged in converted


UNCONVERTIBLE = {
    "no MIME": TEXT,
    "no header": b"K\xc3\xb6rper\r\n",
    "DKIM": DKIM + MIME,
    "signed": b"MIME-Version: 1.0\r\n" + SIGNED,
    "malformed": b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=M\r\n\r\n--M\r\n\r\n\xff\r\n",
    "raw field": b"MIME-Version: 1.0\r\nFrom: Gr\xfc\xdfe <a@c.example>\r\n\r\nhi\r\n",
}


@pytest.mark.parametrize("name", UNCONVERTIBLE)
def test_octets_that_cannot_be_converted_are_unsendable(name: str) -> None:
    book = client("SIZE")
    with pytest.raises(Unsendable) as caught:
        book.deliver(UNCONVERTIBLE[name])
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (554, "5.6.3")
    book.wire()


def test_large_file_is_not_read_into_memory_for_a_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_preparation, "MAX_CONVERTED", 5)
    with pytest.raises(Unsendable, match="only ASCII messages"):
        client().deliver(io.BytesIO(MIME))


def test_binary_message_is_not_converted() -> None:
    book = client("CHUNKING", "BINARYMIME").send(OK, OK, ACCEPTED)
    with pytest.raises(Unsendable):
        book.deliver(MIME, body_type=BodyType.BINARYMIME)


# Signatures

KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
HEADER = b"From: a@c.example\r\nSubject: x\r\n"


def with_dkim(data: bytes) -> bytes:
    signature: bytes = dkim.sign(data, b"s", b"c.example", PRIVATE, canonicalize=(b"simple", b"simple"))
    return signature


def verify(data: bytes) -> bool:
    record = b"v=DKIM1; k=rsa; p=" + b"".join(PUBLIC.splitlines()[1:-1])
    is_valid: bool = dkim.verify(data, dnsfunc=lambda name, timeout: record)
    return is_valid


@pytest.mark.parametrize("offers", [(), ("8BITMIME",), ("8BITMIME", "CHUNKING")])
@pytest.mark.parametrize("make", [bytes, io.BytesIO, lambda data: [data], chunks, email.message_from_bytes])
def test_dkim_signature_covers_the_octets_that_are_sent(make: Any, offers: tuple[str, ...]) -> None:
    book = client(*offers, "SIZE").send(OK, OK, *([ACCEPTED] if "CHUNKING" in offers else [GO_AHEAD, ACCEPTED]))
    body = (HEADER + MIME).replace(b"\r\n", b"\n") + b"..\n.\nend"
    assert book.deliver(make(body), sign=with_dkim).accepted
    wire = b"".join(book.sent[2:])
    data = wire.partition(b"\r\n")[2].removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    data = wire.partition(b" LAST\r\n")[2] if "CHUNKING" in offers else data
    assert verify(data)
    assert not verify(data.replace(b"end", b"END"))
    assert data.startswith(b"DKIM-Signature: ")
    assert f" SIZE={len(data)}".encode() in book.sent[0]


def test_signer_may_be_a_coroutine_function_and_return_the_whole_message() -> None:
    async def sign(data: bytes) -> bytes:
        assert data == b"Subject: x\r\n\r\nhi\r\n"
        return b"X-Signed: yes\r\n\r\nother\r\n"

    assert sent(b"Subject: x\n\nhi", sign=sign) == b"X-Signed: yes\r\n\r\nother\r\n"
    assert sent(b"Subject: x\n\nhi", sign=lambda data: b"X: y\r\n" + data) == b"X: y\r\nSubject: x\r\n\r\nhi\r\n"
    assert sent(b"Subject: x\n", sign=lambda data: data) == b"Subject: x\r\n"
    assert sent(b"Subject: x\n\n", sign=lambda data: b"X: y\r\n\r\n") == b"X: y\r\n\r\n"
    assert sent(b"Subject: x\n\nhi", sign=lambda data: b"X: y\r\n z\r\n") == b"X: y\r\n z\r\nSubject: x\r\n\r\nhi\r\n"


def test_binary_message_is_signed_as_it_is() -> None:
    book = client("CHUNKING", "BINARYMIME", "SIZE").send(OK, OK, ACCEPTED)
    assert book.deliver(b"a\n\0", body_type=BodyType.BINARYMIME, sign=lambda data: b"X: y\r\n" + data).accepted
    assert book.output.endswith(b"BDAT 9 LAST\r\nX: y\r\na\n\0")


@pytest.mark.parametrize(
    ("signature", "error"),
    [
        (b"X: y\n", "bare CR or LF"),
        (b"X: y", "neither a message nor header fields that end in CR LF"),
        (b"", "neither a message nor header fields that end in CR LF"),
        (b"X y\r\n", "neither a message nor header fields"),
        (b" y\r\n", "neither a message nor header fields"),
        (b"X: y\r\n\r\nSubject: x\r\n\r\nhi\r\n", "neither a message nor header fields"),
        (b"X: y\r\n\r\n", "a message without its body"),
        ("X: y\r\n", "must return bytes, not str"),
    ],
)
def test_malformed_signature_is_an_error_before_mail(signature: Any, error: str) -> None:
    book = client()
    with pytest.raises((LocalProtocolError, TypeError), match=error):
        book.deliver(b"Subject: x\r\n\r\nhi\r\n", sign=lambda data: signature)
    assert book.client.is_open
    book.wire()


def test_error_of_a_signer_is_raised_before_mail() -> None:
    def sign(data: bytes) -> Awaitable[bytes]:
        raise KeyError("no key")

    book = client()
    with pytest.raises(KeyError):
        book.deliver(b"hi\r\n", sign=sign)
    book.wire()


# Threads


def message_of(text: str) -> Message:
    message = Message()
    message.set_payload(text)
    return message


@pytest.mark.parametrize("kind", [str, message_of])
@pytest.mark.parametrize("extra", [0, 1])
def test_long_message_is_made_in_a_thread(monkeypatch: pytest.MonkeyPatch, kind: Any, extra: int) -> None:
    functions: list[Any] = []
    book = client().send(OK, OK, GO_AHEAD, ACCEPTED)

    async def run_blocking(function: Any, /, *args: Any) -> Any:
        functions.append(function)
        return function(*args)

    monkeypatch.setattr(book.stream, "run_blocking", run_blocking)
    assert book.deliver(kind("x" * (PIECE + extra))).accepted
    assert len(functions) == extra


def test_message_with_a_part_that_is_none_is_unsendable() -> None:
    message: Any = Message()
    message.set_payload(["text"])
    with pytest.raises(Unsendable, match="the message is malformed"):
        client().deliver(message)


# Progress


@pytest.mark.parametrize("offers", [(), ("CHUNKING",), ("CHUNKING", "PIPELINING")])
def test_progress_reports_octets_and_the_size(offers: tuple[str, ...]) -> None:
    seen: list[tuple[int, int | None]] = []
    body = b".\n" * 200_000
    chunks = [OK, OK, ACCEPTED]
    book = client(*offers).send(OK, OK, *(chunks if "CHUNKING" in offers else [GO_AHEAD, ACCEPTED]))
    assert book.deliver(body, progress=lambda octets, total: seen.append((octets, total))).accepted
    assert seen == [(262_144, 600_000), (524_288, 600_000), (600_000, 600_000)]


def test_progress_of_an_unknown_size_has_no_total() -> None:
    seen: list[tuple[int, int | None]] = []
    body = [b"x\r\n" * 100_000, b"end\r\n"]
    for options, total in (({}, None), ({"size": 5}, 5)):
        seen.clear()
        sent(iter(body), "SIZE", progress=lambda *each: seen.append(each), **options)
        assert seen == [(262_144, total), (300_005, total)]


@pytest.mark.parametrize("offers", [(), ("CHUNKING",), ("CHUNKING", "PIPELINING")])
@pytest.mark.parametrize("error", [KeyError("progress"), BrokenPipeError("progress"), TimeoutError("progress")])
def test_error_of_a_progress_function_prevents_the_delivery(offers: tuple[str, ...], error: Exception) -> None:
    def progress(octets: int, total: int | None) -> None:
        raise error

    book = client(*offers).send(OK, OK, *([] if offers else [GO_AHEAD]), ACCEPTED)
    with pytest.raises(type(error)) as caught:
        book.deliver(b"hi\r\n", progress=progress)
    assert caught.value is error
    assert str(caught.value) == str(type(error)("progress")), "the server has no part in this error"
    assert not book.output.endswith((b".\r\n", b"LAST\r\nhi\r\n"))
    assert not book.client.is_open


def test_error_of_a_progress_function_is_raised_also_if_a_recipient_was_refused() -> None:
    def progress(octets: int, total: int | None) -> None:
        raise BrokenPipeError("progress")

    book = client().send(OK, OK, b"550 no\r\n", GO_AHEAD)
    with pytest.raises(BrokenPipeError):
        book.deliver(b"hi\r\n", [ONE, "other@s.example"], progress=progress)
