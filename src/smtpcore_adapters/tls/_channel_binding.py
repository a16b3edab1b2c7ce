"""What SASL takes from the TLS channel under it: what an exchange is bound to, and whom a certificate names."""

# RFC 5929 section 4: `tls-server-end-point` is a hash of the server's certificate. Python tells neither end which
# certificate the server has shown, so the context remembers what it was given. `tls-exporter` (RFC 9266) is beyond what
# Python's `ssl` can do, and `tls-unique` is not safe where a session was resumed (RFC 7677 section 4).

import hashlib
import re
import ssl
from pathlib import Path
from typing import Any

from smtpcore.sasl import ChannelBinding

_find_pem = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL).search

# RFC 5929 4.1: MD5 and SHA-1 are replaced by SHA-256.
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
    """An `SSLContext` of a server that knows its certificate."""

    binding: ChannelBinding | None = None
    """What SCRAM can bind to; None without a certificate, with several, and with one whose signature has no hash."""
    _loaded: int = 0

    def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        """Load a certificate and its key, as `ssl.SSLContext` does."""
        super().load_cert_chain(certfile, keyfile, password)
        self._loaded += 1
        pem = _find_pem(Path(certfile).read_text("utf-8", "replace"))
        # Where there are several certificates, which one was shown is not known.
        self.binding = end_point_binding(ssl.PEM_cert_to_DER_cert(pem[0])) if pem and self._loaded == 1 else None


def bindings_of(connection: ssl.SSLObject | ssl.SSLSocket) -> tuple[ChannelBinding, ...]:
    """What an end of a TLS connection can be bound to: the certificate that the server has shown."""
    if not connection.server_side:
        certificate = connection.getpeercert(binary_form=True) if connection.version() else None  # no handshake yet
        binding = end_point_binding(certificate) if certificate else None
        return (binding,) if binding else ()

    context = connection.context
    return (context.binding,) if isinstance(context, ServerContext) and context.binding else ()


def subject_of(connection: ssl.SSLObject | ssl.SSLSocket) -> str | None:
    """Whom the verified certificate of the other end names, as RFC 4514 writes it; None without one."""
    # Python gives nothing of a certificate that was not verified.
    names: tuple[tuple[tuple[str, str], ...], ...] = (connection.getpeercert() or {}).get("subject", ())  # type: ignore[assignment]
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
"""RFC 4514 section 3."""


def end_point_binding(certificate: bytes) -> ChannelBinding | None:
    """The binding `tls-server-end-point` of a certificate in DER; None where RFC 5929 4.1 leaves it undefined."""
    name = _HASH_OF_SIGNATURE.get(_signature_algorithm(certificate))
    return ChannelBinding("tls-server-end-point", hashlib.new(name, certificate).digest()) if name else None


def _signature_algorithm(certificate: bytes) -> str:
    # RFC 5280 4.1: Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, ... }, signature }
    start, _ = _contents(certificate, 0)
    _, algorithm = _contents(certificate, start)
    oid, _ = _contents(certificate, algorithm)
    start, end = _contents(certificate, oid)
    return _dotted(certificate[start:end])


def _contents(der: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the value at `at` start and end (X.690 8.1)."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size

    return start, start + length


def _dotted(oid: bytes) -> str:
    # X.690 8.19: the first octet has two numbers, the others seven bits each.
    numbers = [oid[0] // 40, oid[0] % 40]
    number = 0
    for octet in oid[1:]:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0

    return ".".join(map(str, numbers))
