"""Preparation of names and passwords: different spellings of the same text become equal."""

# RFC 3454 defines four steps: map, normalize, prohibit, and check bidirectional text. SASLprep (RFC 4013) uses all
# four. The profile "trace" of ANONYMOUS (RFC 4505 section 3) uses only the last two.
#
# A text that is only compared (a "query") may have characters that Unicode 3.2 does not assign. A text that is stored,
# or whose hash is stored, may not (RFC 3454 section 7): a later Unicode may normalize these characters differently.

import stringprep
import unicodedata
from collections.abc import Callable, Iterable

_Table = Callable[[str], bool]

_PROHIBITED_IN_TRACE: tuple[_Table, ...] = (
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)
# RFC 4013 2.3
_PROHIBITED: tuple[_Table, ...] = (*_PROHIBITED_IN_TRACE, stringprep.in_table_c12, stringprep.in_table_c7)


def saslprep(text: str, *, stored: bool = False) -> str:
    """Prepare a name or a password (RFC 4013).

    Args:
            text: the text, as typed or received.
            stored: whether the result, or a hash of it, will be stored for later comparisons.

    Raises:
            ValueError: the profile prohibits this text. The error message does not contain the text.
    """
    if text.isascii() and text.isprintable():
        return text

    mapped = "".join(map(_map, text))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    _check(prepared, _PROHIBITED)
    if stored and any(map(stringprep.in_table_a1, prepared)):
        raise ValueError("text has a character that Unicode 3.2 does not assign")

    return prepared


def check_trace(text: str) -> None:
    """Check the trace of ANONYMOUS (RFC 4505 section 3). Raises `ValueError`."""
    _check(text, _PROHIBITED_IN_TRACE)


def _map(character: str) -> str:
    # RFC 4013 2.1, in this order: ZERO WIDTH SPACE is in both tables and becomes a space.
    if stringprep.in_table_c12(character):
        return " "

    return "" if stringprep.in_table_b1(character) else character


def _check(text: str, prohibited: Iterable[_Table]) -> None:
    if any(table(character) for table in prohibited for character in text):
        raise ValueError("text has a prohibited character")
    if not any(map(stringprep.in_table_d1, text)):
        return

    # RFC 3454 section 6: right-to-left text has no left-to-right letters; its first and last letters are right-to-left.
    ends_are_right_to_left = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    if any(map(stringprep.in_table_d2, text)) or not ends_are_right_to_left:
        raise ValueError("text mixes left-to-right and right-to-left characters")
