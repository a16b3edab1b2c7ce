"""Any octets as a header give the same fields when the fields are written again, and cuts change no count of hops.

A trace field for any client is one field, whose lines are short enough for each server.
"""

from datetime import UTC, datetime
from ipaddress import ip_address

from smtpcore import Ehlo, Helo, LocalProtocolError, Mail, Params, Path, Transaction
from smtpcore.trace import Hops, end_of_fields, received, return_path
from smtpcore_adapters import Header

from .harness import Draw, check_time, cuts, made

TRANSACTION = Transaction(Mail(Path(""), Params()), [])
DATE = datetime(2026, 1, 1, tzinfo=UTC)
PEERS = (None, ip_address("192.0.2.1"), ip_address("2001:db8::1"))
MAX_LINE = 998  # RFC 5322 2.1.1


def fields_of(raw: bytes) -> list[tuple[str, str]]:
    """Return the fields of a header."""
    return list(Header(raw, TRANSACTION).fields())


def check_fields(raw: bytes, at: int) -> None:
    """Check the fields of a header, whole and in two parts."""
    header, fields = Header(raw, TRANSACTION), fields_of(raw)
    names = [name.lower() for name, _ in fields]
    for name, value in fields:
        assert name.isascii()
        assert name.isprintable()
        assert " " not in name
        assert value == value.strip(" \t")
        first = fields[names.index(name.lower())][1]
        assert header.get(name.upper()) == next(header.get_all(name.lower())) == first

    assert fields_of("".join(f"{name}: {value}\r\n" for name, value in fields).encode()) == fields
    # A line that begins with a blank continues the field above.
    at = raw.find(b"\r\n", at) + 2
    if at >= 2 and not raw[at:].startswith((b" ", b"\t")):
        assert fields_of(raw[:at]) + fields_of(raw[at:]) == fields


def hops(segments: list[bytes]) -> int:
    """Return the number of trace fields that are counted in a message."""
    counter = Hops()
    for segment in segments:
        counter.feed(segment)
    return counter.count


def check_hops(message: bytes, place: int) -> None:
    """Check the count of the trace fields of a message."""
    whole, *others = map(hops, cuts(message, place))
    assert others == [whole, whole]
    head, end, _ = (b"\r\n" + message).partition(b"\r\n\r\n")
    assert whole >= [name.lower() for name, _ in fields_of(head + end)].count("received")


def check_trace(text: str, draw: Draw, message: bytes) -> None:
    """Check that the fields that a server adds on top of a message are two fields, before those of the message."""
    path = made(Path, text)
    try:
        added = received(
            helo=made(Ehlo, text) if draw.byte() % 2 else made(Helo, text),
            peer=draw.choose(PEERS),
            by="mx.example.org",
            date=DATE,
            id="1",
            tls=text[:100] if draw.byte() % 2 else None,
            recipient=path,
            smtputf8=draw.byte() % 2 != 0,
        )
    except LocalProtocolError:
        return

    added = return_path(path or Path("")) + added
    lines = added.split(b"\r\n")
    assert not any(len(line) > MAX_LINE or b"\r" in line or b"\n" in line for line in lines[:-1])
    assert [name for name, _ in fields_of(added)] == ["Return-Path", "Received"]
    assert hops([added]) == 1
    if message:
        own = fields_of(added) + fields_of(end_of_fields(message) + message)
        assert fields_of(added + end_of_fields(message) + message) == own


def test_one_input(data: bytes) -> None:
    """Use the input as a header, after the name of a client on a line of its own."""
    draw = Draw(data)
    choice, place = draw.byte(), draw.byte()
    choices = Draw(draw.octets(4))
    name, _, raw = draw.rest().partition(b"\n")
    at = place * len(raw) // 256
    check_fields(raw, at)
    check_hops(raw, place)
    check_trace(name.decode(errors="surrogateescape"), choices, raw)
    check_time(lambda times: fields_of(raw[:at] + raw[at : at + 32] * times), choice)
    check_time(lambda times: hops([raw[:at], *([raw[at : at + 32]] * times)]), choice)
