"""Derive a server configuration from a recording."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest

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
    is_lmtp = _accepted_hello(recording) == b"LHLO"
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
        max_idle_commands=None,
        max_auth_failures=None,
    )


def _offers(recording: Recording) -> Iterator[tuple[str, str]]:
    # Keywords are on each line of a multiline 250 except the first.
    is_first = True
    for item in recording.items:
        if item.side is not Side.SERVER:
            continue
        text = item.data.decode("ascii", "replace").rstrip("\r\n")
        if not is_first and text.startswith("250"):
            keyword, _, arguments = text[4:].upper().replace("AUTH=", "AUTH ").partition(" ")
            yield keyword, arguments

        is_first = text[3:4] != "-"


def _accepted_hello(recording: Recording) -> bytes:
    """Return the verb of the first EHLO, HELO or LHLO that the server accepted."""
    # Before that line, each line is a command with one reply, so lines and replies can be paired by position. The first
    # reply is the greeting. Later lines may belong to a body, and may begin with LHLO by chance.
    lines = [item.data for item in recording.items if item.side is Side.CLIENT]
    replies = [item.data for item in recording.items if item.side is Side.SERVER and item.data[3:4] != b"-"]
    for line, reply in zip_longest(lines, replies[1:], fillvalue=b""):
        verb = line[:4].upper()
        if verb in _HELLOS and not reply.startswith((b"4", b"5")):
            return verb

    return b""


_HELLOS = frozenset({b"EHLO", b"HELO", b"LHLO"})
