import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import FrozenInstanceError
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpcore import NEED_DATA, LocalProtocolError, RemoteProtocolError
from smtpcore.proxy import (
    MAX_LENGTH,
    Endpoint,
    ProxyCommand,
    ProxyHeader,
    ProxyReader,
    SslClient,
    SslInfo,
    Tlv,
    TlvType,
    crc32c,
)

PROXY, LOCAL = ProxyCommand.PROXY, ProxyCommand.LOCAL

SIGNATURE = bytes.fromhex("0D0A0D0A 00 0D0A 51554954 0A")
SMTP = b"EHLO c.example\r\n"

# 192.0.2.1 port 4660 to 198.51.100.2 port 25; 2001:db8::1 port 1 to 2001:db8::2 port 65535
INET = bytes.fromhex("C0000201 C6336402 1234 0019")
INET6 = bytes.fromhex("20010DB8 00000000 00000000 00000001 20010DB8 00000000 00000000 00000002 0001 FFFF")
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/smtpd".ljust(108, b"\0")

SOURCE, DESTINATION = Endpoint(IPv4Address("192.0.2.1"), 0x1234), Endpoint(IPv4Address("198.51.100.2"), 25)
SOURCE6, DESTINATION6 = Endpoint(IPv6Address("2001:db8::1"), 1), Endpoint(IPv6Address("2001:db8::2"), 65535)
LAST6 = Endpoint(IPv6Address(2**128 - 1), 65535)
TCP = ProxyHeader(PROXY, SOURCE, DESTINATION)
UNKNOWN = ProxyHeader(PROXY)

Outcome = tuple[ProxyHeader | str | None, bytes]


def v2(kind: int, block: bytes = b"", *, command: int = 0x21, length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + bytes((command, kind)) + size.to_bytes(2, "big") + block


def tlv(type: int, value: bytes) -> bytes:
    return bytes((type,)) + len(value).to_bytes(2, "big") + value


def with_tlvs(*tlvs: bytes) -> bytes:
    return v2(0x11, INET + b"".join(tlvs))


def bitwise_crc32c(data: bytes) -> int:
    """Compute the checksum bit by bit, without a table."""
    crc = 2**32 - 1
    for octet in data:
        for bit in range(8):
            carry = (crc ^ octet >> bit) & 1
            crc = crc >> 1 ^ (0x82F63B78 if carry else 0)
    return crc ^ 2**32 - 1


def checksummed(before: bytes = b"", after: bytes = b"", error: int = 0) -> bytes:
    block = INET + before + tlv(0x03, bytes(4)) + after
    checksum = bitwise_crc32c(v2(0x11, block)) ^ error
    return v2(0x11, INET + before + tlv(0x03, checksum.to_bytes(4, "big")) + after)


def drive(segments: Iterable[bytes], versions: Collection[int] = (1, 2), **limits: Any) -> Outcome:
    """Feed `segments`. Return the header or the error text, and the octets after the header."""
    reader = ProxyReader(versions, **limits)
    outcome: ProxyHeader | str | None = None
    for segment in segments:
        reader.receive_data(segment)
        try:
            answer = reader.next_header()
        except RemoteProtocolError as exc:
            outcome = str(exc)
        else:
            outcome = answer if isinstance(answer, ProxyHeader) else None
            assert outcome or reader.trailing_data == b""
    return outcome, reader.trailing_data


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def read(data: bytes, versions: Collection[int] = (1, 2), **limits: Any) -> ProxyHeader:
    """Read a valid header: whole, byte by byte, and followed by SMTP."""
    ways = ([data], bytewise(data), [data + SMTP], [data, SMTP], bytewise(data + SMTP))
    (header, rest), *others = [drive(segments, versions, **limits) for segments in ways]
    assert isinstance(header, ProxyHeader), header
    assert rest == b""
    assert others == [(header, b""), *[(header, SMTP)] * 3]
    return header


def refuse(data: bytes, versions: Collection[int] = (1, 2), **limits: Any) -> str:
    """Read an invalid header: whole, byte by byte, and followed by SMTP."""
    ways = ([data], bytewise(data), [data + SMTP], [data, SMTP])
    outcomes = [drive(segments, versions, **limits) for segments in ways]
    failure, rest = outcomes[0]
    assert isinstance(failure, str), failure
    assert rest == b""
    assert outcomes == [outcomes[0]] * 4
    return failure


def octets_until_refused(data: bytes, versions: Collection[int] = (1, 2), **limits: Any) -> int:
    """Return the number of octets after which the header is refused."""
    reader = ProxyReader(versions, **limits)
    for at in range(len(data)):
        reader.receive_data(data[at : at + 1])
        try:
            assert reader.next_header() is NEED_DATA
        except RemoteProtocolError:
            return at + 1
    raise AssertionError("never refused")


# Version 1


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\n", TCP),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", ProxyHeader(PROXY, SOURCE6, DESTINATION6)),
        (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 2001:DB8::0002 1 65535\r\n", ProxyHeader(PROXY, SOURCE6, DESTINATION6)),
        (
            b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
            ProxyHeader(PROXY, Endpoint(IPv4Address(2**32 - 1), 65535), Endpoint(IPv4Address(0), 0)),
        ),
        (
            b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
            ProxyHeader(PROXY, LAST6, LAST6),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 4660 25\r\n",
            ProxyHeader(
                PROXY,
                Endpoint(IPv6Address("::ffff:192.0.2.1"), 4660),
                Endpoint(IPv6Address("::ffff:198.51.100.2"), 25),
            ),
        ),
        (b"PROXY UNKNOWN\r\n", UNKNOWN),
        (b"PROXY UNKNOWN \r\n", UNKNOWN),
        (b"PROXY UNKNOWN 192.0.2.1 and \x00\xff anything\r\n", UNKNOWN),
        (b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", UNKNOWN),
        (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", UNKNOWN),
    ],
)
def test_valid_version_1_line_is_parsed(line: bytes, header: ProxyHeader) -> None:
    assert read(line) == header
    assert read(line, {1}) == header


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY  TCP4 192.0.2.1 198.51.100.2 4660 25\r\n",
        b"PROXY\tTCP4 192.0.2.1 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.1  198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.1\t198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660\r\n",
        b"PROXY TCP4 \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.2 4660 25\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 4660 25\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY unknown\r\n",
        b"PROXY\r\n",
        b"proxy TCP4 192.0.2.1 198.51.100.2 4660 25\r\n",
        b" PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\n",
        # ports
        b"PROXY TCP4 192.0.2.1 198.51.100.2 04660 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 00\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 99999 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 100000 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1_0 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 0x1 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 smtp 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 \xd9\xa1 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2  25\r\n",
        # addresses
        b"PROXY TCP4 2001:db8::1 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 4660 25\r\n",
        b"PROXY TCP6 2001:db8::1 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.1.1 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.1/32 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 3221225985 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 c.example s.example 4660 25\r\n",
        b"PROXY TCP4 192.0.2.\xb9 198.51.100.2 4660 25\r\n",
        b"PROXY TCP4 192.0.2.1\x00 198.51.100.2 4660 25\r\n",
        b"PROXY TCP6 2001:db8:::1 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 2001:db8::1::1 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 1:2:3:4:5:6:7 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 1:2:3:4:5:6:7:8:9 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 2001:db8::00001 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 2001:db8::g 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 [2001:db8::1] 2001:db8::2 4660 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::2 4660 25\r\n",
        # line ends
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\rX",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\n\r\n",
        b"PROXY TCP4 192.0.2.1\r198.51.100.2 4660 25\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN\rX",
        b"PROXY UNKNOWN \n",
        b"PROXY UNKNOWN a\rb\r\n",
        # length
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        b"PROXY TCP4 " + b"1" * 96,
        b"PROXY TCP4 " + b"1" * 94 + b"\rX",
    ],
)
def test_invalid_version_1_line_is_refused(line: bytes) -> None:
    assert refuse(line).startswith("the peer sent no valid PROXY header: ")


