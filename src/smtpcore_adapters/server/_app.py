"""The functions that a program gives to a server."""

# Handlers are collected by name when they are given, and a client can reach those only that are meant for its verbs:
# verbs are kept in upper case, in which they arrive, and what is no verb in lower case, in which none does. So no one
# calls the handlers of `message` by sending `MESSAGE`.

import inspect
from collections.abc import AsyncIterable, Callable, KeysView, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from smtpcore import Burl, Config, Reply

from ._notifications import Drop, Observed

if TYPE_CHECKING:
    from ._session import Session

Handler: TypeAlias = "Callable[[Session, Any], object]"
"""Called with the session and with what has happened; may be a coroutine function.

Returns a `Reply` or None; that of `connect` may also return `DROP`. In LMTP, that of `message` may return a mapping
from the paths of the recipients to replies; that of `auth` returns the answer to the question of `smtpcore.sasl` that
it is called with; that of `BURL` returns what it has fetched, as bytes or as an asynchronous iterator of bytes.
"""

Observer: TypeAlias = "Callable[[Session, Observed], object]"
"""Called with the session and with each event, reply and notice, as they come; whatever it returns. A plain function.
"""

H = TypeVar("H", bound=Handler)

_PREFIX = "on_"
_OBSERVER = "event"
_CONFIGURATOR = "config"
_NOT_VERBS = frozenset({"connect", "auth", "message", "disconnect", "default"})


class App:
    """A program's handlers, by the name of what they handle.

    The names are the verbs of SMTP (`"RCPT"`), and `connect`, `auth`, `message`, `disconnect` and `default`, which
    handles the verbs that nothing else does. Several handlers of one name stack: they are asked in the order in which
    they were given, the first to return a `Reply` decides, and None passes on. What none of them answers gets
    `Connection.default_reply`, which takes no recipient and no message.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, list[tuple[Handler, bool]]] = {}
        """In the order in which they were given, each with whether it is to be called in a thread."""
        self.names: KeysView[str] = self._handlers.keys()
        """What has a handler, spelt as `ask` wants it."""
        self._observers: list[Observer] = []
        self._configurators: list[Callable[[Config], Config]] = []
        self.observed: bool = False
        """Whether there is an observer."""

    # Giving handlers

    def on(self, name: str, *, blocking: bool = False) -> Callable[[H], H]:
        """Decorate a handler of `name`.

        A plain function that is `blocking` is called in a thread, so that others are served while it waits.
        """

        def add(handler: H) -> H:
            self._add(name, handler, blocking=blocking)
            return handler

        return add

    def include(self, thing: object, *, blocking: bool = False) -> None:
        """Take each function of a module, or method of an object, whose name is `on_` and the name of an event.

        With `blocking`, those that are plain functions are called in a thread.

        `on_event` is an observer: see `observe`. `on_config` is called with the configuration of a server that starts,
        and returns the one that it shall have. Raises `ValueError` if there is none, or if one is no function.
        """
        names = [name.removeprefix(_PREFIX) for name in dir(thing) if name.startswith(_PREFIX)]
        if not names:
            raise ValueError(f"{thing!r} has no handlers: give it a function on_rcpt, on_message or the like")

        for name in names:
            function = getattr(thing, _PREFIX + name)
            if name == _OBSERVER:
                self.observe(function)
            elif name == _CONFIGURATOR:
                self._configurators.append(function)
            else:
                self._add(name, function, blocking=blocking and not inspect.iscoroutinefunction(function))

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every event, reply and notice. It should be quick, and cannot change anything.

        Raises `ValueError` if it is a coroutine function, for which no session waits, or cannot be called.
        """
        if inspect.iscoroutinefunction(observer) or not callable(observer):
            raise ValueError(f"the observer {observer!r} must be a plain function")

        self._observers.append(observer)
        self.observed = True

    def _add(self, name: str, handler: Handler, *, blocking: bool) -> None:
        if not callable(handler):
            raise ValueError(f"the handler of {name} is {handler!r}, which cannot be called")
        if blocking and inspect.iscoroutinefunction(handler):
            raise ValueError(f"the handler of {name} is a coroutine function, which cannot be called in a thread")

        self._handlers.setdefault(_key(name), []).append((handler, blocking))

    def configure(self, config: Config) -> Config:
        """The configuration that the included objects want in place of `config`."""
        for change in self._configurators:
            config = change(config)

        return config

    # Asking them

    def handles(self, name: str) -> bool:
        """Whether there is a handler of `name`."""
        return _key(name) in self.names

    async def ask(self, name: str, session: "Session", subject: object) -> Any:
        """Call the handlers of `name` until one returns something else than None, and return that.

        `name` is a verb in upper case, or one of the other names in lower case. Raises what a handler raises, and
        `TypeError` if a handler returns an object of a wrong type.
        """
        for handler, blocking in self._handlers.get(name, ()):
            if blocking:
                answer = await session.run_blocking(handler, session, subject)
            else:
                answer = handler(session, subject)
            # A coroutine in nearly all cases: `isawaitable` takes longer.
            if isinstance(answer, CoroutineType) or inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, Reply):
                return answer
            if answer is not None:
                expected, rule = _RETURNS.get(name, _REPLY_OR_NONE)
                if isinstance(answer, expected) and (session.config.lmtp or not isinstance(answer, Mapping)):
                    return answer

                raise TypeError(f"{_name(handler)} returned {answer!r}: {rule}")

        return None

    async def tell(self, name: str, session: "Session", subject: object) -> None:
        """Call all handlers of `name`, whatever they return. What they raise is raised when all were called."""
        errors = []
        for handler, blocking in self._handlers.get(name, ()):
            try:
                if blocking:
                    answer = await session.run_blocking(handler, session, subject)
                else:
                    answer = handler(session, subject)
                if inspect.isawaitable(answer):
                    await answer
            except Exception as exc:
                errors.append(exc)

        if errors:
            raise ExceptionGroup(f"{name} handlers failed", errors)

    def show(self, session: "Session", item: Observed) -> None:
        """Call the observers. One that fails keeps no other from seeing; what they raise is raised at the end."""
        errors = []
        for observer in self._observers:
            try:
                observer(session, item)
            except Exception as exc:
                errors.append(exc)

        if errors:
            raise ExceptionGroup("observers failed", errors)


def _key(name: str) -> str:
    return name.lower() if name.lower() in _NOT_VERBS else name.upper()


def _name(handler: object) -> str:
    return getattr(handler, "__qualname__", None) or repr(handler)


_REPLY_OR_NONE: Final = (Reply, "a handler returns a Reply or None")

_RETURNS: Final[Mapping[str, tuple[type | tuple[type, ...], str]]] = {
    "connect": (Drop, "this handler returns a Reply, DROP or None"),
    "message": (Mapping, "return a Reply or None, in LMTP also a mapping of replies"),
    "auth": (object, ""),  # the SASL mechanism knows the type that it needs
    Burl.verb: ((bytes, AsyncIterable), "return the octets as bytes or as an asynchronous iterator, or refuse"),
}
"""The types that handlers may return beside Reply and None, and the rule for an error message."""
