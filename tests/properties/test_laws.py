"""Properties of every session, for any input and any segmentation."""

import re
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import cycle, pairwise, product
from typing import Any, SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fuzz.client
import fuzz.round_trip
import fuzz.server
from fuzz.harness import ALL
from fuzz.replies import check_heard
from smtpcore import (
    COMPILED,
    EXTENSIONS,
    Attributes,
    Auth,
    AuthResponse,
    BareNewlines,
    Bodies,
    Burl,
    Challenge,
    Command,
    Config,
    Connection,
    ConnectionClosed,
    DataEnd,
    Ehlo,
    EnvelopeId,
    Etrn,
    Event,
    Expn,
    Helo,
    Help,
    Lhlo,
    LocalProtocolError,
    Mail,
    Noop,
    OriginalRecipient,
    Params,
    Path,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Signal,
    State,
    UnknownCommand,
    Vrfy,
    Wait,
    Xclient,
    Xforward,
)
from smtpcore._buffer import ReceiveBuffer
from smtpcore._dialects import dialect_of
from smtpcore._parser import parse_command, parse_response
from smtpcore_adapters.testing import strategies

from ..helpers import body, bytewise, public_properties, replies
from ..playbook import (
    DATA,
    NEED_NO_REPLY,
    RCPT,
    READY,
    ServerPlaybook,
    accept,
    compare,
    new_server,
    offer,
    refuse,
    server,
    take_events,
)
from ..profiles import examples

quickly = examples(40)

CONFIGS = [
    Config(
        hostname="s.example",
        bodies=form,
        bare_newlines=mode,
        max_text_line=1000,
        max_message_size=65_536,
        max_recipients=100,
        max_errors=errors,
        max_idle_commands=8,
        disabled=frozenset(),
        auth_mechanisms=("PLAIN", "LOGIN"),
        plaintext_auth=True,
        max_auth_failures=None if errors is None else 3,
    )
    for (form, mode), errors in zip(product(Bodies, BareNewlines), (5, None, 6, 7, None, 8), strict=True)
]
configs = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"{config.bodies.name}-{config.bare_newlines.name}"
)

# Sessions

LINES = [
    b"EHLO c.example",
    b"HELO [192.0.2.1]",
    b"MAIL FROM:<a@c.example>",
    b"MAIL FROM:<refused@c.example>",
    b"MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8",
    b"MAIL FROM:<> SIZE=99999999",
    "MAIL FROM:<\u00e9@c.example> SMTPUTF8".encode(),
    b"RCPT TO:<u@s.example>",
    b"RCPT TO:<refused@s.example>",
    "RCPT TO:<\u7528\u6237@s.example>".encode(),
    b'RCPT TO:<"a b>"@s.example> X=1',
    b"DATA",
    b"RSET",
    b"NOOP",
    b"QUIT",
    b'VRFY ""',
    "VRFY \u00e9 SMTPUTF8".encode(),
    b"EXPN list",
    b"HELP me",
    b"STARTTLS",
    b"TURN",
    b"XFOO bar",
    b"MAIL FROM:<a@c.example> BODY=BINARYMIME",
    b"BDAT 0 LAST",
    b"BDAT 3",
    b"BDAT 7 LAST",
    b"bdat 12 x",
    b"BDAT x",
    b"AUTH PLAIN",
    b"AUTH PLAIN AHUAcA==",
    b"auth login =",
    b"AUTH FOO AA",
    b"AHUAcA==",
    b"eA=",
    b"*",
    b".",
    b"",
]
NEWLINES = [b"\r\n"] * 6 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b""]
PIECES = [
    b".",
    b"..",
    b"\r\n",
    b"\r\n",
    b"\r\n.",
    b"\r",
    b"\n",
    b"a",
    b"\x00",
    b"\xff",
    b"RSET\r\n",
    b"x" * 499,
    b"\r\n.\r\n",
]

