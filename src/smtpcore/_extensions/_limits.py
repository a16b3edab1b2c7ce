"""LIMITS: the limits of a session and of a transaction (RFC 9422)."""

import re
from dataclasses import dataclass

from .._config import Config
from .._fields import Checked
from ._definition import Extension

_MAX_LIMIT = 999_999  # six digits
_match_limit = re.compile(r"[1-9][0-9]{0,5}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits(Checked):
    """The limits that LIMITS announces (RFC 9422). A limit that the server does not announce is None."""

    mail_max: int | None = None
    """The maximum of messages in one session."""
    rcpt_max: int | None = None
    """The maximum of recipients of one message."""
    rcpt_domain_max: int | None = None
    """The maximum of different recipient domains in one session."""


def _announce(config: Config) -> str:
    limits = {
        "MAILMAX": config.max_messages,
        "RCPTMAX": config.max_recipients,
        "RCPTDOMAINMAX": config.max_recipient_domains,
    }
    return " ".join(f"{name}={min(limit, _MAX_LIMIT)}" for name, limit in limits.items() if limit is not None)


def _parse_limits(text: str) -> SessionLimits:
    # A client ignores unknown names. Malformed numbers are ignored in the same way.
    items = (word.upper().partition("=") for word in text.split())
    get = {name: int(value) for name, _, value in items if _match_limit(value)}.get
    return SessionLimits(mail_max=get("MAILMAX"), rcpt_max=get("RCPTMAX"), rcpt_domain_max=get("RCPTDOMAINMAX"))


EXTENSION: Extension = Extension(keyword="LIMITS", arguments=_announce, parse_arguments=_parse_limits)
