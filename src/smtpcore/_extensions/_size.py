"""SIZE: the limit on the octets of a message (RFC 1870)."""

from collections.abc import Mapping

from .._grammar import match_number
from .._replies import Reply
from ._definition import Extension, NextHop, Parameter
from ._parsing import number

_parse_size = number("[0-9]{1,20}", "a number of 1 to 20 digits")  # RFC 1870 section 3 (6)


def _object(limit: int | None, params: Mapping[str, object]) -> Reply | None:
    if limit is None or (SIZE.of(params) or 0) <= limit:
        return None

    return Reply(552, f"The message exceeds the maximum size of {limit} octets", enhanced="5.3.4")  # RFC 1870 6.1


def _relay(size: int, hop: NextHop) -> int | Reply | None:
    limit = hop.offers.get("SIZE")
    if type(limit) is int and size > limit:
        return Reply(552, f"The next server accepts at most {limit} octets", enhanced="5.3.4")  # RFC 1870 section 6

    return size if "SIZE" in hop.offers else None


SIZE = Parameter("SIZE", int, _parse_size, octets=26, relay=_relay, examples=(0, 1000, 10**9))

EXTENSION: Extension = Extension(
    keyword="SIZE",
    arguments=lambda config: str(config.max_message_size or ""),
    # RFC 1870 section 3: 0 means no fixed limit. A malformed limit is treated like 0: sizes can still be declared.
    parse_arguments=lambda text: (int(text) or None) if match_number(text) else None,
    mail=(SIZE,),
    objection=_object,
)
