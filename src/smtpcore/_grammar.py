"""The productions of RFC 5321 4.1.2 and 4.1.3 as patterns, one name each."""

# The patterns work on text, not octets: a line is decoded once, and RFC 6531 3.3 extends each production by the same
# rule, "any character beyond ASCII is an ordinary letter". Whether such characters are permitted at a given point of
# the dialogue is not a matter of grammar; whoever permits them asks `text.isascii()`.
#
# The classes are therefore written as what they exclude from ASCII.
#
# Every pattern is deterministic: at each character at most one branch can go on. So matching is linear in the length
# of the text, and no crafted address can make it slow.

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

KEYWORD = r"[A-Za-z0-9][A-Za-z0-9-]*"
PARAM_VALUE = rf"[^{_CONTROLS} =]+"

match_atom = re.compile(ATOM).fullmatch
match_domain = re.compile(DOMAIN).fullmatch
match_mailbox = re.compile(MAILBOX).fullmatch
match_path = re.compile(PATH).fullmatch
match_keyword = re.compile(KEYWORD).fullmatch
match_param_value = re.compile(PARAM_VALUE).fullmatch
match_number = re.compile(r"[0-9]{1,20}").fullmatch
match_mechanism = re.compile(r"[A-Z0-9_-]{1,20}").fullmatch  # RFC 4422 3.1
match_quoted_string = re.compile(QUOTED_STRING).fullmatch
find_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search  # a tab is white space

_QUOTED_PAIR = re.compile(r"\\(.)")
_match_ipv4 = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})").fullmatch


def parse_literal(text: str) -> IPv4Address | IPv6Address:
    """Turn an address literal, brackets included, into the address (RFC 5321 4.1.3). Raises `ValueError`."""
    inside = text[1:-1]
    if inside[:5].upper() == "IPV6:":
        return _parse_ipv6(inside[5:])

    numbers = _match_ipv4(inside)
    if not numbers:
        # RFC 5321 4.1.3: any other tag must be registered, and none is.
        raise ValueError(f"{text} is neither an IPv4 nor an IPv6 address literal")

    # Snum may have leading zeros, which `ipaddress` refuses; they are decimal all the same.
    return IPv4Address(".".join(str(int(number)) for number in numbers.groups()))


def _parse_ipv6(text: str) -> IPv6Address:
    groups = sum(1 for group in text.split(":") if group) + ("." in text)
    # RFC 5321 4.1.3: "::" stands for at least two groups, so at most six are written out.
    if "::" in text and groups > 6:
        raise ValueError(f"{text} has more than six groups beside the double colon")
    if "%" in text:
        raise ValueError(f"{text} has a zone, which means nothing to another host")

    return IPv6Address(text)


def is_encodable(text: str) -> bool:
    """Whether `text` has a form in UTF-8: half of a surrogate pair has none."""
    if text.isascii():
        return True

    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    else:
        return True


def is_domain(text: str) -> bool:
    """Whether `text` is a domain or an address literal, as EHLO takes it (RFC 5321 4.1.1.1)."""
    if not text.startswith("["):
        return match_domain(text) is not None

    try:
        parse_literal(text)
    except ValueError:
        return False
    else:
        return text.endswith("]")


def unquote(text: str) -> str:
    """Resolve the quoting of a Quoted-string; any other text stays as it is (RFC 5321 4.1.2)."""
    if not text.startswith('"') or match_quoted_string(text) is None:
        return text

    return _QUOTED_PAIR.sub(r"\1", text[1:-1])
