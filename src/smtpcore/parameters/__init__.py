"""The typed values of the parameters of MAIL and RCPT, one for each extension that has them.

Each checks itself when it is made, and its `str` is its form on the wire.
"""

from ._values import (
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
    "parse_date_time",
]
