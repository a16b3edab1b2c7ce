"""Derive a server configuration from a recording."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, repeat, takewhile

from smtpcore import EXTENSIONS, Bodies, Config

from ._recording import Recording, Side

_MAX_TEXT_LINE = 1000  # RFC 5321 4.5.3.1.6
_MAX_SECONDS = 999_999_999
_MANY = 1_000_000
_MIN_SIZE = 65_536
"""The smallest `Config.max_message_size`."""
_MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")
_match_size = re.compile(r"[0-9]{1,18}").fullmatch
_match_scheme = re.compile(r"[a-z][a-z0-9.+:-]{0,60}").fullmatch
_match_mechanism = re.compile(r"[A-Z0-9_-]{1,20}").fullmatch


def config_of(recording: Recording) -> Config:
    """Return a configuration with the extensions and the SIZE of the recorded server, and without other limits."""
    offers = dict(_offers(recording))
    is_lmtp = next((verb for verb, _ in _accepted_hellos(recording)), b"") == b"LHLO"
    known = frozenset(extension.keyword for extension in EXTENSIONS)
    needed: set[str] = {"PIPELINING", "ENHANCEDSTATUSCODES"} if is_lmtp else set()
    needed |= {"8BITMIME"} if "SMTPUTF8" in offers else set()
    needed |= {"CHUNKING"} if "BINARYMIME" in offers else set()
    has_server = any(item.side is Side.SERVER for item in recording.items)
    size = offers.get("SIZE", "")
    return Config(
        hostname="s.invalid",
        bodies=Bodies.CHUNKS,
        starttls="STARTTLS" in offers or not has_server,
        lmtp=is_lmtp,
        auth_mechanisms=tuple(filter(_match_mechanism, offers.get("AUTH", "").split())) or _MECHANISMS,
        plaintext_auth=True,
        disabled=known - frozenset(offers) - needed if has_server else frozenset(),
        unknown_parameters=bool(frozenset(offers) - known),
        max_hold_for=_MAX_SECONDS,
        max_hold_until=datetime.max.replace(tzinfo=UTC),
        burl=tuple(filter(_match_scheme, offers.get("BURL", "imap").lower().split())),
        max_text_line=_MAX_TEXT_LINE,
        max_message_size=max(int(size), _MIN_SIZE) if _match_size(size) and int(size) else None,
        max_recipients=_MANY,
        max_errors=None,
        max_refusals=None,
        max_idle_commands=None,
        max_auth_failures=None,
    )


def _offers(recording: Recording) -> Iterator[tuple[str, str]]:
    """Yield the keyword and the arguments of each line of a reply to EHLO or LHLO, except its first line."""
    for verb, reply in _accepted_hellos(recording):
        for text in reply[1:] if verb != b"HELO" and reply[0].startswith("250") else ():
            keyword, _, arguments = text[4:].upper().replace("AUTH=", "AUTH ").partition(" ")
            yield keyword, arguments


def _accepted_hellos(recording: Recording) -> Iterator[tuple[bytes, list[str]]]:
    """Yield the verb of each EHLO, HELO or LHLO that was not refused, and the lines of the recorded reply."""
    # In a group, lines and replies are paired by position, up to a command that needs more lines or replies. A body may
    # contain lines like commands.
    before = ""
    for number, (lines, replies) in enumerate(_groups(recording)):
        has_greeting = number == 0 and replies and replies[0][0][:3] in _GREETINGS
        commands = takewhile(_needs_one_reply, lines) if before != "354" else ()
        for line, reply in zip(commands, chain(replies[bool(has_greeting) :], repeat([""])), strict=False):
            verb = line[:4].upper()
            if verb in _HELLOS and not reply[0].startswith(("4", "5")):
                yield verb, reply
        before = replies[-1][0][:3] if replies else ""


def _groups(recording: Recording) -> Iterator[tuple[list[bytes], list[list[str]]]]:
    """Yield groups: the lines of the client up to a reply, and the replies up to the next line of the client."""
    lines: list[bytes] = []
    replies: list[list[str]] = []
    is_complete = True
    for item in recording.items:
        if item.side is Side.SERVER:
            text = item.data.decode("ascii", "replace").rstrip("\r\n")
            replies += [[]] if is_complete else []
            replies[-1].append(text)
            is_complete = text[3:4] != "-"
        elif item.side is Side.CLIENT:
            if replies:
                yield lines, replies
                lines, replies, is_complete = [], [], True
            lines.append(item.data)

    yield lines, replies


def _needs_one_reply(line: bytes) -> bool:
    return line[:4].upper() not in _WITH_MORE


_HELLOS = frozenset({b"EHLO", b"HELO", b"LHLO"})
_WITH_MORE = frozenset({b"DATA", b"BDAT", b"AUTH"})
_GREETINGS = frozenset({"220", "421", "521", "554"})
