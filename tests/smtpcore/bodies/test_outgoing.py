"""An outgoing body: dot-stuffing, and the checks of its content."""

import pytest

from smtpcore import BareNewlines, BodyType, ClientConfig, LocalProtocolError
from smtpcore._bodies._outgoing import OutgoingBody

from ...helpers import bytewise

CONFIG = ClientConfig(hostname="c.example")


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n..\r\n a.\r\n", b"..\r\n...\r\n a.\r\n.\r\n"),
        (b"\r\n.\r\n", b"\r\n..\r\n.\r\n"),
    ],
)
def test_outgoing_body_is_dot_stuffed_and_ended(content: bytes, wire: bytes) -> None:
    for runs in ([content], bytewise(content)):
        body = OutgoingBody(CONFIG, None)
        assert b"".join([body.stuff(run) for run in runs]) + body.end() == wire


@pytest.mark.parametrize(
    ("type", "content", "error"),
    [
        (None, b"\xe9", "BODY=8BITMIME"),
        (BodyType.SEVEN_BIT, b"\xe9", "BODY=8BITMIME"),
        (None, b"\0", "BODY=BINARYMIME"),
        (BodyType.EIGHT_BIT_MIME, b"\0", "BODY=BINARYMIME"),
        (BodyType.EIGHT_BIT_MIME, b"a\nb", "bare CR or LF"),
        (None, b"x" * 999 + b"\r\n", "exceeds 1000 octets"),
    ],
)
def test_body_that_contradicts_the_parameters_of_mail_is_refused(
    type: BodyType | None, content: bytes, error: str
) -> None:
    with pytest.raises(LocalProtocolError, match=error):
        OutgoingBody(CONFIG, type).stuff(content)
    with pytest.raises(LocalProtocolError, match=error):
        OutgoingBody(CONFIG, type, in_chunks=True).check(content, is_end=False)


@pytest.mark.parametrize(("type", "content"), [(BodyType.EIGHT_BIT_MIME, b"\xe9"), (BodyType.BINARYMIME, b"\0\n\xe9")])
def test_body_that_matches_the_parameters_of_mail_is_accepted(type: BodyType, content: bytes) -> None:
    OutgoingBody(CONFIG, type, in_chunks=True).check(content, is_end=True)


def test_bare_newlines_are_normalized_in_data_but_never_in_chunks() -> None:
    config = ClientConfig(hostname="c.example", bare_newlines=BareNewlines.NORMALIZE)
    body = OutgoingBody(config, None)

    assert body.stuff(b"a\n.\r") + body.end() == b"a\r\n..\r\n.\r\n"
    with pytest.raises(LocalProtocolError, match="bare CR or LF"):
        OutgoingBody(config, None, in_chunks=True).check(b"a\n", is_end=False)


def test_cr_in_an_empty_last_line_is_refused_or_normalized() -> None:
    body = OutgoingBody(ClientConfig(hostname="c.example", bare_newlines=BareNewlines.NORMALIZE), None)
    assert body.stuff(b"a\r\n\r") + body.end() == b"a\r\n\r\n.\r\n"

    body = OutgoingBody(CONFIG, None)
    body.stuff(b"a\r\n\r")
    with pytest.raises(LocalProtocolError, match="bare CR or LF"):
        body.end()


def test_cr_at_the_end_of_the_last_chunk_is_refused() -> None:
    body = OutgoingBody(CONFIG, None, in_chunks=True)
    body.check(b"a\r", is_end=False)

    body.copy().check(b"\n", is_end=True)
    with pytest.raises(LocalProtocolError, match="bare CR or LF"):
        body.check(b"", is_end=True)


def test_copy_of_an_outgoing_body_is_independent() -> None:
    body = OutgoingBody(CONFIG, None)
    assert body.stuff(b"a") == b"a"
    copy = body.copy()
    assert copy.stuff(b"\r\n") == b"\r\n"

    assert copy.stuff(b".") == b".."
    assert body.stuff(b".") == b"."


def test_fault_of_a_copy_is_not_a_fault_of_the_outgoing_body() -> None:
    body = OutgoingBody(CONFIG, None)
    assert body.stuff(b"a\r") == b"a"
    copy = body.copy()
    with pytest.raises(LocalProtocolError, match="bare CR or LF"):
        copy.stuff(b"b")

    assert copy.fault
    assert body.stuff(b"\n") == b"\r\n"
