"""Decide the reply to each event: by a limit, by the handlers of the `App`, or by the protocol's default."""

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from types import CoroutineType
from typing import Any, Final

from smtpcore import (
    Burl,
    Command,
    ConnectionOpened,
    Event,
    InvalidCommand,
    Quit,
    Reply,
    ReplyClass,
    UnknownCommand,
)
from smtpcore.sasl import Answer, Question

from ._admission import Admission
from ._app import App, Handler, name_of
from ._burl import is_for
from ._handler_types import Replies
from ._header import Header
from ._mechanisms import MechanismExchange
from ._message import Message
from ._notifications import DROP, AbortConnection, AtOnce, Decider, Decision, Drop, HandlerDone
from ._wire import Wire


class ConnectionDropped(Exception):
    """A `connect` handler has returned `DROP`."""


class Handlers:
    """The handlers of an `App`, called for one session."""

    __slots__ = ("_admission", "_app", "_wire")

    def __init__(self, app: App[Any], wire: Wire, admission: Admission) -> None:
        self._app = app
        self._wire = wire
        self._admission = admission

    async def run(self, event: Event) -> None:
        """Answer `event` with the reply that `decide` returns."""
        reply, decided_by, rule = await self.decide(event)
        self._wire.answer(event, reply, decided_by, rule)

    async def decide(self, event: Event) -> Decision:
        """Return the reply to a command or an invalid command, or the greeting for `ConnectionOpened`.

        Raises `ConnectionDropped` if the connection is to be closed without a reply.
        """
        app, wire = self._app, self._wire
        names: tuple[str, ...] = ()
        if isinstance(event, Command):
            names = (event.verb,)
        elif isinstance(event, UnknownCommand):
            names = (event.verb, "default")
        elif isinstance(event, ConnectionOpened):
            names = ("connect",)
            if self._admission.refusal:
                return self._admission.refusal
        elif isinstance(event, InvalidCommand) and event.reply.reply_class is not ReplyClass.GOODBYE:
            names = ("invalid",)

        for name in names:
            if name in app.handlers:
                reply: Reply | Drop | None
                try:
                    reply = await (self._ask_timed(name, event) if app.observers else self._ask(name, event))
                except BaseException as exc:
                    return await self.failed(event, name, exc)

                if reply is DROP:
                    raise ConnectionDropped
                if reply is not None:
                    return reply, Decider.HANDLER, name

        if type(event) is InvalidCommand:
            return event.reply, Decider.RULE, event.rule
        if type(event) is UnknownCommand and _is_http(event):
            return wire.reach("http")

        # `names` is empty only for an AuthCancel.
        return wire.conn.default_reply(event), Decider.DEFAULT, names[-1] if names else "auth"

    def decides_on_headers(self) -> bool:
        """Return whether there are `header` handlers."""
        return "header" in self._app.handlers

    async def ask_for_header(self, header: Header) -> Reply | AtOnce | None:
        """Call the `header` handlers, and return their refusal, or None. Passes on their exceptions."""
        answer: Reply | AtOnce | None = await self._ask_timed("header", header)
        if isinstance(answer, Reply) and answer.is_positive:
            raise TypeError(f"a header handler returned {answer!r}: return None, or refuse the message")

        return answer

    def ask_for_message(self, message: Message) -> Awaitable[Reply | AtOnce | Replies | None]:
        """Call the `message` handlers, and return their decision. Passes on their exceptions."""
        return self._ask_timed("message", message)

    async def ask_for_part(self, burl: Burl) -> bytes | AsyncIterable[bytes] | Decision:
        """Call the `BURL` handlers, and return their octets or refusal; if they return None, the default refusal."""
        wire = self._wire
        if not is_for(burl.uri, wire.session.identity):
            return Reply(554, "This URL is for another user", enhanced="5.7.0"), Decider.RULE, burl.verb

        part: bytes | AsyncIterable[bytes] | Reply | None
        try:
            part = await self._ask_timed(burl.verb, burl)
        except BaseException as exc:
            return await self.failed(burl, burl.verb, exc)

        if part is None:
            return wire.conn.default_reply(burl), Decider.DEFAULT, burl.verb

        return (part, Decider.HANDLER, burl.verb) if isinstance(part, Reply) else part

    async def ask_for_identity(self, question: Question) -> Answer | Reply:
        """Call the `auth` handlers, and return their answer. Passes on their exceptions."""
        answer: Answer | Reply = await self._ask_timed("auth", question)
        return answer

    def mechanism(self, name: str) -> Callable[[MechanismExchange], Awaitable[object]] | None:
        """Return the function of a mechanism of the program's own, or None if `name` is a mechanism of `sasl`."""
        function = self._app.mechanisms.get(name)
        return partial(self._call, function, blocking=False) if function else None

    async def tell_of_end(self, reason: str) -> None:
        """Call all `disconnect` handlers, and log their exceptions."""
        for handler, blocking in self._app.handlers.get("disconnect", ()):
            try:
                await self._call(handler, reason, blocking=blocking)
            except BaseException as exc:
                await self.check(exc)
                self._wire.log.write(logging.ERROR, "the disconnect handler failed", exc_info=exc)
                with suppress(AbortConnection):  # the connection is closed in any case
                    await self._ask_about_failure(exc)

    async def failed(self, event: Event, name: str, exc: BaseException) -> Decision:
        """Log the exception that a handler of `name` has raised, and return the reply to `event`.

        Raises `exc` again if it ends the session or the server.
        """
        await self.check(exc)
        wire = self._wire
        reply = wire.failure_reply(event)
        try:
            answer = await self._ask_about_failure(exc)
            if answer and not isinstance(event, Quit):
                reply = answer
            reply = wire.worded(reply, Decider.FAILURE, name)
        finally:
            text = "a handler failed, the client gets %s"
            wire.log.write(logging.ERROR, text, reply, exc_info=exc, decided_by=str(Decider.FAILURE), rule=name)

        return reply, Decider.FAILURE, name

    async def _ask_about_failure(self, exc: BaseException) -> Reply | None:
        """Call the `error` handlers with an exception of another handler, and return their refusal, or None.

        An exception of an `error` handler is logged. A positive reply is logged and ignored, because it would accept a
        command or a message whose handler has failed.
        """
        try:
            answer: Reply | None = await self._ask_timed("error", exc)
            if answer and answer.is_positive:
                raise TypeError(f"an error handler returned {answer!r}: return None, or a refusal")
        except BaseException as failure:
            await self.check(failure)
            self._wire.log.write(logging.ERROR, "the error handler failed", exc_info=failure)
            return None

        return answer

    async def check(self, exc: BaseException) -> None:
        """Raise `exc` again unless it is a failure of a handler.

        Some failures are no `Exception`: `pytest.fail` raises a `BaseException`, and a handler that waits for a
        cancelled task gets `asyncio.CancelledError` without being cancelled itself.
        """
        if isinstance(exc, Exception):
            return
        if isinstance(exc, AbortConnection | SystemExit | KeyboardInterrupt):
            raise exc

        await self._wire.stream.check_cancelled()

    def _ask_timed(self, name: str, subject: object) -> Awaitable[Any]:
        is_observed = self._app.observers and name in self._app.handlers
        return self._ask_and_show_time(name, subject) if is_observed else self._ask(name, subject)

    async def _ask_and_show_time(self, name: str, subject: object) -> Any:
        # Observers get the running time of the handlers, without the time that handlers wait for the client.
        wire = self._wire
        begun, waited = wire.clock(), wire.conn.waited
        try:
            return await self._ask(name, subject)
        finally:
            waited = wire.conn.waited - waited
            wire.show(HandlerDone(name, wire.clock() - begun - waited))

    async def _ask(self, name: str, subject: object) -> Any:
        # The handlers of a name are called until a handler returns something other than None.
        session = self._wire.session
        for handler, blocking in self._app.handlers.get(name, ()):
            answer: Any = self._call(handler, subject, blocking=True) if blocking else handler(session, subject)
            # The answer is nearly always a coroutine or a `Reply`: `isawaitable` takes longer than a look at the type.
            if type(answer) is CoroutineType or (type(answer) is not Reply and isawaitable(answer)):
                answer = await answer
            if isinstance(answer, Reply):
                return answer
            if answer is not None:
                expected, rule = _RETURNS.get(name, _REPLY_OR_NONE)
                if isinstance(answer, expected) and (session.config.lmtp or not isinstance(answer, PER_RECIPIENT)):
                    return answer

                raise TypeError(f"{name_of(handler)} returned {answer!r}: {rule}")

        return None

    async def _call(self, handler: Handler, subject: object, *, blocking: bool) -> Any:
        session = self._wire.session
        answer = await session.run_blocking(handler, session, subject) if blocking else handler(session, subject)
        return await answer if isawaitable(answer) else answer


def _is_http(command: UnknownCommand) -> bool:
    return command.argument.rpartition(" ")[2].startswith("HTTP/")


PER_RECIPIENT: Final = (Mapping, list, tuple)
"""The types of `Replies`: a reply for each recipient, in LMTP."""

_REPLY_OR_NONE: Final = (Reply, "a handler returns a Reply or None")

_RETURNS: Final[Mapping[str, tuple[type | tuple[type, ...], str]]] = {
    "connect": (Drop, "this handler returns a Reply, DROP or None"),
    "header": (AtOnce, "return None or a refusal"),
    "message": (
        (AtOnce, *PER_RECIPIENT),
        "return a Reply or None, in LMTP also a mapping of replies, or a list of one reply for each recipient",
    ),
    "auth": (object, ""),  # the SASL mechanism checks the type of the answer
    Burl.verb: ((bytes, AsyncIterable), "return the octets as bytes or as an asynchronous iterator, or refuse"),
}
"""The types that handlers may return besides Reply and None, and the rule for the error text."""