# Version 2


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (v2(0x11, INET), TCP),
        (v2(0x21, INET6), ProxyHeader(PROXY, SOURCE6, DESTINATION6)),
        (v2(0x31, UNIX), ProxyHeader(PROXY, b"/run/client", b"/run/smtpd")),
        (v2(0x31, bytes(108) + UNIX[108:]), ProxyHeader(PROXY, None, b"/run/smtpd")),
        (v2(0x31, b"a\0garbage".ljust(108, b"x") + b"b" * 108), ProxyHeader(PROXY, b"a", b"b" * 108)),
        (v2(0x31, b"\0a\0b".ljust(108, b"\0") + b"\xff".ljust(108, b"\0")), ProxyHeader(PROXY, b"\0a\0b", b"\xff")),
        (v2(0x31, bytes(216)), UNKNOWN),
        # unspecified, with and without TLVs
        (v2(0x00), UNKNOWN),
        (v2(0x00, tlv(0x02, b"a")), ProxyHeader(PROXY, tlvs=(Tlv(TlvType.AUTHORITY, b"a"),))),
        (v2(0x01), UNKNOWN),
        (v2(0x02), UNKNOWN),
        (v2(0x10, INET), UNKNOWN),
        (v2(0x20, INET6), UNKNOWN),
        (v2(0x30, UNIX), UNKNOWN),
        # datagrams
        (v2(0x12, INET), UNKNOWN),
        (v2(0x22, INET6), UNKNOWN),
        (v2(0x32, UNIX), UNKNOWN),
        (v2(0x12, INET + tlv(0x02, b"a")), ProxyHeader(PROXY, tlvs=(Tlv(TlvType.AUTHORITY, b"a"),))),
        # LOCAL: addresses and TLVs are skipped
        (v2(0x00, command=0x20), ProxyHeader(LOCAL)),
        (v2(0x11, INET, command=0x20), ProxyHeader(LOCAL)),
        (v2(0x11, b"abc", command=0x20), ProxyHeader(LOCAL)),
        (v2(0xFF, INET + b"\x01", command=0x20), ProxyHeader(LOCAL)),
        (v2(0x11, INET + tlv(0x03, b"false"), command=0x20), ProxyHeader(LOCAL)),
        (v2(0x00, bytes(MAX_LENGTH), command=0x20), ProxyHeader(LOCAL)),
        # TLVs
        (with_tlvs(tlv(0xEA, b"")), ProxyHeader(PROXY, SOURCE, DESTINATION, (Tlv(0xEA, b""),))),
        (
            with_tlvs(tlv(0x04, b"\0\0"), tlv(0xEA, b"1"), tlv(0x04, b""), tlv(0xEA, b"2")),
            ProxyHeader(
                PROXY,
                SOURCE,
                DESTINATION,
                (Tlv(TlvType.NOOP, b"\0\0"), Tlv(0xEA, b"1"), Tlv(TlvType.NOOP, b""), Tlv(0xEA, b"2")),
            ),
        ),
        (checksummed(), TCP),
        (
            checksummed(tlv(0x02, b"a"), tlv(0x04, b"pad")),
            ProxyHeader(PROXY, SOURCE, DESTINATION, (Tlv(TlvType.AUTHORITY, b"a"), Tlv(TlvType.NOOP, b"pad"))),
        ),
    ],
)
def test_valid_version_2_block_is_parsed(data: bytes, header: ProxyHeader) -> None:
    assert read(data) == header
    assert read(data, [2]) == header


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\r\n\r\n\x00\r\nQUIT\r\n", "no header begins with"),
        (SIGNATURE[:11] + b"\x0b" + v2(0x11, INET)[12:], "no header begins with"),
        (v2(0x11, INET, command=0x11), "no header begins with"),
        (v2(0x11, INET, command=0x31), "no header begins with"),
        (v2(0x11, INET, command=0x01), "no header begins with"),
        (v2(0x11, INET, command=0x22), "no header begins with"),
        (v2(0x11, INET, command=0x2F), "no header begins with"),
        (v2(0x13, INET), "no header begins with"),
        (v2(0x1F, INET), "no header begins with"),
        (v2(0x41, UNIX), "no header begins with"),
        (v2(0xF1, UNIX), "no header begins with"),
        # lengths
        (v2(0x11, INET, length=MAX_LENGTH + 1), "more than 4096"),
        (v2(0x00, command=0x20, length=65535), "more than 4096"),
        (v2(0x11), "0 octets cannot be addresses of family 1"),
        (v2(0x11, INET[:-1]), "11 octets cannot be addresses of family 1"),
        (v2(0x12, INET[:-1]), "11 octets cannot be addresses of family 1"),
        (v2(0x10, INET[:-1]), "11 octets cannot be addresses of family 1"),
        (v2(0x21, INET6[:-1]), "35 octets cannot be addresses of family 2"),
        (v2(0x31, UNIX[:-1]), "215 octets cannot be addresses of family 3"),
        # TLVs
        (v2(0x11, INET + b"\x02"), "type 0x02 extends beyond the end"),
        (v2(0x11, INET + b"\x02\x00"), "type 0x02 extends beyond the end"),
        (v2(0x11, INET + b"\x02\x00\x01"), "type 0x02 extends beyond the end"),
        (v2(0x11, INET + b"\xea\xff\xff" + b"x" * 100), "type 0xea extends beyond the end"),
        (v2(0x11, INET + tlv(0x02, b"a") + b"\x04"), "type 0x04 extends beyond the end"),
        (v2(0x00, b"\x04"), "type 0x04 extends beyond the end"),
        (with_tlvs(tlv(0x02, b"\xe9")), "does not match its type: 'utf-8'"),
        (with_tlvs(tlv(0x05, b"x" * 129)), "at most 128 octets"),
        (with_tlvs(tlv(0x20, b"")), "too short for information about TLS"),
        (with_tlvs(tlv(0x20, b"\x01\0\0\0")), "too short for information about TLS"),
        (with_tlvs(tlv(0x20, b"\x01\0\0\0\0\x21")), "type 0x21 extends beyond the end"),
        (with_tlvs(tlv(0x20, b"\x01\0\0\0\0\x21\0\x02T")), "type 0x21 extends beyond the end"),
        (with_tlvs(tlv(0x20, b"\x01\0\0\0\0" + tlv(0x21, b"\xe9"))), "does not match its type: 'ascii'"),
        (with_tlvs(tlv(0x20, b"\x01\0\0\0\0" + tlv(0x22, b"\xe9"))), "does not match its type: 'utf-8'"),
        # checksums
        (checksummed(error=1), "checksum is wrong"),
        (checksummed(error=0x80000000), "checksum is wrong"),
        (with_tlvs(tlv(0x03, bytes(4))), "checksum is wrong"),
        (with_tlvs(tlv(0x03, b"")), "checksum is wrong"),
        (with_tlvs(tlv(0x03, bytes(5))), "checksum is wrong"),
        (checksummed(tlv(0x03, bytes(4))), "checksum is wrong"),
        (v2(0x12, INET + tlv(0x03, bytes(4))), "checksum is wrong"),
        (v2(0x00, tlv(0x03, bytes(4))), "checksum is wrong"),
    ],
)
def test_invalid_version_2_block_is_refused(data: bytes, why: str) -> None:
    assert why in refuse(data)


