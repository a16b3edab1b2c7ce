"""Mailboxes and paths: the addresses in MAIL and RCPT."""

# A value keeps the text exactly as written, because only the host named in the domain may interpret a local part
# (RFC 5321 2.3.11). The parts are parsed on demand. Two spellings of one mailbox compare equal: quoting is resolved
# (RFC 5321 4.1.2), and letter case is ignored in the domain, but not in the local part (RFC 5321 2.4).
#
# The normal form of a path is its spelling with the domain in lower case and without needless quotes. A path has the
# hash of the normal form, and equals only this string, so a path and this string find each other in sets and mappings.
# A comparison with any other spelling raises an error: the result False would hide that both name the same mailbox.
#
# The classes also accept addresses such as `first..last@example.com`, which exist although they break the grammar. A
# strict server refuses them, with `strict_path` and `strict_mailbox`.

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ._errors import LocalProtocolError
from ._fields import check_fields
from ._grammar import (
    is_encodable,
    match_mailbox,
    match_path,
    match_wide_mailbox,
    match_wide_path,
    parse_literal,
    unquote,
)


@dataclass(frozen=True, slots=True, eq=False)
class _Address:
    text: str
    """The address exactly as written."""

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return self._is_spelled(other)
        if not isinstance(other, _Address) or type(other) is not type(self):
            return NotImplemented

        return self._normal_form() == other._normal_form()

    def __hash__(self) -> int:
        return hash(self._normal_form())

    def _normal_form(self) -> str:
        text = self.text.lower()  # a path without a domain
        return text if text == "postmaster" else self.text  # RFC 5321 4.1.1.3

    def _is_spelled(self, text: str) -> bool:
        raise TypeError(f"a Mailbox cannot be compared with a string: compare it with Mailbox({text!r})")


@dataclass(frozen=True, slots=True, eq=False)
class Mailbox(_Address):
    """A mailbox, `local-part@domain` (RFC 5321 4.1.2).

    The constructor accepts more than the grammar: dots anywhere in the local part, hyphens and underscores anywhere in
    the domain. Raises `LocalProtocolError` if the text is not a mailbox.
    """

    def __post_init__(self) -> None:
        if self.text.__class__ is not str:
            check_fields(self, TypeError)
        if match_wide_mailbox(self.text) is None or not is_encodable(self.text):
            raise LocalProtocolError(f"{self.text!r} is not a mailbox: it should look like name@example.org")

        if self.text.endswith("]"):
            _check_literal(self.text)

    @property
    def local_part(self) -> str:
        """The part before the `@`, with quoting resolved."""
        return unquote(self.text.rpartition("@")[0])

    @property
    def domain(self) -> str:
        """The part after the `@`, in lower case. An address literal keeps its brackets."""
        return self.text.rpartition("@")[2].lower()

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The IP address if the domain is an address literal, otherwise None (RFC 5321 4.1.3)."""
        domain = self.domain
        return parse_literal(domain) if domain.startswith("[") else None

    def _normal_form(self) -> str:
        local_part = self.local_part
        if "@" in local_part or not local_part or match_wide_path(local_part) is None:
            local_part = '"' + _substitute_quoted(r"\\\g<0>", local_part) + '"'
        return f"{local_part}@{self.domain}"


@dataclass(frozen=True, slots=True, eq=False)
class Path(_Address):
    """The path in MAIL or RCPT, without angle brackets (RFC 5321 4.1.2).

    A path is a mailbox, a local part without a domain such as `Postmaster`, or empty. The empty path, called the null
    path, is falsy. A source route is kept in `text` and otherwise ignored, as RFC 5321 appendix C asks.
    Raises `LocalProtocolError` if the text is not a path.

    A path can be compared with a string: `path == "name@example.org"`. Write the string with its domain in lower case
    and without needless quotes; the client may use any spelling. A comparison with another spelling, or with a string
    that is not a path, raises `TypeError`. A set or a mapping with such strings does not find the path.
    """

    def __post_init__(self) -> None:
        if self.text.__class__ is not str:
            check_fields(self, TypeError)
        text = self.text
        if match_wide_path(text) is None or not (text.isascii() or is_encodable(text)):
            raise LocalProtocolError(f"{text!r} is not a path: it should look like name@example.org")
        if text.endswith("]"):
            _check_literal(text)

    @property
    def source_route(self) -> tuple[str, ...]:
        """The hosts of the obsolete source route, in order (RFC 5321 appendix C)."""
        hosts = self.text.partition(":")[0] if self.text.startswith("@") else ""
        return tuple(host.removeprefix("@") for host in hosts.split(",") if host)

    @property
    def address(self) -> str:
        """The path without its source route, otherwise as written: `name@example.org`."""
        return self.text.partition(":")[2] if self.text.startswith("@") else self.text

    @property
    def mailbox(self) -> Mailbox | None:
        """The mailbox, or None for the null path and for a path without a domain."""
        return Mailbox(self.address) if "@" in self.text else None

    @property
    def local_part(self) -> str:
        """The part before the `@`, with quoting resolved. Without a domain: the whole text, such as `Postmaster`."""
        mailbox = self.mailbox
        return mailbox.local_part if mailbox else self.text

    @property
    def domain(self) -> str:
        """The part after the `@`, in lower case. Empty for the null path and for a path without a domain."""
        mailbox = self.mailbox
        return mailbox.domain if mailbox else ""

    @property
    def is_postmaster(self) -> bool:
        """Whether the local part is `postmaster` in any letter case, with or without a domain (RFC 5321 4.5.1)."""
        return self.local_part.lower() == "postmaster"

    def __bool__(self) -> bool:
        return bool(self.text)

    def _normal_form(self) -> str:
        mailbox = self.mailbox
        return mailbox._normal_form() if mailbox else _Address._normal_form(self)

    def _is_spelled(self, text: str) -> bool:
        try:
            normal_form = Path(text)._normal_form()
        except LocalProtocolError as exc:
            raise TypeError(f"a Path cannot be compared with {text!r}: {exc}") from exc
        if text != normal_form:
            raise TypeError(f"a Path cannot be compared with {text!r}: use {normal_form!r}, or Path({text!r})")

        return self._normal_form() == text


def _check_literal(text: str) -> None:
    try:
        parse_literal(text[text.rindex("[") :])
    except ValueError as exc:
        raise LocalProtocolError(f"{text!r} has a malformed address literal: {exc}") from exc


_substitute_quoted = re.compile(r'["\\]').sub
_new: Final[Callable[[type[Path]], Path]] = Path.__new__
_set_text: Final[Callable[[Path, str], None]] = _Address.__dict__["text"].__set__


def strict_path(text: str) -> Path:
    """Return `text` as a path. Raises `LocalProtocolError` if it breaks the grammar of RFC 5321 4.1.2."""
    if match_path(text) is None:
        raise LocalProtocolError(f"{text!r} is not a path by RFC 5321")
    if not text.isascii() or text.endswith("]"):
        return Path(text)

    # The constructor would only check the text again, against the wider grammar.
    path = _new(Path)
    _set_text(path, text)
    return path


def strict_mailbox(text: str) -> Mailbox:
    """Return `text` as a mailbox. Raises `LocalProtocolError` if it breaks the grammar of RFC 5321 4.1.2."""
    if match_mailbox(text) is None:
        raise LocalProtocolError(f"{text!r} is not a mailbox by RFC 5321")

    return Mailbox(text)
