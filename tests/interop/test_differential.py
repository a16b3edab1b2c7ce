"""The same sessions with our core and with servers that the world trusts: what is replied, and what is delivered."""

# Of a reply only the class counts, as for every client (RFC 5321 4.2.1). A session is a list of what the client sends
# at once: a command, or a body with its end; one reply is taken for each of them, and at the end QUIT shows whatever
# replies came besides, as those that a smuggled command would get.

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from smtpcore import Connection, ConnectionClosed, DataEnd, Event, Rcpt, Reply, State

from ..helpers import BODY_EVENTS, new_connection, replies, take_events
from .servers import TIMEOUT, server, wait_until

HELLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\n"
RCPT = b"RCPT TO:<a@example.org>\r\n"
OTHER = b"RCPT TO:<b@example.org>\r\n"
NOBODY = b"RCPT TO:<nobody@example.org>\r\n"
DATA = b"DATA\r\n"
TEXT = b"Subject: hello\r\n\r\nHello.\r\n.\r\n"

SMUGGLED = b"MAIL FROM:<b@c.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"


def smuggling(end: bytes) -> tuple[bytes, ...]:
    """A body with a false end, and what would be commands behind it; then the true end."""
    return (HELLO, MAIL, RCPT, DATA, b"Subject: hello\r\n\r\nHello." + end + SMUGGLED)


SESSIONS: dict[str, tuple[bytes, ...]] = {
    "a message": (HELLO, MAIL, RCPT, DATA, TEXT),
    "a message behind HELO": (b"HELO c.example\r\n", MAIL, RCPT, DATA, TEXT),
    "two messages": (HELLO, MAIL, RCPT, DATA, TEXT, MAIL, OTHER, DATA, TEXT),
    "two recipients": (HELLO, MAIL, RCPT, OTHER, DATA, TEXT),
    "one of two recipients": (HELLO, MAIL, NOBODY, RCPT, DATA, TEXT),
    "a null sender": (HELLO, b"MAIL FROM:<>\r\n", RCPT, DATA, TEXT),
    "dots": (HELLO, MAIL, RCPT, DATA, b"Subject: dots\r\n\r\n..\r\n...\r\n..x\r\n. \r\n\r\n.\r\n"),
    "an empty header field": (HELLO, MAIL, RCPT, DATA, b"X:\r\nSubject: \r\n\r\nHello.\r\n.\r\n"),
    "letters of any case": (
        HELLO.lower(),
        MAIL.replace(b"MAIL FROM", b"mail from"),
        RCPT.lower(),
        b"data\r\n",
        TEXT,
    ),
    "spaces behind a command": (HELLO, MAIL, RCPT, b"DATA \r\n", TEXT),
    "a source route": (HELLO, MAIL, b"RCPT TO:<@c.example:a@example.org>\r\n", DATA, TEXT),
    "a quoted local part": (HELLO, MAIL, b'RCPT TO:<"a"@example.org>\r\n', DATA, TEXT),
    "an address literal": (HELLO, b"MAIL FROM:<a@[192.0.2.1]>\r\n", RCPT, DATA, TEXT),
    "eight bits": (
        HELLO,
        MAIL.replace(b">", b"> BODY=8BITMIME"),
        RCPT,
        DATA,
        b"Subject: x\r\n\r\n\xc3\xa9\r\n.\r\n",
    ),
    "a size": (HELLO, b"MAIL FROM:<a@c.example> SIZE=100\r\n", RCPT, DATA, TEXT),
    "too large a size": (HELLO, b"MAIL FROM:<a@c.example> SIZE=999999999999\r\n", RCPT),
    "an unknown parameter": (HELLO, b"MAIL FROM:<a@c.example> FOO=bar\r\n", RCPT),
    "RSET": (HELLO, MAIL, RCPT, b"RSET\r\n", DATA, MAIL, RCPT, DATA, TEXT),
    "a further EHLO": (HELLO, MAIL, RCPT, HELLO, RCPT, MAIL, RCPT, DATA, TEXT),
    "small talk": (HELLO, b"NOOP\r\n", b"VRFY a\r\n", b"HELP\r\n", MAIL, b"NOOP\r\n", RCPT, DATA, TEXT),
    "RCPT before MAIL": (HELLO, RCPT, MAIL, RCPT),
    "DATA before RCPT": (HELLO, DATA, MAIL, DATA, RCPT, DATA, TEXT),
    "DATA behind refused recipients": (HELLO, MAIL, NOBODY, DATA),
    "MAIL twice": (HELLO, MAIL, MAIL, RCPT, DATA, TEXT),
    "MAIL before EHLO": (MAIL, HELLO, MAIL),
    "a relay": (HELLO, MAIL, b"RCPT TO:<a@elsewhere.example>\r\n", DATA),
    "unknown commands": (HELLO, b"XYZZY\r\n", b"TURN\r\n", MAIL),
    "no angle brackets": (HELLO, b"MAIL FROM:a@c.example\r\n", b"MAIL a@c.example\r\n", MAIL),
    "a null recipient": (HELLO, MAIL, b"RCPT TO:<>\r\n", RCPT),
    "arguments of DATA": (HELLO, MAIL, RCPT, b"DATA now\r\n"),
    "EHLO without a name": (b"EHLO\r\n", b"HELO\r\n", HELLO),
    "an unbalanced path": (HELLO, b"MAIL FROM:<a@c.example\r\n", b'MAIL FROM:<"a@c.example>\r\n', MAIL),
    "two dots in a name": (HELLO, b"MAIL FROM:<a..b@c.example>\r\n", b"MAIL FROM:<a@c..example>\r\n"),
    "a command as long as it may be": (HELLO, b"NOOP " + b"x" * 505 + b"\r\n", MAIL),
    "LF dot LF": smuggling(b"\n.\n"),
    "LF dot CR LF": smuggling(b"\n.\r\n"),
    "CR LF dot LF": smuggling(b"\r\n.\n"),
    "CR dot CR": smuggling(b"\r.\r"),
    "CR LF dot CR": smuggling(b"\r\n.\r"),
    "CR dot CR LF": smuggling(b"\r.\r\n"),
    "CR CR LF dot CR CR LF": smuggling(b"\r\r\n.\r\r\n"),
}