lines = st.tuples(st.sampled_from(LINES), st.sampled_from(NEWLINES)).map(b"".join)
bodies = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
messages = bodies.map(lambda body: RCPT + b"DATA\r\n" + body + b"\r\n.\r\n")
binary = st.sampled_from([RCPT, RCPT.replace(b"@c.example>", b"@c.example> BODY=BINARYMIME")])
chunks = st.lists(bodies, max_size=4).map(lambda parts: b"".join(b"BDAT %d\r\n%b" % (len(p), p) for p in parts))
chunked = st.tuples(binary, chunks, bodies.map(lambda part: b"BDAT %d LAST\r\n%b" % (len(part), part))).map(b"".join)
exchanges = st.sampled_from([b"AUTH PLAIN\r\nAHUAcA==\r\n", b"AUTH LOGIN\r\n\r\neA==\r\n", b"AUTH PLAIN\r\n*\r\n"])
long_lines = st.integers(500, 1200).map(lambda size: b"x" * size + b"\r\n")
junk = st.binary(max_size=40)
sessions = st.lists(
    st.one_of(lines, lines, messages, bodies, long_lines, junk, chunked, chunks, exchanges), max_size=10
).map(b"".join)


def answer(conn: Connection, event: Event) -> Reply:
    """Accept everything except addresses that contain `refused@`."""
    if isinstance(event, Auth | AuthResponse):
        given = event.initial_response if isinstance(event, Auth) else event.data
        return Reply(235) if given == b"\0u\0p" else conn.default_reply(event) if given else Challenge(b"")
    refused = isinstance(event, Mail | Rcpt) and "refused@" in str(event)
    return Reply(550, "Refused") if refused else accept(conn, event)


def play(config: Config, segments: Iterable[bytes]) -> ServerPlaybook:
    """Play a session up to the end of its stream."""
    book = new_server(config=config, answer=answer, cut=False).send(*segments).end()
    assert book.state is State.CLOSED
    return book


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


@configs
@given(data=sessions, places=st.lists(st.integers(0, 10_000), max_size=8))
@quickly
def test_session_outcome_is_independent_of_segmentation(config: Config, data: bytes, places: list[int]) -> None:
    whole = play(config, [data] if data else [])

    for other in (play(config, bytewise(data)), play(config, cut(data, places))):
        compare(whole.record, other.record, "the dialogue depends on the segments")
        assert other.output == whole.output


@configs
@given(data=sessions)
@quickly
def test_output_is_well_formed_and_each_message_is_accepted_once(config: Config, data: bytes) -> None:
    """R5321-4.2-02, R5321-2.3.8-02"""
    book = new_server(config=config, answer=answer, cut=False).send(*([data] if data else []))

    events, said = book.events, book.replies
    assert len(said) == sum(not isinstance(event, (*NEED_NO_REPLY, ConnectionClosed)) for event in events)
    assert sum("Message taken" in text for text in said) == sum(isinstance(event, DataEnd) for event in events)


@configs
@given(content=bodies)
@quickly
def test_body_of_complete_lines_is_received_unchanged(config: Config, content: bytes) -> None:
    """R5321-4.5.2-03, R5321-4.5.2-05"""
    text = content.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    stuffed = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:]

    book = new_server(config=config, max_text_line=99_999, cut=False).send(DATA + stuffed + b".\r\n")
    assert book.events[-1] == DataEnd()
    assert body(book.events) == text


# Robustness


REPLIES = [
    Reply(220),
    Reply(250, "Fine"),
    Reply(250, "a", "b", enhanced="2.1.5"),
    Reply(251, "\u00e9"),
    Reply(252),
    Reply(334, "VXNlcm5hbWU6"),
    Reply(354),
    Reply(421),
    Reply(450, enhanced="4.2.0"),
    Reply(550, "x" * 496),
    Reply(521),
]


def try_to_send(conn: Connection, reply: Reply) -> None:
    """Send a reply, or check that a refused reply changes nothing."""
    before = public_properties(conn)
    try:
        conn.send(reply)
    except LocalProtocolError:
        assert public_properties(conn) == before


def try_to_start_tls(conn: Connection) -> None:
    before = public_properties(conn)
    try:
        conn.tls_established()
    except LocalProtocolError:
        assert public_properties(conn) == before


