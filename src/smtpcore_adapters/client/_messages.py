"""Messages of the `email` package as octets, in 7 bits for a server without 8BITMIME."""

# The `email` package converts to 7 bits by decoding a part from the charset that it claims to have. Octets that are not
# valid in this charset get lost, and an unknown charset raises an exception. So this module encodes the octets of a
# part instead, without decoding them. A signed part must not be changed at all (RFC 1847 2.1), and a field cannot be
# encoded without knowledge of its syntax. Such messages are refused, just as an MTA would return such a message to its
# sender.

import binascii
import re
from base64 import encodebytes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from email import message_from_bytes
from email.errors import NonASCIILocalPartDefect
from email.header import Header
from email.headerregistry import Address, AddressHeader
from email.message import Message
from email.policy import EmailPolicy, default
from email.utils import formataddr, getaddresses
from functools import partial

from ._domains import NotInAscii, in_ascii

AnyMessage = Message


class Inconvertible(Exception):
    """The message cannot be sent to this server unchanged, and cannot be converted either."""


def flatten(message: AnyMessage, *, eight_bit: bool, smtputf8: bool) -> tuple[bytes, bool]:
    """Return the octets of `message` without Bcc, and whether its header needs SMTPUTF8.

    `eight_bit` and `smtputf8` say whether the server offers 8BITMIME and SMTPUTF8. Raises `Inconvertible` and no other
    exception, for any content of a parsed message.
    """
    with _malformed_as_inconvertible():
        converted = _without_bcc(message)
        if not smtputf8:
            _convert_domains(converted)
        is_international = any(not address.isascii() for address in _addresses(converted)) or _needs_utf8(converted)
        if not isinstance(message.policy, EmailPolicy):
            _encode_names(converted, utf8=is_international)
        is_refused = is_international and not smtputf8  # the client refuses the message because of its header
        if not is_refused and any(_needs_conversion(part, eight_bit=eight_bit) for part in converted.walk()):
            converted = deepcopy(converted)
            _convert(converted, eight_bit=eight_bit, is_whole=True)

        data = _as_bytes(converted, eight_bit=eight_bit, utf8=is_international)

    if b"\0" in data:
        raise Inconvertible("NUL in a header field, or in the text around the parts")

    return data, is_international


def octets_in(message: AnyMessage) -> int:
    """Return about how many octets the parts of `message` have; 0 for a malformed message, which `flatten` reports."""
    try:
        payloads = [vars(part)["_payload"] for part in message.walk()]
    except Exception:  # the `email` package raises exceptions of several types for malformed messages
        return 0

    return sum(len(payload) for payload in payloads if isinstance(payload, str))


@contextmanager
def _malformed_as_inconvertible() -> Iterator[None]:
    # The `email` package raises exceptions of several types for malformed messages.
    try:
        yield
    except Inconvertible:
        raise
    except NotInAscii as exc:
        raise Inconvertible(str(exc)) from exc
    except Exception as exc:
        raise Inconvertible(f"the message is malformed: {str(exc)!a}") from exc


def to_seven_bit(data: bytes) -> bytes:
    """Return the octets of a MIME message in 7 bits.

    Raises:
        Inconvertible: as for `flatten`; also if the message is malformed, or has no MIME-Version, so that nothing says
            what its octets mean.
    """
    with _malformed_as_inconvertible():
        message = message_from_bytes(data)
        if "MIME-Version" not in message:
            raise Inconvertible("octets beyond ASCII in a message without MIME-Version")
        if any(part.defects for part in message.walk()):
            raise Inconvertible("octets beyond ASCII in a malformed message")

        _convert(message, eight_bit=False, is_whole=True)
        return _as_bytes(message, eight_bit=False, utf8=False)


def encode_text(text: str) -> tuple[bytes, bool]:
    """Return a message that is given as text in UTF-8, and whether its header needs SMTPUTF8.

    Raises:
        Inconvertible: a part with characters beyond ASCII declares another charset than UTF-8, or none.
    """
    if text.isascii():
        return text.encode(), False

    with _malformed_as_inconvertible():
        data = text.encode()
        parts = [*message_from_bytes(data).walk()]
        for part in parts:
            charset = str(part.get_content_charset()).lower()
            if not part.is_multipart() and not _payload_of(part).isascii() and charset not in ("utf-8", "utf8"):
                raise Inconvertible(f"text beyond ASCII in a part without charset=utf-8 (it has {charset[:40]!a})")

    return data, any(_has_octets(value) for part in parts for _, value in part.raw_items())


