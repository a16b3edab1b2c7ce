"""Read recordings of dialogues, whoever has written them."""

# Each format is a row of patterns. Which one a text is in is guessed: the one in which most of its lines make sense.
# A transcript has lines, so that each of its lines stands for one that ended in CR LF; octets keep their own ends.

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

_MAX_LITERAL = 16_777_216
"""Octets that an expression in a recording may stand for, or a short file could fill the memory."""


class Side(Enum):
    """Who says something."""

    CLIENT = "client"
    SERVER = "server"
    TLS = "tls"
    """A TLS handshake."""


class Unreadable(ValueError):
    """This is no recording; the text says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """A line of one side, or a TLS handshake."""

    side: Side
    """Who says it."""
    data: bytes
    """The octets, line end included."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What was said, in order. Raises `Unreadable` if that is nothing."""

    items: tuple[Item, ...]
    """The lines."""
    is_ordered: bool = True
    """Whether it is known what was said before what, across the two sides."""

    def __post_init__(self) -> None:
        if all(item.side is Side.TLS for item in self.items):
            raise Unreadable("no one says anything in it")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    client: re.Pattern[str]
    server: re.Pattern[str]
    tls: re.Pattern[str]
    ignored: re.Pattern[str]
    decode: Callable[[str], bytes] = lambda text: text.encode() + b"\r\n"

    def side_of(self, line: str) -> tuple[Side | None, str] | None:
        """Whose line this is and what it says; no side for what is beside the dialogue; None for what is none."""
        for side, pattern in ((Side.CLIENT, self.client), (Side.SERVER, self.server), (Side.TLS, self.tls)):
            if match := pattern.fullmatch(line):
                return side, match[1] if side is not Side.TLS else ""

        return (None, "") if self.ignored.fullmatch(line) else None


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.DOTALL)


# In front of a line there may be the time and the id of its session.
_BEFORE = r"(?:\S+ ){0,2}?"
_match_session = re.compile(r"(?:\S+ )?([0-9a-f]{12}) (?:C:|S:|--)").match


def _decode_literal(text: str) -> bytes:
    value = _evaluate(text)
    return value if value.endswith(b"\n") else value + b"\r\n"


_FORMATS = (
    # swaks
    _Format(
        client=_pattern(r"(?: ->|->| ~>|~>|\*\*>|~\*>) ?(.*)"),
        server=_pattern(r"(?:<-|<~|<\*\*|<~\*) +(.*)"),
        tls=_pattern(r"=== TLS started.*"),
        ignored=_pattern(r"(?:===|\*\*\*).*|\s*"),
    ),
    # Our own transcripts, and the notation of the RFCs
    _Format(
        client=_pattern(rf"{_BEFORE}C:(?: (.*)|)"),
        server=_pattern(rf"{_BEFORE}S: ?(.*)"),
        tls=_pattern(rf"{_BEFORE}-- TLSv.*|# event: tls-handshake"),
        ignored=_pattern(rf"{_BEFORE}-- .*|#.*|B: [0-9]+|<<<PIPELINED|>>>|\s*"),
    ),
    # curl -v
    _Format(
        client=_pattern(r"> ?(.*)"),
        server=_pattern(r"< ?(.*)"),
        tls=_pattern(r"\* SSL connection using .*"),
        ignored=_pattern(r"[*{}].*|\s*"),
    ),
    # smtplib, with set_debuglevel
    _Format(
        client=_pattern(r"send: (b?['\"].*['\"])"),
        server=_pattern(r"reply: (b['\"].*['\"])"),
        tls=_pattern(r"(?!)"),
        ignored=_pattern(r"(?:reply: retcode|data:|connect:).*|\s*"),
        decode=_decode_literal,
    ),
)

