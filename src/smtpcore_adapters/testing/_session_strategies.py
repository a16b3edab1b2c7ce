"""Hypothesis strategies for whole sessions of a client: as steps, and as groups of octets."""

# A session is EHLO, then parts (logins, transactions, small talk, mistakes), then QUIT. The first alternative of each
# choice is the simplest, because Hypothesis shrinks toward the first alternative.

from collections.abc import Collection, Sequence
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ._proxied import CLIENTS, HEADERS, WRONG_CLIENTS, WRONG_HEADERS
from ._value_strategies import bodies, commands
from .steps import AuthStep, BodyStep, ChunkStep, LineStep, RawStep, Step, TlsStep, groups_of

OFFERS = frozenset({"PIPELINING", "8BITMIME", "CHUNKING", "SIZE", "SMTPUTF8"})
"""The default for the extensions that a session may use."""

_HELO = ["c.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "a-b.c.example"]
_SENDERS = ["a@c.example", "", "A.B+c@c.example", '"a b"@c.example', "a@[192.0.2.1]", "l" * 64 + "@c.example"]
_RECIPIENTS = ["u@s.example", "v@s.example", "Postmaster", '"a\\"b"@s.example', "@r.example:w@s.example"]
_UTF8_MAILBOX = "\u00e4@s.example"


T = TypeVar("T")


def _choice(*strategies: SearchStrategy[T]) -> SearchStrategy[T]:
    # `one_of` would take the branches of nested strategies for alternatives of its own, so that lines, which have many
    # branches, would leave hardly any bodies.
    return st.sampled_from(strategies).flatmap(lambda strategy: strategy)


# Mistakes


def hostile_lines() -> SearchStrategy[bytes]:
    """Draw command lines with mistakes, without CR LF: wrong syntax, wrong order, control characters, any length.

    DATA, BDAT and AUTH occur only with mistakes in their arguments, because the server would wait for more octets.
    """
    known = commands().filter(lambda command: command.verb not in _WITH_MORE).map(lambda c: str(c).encode())
    long = st.tuples(st.sampled_from(_LONG), st.integers(500, 5000)).map(lambda drawn: drawn[0] + b"x" * drawn[1])
    spoiled = st.tuples(known, st.sampled_from(_CONTROLS), st.integers(0, 40)).map(
        lambda drawn: drawn[0][: drawn[2]] + drawn[1] + drawn[0][drawn[2] :]
    )
    noise = st.binary(max_size=20).map(lambda octets: b"X" + octets.replace(b"\n", b"").replace(b"\r", b""))
    return _choice(st.sampled_from(MISTAKES), st.sampled_from(MISTAKES), known, spoiled, long, noise)


_WITH_MORE = {"DATA", "BDAT", "AUTH", "STARTTLS", "QUIT"}
_LONG = [b"NOOP ", b"EHLO ", b"MAIL FROM:<a@c.example> X=", b"RCPT TO:<", b"X"]
_CONTROLS = [b"\0", b"\t", b"\x7f", b"\x80", b"\xff", b"\xc3\xa4", b" ", b"<", b">", b"@", b":"]

MISTAKES = [
    b"XYZZY",
    b"",
    b".",
    b" ",
    b"\x00",
    b"EHLO",
    b"EHLO a b",
    b"HELO under_score",
    b"EHLO \xff",
    b"\xc3\x28",
    b"MAIL",
    b"MAIL FROM",
    b"MAIL FROM:",
    b"MAIL FROM:a@c.example",
    b"MAIL FROM: <a@c.example>",
    b"MAIL FROM:<a@c.example",
    b"MAIL FROM:<a@c.example> SIZE=",
    b"MAIL FROM:<a@c.example> SIZE=x",
    b"MAIL FROM:<a@c.example> SIZE=-1",
    b"MAIL FROM:<a@c.example> SIZE=99999999999999999999",
    b"MAIL FROM:<a@c.example> SIZE=1 SIZE=2",
    b"MAIL FROM:<a@c.example> BODY=",
    b"MAIL FROM:<a@c.example> BODY=X",
    b"MAIL FROM:<a@c.example> X=1",
    b"MAIL FROM:<a@c.example> =",
    b"MAIL FROM:<a@c..example>",
    b"MAIL FROM:<\xff@c.example>",
    b"MAIL FROM:<@>",
    b"MAIL TO:<a@c.example>",
    b"RCPT",
    b"RCPT TO:",
    b"RCPT TO:<>",
    b"RCPT TO:<@>",
    b"RCPT TO:<u@s.example> <v@s.example>",
    b'RCPT TO:<"u@s.example>',
    b"RCPT TO:<u@[999.1.1.1]>",
    b"RCPT TO:<u@[IPv6:>",
    b"RCPT TO:<u@s.example> NOTIFY=",
    b"RCPT FROM:<u@s.example>",
    b"DATA now",
    b"BDAT",
    b"BDAT x",
    b"BDAT -1 LAST",
    b"BDAT 0x10",
    b"BDAT 0 2 3",
    b"VRFY",
    b"EXPN",
    b"AUTH",
    b"AUTH PLAIN =x",
    b"AUTH NONE",
    b"RSET x",
    b"STARTTLS x",
    b"NOOP \x00",
    b"SEND FROM:<a@c.example>",
    b"GET / HTTP/1.1",
]
"""Lines with typical mistakes, without CR LF, the simplest first."""


def _raw() -> SearchStrategy[Step]:
    lines = _HOSTILE_LINES.filter(lambda line: line[:4].upper() not in (b"DATA", b"BDAT", b"AUTH"))
    bare = lines.map(lambda line: line + b"\n")
    return st.one_of(st.sampled_from([b"NOOP\n", b"NOOP\r"]), lines.filter(bool), bare).map(RawStep)


def hostile_bodies() -> SearchStrategy[bytes]:
    """Draw messages with bare CR or LF, NUL, long lines, or octets beyond ASCII, and with sequences like the end.

    Some contain commands after a sequence that some servers take for the end of the message (SMTP smuggling). The last
    line ends in CR LF.
    """
    false_end = st.tuples(st.sampled_from(FALSE_ENDS), st.sampled_from(_SMUGGLED)).map(b"".join)
    piece = _choice(st.sampled_from(_HOSTILE), false_end, false_end, bodies())
    return st.lists(piece, min_size=1, max_size=3).map(
        lambda pieces: b"Subject: x\r\n\r\ny" + b"".join(pieces) + b"\r\n"
    )


FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n. \r\n",
    b"\r\n..\r\n",
    b"\r\n.\r\r\n",
]
"""Sequences that some servers took for the end of a message."""
_SMUGGLED = [
    b"RSET\r\nNOOP\r\n",
    b"QUIT\r\n",
    b"MAIL FROM:<evil@c.example>\r\nRCPT TO:<u@s.example>\r\nDATA\r\nSubject: z\r\n",
    b"",
]
_HOSTILE = [b"\0", b"\n", b"\r", b"\r\r\n", b"\xff\xfe", b"\xc3\xa4\r\n", b"z" * 1500, b"\x1a", b"\x80\r\n.\x80", b"\t"]


