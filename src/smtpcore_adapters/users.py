"""Authentication of users from a list of names and passwords."""

from collections.abc import Mapping

from smtpcore import Rcpt, Reply
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


class Users:
    """Authenticates users with PLAIN, LOGIN, CRAM-MD5 and SCRAM. Authenticated users may send to every recipient.

    Passwords are kept in memory in clear text. Use this for tests, or for a few users.
    """

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = dict(passwords)
        self._keys: dict[tuple[str, str], ScramKeys] = {}

    async def on_auth(self, session: Session, question: Question) -> Answer:
        """Answer a question of a SASL mechanism about a user."""
        if isinstance(question, CheckPassword):
            return question.matches(self._passwords.get(question.username))
        if isinstance(question, GivePassword):
            return self._passwords.get(question.username)
        if isinstance(question, GiveScramKeys):
            return await session.run_blocking(self._scram_keys, question.username, question.hash_name)

        return None  # users may not act as other users, and other mechanisms are refused

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply | None:
        """Accept every recipient from an authenticated client. Return None for other clients."""
        return Reply(250, "Recipient accepted", enhanced="2.1.5") if session.identity else None

    def _scram_keys(self, username: str, hash_name: str) -> ScramKeys | None:
        password = self._passwords.get(username)
        if password is None:
            return None

        # The salt is chosen once, because a client may cache the keys that it derived with the salt.
        key = username, hash_name
        if key not in self._keys:
            self._keys[key] = scram_keys(password, hash_name=hash_name)

        return self._keys[key]

    def __repr__(self) -> str:
        return f"Users({sorted(self._passwords)})"