# Lines as they are, whoever says them: replies begin with a code.
_PLAIN = _Format(
    client=_pattern(r"(.*)"),
    server=_pattern(r"([2-5][0-5][0-9](?:[ -].*|))"),
    tls=_pattern(r"(?!)"),
    ignored=_pattern(r"(?!)"),
)
_match_reply = re.compile(rb"[2-5][0-5][0-9](?:[ -].*|)\r?\n?", re.DOTALL).fullmatch


def read(octets: bytes) -> tuple[Recording, ...]:
    """Make recordings, one for each session, of a transcript, or of the octets of one side. Raises `Unreadable`."""
    if not octets.strip():
        raise Unreadable("no one says anything in it")

    texts = [text.removesuffix("\r") for text in octets.decode("utf-8", "replace").split("\n")]
    guesses = {form: sum(form.side_of(text) is not None for text in texts if text.strip()) for form in _FORMATS}
    best = max(guesses, key=lambda form: guesses[form])
    if guesses[best] * 2 > sum(1 for text in texts if text.strip()):
        sessions: dict[str, list[Item]] = defaultdict(list)
        for session, item in _read_lines(texts, best):
            sessions[session].append(item)

        parts = [part for items in sessions.values() for part in _cut(items)] or [[]]
        return tuple(Recording(tuple(part)) for part in parts)

    lines = _split(octets)
    replies = [_match_reply(line) is not None for line in lines]
    if all(replies) or not any(replies):
        side = Side.SERVER if all(replies) else Side.CLIENT
        return (Recording(tuple(Item(side, line) for line in lines), is_ordered=False),)

    return tuple(Recording(tuple(part)) for part in _cut(_read_plain(lines)))


def _cut(items: Iterable[Item]) -> Iterator[list[Item]]:
    # A greeting behind a goodbye begins another session.
    part: list[Item] = []
    last = b""
    for item in items:
        is_reply = item.side is Side.SERVER
        if is_reply and item.data.startswith(b"220") and last in _GOODBYES:
            yield part
            part = []
        if is_reply:
            last = item.data[:3]

        part.append(item)

    yield part


_GOODBYES = (b"221", b"421")


def join(client: bytes, server: bytes) -> Recording:
    """Make a recording of what the client and what the server has sent. Raises `Unreadable`."""
    heard = [Item(Side.CLIENT, line) for line in _split(client)]
    said = [Item(Side.SERVER, line) for line in _split(server)]
    return Recording((*heard, *said), is_ordered=False)


def _split(octets: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", octets)


def _read_lines(texts: Iterable[str], form: _Format) -> Iterator[tuple[str, Item]]:
    lines = iter(texts)
    for text in lines:
        if text.startswith("B: "):
            # The notation of this project's dialogues: octets, as an expression on the next line.
            yield from (("", Item(Side.CLIENT, line)) for line in _split(_evaluate(next(lines, ""))))
            continue

        side, said = form.side_of(text) or (None, "")
        match = _match_session(text)
        session = match[1] if match else ""
        if side is Side.TLS:
            yield session, Item(side, b"")
        elif side:
            yield from ((session, Item(side, line)) for line in _split(form.decode(said or "")))


def _read_plain(lines: Iterable[bytes]) -> Iterator[Item]:
    for line in lines:
        side = Side.CLIENT if _match_reply(line) is None else Side.SERVER
        yield Item(side, line.rstrip(b"\r\n") + b"\r\n")


def _evaluate(expression: str) -> bytes:
    """The value of literals with `+` and `*`. Raises `Unreadable`."""
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as exc:
        raise Unreadable(f"{expression[:60]!r} stands for no octets") from exc


def _value(node: ast.expr) -> bytes:
    match node:
        case ast.Constant(bytes(octets)):
            return octets
        case ast.Constant(str(text)):
            return text.encode()
        case ast.BinOp(left, ast.Add(), right):
            return _value(left) + _value(right)
        case ast.BinOp(left, ast.Mult(), ast.Constant(int(count))) if not isinstance(count, bool):
            octets = _value(left)
            if len(octets) * count <= _MAX_LITERAL:
                return octets * count

    raise ValueError(ast.dump(node)[:60])
