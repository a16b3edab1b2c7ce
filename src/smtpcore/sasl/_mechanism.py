"""Base classes of the mechanisms, which run an exchange step by step."""

# A mechanism is written as a generator: it yields the messages of its own side and receives the messages of the peer.
# The classes in this module run the generator. These classes also check the rules that all mechanisms share: the order
# of calls, the length of messages, and that a peer's message can only cause documented errors.

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, ClassVar, NoReturn, TypeAlias

from .._errors import LocalProtocolError, RemoteProtocolError
from .._fields import check_argument
from ._context import DEFAULT_POLICY, PLAINTEXT, Channel, Credentials, Policy
from ._steps import Accepted, Answer, Challenge, CheckAuthorization, Outcome, Question, Reason, Rejected, Step

MAX_MESSAGE = 12288 // 4 * 3  # RFC 4954 section 4: 12288 octets of base64 suffice for every mechanism
MAX_NAME = 1024  # RFC 4616 section 2 requires at least 255 octets; 1024 allows 255 characters of four octets

Exchange: TypeAlias = Generator[Challenge | Question, Any, Outcome]
"""The server's part of an exchange: it yields challenges and questions, and returns the outcome."""
Responses: TypeAlias = Generator[bytes | None, bytes, bytes]
"""The client's part of an exchange: it yields responses, and returns the last response."""