# The strategies are made once, because the parameters of MAIL and RCPT make `commands` large.
_HOSTILE_LINES = hostile_lines()
_HOSTILE_BODIES = hostile_bodies()
_RAW = _raw()


# The parts of a session


def _transaction(
    offers: Collection[str], senders: Sequence[str], recipients: Sequence[str]
) -> SearchStrategy[list[Step]]:
    flag = st.sampled_from([False, False, True])
    has_utf8 = flag if {"8BITMIME", "SMTPUTF8"} <= set(offers) else st.just(False)

    def build(sender: str, to: list[int], body: bytes, end: int, flags: tuple[bool, bool, bool]) -> list[Step]:
        eight_bit, utf8, sized = flags
        content = b"Subject: x\r\n\r\n" + body + (_BEYOND_ASCII if eight_bit else b"")
        params = [
            *(["BODY=8BITMIME"] if eight_bit else []),
            *(["SMTPUTF8"] if utf8 else []),
            *([f"SIZE={len(content)}"] if sized else []),
        ]
        known = [_UTF8_MAILBOX, *recipients] if utf8 else recipients
        return [
            _line(" ".join([f"MAIL FROM:<{sender}>", *params])),
            *(_line(f"RCPT TO:<{known[number % len(known)]}>") for number in to),
            *_ends(content, end, chunking="CHUNKING" in offers),
        ]

    return st.builds(
        build,
        st.sampled_from(senders),
        st.lists(st.integers(0, 11), min_size=1, max_size=3),
        _BODIES,
        st.integers(0, 9),
        st.tuples(
            flag if "8BITMIME" in offers else st.just(False), has_utf8, flag if "SIZE" in offers else st.just(False)
        ),
    )


