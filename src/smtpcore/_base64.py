"""Base64 as SASL requires it (RFC 4648 section 4)."""

# RFC 4954 section 4: a character outside the alphabet is an error and must not be skipped, and "=" may only stand at
# the end. The pattern is needed because the strict mode of binascii accepts superfluous "=".

import re
from binascii import a2b_base64, b2a_base64

_match = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?").fullmatch


def encode_base64(data: bytes) -> str:
    """Return `data` as base64 text without line breaks."""
    return b2a_base64(data, newline=False).decode()


def decode_base64(text: bytes) -> bytes:
    """Return the bytes that `text` encodes. Raises `ValueError` if `text` is not base64."""
    if _match(text) is None:
        raise ValueError("the text is not base64")

    return a2b_base64(text)
