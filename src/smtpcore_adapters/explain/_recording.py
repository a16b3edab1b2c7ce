"""Read recordings of dialogues in the formats of mail programs and of smtpcore, or as plain octets."""

# Each format is a set of patterns, which match lines of the client, lines of the server, and comments. A format is a
# candidate if it matches most lines from the first to the last line of a side. The candidate that matches most lines of
# the two sides is used. Octets without prefixes are read only if they begin like a dialogue, so that no breaches are
# reported for a text that is not a recording.
#
# A line of a transcript is assumed to have ended in CR LF; plain octets keep their line ends.

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

MAX_OCTETS = 33_554_432
"""Maximum octets of a recording."""
_MAX_LINES = 250_000
"""Maximum lines of a recording. Each line takes about 1,000 octets of memory while it is explained."""
_MAX_LITERAL = 16_777_216
"""Maximum octets of all bytes expressions in a recording, so that a short file cannot fill the memory."""
_EMPTY = "no line is from a client or server"


class Side(Enum):
    """The side that sent a line."""

    CLIENT = "client"
    """The client."""
    SERVER = "server"
    """The server."""
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
    """The octets of the line, including the line end."""


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
        """Return the side and the content of a line, or None for a line not in this format. A comment has no side."""
        if self.tls.fullmatch(line):
            return Side.TLS, ""
        if self.ignored.fullmatch(line):
            return None, ""
        for side, pattern in ((Side.CLIENT, self.client), (Side.SERVER, self.server)):
            if match := pattern.fullmatch(line):
                return side, match[1] or ""

        return None


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.DOTALL)


_TIME = r"(?:\d\d:\d\d:\d\d(?:\.\d+)? (?:\[\S{1,20}\] )?)?"
# A time, a level and a session id may precede a line, as in the logs of nodemailer and of syslog.
_BEFORE = r"(?:(?:(?!\b[CS]:).){0,200}?(?<![\w.]))??"
_BEFORE_NOTICE = r"(?:(?![CS]: )\S+ ){0,2}?"  # a line of a body may begin with `-- ` too
_BEFORE_PHPMAILER = r"(?:\S+[ \t]){0,3}?"
_match_session = re.compile(r"(?:(?![CS]: )\S+ )?([0-9a-f]{12}) (?:C:|S:|--)").match
_match_nodemailer = re.compile(r"\[[-\d: ]{19}\] \S+ +\[([^\]\s]{1,60})\] ").match


def _decode_literal(text: str) -> bytes:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise Unreadable("a line has a malformed bytes literal") from exc

    octets = value.encode() if isinstance(value, str) else bytes(value)
    return octets if octets.endswith(b"\n") else octets + b"\r\n"


_FORMATS = (
    # swaks and msmtp
    _Format(
        client=_pattern(r" ?(?:->|~>|\*\*>|\*~>|~\*>|-->) ?(.*)"),
        server=_pattern(r"(?:<-|<~|<\*\*|<~\*|<--) +(.*)"),
        tls=_pattern(r"=== TLS started.*|TLS session parameters:.*"),
        ignored=_pattern(r"(?:===|\*\*\*) .*|(?:<  |  >) [0-9]{4,}: .*|\s*"),
    ),
    # Our own transcripts, the notation of the RFCs, and the logs of nodemailer
    _Format(
        client=_pattern(rf"{_BEFORE}C:(?: (.*)|)"),
        server=_pattern(rf"{_BEFORE}S: ?(.*)"),
        tls=_pattern(rf"{_BEFORE_NOTICE}-- TLSv.*|# event: tls-handshake|\[(?:(?!\b[CS]:).)*Connection upgraded.*"),
        ignored=_pattern(rf"{_BEFORE_NOTICE}-- .*|#.*|B: [0-9]+|<<<PIPELINED|>>>|\s*"),
    ),
    # curl -v
    _Format(
        client=_pattern(rf"{_TIME}> ?(.*)"),
        server=_pattern(rf"{_TIME}<(?! {{2,3}}[0-9]{{4,}}: ) ?(.*)"),  # excludes the hex dumps of swaks
        tls=_pattern(rf"{_TIME}\* SSL connection using .*"),
        ignored=_pattern(rf"{_TIME}(?:\*.*|[{{}}] .*)|\s*"),
    ),
    # smtplib, with set_debuglevel
    _Format(
        client=_pattern(rf"{_TIME}send: (b?['\"].*['\"])"),
        server=_pattern(rf"{_TIME}reply: (b['\"].*['\"])"),
        tls=_pattern(r"(?!)"),
        ignored=_pattern(rf"{_TIME}(?:reply: retcode|data:|connect:).*|\s*"),
        decode=_decode_literal,
    ),
    # PHPMailer; the further lines of a reply are indented
    _Format(
        client=_pattern(rf"{_BEFORE_PHPMAILER}CLIENT -> SERVER: ?(.*)"),
        server=_pattern(rf"(?:{_BEFORE_PHPMAILER}SERVER -> CLIENT: ?|\s+(?=[2-5][0-5][0-9][- ]))(.*)"),
        tls=_pattern(r"(?!)"),
        ignored=_pattern(rf"(?!CLIENT -> |SERVER -> ){_BEFORE_PHPMAILER}(?:Connection|SMTP |Auth method).*|\s*"),
        decode=lambda text: text.replace("[credentials hidden]", "***").encode() + b"\r\n",
    ),
)

