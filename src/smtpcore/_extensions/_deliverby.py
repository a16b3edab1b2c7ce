"""DELIVERBY: a deadline for the delivery of a message (RFC 2852)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .._config import MAX_SECONDS
from .._errors import LocalProtocolError
from .._fields import check_fields
from .._replies import Reply
from ._definition import Extension, Parameter, relay_or_refuse
from ._parsing import number

_match_by = re.compile(r"([+-]?[0-9]{1,9});([NRnr])([Tt]?)").fullmatch  # RFC 2852 section 4
_parse_seconds = number("[0-9]{1,9}", "a number of up to 9 digits")  # RFC 2852 section 2 (3)


class ByMode(Enum):
    """The treatment of a message that cannot be delivered in time (RFC 2852 section 4)."""

    NOTIFY = "N"
    """Notify the sender, and continue to try."""
    RETURN = "R"
    """Return the message to the sender, and give up."""


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """The BY parameter of MAIL (RFC 2852 section 4).

    Raises `LocalProtocolError` for more than nine digits, and for `ByMode.RETURN` with a time that is not positive.
    """

    seconds: int
    """The seconds that are left for the delivery; negative if the time is over."""
    mode: ByMode
    """The treatment of the message after that time."""
    trace: bool = False
    """Whether each relay shall notify the sender."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if abs(self.seconds) > MAX_SECONDS:
            raise LocalProtocolError(f"{self.seconds} seconds have more than nine digits")
        if self.mode is ByMode.RETURN and self.seconds <= 0:
            raise LocalProtocolError("with mode R the time has to be positive")

    def __str__(self) -> str:
        return f"{self.seconds};{self.mode.value}{'T' if self.trace else ''}"


def _parse_by(text: str) -> DeliverBy:
    found = _match_by(text)
    if found is None:
        raise ValueError("the value is a number of seconds, a semicolon, N or R, and optionally T")

    return DeliverBy(int(found[1]), ByMode(found[2].upper()), trace=bool(found[3]))


def _object(minimum: int | None, params: Mapping[str, object]) -> Reply | None:
    by = BY.of(params)
    if by is None or by.mode is not ByMode.RETURN or minimum is None or by.seconds >= minimum:
        return None

    return Reply(555, f"BY needs at least {minimum} seconds", enhanced="5.5.4")  # RFC 2852 sections 3 and 4


# RFC 2852 4.1.4.1 and 4.1.4.2: without BY a relay has to send a "relayed" notification, so MAIL is refused instead.
_REFUSAL = Reply(554, "The next server does not support DELIVERBY", enhanced="5.3.3")
BY = Parameter(
    "BY",
    DeliverBy,
    _parse_by,
    octets=17,
    relay=relay_or_refuse("DELIVERBY", _REFUSAL),
    examples=(DeliverBy(120, ByMode.RETURN), DeliverBy(-30, ByMode.NOTIFY), DeliverBy(0, ByMode.NOTIFY, trace=True)),
)

EXTENSION: Extension = Extension(
    keyword="DELIVERBY",
    arguments=lambda config: "" if config.min_by_time is None else str(config.min_by_time),
    # RFC 2852 section 2. With a malformed minimum, DELIVERBY counts as not offered: the minimum is unknown.
    parse_arguments=lambda text: _parse_seconds(text) if text else None,
    mail=(BY,),
    objection=_object,
)
