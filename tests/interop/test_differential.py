"""The same sessions with smtpcore and with established servers: replies and deliveries must agree."""

# Only the first digit of a reply is compared, as clients do (RFC 5321 4.2.1). A session is a list of segments: each a
# command, or a body with its end. One reply is read after each segment. The final QUIT then reveals further replies,
# such as the replies to smuggled commands.

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from smtpcore import Connection, ConnectionClosed, DataEnd, Event, Rcpt, Reply, State

from ..helpers import BODY_EVENTS, replies
from ..long import mostly_long
from ..playbook import new_server, take_events
from .servers import TIMEOUT, server, wait_until

HELLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\n"
RCPT = b"RCPT TO:<a@example.org>\r\n"
OTHER = b"RCPT TO:<b@example.org>\r\n"
NOBODY = b"RCPT TO:<nobody@example.org>\r\n"
DATA = b"DATA\r\n"
MESSAGE_DATA = b"Subject: hello\r\n\r\nHello.\r\n.\r\n"

SMUGGLED = b"MAIL FROM:<b@c.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"


def smuggling(end: bytes) -> tuple[bytes, ...]:
    """Return a session whose body contains a false end of data and commands after it, and then the true end."""
    return (HELLO, MAIL, RCPT, DATA, b"Subject: hello\r\n\r\nHello." + end + SMUGGLED)


SESSIONS: dict[str, tuple[bytes, ...]] = {
    "a message": (HELLO, MAIL, RCPT, DATA, MESSAGE_DATA),
    "a message after HELO": (b"HELO c.example\r\n", MAIL, RCPT, DATA, MESSAGE_DATA),
    "two messages": (HELLO, MAIL, RCPT, DATA, MESSAGE_DATA, MAIL, OTHER, DATA, MESSAGE_DATA),
    "two recipients": (HELLO, MAIL, RCPT, OTHER, DATA, MESSAGE_DATA),
    "one of two recipients": (HELLO, MAIL, NOBODY, RCPT, DATA, MESSAGE_DATA),
    "a null sender": (HELLO, b"MAIL FROM:<>\r\n", RCPT, DATA, MESSAGE_DATA),
    "dots": (HELLO, MAIL, RCPT, DATA, b"Subject: dots\r\n\r\n..\r\n...\r\n..x\r\n. \r\n\r\n.\r\n"),
    "an empty header field": (HELLO, MAIL, RCPT, DATA, b"X:\r\nSubject: \r\n\r\nHello.\r\n.\r\n"),
    "letters of any case": (
        HELLO.lower(),
        MAIL.replace(b"MAIL FROM", b"mail from"),
        RCPT.lower(),
        b"data\r\n",
        MESSAGE_DATA,
    ),
    "spaces after a command": (HELLO, MAIL, RCPT, b"DATA \r\n", MESSAGE_DATA),
    "a source route": (HELLO, MAIL, b"RCPT TO:<@c.example:a@example.org>\r\n", DATA, MESSAGE_DATA),
    "a quoted local part": (HELLO, MAIL, b'RCPT TO:<"a"@example.org>\r\n', DATA, MESSAGE_DATA),
    "an address literal": (HELLO, b"MAIL FROM:<a@[192.0.2.1]>\r\n", RCPT, DATA, MESSAGE_DATA),
    "eight bits": (
        HELLO,
        MAIL.replace(b">", b"> BODY=8BITMIME"),
        RCPT,
        DATA,
        b"Subject: x\r\n\r\n\xc3\xa9\r\n.\r\n",
    ),
    "a size": (HELLO, b"MAIL FROM:<a@c.example> SIZE=100\r\n", RCPT, DATA, MESSAGE_DATA),
    "too large a size": (HELLO, b"MAIL FROM:<a@c.example> SIZE=999999999999\r\n", RCPT),
    "an unknown parameter": (HELLO, b"MAIL FROM:<a@c.example> FOO=bar\r\n", RCPT),
    "RSET": (HELLO, MAIL, RCPT, b"RSET\r\n", DATA, MAIL, RCPT, DATA, MESSAGE_DATA),
    "a further EHLO": (HELLO, MAIL, RCPT, HELLO, RCPT, MAIL, RCPT, DATA, MESSAGE_DATA),
    "small talk": (HELLO, b"NOOP\r\n", b"VRFY a\r\n", b"HELP\r\n", MAIL, b"NOOP\r\n", RCPT, DATA, MESSAGE_DATA),
    "RCPT before MAIL": (HELLO, RCPT, MAIL, RCPT),
    "DATA before RCPT": (HELLO, DATA, MAIL, DATA, RCPT, DATA, MESSAGE_DATA),
    "DATA after refused recipients": (HELLO, MAIL, NOBODY, DATA),
    "MAIL twice": (HELLO, MAIL, MAIL, RCPT, DATA, MESSAGE_DATA),
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
        "VRFY looks for a user of the machine and finds none; HELP is not implemented": ("small talk",),
        "MAIL is accepted without EHLO, unless smtpd_helo_required is set": ("MAIL before EHLO",),
        "a denied relay gets 454, because the configuration may be at fault": ("a relay",),
        "paths are hardly validated without strict_rfc821_envelopes": (
            "no angle brackets",
            "two dots in a name",
        ),
        "LF ends a line before Postfix 3.9, unless smtpd_forbid_bare_newline is set; CR is a blank": SMUGGLING,
    },
    "exim4": {
        "address literals are refused, unless allow_domain_literals is set": ("an address literal",),
        "VRFY is refused, unless an ACL allows it": ("small talk",),
        "paths are hardly validated": ("no angle brackets", "two dots in a name"),
        "a bare CR or LF becomes a line end or a blank, where smtpcore refuses the message (RFC 5321 2.3.8)": SMUGGLING,
    },
    "opensmtpd": {
        "spaces after DATA are refused, although RFC 5321 4.1.1 asks servers to tolerate them": (
            "spaces after a command",
        ),
        "a quoted local part is not recognized as the same mailbox (RFC 5321 4.1.2)": ("a quoted local part",),
        "a declared size is not compared with the limit": ("too large a size",),
        "EHLO is refused in a transaction, although RFC 5321 4.1.4 says that EHLO ends the transaction": (
            "a further EHLO",
        ),
        "VRFY is not implemented": ("small talk",),
        "a line of 512 octets is refused, although RFC 5321 4.5.3.1.4 allows it": ("a command as long as it may be",),
        "a bare LF closes the connection, and a bare CR is delivered": SMUGGLING,
    },
    "aiosmtpd": {
        "paths are hardly validated": ("no angle brackets", "an unbalanced path", "two dots in a name"),
        "a bare CR or LF is delivered, where smtpcore refuses the message (RFC 5321 2.3.8)": SMUGGLING,
    },
}
"""Sessions in which another server may differ, by the reason why smtpcore is correct."""


