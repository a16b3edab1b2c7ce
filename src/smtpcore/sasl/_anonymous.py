"""ANONYMOUS: log in without an identity (RFC 4505)."""

from typing import ClassVar

from .._errors import LocalProtocolError
from ._context import PLAINTEXT, Channel, Credentials
from ._mechanism import ClientMechanism, Exchange, Refusal, Responses, ServerMechanism, decode, first_response
from ._steps import Accepted, CheckAnonymous, Reason, Rejected
from ._stringprep import check_trace

MAX_TRACE = 255  # RFC 4505 section 2, in characters

ANONYMOUS_IDENTITY = "anonymous"
"""The identity in `Accepted`. Other mechanisms should not accept a user of this name."""


class AnonymousServer(ServerMechanism):
    """The server's end of ANONYMOUS. Your program answers `CheckAnonymous`."""

    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Run the exchange of RFC 4505 section 2."""
        trace = decode((yield from first_response(initial_response)))
        if not _is_trace(trace):
            raise Refusal(Reason.MALFORMED)

        is_welcome: bool | None = yield CheckAnonymous(trace)
        if not is_welcome:
            return Rejected(Reason.INVALID_CREDENTIALS)

        return Accepted(ANONYMOUS_IDENTITY, ANONYMOUS_IDENTITY)


class AnonymousClient(ClientMechanism):
    """The client's end of ANONYMOUS."""

    needs: ClassVar[tuple[str, ...]] = ("trace",)

    def __init__(self, name: str, credentials: Credentials, channel: Channel = PLAINTEXT) -> None:
        super().__init__(name, credentials, channel)
        self._trace = credentials.trace or ""
        if not _is_trace(self._trace):
            raise LocalProtocolError(f"a trace has at most {MAX_TRACE} characters, and no control characters")

    def exchange(self) -> Responses:
        """Run the exchange of RFC 4505 section 2."""
        yield from ()  # the exchange has a single message
        return self._trace.encode()


def _is_trace(text: str) -> bool:
    if len(text) > MAX_TRACE:
        return False

    try:
        check_trace(text)
    except ValueError:
        return False
    else:
        return True
