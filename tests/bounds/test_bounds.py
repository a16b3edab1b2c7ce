"""Bounds on the memory and the work that a hostile peer can cause."""

import gc
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from smtpcore import (
    Bodies,
    ClientConnection,
    Connection,
    Ehlo,
    Mail,
    Noop,
    Path,
    Rcpt,
    RemoteProtocolError,
    State,
)
from smtpcore.proxy import ProxyReader

from ..helpers import bytewise, pieces
from ..long import mostly_long
from ..playbook import CLIENT, CONFIG, DATA, MAIL, RCPT, READY, server, take_events, take_replies

ENDLESS = 300_000
SEGMENT = 1000

ROOMY = replace(
    CONFIG,
    disabled=frozenset(),
    auth_mechanisms=("LOGIN",),
    plaintext_auth=True,
    max_message_size=None,
    max_recipients=100,
    max_recipient_domains=10,
    max_auth_failures=None,
)
BINARY = MAIL.replace(b">\r\n", b"> BODY=BINARYMIME\r\n") + b"RCPT TO:<u@s.example>\r\n"

Peer = Callable[[bytes], None]
"""A function that passes octets to a connection, and handles its events as an application does."""


def accepting(before: bytes, **changes: Any) -> tuple[Connection, Peer]:
    """Return a server that accepts everything."""
    conn = server(before, config=ROOMY, **changes).connection

    def feed(data: bytes) -> None:
        conn.receive_data(data)
        for _ in take_events(conn):
            pass
        conn.data_to_send()

    return conn, feed


def sending(*sent: bytes) -> tuple[ClientConnection, Peer]:
    """Return a client that sends requests forever, for any replies."""
    conn = ClientConnection(CLIENT)
    requests = iter([Ehlo("c.example"), Mail(Path("a@c.example"))])

    def feed(data: bytes) -> None:
        conn.receive_data(data)
        for _ in take_replies(conn):
            request = next(requests, Rcpt(Path("u@s.example")) if conn.transaction else Noop())
            if conn.may_send(request):
                conn.send(request)
            conn.data_to_send()

    for data in sent:
        feed(data)
    return conn, feed


def proxied() -> tuple[ProxyReader, Peer]:
    reader = ProxyReader()

    def feed(data: bytes) -> None:
        reader.receive_data(data)
        reader.next_header()

    return reader, feed


def memory_of(thing: object) -> int:
    """Return the memory in octets of all objects reachable from a connection, except code and types."""
    seen: set[int] = set()
    total = 0
    waiting = [thing]
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, type | ModuleType | FunctionType | FrameType):
            continue
        seen.add(id(found))
        total += sys.getsizeof(found)
        waiting += gc.get_referents(found)
    return total


