"""The envelope of `smtpcore send` from the header of the message, as `sendmail -t` does."""

import re
from collections.abc import Iterator, Sequence
from email.parser import BytesHeaderParser
from functools import partial
from itertools import chain
from typing import BinaryIO

import click

from smtpcore import LocalProtocolError

from ..client._header_envelope import recipients_of, sender_of

_PIECE = 65_536

MAX_HEADER = 1_048_576
"""Maximum octets of a header that shows the envelope: the header is held in memory."""


def complete_envelope(
    file: BinaryIO, sender: str | None, recipients: Sequence[str]
) -> tuple[str, Sequence[str], BinaryIO | Iterator[bytes]]:
    """Return the envelope and the message: a sender of None, and no recipients, are replaced by those in the header.

    If the recipients are those of the header, the returned message has no Bcc and no Resent-Bcc. A line that separates
    messages in an mbox file, such as `From a@example.org Thu Jan  1 00:00:00 2026`, is not a part of the message.

    Raises:
        UsageError: the header does not show the envelope.
    """
    first, start = _begin(file)
    if sender is not None and recipients:
        return sender, recipients, file if start is not None else _joined([first], file)

    header = _read_header(first, file)
    message = BytesHeaderParser().parsebytes(b"".join(header))
    if message.defects:  # addresses after the malformed line would be missed
        raise click.UsageError("the message does not begin with a valid header: give --from and --to")
    try:
        envelope = sender_of(message) if sender is None else sender, recipients or recipients_of(message)
    except LocalProtocolError as exc:
        raise click.UsageError(_with_options(str(exc))) from exc

    kept = header if recipients else _without_bcc(header)
    if kept == header and start is not None:
        file.seek(start)
        return *envelope, file

    return *envelope, _joined(kept, file)


def _begin(file: BinaryIO) -> tuple[bytes, int | None]:
    """Skip the line of an mbox file. Return the octets that were read, and the start of the message if it can seek."""
    start = file.tell() if file.seekable() else None
    first = file.readline(MAX_HEADER)
    is_separator = _is_separator(first) is not None
    if start is None:
        return b"" if is_separator else first, None
    if not is_separator:
        file.seek(start)
    return b"", file.tell()


_is_separator = re.compile(rb"From (?![ \t]*:).*\n").fullmatch  # RFC 5322 4.5: a field may have spaces before its colon


def _joined(read: Sequence[bytes], rest: BinaryIO) -> Iterator[bytes]:
    return chain([b"".join(read)], iter(partial(rest.read, _PIECE), b""))


def _read_header(first: bytes, file: BinaryIO) -> list[bytes]:
    lines: list[bytes] = []
    left = MAX_HEADER
    while line := (first if first and not lines else file.readline(left)):
        lines.append(line)
        left -= len(line)
        if not line.strip(b"\r\n"):
            break
        if not left:
            raise click.UsageError(
                f"the header of the message is longer than {MAX_HEADER} octets: give --from and --to"
            )

    return lines


def _without_bcc(lines: list[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    is_bcc = False
    for line in lines:
        if not line.startswith((b" ", b"\t")):  # RFC 5322 2.2.3: such a line continues the field
            is_bcc = line.partition(b":")[0].strip().lower() in (b"bcc", b"resent-bcc")
        if not is_bcc:
            kept.append(line)

    return kept


def _with_options(text: str) -> str:
    for words, options in _OPTIONS.items():
        text = text.replace(words, options)

    return text


_OPTIONS = {
    "give the sender and the recipients": "give --from and --to",
    "give the sender": "give --from",
    "give the recipients": "give --to",
}