@pytest.mark.parametrize("octet", [*range(16, 28), *range(31, 35), *range(38, 41)])
def test_checksum_detects_every_single_bit_error(octet: int) -> None:
    valid = checksummed(after=tlv(0x04, b"pad"))
    for bit in range(8):
        data = bytearray(valid)
        data[octet] ^= 1 << bit
        assert "checksum is wrong" in refuse(bytes(data)), bit


# Early refusal


@pytest.mark.parametrize(
    ("data", "size", "versions"),
    [
        (SMTP, 1, {1, 2}),
        (b"HELO c.example\r\n", 1, {1, 2}),
        (b"QUIT\r\n", 1, {1, 2}),
        (b"\x16\x03\x01\x02\x00", 1, {1, 2}),  # a TLS ClientHello
        (b"GET / HTTP/1.1\r\n", 1, {1, 2}),
        (b"POST / HTTP/1.1\r\n", 2, {1, 2}),
        (b"\r\nEHLO", 3, {1, 2}),
        (b"\nPROXY", 1, {1, 2}),
        (b"PROXY TCP7 ", 10, {1, 2}),
        (b"PROXY TCP4\r\n", 11, {1, 2}),
        (b"PROXY UNKNOWNX", 14, {1, 2}),
        (b"PROXY UNKNOWN\rX", 15, {1, 2}),
        (b"PROXY UNKNOWN \n", 15, {1, 2}),
        (b"PROXY TCP4 " + b"1" * 100, 107, {1, 2}),
        (SIGNATURE + b"\x10", 13, {1, 2}),
        (SIGNATURE + b"\x21\x41", 14, {1, 2}),
        (SIGNATURE + b"\x21\x11\x00\x0b", 16, {1, 2}),
        (SIGNATURE + b"\x20\x00\x10\x01", 16, {1, 2}),
        # A disabled version is refused like SMTP.
        (b"PROXY UNKNOWN\r\n", 1, {2}),
        (SIGNATURE, 1, {1}),
    ],
)
def test_invalid_header_is_refused_at_the_first_impossible_octet(data: bytes, size: int, versions: set[int]) -> None:
    assert octets_until_refused(data, versions) == size
    refuse(data, versions)


