"""Escaping of names in messages that are split at commas (RFC 5801 section 4, RFC 5802 section 7)."""

SASLNAME = r"(?:[^\x00=,]|=2C|=3D)+"


def escape(name: str) -> str:
    """Return a name in escaped form."""
    return name.replace("=", "=3D").replace(",", "=2C")


def unescape(text: str) -> str:
    """Return the name from its escaped form, which matches `SASLNAME`."""
    return text.replace("=2C", ",").replace("=3D", "=")
