"""Text of a peer for a terminal or a log."""

import pytest

from smtpcore_adapters._printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Grüße \\x1b", "Grüße \\x1b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc\0", "a\\r\\nb\\tc\\x00"),
        ("\x9b31m \u2028 \u202e \ue000 \udcff", "\\x9b31m \\u2028 \\u202e \\ue000 \\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()
