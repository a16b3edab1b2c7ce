"""The server's end of AUTH: events of a connection on one side, a mechanism on the other."""

from collections.abc import Iterable

from .._commands import Auth
from .._errors import LocalProtocolError
from .._events import AuthCancel, AuthResponse
from .._fields import check_argument
from .._replies import Challenge as challenge_of  # noqa: N813 - this function is named like a class
from .._replies import Reply
from ._context import DEFAULT_POLICY, PLAINTEXT, Channel, Policy
from ._mechanism import ServerMechanism
from ._steps import Accepted, Answer, Challenge, Outcome, Question, Rejected, Step
from ._table import MECHANISMS, Mechanism, make_server


class ServerExchange:
    """The server's end of AUTH in one session: turns its events into questions to your program, and into replies.

        case Auth() | AuthResponse() | AuthCancel():
            step = exchange.receive(event)
            while not isinstance(step, Reply):
                step = exchange.answer(check(step))  # your answer to a question such as CheckPassword
            conn.answer(event, step)

    The object serves all exchanges of a session, one after the other. Set `channel` again after a TLS handshake.
    """

    def __init__(
        self,
        channel: Channel = PLAINTEXT,
        policy: Policy = DEFAULT_POLICY,
        *,
        mechanisms: Iterable[Mechanism] = MECHANISMS,
    ) -> None:
        check_argument("channel", channel, Channel)
        check_argument("policy", policy, Policy)
        check_argument("mechanisms", mechanisms, Iterable[Mechanism])
        self.channel: Channel = channel
        """The properties of the connection, which apply from the next AUTH command on."""
        self.outcome: Outcome | None = None
        """The outcome of the last exchange; None while an exchange is running, and before the first."""
        self.claimed: str | None = None
        """The user name that the client sent in the last exchange, not yet prepared and not verified; for the log."""
        self._policy = policy
        self._mechanisms = tuple(mechanisms)
        self._mechanism: ServerMechanism | None = None

    @property
    def identity(self) -> str | None:
        """The user that the client acts as, or None if the client is not authenticated."""
        return self.outcome.authorization if isinstance(self.outcome, Accepted) else None

    def receive(self, event: Auth | AuthResponse | AuthCancel) -> Question | Reply:
        """Return the question that the client's message raises, or the reply to `event`.

        Raises `LocalProtocolError` if the mechanism is unknown, or if no AUTH came before a response.
        """
        check_argument("event", event, Auth | AuthResponse | AuthCancel)
        match event:
            case Auth(mechanism=name, initial_response=initial):
                self.outcome = None
                self._mechanism = make_server(name, self.channel, self._policy, mechanisms=self._mechanisms)
                return self._result(self._mechanism.start(initial))
            case AuthResponse(data):
                return self._result(self._running.respond(data))
            case _:
                self._mechanism = None
                return Reply(501, "Authentication cancelled", enhanced="5.7.0")

    def answer(self, answer: Answer) -> Question | Reply:
        """Continue with your answer to the last question. None refuses the client, whatever the question is."""
        return self._result(self._running.answer(answer))

    @property
    def _running(self) -> ServerMechanism:
        if self._mechanism is None:
            raise LocalProtocolError("no exchange is running: pass the event Auth to receive first")

        return self._mechanism

    def _result(self, step: Step) -> Question | Reply:
        self.claimed = self._running.claimed
        match step:
            case Challenge(data):
                return challenge_of(data)
            case Accepted():
                self.outcome, self._mechanism = step, None
                return Reply(235, "Welcome", enhanced="2.7.0")
            case Rejected(reason):
                self.outcome, self._mechanism = step, None
                # RFC 4954 section 6: the reply does not reveal the reason, for example that the user is unknown.
                text = "Authentication failed" if reason.code == 535 else "Malformed authentication"
                return Reply(reason.code, text, enhanced=reason.enhanced)
            case _:
                return step
