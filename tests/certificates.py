"""TLS contexts of clients, for servers with certificates that a test has made."""

import ssl

import trustme


def context_trusting(*authorities: trustme.CA) -> ssl.SSLContext:
    """Return a context that trusts these authorities only: reading those of the system takes longer than a session."""
    return ssl.create_default_context(cadata="".join(each.cert_pem.bytes().decode() for each in authorities))