def test_error_shows_the_impossible_octets() -> None:
    assert refuse(SMTP) == "the peer sent no valid PROXY header: no header begins with b'E'"


@pytest.mark.parametrize("after", [b"", SMTP])
@pytest.mark.parametrize("data", [b"PROXY UNKNOWN a\r\n", v2(0x11, INET), v2(0x31, UNIX + tlv(0x04, b"x" * 50))])
def test_proxy_header_is_complete_exactly_at_its_last_octet(data: bytes, after: bytes) -> None:
    reader = ProxyReader()
    for octet in bytewise(data[:-1]):
        reader.receive_data(octet)
        assert reader.next_header() is NEED_DATA
        assert reader.trailing_data == b""

    reader.receive_data(data[-1:] + after)
    header = reader.next_header()
    assert isinstance(header, ProxyHeader)
    assert reader.next_header() is header
    assert reader.trailing_data == after
    reader.receive_data(b"more")
    assert reader.next_header() is header
    assert reader.trailing_data == after + b"more"


def test_octets_after_the_header_are_not_parsed() -> None:
    second = v2(0x21, INET6)
    header, rest = drive([v2(0x11, INET) + second])

    assert (header, rest) == (TCP, second)


# The end of the stream


@pytest.mark.parametrize("data", [b"", b"P", b"PROXY UNKNOWN\r", b"PROXY TCP4 ", SIGNATURE, v2(0x11, INET)[:-1]])
def test_end_of_stream_inside_the_header_is_a_remote_error(data: bytes) -> None:
    reader = ProxyReader()
    reader.receive_data(data)
    reader.receive_data(b"")
    reader.receive_data(v2(0x11, INET))

    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="closed the connection before its PROXY header was complete"):
            reader.next_header()
        assert reader.trailing_data == b""


def test_end_of_stream_after_the_header_is_ignored() -> None:
    reader = ProxyReader()
    reader.receive_data(v2(0x11, INET) + SMTP)
    reader.receive_data(b"")

    assert reader.next_header() == TCP
    assert reader.trailing_data == SMTP


