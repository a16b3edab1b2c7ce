"""An exchange, taken step by step."""

# A mechanism is a dialogue, and is written down as one: a generator that yields what its own side says, and receives
# what comes back. The classes here step it, and see to what all mechanisms have in common: whose turn it is, how long
# a message may be, and that nothing a peer sends raises anything but what is documented.

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, ClassVar, NoReturn, TypeAlias

from .._errors import LocalProtocolError, RemoteProtocolError
from ._context import DEFAULT_POLICY, PLAINTEXT, Channel, Credentials, Policy
from ._steps import Accepted, Answer, Challenge, CheckAuthorization, Outcome, Question, Reason, Rejected, Step

MAX_MESSAGE = 12288 // 4 * 3  # RFC 4954 section 4: 12288 octets of base64 suffice for every mechanism
MAX_NAME = 1024  # RFC 4616 section 2: at least 255 octets; more than 255 characters of four octets each helps no one

Exchange: TypeAlias = Generator[Challenge | Question, Any, Outcome]
Dialogue: TypeAlias = Generator[bytes | None, bytes, bytes]


class Refusal(Exception):
    """Raised in an exchange, it ends as `Rejected` with that reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


class ServerMechanism(ABC):
    """A server's end of one exchange.

    Call `start`, then do what the step says: send a `Challenge` and call `respond` with the response; answer a question
    with `answer`, at any time; `Accepted` and `Rejected` are the end. If the client cancels, drop the object.
    Each of the three raises `LocalProtocolError` out of turn, and nothing else whatever the client sends.
    """

    def __init__(self, name: str, channel: Channel = PLAINTEXT, policy: Policy = DEFAULT_POLICY) -> None:
        self.name = name
        """The name of the mechanism, in upper case."""
        self.channel = channel
        self.policy = policy
        self._exchange: Exchange | None = None
        self._step: Step | None = None

    def start(self, initial_response: bytes | None = None) -> Step:
        """Begin. An initial response that is present, but empty, is `b""`; None means that there was none."""
        if self._exchange:
            raise LocalProtocolError(f"this exchange of {self.name} has begun: make another object for the next one")

        self._exchange = self.exchange(initial_response)
        return self._hear(initial_response, None)

    def respond(self, response: bytes) -> Step:
        """Go on with what the client answered to the last challenge."""
        if not isinstance(self._step, Challenge):
            raise LocalProtocolError(f"no challenge of {self.name} waits for a response")

        return self._hear(response, response)

    def answer(self, answer: Answer) -> Step:
        """Go on with the answer to the last question. None refuses, whatever the question was."""
        question = self._step
        if question is None or isinstance(question, Challenge | Accepted | Rejected):
            raise LocalProtocolError(f"no question of {self.name} waits for an answer")

        question.check_answer(answer)
        return self._go_on(answer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # For those who write mechanisms

    @abstractmethod
    def exchange(self, initial_response: bytes | None) -> Exchange:
        """The dialogue: yields challenges and questions, receives responses and answers, returns the outcome.

        It may raise `Refusal`.
        """

    def prepare(self, text: str) -> str:
        """Prepare a name or a password. Raises `Refusal`."""
        try:
            prepared = self.policy.prepare(text)
        except ValueError:
            raise Refusal(Reason.INVALID_CREDENTIALS) from None

        # RFC 4616 section 2, RFC 4954 section 4: nor may nothing be left of it.
        if not prepared:
            raise Refusal(Reason.INVALID_CREDENTIALS)

        return prepared

    def authorize(self, identity: str, requested: str | None) -> Exchange:
        """Accept `identity`, provided that it may act as `requested`."""
        if requested is None or requested == identity:
            return Accepted(identity, identity)

        may_act: bool | None = yield CheckAuthorization(identity, requested)
        return Accepted(identity, requested) if may_act else Rejected(Reason.NOT_AUTHORIZED)

    # Stepping

    def _hear(self, message: bytes | None, sent: bytes | None) -> Step:
        if message is not None and len(message) > MAX_MESSAGE:
            self._step = Rejected(Reason.MALFORMED)
            return self._step

        return self._go_on(sent)

    def _go_on(self, sent: object) -> Step:
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
    """The first message of a client that speaks first, asked for if it did not come with the command."""
    if initial_response is not None:
        return initial_response

    return (yield Challenge(b""))  # RFC 4954 section 4


def decode(message: bytes, limit: int = MAX_MESSAGE) -> str:
    """A message, or a part of one, as text. Raises `Refusal`."""
    if len(message) > limit:
        raise Refusal(Reason.MALFORMED)

    try:
        return message.decode()
    except UnicodeDecodeError:
        raise Refusal(Reason.MALFORMED) from None


class ClientMechanism(ABC):
    """A client's end of one exchange.

    Send `initial()` along with the command if it is not None, answer every challenge with what `respond` returns, and
    call `finish` when the server reports success. If one of them raises, cancel the exchange, and do not trust that
    server. Where an initial response is too long for the command, keep it: the server asks for it with an empty
    challenge. Or leave out `initial()`; then `respond` returns it for that challenge.

    Raises `LocalProtocolError` for credentials that the mechanism cannot use.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    """The fields of `Credentials` without which the mechanism does not work."""
    can_act_for_others: ClassVar[bool] = False
    """Whether it can carry `Credentials.authorization`."""

    def __init__(self, name: str, credentials: Credentials, channel: Channel = PLAINTEXT) -> None:
        if not self.is_enough(credentials):
            needed = " and ".join(self.needs) or "nothing"
            beside = "" if self.can_act_for_others else ", and cannot act for others"
            raise LocalProtocolError(f"{name} needs {needed}{beside}: these credentials do not suit it")

        self.name = name
        """The name of the mechanism, in upper case."""
        self.credentials = credentials
        self.channel = channel
        self.error: str | None = None
        """Why the server refuses, in a word, if the mechanism has a way to say so."""
        self._dialogue = self.dialogue()
        self._has_begun = False
        self._has_ended = False
        self._is_broken = False

    @classmethod
    def is_enough(cls, credentials: Credentials) -> bool:
        """Whether these credentials have what the mechanism needs, and it can say all that they ask for."""
        if credentials.authorization is not None and not cls.can_act_for_others:
            return False

        return all(getattr(credentials, need) is not None for need in cls.needs)

    @property
    def done(self) -> bool:
        """Whether the server may report success now. What it had to prove, it proved."""
        return self._has_ended and not self._is_broken and self.error is None

    def initial(self) -> bytes | None:
        """The initial response; None if the server speaks first."""
        if self._has_begun:
            raise LocalProtocolError(f"this exchange of {self.name} has begun: make another object for the next one")

        self._has_begun = True
        return self._go_on(None)

    def respond(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises `RemoteProtocolError` for one that no honest server sends."""
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
            return self.hear_more(challenge)

        response = self._go_on(challenge)
        assert response is not None
        return response

    def finish(self) -> None:
        """Believe the server's report of success. Raises `RemoteProtocolError` if it comes too early to be true."""
        if not self.done:
            self.distrust("reported success before the exchange was over: it may be an impostor")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # For those who write mechanisms

    @abstractmethod
    def dialogue(self) -> Dialogue:
        """The dialogue: yields responses, the first of them None if the server speaks first, receives challenges.

        What it returns is the last response. It may call `distrust`.
        """

    def hear_more(self, challenge: bytes) -> bytes:
        """The response to a challenge after the last response."""
        self.distrust("sent a challenge after the last one")

    def distrust(self, what: str) -> NoReturn:
        """Raise `RemoteProtocolError`, for what the server did. Nothing makes it trusted again."""
        self._is_broken = True
        raise RemoteProtocolError(f"the server {what} ({self.name})")

    # Stepping

    def _go_on(self, challenge: bytes | None) -> bytes | None:
        try:
            return self._dialogue.send(challenge)  # type: ignore[arg-type]  # None begins it
        except StopIteration as end:
            self._has_ended = True
            response: bytes = end.value
            return response
        except Exception:
            self._is_broken = True
            raise
