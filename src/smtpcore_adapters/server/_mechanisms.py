"""SASL mechanisms of a program's own, as coroutine functions."""

from collections.abc import Awaitable, Callable

from smtpcore import Auth


class AuthAborted(Exception):
    """The client has ended an exchange of a mechanism of your own: by a cancellation, or with its connection."""


class MechanismExchange:
    """An exchange between one client and a mechanism of your own: see `App.mechanism`."""

    def __init__(self, auth: Auth, ask: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._ask = ask

        self.mechanism: str = auth.mechanism
        """The name of the mechanism, in upper case."""
        self.initial_response: bytes | None = auth.initial_response
        """The initial response of the client, decoded from base64; None if the client sent none."""
        self.claimed: str | None = None
        """The user name that the client has sent, for the log of a failed login. Your function may set this."""

    async def challenge(self, data: bytes) -> bytes:
        """Send a challenge to the client, and return the client's response. `data` and the result are not in base64.

        Raises `AuthAborted` if the client cancels, or sends no valid response. The client then has a reply already, and
        the result of your function is ignored.
        """
        return await self._ask(data)