_BODIES = bodies()
_BEYOND_ASCII = "\u00e4\u4e2d".encode() + b"\xff\xa0\r\n"


def _ends(content: bytes, number: int, *, chunking: bool) -> list[Step]:
    """Return the steps that end a transaction: DATA, RSET, or BDAT with one or two chunks."""
    if number == 5:
        return [_line("RSET")]
    if number < 5 or not chunking:
        return [BodyStep(content)]

    place = len(content) * (number - 6) // 3
    return _chunks(content, place) if number < 9 else [ChunkStep(content)]


def _chunks(content: bytes, place: int) -> list[Step]:
    return [ChunkStep(content[:place], is_last=False), ChunkStep(content[place:])]


def _line(text: str) -> LineStep:
    return LineStep(text.encode())


def _small_talk(helo: SearchStrategy[Step]) -> SearchStrategy[list[Step]]:
    lines = st.sampled_from([_line(text) for text in ("NOOP", "RSET", "NOOP hello", "HELP")])
    return st.one_of(lines, helo).map(lambda step: [step])


LOGINS = [
    AuthStep("PLAIN", b"AHVzZXIAcGFzc3dvcmQ="),
    AuthStep("PLAIN", None, (b"AHVzZXIAcGFzc3dvcmQ=",)),
    AuthStep("LOGIN", None, (b"dXNlcg==", b"cGFzc3dvcmQ=")),
    AuthStep("LOGIN", b"dXNlcg==", (b"cGFzc3dvcmQ=",)),
]
BAD_LOGINS = [
    AuthStep("PLAIN", None, (b"*",)),
    AuthStep("PLAIN", None, (b"!",)),
    AuthStep("LOGIN", None, (b"",)),
    AuthStep("LOGIN", None, (b"dXNlcg==", b"*")),
    AuthStep("PLAIN", b"="),
    AuthStep("XYZZY"),
]


def _mistakes(transaction: SearchStrategy[list[Step]], offers: Collection[str]) -> SearchStrategy[list[Step]]:
    """Draw a transaction with one mistake in one of its states, or a step of its own."""
    nothing: SearchStrategy[list[Step]] = st.just([])
    logins = st.sampled_from(BAD_LOGINS if "AUTH" in offers else BAD_LOGINS[4:])
    alternatives: list[SearchStrategy[Step]] = [
        *[_HOSTILE_LINES.map(LineStep)] * 3,
        *[_HOSTILE_BODIES.map(BodyStep)] * 2,
        _RAW,
        logins,
        *([st.builds(ChunkStep, _HOSTILE_BODIES, st.booleans())] if "CHUNKING" in offers else []),
        *([st.sampled_from([*WRONG_CLIENTS, *CLIENTS])] if "XCLIENT" in offers else []),
    ]

    def build(mistake: Step, steps: list[Step], place: int) -> list[Step]:
        if isinstance(mistake, BodyStep | ChunkStep) and steps:
            return [*steps[:-1], mistake]

        place %= len(steps) + 1
        return [*steps[:place], mistake, *steps[place:]]

    return st.builds(build, _choice(*alternatives), nothing | transaction, st.integers(0, 5))


# Sessions


