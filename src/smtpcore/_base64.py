"""Base64 as SASL wants it (RFC 4648 section 4)."""

# RFC 4954 section 4: whatever is not in the alphabet is refused, and not skipped; "=" stands at the end only. The
# strict mode of binascii lets a superfluous "=" pass, hence the pattern.

import re
from binascii import a2b_base64, b2a_base64

_match = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?").fullmatch


def encode_base64(data: bytes) -> str:
    """`data` as text, without line breaks."""
    return b2a_base64(data, newline=False).decode()


def decode_base64(text: bytes) -> bytes:
    """What `text` stands for. Raises `ValueError` where it is not base64."""
    if _match(text) is None:
        raise ValueError("this is not base64")

    return a2b_base64(text)
