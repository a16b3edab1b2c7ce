"""Any octets as a recording are refused, or explained line by line without secrets and control characters.

A recording that is written again in another notation is read as the same recording.
"""

import re

from smtpcore import State
from smtpcore_adapters.explain import Explained, Item, Recording, Side, Unreadable, explain, join, read

from .harness import Draw, check_time

SEPARATOR = b"\xff"
"""The end of the client's octets in an input with the octets of both sides."""
SECTION = re.compile(r"RFC \d+ \d+(\.\d+)*")
STATES = {state.name for state in State}
PARTIES = (Side.CLIENT, Side.SERVER)
NOTATIONS: tuple[dict[Side, bytes], ...] = tuple(
    dict(zip(Side, prefixes, strict=True))
    for prefixes in (
        (b"C: ", b"S: ", b"# event: tls-handshake"),
        (
            b"2026-01-01T00:00:00.000+00:00 0123456789ab C: ",
            b"2026-01-01T00:00:00.000+00:00 0123456789ab S: ",
            b"2026-01-01T00:00:00.000+00:00 0123456789ab -- TLSv1",
        ),
        (
            b"[2026-01-01 12:00:00] DEBUG [x] C: ",
            b"[2026-01-01 12:00:00] DEBUG [x] S: ",
            b"[2026-01-01 12:00:00] INFO  [x] Connection upgraded with STARTTLS",
        ),
        (b" -> ", b"<-  ", b"=== TLS started"),
        (b"--> ", b"<-- ", b"TLS session parameters:"),
        (b"CLIENT -> SERVER: ", b"SERVER -> CLIENT: ", b""),
    )
)
"""The text before a line of the client, before a line of the server, and of a TLS handshake, in each notation."""
match_secret = re.compile(rb"(?i)AUTH PLAIN ([A-Za-z0-9+/]{8,}=*)\r\n").fullmatch


def check_line(item: Item, line: Explained) -> None:
    """Check the explanation of one line."""
    assert line.side is item.side
    assert line.text.isprintable()
    assert line.state in STATES
    for breach in line.breaches:
        assert breach.side in PARTIES
        assert SECTION.fullmatch(breach.section)
    secret = match_secret(item.data)
    if secret and item.side is Side.CLIENT and not line.is_body:
        assert secret[1].decode() not in line.text


def check(recording: Recording) -> None:
    """Check the explanation of a recording."""
    lines = explain(recording)
    assert len(lines) == len(recording.items)
    # In a recording without the order of both sides, the explanation puts each reply after its command.
    for sides in [tuple(Side)] if recording.is_ordered else [(Side.CLIENT, Side.TLS), (Side.SERVER,)]:
        items = [item for item in recording.items if item.side in sides]
        for item, line in zip(items, [line for line in lines if line.side in sides], strict=True):
            check_line(item, line)


def written(recording: Recording, notation: dict[Side, bytes]) -> bytes | None:
    """Return a recording in another notation. None if the notation has no text for a line, or is ambiguous for it."""
    lines: list[bytes] = []
    is_clear = False
    for item in recording.items:
        text = item.data.removesuffix(b"\r\n")
        is_party = item.side in PARTIES
        if (text == item.data or text[-1:] == b"\r" or b"\n" in text) and is_party:
            return None
        if text.startswith(b" ") or b"[credentials hidden]" in text or (not is_party and not notation[item.side]):
            return None

        is_clear |= is_party and b":" not in text
        lines.append(notation[item.side] + text)

    octets = b"\n".join(lines)
    return octets if is_clear and octets.decode(errors="replace").encode() == octets else None


def read_or_none(octets: bytes) -> tuple[Recording, ...]:
    """Return the recordings in `octets`, none if they are refused."""
    try:
        return read(octets)
    except Unreadable:
        return ()


def check_read(octets: bytes, notation: dict[Side, bytes]) -> None:
    """Check the recordings in `octets`. If there is one, read it in another notation too."""
    recordings = read_or_none(octets)
    for recording in recordings:
        check(recording)
    if len(recordings) == 1 and recordings[0].is_ordered:
        again = written(recordings[0], notation)
        if again is not None:
            assert read(again) == read(again.replace(b"\n", b"\r\n")) == recordings


def check_joined(client: bytes, server: bytes) -> None:
    """Check the recording of the octets of both sides."""
    try:
        recording = join(client, server)
    except Unreadable:
        assert not client
        assert not server
        return

    check(recording)
    for side, octets in ((Side.CLIENT, client), (Side.SERVER, server)):
        assert b"".join(item.data for item in recording.items if item.side is side) == octets


def test_one_input(data: bytes) -> None:
    """Use the input as a recording, or as the octets of both sides, and repeat a part of the input."""
    draw = Draw(data)
    choice, place = draw.byte(), draw.byte()
    octets = draw.rest()
    if choice % 2:
        client, _, server = octets.partition(SEPARATOR)
        check_joined(client, server)
    else:
        check_read(octets, NOTATIONS[place % len(NOTATIONS)])

    at = place * len(octets) // 256
    unit = octets[at : at + 32]
    check_time(lambda times: [explain(each) for each in read_or_none(octets[:at] + unit * times)], choice)
