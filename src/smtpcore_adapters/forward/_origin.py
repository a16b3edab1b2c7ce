"""The client of a session, as `Forward` describes it to the next server: with XCLIENT, XFORWARD or a PROXY header."""

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from smtpcore import Ehlo, Lhlo, Reply, encode_xtext
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader

from ..client._client import Client
from ..client._results import Refused
from ..server._received import address_of_peer
from ..server._session import Session
from ..streams._stream import Address

_MAX_NAME = 255  # RFC 5321 4.5.3.1.2

Facts = Mapping[str, str | None]
"""The attributes of XCLIENT or XFORWARD by name. An unknown value is None."""


def client_facts(session: Session[Any]) -> Facts:
    """Return the attributes of XCLIENT, which describe the session's current client for the next server's access rules.

    NAME is known only if a trusted peer has sent this attribute with XCLIENT.
    """
    return {
        "NAME": session.xclient.get("NAME"),
        "ADDR": _postfix_address(session.peer),
        "PORT": str(session.peer.port) if session.peer and session.peer.port else None,
        "PROTO": "ESMTP" if isinstance(session.helo, Ehlo | Lhlo) else "SMTP",
        "HELO": _fitting(session.helo.domain) if session.helo else None,
        "LOGIN": session.identity,
        "DESTADDR": _postfix_address(session.local),
        "DESTPORT": str(session.local.port) if session.local and session.local.port else None,
    }


def message_facts(session: Session[Any]) -> Facts:
    """Return the attributes of XFORWARD, which describe the origin of the next message for the next server's log.

    If a trusted peer has sent XFORWARD, its attributes are passed on. Attributes that the peer left out are unknown:
    the session's own client is this peer, and not the origin of the message.
    """
    own = client_facts(session)
    told = session.forwarded
    return {**(dict.fromkeys(own) if told else own), "IDENT": session.id, "SOURCE": "REMOTE", **told}


async def tell(
    client: Client, keyword: str, send: Callable[[Mapping[str, str | None]], Awaitable[Reply]], facts: Facts
) -> None:
    """Send those attributes of `facts` that the next server offers for `keyword`.

    `keyword` is XCLIENT or XFORWARD, and `send` sends this command. Raise `Refused` if the server does not offer or
    accept it.
    """
    offered = client.extensions.get(keyword)
    attributes = {name: value for name, value in facts.items() if isinstance(offered, tuple) and name in offered}
    if not attributes:
        raise Refused(f"the next server does not offer {keyword}")

    reply = await send(attributes)
    if not reply.is_positive:
        raise Refused(f"the next server refuses {keyword}", reply)


def proxy_header(session: Session[Any]) -> ProxyHeader:
    """Return the PROXY header for the current client; a LOCAL header for a client without an IP address."""
    source, destination = address_of_peer(session.peer), address_of_peer(session.local)
    if not (source and destination and session.peer and session.local):
        return ProxyHeader(ProxyCommand.LOCAL)
    if source.version != destination.version:  # a proxy may send an IPv4 and an IPv6 address
        source, destination = _mapped(source), _mapped(destination)

    return ProxyHeader(
        ProxyCommand.PROXY,
        source=Endpoint(source, session.peer.port),
        destination=Endpoint(destination, session.local.port),
    )


def _fitting(name: str) -> str | None:
    # A name that is not a domain may be too long for a command line with the other attributes.
    return name if len(encode_xtext(name)) <= _MAX_NAME else None


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _postfix_address(end: Address | None) -> str | None:
    address = address_of_peer(end)
    return None if address is None else f"{'IPV6:' if address.version == 6 else ''}{address}"