class Refusal(Exception):
    """An exchange raises this to end as `Rejected` with `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason
        """The reason of the refusal."""


class ServerMechanism(ABC):
    """The server's end of one exchange.

    Call `start`, then act on each returned step: send a `Challenge` to the client and pass its response to `respond`.
    Pass your answer to a question to `answer`, which may take any time. `Accepted` or `Rejected` ends the exchange. If
    the client cancels, discard the object. The three methods raise `LocalProtocolError` when called out of turn. These
    methods raise no other error for any message of the client.
    """

    def __init__(self, name: str, channel: Channel = PLAINTEXT, policy: Policy = DEFAULT_POLICY) -> None:
        check_argument("name", name, str)
        check_argument("channel", channel, Channel)
        check_argument("policy", policy, Policy)
        self.name = name
        """The name of the mechanism, in upper case."""
        self.channel = channel
        """The properties of the connection."""
        self.policy = policy
        """The settings of the server."""
        self.claimed: str | None = None
        """The user name that the client gave, as received, for logs; None before. SASLprep may have refused it."""
        self._exchange: Exchange | None = None
        self._step: Step | None = None

    def start(self, initial_response: bytes | None = None) -> Step:
        """Begin the exchange. `b""` is an empty initial response, None means that the client sent none."""
        if self._exchange:
            raise LocalProtocolError(f"this exchange of {self.name} has begun: make another object for the next one")

        self._exchange = self.exchange(initial_response)
        return self._receive(initial_response, None)

    def respond(self, response: bytes) -> Step:
        """Continue with the client's response to the last challenge."""
        if not isinstance(self._step, Challenge):
            raise LocalProtocolError(f"no challenge of {self.name} waits for a response")

        return self._receive(response, response)

    def answer(self, answer: Answer) -> Step:
        """Continue with your answer to the last question. None as the answer to any question refuses the client."""
        question = self._step
        if question is None or isinstance(question, Challenge | Accepted | Rejected):
            raise LocalProtocolError(f"no question of {self.name} waits for an answer")

        question.check_answer(answer)
        return self._continue(answer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # For the authors of mechanisms

    @abstractmethod
    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Run the exchange: yield challenges and questions, receive responses and answers, return the outcome.

        The generator may raise `Refusal`.
        """

    def prepare(self, text: str) -> str:
        """Prepare a name or a password with `Policy.prepare`. Raises `Refusal`."""
        try:
            prepared = self.policy.prepare(text)
        except ValueError:
            raise Refusal(Reason.INVALID_CREDENTIALS) from None

        # RFC 4616 section 2, RFC 4954 section 4: a text that is empty after preparation is also refused.
        if not prepared:
            raise Refusal(Reason.INVALID_CREDENTIALS)

        return prepared

    def prepare_username(self, text: str) -> str:
        """Store `text` as `claimed`, and prepare it. Raises `Refusal`."""
        self.claimed = text
        return self.prepare(text)

    def authorize(self, identity: str, requested: str | None) -> Exchange:
        """Accept `identity` if it may act as `requested`."""
        if requested is None or requested == identity:
            return Accepted(identity, identity)

        may_act: bool | None = yield CheckAuthorization(identity, requested)
        return Accepted(identity, requested) if may_act else Rejected(Reason.NOT_AUTHORIZED)

    # Running the generator

    def _receive(self, message: bytes | None, sent: bytes | None) -> Step:
        if message is not None and len(message) > MAX_MESSAGE:
            self._step = Rejected(Reason.MALFORMED)
            return self._step

        return self._continue(sent)

    def _continue(self, sent: object) -> Step:
        assert self._exchange
        try:
            self._step = self._exchange.send(sent)
        except StopIteration as end:
            self._step = end.value
        except Refusal as refusal:
            self._step = Rejected(refusal.reason)

        assert self._step
        return self._step


def first_response(initial_response: bytes | None) -> Generator[Challenge, bytes, bytes]:
    """Return the first message of a client that speaks first. Without an initial response, send an empty challenge."""
    if initial_response is not None:
        return initial_response

    return (yield Challenge(b""))  # RFC 4954 section 4


def decode(message: bytes, limit: int = MAX_MESSAGE) -> str:
    """Decode a message, or a part of a message, from UTF-8. Raises `Refusal`."""
    if len(message) > limit:
        raise Refusal(Reason.MALFORMED)

    try:
        return message.decode()
    except UnicodeDecodeError:
        raise Refusal(Reason.MALFORMED) from None


class ClientMechanism(ABC):
    """The client's end of one exchange.

    Send the result of `initial()` with the command, unless it is None. Answer each challenge with the result of
    `respond`. Call `finish` when the server reports success. If one of these calls raises, cancel the exchange and do
    not trust the server. If the initial response is too long for the command line, send it in answer to the server's
    first, empty challenge. Or do not call `initial()`: `respond` then returns the initial response for that challenge.

    Raises `LocalProtocolError` for credentials that the mechanism cannot use.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """The fields of `Credentials` that the mechanism requires."""
    can_act_for_others: ClassVar[bool] = False
    """Whether the mechanism can send `Credentials.authorization`."""

    def __init__(self, name: str, credentials: Credentials, channel: Channel = PLAINTEXT) -> None:
        check_argument("name", name, str)
        check_argument("credentials", credentials, Credentials)
        check_argument("channel", channel, Channel)
        if not self.is_enough(credentials):
            needed = " and ".join(self.needs) or "nothing"
            beside = "" if self.can_act_for_others else ", and cannot act for others"
            raise LocalProtocolError(f"{name} needs {needed}{beside}: these credentials do not suit it")

        self.name = name
        """The name of the mechanism, in upper case."""
        self.credentials = credentials
        """The credentials of the user."""
        self.channel = channel
        """The properties of the connection."""
        self.error: str | None = None
        """The reason for the server's refusal, as one word; None if the mechanism transmits no reason."""
        self._exchange = self.exchange()
        self._has_begun = False
        self._has_ended = False
        self._is_broken = False

    @classmethod
    def is_enough(cls, credentials: Credentials) -> bool:
        """Return whether the mechanism can use all of `credentials`, and needs no others."""
        if credentials.authorization is not None and not cls.can_act_for_others:
            return False

        return all(getattr(credentials, need) is not None for need in cls.needs)

    @property
    def done(self) -> bool:
        """Whether the server may report success now, because it proved everything that the mechanism requires."""
        return self._has_ended and not self._is_broken and self.error is None

    def initial(self) -> bytes | None:
        """Return the initial response, or None if the server speaks first."""
        if self._has_begun:
            raise LocalProtocolError(f"this exchange of {self.name} has begun: make another object for the next one")

        self._has_begun = True
        return self._continue(None)

    def respond(self, challenge: bytes) -> bytes:
        """Return the response to a challenge. Raises `RemoteProtocolError` for a challenge that is out of place."""
        if self._is_broken:
            raise LocalProtocolError(f"this exchange of {self.name} failed: cancel it")
        if len(challenge) > MAX_MESSAGE:
            self.distrust(f"sent a challenge of {len(challenge)} octets")

        if not self._has_begun:
            first = self.initial()
            if first is not None and challenge:
                self.distrust("began with a challenge, where the client speaks first")
            if first is not None:
                return first

        if self._has_ended:
            return self.respond_after_last(challenge)

        response = self._continue(challenge)
        assert response is not None
        return response

    def finish(self) -> None:
        """Confirm the server's report of success. Raises `RemoteProtocolError` if the server skipped a step."""
        if not self.done:
            self.distrust("reported success before the exchange was complete: it may be an impostor")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # For the authors of mechanisms

    @abstractmethod
    def exchange(self) -> Responses:
        """Run the exchange: yield responses and receive challenges. If the server speaks first, yield None first.

        The return value is the last response. The generator may call `distrust`.
        """

    def respond_after_last(self, challenge: bytes) -> bytes:
        """Return the response to a challenge that comes after the last response."""
        self.distrust("sent a challenge after the last one")

    def distrust(self, what: str) -> NoReturn:
        """Raise `RemoteProtocolError` for the server's action `what`. The exchange cannot continue afterwards."""
        self._is_broken = True
        raise RemoteProtocolError(f"the server {what} ({self.name})")

    # Running the generator

    def _continue(self, challenge: bytes | None) -> bytes | None:
        try:
            return self._exchange.send(challenge)  # type: ignore[arg-type]  # None starts the generator
        except StopIteration as end:
            self._has_ended = True
            response: bytes = end.value
            return response
        except Exception:
            self._is_broken = True
            raise