_ADDRESS_FIELDS = ("From", "Sender", "Reply-To", "To", "Cc", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc")


def _addresses(message: AnyMessage) -> list[str]:
    fields = [str(value) for name in _ADDRESS_FIELDS for value in message.get_all(name, [])]
    return [address for _, address in getaddresses(fields)]


def _needs_utf8(message: AnyMessage) -> bool:
    """Return whether a signature covers fields that the policy of `message` writes in UTF-8 (RFC 6532).

    Without a signature, such fields are written as encoded words, which every server accepts.
    """
    policy = message.policy
    if not (isinstance(policy, EmailPolicy) and policy.utf8):
        return False

    is_signed = any(_is_signed(part) for part in message.walk())
    return is_signed and message.as_bytes(policy=policy) != message.as_bytes(policy=policy.clone(utf8=False))


def _convert_domains(message: AnyMessage) -> None:
    """Replace the domains in the address fields of `message` by A-labels, where only domains are beyond ASCII."""
    _rewrite_addresses(message, _with_a_labels)


def _encode_names(message: AnyMessage, *, utf8: bool) -> None:
    """Encode the names in the address fields of `message`, and no address; with `utf8`, names and addresses are UTF-8.

    The policy compat32, which `MIMEText` and the like have, writes a field beyond ASCII as one encoded word. An address
    in an encoded word is lost for the reader (RFC 2047 section 5).
    """
    _rewrite_addresses(message, partial(_with_encoded_names, utf8=utf8))


def _rewrite_addresses(message: AnyMessage, rewrite: Callable[[str, object], str]) -> None:
    """Replace the address fields for which `rewrite` returns a new value. An empty value leaves a field unchanged."""
    items = list(message.raw_items())
    values = [
        rewrite(name, value) if name.title() in _ADDRESS_FIELDS and not str(value).isascii() else ""
        for name, value in items
    ]
    if not any(values) or any(field in message for field in _SIGNATURES):
        return  # a signature of the header would break

    for name in {name for name, _ in items}:
        del message[name]
    for (name, value), new in zip(items, values, strict=True):
        message.set_raw(*(message.policy.header_store_parse(name, new) if new else (name, value)))


def _with_a_labels(name: str, value: object) -> str:
    """Return the value of an address field with A-labels, or `""` if the field has to stay as it is."""
    addresses = _parse_addresses(name, value)
    is_only_domain = all(address.username.isascii() for address in addresses)
    if not is_only_domain or all(address.domain.isascii() for address in addresses):
        return ""

    return _written(
        [
            Address(address.display_name, username=address.username, domain=in_ascii(address.domain))
            for address in addresses
        ]
    )


def _with_encoded_names(name: str, value: object, *, utf8: bool) -> str:
    """Return the value of an address field with encoded names, or `""` if the field has to stay as it is."""
    addresses = _parse_addresses(name, value)
    if not addresses or _has_octets(value):
        return ""
    if isinstance(value, Header) and _parse_addresses(name, value.encode(maxlinelen=0)) == addresses:
        return ""  # only the names are encoded words
    if utf8:
        # A policy without UTF-8 sends surrogates as the octets that they stand for.
        return ", ".join(map(str, addresses)).encode().decode("ascii", "surrogateescape")

    return _written(addresses)


def _parse_addresses(name: str, value: object) -> Sequence[Address]:
    """Return the addresses of a field, or none if the field is malformed or has groups."""
    try:
        # The parser turns octets beyond ASCII into surrogates.
        text = str(value).encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError:
        return ()

    field = default.header_factory(name, text.replace("\r", "").replace("\n", ""))
    is_valid = all(isinstance(defect, NonASCIILocalPartDefect) for defect in field.defects)
    assert isinstance(field, AddressHeader), "each of the fields has addresses"
    is_plain = all(group.display_name is None for group in field.groups)
    return field.addresses if is_valid and is_plain else ()


def _written(addresses: Sequence[Address]) -> str:
    # `formataddr` writes a name beyond ASCII as encoded words.
    return ", ".join(formataddr((address.display_name, address.addr_spec)) for address in addresses)


def _without_bcc(message: AnyMessage) -> AnyMessage:
    # RFC 5322 3.6.3: the other recipients must not see the addresses in Bcc.
    stripped = copy(message)
    del stripped["Bcc"]
    del stripped["Resent-Bcc"]
    return stripped


def _as_bytes(message: AnyMessage, *, eight_bit: bool, utf8: bool) -> bytes:
    policy = message.policy.clone(linesep="\r\n", cte_type="8bit" if eight_bit else "7bit")
    if isinstance(policy, EmailPolicy):
        policy = policy.clone(utf8=utf8, refold_source="none")
    else:
        policy = policy.clone(max_line_length=_MAX_LINE)  # shorter lines stay as they are

    return message.as_bytes(policy=policy)


_MAX_LINE = 998  # RFC 5322 2.1.1


# Conversion


def _needs_conversion(part: AnyMessage, *, eight_bit: bool) -> bool:
    if not eight_bit and any(_has_octets(text) for text in _texts_around(part)):
        return True

    data = _payload_of(part) if not part.is_multipart() else b""
    is_broken = b"\0" in data or (_encoding_of(part) == "binary" and _find_bare_newline(data) is not None)
    return is_broken or not (eight_bit or data.isascii())


_find_bare_newline = re.compile(rb"\r(?!\n)|(?<!\r)\n").search


def _texts_around(part: AnyMessage) -> Iterator[object]:
    """Yield the texts of `part` that have no transfer encoding: preamble, epilogue and the values of fields."""
    yield from (part.preamble, part.epilogue)
    yield from (value for _, value in part.raw_items())


def _has_octets(text: object) -> bool:
    """Return whether a parsed text had octets beyond ASCII, which the parser turns into surrogates."""
    return isinstance(text, str) and _find_surrogate(text) is not None


_find_surrogate = re.compile("[\udc80-\udcff]").search


def _payload_of(part: AnyMessage) -> bytes:
    # `get_payload` would decode the octets from the charset of the part, and so lose some octets.
    text = vars(part)["_payload"]
    return text.encode("ascii", "surrogateescape") if isinstance(text, str) else b""


def _encoding_of(part: AnyMessage) -> str:
    return str(part.get("Content-Transfer-Encoding", "7bit")).strip().lower()


def _convert(part: AnyMessage, *, eight_bit: bool, is_whole: bool) -> None:
    """Convert `part` in place. `is_whole` says whether `part` is a whole message, and not a part of a multipart."""
    if not any(_needs_conversion(each, eight_bit=eight_bit) for each in part.walk()):
        return
    kind = part.get_content_type()
    if _is_signed(part):
        raise Inconvertible("a conversion would break a signature")  # RFC 1847 2.1
    if kind.startswith("message/") and kind != "message/rfc822":
        raise Inconvertible(f"octets beyond ASCII in {kind[:40]}")  # RFC 2046 section 5.2
    if not eight_bit:
        _check_texts_around(part)

    encoding = _encoding_of(part)
    if encoding not in _IDENTITY:
        raise Inconvertible(f"octets beyond ASCII in the encoding {encoding[:40]!r}")
    if part.is_multipart():
        for each in part.get_payload():
            assert isinstance(each, Message), "a part with parts has a list of messages"
            _convert(each, eight_bit=eight_bit, is_whole=part.get_content_type() == "message/rfc822")
        if not eight_bit and "Content-Transfer-Encoding" in part:
            part.replace_header("Content-Transfer-Encoding", "7bit")
        return

    _encode(part, _payload_of(part))
    if is_whole and "MIME-Version" not in part:
        part["MIME-Version"] = "1.0"


def _is_signed(part: AnyMessage) -> bool:
    return part.get_content_type() == "multipart/signed" or any(field in part for field in _SIGNATURES)


_IDENTITY = frozenset({"7bit", "8bit", "binary"})
_SIGNATURES = ("DKIM-Signature", "ARC-Message-Signature", "DomainKey-Signature")


def _check_texts_around(part: AnyMessage) -> None:
    for text in (part.preamble, part.epilogue):
        if _has_octets(text):
            raise Inconvertible("octets beyond ASCII in the text around the parts")

    for name, value in part.raw_items():
        # The policy writes a field without structure as an encoded word (RFC 2047), which keeps the octets.
        if _has_octets(value) and not (name.lower() in _UNSTRUCTURED or name.lower().startswith("x-")):
            raise Inconvertible(f"octets beyond ASCII in {name}")


_UNSTRUCTURED = frozenset({"subject", "comments", "content-description"})


def _encode(part: AnyMessage, data: bytes) -> None:
    if data.isascii() and b"\0" not in data:
        return  # the octets beyond ASCII are all in the fields
    if part.get_content_maintype() == "multipart":
        raise Inconvertible("octets beyond ASCII in a multipart without a valid boundary")
    if "Content-Type" not in part:
        part["Content-Type"] = 'text/plain; charset="unknown-8bit"'  # RFC 1428

    encoding, encoded = "base64", encodebytes(data)
    if part.get_content_maintype() == "text" and _encoding_of(part) != "binary":
        data = _sub_line_end(b"\r\n", data)
        quoted = binascii.b2a_qp(data.replace(b"\r\n", b"\n"))
        # Text with few octets beyond ASCII stays readable.
        is_exact = binascii.a2b_qp(quoted).replace(b"\n", b"\r\n") == data
        is_short = len(quoted) <= len(data) * 3 // 2
        encoding, encoded = ("quoted-printable", quoted) if is_exact and is_short else ("base64", encodebytes(data))

    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(encoded.decode("ascii"))


_sub_line_end = re.compile(rb"\r\n|\r|\n").sub
