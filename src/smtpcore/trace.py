"""The trace fields that a server adds at the top of a message (RFC 5321 4.4)."""

# The caller passes in every value, because this module reads no clock and looks up no names. A field is folded between
# the clauses of its grammar, so that no line exceeds the 998 octets of RFC 5322 2.1.1 for any client name.

import re
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from ._addresses import Path
from ._commands import Ehlo, Helo, Lhlo
from ._config import MAX_DOMAIN
from ._errors import LocalProtocolError
from ._fields import check_argument
from ._grammar import find_control, is_domain, is_encodable, match_path
from ._help import show_texts

MAX_HOPS = 100
"""RFC 5321 6.3: maximum number of `Received:` fields. A message with more fields is assumed to be in a mail loop."""

_match_cipher = re.compile(r"TLS_[A-Z0-9_]+").fullmatch  # RFC 8314 4.3
_NOT_IN_COMMENT = re.compile(r"[^ -'*-\[\]-~]")
_RECEIVED = re.compile(rb"\r\nReceived[ \t:]", re.IGNORECASE)  # RFC 5322 4.5 allows blanks before the colon

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def return_path(path: Path) -> bytes:
    """Return the `Return-Path:` field for final delivery, CR LF included (RFC 5321 4.4)."""
    check_argument("path", path, Path)
    return f"Return-Path: <{path.address}>\r\n".encode()


def received(
    *,
    helo: Helo | Ehlo | Lhlo | None,
    peer: IPv4Address | IPv6Address | None,
    by: str,
    date: datetime,
    id: str,
    tls: str | None = None,
    authenticated: bool = False,
    smtputf8: bool = False,
    recipient: Path | None = None,
    priority: int | None = None,
) -> bytes:
    """Return the `Received:` field, CR LF included (RFC 5321 4.4).

    Args:
        helo: the client's HELO, EHLO or LHLO command.
        peer: the client's IP address. None if this was not an IP connection.
        by: the name of this server.
        date: the time of receipt, with a time zone.
        id: the id of the message in the logs of this server.
        tls: TLS version and cipher, such as `"TLSv1.3 TLS_AES_256_GCM_SHA384"`. None without TLS.
        authenticated: whether AUTH succeeded.
        smtputf8: whether MAIL had the parameter SMTPUTF8.
        recipient: the recipient, if there is only one recipient: several recipients must not learn of each other.
        priority: the priority of the message, if MAIL requested a priority (RFC 6710 4.1).

    Raises:
        LocalProtocolError: `date` has no time zone, or a text has control characters or half a surrogate pair.
    """
    check_argument("recipient", recipient, Path | None)
    protocol = with_protocol(helo, tls=tls is not None, authenticated=authenticated, smtputf8=smtputf8)
    clauses = [f"Received: from {_extended_domain(helo.domain if helo else 'unknown', peer)}"]
    version, _, cipher = (tls or "").rpartition(" ")
    is_registered = _match_cipher(cipher) is not None
    clauses.append(f"by {by} with {protocol} id {id}" + (f" ({tls})" if tls and not is_registered else ""))
    # RFC 5321 7.2 and 6531 3.7.3: at most one path, and UTF-8 only if SMTPUTF8 was announced.
    if recipient and (smtputf8 or recipient.text.isascii()) and match_path(recipient.text):
        clauses.append(f"for <{recipient.address}>")
    if tls and is_registered:
        # RFC 8314 4.3: cipher names of the IANA registry only; OpenSSL has other names for old ciphers.
        clauses.append(f"tls {cipher} ({version})" if version else f"tls {cipher}")
    if priority is not None:
        clauses.append(f"PRIORITY {priority}")

    clauses[-1:] = [f"{clauses[-1]};", format_date(date)]
    for clause in filter(_is_wrong, clauses):
        raise LocalProtocolError(f"trace clause {clause!r} has control characters, or surrogates: remove them")

    return ("\r\n\t".join(clauses) + "\r\n").encode()


def end_of_fields(body: bytes) -> bytes:
    """Return the octets to put between the fields that a server adds on top and a message that begins with `body`.

    The result is CR LF if `body` begins with white space, otherwise empty. Without the CR LF, the first line of `body`
    would continue the last field (RFC 5322 2.2.3), so that a sender could write into a field of this server. `body`
    must have at least one octet.
    """
    return b"\r\n" if body.startswith((b" ", b"\t")) else b""


class Hops:
    """A counter of the `Received:` fields in an arriving message, for the detection of mail loops (RFC 5321 6.3)."""

    __slots__ = ("_held", "count")

    def __init__(self) -> None:
        self.count: int = 0
        """The number of `Received:` fields so far."""
        self._held: bytes | None = b"\r\n"

    def feed(self, data: bytes) -> None:
        """Count the fields in the next octets of the message. Octets after the header are ignored."""
        if self._held is None:
            return

        text = self._held + data
        end = text.find(b"\r\n\r\n")
        self.count += len(_RECEIVED.findall(text if end < 0 else text[:end]))
        self._held = text[-len(b"\r\nReceived") :] if end < 0 else None


def with_protocol(helo: Helo | Ehlo | Lhlo | None, *, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """Return the keyword of the `with` clause (RFC 3848; RFC 6531 section 4.3)."""
    check_argument("helo", helo, Helo | Ehlo | Lhlo | None)
    if not isinstance(helo, Ehlo | Lhlo):
        return "SMTP"

    plain, utf8 = ("LMTP", "UTF8LMTP") if isinstance(helo, Lhlo) else ("ESMTP", "UTF8SMTP")
    return (utf8 if smtputf8 else plain) + ("S" if tls else "") + ("A" if authenticated else "")


def format_date(date: datetime) -> str:
    """Return a date in the format of RFC 5322 3.3: in English for every locale, with a numeric zone.

    Raises `LocalProtocolError` for a date without a time zone.
    """
    check_argument("date", date, datetime)
    offset = date.utcoffset()
    if offset is None:
        raise LocalProtocolError(f"{date!r} has no time zone: use datetime.now(timezone.utc) or .astimezone()")

    minutes = int(offset.total_seconds()) // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    return f"{_DAYS[date.weekday()]}, {date.day} {_MONTHS[date.month - 1]} {date.year:04} {date:%H:%M:%S} {zone}"


def _extended_domain(name: str, peer: IPv4Address | IPv6Address | None) -> str:
    check_argument("peer", peer, IPv4Address | IPv6Address | None)
    info = f" ({_literal(peer)})" if peer else ""
    if name.isascii() and is_domain(name):
        return name + info

    # A comment may have any text, but parentheses and backslashes have a meaning in it (RFC 5322 3.2.2).
    return f"unknown{info} (HELO {_NOT_IN_COMMENT.sub('?', name[:MAX_DOMAIN])})"


def _is_wrong(clause: str) -> bool:
    return find_control(clause) is not None or not is_encodable(clause)


def _literal(address: IPv4Address | IPv6Address) -> str:
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


show_texts(globals())
