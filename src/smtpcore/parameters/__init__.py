"""The typed values of the parameters of MAIL and RCPT, and the parsers that turn text into them.

A value checks itself when it is constructed, and its `str` is its form on the wire.
"""

from .._extensions._auth import Submitter, parse_auth
from .._extensions._body import BodyType, parse_binary_body, parse_body
from .._extensions._deliverby import ByMode, DeliverBy, parse_by
from .._extensions._dsn import (
    EnvelopeId,
    Notify,
    OriginalRecipient,
    Ret,
    parse_notify,
    parse_ret,
)
from .._extensions._futurerelease import parse_holdfor, parse_holduntil
from .._extensions._mt_priority import parse_mt_priority
from .._extensions._no_soliciting import parse_solicit
from .._extensions._parsing import format_date_time, number, one_of, parse_date_time, parse_flag
from .._extensions._rrvs import NoSupport, ValidSince, parse_rrvs
from .._extensions._size import parse_size
from .._extensions._xclient import Attributes, parse_attributes
from .._xtext import decode_unitext, decode_xtext, encode_unitext, encode_xtext

parse_envid = EnvelopeId
parse_orcpt = OriginalRecipient

__all__ = ["Attributes", "BodyType", "ByMode", "DeliverBy", "EnvelopeId", "NoSupport", "Notify", "OriginalRecipient"]
__all__ += ["Ret", "Submitter", "ValidSince"]
__all__ += ["decode_unitext", "decode_xtext", "encode_unitext", "encode_xtext", "format_date_time", "number"]
__all__ += ["one_of", "parse_attributes", "parse_auth", "parse_binary_body", "parse_body", "parse_by"]
__all__ += ["parse_date_time", "parse_envid", "parse_flag", "parse_holdfor", "parse_holduntil", "parse_mt_priority"]
__all__ += ["parse_notify", "parse_orcpt", "parse_ret", "parse_rrvs", "parse_size", "parse_solicit"]
