"""Access to the server: users, accepted recipients, and the check that strangers cannot relay."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from smtpcore import Rcpt, Reply
from smtpcore.sasl import ScramKeys

from ..recipients import AnyRecipient, RecipientPolicy, Recipients
from ..server._listeners import Listener
from ..server._session import Session
from ..users import Users, parse_hash
from ._destinations import is_loopback
from ._sources import Settings

_HASHED = "SCRAM-SHA-256$"
"""The beginning of a hashed password."""
FOR_HASHES = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
"""The mechanisms that work for users with hashed passwords."""
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")
"""The mechanisms that work for users with passwords."""


# Users


def read_users(settings: Settings) -> tuple[Users | None, tuple[str, ...]]:
    """Return the users of the server and the mechanisms that work for all of them; None if there are no users."""
    entries = [*settings["auth"], *_lines_of(settings)]
    if not entries:
        return None, ()

    users = dict(entry.split(":", 1) for entry in entries if ":" in entry)
    if len(users) < len(entries) or "" in users or "" in users.values():
        # The error does not quote the entry, because the entry may contain a password.
        name = "auth" if settings["auth"] else "auth_file"
        raise settings.error(f"{{{name}}} needs USER:PASSWORD, and each user only once")

    try:
        made = Users({name: _password_of(text) for name, text in users.items()})
    except ValueError as exc:
        raise settings.error("{auth}: {reason}", reason=exc) from exc

    return made, FOR_HASHES if any(text.startswith(_HASHED) for text in users.values()) else MECHANISMS


def _lines_of(settings: Settings) -> list[str]:
    path = settings["auth_file"]
    try:
        return [line for line in Path(path).read_text().splitlines() if line] if path else []
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", exc)
        raise settings.error("{auth_file}: cannot read {path}: {reason}", path=path, reason=reason) from exc


def _password_of(text: str) -> str | ScramKeys:
    return parse_hash(text) if text.startswith(_HASHED) else text


# Recipients


class AcceptedRecipients:
    """Decides about a recipient by the rule of the listener that accepted the connection.

    Without a rule, later handlers decide.
    """

    def __init__(self, rules: Mapping[str, RecipientPolicy]) -> None:
        """Store the rule of each listener, by its name."""
        self._rules = rules

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply | None:
        """Accept or refuse the recipient; return None if the listener has no rule."""
        rule = self._rules.get(session.listener.name) if session.listener else None
        return await rule.on_rcpt(session, rcpt) if rule else None


def rule_of(settings: Settings, listener: Listener, *, has_users: bool, is_open: bool) -> RecipientPolicy | None:
    """Return the rule for clients of a listener that are not logged in; None to leave the decision to other handlers.

    `is_open` is whether a recipient that no rule decides about would be accepted.

    Raises:
        click.UsageError: Strangers could send mail to any recipient.
    """
    if settings["accept"]:
        try:
            return Recipients(settings["accept"])
        except ValueError as exc:
            raise settings.error("{accept}: {reason}", reason=exc) from exc

    strangers = _strangers(settings, listener) if is_open else None
    if strangers and not has_users:
        raise strangers

    return AnyRecipient() if is_open and not strangers else None


def _strangers(settings: Settings, listener: Listener) -> click.UsageError | None:
    """Return an error that says how strangers can reach the listener; None if they cannot."""
    advice = "restrict the recipients with {accept}, or the senders with {auth}"
    for name in ("proxy_protocol", "trusted"):
        if settings[name]:
            return settings.error(f"{{{name}}} admits clients from other machines: {advice}")

    reason = _reach_of(listener)
    return settings.error(f"{{reason}}: {advice}", reason=reason) if reason else None


def _reach_of(listener: Listener) -> str:
    """Return the reason why strangers can connect to the address of a listener; empty if they cannot."""
    place: Any = listener.path or (listener.host or "::", listener.port)
    if listener.bound:
        place = listener.bound.getsockname()
    if isinstance(place, tuple):
        host = str(place[0])
        return "" if is_loopback(host) else f"{host} is not a loopback address"

    path = os.fsdecode(place) if isinstance(place, bytes) else str(place)
    is_for_all = (listener.mode if listener.path else _mode_of(path)) & stat.S_IWOTH
    return f"every user of this machine can connect to the Unix socket {path!r}" if is_for_all else ""


def _mode_of(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return stat.S_IRWXO  # a socket in the abstract namespace has no permissions
