"""The data that SASL takes from a TLS connection: channel bindings, and the subject of a certificate."""

# RFC 5929 section 4: the binding `tls-server-end-point` is a hash of the server's certificate. Python does not report
# to a server which certificate it has sent, so `ServerContext` remembers the certificate that was loaded.
#
# RFC 9266: the binding `tls-exporter` is a secret of the TLS session. Python 3.14 cannot export such secrets: its
# `get_channel_binding` knows only `tls-unique`, which is not safe if a session was resumed (RFC 7677 section 4). This
# module asks for `tls-exporter` anyway. So the binding is used when Python supports it, or when the context has a
# subclass of `SSLObject` as its `sslobject_class` whose `get_channel_binding` supports it.

import hashlib
import re
import ssl
from pathlib import Path
from typing import Any

from smtpcore.sasl import ChannelBinding

_find_pem = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL).search

# The keys are OIDs of signature algorithms. RFC 5929 4.1: SHA-256 takes the place of MD5 and SHA-1.
_HASH_OF_SIGNATURE = {
    "1.2.840.113549.1.1.4": "sha256",
    "1.2.840.113549.1.1.5": "sha256",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.10045.4.1": "sha256",
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}


class ServerContext(ssl.SSLContext):
    """An `SSLContext` for servers that remembers its certificate, and can be replaced for later handshakes."""

    successor: ssl.SSLContext | None = None
    """The context that does the handshakes in place of this context.

    OpenSSL keeps the keys of session tickets in the context, so a session that began with one context cannot be resumed
    with another context.
    """

    binding: ChannelBinding | None = None
    """The channel binding for SCRAM. None without a certificate, with several certificates, and if RFC 5929 defines no
    hash for the signature algorithm."""
    _loaded: int = 0

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection over memory BIOs, as `ssl.SSLContext` does."""
        return (
            super().wrap_bio(*args, **options) if not self.successor else self._hand_over().wrap_bio(*args, **options)
        )

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Begin a connection over a socket, as `ssl.SSLContext` does."""
        if not self.successor:
            return super().wrap_socket(*args, **options)

        return self._hand_over().wrap_socket(*args, **options)

    def _hand_over(self) -> ssl.SSLContext:
        assert self.successor
        self.successor.sni_callback = self.sni_callback
        self.successor.sslobject_class = self.sslobject_class
        self.successor.num_tickets = self.num_tickets
        return self.successor

    def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        """Load a certificate and its key, as `ssl.SSLContext` does."""
        super().load_cert_chain(certfile, keyfile, password)
        self._loaded += 1
        pem = _find_pem(Path(certfile).read_text("utf-8", "replace"))
        # With several certificates, it is unknown which of them a handshake uses.
        self.binding = end_point_binding(ssl.PEM_cert_to_DER_cert(pem[0])) if pem and self._loaded == 1 else None


def bindings_of(connection: ssl.SSLObject | ssl.SSLSocket) -> tuple[ChannelBinding, ...]:
    """Return the channel bindings of a TLS connection: `tls-exporter` if supported, then `tls-server-end-point`."""
    return tuple(binding for binding in (_exporter_binding(connection), _certificate_binding(connection)) if binding)


def _exporter_binding(connection: ssl.SSLObject | ssl.SSLSocket) -> ChannelBinding | None:
    if connection.version() != "TLSv1.3":
        return None  # RFC 9266 section 4.2: TLS 1.2 needs an extension that `ssl` does not report

    try:
        data = connection.get_channel_binding("tls-exporter")
    except ValueError:
        return None  # the type is not supported

    return ChannelBinding("tls-exporter", data) if data else None


def _certificate_binding(connection: ssl.SSLObject | ssl.SSLSocket) -> ChannelBinding | None:
    if connection.server_side:
        return connection.context.binding if isinstance(connection.context, ServerContext) else None

    certificate = connection.getpeercert(binary_form=True) if connection.version() else None  # None before TLS
    return end_point_binding(certificate) if certificate else None


def subject_of(connection: ssl.SSLObject | ssl.SSLSocket) -> str | None:
    """Return the subject of the peer's verified certificate in the form of RFC 4514, None without a certificate."""
    # `getpeercert` returns no fields of a certificate that was not verified.
    fields: dict[str, Any] = connection.getpeercert() or {}
    names = fields.get("subject", ())
    relative = ["+".join(f"{_SHORT.get(kind, kind)}={_escape(value)}" for kind, value in name) for name in names]
    return ",".join(reversed(relative)) or None


def _escape(value: str) -> str:
    # RFC 4514 2.4
    return _SPECIAL.sub(r"\\\g<0>", value).replace("\0", r"\00")


_SPECIAL = re.compile(r'[,+"\\<>;]|^[# ]| $')
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""Attribute names of RFC 4514 section 3."""


def end_point_binding(certificate: bytes) -> ChannelBinding | None:
    """Return the binding `tls-server-end-point` of a DER certificate.

    Return None if RFC 5929 4.1 defines no binding, and for a malformed certificate. OpenSSL accepts several malformed
    certificates of peers that it does not verify.
    """
    try:
        name = _HASH_OF_SIGNATURE.get(_signature_algorithm(certificate))
    except ValueError:
        return None

    return ChannelBinding("tls-server-end-point", hashlib.new(name, certificate).digest()) if name else None


def _signature_algorithm(certificate: bytes) -> str:
    # RFC 5280 4.1: Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, ... }, signature }
    start, end = _contents(certificate, 0, len(certificate), _SEQUENCE)
    _, algorithm = _contents(certificate, start, end, _SEQUENCE)
    oid, end = _contents(certificate, algorithm, end, _SEQUENCE)
    start, end = _contents(certificate, oid, end, _OID)
    if not 0 < end - start <= _MAX_OID:
        raise ValueError("the object identifier is empty, or is longer than each known identifier")

    return _dotted(certificate[start:end])


_SEQUENCE, _OID = 0x30, 0x06  # the tags of X.680 8.4
_MAX_OID = 16  # octets; the longest in `_HASH_OF_SIGNATURE` has 9


def _contents(der: bytes, at: int, limit: int, tag: int) -> tuple[int, int]:
    """Return the start and the end of the contents of the DER value at `at` (X.690 8.1).

    Raises `ValueError` if the value has another tag, has no definite length (X.690 10.1), or ends after `limit`.
    """
    if limit - at < 2 or der[at] != tag or der[at + 1] == _INDEFINITE:
        raise ValueError("the certificate is not DER")

    length, start = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    if start + length > limit:
        raise ValueError("the certificate is truncated")

    return start, start + length


_INDEFINITE = 0x80


def _dotted(oid: bytes) -> str:
    # X.690 8.19: the first octet holds two numbers, each further octet seven bits of a number.
    numbers = [oid[0] // 40, oid[0] % 40]
    number = 0
    for octet in oid[1:]:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0

    return ".".join(map(str, numbers))
