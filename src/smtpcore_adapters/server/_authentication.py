"""Run one SASL exchange between a client and the `auth` handlers, or a mechanism of the program's own."""

import logging
from collections.abc import Awaitable, Callable, Iterable

from smtpcore import (
    NEED_DATA,
    Auth,
    AuthCancel,
    AuthResponse,
    Challenge,
    Config,
    Event,
    InvalidCommand,
    LocalProtocolError,
    Reply,
    ReplyClass,
    ReplyCode,
    sasl,
)
from smtpcore.sasl import Accepted, Channel, ChannelBinding, ServerExchange, make_server

from .._printable import printable
from ..tls._info import Tls
from ._admission import Admission
from ._handlers import Handlers
from ._mechanisms import AuthAborted, MechanismExchange
from ._notifications import Decider, Decision
from ._session import SessionRecord
from ._wire import Wire


class AuthExchange:
    """One AUTH command, with the challenges and responses that follow it, up to its last reply."""

    __slots__ = (
        "_admission",
        "_asked",
        "_auth",
        "_dispatch",
        "_failure",
        "_handlers",
        "_is_over",
        "_record",
        "_tried",
        "_wire",
    )

    def __init__(
        self,
        wire: Wire,
        handlers: Handlers,
        admission: Admission,
        record: SessionRecord,
        dispatch: Callable[[Event], Awaitable[None]],
        auth: Auth,
    ) -> None:
        self._wire = wire
        self._handlers = handlers
        self._admission = admission
        self._record = record
        self._dispatch = dispatch
        """The function that handles an event that is not a response, such as a cancellation."""
        self._auth = auth
        self._tried: str | None = None
        """The user name that the client gave."""
        self._asked: Auth | AuthResponse = auth
        """The event that the next reply answers."""
        self._is_over = False
        """Whether the client has ended the exchange of a mechanism of the program's own."""
        self._failure: Exception | None = None
        """The exception that has ended this exchange and the session."""

    async def run(self) -> None:
        """Authenticate the client, or refuse it, and answer."""
        wire, admission, auth = self._wire, self._admission, self._auth
        if not await admission.may_authenticate():
            await self._refuse(*await self._reach("auth_failures_per_hour"))
            return

        own = self._handlers.mechanism(auth.mechanism)
        outcome = await (self._run_own(own) if own else self._authenticate())
        if isinstance(outcome, Accepted):
            await admission.note_login(self._tried or outcome.identity)
            identity = outcome.authorization
            self._record.set_identity(identity)
            text = "authenticated as %r by %s from %s"
            peer = wire.session.peer
            wire.log.write(logging.INFO, text, identity, auth.mechanism, peer, important=True, identity=identity)
            wire.answer(self._asked, Reply(235, "Welcome", enhanced="2.7.0"), Decider.HANDLER, "auth")
        elif outcome:
            await self._refuse(*outcome)

    async def _reach(self, limit: str) -> Decision:
        refusal = self._wire.reach(limit)
        await self._wire.session.sleep(self._admission.auth_delay)
        return refusal

    async def _refuse(self, reply: Reply, decided_by: Decider, rule: str) -> None:
        wire, mechanism = self._wire, self._auth.mechanism
        reply = wire.worded(reply, decided_by, rule)
        if decided_by is not Decider.FAILURE:
            wire.log.write(
                logging.WARNING,
                "failed to authenticate as %r by %s from %s: %s",
                self._tried,
                mechanism,
                wire.session.peer,
                reply,
                important=True,
                tried=self._tried,
                decided_by=str(decided_by),
                rule=rule,
            )
        if reply.reply_class is ReplyClass.PERMANENT and decided_by is not Decider.FAILURE:
            await wire.session.sleep(await self._admission.count_auth_failure(self._tried))

        wire.answer(self._asked, reply, decided_by, rule)

    async def _authenticate(self) -> Accepted | Decision | None:
        # Return None if the client has ended the exchange: a reply was already queued, or the session ends.
        exchange = ServerExchange(_channel(self._wire.session.tls, self._wire.conn.config))
        decided_by, rule = Decider.RULE, "AUTH"
        step = exchange.receive(self._auth)
        while not isinstance(exchange.outcome, Accepted):
            if exchange.claimed and self._tried is None:
                self._tried = printable(exchange.claimed)
            if isinstance(step, Reply):
                if exchange.outcome:
                    is_malformed = step.code != ReplyCode.CREDENTIALS_INVALID
                    return (step, Decider.RULE, "AUTH") if is_malformed else (step, decided_by, rule)

                response = await self._challenge(step)
                if response is None:
                    return None

                step = exchange.receive(response)
            else:
                self._tried = _name_in(step) or self._tried
                if not await self._may_continue():
                    return await self._reach("account_failures_per_hour")

                try:
                    answer = await self._handlers.ask_for_identity(step)
                    decided_by, rule = (Decider.DEFAULT if answer is None else Decider.HANDLER), "auth"
                    if isinstance(answer, Reply):
                        return answer, decided_by, rule

                    step = exchange.answer(answer)
                except BaseException as exc:  # this includes `LocalProtocolError`, for an answer of a wrong type
                    return await self._handlers.failed(self._asked, "auth", exc)

        return exchange.outcome

    async def _run_own(self, mechanism: Callable[[MechanismExchange], Awaitable[object]]) -> Accepted | Decision | None:
        # Return None if the client has ended the exchange, as in `_authenticate`.
        exchange = MechanismExchange(self._auth, self._ask)
        answer: object = None
        try:
            answer = await mechanism(exchange)
            if not isinstance(answer, str | Reply | None) or (isinstance(answer, Reply) and answer.is_positive):
                raise TypeError(f"{answer!r} is no result of a mechanism: return the user, None or a refusal")
        except BaseException as exc:
            if not self._is_over:
                return await self._handlers.failed(self._asked, "auth", exc)

            await self._handlers.check(exc)

        if self._is_over:
            failure, self._failure = self._failure, None  # else its traceback would keep this object alive
            if failure:
                raise failure
            return None

        self._tried = printable(exchange.claimed) if exchange.claimed else None
        if not await self._may_continue():  # also if the password was right, so that the reply reveals nothing
            return await self._reach("account_failures_per_hour")
        if isinstance(answer, str):
            return Accepted(answer, answer)

        refusal = answer if isinstance(answer, Reply) else self._wire.conn.default_reply(self._auth)
        return refusal, Decider.HANDLER, "auth"

    async def _may_continue(self) -> bool:
        return self._tried is None or await self._admission.may_log_in_as(self._tried)

    async def _ask(self, data: bytes) -> bytes:
        if self._is_over:
            raise AuthAborted("the exchange is over")

        challenge = Challenge(data)
        try:
            response = await self._challenge(challenge)
        except Exception as exc:
            self._is_over, self._failure = True, exc
            raise AuthAborted(str(exc) or type(exc).__name__) from exc

        if response is None:
            self._is_over = True
            raise AuthAborted("the client has cancelled, or has sent no valid response")

        return response.data

    async def _challenge(self, challenge: Reply) -> AuthResponse | None:
        wire = self._wire
        if not wire.answer(self._asked, challenge, Decider.RULE, "AUTH").is_positive:
            return None
        while (event := await wire.next_event()) is NEED_DATA:
            pass  # a shutdown waits until the exchange is over

        if isinstance(event, AuthResponse):
            self._asked = event
            return event
        if isinstance(event, AuthCancel | InvalidCommand):
            await self._dispatch(event)

        return None


def _name_in(question: sasl.Question) -> str | None:
    match question:
        case sasl.CheckAuthorization():
            return question.identity
        case sasl.CheckIdentity():
            return question.authorization or question.external
        case sasl.CheckAnonymous():
            return None
        case _:
            return question.username


def _channel(tls: Tls | None, config: Config) -> Channel:
    # Pass bindings only if a -PLUS mechanism is offered. Otherwise a client that supports channel binding says that the
    # server does not offer it (flag `y`), and with bindings the mechanism would treat that as an attack.
    binds = any(name.endswith("-PLUS") for name in config.auth_mechanisms)
    return Channel(
        tls=tls is not None,
        host=config.hostname,
        external=tls.subject if tls else None,
        bindings=tls.bindings if tls and binds else (),
    )


def check_mechanisms(names: Iterable[str]) -> None:
    """Raise `LocalProtocolError` for a mechanism that `smtpcore.sasl` does not have."""
    for name in names:
        if name != name.upper():
            raise LocalProtocolError(f"{name!r} is not the name of a SASL mechanism: use capitals")

        make_server(name, _ANY_CHANNEL)


_ANY_CHANNEL = Channel(tls=True, bindings=(ChannelBinding("tls-server-end-point", b"any"),))
