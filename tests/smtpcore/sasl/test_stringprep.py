"""SASLprep (RFC 4013) and the trace profile of RFC 4505."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpcore.sasl import saslprep
from smtpcore.sasl._stringprep import check_trace


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013 section 3
        pytest.param("I\u00adX", "IX", id="SOFT HYPHEN mapped to nothing"),
        pytest.param("user", "user", id="no transformation"),
        pytest.param("USER", "USER", id="case preserved"),
        pytest.param("\u00aa", "a", id="output is NFKC, input in ISO 8859-1"),
        pytest.param("\u2168", "IX", id="output is NFKC, will match #1"),
        # RFC 4013 2.1, 2.2
        pytest.param("a\u00a0b\u3000c", "a b c", id="spaces"),
        pytest.param("a\u200bb", "a b", id="ZERO WIDTH SPACE is in both tables: a space first"),
        pytest.param("a\u200db", "ab", id="ZERO WIDTH JOINER"),
        pytest.param("e\u0301", "\u00e9", id="composed"),
        pytest.param("", "", id="empty"),
        pytest.param("\u00ad", "", id="empty after preparation"),
        # RFC 4013 2.4
        pytest.param("\u0627\u0031\u0628", "\u0627\u0031\u0628", id="right to left"),
    ],
)
def test_saslprep_prepares_valid_text(text: str, prepared: str) -> None:
    """R5802-2.2-01, R4616-2-06"""
    assert saslprep(text) == prepared
    assert saslprep(text, stored=True) == prepared


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\u0007", id="RFC 4013 section 3: prohibited character"),
        pytest.param("\u0627\u0031", id="RFC 4013 section 3: bidirectional check"),
        pytest.param("a\0", id="NUL"),
        pytest.param("a\x7f", id="DEL"),
        pytest.param("a\u0080", id="C.2.2"),
        pytest.param("\ue000", id="C.3"),
        pytest.param("\ufdd0", id="C.4"),
        pytest.param("\ud800", id="C.5"),
        pytest.param("\ufffd", id="C.6"),
        pytest.param("\u2ff0", id="C.7"),
        pytest.param("\u202e", id="C.8"),
        pytest.param("\U000e0001", id="C.9"),
        pytest.param("\u0627a\u0628", id="left to right inside right to left"),
        pytest.param("1\u0627", id="right to left that does not begin so"),
    ],
)
def test_saslprep_refuses_prohibited_text_without_showing_it(text: str) -> None:
    """R4616-2-07"""
    with pytest.raises(ValueError, match="text") as caught:
        saslprep(text)

    assert text not in str(caught.value)


def test_unassigned_code_points_are_allowed_in_queries_but_not_in_stored_text() -> None:
    assert saslprep("\u0221") == "\u0221"
    with pytest.raises(ValueError, match="assign"):
        saslprep("\u0221", stored=True)


@given(st.text())
def test_saslprep_is_idempotent(text: str) -> None:
    try:
        once = saslprep(text)
    except ValueError:
        return

    assert saslprep(once) == once


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_printable_ascii_is_unchanged(text: str) -> None:
    assert saslprep(text) == text


def test_trace_is_checked_but_not_mapped() -> None:
    check_trace("sirhc \u00a0\u2168\u0221")
    for prohibited in ("\x07", "\u202e", "\u0627a"):
        with pytest.raises(ValueError, match="text"):
            check_trace(prohibited)
