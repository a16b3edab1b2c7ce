"""The certificates of `smtpcore serve`, with warnings about their dates."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..tls import ServerTls
from ._files import check_regular

_logger = logging.getLogger("smtpcore")

SOON = timedelta(days=7)
"""A certificate that expires within this time is a warning."""


class Certificates(ServerTls):
    """The certificates of a listener. A warning is logged at each load for those that clients refuse now or soon."""

    def __init__(self, certificate: str, key: str, names: Mapping[str, tuple[str, str]]) -> None:
        self._pairs = ((certificate, key), *names.values())
        super().__init__(certificate, key, names=names)

    def reload(self) -> None:
        """Load all files again. Raises `OSError`, and keeps the old certificates then."""
        for file in (file for pair in self._pairs for file in pair):
            check_regular(file)
        super().reload()
        for chain in {chain: None for chain, _ in self._pairs}:
            if warning := date_warning(chain, datetime.now(UTC)):
                _logger.warning("%s", warning)


def date_warning(chain: str, now: datetime) -> str:
    """Return a warning if a certificate in a file has expired, expires soon or is not valid yet; else an empty text."""
    from cryptography import x509  # 40 ms, which only servers with TLS need

    try:
        certificates = x509.load_pem_x509_certificates(Path(chain).read_bytes())
    except (OSError, ValueError):
        return ""  # OpenSSL accepts a few certificates that are malformed for this library

    begin = max(each.not_valid_before_utc for each in certificates)
    end = min(each.not_valid_after_utc for each in certificates)
    if end <= now:
        return f"the certificate {chain} has expired: it was valid until {end:{_FORM}}"
    if begin > now:
        return f"the certificate {chain} is not valid yet: it is valid from {begin:{_FORM}}"
    if end <= now + SOON:
        return f"the certificate {chain} expires soon: it is valid until {end:{_FORM}}"

    return ""


_FORM = "%Y-%m-%d %H:%M UTC"
