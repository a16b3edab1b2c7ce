"""Authentication of users from a list of names and passwords."""

import logging
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from secrets import token_bytes
from typing import Any

from smtpcore import LocalProtocolError, Rcpt, Reply
from smtpcore.sasl import (
    Answer,
    CheckPassword,
    GivePassword,
    GiveScramKeys,
    Question,
    ScramKeys,
    saslprep,
    scram_keys,
)

from .server._session import Session

_logger = logging.getLogger("smtpcore")

_HASHES = ("SHA-1", "SHA-256")
"""The hashes of the SCRAM mechanisms."""
_STORED = "SHA-256"
"""The hash of `hash_password`."""
_match_hash = re.compile(rf"SCRAM-{_STORED}\$([1-9][0-9]{{0,8}}):([^$:]+)\$([^$:]+):([^$:]+)").fullmatch


def hash_password(password: str) -> str:
    """Return a text to store instead of a password: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.

    The text has a new salt each time. PostgreSQL stores the same text. Raises `LocalProtocolError` for a password that
    SASLprep prohibits.
    """
    keys = scram_keys(password, hash_name=_STORED)
    salt, stored, server = (b64encode(each).decode() for each in (keys.salt, keys.stored_key, keys.server_key))
    return f"SCRAM-{_STORED}${keys.iterations}:{salt}${stored}:{server}"


def parse_hash(text: str) -> ScramKeys:
    """Return the keys in a text of `hash_password`. Raises `ValueError`, without the text, for any other text."""
    match = _match_hash(text)
    try:
        if match:
            salt, stored, server = (b64decode(each, validate=True) for each in match.groups()[1:])
            if len(stored) == _KEY_SIZE:
                return ScramKeys(salt, int(match[1]), stored, server)
    except (ValueError, LocalProtocolError):  # not base64 or not ASCII; keys that SCRAM excludes
        pass

    raise ValueError(f"a hashed password has the form SCRAM-{_STORED}$iterations:salt$StoredKey:ServerKey")


_KEY_SIZE = 32  # octets of SHA-256


class Users:
    """Authenticates users with PLAIN, LOGIN, CRAM-MD5 and SCRAM. Authenticated users may send to every recipient.

    `passwords` has a password or the keys of `parse_hash` for each user. A user whose password is hashed can log in
    with PLAIN, LOGIN and SCRAM-SHA-256 only. Passwords are kept in memory as given. Use this for tests, or for a few
    users: the keys for SCRAM take about 3 ms of CPU time for each user at the start.

    Names are compared as SASLprep prepares them (RFC 4013), as the names that clients send are. Two users who have the
    same prepared name are a `ValueError`.

    For a relay, include `recipients.RelayPolicy(Users(...))` in place of `Users(...)`, so that later handlers such as
    `Forward` decide about each recipient.
    """

    def __init__(self, passwords: Mapping[str, str | ScramKeys]) -> None:
        self.replace(passwords)

    def replace(self, passwords: Mapping[str, str | ScramKeys]) -> None:
        """Replace all users, also for the sessions that exist. Users who are logged in stay logged in.

        Raises `ValueError` if two names are the same for SASLprep; the users are unchanged then.
        """
        names = sorted(passwords)
        passwords = _by_prepared_name(passwords)
        self._names = names
        self._passwords = {name: given for name, given in passwords.items() if isinstance(given, str)}
        # All keys are derived here, because a slow first answer about a user would show that the user exists. The salt
        # stays the same, because a client may cache keys that it has derived with it.
        self._keys: dict[tuple[str, str], ScramKeys] = {
            (name, _STORED): given for name, given in passwords.items() if not isinstance(given, str)
        }
        iterations = [keys.iterations for keys in self._keys.values()]
        self._nobody: ScramKeys | None = _random_keys(iterations[0]) if iterations else None
        """Keys to compare the password of an unknown user with. None if no password is hashed."""
        for name, password in self._passwords.items():
            try:
                self._keys |= {(name, hash_name): scram_keys(password, hash_name=hash_name) for hash_name in _HASHES}
            except LocalProtocolError as exc:
                _logger.warning("the user %s cannot log in with SCRAM: %s", name, exc)

    async def on_auth(self, session: Session[Any], question: Question) -> Answer:
        """Answer a question of a SASL mechanism about a user."""
        if isinstance(question, CheckPassword):
            if self._nobody:
                # The password of an unknown user is hashed too, because the time must not show who exists.
                keys = self._keys.get((question.username, _STORED), self._nobody)
                if await session.run_blocking(question.matches, keys):
                    return True

            return question.matches(self._passwords.get(question.username))
        if isinstance(question, GivePassword):
            return self._passwords.get(question.username)
        if isinstance(question, GiveScramKeys):
            return self._keys.get((question.username, question.hash_name))

        return None  # users may not act as other users, and other mechanisms are refused

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply | None:
        """Accept every recipient from an authenticated client. Return None for other clients."""
        return Reply(250, "Recipient accepted", enhanced="2.1.5") if session.identity else None

    def __repr__(self) -> str:
        return f"Users({self._names})"


def _by_prepared_name(passwords: Mapping[str, str | ScramKeys]) -> Mapping[str, str | ScramKeys]:
    found: dict[str, str | ScramKeys] = {}
    for name, given in passwords.items():
        try:
            prepared = saslprep(name)
        except ValueError as exc:
            _logger.warning("the user %s cannot log in: SASLprep prohibits this name: %s", name, exc)
            continue
        if prepared in found:
            raise ValueError(f"two users have the name {prepared!r} after SASLprep (RFC 4013): remove one of them")
        found[prepared] = given

    return found


def _random_keys(iterations: int) -> ScramKeys:
    return ScramKeys(token_bytes(16), iterations, token_bytes(_KEY_SIZE), token_bytes(_KEY_SIZE))
