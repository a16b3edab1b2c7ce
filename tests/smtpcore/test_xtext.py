"""The encodings xtext (RFC 3461) and unitext (RFC 6533)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpcore import (
    decode_xtext,
    encode_xtext,
)
from smtpcore.parameters import decode_unitext, encode_unitext

texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(texts)
def test_text_survives_xtext_encoding_and_decoding(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text
    assert encode_xtext(text).isascii()
    assert not set(encode_xtext(text)) & set(" =")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("QQ314159", "QQ314159"),
        pytest.param("a+2Bb", "a+b", id="R3461-4-01"),
        ("+41+20", "A "),
        ("+C3+A9", "\u00e9"),
    ],
)
def test_xtext_is_decoded_to_utf_8_text(text: str, value: str) -> None:
    assert decode_xtext(text) == value


@pytest.mark.parametrize("text", ["+", "a+2", "a+2bb", "+2b", "+GG", "a=b", "a b", "\u00e9", "\u017f", "\r\n", "+FF"])
def test_invalid_xtext_is_refused(text: str) -> None:
    """R3461-4-01"""
    with pytest.raises(ValueError, match=r"xtext|utf-8"):
        decode_xtext(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a@c.example", "a@c.example"),
        ("\u00e9@c.example", "\u00e9@c.example"),
        pytest.param(r"\x{E9}@c.example", "\u00e9@c.example", id="R6533-3-02"),
        (r"\x{2b}\x{20}\x{3D}\x{5C}", "+ =\\"),
        (r"\x{D7FF}\x{E000}\x{FFFF}\x{12345}\x{D8123}\x{10FFFF}", "\ud7ff\ue000\uffff\U00012345\U000d8123\U0010ffff"),
    ],
)
def test_unitext_is_decoded_to_characters(text: str, value: str) -> None:
    assert decode_unitext(text) == value
    assert decode_unitext(encode_unitext(value)) == value
    assert encode_unitext(value).isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+2Bb",
        "a=b",
        "a b",
        "\\",
        r"\x{}",
        r"\x{41}",
        r"\x{0A}",
        r"\x{7F}",
        r"\x{D800}",
        r"\x{DFFF}",
        r"\x{110000}",
        r"\x{0E9}",
        r"\x{E9",
        r"\X{E9}",
        "\x7f",
        "\udc85",
        "\u017f" * 400 + "=",
    ],
)
def test_invalid_unitext_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unitext"):
        decode_unitext(text)