# curl --trace and --trace-ascii: a heading for each piece, then its octets as a dump.
_match_piece = re.compile(rf"{_TIME}(=>|<=) (Send|Recv) (header|data|SSL data), ([0-9]{{1,12}}) bytes \(.*\)").fullmatch
_match_info = re.compile(rf"{_TIME}== Info: (.*)").fullmatch
_match_hex = re.compile(r"[0-9a-f]{4,8}: ((?:[0-9a-f]{2} ){1,16}) *.{1,16}").fullmatch
_match_ascii = re.compile(r"([0-9a-f]{4,8}): ?(.*)", re.DOTALL).fullmatch

# Lines without a prefix: a line that begins with a reply code is the server's.
_match_reply = re.compile(rb"[2-5][0-5][0-9](?:[ -].*|)\r?\n?", re.DOTALL).fullmatch
_match_greeting = re.compile(rb"(?:220|421|521|554)(?:[ -].*|)\r?\n?", re.DOTALL).fullmatch
_match_hello = re.compile(rb"(?i)(?:EHLO|HELO|LHLO)[ \t]+[!-~]+[ \t]*\r?\n?").fullmatch
_match_verb = re.compile(
    rb"(?i)(?:(?:EHLO|HELO|LHLO)[ \t]|MAIL[ \t]+FROM:|RCPT[ \t]+TO:|BDAT[ \t]+[0-9]|AUTH[ \t]"
    rb"|(?:DATA|RSET|NOOP|QUIT|STARTTLS|VRFY|EXPN|HELP)[ \t]*\r?\n?$)"
).match
# The lines of telnet, openssl s_client, nc, and the mail API of Java around and within a dialogue.
_match_noise = re.compile(
    rb"(?:Trying .*|Connected to .*|Escape character is .*|Connection closed by foreign host\.?|telnet> .*"
    rb"|CONNECTED\(.*|(?:<<<|>>>) .*|SSL_connect:.*|SSL3 alert .*|read R BLOCK|---|DONE|closed|RENEGOTIATING"
    rb"|read:errno=.*|DEBUG(?: [A-Z]{1,20})?: .*)\s*"
).fullmatch
_match_trace = re.compile(rb"(?:javax|jakarta)\.mail\.[\w.$]{1,200}: ").match
"""Match the first line of an exception with its stack trace, as the mail API of Java prints within a dialogue."""
_BEGIN_TICKET = b"Post-Handshake New Session Ticket arrived:"
_END_TICKET = b"read R BLOCK"


