"""Text inside the value of a parameter (RFC 3461 section 4, RFC 6533 section 3)."""

# A value has neither spaces nor "=", so what may contain them is escaped: in xtext as "+" and two hexadecimal digits
# for an octet, in unitext as "\x{...}" for a character.

import re

_HEX = "[0-9A-Fa-f]"
# No surrogates, and no ASCII but what may not stand for itself. Control characters are left out: RFC 3461 4.2 wants
# what is escaped to be printable, and a CR LF would find its way into the fields of a notification.
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
    """`text` as xtext, its non-ASCII characters as the octets of their UTF-8."""
    return _NOT_XCHAR.sub(lambda found: b"+%02X" % ord(found[0]), text.encode(errors="surrogatepass")).decode()


def decode_xtext(text: str) -> str:
    """What xtext stands for. Raises `ValueError`."""
    if _match_xtext(text) is None:
        raise ValueError(f"{text!r} is not xtext: + and two upper case hexadecimal digits stand for an octet")

    return _HEXCHAR.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode()).decode()


def encode_unitext(text: str) -> str:
    """`text` in the ASCII form of unitext."""
    return _NOT_QCHAR.sub(lambda found: rf"\x{{{ord(found[0]):02X}}}", text)


def decode_unitext(text: str) -> str:
    """What unitext, in ASCII or not, stands for. Raises `ValueError`."""
    if _match_unitext(text) is None:
        raise ValueError(rf"{text!r} is not unitext: \x{{...}} stands for a character")

    return _EMBEDDED.sub(lambda found: chr(int(found[1], 16)), text)