@pytest.mark.parametrize("tls", [False, True])
@configs
@given(
    segments=st.lists(st.one_of(sessions, junk), max_size=6),
    choices=st.lists(st.sampled_from([*REPLIES, None, None, None, None, "TLS"]), min_size=1, max_size=30),
)
@quickly
def test_any_input_and_any_calls_raise_only_documented_errors(
    config: Config, tls: bool, segments: list[bytes], choices: list[Any]
) -> None:
    conn = Connection(replace(config, starttls=tls))
    chosen = cycle(choices)
    try:
        for segment in [*segments, b""]:
            conn.receive_data(segment)
            while not isinstance(event := conn.next_event(), Signal | ConnectionClosed):
                choice = next(chosen)
                if choice == "TLS":
                    try_to_start_tls(conn)
                elif choice is not None:
                    try_to_send(conn, choice)
                if conn.waiting_for is Wait.NOTHING and conn.state is not State.CLOSED:
                    conn.send(conn.default_reply(event))
            if event is Signal.NEED_TLS:
                try_to_start_tls(conn)
    except RemoteProtocolError:
        assert conn.state is State.CLOSED
    replies(conn.data_to_send())


# The fuzzing targets, with inputs that get far into a session


@given(choices=st.binary(min_size=fuzz.server.HEAD, max_size=fuzz.server.HEAD), session=sessions)
@quickly
def test_server_invariants_hold_for_any_config_and_answers(choices: bytes, session: bytes) -> None:
    fuzz.server.test_one_input(choices + session)


SERVER_OUTPUT = [
    b"220 s.example\r\n",
    offer("PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME", "SMTPUTF8", "AUTH LOGIN"),
    b"250 2.0.0 Fine\r\n",
    b"354 Go on\r\n",
    b"334 VXNlcjo=\r\n",
    b"235\r\n",
    b"550-5.1.1 No\r\n550 5.1.1 one\r\n",
    b"421 Bye\r\n",
    b"250-",
    b"250 \xc3\r\n",
    b"\n",
]


@given(
    choices=st.binary(min_size=18, max_size=18),
    flights=st.lists(st.lists(st.sampled_from(SERVER_OUTPUT), max_size=3).map(b"".join), max_size=10),
)
@quickly
def test_client_invariants_hold_for_any_server_output(choices: bytes, flights: list[bytes]) -> None:
    beginning = [SERVER_OUTPUT[0], SERVER_OUTPUT[1]] if choices[0] % 4 else []
    fuzz.client.test_one_input(choices[:17] + fuzz.client.SEPARATOR.join(beginning + flights))


@given(choices=st.binary(min_size=10, max_size=10), sent=st.lists(st.sampled_from([1, 129]) | st.integers(0, 255)))
@quickly
def test_both_ends_agree_on_random_sessions(choices: bytes, sent: list[int]) -> None:
    fuzz.round_trip.test_one_input(choices + bytes(sent))


# Values

EVERYTHING = dialect_of(EXTENSIONS, replace(ALL, starttls=True, max_message_size=None), tls=True, extended=True)


@given(command=strategies.commands(utf8=True))
@quickly
def test_command_survives_encoding_and_parsing(command: Command) -> None:
    line = command.encode()

    assert line.count(b"\r") == line.count(b"\n") == 1
    assert parse_command(command.verb, line.removesuffix(b"\r\n"), EVERYTHING) == command


@given(reply=strategies.replies())
@quickly
def test_reply_survives_encoding_and_parsing(reply: Reply) -> None:
    check_heard(reply)


@given(response=st.binary(max_size=100))
@quickly
def test_response_and_challenge_survive_encoding_and_parsing(response: bytes) -> None:
    assert parse_response(AuthResponse(response).encode().removesuffix(b"\r\n")) == AuthResponse(response)
    assert Challenge(response).challenge == response


MAKERS: list[Callable[[str], Command | UnknownCommand | Reply]] = [
    Helo,
    Ehlo,
    Lhlo,
    lambda text: Mail(Path(text)),
    lambda text: Mail(Path(""), Params({"X": text})),
    lambda text: Mail(Path(""), Params({text: True})),
    lambda text: Mail(Path(""), Params({"ENVID": EnvelopeId(text)})),
    lambda text: Mail(Path(""), Params({"SOLICIT": (text, text)})),
    lambda text: Rcpt(Path(text)),
    lambda text: Rcpt(Path("Postmaster"), Params({"ORCPT": OriginalRecipient(text)})),
    Noop,
    Help,
    Vrfy,
    lambda text: Expn(text, smtputf8=True),
    Etrn,
    Burl,
    lambda text: Auth(text, b"\r\n"),
    lambda text: Xclient(Attributes({"NAME": text})),
    lambda text: Xforward(Attributes({text: None})),
    UnknownCommand,
    lambda text: UnknownCommand("X", text),
    lambda text: Reply(250, text),
    lambda text: Reply(250, "first", text, "last"),
    lambda text: Reply(250, enhanced=text),
]
INJECTIONS = [
    "\r\nQUIT",
    "\n",
    "\r",
    "\0",
    "\x7f",
    " ",
    "\t",
    "\u2028",
    "\x85",
    "\u00e9",
    "\ud800",
    ">",
    '"',
    "\\",
    "=",
]
texts = st.lists(st.sampled_from([*INJECTIONS, "a", "a@b", "2.0.0", "x.y"]) | st.text(max_size=3), max_size=5).map(
    "".join
)


