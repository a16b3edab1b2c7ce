"""Patterns for single recorded lines, and functions that classify a line."""

import re

from .._printable import printable
from ..transcript import mask_auth
from ._recording import Item, Side

TLS_RECORD = b"\x16\x03"  # RFC 8446 5.1: a handshake
MAX_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5

MASK = re.compile(rb"(?<![^ ])\*\*\*(?=\r\n)")
"""The placeholder for a secret in a transcript."""
CHUNK_SIZE = re.compile(rb"(?i)(BDAT )([0-9]{1,20})(?![^ \r\n])")

match_unsized_chunk = re.compile(rb"(?i)BDAT(?=[ \r\n])(?! [0-9]{1,20}[ \r\n])[^\n]*\n").fullmatch
"""Match a BDAT line without a valid number of octets."""
match_auth = re.compile(rb"(?i)\s*AUTH").match
match_token_auth = re.compile(rb"(?i)AUTH +(?:OAUTHBEARER|XOAUTH2|[\w-]{1,20}-PLUS)(?= |\r|\n|$)").match
match_verb = re.compile(
    rb"(?i)(?:EHLO|HELO|LHLO|MAIL|RCPT|DATA|BDAT|RSET|NOOP|QUIT|VRFY|EXPN|HELP|STARTTLS|AUTH)(?![A-Za-z0-9+/=])"
).match
match_reply_line = re.compile(rb"([2-5][0-5][0-9])([ -]?)(.*)", re.DOTALL).fullmatch
match_enhanced = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)").match
_match_bare_command = re.compile(rb"(?i)(?:BDAT [0-9]+(?: LAST)?|RSET|NOOP|QUIT)\r\n").fullmatch


def verb_of(data: bytes) -> str:
    """Return the known verb at the start of a line in upper case, or an empty string."""
    match = match_verb(data)
    return match[0].upper().decode() if match else ""


def is_chunk(data: bytes) -> bool:
    """Return whether a line is a BDAT command for at least one octet."""
    match = CHUNK_SIZE.match(data)
    return match is not None and int(match[2]) > 0


def lacks_chunk(item: Item, following: Item | None) -> bool:
    """Return whether `item` is a BDAT command whose octets are missing from the recording.

    Transcripts often leave out bodies. In such a transcript, a reply or the next command of the group follows BDAT.
    """
    if item.side is not Side.CLIENT or not is_chunk(item.data):
        return False
    if following is None or following.side is not Side.CLIENT:
        return True

    size = CHUNK_SIZE.match(item.data)
    assert size is not None, "a chunk has a size"
    return _match_bare_command(following.data) is not None and len(following.data) != int(size[2])


def shown(data: bytes) -> str:
    """Return a line as printable text, without its line end."""
    return printable(_text_of(data))


def masked(data: bytes) -> str:
    """Return a command as printable text, without its line end. In AUTH, everything after the mechanism is masked."""
    return printable(mask_auth(_text_of(data)))


def masked_reply(data: bytes) -> str:
    """Return a line of a reply as printable text. A challenge, or an AUTH command that the line quotes, is masked."""
    if data.startswith(b"334") and data[3:].strip():
        return "334 ***"

    text = _text_of(data)
    return printable(_REPEATED.sub(r"\g<1>***", text) if text.startswith(("4", "5")) else text)


_REPEATED = re.compile(r"(?<![A-Za-z0-9])([Aa][Uu][Tt][Hh]\s+[\w-]{1,20}\s+)(?![a-z]+(?:[ ,.;:]|$))[A-Za-z0-9+/=]{4,}")


def _text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