def read(octets: bytes) -> tuple[Recording, ...]:
    """Return the recordings, one for each session, of a transcript or of the octets of one side.

    Raises:
        Unreadable: the input is too large, no line is from a client or server, or a bytes literal of the transcript is
            malformed.
    """
    _check_size(octets)
    texts = [text.removesuffix("\r") for text in octets.decode("utf-8", "replace").split("\n")]
    if any(map(_match_piece, texts)):
        return _recordings([_read_trace(texts)])

    counts = {form: _count_of_sides(texts, form) for form in _FORMATS}
    best = max(counts, key=lambda form: counts[form])
    lines = list(_without_noise(_split(octets)))
    if counts[best] > sum(bool(_match_reply(line) or _match_verb(line)) for line in lines):
        sessions: dict[str, list[Item]] = defaultdict(list)
        for session, item in _read_lines(texts, best):
            sessions[session].append(item)

        return _recordings(sessions.values())

    return _read_octets(lines)


def _check_size(octets: bytes) -> None:
    """Raise `Unreadable` if there are more octets or lines than can be explained in a reasonable time."""
    if len(octets) > MAX_OCTETS:
        raise Unreadable(f"it has more than {MAX_OCTETS} octets")
    if octets.count(b"\n") > _MAX_LINES:
        raise Unreadable(f"it has more than {_MAX_LINES} lines")


def _count_of_sides(texts: Iterable[str], form: _Format) -> int:
    """Return the number of lines of client and server in a text of this format; 0 for a text of another format."""
    # Some programs print many lines before and after the dialogue, so only the lines from the first to the last line of
    # the client or server are examined. Most of these lines must have this format.
    sides = [form.side_of(text) for text in texts if text.strip()]
    sided = [at for at, side in enumerate(sides) if side and side[0] in (Side.CLIENT, Side.SERVER)]
    dialogue = sides[sided[0] : sided[-1] + 1] if sided else []
    return len(sided) if sum(side is not None for side in dialogue) * 2 > len(dialogue) else 0


def _recordings(sessions: Iterable[Iterable[Item]]) -> tuple[Recording, ...]:
    # A session may end after its TLS handshake, without a line.
    parts = [part for items in sessions for part in _cut(items) if any(item.side is not Side.TLS for item in part)]
    found = tuple(Recording(tuple(part)) for part in parts)
    if not any(_is_smtp(item) for recording in found for item in recording.items):
        raise Unreadable(_EMPTY)

    return found


def _is_smtp(item: Item) -> bool:
    if item.side is Side.SERVER:
        return _match_reply(item.data) is not None

    return item.side is Side.CLIENT and _match_verb(item.data) is not None


def _read_octets(lines: list[bytes]) -> tuple[Recording, ...]:
    # Octets without prefixes: the dialogue begins with a greeting or EHLO, and contains a known command.
    first = next((at for at, line in enumerate(lines) if _match_greeting(line) or _match_hello(line)), None)
    if first is None:
        raise Unreadable(_EMPTY)

    lines = lines[first:]
    replies = [_match_reply(line) is not None for line in lines]
    if all(replies) or not any(replies):
        side = Side.SERVER if all(replies) else Side.CLIENT
        return (Recording(tuple(Item(side, line) for line in lines), is_ordered=False),)
    if not any(map(_match_verb, lines)):
        raise Unreadable(_EMPTY)

    return _recordings([_read_plain(lines)])


def _without_noise(lines: Iterable[bytes]) -> Iterator[bytes]:
    is_ticket = is_trace = False
    for line in lines:
        is_ticket = (is_ticket or line.startswith(_BEGIN_TICKET)) and not line.startswith(_END_TICKET)
        is_trace = bool(_match_trace(line)) or (is_trace and not (_match_verb(line) or _match_reply(line)))
        if not (is_ticket or is_trace or _match_noise(line)):
            yield line


def _read_trace(texts: Iterable[str]) -> Iterator[Item]:
    """Yield the lines of a trace of curl. Add the end of a message, which the trace lacks, before the reply."""
    kept = b""
    for side, is_body, data in _pieces_of_trace(texts):
        if is_body and side is Side.CLIENT:
            kept = (kept + data)[-len(_END) :]
        elif kept:
            if kept != _END:
                end = b".\r\n" if kept.endswith(b"\r\n") else _END
                yield from (Item(Side.CLIENT, line) for line in _split(end))
            kept = b""

        if side is Side.TLS:
            yield Item(side, b"")
        else:
            yield from (Item(side, line) for line in _split(data))