@dataclass
class Outcome:
    """The result of a session."""

    classes: list[int]
    """The first digit of each reply, from the greeting to QUIT."""
    bodies: list[bytes]
    """The text after the header of each delivered message, once per recipient."""


# smtpcore


def run_smtpcore(session: tuple[bytes, ...]) -> Outcome:
    """Run a session with an smtpcore connection, which accepts the same recipients as the other servers."""
    conn = new_server().connection
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

    for segment in (b"", *session, b"QUIT\r\n"):
        if segment:
            conn.receive_data(segment)
        for event in take_events(conn, answer):
            if isinstance(event, BODY_EVENTS):
                body.append(event.data)
            elif not isinstance(event, ConnectionClosed | DataEnd):
                body.clear()
        output += conn.data_to_send()
    assert conn.state is State.CLOSED
    return Outcome([code // 100 for code, _ in replies(output)], sorted(bodies))


def text_of(message: bytes) -> bytes:
    """Return the text after the header, with LF line ends as in a mailbox."""
    lines = message.replace(b"\r\n", b"\n")
    return lines.partition(b"\n\n")[2] if not lines.startswith(b"\n") else lines[1:]


# Other servers


def run_session(port: int, session: tuple[bytes, ...]) -> list[int]:
    """Run a session with a server, and return the first digit of each reply."""
    classes: list[int] = []
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        stream = connection.makefile("rb")
        classes += read_reply(stream)
        for segment in (*session, b"QUIT\r\n"):
            connection.sendall(segment)
            found = read_reply(stream)
            classes += found
            if not found:
                return classes
        while found := read_reply(stream):
            classes += found
    return classes


def read_reply(stream: Any) -> list[int]:
    """Return the first digit of the next reply, or nothing at the end of the stream."""
    try:
        while line := stream.readline():
            if line[3:4] != b"-":
                return [int(line[:1])]
    except ConnectionResetError:
        pass
    return []


def deliveries(session: tuple[bytes, ...], classes: list[int]) -> int:
    """Return the number of messages times recipients that the replies of a server accept."""
    taken = recipients = 0
    for segment, reply in zip(session, classes[1:], strict=False):
        verb = segment[:4].upper()
        if verb in (b"MAIL", b"RSET", b"EHLO", b"HELO") and reply == 2:
            recipients = 0
        elif verb == b"RCPT":
            recipients += reply == 2
        elif segment.endswith(b"\r\n.\r\n") and reply == 2:
            taken, recipients = taken + recipients, 0
    return taken


Run = Callable[[tuple[bytes, ...]], Outcome]


@contextmanager
def real_server(name: str) -> Iterator[Run]:
    seen: list[bytes] = []
    with server(name) as running:

        def run(session: tuple[bytes, ...]) -> Outcome:
            # Each session has a unique subject, because messages of earlier sessions may still be in the queue.
            subject = f"Subject: {len(seen)}x ".encode()
            seen.append(subject)
            marked = tuple(segment.replace(b"Subject: ", subject) for segment in session)
            classes = run_session(running.port, marked)
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
        return Outcome(run_session(listener.sockets[0].getsockname()[1], session), sorted(bodies))

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listener.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


SERVERS = {
    "postfix": lambda: real_server("postfix"),
    "exim4": lambda: real_server("exim4"),
    "opensmtpd": lambda: real_server("opensmtpd"),
    "aiosmtpd": aiosmtpd,
}


@pytest.mark.parametrize("name", mostly_long(SERVERS, "aiosmtpd"))
def test_smtpcore_agrees_with_another_server(name: str) -> None:
    known = {title for titles in KNOWN[name].values() for title in titles}
    differences = {}
    with SERVERS[name]() as run:
        for title, session in SESSIONS.items():
            actual, expected = run(session), run_smtpcore(session)
            if actual != expected and title not in known:
                differences[title] = (actual, expected)

    assert not differences


def test_known_differences_name_existing_sessions() -> None:
    assert set(KNOWN) == set(SERVERS)
    for reasons in KNOWN.values():
        titles = [title for known in reasons.values() for title in known]
        assert set(titles) <= set(SESSIONS)
        assert len(titles) < len(SESSIONS) / 2
