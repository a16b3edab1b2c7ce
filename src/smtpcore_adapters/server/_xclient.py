"""The client attributes that a trusted peer sends with XCLIENT (Postfix XCLIENT_README)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from smtpcore import Ehlo, Helo, LocalProtocolError

from ..streams._stream import Address


@dataclass(frozen=True, slots=True)
class XclientAttributes:
    """The attributes of all XCLIENT commands so far."""

    attributes: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """The attributes by name; None for a value that the peer does not know."""

    def __bool__(self) -> bool:
        return bool(self.attributes)

    def updated(self, attributes: Mapping[str, str | None]) -> "XclientAttributes":
        """Return these attributes, updated with the attributes of a further command.

        Another ADDR means another client, so the attributes of the first client are dropped then.
        """
        kept = dict(self.attributes)
        if "ADDR" in kept and attributes.get("ADDR", kept["ADDR"]) != kept["ADDR"]:
            kept = {name: value for name, value in kept.items() if name not in _OF_CLIENT}

        return XclientAttributes({**kept, **attributes})

    @property
    def login(self) -> str | None:
        """The name of the authenticated user."""
        return self.attributes.get("LOGIN") or None

    @property
    def helo(self) -> Helo | Ehlo | None:
        """The client's HELO or EHLO, if its name is printable."""
        kind = Helo if (self.attributes.get("PROTO") or "").upper() == "SMTP" else Ehlo
        try:
            return kind(self.attributes.get("HELO") or "")
        except LocalProtocolError:
            return None

    def peer(self, actual: Address | None) -> Address | None:
        """Return the client's address, or `actual` if no command contained an address."""
        return self._address("ADDR", "PORT", actual)

    def local(self, actual: Address | None) -> Address | None:
        """Return the address that the client connected to, or `actual` if no command contained this address."""
        return self._address("DESTADDR", "DESTPORT", actual)

    def _address(self, name: str, port: str, actual: Address | None) -> Address | None:
        if name not in self.attributes:
            return actual

        text = self.attributes[name]
        if text is None:
            return None

        host = ip_address(text[len("IPV6:") :] if text[: len("IPV6:")].upper() == "IPV6:" else text)
        return Address(str(host), int(self.attributes.get(port) or 0))


_OF_CLIENT = frozenset({"NAME", "PORT", "PROTO", "HELO", "LOGIN"})
"""Attributes that describe the client at ADDR, so a later XCLIENT with another ADDR drops them."""

NO_XCLIENT = XclientAttributes()
