"""What a trusted peer says of the client that it speaks for (Postfix XCLIENT_README)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from smtpcore import Ehlo, Helo, LocalProtocolError

from ..streams._stream import Address


@dataclass(frozen=True, slots=True)
class XclientAttributes:
    """The attributes of all XCLIENT commands so far."""

    attributes: Mapping[str, str | None] = field(default_factory=dict)
    """What was claimed; None for what the peer does not know either."""

    def __bool__(self) -> bool:
        return bool(self.attributes)

    def updated(self, attributes: Mapping[str, str | None]) -> "XclientAttributes":
        """These claims, and those of a further command, which come to replace them."""
        return XclientAttributes({**self.attributes, **attributes})

    @property
    def login(self) -> str | None:
        """Who the client has proved to be."""
        return self.attributes.get("LOGIN") or None

    @property
    def helo(self) -> Helo | Ehlo | None:
        """How the client had named itself, if it had done so in a valid way."""
        kind = Helo if (self.attributes.get("PROTO") or "").upper() == "SMTP" else Ehlo
        try:
            return kind(self.attributes.get("HELO") or "")
        except LocalProtocolError:
            return None

    def peer(self, actual: Address | None) -> Address | None:
        """The client's address, `actual` where nothing was said of it."""
        return self._address("ADDR", "PORT", actual)

    def local(self, actual: Address | None) -> Address | None:
        """The address that the client connected to, `actual` where nothing was said of it."""
        return self._address("DESTADDR", "DESTPORT", actual)

    def _address(self, name: str, port: str, actual: Address | None) -> Address | None:
        if name not in self.attributes:
            return actual

        text = self.attributes[name]
        if text is None:
            return None

        host = ip_address(text[len("IPV6:") :] if text[: len("IPV6:")].upper() == "IPV6:" else text)
        return Address(str(host), int(self.attributes.get(port) or 0))


NO_XCLIENT = XclientAttributes()