def test_reader_stays_failed_and_empty_after_an_error() -> None:
    reader = ProxyReader()
    reader.receive_data(SMTP)
    for _ in range(3):
        with pytest.raises(RemoteProtocolError, match="no header begins with b'E'"):
            reader.next_header()
        reader.receive_data(v2(0x11, INET))
        assert reader.trailing_data == b""
        assert len(reader._data) == 0


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_proxy_reader_accepts_any_bytes_like_object(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    reader = ProxyReader()
    reader.receive_data(kind(v2(0x11, INET)))

    assert reader.next_header() == TCP


# Limits


@pytest.mark.parametrize(
    ("endless", "most"),
    [
        (b"PROXY UNKNOWN " + b"x" * 100_000, 107),
        (b"PROXY TCP4 " + b"1\r" * 50_000, 14),
        (v2(0x00, bytes(100_000), length=65535), 16),
        (v2(0x00, bytes(100_000), length=4096), 16 + 4096),
        (v2(0x00, b"\x20\0\1" * 30_000, length=4096), 16 + 4096),
    ],
)
def test_endless_header_does_not_grow_the_buffer(endless: bytes, most: int) -> None:
    reader = ProxyReader()
    held = []
    for octet in bytewise(endless):
        reader.receive_data(octet)
        held.append(len(reader._data))
        try:
            assert reader.next_header() is NEED_DATA
        except RemoteProtocolError:
            break

    assert max(held) == most
    assert len(reader._data) == 0


@pytest.mark.parametrize(("max_length", "size"), [(216, 216), (1000, 1000), (65535, 65535)])
def test_proxy_header_of_maximum_length_is_accepted(max_length: int, size: int) -> None:
    padding = size - 12 - 3
    data = v2(0x11, INET + tlv(0x04, bytes(padding)))
    header, rest = drive([data + SMTP], max_length=max_length)

    assert isinstance(header, ProxyHeader)
    assert rest == SMTP
    if size < 65535:
        assert f"more than {size}" in refuse(v2(0x11, INET, length=size + 1), max_length=max_length)


@pytest.mark.parametrize("versions", [(), {0}, {1, 2, 3}, {3}])
def test_reader_refuses_unknown_versions(versions: Collection[int]) -> None:
    with pytest.raises(LocalProtocolError, match="must be 1, 2 or both"):
        ProxyReader(versions)


@pytest.mark.parametrize("max_length", [-1, 0, 215, 65536])
def test_reader_refuses_an_impossible_length_limit(max_length: int) -> None:
    with pytest.raises(LocalProtocolError, match="should be 216 to 65535"):
        ProxyReader(max_length=max_length)


def test_nested_ssl_tlvs_are_not_followed() -> None:
    nested = b""
    while len(nested) < 4000:
        nested = tlv(0x20, b"\x01\0\0\0\0" + nested)

    header = read(with_tlvs(nested))
    assert header.ssl == SslInfo(SslClient.SSL, 0)


# Parsed TLVs


def test_known_tlvs_are_typed() -> None:
    ssl = (
        b"\x07\0\0\0\0"
        + tlv(0x21, b"TLSv1.3")
        + tlv(0x22, "J\u00f6rg".encode())
        + tlv(0x23, b"ECDHE-RSA-AES128-GCM-SHA256")
        + tlv(0x24, b"RSA-SHA256")
        + tlv(0x25, b"RSA2048")
        + tlv(0x26, b"secp256r1")
        + tlv(0x21, b"TLSv1.0")
    )
    header = read(
        with_tlvs(
            tlv(0x01, b"smtp"),
            tlv(0x02, "mx.\u00e9.example".encode()),
            tlv(0x05, bytes(range(128))),
            tlv(0x20, ssl),
            tlv(0x30, b"blue"),
            tlv(0x02, b"second.example"),
        )
    )

    assert header.authority == "mx.\u00e9.example"
    assert header.unique_id == bytes(range(128))
    assert header.ssl == SslInfo(
        SslClient.SSL | SslClient.CERT_CONN | SslClient.CERT_SESS,
        0,
        version="TLSv1.3",
        cn="J\u00f6rg",
        cipher="ECDHE-RSA-AES128-GCM-SHA256",
        sig_alg="RSA-SHA256",
        key_alg="RSA2048",
    )
    assert (header.find(TlvType.ALPN), header.find(0x30), header.find(0xEA)) == (b"smtp", b"blue", None)
    assert [tlv.type for tlv in header.tlvs] == [
        TlvType.ALPN,
        TlvType.AUTHORITY,
        TlvType.UNIQUE_ID,
        TlvType.SSL,
        TlvType.NETNS,
        TlvType.AUTHORITY,
    ]
    assert isinstance(header.tlvs[0].type, TlvType)


def test_absent_tlvs_of_a_proxy_header_are_none() -> None:
    assert (TCP.authority, TCP.unique_id, TCP.ssl, TCP.find(TlvType.ALPN)) == (None, None, None, None)


@pytest.mark.parametrize(
    ("client", "verify", "verified"),
    [
        (SslClient.SSL, 0, False),
        (SslClient(0), 0, False),
        (SslClient.SSL | SslClient.CERT_CONN, 0, True),
        (SslClient.SSL | SslClient.CERT_SESS, 0, True),
        (SslClient.SSL | SslClient.CERT_SESS, 18, False),
    ],
)
def test_is_verified_needs_a_client_certificate(client: SslClient, verify: int, verified: bool) -> None:
    info = SslInfo(client, verify)
    assert info.is_verified is verified
    assert read(with_tlvs(tlv(0x20, bytes((client,)) + verify.to_bytes(4, "big")))).ssl == info


def test_unknown_ssl_flags_are_kept() -> None:
    info = read(with_tlvs(tlv(0x20, b"\x81\0\0\0\1"))).ssl

    assert info is not None
    assert info.client == 0x81
    assert SslClient.SSL in info.client
    assert info.encode() == b"\x81\0\0\0\1"


def test_ssl_info_is_encoded_as_parsed() -> None:
    info = SslInfo(SslClient.SSL, 1, version="TLSv1.2", cn="\u00e9", cipher="", sig_alg=None, key_alg="RSA2048")

    assert info.encode() == (
        b"\x01\0\0\0\1" + tlv(0x21, b"TLSv1.2") + tlv(0x22, b"\xc3\xa9") + tlv(0x23, b"") + tlv(0x25, b"RSA2048")
    )
    assert ProxyHeader(PROXY, tlvs=(Tlv(TlvType.SSL, info.encode()),)).ssl == info


# Checksums


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720 B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"The quick brown fox jumps over the lazy dog", 0x22620404),
    ],
)
def test_crc32c_matches_known_values(data: bytes, checksum: int) -> None:
    assert crc32c(data) == bitwise_crc32c(data) == checksum


