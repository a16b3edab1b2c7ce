"""Run one SASL exchange between a client and the program's `auth` handlers."""

import logging
from collections.abc import Awaitable, Callable

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
    sasl,
)
from smtpcore.sasl import Accepted, Channel, ChannelBinding, Rejected, make_server

from ..tls._info import Tls
from ._admission import Admission
from ._handlers import Handlers
from ._session import SessionRecord
from ._wire import Wire


class AuthExchange:
    """One AUTH command, with the challenges and responses that follow it, up to its last reply."""

    __slots__ = ("_admission", "_asked", "_auth", "_dispatch", "_handlers", "_record", "_wire")

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
        """Answers a client that cancels, or that sends something else than a response."""
        self._auth = auth
        self._asked: Auth | AuthResponse = auth
        """The event that the next reply answers."""

    async def run(self) -> None:
        """Authenticate the client, or refuse it, and answer."""
        wire, admission, auth = self._wire, self._admission, self._auth
        wire.deadlines.restart()
        if not admission.may_authenticate():
            reply = wire.reach("auth_failures_per_hour")
            await wire.sleep(admission.auth_delay)
            wire.answer(auth, reply)
            return

        try:
            outcome = await self._authenticate()
        except LocalProtocolError:  # the answer of a handler has a wrong type
            outcome = self._handlers.failed(auth)

        if outcome is None:
            return
        if isinstance(outcome, Accepted):
            identity = outcome.authorization
            self._record.set_identity(identity)
            wire.log.write(logging.INFO, "authenticated as %r by %s", identity, auth.mechanism, identity=identity)
            outcome = Reply(235, "Welcome", enhanced="2.7.0")
        elif outcome.reply_class is ReplyClass.PERMANENT:
            wire.log.write(logging.INFO, "failed to authenticate by %s", auth.mechanism)
            await wire.sleep(admission.count_auth_failure())

        wire.answer(self._asked, outcome)

    async def _authenticate(self) -> Accepted | Reply | None:
        # Returns a reply if the client is refused, and None if the exchange has ended with a reply already.
        mechanism = make_server(self._auth.mechanism, _channel(self._wire.session.tls, self._wire.conn.config))
        step = mechanism.start(self._auth.initial_response)
        while not isinstance(step, Accepted):
            if isinstance(step, Rejected):
                # RFC 4954 section 6: the client does not learn the reason, which is for the log.
                text = "Authentication failed" if step.reason.code == 535 else "Malformed authentication"
                return Reply(step.reason.code, text, enhanced=step.reason.enhanced)

            if isinstance(step, sasl.Challenge):
                response = await self._challenge(step.data)
                if response is None:
                    return None

                step = mechanism.respond(response)
            else:
                answer = await self._handlers.ask_for_identity(step, self._asked)
                if isinstance(answer, Reply):
                    return answer

                step = mechanism.answer(answer)

        return step

    async def _challenge(self, data: bytes) -> bytes | None:
        wire = self._wire
        if not wire.answer(self._asked, Challenge(data)).is_positive:
            return None
        while (event := await wire.next_event()) is NEED_DATA:
            pass  # a shutdown waits until the exchange is over

        if isinstance(event, AuthResponse):
            self._asked = event
            return event.data
        if isinstance(event, AuthCancel | InvalidCommand):
            await self._dispatch(event)

        return None


def _channel(tls: Tls | None, config: Config) -> Channel:
    # A client that knows bindings takes it for an attack if the server has some and offers no -PLUS mechanism.
    binds = any(name.endswith("-PLUS") for name in config.auth_mechanisms)
    return Channel(
        tls=tls is not None,
        host=config.hostname,
        external=tls.subject if tls else None,
        bindings=tls.bindings if tls and binds else (),
    )


def check_mechanisms(names: tuple[str, ...]) -> None:
    """Raise `LocalProtocolError` for a mechanism that `smtpcore.sasl` does not have."""
    for name in names:
        if name != name.upper():
            raise LocalProtocolError(f"{name!r} is not the name of a SASL mechanism: use capitals")

        make_server(name, _ANY_CHANNEL)


_ANY_CHANNEL = Channel(tls=True, bindings=(ChannelBinding("tls-server-end-point", b"any"),))
