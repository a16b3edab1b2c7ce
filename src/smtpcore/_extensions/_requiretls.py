"""REQUIRETLS: verified TLS on the whole route of a message (RFC 8689)."""

from .._replies import Reply
from ._definition import Extension, NextHop, Parameter
from ._parsing import parse_flag, parse_nothing


def _relay(requiretls: bool, hop: NextHop) -> bool | Reply | None:
    # RFC 8689 4.2.1. RFC 8689 section 5 exempts notifications, which have the null path.
    if hop.path and not (hop.is_private and "REQUIRETLS" in hop.offers):
        return Reply(550, "The next server lacks REQUIRETLS or a verified certificate", enhanced="5.7.30")

    return requiretls if "REQUIRETLS" in hop.offers else None


REQUIRETLS = Parameter("REQUIRETLS", bool, parse_flag, octets=11, relay=_relay, examples=(True,))

EXTENSION: Extension = Extension(
    keyword="REQUIRETLS",
    parse_arguments=parse_nothing,
    offered=lambda config, tls: tls,  # RFC 8689 section 2: the extension is meaningless without TLS
    mail=(REQUIRETLS,),
)
