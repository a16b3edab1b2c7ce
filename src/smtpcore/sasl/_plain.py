"""The mechanisms that send the password itself: PLAIN (RFC 4616) and LOGIN."""

# LOGIN was never standardized (draft-murchison-sasl-login). The server asks for the name and then for the password.
# Clients ignore the wording of these prompts, and many clients send the name with the command.

from typing import ClassVar

from ._mechanism import MAX_NAME, ClientMechanism, Exchange, Refusal, Responses, ServerMechanism, decode, first_response
from ._steps import Challenge, CheckPassword, Reason, Rejected


class PlainServer(ServerMechanism):
    """The server's end of PLAIN. Your program answers `CheckPassword`."""

    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Run the exchange of RFC 4616 section 2."""
        message = yield from first_response(initial_response)
        parts = message.split(b"\0")
        if len(parts) != 3:
            raise Refusal(Reason.MALFORMED)

        authzid, authcid, passwd = [decode(part, MAX_NAME) for part in parts]
        username, password = self.prepare_username(authcid), self.prepare(passwd)
        requested = self.prepare(authzid) if authzid else None
        is_right: bool | None = yield CheckPassword(username, password)
        if not is_right:
            return Rejected(Reason.INVALID_CREDENTIALS)

        return (yield from self.authorize(username, requested))


class PlainClient(ClientMechanism):
    """The client's end of PLAIN."""

    needs: ClassVar[tuple[str, ...]] = ("username", "password")
    can_act_for_others = True

    def exchange(self) -> Responses:
        """Run the exchange of RFC 4616 section 2. The text is not prepared, because the server does that."""
        credentials = self.credentials
        yield from ()  # the exchange has a single message
        return f"{credentials.authorization or ''}\0{credentials.username}\0{credentials.password}".encode()


class LoginServer(ServerMechanism):
    """The server's end of LOGIN. Your program answers `CheckPassword`."""

    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Ask for the name, then for the password."""
        name = initial_response
        if name is None:
            name = yield Challenge(b"Username:")

        username = self.prepare_username(decode(name, MAX_NAME))
        password = yield Challenge(b"Password:")
        is_right: bool | None = yield CheckPassword(username, self.prepare(decode(password, MAX_NAME)))
        if not is_right:
            return Rejected(Reason.INVALID_CREDENTIALS)

        return (yield from self.authorize(username, None))


class LoginClient(ClientMechanism):
    """The client's end of LOGIN."""

    needs: ClassVar[tuple[str, ...]] = ("username", "password")

    def exchange(self) -> Responses:
        """Send the name, then the password, without looking at the texts of the server's prompts."""
        assert self.credentials.username
        assert self.credentials.password
        yield None
        yield self.credentials.username.encode()
        return self.credentials.password.encode()