@given(st.binary())
def test_table_driven_crc32c_equals_bitwise_crc32c(data: bytes) -> None:
    assert crc32c(data) == bitwise_crc32c(data)


# Encoding


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (TCP, b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\n"),
        (ProxyHeader(PROXY, SOURCE6, DESTINATION6), b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"),
        (UNKNOWN, b"PROXY UNKNOWN\r\n"),
        (ProxyHeader(LOCAL), b"PROXY UNKNOWN\r\n"),
    ],
)
def test_proxy_header_is_encoded_as_version_1(header: ProxyHeader, line: bytes) -> None:
    assert header.encode(version=1) == line


@pytest.mark.parametrize(
    ("header", "checksum"),
    [
        (TCP, True),
        (UNKNOWN, True),
        (ProxyHeader(PROXY, b"/run/client", b"/run/smtpd"), False),
        (ProxyHeader(PROXY, None, b"/run/smtpd"), False),
        (ProxyHeader(PROXY, b"/run/client"), False),
        (ProxyHeader(PROXY, SOURCE, DESTINATION, (Tlv(TlvType.NOOP, b""),)), False),
        (ProxyHeader(PROXY, tlvs=(Tlv(TlvType.NOOP, b""),)), False),
    ],
)
def test_proxy_header_that_needs_version_2_is_refused_in_version_1(header: ProxyHeader, checksum: bool) -> None:
    with pytest.raises(LocalProtocolError, match="use version 2"):
        header.encode(version=1, checksum=checksum)


@pytest.mark.parametrize("version", [0, 3])
def test_encoding_in_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"no version {version}"):
        TCP.encode(version=version)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (TCP, v2(0x11, INET)),
        (ProxyHeader(PROXY, SOURCE6, DESTINATION6), v2(0x21, INET6)),
        (ProxyHeader(PROXY, b"/run/client", b"/run/smtpd"), v2(0x31, UNIX)),
        (ProxyHeader(PROXY, None, b"/run/smtpd"), v2(0x31, bytes(108) + UNIX[108:])),
        (ProxyHeader(PROXY, b"/run/client"), v2(0x31, UNIX[:108] + bytes(108))),
        (ProxyHeader(PROXY, b"\0MAX"), v2(0x31, b"\0MAX" + bytes(212))),
        (UNKNOWN, v2(0x00)),
        (ProxyHeader(LOCAL), v2(0x00, command=0x20)),
        (
            ProxyHeader(PROXY, SOURCE, DESTINATION, (Tlv(TlvType.AUTHORITY, b"a"), Tlv(0xEA, b""))),
            with_tlvs(b"\x02\0\1a", b"\xea\0\0"),
        ),
    ],
)
def test_proxy_header_is_encoded_as_version_2(header: ProxyHeader, data: bytes) -> None:
    assert header.encode() == data
    assert header.encode(version=2) == data


