"""RRVS: require that a mailbox has had the same owner since a given time (RFC 7293)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum

from .._errors import LocalProtocolError
from .._fields import check_fields
from .._replies import Reply
from ._definition import Extension, NextHop, Parameter
from ._parsing import format_date_time, one_of, parse_date_time, parse_nothing


class NoSupport(Enum):
    """The action of a relay whose next server does not support RRVS (RFC 7293 3.1)."""

    REJECT = "R"
    """Refuse to relay the message."""
    CONTINUE = "C"
    """Relay the message without the check."""


@dataclass(frozen=True, slots=True)
class ValidSince:
    """The RRVS parameter of RCPT (RFC 7293 3.1).

    Raises `LocalProtocolError` for a time without UTC offset, or with a fraction of a second.
    """

    time: datetime
    """The time since which the mailbox must have had the same owner, in whole seconds."""
    no_support: NoSupport = NoSupport.REJECT
    """The action of a relay whose next server does not support RRVS."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        format_date_time(self.time)
        if self.time.microsecond:
            raise LocalProtocolError(f"{self.time} has a fraction of a second")

    def __str__(self) -> str:
        return f"{format_date_time(self.time)}{';C' if self.no_support is NoSupport.CONTINUE else ''}"


def _parse_rrvs(text: str) -> ValidSince:
    time, semicolon, action = text.partition(";")
    return ValidSince(parse_date_time(time), one_of(NoSupport)(action) if semicolon else NoSupport.REJECT)


def _relay(since: ValidSince, hop: NextHop) -> ValidSince | Reply | None:
    if "RRVS" in hop.offers:
        return since
    if since.no_support is NoSupport.CONTINUE:
        return None

    return Reply(550, "The next server does not support RRVS", enhanced="5.7.19")  # RFC 7293 5.1.1


_EXAMPLES = (
    ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=UTC)),
    ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=timezone(timedelta(hours=-7))), NoSupport.CONTINUE),
)
RRVS = Parameter("RRVS", ValidSince, _parse_rrvs, octets=33, relay=_relay, examples=_EXAMPLES)  # RFC 7293 3.1

EXTENSION: Extension = Extension(keyword="RRVS", parse_arguments=parse_nothing, rcpt=(RRVS,))
