"""Make the SSL contexts that servers need."""

import ssl
from collections.abc import Iterable
from os import PathLike

from ._binding import ServerContext


def server_context(
    certificate: str | PathLike[str], key: str | PathLike[str], *, client_ca: str | PathLike[str] | None = None
) -> ssl.SSLContext:
    """A context for TLS 1.2 and newer with the certificate chain and the private key in these PEM files.

    With `client_ca`, a PEM file of authorities, clients are asked for a certificate, which they need not have:
    `session.tls.subject` is whom it names, and with the mechanism EXTERNAL they can authenticate with it.

    Raises `OSError` if a file cannot be read, and `ssl.SSLError`, which is one, if it is not what it should be.
    """
    context = _context()
    # A password is never asked for: there may be no one to answer.
    context.load_cert_chain(certificate, key, password=lambda: "")
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL

    return context


def self_signed_context(names: Iterable[str]) -> ssl.SSLContext:
    """A context with a certificate, made up on the spot, for these host names and addresses. For tests only.

    Raises `ImportError` if trustme is not installed.
    """
    import trustme

    context = _context()
    trustme.CA().issue_cert(*names).configure_cert(context)
    return context


def _context() -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
