"""What was agreed upon in a TLS handshake."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLContext, SSLObject
from typing import Any
from weakref import WeakKeyDictionary

from smtpcore.sasl import ChannelBinding

from ._channel_binding import bindings_of, subject_of


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that the peer has shown, and that was checked against the authorities of the context."""

    der: bytes = field(repr=False)
    """The certificate itself (X.509), for libraries that understand it."""
    fields: Mapping[str, Any] = field(hash=False, compare=False, repr=False)
    """What `ssl.SSLSocket.getpeercert` tells of it."""

    @property
    def subject(self) -> dict[str, str]:
        """Whose it is: the attributes of the name, such as `"commonName"`."""
        return {key: value for part in self.fields.get("subject", ()) for key, value in part}

    @property
    def alternative_names(self) -> tuple[tuple[str, str], ...]:
        """Other names of the same, each with its kind: `("DNS", "mx.example.org")`, `("email", "a@example.org")`."""
        return tuple(self.fields.get("subjectAltName", ()))


@dataclass(frozen=True, slots=True)
class Tls:
    """What was agreed upon in a TLS handshake."""

    version: str
    """Such as `"TLSv1.3"`."""
    cipher: str
    """Such as `"TLS_AES_256_GCM_SHA384"`."""
    server_name: str | None = None
    """Whom the client has asked for (RFC 6066 section 3), None if it has not said so."""
    peer_certificate: Certificate | None = None
    """Who the peer has proved to be, None if it was not asked, had none, or was not checked."""
    subject: str | None = None
    """Whom that certificate names, such as `"CN=tim,O=Example"` (RFC 4514)."""
    bindings: tuple[ChannelBinding, ...] = ()
    """What SASL can bind to (RFC 5056): the server's certificate. A server knows it if its `SSLContext` is one of
    `smtpcore_adapters.tls`."""

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


def describe_tls(connection: SSLObject) -> Tls:
    """What was agreed upon in the handshake of `connection`."""
    cipher = connection.cipher()
    certificate = _certificate(connection)
    return Tls(
        version=connection.version() or "TLS",
        cipher=cipher[0] if cipher else "unknown",
        server_name=connection.server_hostname or _asked_for.get(connection),
        peer_certificate=certificate,
        subject=subject_of(connection) if certificate else None,
        bindings=bindings_of(connection),
    )


def _certificate(connection: SSLObject) -> Certificate | None:
    try:
        fields = connection.getpeercert()
        der = connection.getpeercert(binary_form=True)
    except ValueError:
        return None  # there was no handshake

    return Certificate(der, fields) if der and fields else None  # no fields: no one has checked it


# OpenSSL tells a server the name while it shakes hands, and forgets it.
_asked_for: WeakKeyDictionary[SSLObject, str] = WeakKeyDictionary()


def note_server_names(context: SSLContext) -> None:
    """Let `describe_tls` know the names that clients ask for. A `sni_callback` that the context has is still called."""
    callback = context.sni_callback
    if not isinstance(callback, _Noting):
        context.sni_callback = _Noting(callback)


class _Noting:
    """A `sni_callback` that remembers the name, and then calls another one."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback

    def __call__(self, connection: SSLObject, name: str | None, context: SSLContext) -> int | None:
        if name:
            _asked_for[connection] = name

        result: int | None = self._callback(connection, name, context) if self._callback else None
        return result
