"""SMTPUTF8: UTF-8 in addresses and headers (RFC 6531)."""

from .._replies import Reply
from ._definition import Extension, NextHop, Parameter
from ._parsing import parse_flag, parse_nothing


def _relay(smtputf8: bool, hop: NextHop) -> bool | Reply | None:
    if "SMTPUTF8" in hop.offers:
        return smtputf8
    if not hop.path.text.isascii():
        return Reply(550, "The next server accepts only ASCII addresses", enhanced="5.6.7")  # RFC 6531 3.5

    return None  # the relay checks the header of the message on arrival


# RFC 6531 3.1 (5): the line grows by 10 octets.
SMTPUTF8 = Parameter("SMTPUTF8", bool, parse_flag, octets=10, relay=_relay, examples=(True,))

EXTENSION: Extension = Extension(
    keyword="SMTPUTF8",
    parse_arguments=parse_nothing,
    needs=frozenset({"8BITMIME"}),  # RFC 6531 3.1 (8)
    mail=(SMTPUTF8,),
)