SMUGGLING = tuple(title for title, session in SESSIONS.items() if session[-1].endswith(SMUGGLED))

KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "postfix": {
        "VRFY looks the name up, and finds no such user of the machine; there is no HELP": ("small talk",),
        "mail is taken without EHLO, unless smtpd_helo_required is set": ("MAIL before EHLO",),
        "what is not relayed gets 454 while it might be a slip of the configuration": ("a relay",),
        "paths are taken as they come without strict_rfc821_envelopes": (
            "no angle brackets",
            "two dots in a name",
        ),
        "LF ends a line before Postfix 3.9, unless smtpd_forbid_bare_newline is set; CR is a blank": SMUGGLING,
    },
    "exim4": {
        "address literals are refused, unless allow_domain_literals is set": ("an address literal",),
        "VRFY is refused, unless an ACL allows it": ("small talk",),
        "paths are taken as they come": ("no angle brackets", "two dots in a name"),
        "a bare CR or LF becomes a line end or a blank, where ours refuses the message (RFC 5321 2.3.8)": SMUGGLING,
    },
    "opensmtpd": {
        "spaces behind DATA are refused, which RFC 5321 4.1.1 asks servers to tolerate": ("spaces behind a command",),
        "a quoted string is not the mailbox that it stands for (RFC 5321 4.1.2)": ("a quoted local part",),
        "a declared size is not compared with the limit": ("too large a size",),
        "EHLO is refused in a transaction, which RFC 5321 4.1.4 has it end": ("a further EHLO",),
        "there is no VRFY": ("small talk",),
        "512 octets are too many, though RFC 5321 4.5.3.1.4 has them taken": ("a command as long as it may be",),
        "a bare LF closes the connection, and a bare CR is delivered": SMUGGLING,
    },
    "aiosmtpd": {
        "paths are taken as they come": ("no angle brackets", "an unbalanced path", "two dots in a name"),
        "a bare CR or LF is delivered, where ours refuses the message (RFC 5321 2.3.8)": SMUGGLING,
    },
}
"""In which sessions another server may differ, and why that is no fault of ours."""


@dataclass
class Outcome:
    """What came of a session."""

    classes: list[int]
    """The first digits of the replies, from the greeting to QUIT."""
    bodies: list[bytes]
    """Of what was delivered, for each recipient: the text behind the header."""


# Ours


