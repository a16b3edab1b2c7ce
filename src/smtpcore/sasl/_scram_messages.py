"""Parse the messages of SCRAM (RFC 5802 section 7)."""

#     client-first   n,a=authzid,n=user,r=nonce          "n,a=authzid," is the header, the rest is the bare message
#     server-first   r=longer nonce,s=salt,i=4096
#     client-final   c=header and binding,r=longer nonce,p=proof
#     server-final   v=signature, or e=error
#
# Each message is one pattern, so the order of attributes is fixed. Values never contain commas, so matching takes
# linear time. Attributes of later extensions are accepted where RFC 5802 allows them. A mandatory extension has the
# name "m" and makes the exchange fail, because this parser knows no such extension.

import base64
import binascii
import re
from dataclasses import dataclass, field

from ._saslname import SASLNAME, unescape

_NONCE = r"[!-+\--~]+"
_BASE64 = r"[A-Za-z0-9+/]+={0,2}"
_LATER = r"(?:,[bdfghjkloqt-uw-zA-Z]=[^\x00,]+)*"  # any letter to which RFC 5802 gives no meaning

_match_client_first = re.compile(
    rf"((n|y|p=[A-Za-z0-9.-]+),(?:a=({SASLNAME}))?,)(n=({SASLNAME}),r=({_NONCE}){_LATER})"
).fullmatch
_match_server_first = re.compile(rf"r=({_NONCE}),s=({_BASE64}),i=([1-9][0-9]{{0,9}}){_LATER}").fullmatch
_match_client_final = re.compile(rf"(c=({_BASE64}),r=({_NONCE}){_LATER}),p=({_BASE64})").fullmatch
_match_server_final = re.compile(rf"(?:v=({_BASE64})|e=([^\x00,]+)){_LATER}").fullmatch

is_nonce = re.compile(_NONCE).fullmatch
# "m=" at the start of a message, after the two commas of the GS2 header, or after any other attribute.
has_mandatory_extension = re.compile(r"(?:^|,)m=").search


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """The client's first message."""

    header: str
    """The GS2 header (RFC 5801 section 4), which says whether a channel binding is used."""
    flag: str
    """`"n"`, `"y"`, or `"p="` and the type of a channel binding."""
    authorization: str | None
    username: str
    nonce: str
    bare: str
    """The message without its header, as received."""


@dataclass(frozen=True, slots=True)
class ServerFirst:
    """The server's first message."""

    nonce: str
    salt: bytes = field(repr=False)
    iterations: int


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """The client's final message, with its proof."""

    binding: str = field(repr=False)
    """The header and the channel binding in base64."""
    nonce: str
    proof: bytes = field(repr=False)
    without_proof: str = field(repr=False)
    """The message up to the proof, as received."""


@dataclass(frozen=True, slots=True)
class ServerFinal:
    """The server's final message, with its signature or an error."""

    signature: bytes | None = field(repr=False)
    error: str | None


def parse_client_first(text: str) -> ClientFirst | None:
    """Return the parsed message, or None if it is malformed."""
    match = _match_client_first(text)
    if match is None:
        return None

    header, flag, authzid, bare, username, nonce = match.groups()
    return ClientFirst(header, flag, authzid and unescape(authzid), unescape(username), nonce, bare)


def parse_server_first(text: str) -> ServerFirst | None:
    """Return the parsed message, or None if it is malformed."""
    match = _match_server_first(text)
    salt = match and _decode_base64(match[2])
    return ServerFirst(match[1], salt, int(match[3])) if match and salt else None


def parse_client_final(text: str) -> ClientFinal | None:
    """Return the parsed message, or None if it is malformed."""
    match = _match_client_final(text)
    proof = match and _decode_base64(match[4])
    return ClientFinal(match[2], match[3], proof, match[1]) if match and proof else None


def parse_server_final(text: str) -> ServerFinal | None:
    """Return the parsed message, or None if it is malformed."""
    match = _match_server_final(text)
    if match is None:
        return None
    if match[2]:
        return ServerFinal(None, match[2])

    signature = _decode_base64(match[1])
    return ServerFinal(signature, None) if signature else None


def encode_base64(data: bytes) -> str:
    """Return `data` in base64."""
    return base64.b64encode(data).decode()


def _decode_base64(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None

    # The last character may have unused bits. Only text in which these bits are zero is accepted.
    return data if encode_base64(data) == text else None
