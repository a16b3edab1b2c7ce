"""The `Received:` field of a message that a session receives."""

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from smtpcore.trace import received

from ..streams._stream import Address
from ._message import Message
from ._session import Session


def received_by(session: Session[Any], message: Message) -> bytes:
    """Return the `Received:` field for `message`, with the current time and a final CR LF (RFC 5321 4.4)."""
    paths = message.forward_paths
    params = message.transaction.mail.params
    return received(
        helo=session.helo,
        peer=address_of_peer(session.peer),
        by=session.config.hostname,
        date=datetime.now(UTC).astimezone(),
        id=message.id,
        tls=str(session.tls) if session.tls else None,
        authenticated=session.identity is not None,
        smtputf8=params.smtputf8,
        recipient=paths[0] if len(paths) == 1 else None,
        priority=message.transaction.priority if "MT-PRIORITY" in params else None,
    )


def address_of_peer(peer: Address | None) -> IPv4Address | IPv6Address | None:
    """Return the IP address of a client, or None for a client of a Unix socket."""
    try:
        return ip_address(peer.host if peer else "")
    except ValueError:
        return None
