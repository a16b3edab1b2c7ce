"""Authenticate users from a list of names and passwords."""

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
    """Answers the questions of PLAIN, LOGIN, CRAM-MD5 and SCRAM, and lets who is authenticated send to everyone.

    The passwords are held in memory as they are: for tests, and for a handful of users.
    """

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = dict(passwords)
        self._keys: dict[tuple[str, str], ScramKeys] = {}

    async def on_auth(self, session: Session, question: Question) -> Answer:
        """Answer a question about a user."""
        if isinstance(question, CheckPassword):
            return question.matches(self._passwords.get(question.username))
        if isinstance(question, GivePassword):
            return self._passwords.get(question.username)
        if isinstance(question, GiveScramKeys):
            return await session.run_blocking(self._scram_keys, question.username, question.hash_name)

        return None  # no one may act as someone else

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply | None:
        """Accept every recipient from an authenticated client; others are for other handlers to decide."""
        return Reply(250, "Recipient accepted", enhanced="2.1.5") if session.identity else None

    def _scram_keys(self, username: str, hash_name: str) -> ScramKeys | None:
        password = self._passwords.get(username)
        if password is None:
            return None

        # The salt is drawn once, since a client may remember what it has derived from it.
        key = username, hash_name
        if key not in self._keys:
            self._keys[key] = scram_keys(password, hash_name=hash_name)

        return self._keys[key]

    def __repr__(self) -> str:
        return f"Users({sorted(self._passwords)})"
