"""The encodings of arbitrary text in a parameter value: xtext (RFC 3461 section 4) and unitext (RFC 6533 section 3)."""

# A value may contain neither spaces nor "=", so both encodings escape characters: xtext writes an octet as "+" and two
# hexadecimal digits, unitext writes a character as "\x{...}".

import re

from ._grammar import find_command_control

_HEX = "[0-9A-Fa-f]"
# Excludes surrogates, ASCII characters that need no escape, and control characters: RFC 3461 4.2 requires escaped
# characters to be printable, and an escaped CR LF would end up in the header fields of a notification.
_HEXPOINT = (
    rf"20|2[Bb]|3[Dd]|5[Cc]|[89A-Fa-f]{_HEX}|10{_HEX}{{4}}"
    rf"|(?![Dd][89A-Fa-f]{_HEX}{{2}}\}})[1-9A-Fa-f]{_HEX}{{2,4}}"
)

_match_xtext = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*").fullmatch
_match_unitext = re.compile(rf"(?:[!-*,-<>-\[\]-~]|[^\x00-\x7f\ud800-\udfff]|\\x\{{(?:{_HEXPOINT})\}})+").fullmatch

_HEXCHAR = re.compile(rb"\+(..)")
_NOT_XCHAR = re.compile(rb"[^!-*,-<>-~]")
_EMBEDDED = re.compile(r"\\x\{([^}]*)\}")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")


def encode_xtext(text: str) -> str:
    """Return `text` as xtext. Characters beyond ASCII become the octets of their UTF-8 encoding."""
    return _NOT_XCHAR.sub(lambda found: b"+%02X" % ord(found[0]), text.encode(errors="surrogatepass")).decode()


def decode_xtext(text: str) -> str:
    """Return the text that xtext encodes. Raises `ValueError`."""
    if _match_xtext(text) is None:
        raise ValueError(f"{text!r} is not xtext: write a space, + and = as + with two upper-case hexadecimal digits")

    return _HEXCHAR.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode()).decode()


def decode_carried(text: str) -> str:
    """Return the text that xtext encodes. Encoded octets that are not UTF-8 become U+FFFD.

    Raises `ValueError` if `text` is not xtext, or encodes control characters, which would break a header field.
    """
    digits = _HEXCHAR.sub(lambda found: found[0].upper(), text.encode())
    if _match_xtext(digits.decode()) is None:
        raise ValueError(f"{text!r} is not xtext")

    decoded = _HEXCHAR.sub(lambda found: bytes.fromhex(found[1].decode()), digits).decode(errors="replace")
    if find_command_control(decoded):
        raise ValueError(f"{text!r} encodes control characters")

    return decoded


def encode_unitext(text: str) -> str:
    """Return `text` in the ASCII form of unitext."""
    return _NOT_QCHAR.sub(lambda found: rf"\x{{{ord(found[0]):02X}}}", text)


def decode_unitext(text: str) -> str:
    """Return the text that unitext encodes, in its ASCII form or not. Raises `ValueError`."""
    if _match_unitext(text) is None:
        raise ValueError(rf"{text!r} is not unitext: write a space, +, = and \ as \x{{...}} with the code point in hex")

    return _EMBEDDED.sub(lambda found: chr(int(found[1], 16)), text)
