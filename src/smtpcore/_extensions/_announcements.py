"""What the keywords in the reply to EHLO say."""

# Each of these takes what stands behind a keyword, which is empty where nothing does. It raises `ValueError` where a
# client does better to go without the extension than to use what it cannot understand; where the extension is of use
# without its arguments, what is malformed counts as absent.

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from .._grammar import match_mechanism
from ..parameters import parse_date_time

_match_size = re.compile(r"[0-9]{1,20}").fullmatch  # RFC 1870 section 3 (3)
_match_seconds = re.compile(r"[0-9]{1,9}").fullmatch  # RFC 2852 section 2 (3), RFC 4865 section 3 (2)
_match_limit = re.compile(r"[1-9][0-9]{0,5}").fullmatch  # RFC 9422: six digits
_match_policy = re.compile(r"[A-Za-z0-9._-]{1,20}").fullmatch  # RFC 6710 section 7


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """The limits that LIMITS announces (RFC 9422); None where there is none."""

    mail_max: int | None = None
    """Messages in one session."""
    rcpt_max: int | None = None
    """Recipients of one message."""
    rcpt_domain_max: int | None = None
    """Different domains of recipients in one session."""


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """What FUTURERELEASE announces (RFC 4865 section 3)."""

    seconds: int
    """The most that HOLDFOR may ask for."""
    until: datetime
    """The latest time that HOLDUNTIL may ask for, in UTC."""


def parse_nothing(text: str) -> bool:
    """A keyword that says all by being there. RFC 5321 4.1.1.1: what follows nonetheless is ignored."""
    return True


def parse_text(text: str) -> str | bool:
    """Text of which nothing is known; True where there is none."""
    return text or True


def parse_size_limit(text: str) -> int | None:
    """SIZE: the most octets of a message (RFC 1870 section 3).

    None if there is no fixed limit, which 0 stands for too. So it is with what is no number: sizes can be declared.
    """
    return (int(text) or None) if _match_size(text) else None


def parse_mechanisms(text: str) -> tuple[str, ...]:
    """AUTH: the SASL mechanisms, in upper case (RFC 4954 section 3). Without a single valid one there is no AUTH."""
    mechanisms = tuple(dict.fromkeys(word for word in text.upper().split() if match_mechanism(word)))
    if not mechanisms:
        raise ValueError("AUTH names no mechanism")

    return mechanisms


def parse_min_by_time(text: str) -> int | None:
    """DELIVERBY: the least number of seconds in BY, None if any will do (RFC 2852 section 2).

    One that cannot be read counts for no DELIVERBY at all: MAIL would be refused by a rule that no one knows.
    """
    if text and _match_seconds(text) is None:
        raise ValueError("DELIVERBY has a malformed minimum")

    return int(text) if text else None


def parse_hold_limits(text: str) -> HoldLimits:
    """FUTURERELEASE: both limits, without which nothing can be held (RFC 4865 section 3 (2))."""
    seconds, _, until = text.partition(" ")
    if _match_seconds(seconds) is None:
        raise ValueError("FUTURERELEASE has a malformed interval")

    time = parse_date_time(until)
    if time.utcoffset() != timedelta(0):
        raise ValueError("FUTURERELEASE has a time that is not in UTC")

    return HoldLimits(int(seconds), time)


def parse_policy(text: str) -> str | None:
    """MT-PRIORITY: the name of the policy, None if it has none that could be one (RFC 6710 4.1 (3))."""
    return text if _match_policy(text) else None


def parse_words(text: str) -> tuple[str, ...]:
    """BURL, XCLIENT and XFORWARD: words in upper or lower case, as they came."""
    return tuple(text.split())


def parse_classes(text: str) -> tuple[str, ...]:
    """NO-SOLICITING: the classes of messages that no one there wants (RFC 3865 2.2)."""
    return tuple(word for word in text.split(",") if word)


def parse_limits(text: str) -> SessionLimits:
    """LIMITS: RFC 9422 has names that are not known ignored; values that are no numbers are too."""
    limits = dict(word.upper().partition("=")[::2] for word in text.split())
    known = {name: int(value) for name, value in limits.items() if _match_limit(value)}
    return SessionLimits(
        mail_max=known.get("MAILMAX"),
        rcpt_max=known.get("RCPTMAX"),
        rcpt_domain_max=known.get("RCPTDOMAINMAX"),
    )
