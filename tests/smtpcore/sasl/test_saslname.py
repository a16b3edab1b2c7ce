"""Escaping of names inside comma-separated messages (RFC 5802 saslname)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpcore.sasl._saslname import SASLNAME, escape, unescape


@pytest.mark.parametrize(
    ("name", "text"), [("user", "user"), ("a,b", "a=2Cb"), ("a=b", "a=3Db"), ("=2C", "=3D2C"), (",=", "=2C=3D")]
)
def test_saslname_escapes_commas_and_equals_signs(name: str, text: str) -> None:
    """R5802-5.1-03"""
    assert escape(name) == text
    assert unescape(text) == name


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_any_name_survives_escape_and_unescape(name: str) -> None:
    assert re.fullmatch(SASLNAME, escape(name))
    assert unescape(escape(name)) == name


@pytest.mark.parametrize("text", ["", "a=", "a=2D", "a=2c", "a,b", "a\0", "="])
def test_invalid_saslname_does_not_match(text: str) -> None:
    """R5802-5.1-03"""
    assert not re.fullmatch(SASLNAME, text)
