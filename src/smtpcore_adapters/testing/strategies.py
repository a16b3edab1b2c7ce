"""Hypothesis strategies for commands, replies, bodies and sessions, for fuzzing clients and servers.

The package hypothesis is needed: `pip install 'smtpcore[testing]'`.
"""

# All strategies draw values of `smtpcore`, which are valid, or octets built from such values. Only `hostile_lines`,
# `hostile_bodies`, and with `valid=False` also `proxy_headers`, `steps` and `sessions`, draw mistakes: typical mistakes
# of real clients, because servers would reject random octets too early.

from .._extras import from_extra
from .steps import stuffed

with from_extra("testing"):
    from ._session_strategies import (
        FALSE_ENDS,
        MISTAKES,
        OFFERS,
        hostile_bodies,
        hostile_lines,
        proxy_headers,
        sessions,
        steps,
    )
    from ._value_strategies import (
        bodies,
        commands,
        domains,
        mail_params,
        mailboxes,
        paths,
        rcpt_params,
        replies,
        segments,
    )

__all__ = [
    "FALSE_ENDS",
    "MISTAKES",
    "OFFERS",
    "bodies",
    "commands",
    "domains",
    "hostile_bodies",
    "hostile_lines",
    "mail_params",
    "mailboxes",
    "paths",
    "proxy_headers",
    "rcpt_params",
    "replies",
    "segments",
    "sessions",
    "steps",
    "stuffed",
]