def test_checksum_is_encoded_as_the_last_tlv() -> None:
    header = ProxyHeader(PROXY, SOURCE, DESTINATION, (Tlv(TlvType.AUTHORITY, b"a"),))

    assert header.encode(checksum=True) == checksummed(tlv(0x02, b"a"))
    assert ProxyHeader(LOCAL).encode(checksum=True)[:-4] == v2(0x00, tlv(0x03, bytes(4)), command=0x20)[:-4]


@pytest.mark.parametrize(("size", "checksum", "fits"), [(520, False, True), (521, False, False), (514, True, False)])
def test_proxy_header_over_65535_octets_is_refused(size: int, checksum: bool, fits: bool) -> None:
    tlvs = (Tlv(0xEA, bytes(65000)), Tlv(0xEA, bytes(size - 3)))
    header = ProxyHeader(PROXY, SOURCE, DESTINATION, tlvs)
    if fits:
        assert len(header.encode(checksum=checksum)) == 16 + 65535
    else:
        with pytest.raises(LocalProtocolError, match="are more than 65535"):
            header.encode(checksum=checksum)


# Values


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((LOCAL, SOURCE, DESTINATION), "cannot have endpoints or TLVs"),
        ((LOCAL, b"/run/client", None), "cannot have endpoints or TLVs"),
        ((LOCAL, None, b"/run/smtpd"), "cannot have endpoints or TLVs"),
        ((LOCAL, None, None, (Tlv(0xEA, b""),)), "cannot have endpoints or TLVs"),
        ((PROXY, SOURCE), "not of one family"),
        ((PROXY, None, DESTINATION), "not of one family"),
        ((PROXY, SOURCE, DESTINATION6), "not of one family"),
        ((PROXY, SOURCE, b"/run/smtpd"), "not of one family"),
        ((PROXY, b"/run/client", DESTINATION6), "not of one family"),
        ((PROXY, b"", b"/run/smtpd"), "not a Unix socket path"),
        ((PROXY, None, b"/run/smtpd\0"), "not a Unix socket path"),
        ((PROXY, None, b"/run\0smtpd"), "not a Unix socket path"),
        ((PROXY, None, b"\0abstract\0"), "not a Unix socket path"),
        ((PROXY, None, b"\0"), "not a Unix socket path"),
        ((PROXY, None, b"x" * 109), "not a Unix socket path"),
        ((PROXY, None, None, (Tlv(TlvType.CRC32C, bytes(4)),)), "checksum=True"),
        ((PROXY, None, None, (Tlv(TlvType.AUTHORITY, b"\xff"),)), "does not match its type"),
        ((PROXY, None, None, (Tlv(TlvType.UNIQUE_ID, bytes(129)),)), "at most 128"),
        ((PROXY, None, None, (Tlv(TlvType.SSL, bytes(4)),)), "does not match its type"),
        ((PROXY, None, None, (Tlv(TlvType.SSL, bytes(6)),)), "does not match its type"),
    ],
)
def test_invalid_proxy_header_is_refused(arguments: tuple[Any, ...], why: str) -> None:
    with pytest.raises(LocalProtocolError, match=re.escape(why)):
        ProxyHeader(*arguments)


@pytest.mark.parametrize("port", [-1, 65536])
def test_endpoint_port_must_fit_in_16_bits(port: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"port {port} is not between"):
        Endpoint(IPv4Address(1), port)


def test_endpoint_with_a_zone_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="has a zone"):
        Endpoint(IPv6Address("fe80::1%eth0"), 25)


@pytest.mark.parametrize(("type", "size"), [(0, 0), (255, 0), (1, 65535)])
def test_tlv_of_maximum_size_is_encoded(type: int, size: int) -> None:
    assert Tlv(type, bytes(size)).encode() == bytes([type]) + size.to_bytes(2, "big") + bytes(size)


@pytest.mark.parametrize(("type", "size"), [(-1, 0), (256, 0), (1, 65536)])
def test_tlv_out_of_range_is_refused(type: int, size: int) -> None:
    with pytest.raises(LocalProtocolError, match="is out of range"):
        Tlv(type, bytes(size))


@pytest.mark.parametrize(
    "changes",
    [
        {"client": SslClient(256)},
        {"verify": -1},
        {"verify": 2**32},
        {"version": "TLSv\u0661"},
        {"cipher": "\u00e9"},
        {"sig_alg": "\u00e9"},
        {"key_alg": "\u00e9"},
        {"cn": "\ud800"},
        {"cn": "x" * 65536},
    ],
)
def test_ssl_info_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        SslInfo(**{"client": SslClient.SSL, "verify": 0, **changes})


def test_proxy_values_are_immutable_and_hashable() -> None:
    assert {TCP: 1}[ProxyHeader(PROXY, SOURCE, DESTINATION)] == 1
    with pytest.raises(FrozenInstanceError):
        TCP.source = None  # type: ignore[misc]


# Properties

