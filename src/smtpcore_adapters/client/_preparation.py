"""Prepare a body for one server: convert it to 7 bits, and let the program sign the final octets."""

import re
from collections.abc import Awaitable, Callable
from email.message import Message
from functools import partial
from inspect import isawaitable
from typing import TypeAlias

from smtpcore import LocalProtocolError

from ._messages import octets_in, to_seven_bit
from ._sources import PIECE, Body, Octets, RunBlocking, Source, source_of, with_line_ends

Sign: TypeAlias = Callable[[bytes], bytes | Awaitable[bytes]]
"""A function or coroutine function that gets the octets of a message, and returns header fields for its top, such as a
DKIM-Signature, or the whole signed message."""

MAX_CONVERTED = 67_108_864
"""Maximum octets of a file or iterable that is converted to 7 bits: a conversion needs the whole message in memory."""


async def prepare(
    body: Body, *, eight_bit: bool, smtputf8: bool, binary: bool, sign: Sign | None, run_blocking: RunBlocking
) -> Source:
    """Return the examined source for `body`, in the form in which the server gets it.

    Args:
        body: The body.
        eight_bit: Whether the server accepts octets beyond ASCII (8BITMIME).
        smtputf8: Whether the server offers SMTPUTF8.
        binary: Whether the octets have to stay as they are (BINARYMIME).
        sign: The signer, if the message is to be signed.
        run_blocking: Runs a function in a thread.

    Raises:
        TypeError: `body` has a type that cannot be sent.
        Inconvertible: this server cannot get the message unchanged, nor in 7 bits.
        LocalProtocolError: the signer has returned octets that cannot be sent unchanged.
    """
    make = partial(source_of, body, eight_bit=eight_bit, smtputf8=smtputf8)
    source: Source = await run_blocking(make) if _is_long(body) else make()
    try:
        await source.examine(run_blocking)
        examined = source.examined
        is_convertible = not (eight_bit or binary or source.needs_smtputf8)
        if is_convertible and examined and not examined.is_ascii and examined.size <= MAX_CONVERTED:
            data = await run_blocking(to_seven_bit, await _read(source, run_blocking, binary=True))
            source = Octets(data, source.needs_smtputf8)
        if sign:
            data = await _signed(await _read(source, run_blocking, binary=binary), sign, run_blocking, binary=binary)
            source = Octets(data, source.needs_smtputf8)
    except BaseException:
        await source.aclose()
        raise

    return source


def _is_long(body: Body) -> bool:
    """Return whether making the octets of `body` would block an event loop for a noticeable time."""
    if isinstance(body, str):
        return len(body) > PIECE

    return isinstance(body, Message) and octets_in(body) > PIECE


async def _read(source: Source, run_blocking: RunBlocking, *, binary: bool) -> bytes:
    pieces = source.pieces(run_blocking)
    data = b"".join([piece async for piece in (pieces if binary else with_line_ends(pieces))])
    await source.aclose()
    return data


async def _signed(data: bytes, sign: Sign, run_blocking: RunBlocking, *, binary: bool) -> bytes:
    result = await run_blocking(sign, data)
    signed = await result if isawaitable(result) else result
    if not isinstance(signed, bytes):
        raise TypeError(f"sign must return bytes, not {type(signed).__name__}")
    # A line end that the client had to change would break the signature.
    if not binary and _find_bare(signed):
        raise LocalProtocolError("sign has returned a bare CR or LF: each line must end in CR LF")

    if signed.endswith(data):
        fields, whole = signed[: len(signed) - len(data)], signed
    elif b"\r\n\r\n" not in signed:
        fields, whole = signed, signed + data
    elif _body_of(data) and not _body_of(signed):
        raise LocalProtocolError("sign has returned a message without its body: return fields without an empty line")
    else:
        fields, whole = b"", signed

    if not _are_fields(fields) or (data and not signed):
        raise LocalProtocolError("sign has returned neither a message nor header fields that end in CR LF")
    return whole


def _body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


_find_bare = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
_are_fields = re.compile(rb"([!-9;-~]+[ \t]*:[^\r\n]*\r\n([ \t][^\r\n]*\r\n)*)*").fullmatch  # RFC 5322 2.2