def _pieces_of_trace(texts: Iterable[str]) -> Iterator[tuple[Side, bool, bytes]]:
    side: Side | None = None
    is_body = False
    size = 0
    data = bytearray()
    for text in (*texts, "== Info: the end"):
        heading, info = _match_piece(text), _match_info(text)
        if (heading or info) and side:
            yield side, is_body, bytes(data + _line_end(data, size))
        if heading:
            side = Side.CLIENT if heading[1] == "=>" else Side.SERVER
            side = None if heading[3] == "SSL data" else side
            is_body, size, data = heading[3] == "data", int(heading[4]), bytearray()
        elif info:
            side = None
            if info[1].startswith("SSL connection using "):
                yield Side.TLS, False, b""
        elif match := _match_hex(text):
            data += bytes.fromhex(match[1])
        elif match := _match_ascii(text):
            data += _line_end(data, int(match[1], 16)) + match[2].encode()


def _line_end(data: bytearray, offset: int) -> bytes:
    # The dump of --trace-ascii leaves out line ends; the offset of the next line shows where they were.
    return b"\r\n" if len(data) + len(b"\r\n") == offset else b""


_END = b"\r\n.\r\n"


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
    """Return a recording of the octets that the client and the server sent.

    Raise `Unreadable` if both are empty or one is too large.
    """
    for octets in (client, server):
        _check_size(octets)

    from_client = [Item(Side.CLIENT, line) for line in _split(client)]
    from_server = [Item(Side.SERVER, line) for line in _split(server)]
    return Recording((*from_client, *from_server), is_ordered=False)


def _split(octets: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", octets)


def _read_lines(texts: Iterable[str], form: _Format) -> Iterator[tuple[str, Item]]:
    lines = iter(texts)
    left = _MAX_LITERAL
    for text in lines:
        if text.startswith("B: "):
            # The notation of this project's test dialogues: octets as a bytes expression on the next line.
            octets = _evaluate(next(lines, ""), left)
            left -= len(octets)
            yield from (("", Item(Side.CLIENT, line)) for line in _split(octets))
            continue

        side, content = form.side_of(text) or (None, "")
        match = _match_session(text) or _match_nodemailer(text)
        session = match[1] if match else ""
        if side is Side.TLS:
            yield session, Item(side, b"")
        elif side:
            yield from ((session, Item(side, line)) for line in _split(form.decode(content or "")))


def _read_plain(lines: Iterable[bytes]) -> Iterator[Item]:
    for line in lines:
        side = Side.CLIENT if _match_reply(line) is None else Side.SERVER
        yield Item(side, line.rstrip(b"\r\n") + b"\r\n")


def _evaluate(expression: str, most: int) -> bytes:
    """Return the value of an expression of literals with `+` and `*`.

    Raise `Unreadable` for any other text, and for more than `most` octets.
    """
    try:
        node = ast.parse(expression.strip(), mode="eval").body
        if _length(node) > most:
            raise Unreadable(f"its bytes expressions have more than {_MAX_LITERAL} octets")

        return _value(node)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        # The error does not quote the expression, which may be a secret.
        raise (
            exc
            if isinstance(exc, Unreadable)
            else Unreadable("a line is not an expression of bytes literals with + and *")
        ) from exc


def _length(node: ast.expr) -> int:
    match node:
        case ast.Constant(bytes() | str()):
            return len(_value(node))
        case ast.BinOp(left, ast.Add(), right):
            return _length(left) + _length(right)
        case ast.BinOp(left, ast.Mult(), ast.Constant(int(count))) if not isinstance(count, bool):
            return _length(left) * max(count, 0)

    raise ValueError("not an expression of bytes literals")


def _value(node: ast.expr) -> bytes:
    """Return the value of an expression that `_length` has accepted."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            return _value(left) + _value(right)
        case ast.BinOp(left, ast.Mult(), ast.Constant(int(count))):
            return _value(left) * count

    value = ast.literal_eval(node)
    return value.encode() if isinstance(value, str) else bytes(value)
