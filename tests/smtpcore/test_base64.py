"""Base64 in the strict form of RFC 4954 section 4."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpcore._base64 import decode_base64, encode_base64


@given(st.binary())
def test_octets_survive_base64_encoding_and_decoding(data: bytes) -> None:
    text = encode_base64(data)

    assert "\n" not in text
    assert decode_base64(text.encode()) == data


@pytest.mark.parametrize(
    "text",
    [
        b"A",
        b"AA",
        b"AAA",
        b"AA=",
        b"AAA==",
        b"AAAA=",
        b"=AAA",
        b"AA==AA==",
        b"AA A",
        b"AA-_",
        b"AAA\n",
        b"\xff\xff\xff=",
    ],
)
def test_text_that_is_not_strict_base64_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)
