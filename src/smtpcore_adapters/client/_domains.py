"""Domains in the form that a server without SMTPUTF8 takes, and the name of the client in EHLO."""

import platform
import re
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

from smtpcore import ClientConfig, LocalProtocolError, Path, Rcpt

from ..streams._stream import Address


class NotInAscii(LocalProtocolError):
    """The domain has no form in ASCII, or the package that converts it is missing."""


def in_ascii(domain: str) -> str:
    """Return a domain with its labels as A-labels (RFC 5890 2.3.2.1).

    Raises:
        NotInAscii: the domain is not valid, or has characters beyond ASCII and `idna` is not installed.
    """
    if domain.isascii():
        return domain

    try:
        # Not Python's own codec, which knows only IDNA 2003: in IDNA 2008 `straße` and `strasse` are different domains.
        import idna
    except ImportError:
        raise NotInAscii(f"the domain {domain!a} needs A-labels here: pip install 'smtpcore[idna]'") from None

    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError as exc:
        raise NotInAscii(f"{domain!a} is not a domain: {str(exc)!a}") from exc


def path_in_ascii(path: Path) -> Path:
    """Return a path with its domain as A-labels. A path whose local part is beyond ASCII is returned unchanged.

    Raises:
        NotInAscii: as `in_ascii`.
    """
    local_part, at, domain = path.text.rpartition("@")
    return path if path.text.isascii() or not local_part.isascii() else Path(local_part + at + in_ascii(domain))


def rcpt_in_ascii(rcpt: Rcpt) -> Rcpt:
    """Return a recipient with its domain as A-labels, as `path_in_ascii` does."""
    return rcpt if rcpt.forward_path.text.isascii() else replace(rcpt, forward_path=path_in_ascii(rcpt.forward_path))


def host_in_ascii(host: str) -> str:
    """Return the host to connect to with A-labels, or unchanged if this is not possible: the resolver then decides."""
    with suppress(NotInAscii):
        return in_ascii(host)

    return host


def ehlo_name(given: str | None, local: Address | None) -> str:
    """Return the name of the client for EHLO: `given`, or the name or the address of this machine for None.

    RFC 5321 4.1.3: an IP address is a literal in brackets, and an IPv6 address also has a prefix.
    """
    if given:
        return _literal(given) or in_ascii(given.removesuffix("."))

    # RFC 5321 4.1.4: the fully qualified domain of this host, or its address literal if the host has no domain.
    # Many servers refuse an address without brackets, and many refuse names such as `localhost.localdomain`.
    name = platform.node().removesuffix(".")
    top_level = name.rpartition(".")[2]
    if "." in name and not top_level.isdigit() and top_level != "localdomain":
        with suppress(LocalProtocolError):  # not a domain, such as "my_host.local"
            return ClientConfig(hostname=name).hostname

    return _literal(local.host if local else "") or "localhost"


def _literal(text: str) -> str:
    """Return the address literal for an IP address in one of the forms that people write, or `""`."""
    inside = _sub_literal("", text).partition("%")[0]  # a zone has a meaning only on this machine
    try:
        address = ip_address(inside)
    except ValueError:
        return ""

    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # servers refuse `[IPv6:::ffff:192.0.2.1]`
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


_sub_literal = re.compile(r"^\[?(?:IPv6:)?|\]$", re.IGNORECASE).sub
