"""EXTERNAL: use the identity that the channel provides (RFC 4422 appendix A)."""

from ._mechanism import MAX_NAME, ClientMechanism, Exchange, Refusal, Responses, ServerMechanism, decode, first_response
from ._steps import CheckIdentity, Reason


class ExternalServer(ServerMechanism):
    """The server's end of EXTERNAL. Your program answers `CheckIdentity`.

    Without an external identity of the channel the client is rejected.
    """

    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Run the exchange of RFC 4422 A.1."""
        message = decode((yield from first_response(initial_response)), MAX_NAME)
        if "\0" in message:
            raise Refusal(Reason.MALFORMED)
        if self.channel.external is None:
            raise Refusal(Reason.INVALID_CREDENTIALS)

        requested = self.prepare(message) if message else None
        identity: str | None = yield CheckIdentity(self.channel.external, requested)
        if not identity:
            raise Refusal(Reason.INVALID_CREDENTIALS)

        return (yield from self.authorize(identity, requested))


class ExternalClient(ClientMechanism):
    """The client's end of EXTERNAL."""

    can_act_for_others = True

    def exchange(self) -> Responses:
        """Run the exchange of RFC 4422 A.1."""
        yield from ()  # the exchange has a single message
        return (self.credentials.authorization or "").encode()