def steps(
    *,
    valid: bool = True,
    offers: Collection[str] = OFFERS,
    lmtp: bool = False,
    senders: Sequence[str] = (),
    recipients: Sequence[str] = (),
) -> SearchStrategy[list[Step]]:
    """Draw whole sessions of a client, from EHLO to QUIT, as steps.

    Args:
        valid: Whether the session is valid for a server that offers `offers` and accepts everything; each of its
            replies is positive. If false, some steps have typical mistakes: wrong order, malformed syntax, bare
            newlines and NUL, false ends of a message.
        offers: The keywords of the extensions that the session may use: 8BITMIME, CHUNKING, SIZE, SMTPUTF8, AUTH with
            PLAIN and LOGIN, STARTTLS, and XCLIENT. Other keywords have no effect.
        lmtp: Whether the session begins with LHLO.
        senders: The senders without brackets; by default of every form.
        recipients: The recipients without brackets; by default of every form.
    """
    verb = "LHLO" if lmtp else "EHLO"
    helo: SearchStrategy[Step] = st.sampled_from([_line(f"{verb} {name}") for name in _HELO])
    addresses = (senders or _SENDERS), (recipients or _RECIPIENTS)
    transaction = _transaction(offers, *addresses)
    parts = [_small_talk(helo), transaction, transaction]
    if not valid:
        parts += [_mistakes(transaction, offers)] * 3

    middle = st.lists(_choice(*parts), max_size=4).map(lambda found: [step for part in found for step in part])
    begin = _beginning(helo, offers, valid=valid)
    return st.tuples(begin, middle).map(lambda drawn: [*drawn[0], *drawn[1], _line("QUIT")])


def _beginning(helo: SearchStrategy[Step], offers: Collection[str], *, valid: bool) -> SearchStrategy[list[Step]]:
    begin = helo.map(lambda step: [step])
    alternatives = [begin] * 3
    if "STARTTLS" in offers:
        tls: SearchStrategy[Step] = st.sampled_from([TlsStep(), *([] if valid else [TlsStep(b"NOOP\r\n")])])
        alternatives.append(st.tuples(helo, tls, helo).map(list))
    if "AUTH" in offers:
        logins: SearchStrategy[Step] = st.sampled_from(LOGINS)
        alternatives.append(st.tuples(helo, logins).map(list))
    if "XCLIENT" in offers:
        clients: SearchStrategy[Step] = st.sampled_from(CLIENTS)
        alternatives.append(st.tuples(helo, clients, helo).map(list))
    if not valid:
        alternatives.append(helo.map(lambda step: []))  # as many draws as EHLO, which is therefore simpler

    return _choice(*alternatives)


def proxy_headers(*, valid: bool = True) -> SearchStrategy[bytes]:
    """Draw PROXY headers of both versions. A client sends the header before everything else.

    Args:
        valid: Whether the header is valid. If false, it has a mistake, is empty, or is cut off.
    """
    if valid:
        return st.sampled_from(HEADERS)

    cut = st.tuples(st.sampled_from(HEADERS), st.integers(1, 200)).map(lambda drawn: drawn[0][: -drawn[1]])
    return st.sampled_from(WRONG_HEADERS[1:]) | cut


def sessions(
    *, valid: bool = True, offers: Collection[str] = OFFERS, lmtp: bool = False
) -> SearchStrategy[list[bytes]]:
    """Draw whole sessions of a client, from EHLO to QUIT, as groups of octets.

    After each group the client waits for the replies; each group gets at least one reply. Commands follow a body in the
    same group if PIPELINING is offered. Join the groups for a client that does not wait.

    Args:
        valid: Whether the session is valid, as in `steps`.
        offers: The extensions that the session may use, as in `steps`. STARTTLS has no effect.
        lmtp: Whether the session begins with LHLO.
    """
    drawn = steps(valid=valid, offers=set(offers) - {"STARTTLS"}, lmtp=lmtp)
    grouping = st.booleans() if "PIPELINING" in offers else st.just(False)
    return st.tuples(drawn, grouping).map(lambda pair: groups_of(pair[0], pipelined=pair[1], lmtp=lmtp))
