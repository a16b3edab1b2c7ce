"""Messages as Python's `email` package parses them."""

import pytest

from smtpcore_adapters.server._parsing import parse_message


def nested(depth: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (number, number) for number in range(depth)
    )


def test_message_is_parsed_with_its_parts() -> None:
    message = parse_message(
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b--\r\n"
    )
    assert message["Subject"] == "Gr\u00fc\u00dfe"
    (part,) = message.iter_parts()
    assert part.get_content() == "Hello"


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"no header", b"\xff\x00: \xfe\r\n\r\n\xff", nested(50)])
def test_any_octets_are_a_message(octets: bytes) -> None:
    parse_message(octets).as_bytes()


def test_message_with_parts_that_are_nested_too_deeply_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_message(nested(3000))


@pytest.mark.parametrize(
    "octets",
    [
        b"\n" * 5_000_000,
        b"\r" * 5_000_000,
        b"\r\n" * 5_000_000,
        nested(900) + b"\r\n" * 60_000,
        nested(900).upper() + b"\r\n" * 60_000,
    ],
    ids=["LF", "CR", "CRLF", "nested", "upper case"],
)
def test_message_that_takes_too_long_to_parse_is_a_value_error(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"lines and [0-9]+ parts takes too long to parse"):
        parse_message(octets)


def test_large_message_with_attachments_is_parsed() -> None:
    body = b"A" * 76 + b"\r\n"
    parts = (b"--b\r\nContent-Type: image/png\r\n\r\n" + body * 1000) * 20
    message = parse_message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n")
    assert len(list(message.iter_parts())) == 20
