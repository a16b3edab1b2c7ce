"""8BITMIME (RFC 6152) and BINARYMIME (RFC 3030): bodies with octets beyond ASCII, and the BODY parameter."""

from enum import Enum

from .._replies import Reply
from ._definition import Extension, NextHop, Parameter
from ._parsing import one_of, parse_nothing


class BodyType(Enum):
    """The BODY parameter of MAIL: the octets and lines that the body may contain (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    """ASCII only, in lines of at most 1,000 octets."""
    EIGHT_BIT_MIME = "8BITMIME"
    """Any octets, in lines of at most 1,000 octets."""
    BINARYMIME = "BINARYMIME"
    """Any octets. The body has to be sent with BDAT (RFC 3030 section 3)."""


def _relay(body: BodyType, hop: NextHop) -> BodyType | Reply | None:
    if body is not BodyType.BINARYMIME:
        # If the server offers neither extension, the relay refuses a body when an octet beyond ASCII arrives.
        return body if hop.offers.keys() & {"8BITMIME", "BINARYMIME"} else None
    if {"BINARYMIME", "CHUNKING"} <= hop.offers.keys():
        return body

    # RFC 3030 section 3: a relay refuses the message or encodes it; this relay never encodes.
    return Reply(554, "The next server does not accept binary messages", enhanced="5.6.3")


_NOT_BINARY = (BodyType.SEVEN_BIT, BodyType.EIGHT_BIT_MIME)
# RFC 6152 adds nothing to the line limit. These 14 octets make room for " BODY=8BITMIME" after the longest address.
BODY = Parameter("BODY", BodyType, one_of(_NOT_BINARY), octets=14, relay=_relay, examples=_NOT_BINARY)
# RFC 3030 section 3 (8): the line grows by 16 octets.
BINARY_BODY = Parameter("BODY", BodyType, one_of(BodyType), octets=16, relay=_relay, examples=tuple(BodyType))

EIGHT_BIT_MIME: Extension = Extension(keyword="8BITMIME", parse_arguments=parse_nothing, mail=(BODY,))
BINARYMIME: Extension = Extension(
    keyword="BINARYMIME",
    parse_arguments=parse_nothing,
    needs=frozenset({"CHUNKING"}),  # RFC 3030 section 3 (1)
    mail=(BINARY_BODY,),
)
