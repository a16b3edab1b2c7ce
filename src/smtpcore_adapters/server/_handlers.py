"""Decide the reply to each event: by a limit, by the handlers of the program, or by the protocol's default."""

import logging
from collections.abc import AsyncIterable, Awaitable, Mapping
from typing import TypeVar

from smtpcore import Burl, Command, ConnectionOpened, Event, InvalidCommand, Path, Rcpt, Reply, UnknownCommand
from smtpcore.sasl import Answer, Question

from ._admission import Admission
from ._app import App
from ._burl import is_for
from ._limits import Limits
from ._message import Message
from ._notifications import Decider, Decision, Drop, HandlerDone
from ._wire import Wire

T = TypeVar("T")


class ConnectionDropped(Exception):
    """A `connect` handler has returned `DROP`."""


class Handlers:
    """The handlers of an `App`, called for one session."""

    __slots__ = ("_admission", "_app", "_limits", "_wire")

    def __init__(self, app: App, wire: Wire, admission: Admission, limits: Limits) -> None:
        self._app = app
        self._wire = wire
        self._admission = admission
        self._limits = limits

    async def run(self, event: Event) -> None:
        """Answer an event that has no exchange of its own."""
        reply, decided_by, rule = await self.decide(event)
        self._wire.answer(event, reply, decided_by, rule)

    async def decide(self, event: Event) -> Decision:
        """Return the reply to a command, to the greeting that is due, or to an invalid command.

        Raises `ConnectionDropped` if the connection is to be closed without a reply.
        """
        app, wire, limits = self._app, self._wire, self._limits
        if limits.refusals is not None and wire.refusals >= limits.refusals:
            return wire.reach("refusals")

        names: tuple[str, ...] = ()
        if isinstance(event, Command):
            names = (event.verb,)
            most = limits.recipients_per_session
            if most is not None and isinstance(event, Rcpt) and wire.recipients >= most:
                return wire.reach("recipients_per_session")
        elif isinstance(event, UnknownCommand):
            names = (event.verb, "default")
        elif isinstance(event, ConnectionOpened):
            names = ("connect",)
            if self._admission.refusal:
                return self._admission.refusal
        elif isinstance(event, InvalidCommand):
            return event.reply, Decider.RULE, event.rule

        for name in names:
            if name in app.names:
                reply: Reply | Drop | None
                try:
                    answer = app.ask(name, wire.session, event)
                    reply = await (self._timed(name, answer) if app.observed else answer)
                except Exception:
                    return self.failed(event, name)

                if isinstance(reply, Drop):
                    raise ConnectionDropped
                if reply is not None:
                    return reply, Decider.HANDLER, name

        if isinstance(event, UnknownCommand) and _is_http(event):
            return wire.reach("http")

        return wire.conn.default_reply(event), Decider.DEFAULT, names[-1] if names else "auth"  # AuthCancel

    async def ask_for_message(self, message: Message) -> Reply | Mapping[Path, Reply] | None:
        """Call the `message` handlers, and return their decision. Raises what they raise."""
        answer: Reply | Mapping[Path, Reply] | None
        answer = await self._timed("message", self._app.ask("message", self._wire.session, message))
        return answer

    async def ask_for_part(self, burl: Burl) -> bytes | AsyncIterable[bytes] | Decision:
        """Call the `BURL` handlers, and return the octets or the refusal that they return, or else a refusal."""
        wire, limits = self._wire, self._limits
        if limits.refusals is not None and wire.refusals >= limits.refusals:
            return wire.reach("refusals")
        if not is_for(burl.uri, wire.session.identity):
            return Reply(554, "This URL is for another user", enhanced="5.7.0"), Decider.RULE, burl.verb

        part: bytes | AsyncIterable[bytes] | Reply | None
        try:
            part = await self._timed(burl.verb, self._app.ask(burl.verb, wire.session, burl))
        except Exception:
            return self.failed(burl, burl.verb)

        if part is None:
            return wire.conn.default_reply(burl), Decider.DEFAULT, burl.verb

        return (part, Decider.HANDLER, burl.verb) if isinstance(part, Reply) else part

    async def ask_for_identity(self, question: Question) -> Answer | Reply:
        """Call the `auth` handlers, and return their answer. Raises what they raise."""
        answer: Answer | Reply
        answer = await self._timed("auth", self._app.ask("auth", self._wire.session, question))
        return answer

    async def tell_of_end(self, reason: str) -> None:
        """Call all `disconnect` handlers. What they raise is logged."""
        try:
            await self._app.tell("disconnect", self._wire.session, reason)
        except Exception:
            self._wire.log.write(logging.ERROR, "the disconnect handler failed", exc_info=True)

    def failed(self, event: Event, name: str) -> Decision:
        """Log the exception that a handler of `name` has raised, and return the reply to `event`."""
        reply = self._wire.failure_reply(event)
        self._wire.log.write(
            logging.ERROR,
            "a handler failed, the client gets %s",
            reply,
            exc_info=True,
            decided_by=str(Decider.FAILURE),
            rule=name,
        )
        return reply, Decider.FAILURE, name

    async def _timed(self, name: str, answer: Awaitable[T]) -> T:
        # Observers get the handler's own time: it does not count while the handler waits for the client.
        if not self._app.observed or name not in self._app.names:
            return await answer

        wire = self._wire
        begun, waited = wire.clock(), wire.deadlines.waited
        try:
            return await answer
        finally:
            waited = wire.deadlines.waited - waited
            wire.show(HandlerDone(name, wire.clock() - begun - waited))


def _is_http(command: UnknownCommand) -> bool:
    return command.argument.rpartition(" ")[2].startswith("HTTP/")
