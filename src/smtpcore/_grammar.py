"""The productions of RFC 5321 4.1.2 and 4.1.3 as regular expressions of the same names."""

# The patterns match text, not octets: a line is decoded once, and RFC 6531 3.3 extends every production in the same
# way, by treating each character beyond ASCII as an ordinary letter. The character classes therefore list the ASCII
# characters that they exclude. Where only ASCII is permitted, the caller checks `text.isascii()` as well.
#
# Every pattern is deterministic: at each character at most one branch can match. Matching therefore takes time linear
# in the length of the text, and no crafted address can make it slow.

import re
from ipaddress import IPv4Address, IPv6Address

_CONTROLS = r"\x00-\x1f\x7f"

ATOM = rf"""[^{_CONTROLS} "(),.:;<>@\[\\\]]+"""
DOT_STRING = rf"{ATOM}(?:\.{ATOM})*"
QUOTED_STRING = rf"""\"(?:[^{_CONTROLS}"\\]|\\[ -~])*\""""
LOCAL_PART = rf"(?:{DOT_STRING}|{QUOTED_STRING})"

_LET_DIG = r"[^\x00-/:-@\[-`{-\x7f]"
SUB_DOMAIN = rf"{_LET_DIG}+(?:-+{_LET_DIG}+)*"
DOMAIN = rf"{SUB_DOMAIN}(?:\.{SUB_DOMAIN})*"
ADDRESS_LITERAL = r"\[[!-Z^-~]+\]"

MAILBOX = rf"{LOCAL_PART}@(?:{DOMAIN}|{ADDRESS_LITERAL})"
SOURCE_ROUTE = rf"(?:@{DOMAIN}(?:,@{DOMAIN})*:)"
POSTMASTER = "[Pp][Oo][Ss][Tt][Mm][Aa][Ss][Tt][Ee][Rr]"
PATH = rf"(?:{SOURCE_ROUTE}?{MAILBOX}|{POSTMASTER})?"

# The wide form, for addresses of real mail: dots anywhere in a local part; `_` and `-` anywhere in a domain; no domain.
WIDE_TEXT = rf"""[^{_CONTROLS} "(),:;<>@\[\\\]]+"""
WIDE_DOMAIN = rf"(?:{_LET_DIG}|[_-])+(?:\.(?:{_LET_DIG}|[_-])+)*"
WIDE_MAILBOX = rf"(?:{WIDE_TEXT}|{QUOTED_STRING})@(?:{WIDE_DOMAIN}|{ADDRESS_LITERAL})"
WIDE_PATH = rf"(?:{SOURCE_ROUTE}?{WIDE_MAILBOX}|{WIDE_TEXT})?"

KEYWORD = r"[A-Za-z0-9][A-Za-z0-9-]*"
PARAM_VALUE = rf"[^{_CONTROLS} =]+"

match_atom = re.compile(ATOM).fullmatch
match_domain = re.compile(DOMAIN).fullmatch
match_local_part = re.compile(LOCAL_PART).fullmatch
match_mailbox = re.compile(MAILBOX).fullmatch
match_path = re.compile(PATH).fullmatch
match_wide_mailbox = re.compile(WIDE_MAILBOX).fullmatch
match_wide_path = re.compile(WIDE_PATH).fullmatch
match_keyword = re.compile(KEYWORD).fullmatch
match_param_value = re.compile(PARAM_VALUE).fullmatch
match_number = re.compile(r"[0-9]{1,20}").fullmatch
match_mechanism = re.compile(r"[A-Z0-9_-]{1,20}").fullmatch  # RFC 4422 3.1
match_quoted_string = re.compile(QUOTED_STRING).fullmatch
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # the tab is left out, because it is white space
find_control = _CONTROL.search
substitute_controls = _CONTROL.sub
find_command_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]").search  # U+0080 to U+009F control terminals

_find_unsendable = re.compile(r"[\x80-\x9f\ud800-\udfff]").search
_QUOTED_PAIR = re.compile(r"\\(.)")
_match_ipv4 = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})").fullmatch


def parse_literal(text: str) -> IPv4Address | IPv6Address:
    """Return the IP address in an address literal with brackets (RFC 5321 4.1.3). Raises `ValueError`."""
    inside = text[1:-1]
    if inside[:5].upper() == "IPV6:":
        return _parse_ipv6(inside[5:])

    numbers = _match_ipv4(inside)
    if not numbers:
        # RFC 5321 4.1.3: other tags have to be registered with IANA, which has registered no other tag.
        raise ValueError(f"{text} is neither an IPv4 nor an IPv6 address literal")

    # RFC 5321 allows leading zeros in decimal numbers; `ipaddress` rejects them.
    return IPv4Address(".".join(str(int(number)) for number in numbers.groups()))


def _parse_ipv6(text: str) -> IPv6Address:
    groups = sum(1 for group in text.split(":") if group) + ("." in text)
    # RFC 5321 4.1.3: "::" replaces at least two groups, so at most six groups are written out.
    if "::" in text and groups > 6:
        raise ValueError(f"{text} has more than six groups besides the double colon")
    if "%" in text:
        raise ValueError(f"{text} has a zone, which is meaningless on another host: leave out the % and the zone")

    return IPv6Address(text)


def is_encodable(text: str) -> bool:
    """Return whether a server accepts the characters beyond ASCII: no surrogates, and no controls U+0080 to U+009F."""
    return text.isascii() or not _find_unsendable(text)


def is_domain(text: str) -> bool:
    """Return whether `text` is a domain or an address literal, as EHLO requires (RFC 5321 4.1.1.1)."""
    if not text.startswith("["):
        return match_domain(text) is not None

    try:
        parse_literal(text)
    except ValueError:
        return False

    return text.endswith("]")


def unquote(text: str) -> str:
    """Remove the quoting of a quoted string (RFC 5321 4.1.2). Return any other text unchanged."""
    if not text.startswith('"') or match_quoted_string(text) is None:
        return text

    return _QUOTED_PAIR.sub(r"\1", text[1:-1])