def ours(session: tuple[bytes, ...]) -> Outcome:
    """A core that takes mail as the others are told to."""
    conn = new_connection()
    bodies: list[bytes] = []
    body: list[bytes] = []
    output = b""

    def answer(conn: Connection, event: Event) -> Reply:
        path = event.forward_path if isinstance(event, Rcpt) else None
        if path and (path.domain != "example.org" or path.local_part == "nobody"):
            return Reply(550)
        if isinstance(event, DataEnd) and conn.transaction:
            bodies.extend([text_of(b"".join(body))] * len(conn.transaction.recipients))
        return Reply(250) if path or isinstance(event, DataEnd) else conn.default_reply(event)

    for flight in (b"", *session, b"QUIT\r\n"):
        if flight:
            conn.receive_data(flight)
        for event in take_events(conn, answer):
            if isinstance(event, BODY_EVENTS):
                body.append(event.data)
            elif not isinstance(event, ConnectionClosed | DataEnd):
                body.clear()
        output += conn.data_to_send()
    assert conn.state is State.CLOSED
    return Outcome([code // 100 for code, _ in replies(output)], sorted(bodies))


def text_of(message: bytes) -> bytes:
    """The text behind the header, with LF at its line ends: a mailbox has them so."""
    lines = message.replace(b"\r\n", b"\n")
    return lines.partition(b"\n\n")[2] if not lines.startswith(b"\n") else lines[1:]


# Theirs


def converse(port: int, session: tuple[bytes, ...]) -> list[int]:
    """The classes of all replies of a server."""
    classes: list[int] = []
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        stream = connection.makefile("rb")
        classes += take_reply(stream)
        for flight in (*session, b"QUIT\r\n"):
            connection.sendall(flight)
            found = take_reply(stream)
            classes += found
            if not found:
                return classes
        while found := take_reply(stream):
            classes += found
    return classes


def take_reply(stream: Any) -> list[int]:
    """The class of the next reply, nothing at the end of the stream."""
    try:
        while line := stream.readline():
            if line[3:4] != b"-":
                return [int(line[:1])]
    except ConnectionResetError:
        pass
    return []


def deliveries(session: tuple[bytes, ...], classes: list[int]) -> int:
    """For how many recipients a server has taken messages, as its replies have it."""
    taken = recipients = 0
    for flight, reply in zip(session, classes[1:], strict=False):
        verb = flight[:4].upper()
        if verb in (b"MAIL", b"RSET", b"EHLO", b"HELO") and reply == 2:
            recipients = 0
        elif verb == b"RCPT":
            recipients += reply == 2
        elif flight.endswith(b"\r\n.\r\n") and reply == 2:
            taken, recipients = taken + recipients, 0
    return taken


Run = Callable[[tuple[bytes, ...]], Outcome]


@contextmanager
def real(name: str) -> Iterator[Run]:
    seen: list[bytes] = []
    with server(name) as running:

        def run(session: tuple[bytes, ...]) -> Outcome:
            # Messages of other sessions may still be on their way to the mailbox: each has its own subject.
            subject = f"Subject: {len(seen)}x ".encode()
            seen.append(subject)
            marked = tuple(flight.replace(b"Subject: ", subject) for flight in session)
            classes = converse(running.port, marked)
            expected = deliveries(session, classes)

            def find() -> list[bytes] | None:
                contents = [path.read_bytes() for path in running.messages()]
                found = [content for content in contents if subject in content]
                return found if len(found) >= expected else None

            found = wait_until(find, lambda: f"{name} did not deliver {session}:\n{running.log()}")
            return Outcome(classes, sorted(map(text_of, found)))

        yield run


@contextmanager
def aiosmtpd() -> Iterator[Run]:
    smtp = pytest.importorskip("aiosmtpd.smtp", reason="aiosmtpd is not installed")
    bodies: list[bytes] = []

    class Handler:
        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
            if not address.lower().endswith("@example.org") or address.startswith("nobody@"):
                return "550 No"
            envelope.rcpt_tos.append(address)
            return "250 Yes"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            bodies.extend([text_of(envelope.original_content)] * len(envelope.rcpt_tos))
            return "250 Taken"

    loop = asyncio.new_event_loop()
    listener = loop.run_until_complete(
        loop.create_server(lambda: smtp.SMTP(Handler(), hostname="s.example", loop=loop), "127.0.0.1", 0)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(session: tuple[bytes, ...]) -> Outcome:
        bodies.clear()
        return Outcome(converse(listener.sockets[0].getsockname()[1], session), sorted(bodies))

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listener.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


SERVERS = {
    "postfix": lambda: real("postfix"),
    "exim4": lambda: real("exim4"),
    "opensmtpd": lambda: real("opensmtpd"),
    "aiosmtpd": aiosmtpd,
}


@pytest.mark.parametrize("name", SERVERS)
def test_ours_does_what_the_others_do(name: str) -> None:
    known = {title for titles in KNOWN[name].values() for title in titles}
    differences = {}
    with SERVERS[name]() as run:
        for title, session in SESSIONS.items():
            theirs, expected = run(session), ours(session)
            if theirs != expected and title not in known:
                differences[title] = (theirs, expected)

    assert not differences


def test_the_known_differences_are_of_sessions_that_are_held() -> None:
    assert set(KNOWN) == set(SERVERS)
    for reasons in KNOWN.values():
        titles = [title for known in reasons.values() for title in known]
        assert set(titles) <= set(SESSIONS)
        assert len(titles) < len(SESSIONS) / 2