def endless(unit: bytes, size: int = ENDLESS) -> Iterable[bytes]:
    """Repeat `unit` up to `size` octets, in segments that end anywhere."""
    return pieces(unit * (size // len(unit) + 1), SEGMENT)


GREETING = b"220 s.example\r\n"
HEADER = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\x00"

PEERS: dict[str, tuple[Callable[[], tuple[object, Peer]], bytes]] = {
    "a line": (lambda: accepting(READY), b"x"),
    "a line of NULs": (lambda: accepting(READY), b"\0"),
    "CRs": (lambda: accepting(READY), b"\r"),
    "LFs": (lambda: accepting(READY), b"\n"),
    "empty lines": (lambda: accepting(READY), b"\r\n"),
    "a parameter": (lambda: accepting(READY + b"MAIL FROM:<> SOLICIT="), b"a,"),
    "commands": (lambda: accepting(READY), b"NOOP hello\r\n"),
    "unknown commands": (lambda: accepting(READY), b"XFOO x\r\n"),
    "attributes": (lambda: accepting(READY), b"XFORWARD NAME=a ADDR=b\r\n"),
    "AUTH": (lambda: accepting(READY), b"AUTH LOGIN " + b"QUFB" * 700 + b"\r\n"),
    "a response": (lambda: accepting(READY + b"AUTH LOGIN\r\n"), b"QUFB"),
    "transactions": (lambda: accepting(READY), MAIL.removeprefix(READY) + b"RCPT TO:<u@s.example>\r\nRSET\r\n"),
    "hellos": (lambda: accepting(b""), READY),
    "recipients": (lambda: accepting(MAIL), b"RCPT TO:<someone.or.other@s.example>\r\n"),
    "a line of a body": (lambda: accepting(DATA), b"x"),
    "dots": (lambda: accepting(DATA), b"."),
    "empty lines of a body": (lambda: accepting(DATA), b"\r\n"),
    "a body without lines": (lambda: accepting(DATA, bodies=Bodies.CHUNKS), b"x"),
    "a faulty body": (lambda: accepting(DATA + b"a\nb"), b"hello\r\n"),
    "a chunk": (lambda: accepting(RCPT + b"BDAT 99999999999\r\n"), b"hello\r\n"),
    "a binary chunk": (lambda: accepting(BINARY + b"BDAT 99999999999\r\n"), b"x"),
    "a binary chunk in runs": (lambda: accepting(BINARY + b"BDAT 99999999999\r\n", bodies=Bodies.CHUNKS), b"x"),
    "a refused chunk": (lambda: accepting(READY + b"BDAT 99999999999\r\n"), b"hello\r\n"),
    "small chunks": (lambda: accepting(RCPT), b"BDAT 1\r\nx"),
    "messages": (lambda: accepting(READY), DATA.removeprefix(READY) + b"x\r\n.\r\n"),
    "a line of a reply": (lambda: sending(GREETING), b"x"),
    "a greeting": (lambda: sending(), b"220-hello\r\n"),
    "a reply": (lambda: sending(GREETING), b"250-KEYWORD with arguments\r\n"),
    "keywords": (lambda: sending(GREETING), b"250 OK\r\n"),
    "unsolicited replies": (lambda: sending(GREETING), b"250 OK\r\n" * 100),
    "a challenge": (lambda: sending(GREETING), b"334 " + b"QUFB" * 4000),
    "a PROXY header": (proxied, b"PROXY UNKNOWN " + b"x" * 1000),
    "TLVs": (lambda: proxied(), HEADER + b"\0" * 8192),
    "parts of a signature": (proxied, b"\r\n\r\n\0\r\nQUIT\n"),
}

# Room for the longest line, of a body or of AUTH, and for a few copies. Longer binary lines are split into pieces.
MOST = 200_000


@pytest.mark.parametrize("name", PEERS)
def test_memory_is_bounded_by_the_limits(name: str) -> None:
    make, unit = PEERS[name]
    peer, feed = make()
    before = memory_of(peer)

    try:
        for segment in endless(unit):
            feed(segment)
    except RemoteProtocolError:
        assert getattr(peer, "state", State.CLOSED) is State.CLOSED

    assert memory_of(peer) - before < MOST


# Work


def calls(action: Callable[[], object]) -> int:
    """Count the function calls of `action`, built-in functions included: a measure of work without a clock."""
    counted = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return counted


def work(name: str, size: int, cut: Callable[[bytes], list[bytes]]) -> int:
    make, unit = PEERS[name]
    _, feed = make()
    segments = cut((unit * (size // len(unit) + 1))[:size])

    def feed_all() -> None:
        try:
            for segment in segments:
                feed(segment)
        except RemoteProtocolError:
            pass

    return calls(feed_all)


@pytest.mark.parametrize("name", PEERS)
def test_work_is_linear_in_the_octets(name: str) -> None:
    little, much = (work(name, size, lambda data: [data]) for size in (5_000, 20_000))
    assert much <= 4.2 * little + 300


BRIEFLY = ("a line", "recipients", "dots", "small chunks", "a reply", "a PROXY header")


@pytest.mark.parametrize("name", mostly_long(PEERS, *BRIEFLY))
def test_work_is_linear_in_the_octets_byte_by_byte(name: str) -> None:
    little, much = (work(name, size, bytewise) for size in (5_000, 20_000))
    assert much <= 4.2 * little + 300
