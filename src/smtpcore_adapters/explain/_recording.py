"""Read recordings of dialogues in the formats of swaks, curl, smtplib and smtpcore, or as plain octets."""

# Each format is a set of patterns. A text has the format whose patterns match most of its lines.
# A line of a transcript is assumed to have ended in CR LF; plain octets keep their line ends.

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

_MAX_LITERAL = 16_777_216
"""Maximum octets of a bytes expression in a recording, so that a short file cannot fill the memory."""
_EMPTY = "no line is from a client or server"


class Side(Enum):
    """The side that sent a line."""

    CLIENT = "client"
    SERVER = "server"
    TLS = "tls"
    """A TLS handshake."""


class Unreadable(ValueError):
    """The input is not a recording; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Item:
    """A recorded line, or a TLS handshake."""

    side: Side
    """The side that sent the line."""
    data: bytes
    """The octets, including the line end."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The recorded lines of one session. Raises `Unreadable` if no side has a line."""

    items: tuple[Item, ...]
    """The lines, in order."""
    is_ordered: bool = True
    """Whether the order across both sides is known; if not, all client lines come first."""

    def __post_init__(self) -> None:
        if all(item.side is Side.TLS for item in self.items):
            raise Unreadable(_EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    client: re.Pattern[str]
    server: re.Pattern[str]
    tls: re.Pattern[str]
    ignored: re.Pattern[str]
    decode: Callable[[str], bytes] = lambda text: text.encode() + b"\r\n"

    def side_of(self, line: str) -> tuple[Side | None, str] | None:
        """Return the side and the content of a line, or None for a line in another format. A comment has no side."""
        for side, pattern in ((Side.CLIENT, self.client), (Side.SERVER, self.server), (Side.TLS, self.tls)):
            if match := pattern.fullmatch(line):
                return side, match[1] if side is not Side.TLS else ""

        return (None, "") if self.ignored.fullmatch(line) else None


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.DOTALL)


# The time and the session id may precede a line.
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

# Lines without a prefix: a line that begins with a reply code is the server's.
_PLAIN = _Format(
    client=_pattern(r"(.*)"),
    server=_pattern(r"([2-5][0-5][0-9](?:[ -].*|))"),
    tls=_pattern(r"(?!)"),
    ignored=_pattern(r"(?!)"),
)
_match_reply = re.compile(rb"[2-5][0-5][0-9](?:[ -].*|)\r?\n?", re.DOTALL).fullmatch


def read(octets: bytes) -> tuple[Recording, ...]:
    """Return the recordings, one for each session, of a transcript or of the octets of one side.

    Raises:
        Unreadable: no line is from a client or server, or a bytes literal of the transcript is malformed.
    """
    if not octets.strip():
        raise Unreadable(_EMPTY)

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
    # A 220 after a 221 or 421 begins another session.
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
    """Return a recording of the octets that the client and the server sent. Raise `Unreadable` if both are empty."""
    from_client = [Item(Side.CLIENT, line) for line in _split(client)]
    from_server = [Item(Side.SERVER, line) for line in _split(server)]
    return Recording((*from_client, *from_server), is_ordered=False)


def _split(octets: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", octets)


def _read_lines(texts: Iterable[str], form: _Format) -> Iterator[tuple[str, Item]]:
    lines = iter(texts)
    for text in lines:
        if text.startswith("B: "):
            # The notation of this project's test dialogues: octets as a bytes expression on the next line.
            yield from (("", Item(Side.CLIENT, line)) for line in _split(_evaluate(next(lines, ""))))
            continue

        side, content = form.side_of(text) or (None, "")
        match = _match_session(text)
        session = match[1] if match else ""
        if side is Side.TLS:
            yield session, Item(side, b"")
        elif side:
            yield from ((session, Item(side, line)) for line in _split(form.decode(content or "")))


def _read_plain(lines: Iterable[bytes]) -> Iterator[Item]:
    for line in lines:
        side = Side.CLIENT if _match_reply(line) is None else Side.SERVER
        yield Item(side, line.rstrip(b"\r\n") + b"\r\n")


def _evaluate(expression: str) -> bytes:
    """Return the value of an expression of literals with `+` and `*`. Raise `Unreadable` for any other text."""
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as exc:
        raise Unreadable(f"{expression[:60]!r} is not an expression of bytes literals with + and *") from exc


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
