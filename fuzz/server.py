"""Any octets from a client, with any replies, lead to the same result however they are segmented.

A refused reply changes nothing, only documented errors are raised, each event gets all its replies, and memory is
bounded.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import cycle

from smtpcore import (
    NEED_PART,
    NEED_REPLY,
    NEED_TLS,
    OFF_BY_DEFAULT,
    BareNewlines,
    Bodies,
    Challenge,
    Config,
    Connection,
    ConnectionClosed,
    Event,
    LocalProtocolError,
    RemoteProtocolError,
    Reply,
    Signal,
    State,
)
from tests.helpers import merge_chunks, public_properties, replies
from tests.playbook import NEED_NO_REPLY, accept

from .harness import Draw, cuts

HEAD = 8
"""The number of octets at the front of an input that are choices. The rest is the session."""

ANSWERS = (
    None,  # the reply of a server that accepts all mail
    Reply(250, "Fine"),
    Reply(235),
    Challenge(b"?"),
    Reply(450, enhanced="4.2.0"),
    Reply(550, "No", "way"),
    Reply(354),
    Reply(220),
    Reply(251, "\u00e9"),
    Reply(421),
    Reply(521),
    Reply(250, "x" * 496),
)

MOST_HELD = 12_288
"""The longest line of AUTH, in octets. All other lines that these configurations allow are shorter."""


def make_config(draw: Draw) -> Config:
    """Make a configuration. An input of zeros gives an ordinary server."""
    bits = draw.byte()
    options = draw.byte()
    lmtp = bool(bits & 8)
    has_all = bool(bits & 16)
    return Config(
        hostname="mx.example.org",
        bodies=tuple(Bodies)[bits & 1],
        bare_newlines=tuple(BareNewlines)[(bits >> 1 & 3) % 3],
        lmtp=lmtp,
        disabled=frozenset() if has_all else OFF_BY_DEFAULT,
        burl=("imap",) if has_all else (),
        max_hold_for=1000 if has_all else None,
        max_hold_until=datetime(2030, 1, 1, tzinfo=UTC) if has_all else None,
        min_by_time=60 if has_all else None,
        auth_mechanisms=("PLAIN", "LOGIN") if bits & 32 else (),
        plaintext_auth=bool(bits & 64),
        starttls=bool(bits & 128),
        require_tls=bits & 128 != 0 and options & 1 != 0,
        require_auth=bits & 32 != 0 and options & 2 != 0,
        max_text_line=1000,
        max_message_size=65_536,
        max_recipients=100,
        max_errors=5 if options & 4 else 50,
        max_idle_commands=8 if options & 8 else None,
        max_messages=2 if options & 16 else None,
        max_recipient_domains=2 if options & 32 else None,
        max_auth_failures=1 if options & 64 else None,
    )


def reply_to(conn: Connection, event: Event, wanted: Reply | None) -> Reply:
    """Reply with `wanted` if that is allowed, otherwise with a positive reply. Return the reply that was sent."""
    if wanted is not None:
        before = public_properties(conn)
        try:
            return conn.send(wanted)
        except LocalProtocolError:
            assert public_properties(conn) == before

    return conn.send(accept(conn, event))


def listen(conn: Connection, choices: Iterator[int]) -> Iterator[Event]:
    """Take and answer all available events."""
    while not isinstance(event := conn.next_event(), Signal):
        yield event
        if isinstance(event, ConnectionClosed):
            return
        if isinstance(event, NEED_NO_REPLY):
            continue

        assert conn.next_event() in (NEED_REPLY, NEED_PART)
        while conn.replies_owed:
            owed = conn.replies_owed
            reply_to(conn, event, ANSWERS[next(choices) % len(ANSWERS)])
            assert conn.replies_owed in (owed - 1, 0)

    assert len(conn.trailing_data) <= MOST_HELD
    if event is NEED_TLS:
        conn.tls_established()


def converse(config: Config, segments: Iterable[bytes], answers: bytes) -> tuple[list[Event], bytes, str]:
    """Run a session up to the end of its stream, and return all its visible results."""
    conn = Connection(config)
    events: list[Event] = []
    output: list[bytes] = []
    choices = cycle(answers)
    try:
        events += listen(conn, choices)
        for segment in [*segments, b""]:
            conn.receive_data(segment)
            events += listen(conn, choices)
            output.append(conn.data_to_send())
    except RemoteProtocolError as exc:
        assert conn.state is State.CLOSED
        return merge_chunks(events), b"".join([*output, conn.data_to_send()]), str(exc)

    assert conn.state is State.CLOSED
    if events.count(ConnectionClosed()) > 1:
        events = events[: events.index(ConnectionClosed()) + 1]

    return merge_chunks(events), b"".join(output), ""


def test_one_input(data: bytes) -> None:
    """Run a session three times, with three different segmentations."""
    draw = Draw(data)
    config = make_config(draw)
    place = draw.byte()
    answers = draw.octets(HEAD - 3)

    session = draw.rest()
    whole, *others = (converse(config, segments, answers) for segments in cuts(session, place))
    replies(whole[1])
    # Octets after STARTTLS may arrive before or after its reply, depending on the segments, and are treated
    # differently.
    if not (config.starttls and b"STARTTLS" in session.upper()):
        assert others == [whole, whole]
