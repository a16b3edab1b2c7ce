"""Turn the text of a parameter into its value."""

# Each of them takes what stands behind the "=", or None where there is none, and raises `ValueError`, or the
# `LocalProtocolError` of the value itself, for what is malformed.

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar

from .._addresses import Mailbox
from ._values import (
    BodyType,
    ByMode,
    DeliverBy,
    EnvelopeId,
    NoSupport,
    Notify,
    OriginalRecipient,
    Ret,
    Submitter,
    ValidSince,
    parse_date_time,
)
from ._xtext import decode_xtext

MAX_SOLICIT = 1000  # RFC 3865 2.2

_E = TypeVar("_E", bound=Enum)

_WORD = r"[A-Za-z][A-Za-z0-9._:-]*"

_match_size = re.compile(r"[0-9]{1,20}").fullmatch  # RFC 1870 section 3 (6)
_match_by = re.compile(r"([+-]?[0-9]{1,9});([NRnr])([Tt]?)").fullmatch  # RFC 2852 section 4
_match_interval = re.compile(r"[1-9][0-9]{0,8}").fullmatch  # RFC 4865 section 3
_match_priority = re.compile(r"-?[1-9]|0").fullmatch  # RFC 6710 section 7
_match_solicit = re.compile(rf"{_WORD}(?:,{_WORD})*").fullmatch  # RFC 3865 2.2


def parse_flag(text: str | None) -> bool:
    """A parameter that says all by being there."""
    if text is not None:
        raise ValueError("this parameter takes no value")

    return True


def parse_size(text: str | None) -> int:
    """SIZE (RFC 1870)."""
    if not _match_size(text or ""):
        raise ValueError("the value has 1 to 20 digits")

    return int(text or "")


def parse_body(text: str | None) -> BodyType:
    """BODY (RFC 6152)."""
    return _one_of((BodyType.SEVEN_BIT, BodyType.EIGHT_BIT_MIME), text)


def parse_binary_body(text: str | None) -> BodyType:
    """BODY where binary messages are taken too (RFC 3030 section 3)."""
    return _one_of(BodyType, text)


def parse_ret(text: str | None) -> Ret:
    """RET (RFC 3461 4.3)."""
    return _one_of(Ret, text)


def parse_envid(text: str | None) -> EnvelopeId:
    """ENVID (RFC 3461 4.4)."""
    return EnvelopeId(text or "")


def parse_notify(text: str | None) -> frozenset[Notify]:
    """NOTIFY (RFC 3461 4.1)."""
    wanted = frozenset(_one_of(Notify, item) for item in (text or "").split(","))
    if Notify.NEVER in wanted and len(wanted) > 1:
        raise ValueError("the value NEVER stands alone")

    return wanted


def parse_orcpt(text: str | None) -> OriginalRecipient:
    """ORCPT (RFC 3461 4.2)."""
    return OriginalRecipient(text or "")


def parse_by(text: str | None) -> DeliverBy:
    """BY (RFC 2852 section 4)."""
    found = _match_by(text or "")
    if found is None:
        raise ValueError("the value is a number of seconds, a semicolon, N or R, and perhaps T")

    return DeliverBy(int(found[1]), ByMode(found[2].upper()), trace=bool(found[3]))


def parse_holdfor(text: str | None) -> int:
    """HOLDFOR (RFC 4865 section 3)."""
    if _match_interval(text or "") is None:
        raise ValueError("the value is a number of seconds from 1 to 999999999")

    return int(text or "")


def parse_holduntil(text: str | None) -> datetime:
    """HOLDUNTIL (RFC 4865 section 3)."""
    time = parse_date_time(text or "")
    if time.utcoffset() != timedelta(0):
        raise ValueError("the value is a time in UTC")

    return time


def parse_mt_priority(text: str | None) -> int:
    """MT-PRIORITY (RFC 6710 section 7)."""
    if _match_priority(text or "") is None:
        raise ValueError("the value is a number from -9 to 9")

    return int(text or "")


def parse_rrvs(text: str | None) -> ValidSince:
    """RRVS (RFC 7293 3.1)."""
    time, semicolon, action = (text or "").partition(";")
    return ValidSince(parse_date_time(time), _one_of(NoSupport, action) if semicolon else NoSupport.REJECT)


def parse_solicit(text: str | None) -> tuple[str, ...]:
    """SOLICIT (RFC 3865 2.3)."""
    if text is None or len(text) > MAX_SOLICIT or _match_solicit(text) is None:
        raise ValueError(f"the value is a list of classes in at most {MAX_SOLICIT} characters")

    return tuple(text.split(","))


def parse_auth(text: str | None) -> Submitter:
    """AUTH (RFC 4954 section 5)."""
    mailbox = decode_xtext(text or "")
    return Submitter(None if mailbox == "<>" else Mailbox(mailbox))


def _one_of(members: Iterable[_E], text: str | None) -> _E:
    # As octets, because there are letters beyond ASCII whose capital is an I.
    wanted = (text or "").encode("ascii", "replace").upper().decode()
    values = {member.value: member for member in members}
    if wanted not in values:
        raise ValueError(f"the value is one of {', '.join(values)}")

    return values[wanted]