@pytest.mark.parametrize("make", MAKERS)
@given(text=texts)
@quickly
def test_no_value_injects_a_line(make: Callable[[str], Command | UnknownCommand | Reply], text: str) -> None:
    try:
        value = make(text)
        octets = value.encode()
    except LocalProtocolError:
        return

    lines = len(value.lines) if isinstance(value, Reply) else 1
    assert octets.endswith(b"\r\n")
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n") == lines
    assert b"\0" not in octets
    octets.decode()


# Bounds


ENDLESS = [b"x", b"\r", b"\n", b"\r\n", b".", b"\r\n.", b"\x00", b"\r\r\n", b"NOOP\r\n", b"MAIL FROM:<>\r\n", b"\xff\n"]


@configs
@pytest.mark.parametrize("before", [READY, DATA], ids=["commands", "body"])
@pytest.mark.parametrize("endless", ENDLESS)
def test_memory_is_bounded(config: Config, before: bytes, endless: bytes) -> None:
    conn = server(before, bodies=config.bodies, bare_newlines=config.bare_newlines).connection
    most = 562 if before is READY else 4  # the longest line, or the longest start of an end marker
    segment = endless * (1000 // len(endless))
    answer_with_defaults(conn, segment)

    def growth() -> int:
        tracemalloc.start()
        for _ in range(2 if endless.strip(b"x.\x00") else 70):
            answer_with_defaults(conn, segment)
            assert len(conn.trailing_data) <= most
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    # The interpreter rebuilds its table of interned strings at times, in 2 MB of new memory. A leak grows each time.
    assert any(growth() < 100_000 for _ in range(3))


def answer_with_defaults(conn: Connection, segment: bytes) -> None:
    conn.receive_data(segment)
    for _ in take_events(conn, refuse):
        pass
    conn.data_to_send()


class CountingOctets(bytearray):
    """Octets that count how many of them are searched."""

    searched = 0

    def find(  # type: ignore[override]
        self, sub: bytes, start: SupportsIndex | None = None, end: SupportsIndex | None = None
    ) -> int:
        found = super().find(sub, start, end)
        first, last, _ = slice(start, end).indices(len(self))
        self.searched += (found + len(sub) if found >= 0 else last) - first
        return found


class CountingBuffer(ReceiveBuffer):
    """A buffer that counts how many octets are searched."""

    def __init__(self) -> None:
        super().__init__()
        self.octets: CountingOctets = CountingOctets()

    def search(self, pattern: Callable[[bytearray, int], re.Match[bytes] | None], start: int = 0) -> int:
        found = pattern(self.octets, start)
        self.octets.searched += (found.end() if found else len(self.octets)) - start
        return found.start() if found else -1


@pytest.mark.skipif(COMPILED, reason="the compiled core takes no buffer of another class")
@configs
@pytest.mark.parametrize("piecewise", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("before", [READY, DATA], ids=["commands", "body"])
@pytest.mark.parametrize("endless", [b"x", b"\r", b"\n", b".\r\nx", b"NOOP\r\n"])
def test_every_octet_is_searched_a_constant_number_of_times(
    config: Config, before: bytes, endless: bytes, piecewise: bool
) -> None:
    conn = server(before, bodies=config.bodies, bare_newlines=config.bare_newlines).connection
    buffer = conn._buffer = CountingBuffer()
    data = endless * (1000 // len(endless))

    for segment in bytewise(data) if piecewise else [data]:
        answer_with_defaults(conn, segment)

    assert 0 < buffer.octets.searched <= 8 * len(data)
