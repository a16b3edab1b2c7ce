"""The results of a TLS handshake."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLContext, SSLError, SSLObject, TLSVersion, VerifyMode, cert_time_to_seconds
from typing import Any
from weakref import WeakKeyDictionary

from smtpcore.sasl import ChannelBinding

from ._channel_binding import bindings_of, subject_of


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of the peer that was verified with the authorities of the context."""

    der: bytes = field(repr=False)
    """The X.509 certificate in DER, for other libraries."""
    fields: Mapping[str, Any] = field(hash=False, compare=False, repr=False)
    """The fields of the certificate, as `ssl.SSLSocket.getpeercert` returns them."""

    @property
    def subject(self) -> dict[str, str]:
        """The attributes of the subject's name, such as `"commonName"`."""
        return {key: value for part in self.fields.get("subject", ()) for key, value in part}

    @property
    def alternative_names(self) -> tuple[tuple[str, str], ...]:
        """Other names of the subject, each with its kind: `("DNS", "mx.example.org")`, `("email", "a@example.org")`."""
        return tuple(self.fields.get("subjectAltName", ()))


@dataclass(frozen=True, slots=True)
class Tls:
    """The results of a TLS handshake."""

    version: str
    """The protocol version, such as `"TLSv1.3"`."""
    cipher: str
    """The cipher suite, such as `"TLS_AES_256_GCM_SHA384"`."""
    server_name: str | None = None
    """The server name that the client asked for (RFC 6066 section 3), None if the client sent no name."""
    peer_certificate: Certificate | None = None
    """The peer's verified certificate; None if the peer sent no certificate, or it was not verified."""
    subject: str | None = None
    """The subject of `peer_certificate`, such as `"CN=tim,O=Example"` (RFC 4514)."""
    bindings: tuple[ChannelBinding, ...] = ()
    """The channel bindings for SASL (RFC 5056): one for the server's certificate. A server has a binding if its
    `SSLContext` is one of `smtpcore_adapters.tls`."""

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


def describe_tls(connection: SSLObject) -> Tls:
    """Return the results of the handshake of `connection`.

    Raises `ssl.SSLError` if a server must refuse the connection although OpenSSL has completed the handshake.
    """
    cipher = connection.cipher()
    certificate = _certificate(connection)
    if connection.server_side:
        _check_client(connection, certificate)
    return Tls(
        version=connection.version() or "TLS",
        cipher=cipher[0] if cipher else "unknown",
        server_name=connection.server_hostname or _asked_for.get(connection),
        peer_certificate=certificate,
        subject=subject_of(connection) if certificate else None,
        bindings=bindings_of(connection),
    )


def _check_client(connection: SSLObject, certificate: Certificate | None) -> None:
    # When a server switches to another context for the requested name, OpenSSL uses only the certificate of that
    # context, and ignores its minimum version and its demand for a client certificate.
    context = connection.context
    version = TLSVersion[(connection.version() or "TLSv1").replace(".", "_")]
    if version < context.minimum_version:
        raise SSLError(f"the client has negotiated {connection.version()}, which is too old for this server name")
    if context.verify_mode is VerifyMode.CERT_REQUIRED and not certificate:
        raise SSLError("the client has sent no certificate, which this server name requires")
    # OpenSSL verifies a certificate only in the first handshake of a TLS session.
    if certificate and connection.session_reused and cert_time_to_seconds(certificate.fields["notAfter"]) < time.time():
        raise SSLError("the client has resumed a session, but its certificate has expired")


def forbid_unsafe_tickets(context: SSLContext) -> None:
    """Make a server issue no session tickets of TLS 1.3 if it asks for client certificates.

    Raises `ValueError` if the context is not for servers only, because Python then cannot turn tickets off.
    """
    # A session can be resumed with another server name than that of its first handshake. Its certificate would not be
    # verified again, although the context for the new name may trust other authorities. In TLS 1.2 a session keeps its
    # name.
    if context.verify_mode is VerifyMode.CERT_NONE or not context.num_tickets:
        return

    try:
        context.num_tickets = 0
    except ValueError as exc:
        raise ValueError("client certificates need a context with ssl.PROTOCOL_TLS_SERVER") from exc


def _certificate(connection: SSLObject) -> Certificate | None:
    try:
        fields = connection.getpeercert()
        der = connection.getpeercert(binary_form=True)
    except ValueError:
        return None  # there was no handshake yet

    return Certificate(der, fields) if der and fields else None  # a certificate without fields was not verified


# The server names (SNI) that clients asked for: OpenSSL reports them only during the handshake.
_asked_for: WeakKeyDictionary[SSLObject, str] = WeakKeyDictionary()


def note_server_names(context: SSLContext) -> None:
    """Record the server names that clients ask for, for `describe_tls`. The context's own `sni_callback` still runs."""
    callback = context.sni_callback
    if not isinstance(callback, _Noting):
        context.sni_callback = _Noting(callback)


class _Noting:
    """A `sni_callback` that records the name, and then calls another callback."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback

    def __call__(self, connection: SSLObject, name: str | None, context: SSLContext) -> int | None:
        if name:
            _asked_for[connection] = name

        result: int | None = self._callback(connection, name, context) if self._callback else None
        return result
