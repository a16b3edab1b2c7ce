"""FUTURERELEASE: hold a message back until a later time (RFC 4865)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .._config import Config
from .._fields import Checked
from .._replies import Reply
from ._definition import Extension, Parameter, relay_or_refuse
from ._deliverby import BY
from ._parsing import format_date_time, number, parse_date_time

# RFC 4865 section 3 (2)
_parse_limit = number("[0-9]{1,9}", "a number of up to 9 digits")
_parse_holdfor = number("[1-9][0-9]{0,8}", "a number of seconds from 1 to 999999999")


@dataclass(frozen=True, slots=True)
class HoldLimits(Checked):
    """The limits that FUTURERELEASE announces (RFC 4865 section 3)."""

    seconds: int
    """The maximum of HOLDFOR, in seconds."""
    until: datetime
    """The latest time of HOLDUNTIL, in UTC."""


def _parse_holduntil(text: str) -> datetime:
    time = parse_date_time(text)
    if time.utcoffset() != timedelta(0):
        raise ValueError("the value is a time in UTC")

    return time


def _announce(config: Config) -> str:
    assert config.max_hold_until, "the extension is not offered otherwise"
    return f"{config.max_hold_for} {format_date_time(config.max_hold_until.replace(microsecond=0))}"


def _parse_limits(text: str) -> HoldLimits:
    # RFC 4865 section 3 (2): both limits are required.
    seconds, _, until = text.partition(" ")
    return HoldLimits(_parse_limit(seconds), _parse_holduntil(until))


def _object(limits: HoldLimits, params: Mapping[str, object]) -> Reply | None:
    seconds, until, by = HOLDFOR.of(params), HOLDUNTIL.of(params), BY.of(params)
    if seconds is not None and until is not None:
        why = "HOLDFOR and HOLDUNTIL exclude each other"
    elif seconds is not None and seconds > limits.seconds:
        why = f"HOLDFOR may be at most {limits.seconds} seconds"
    elif until and until > limits.until:
        why = f"HOLDUNTIL may be {format_date_time(limits.until)} at the latest"
    elif seconds is not None and by and seconds > by.seconds:
        why = "HOLDFOR ends after the time of BY"  # RFC 4865 5.2.2
    else:
        return None

    return Reply(501, why, enhanced="5.5.4")  # RFC 4865 4.2 (10), (11)


_REFUSAL = Reply(555, "The next server does not support FUTURERELEASE", enhanced="5.5.4")
_relay = relay_or_refuse("FUTURERELEASE", _REFUSAL)
_TIMES = (datetime(2030, 1, 1, tzinfo=UTC), datetime(2029, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC))
# RFC 4865 section 3 (5): the line grows by 34 octets for either parameter; a command cannot have both.
HOLDFOR = Parameter("HOLDFOR", int, _parse_holdfor, octets=0, relay=_relay, examples=(1, 600))
HOLDUNTIL = Parameter("HOLDUNTIL", datetime, _parse_holduntil, octets=34, relay=_relay, examples=_TIMES)

EXTENSION: Extension = Extension(
    keyword="FUTURERELEASE",
    arguments=_announce,
    parse_arguments=_parse_limits,
    offered=lambda config, tls: config.max_hold_until is not None,
    mail=(HOLDFOR, HOLDUNTIL),
    objection=_object,
)