addresses = st.tuples(*[st.ip_addresses(v=4)] * 2) | st.tuples(*[st.ip_addresses(v=6)] * 2)
ports = st.integers(0, 65535)
paths = st.one_of(
    st.binary(min_size=1, max_size=108).map(lambda path: path.replace(b"\0", b"/")),
    st.binary(max_size=106).map(lambda path: b"\0" + path + b"x"),
)
ends = st.one_of(
    st.tuples(addresses, ports, ports).map(
        lambda drawn: (Endpoint(drawn[0][0], drawn[1]), Endpoint(drawn[0][1], drawn[2]))
    ),
    st.tuples(st.none() | paths, st.none() | paths),
)
texts = st.none() | st.text(st.characters(max_codepoint=127), max_size=20)
ssl_infos = st.builds(
    SslInfo,
    st.integers(0, 255).map(SslClient),
    st.integers(0, 2**32 - 1),
    version=texts,
    cn=st.none() | st.text(max_size=20),
    cipher=texts,
    sig_alg=texts,
    key_alg=texts,
)
tlvs = st.one_of(
    st.builds(Tlv, st.integers(0xE0, 0xFF) | st.sampled_from([TlvType.ALPN, TlvType.NOOP]), st.binary(max_size=40)),
    st.text(max_size=40).map(lambda text: Tlv(TlvType.AUTHORITY, text.encode())),
    st.builds(Tlv, st.just(TlvType.UNIQUE_ID), st.binary(max_size=128)),
    ssl_infos.map(lambda info: Tlv(TlvType.SSL, info.encode())),
)
headers = st.just(ProxyHeader(LOCAL)) | st.builds(
    lambda both, tlvs: ProxyHeader(PROXY, both[0], both[1], tuple(tlvs)), ends, st.lists(tlvs, max_size=5)
)


@given(headers, st.booleans(), st.binary(max_size=10))
def test_header_of_version_2_survives_encoding_and_parsing(header: ProxyHeader, checksum: bool, after: bytes) -> None:
    parsed, rest = drive([header.encode(checksum=checksum) + after])

    assert (parsed, rest) == (header, after)


@given(ends)
def test_header_of_version_1_survives_encoding_and_parsing(both: tuple[Any, Any]) -> None:
    header = ProxyHeader(PROXY, *both)
    try:
        line = header.encode(version=1)
    except LocalProtocolError:
        assert isinstance(header.source or header.destination, bytes)
    else:
        assert len(line) <= 107
        assert read(line) == header


@given(ssl_infos)
def test_ssl_info_survives_encoding_and_parsing(info: SslInfo) -> None:
    assert ProxyHeader(PROXY, tlvs=(Tlv(TlvType.SSL, info.encode()),)).ssl == info


wire = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda header, checksum: header.encode(checksum=checksum), headers, st.booleans()),
    st.builds(lambda kind, block: v2(kind, block), st.sampled_from([0x00, 0x11, 0x21, 0x31, 0x12]), st.binary()),
    st.builds(lambda block: v2(0x11, INET + block), st.lists(st.binary(max_size=9)).map(b"".join)),
    st.builds(lambda info: with_tlvs(tlv(0x20, info)), st.binary(max_size=40)),
    st.builds(lambda head, rest: head + rest, st.sampled_from([b"PROXY TCP4 ", b"PROXY UNKNOWN"]), st.binary()),
    st.from_regex(rb"\APROXY TCP[46] [0-9a-f:.]{1,40} [0-9a-f:.]{1,40} [0-9]{1,6} [0-9]{1,6}\r?\n", fullmatch=True),
)


@given(wire, st.binary(max_size=20), st.lists(st.integers(0, 500)))
@example(b"PROXY UNKNOWN" + b"x" * 92 + b"\r", b"\n", [106])
@example(v2(0x11, INET), SMTP, [])
def test_any_segmentation_gives_the_same_result(data: bytes, after: bytes, cuts: list[int]) -> None:
    whole = data + after
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(edges) if start < end]

    expected = drive([whole] if whole else [])
    assert drive(pieces) == expected
    assert drive(bytewise(whole)) == expected


@given(wire, st.sampled_from([(1,), (2,), (1, 2)]), st.booleans())
def test_any_input_gives_a_header_or_remote_protocol_error(data: bytes, versions: tuple[int, ...], ends: bool) -> None:
    reader = ProxyReader(versions)
    for piece in [*bytewise(data), *[b""] * ends]:
        reader.receive_data(piece)
        try:
            header = reader.next_header()
        except RemoteProtocolError:
            assert len(reader._data) == 0
            return
        if header is not NEED_DATA:
            assert read(header.encode(), max_length=65535) == header
            return
        assert len(reader._data) < 16 + MAX_LENGTH


# Imports


def test_proxy_is_not_imported_by_the_core_and_loads_no_io_module() -> None:
    # Without the coverage measurement, which imports sockets.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    script = "import sys, smtpcore; sys.exit('smtpcore.proxy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, env=environment).returncode == 0

    script = "import sys, smtpcore.proxy; sys.exit(bool({'socket', 'ssl', 'select', 'asyncio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False, env=environment).returncode == 0
