"""Addresses in the notation of the header, such as `Tim <tim@example.org>, ann@example.org`."""

# `email.utils.getaddresses` takes `a@example.com <b@example.com>` as two addresses, so `email.headerregistry` parses
# every text here.

from email.headerregistry import AddressHeader
from email.policy import default

from smtpcore import LocalProtocolError, Path


def parse_field(name: str, value: str) -> tuple[list[str], list[str]]:
    """Return the addresses in the value of an address field, such as `To`, and its defects. The value is one line."""
    field = default.header_factory(name, value)
    defects = [str(defect) for defect in field.defects]
    assert isinstance(field, AddressHeader), "each of the fields has addresses"
    return [address.addr_spec for address in field.addresses], defects


def parse_paths(text: str) -> list[Path]:
    """Return the paths for an address, or for a list of addresses with or without names.

    Raises:
        LocalProtocolError: the text is neither of these.
    """
    try:
        return [Path(text)]
    except LocalProtocolError:
        if not text.isprintable():
            raise
        found = _parse_list(text)
        if not found:
            raise

    return [Path(address) for address in found]


def _parse_list(text: str) -> list[str]:
    """Return the addresses of a list, or an empty list if the text is malformed."""
    try:
        found, defects = parse_field("To", text)
    except Exception:  # the parser raises several exceptions for malformed addresses
        return []

    return [] if defects or not all("@" in each for each in found) else found
