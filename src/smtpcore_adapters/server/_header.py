"""The header of an arriving message, as `header` handlers see it."""

import re
from collections.abc import Iterator

from smtpcore import Path, Transaction

_find_end = re.compile(rb"\r\n(?![ \t])").search
_match_name = re.compile(rb"([!-9;-~]+)[ \t]*:").match  # RFC 5322 2.2; blanks before the colon are obsolete (4.5)


class Header:
    """The header of a message, before the body is received.

    Field names are compared without regard to case. Values are unfolded (RFC 5322 2.2.3), without blanks at their ends.
    Values are decoded as UTF-8, with replacement characters for other octets. Encoded words stay as they are.
    """

    __slots__ = ("raw", "transaction")

    def __init__(self, raw: bytes, transaction: Transaction) -> None:
        self.raw: bytes = raw
        """The octets of the header, up to and including the empty line after it."""
        self.transaction: Transaction = transaction
        """The accepted MAIL and RCPT commands."""

    @property
    def reverse_path(self) -> Path:
        """The sender; falsy for a notification, to which no mail may be sent in reply (RFC 5321 4.5.5)."""
        return self.transaction.mail.reverse_path

    @property
    def forward_paths(self) -> tuple[Path, ...]:
        """The accepted recipients, in order."""
        return tuple(rcpt.forward_path for rcpt in self.transaction.recipients)

    def fields(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the value of each field, in order. Lines that are no field are left out.

        The fields are parsed while you iterate, so that a header of many fields takes no additional memory.
        """
        start = 0
        while start < len(self.raw):
            found = _find_end(self.raw, start)
            end = found.start() if found else len(self.raw)
            name = _match_name(self.raw, start, end)
            if name:
                yield name[1].decode("ascii"), _unfolded(self.raw[name.end() : end])

            start = end + len(b"\r\n")

    def get(self, name: str) -> str | None:
        """Return the value of the first field of this name, or None."""
        return next(iter(self.get_all(name)), None)

    def get_all(self, name: str) -> Iterator[str]:
        """Yield the values of all fields of this name, in order."""
        wanted = name.lower()
        return (value for found, value in self.fields() if found.lower() == wanted)


def _unfolded(value: bytes) -> str:
    return value.replace(b"\r\n", b"").strip(b" \t").decode("utf-8", "replace")
