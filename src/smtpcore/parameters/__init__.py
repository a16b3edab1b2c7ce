"""The typed values of the parameters of MAIL and RCPT, and the parsers that turn text into them.

Each value checks itself when it is made, and its `str` is its form on the wire.
"""

from ._attributes import Attributes, parse_attributes
from ._parsers import (
    parse_auth,
    parse_binary_body,
    parse_body,
    parse_by,
    parse_envid,
    parse_flag,
    parse_holdfor,
    parse_holduntil,
    parse_mt_priority,
    parse_notify,
    parse_orcpt,
    parse_ret,
    parse_rrvs,
    parse_size,
    parse_solicit,
)
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
    format_date_time,
    parse_date_time,
)
from ._xtext import decode_unitext, decode_xtext, encode_unitext, encode_xtext

__all__ = [
    "Attributes",
    "BodyType",
    "ByMode",
    "DeliverBy",
    "EnvelopeId",
    "NoSupport",
    "Notify",
    "OriginalRecipient",
    "Ret",
    "Submitter",
    "ValidSince",
    "decode_unitext",
    "decode_xtext",
    "encode_unitext",
    "encode_xtext",
    "format_date_time",
    "parse_attributes",
    "parse_auth",
    "parse_binary_body",
    "parse_body",
    "parse_by",
    "parse_date_time",
    "parse_envid",
    "parse_flag",
    "parse_holdfor",
    "parse_holduntil",
    "parse_mt_priority",
    "parse_notify",
    "parse_orcpt",
    "parse_ret",
    "parse_rrvs",
    "parse_size",
    "parse_solicit",
]
