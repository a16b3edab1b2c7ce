"""The functions that examine one line of a recording, such as its verb and its printable form."""

import pytest

from smtpcore_adapters.explain import Item, Side
from smtpcore_adapters.explain._lines import is_chunk, lacks_chunk, shown, verb_of


@pytest.mark.parametrize(
    ("data", "verb"),
    [(b"mail FROM:<>\r\n", "MAIL"), (b"DATA\r\n", "DATA"), (b"DATABASE\r\n", ""), (b"text\r\n", "")],
)
def test_verb_of_a_recorded_line_is_its_known_first_word(data: bytes, verb: str) -> None:
    assert verb_of(data) == verb


@pytest.mark.parametrize(
    ("data", "is_one"),
    [(b"BDAT 5\r\n", True), (b"bdat 5 LAST\r\n", True), (b"BDAT 0 LAST\r\n", False), (b"BDAT 5x\r\n", False)],
)
def test_chunk_is_a_bdat_command_with_octets(data: bytes, is_one: bool) -> None:
    assert is_chunk(data) is is_one


@pytest.mark.parametrize(
    ("following", "is_missing"),
    [
        (None, True),
        (Item(Side.SERVER, b"250 OK\r\n"), True),
        (Item(Side.CLIENT, b"BDAT 10 LAST\r\n"), True),
        (Item(Side.CLIENT, b"abcde"), False),
        (Item(Side.CLIENT, b"NOOP\r\n"), False),
    ],
    ids=["end", "reply", "command", "octets", "octets like a command"],
)
def test_octets_of_a_chunk_are_missing_if_no_octets_follow(following: Item | None, is_missing: bool) -> None:
    assert lacks_chunk(Item(Side.CLIENT, b"BDAT 6\r\n"), following) is is_missing


@pytest.mark.parametrize("item", [Item(Side.SERVER, b"BDAT 5\r\n"), Item(Side.CLIENT, b"DATA\r\n")])
def test_only_a_bdat_command_of_a_client_can_lack_its_octets(item: Item) -> None:
    assert not lacks_chunk(item, None)


def test_shown_line_has_no_line_end_and_no_control_characters() -> None:
    assert shown(b"250 \x1b[31mred\r\n") == shown(b"250 \x1b[31mred\n")
    assert "\x1b" not in shown(b"250 \x1b[31mred\r\n")
    assert shown(b"250 OK\r\n") == "250 OK"
