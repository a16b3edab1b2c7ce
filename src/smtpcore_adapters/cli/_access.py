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
from ..streams._stream import is_loopback
from ..users import Users
from ._password import ask
from ._sources import Settings, Source
from ._user_file import read_user_file

_INSTEAD = "set SMTPCORE_AUTH to USER:PASSWORD, or use --users and smtpcore user add"
FOR_HASHES = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
"""The mechanisms that work for users with hashed passwords."""
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")
"""The mechanisms that work for users with passwords."""


# Users


class ServerUsers(Users):
    """The users of the file of the setting `users`, and of the setting `auth`."""

    def __init__(self, passwords: Mapping[str, str], path: Path | None, keys: Mapping[str, ScramKeys]) -> None:
        super().__init__({**passwords, **keys})
        self._passwords_of_settings = passwords
        self.path = path
        """The file of the setting `users`, or None without this setting."""

    def reload(self) -> None:
        """Read the file again. Raises `OSError` and `ValueError`; the users are unchanged then."""
        if self.path:
            self.replace({**self._passwords_of_settings, **read_user_file(self.path)})


def read_users(settings: Settings) -> tuple[ServerUsers | None, tuple[str, ...]]:
    """Return the users of the server and the mechanisms that work for all of them; None if there are no users."""
    path = Path(settings["users"]) if settings["users"] else None
    keys = _read_file(settings, path) if path else {}
    passwords = _passwords(settings)
    both = sorted(passwords.keys() & keys)
    if both:
        raise settings.error("{auth} and {users} have the same user {user}: remove one of them", user=both[0])
    if not passwords and not path:
        return None, ()

    try:
        return ServerUsers(passwords, path, keys), FOR_HASHES if path else MECHANISMS
    except ValueError as exc:
        raise settings.error("{auth}: {reason}", reason=exc) from exc


def _read_file(settings: Settings, path: Path) -> dict[str, ScramKeys]:
    try:
        return read_user_file(path)
    except OSError as exc:
        reason = f"cannot read {path}: {exc.strerror or exc}"
        raise settings.error("{users}: {reason}", reason=reason) from exc
    except ValueError as exc:
        raise settings.error("{users}: {path}, {reason}", path=path, reason=exc) from None


def _passwords(settings: Settings) -> dict[str, str]:
    """Return the users of the setting `auth`, whose errors never quote an entry, because it may have a password."""
    entries = settings["auth"]
    if settings.values["auth"].source is Source.OPTION:
        if any(":" in entry for entry in entries):
            raise settings.error(f"{{auth}} takes the USER only, as the process list shows options: {_INSTEAD}")

        entries = [f"{entry}:{_ask_for(settings, entry)}" for entry in entries]

    passwords = dict(entry.split(":", 1) for entry in entries if ":" in entry)
    if len(passwords) < len(entries) or "" in passwords or "" in passwords.values():
        raise settings.error("{auth} needs USER:PASSWORD, and each user only once")

    return passwords


def _ask_for(settings: Settings, user: str) -> str:
    password = ask(user)
    if password is None:
        raise settings.error(f"{{auth}} needs a terminal to ask for the password: {_INSTEAD}")

    return password


# Recipients


_EVERYONE = ("0.0.0.0/0", "::/0")


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
    everyone = _EVERYONE if isinstance(_place_of(listener), tuple) else ("unix",)
    for network in settings["trusted"]:
        if network in everyone and (reason := _reach_of(listener)):
            # Even with users or `accept`, a client that names a login by XCLIENT may send to any recipient.
            text = "{trusted}: with {network}, strangers could claim a login by XCLIENT, because {reason}: name proxies"
            raise settings.error(text, network=network, reason=reason)
    if settings["accept"]:
        try:
            return Recipients(settings["accept"])
        except ValueError as exc:
            raise settings.error("{accept}: {reason}", reason=exc) from exc

    strangers = error_of_strangers(settings, listener) if is_open else None
    if strangers and not has_users:
        raise strangers

    return AnyRecipient() if is_open and not strangers else None


def error_of_strangers(settings: Settings, listener: Listener) -> click.UsageError | None:
    """Return an error that says how strangers can reach the listener; None if they cannot."""
    advice = "restrict the recipients with {accept}, or the senders with {users}"
    for name in ("proxy_protocol", "trusted"):
        if settings[name]:
            return settings.error(f"{{{name}}} admits clients from other machines: {advice}")

    reason = _reach_of(listener)
    return settings.error(f"{{reason}}: {advice}", reason=reason) if reason else None


def _reach_of(listener: Listener) -> str:
    """Return the reason why strangers can connect to the address of a listener; empty if they cannot."""
    place = _place_of(listener)
    if isinstance(place, tuple):
        host = str(place[0])
        return "" if is_loopback(host) else f"{host} is not a loopback address"

    path = os.fsdecode(place) if isinstance(place, bytes) else str(place)
    is_for_all = (listener.mode if listener.path else _mode_of(path)) & stat.S_IWOTH
    return f"every user of this machine can connect to the Unix socket {path!r}" if is_for_all else ""


def _place_of(listener: Listener) -> Any:
    """Return the address of a listener as a tuple, or the path of its Unix socket."""
    return listener.bound.getsockname() if listener.bound else listener.path or (listener.host or "::", listener.port)


def _mode_of(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return stat.S_IRWXO  # a socket in the abstract namespace has no permissions
