"""Authentication of users from a list of names and passwords."""

import logging
from collections.abc import Mapping

from smtpcore import LocalProtocolError, Rcpt, Reply
from smtpcore.sasl import (
    Answer,
    CheckPassword,
    GivePassword,
    GiveScramKeys,
    Question,
    ScramKeys,
    scram_keys,
)

from .server._session import Session

_logger = logging.getLogger("smtpcore")

_HASHES = ("SHA-1", "SHA-256")
"""The hashes of the SCRAM mechanisms."""


class Users:
    """Authenticates users with PLAIN, LOGIN, CRAM-MD5 and SCRAM. Authenticated users may send to every recipient.

    Passwords are kept in memory in clear text. Use this class for tests, or for a few users: at the start, deriving the
    SCRAM keys of a user takes about 3 ms of CPU time.
    """

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = dict(passwords)
        # All keys are derived here, because a slow first answer about a user would show that the user exists. The salt
        # of a user stays the same, because a client may cache keys that were derived with this salt.
        self._keys: dict[tuple[str, str], ScramKeys] = {}
        for name, password in self._passwords.items():
            try:
                self._keys |= {(name, hash_name): scram_keys(password, hash_name=hash_name) for hash_name in _HASHES}
            except LocalProtocolError as exc:
                _logger.warning("the user %s cannot log in with SCRAM: %s", name, exc)

    async def on_auth(self, session: Session, question: Question) -> Answer:
        """Answer a question of a SASL mechanism about a user."""
        if isinstance(question, CheckPassword):
            return question.matches(self._passwords.get(question.username))
        if isinstance(question, GivePassword):
            return self._passwords.get(question.username)
        if isinstance(question, GiveScramKeys):
            return self._keys.get((question.username, question.hash_name))

        return None  # users may not act as other users, and other mechanisms are refused

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply | None:
        """Accept every recipient from an authenticated client. Return None for other clients."""
        return Reply(250, "Recipient accepted", enhanced="2.1.5") if session.identity else None

    def __repr__(self) -> str:
        return f"Users({sorted(self._passwords)})"
