"""Names inside messages that are cut at commas (RFC 5801 section 4, RFC 5802 section 7)."""

SASLNAME = r"(?:[^\x00=,]|=2C|=3D)+"


def escape(name: str) -> str:
    """A name as it is sent."""
    return name.replace("=", "=3D").replace(",", "=2C")


def unescape(text: str) -> str:
    """The name that was sent as `text`, which matches `SASLNAME`."""
    return text.replace("=2C", ",").replace("=3D", "=")
