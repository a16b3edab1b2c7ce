"""The messages of SCRAM as text (RFC 5802 section 7)."""

#     client-first   n,a=authzid,n=user,r=nonce          the header is "n,a=authzid,", what follows is the bare message
#     server-first   r=nonce and more,s=salt,i=4096
#     client-final   c=header and binding,r=nonce and more,p=proof
#     server-final   v=signature, or e=error
#
# Each is one pattern, so the order of attributes is fixed. No value has a comma in it, so the patterns are linear.
# Attributes of later extensions may follow where they are told to. An extension that insists on being understood has
# the name "m", and is never understood here.

import base64
import binascii
import re
from dataclasses import dataclass, field

from ._saslname import SASLNAME, unescape

_NONCE = r"[!-+\--~]+"
_BASE64 = r"[A-Za-z0-9+/]+={0,2}"
_LATER = r"(?:,[bdfghjkloqt-uw-zA-Z]=[^\x00,]+)*"  # any letter that RFC 5802 gives no meaning to

_match_client_first = re.compile(
    rf"((n|y|p=[A-Za-z0-9.-]+),(?:a=({SASLNAME}))?,)(n=({SASLNAME}),r=({_NONCE}){_LATER})"
).fullmatch
_match_server_first = re.compile(rf"r=({_NONCE}),s=({_BASE64}),i=([1-9][0-9]{{0,9}}){_LATER}").fullmatch
_match_client_final = re.compile(rf"(c=({_BASE64}),r=({_NONCE}){_LATER}),p=({_BASE64})").fullmatch
_match_server_final = re.compile(rf"(?:v=({_BASE64})|e=([^\x00,]+)){_LATER}").fullmatch

is_nonce = re.compile(_NONCE).fullmatch
# An "m" at the start of a message, or after the two commas of the GS2 header, or after any other attribute.
has_mandatory_extension = re.compile(r"(?:^|,)m=").search


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """What a client begins with."""

    header: str
    """The GS2 header."""
    flag: str
    """`"n"`, `"y"`, or `"p="` and the type of a channel binding."""
    authorization: str | None
    username: str
    nonce: str
    bare: str
    """The message without its header, as it was received."""


@dataclass(frozen=True, slots=True)
class ServerFirst:
    """What a server answers to that."""

    nonce: str
    salt: bytes = field(repr=False)
    iterations: int


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """What a client proves itself with."""

    binding: str = field(repr=False)
    """The header and the channel binding, in base64."""
    nonce: str
    proof: bytes = field(repr=False)
    without_proof: str = field(repr=False)
    """The message up to the proof, as it was received."""


@dataclass(frozen=True, slots=True)
class ServerFinal:
    """What a server proves itself with, unless it has an error to tell."""

    signature: bytes | None = field(repr=False)
    error: str | None


def parse_client_first(text: str) -> ClientFirst | None:
    """The message, or None if it is not one."""
    match = _match_client_first(text)
    if match is None:
        return None

    header, flag, authzid, bare, username, nonce = match.groups()
    return ClientFirst(header, flag, authzid and unescape(authzid), unescape(username), nonce, bare)


def parse_server_first(text: str) -> ServerFirst | None:
    """The message, or None if it is not one."""
    match = _match_server_first(text)
    salt = match and _decode_base64(match[2])
    return ServerFirst(match[1], salt, int(match[3])) if match and salt else None


def parse_client_final(text: str) -> ClientFinal | None:
    """The message, or None if it is not one."""
    match = _match_client_final(text)
    proof = match and _decode_base64(match[4])
    return ClientFinal(match[2], match[3], proof, match[1]) if match and proof else None


def parse_server_final(text: str) -> ServerFinal | None:
    """The message, or None if it is not one."""
    match = _match_server_final(text)
    if match is None:
        return None
    if match[2]:
        return ServerFinal(None, match[2])

    signature = _decode_base64(match[1])
    return ServerFinal(signature, None) if signature else None


def encode_base64(data: bytes) -> str:
    """Base64, as it stands in a message."""
    return base64.b64encode(data).decode()


def _decode_base64(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None

    # The last character may have bits that mean nothing: only one spelling is the right one.
    return data if encode_base64(data) == text else None
