"""`App`: the registry of handlers and observers."""

# Verbs are registered in upper case, because received verbs are converted to upper case. All other names are in lower
# case. So a client that sends the command `MESSAGE` does not call the handlers of `message`.

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, overload

from smtpcore import (
    EXTENSIONS,
    Auth,
    Bdat,
    Burl,
    Config,
    ConnectionOpened,
    Data,
    Ehlo,
    Etrn,
    Expn,
    Helo,
    Help,
    InvalidCommand,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    UnknownCommand,
    Vrfy,
    Xclient,
    Xforward,
)
from smtpcore.sasl import Question

from .._names import unknown_name
from ._handler_types import (
    Decides,
    E,
    ForAnswer,
    ForEnd,
    ForGreeting,
    ForHeader,
    ForMechanism,
    ForMessage,
    ForPart,
    ForReply,
    Words,
)
from ._header import Header
from ._message import Message
from ._notifications import Author, Observed, Reason
from ._session_state import S

if TYPE_CHECKING:
    from ._mechanisms import MechanismExchange
    from ._session import Session

Handler: TypeAlias = "Callable[[Session[Any], Any], object]"
"""A function, or a coroutine function, that is called with the session and with a command or another object, and
returns a `Reply` or None. Five handlers may return something else:

- `connect` may return `DROP`.
- `header` returns None or a refusal, and may return `AtOnce`.
- `message` may return `AtOnce`, and in LMTP replies for each recipient: a mapping or a list.
- `auth` returns the answer to the question of `smtpcore.sasl` that it is called with.
- `BURL` returns the octets that the URL names, as bytes or as an asynchronous iterator of bytes.
"""

Observer: TypeAlias = "Callable[[Session[Any], Observed], object]"
"""A plain function that is called with the session and each event, reply and notice. The result is ignored."""

Wording: TypeAlias = "Callable[[Session[Any], Reply, Author], Reply | None]"
"""A plain function that is called with the session, a reply and the author of the reply, and returns None, or a `Reply`
with the same code and the text to send.
"""

Mechanism: TypeAlias = "Callable[[Session[Any], MechanismExchange], Awaitable[str | Reply | None]]"
"""A coroutine function that is called with the session and the exchange of AUTH, and returns the user."""

_logger = logging.getLogger("smtpcore")

_PREFIX = "on_"
_OBSERVER = "event"
_WORDING = "wording"
_MECHANISM = "mechanism_"
_CONFIGURATOR = "config"
_SESSION_CONFIGURATOR = "session_config"
_CALLED_ELSEWHERE = frozenset({_OBSERVER, _WORDING, _CONFIGURATOR, _SESSION_CONFIGURATOR})
_KIND = "an event or a verb"
_NOT_VERBS = frozenset({"connect", "auth", "header", "message", "disconnect", "default", "invalid", "error"})
_COMMANDS = (Bdat, Data, Ehlo, Expn, Helo, Help, Lhlo, Mail, Noop, Quit, Rcpt, Rset, StartTls, Vrfy)
_VERBS = frozenset(command.verb for command in _COMMANDS).union(
    *(extension.verbs.union(command.verb for command in extension.commands) for extension in EXTENSIONS)
)


class App(Generic[S]):
    """Your handlers, registered by name.

    A name is a verb of SMTP (`"RCPT"`), or one of `connect`, `auth`, `header`, `message`, `disconnect`, `default`,
    `invalid` and `error`. The `header` handlers get the `Header` of a message before the `message` handlers are called.
    The `default` handlers get the verbs that have no handler of their own. The `invalid` handlers get each
    `InvalidCommand` that leaves the session open, and may return another negative reply. The `error` handlers get each
    exception of another handler, and may return a negative reply. Verbs of your own need `on_verb`.

    Several handlers can have the same name. These handlers are called in the order of their registration, until a
    handler returns a `Reply`. If all return None, the client gets `Connection.default_reply`, which refuses recipients
    and messages.
    """

    @overload
    def __init__(self: "App[SimpleNamespace]") -> None: ...

    @overload
    def __init__(self, *, state: Callable[[], S]) -> None: ...

    def __init__(self, *, state: Callable[[], Any] = SimpleNamespace) -> None:
        if not callable(state):
            raise TypeError(f"state is {state!r}: pass a class or a function that returns the state of a new session")

        self.make_state: Callable[[], S] = state
        """The function that makes `Session.state`, once for each session: a class, or a function without arguments."""
        self._own_verbs: set[str] = set()
        self._handlers: dict[str, list[tuple[Handler, bool]]] = {}
        self._observers: list[Observer] = []
        self._wordings: list[Wording] = []
        self._mechanisms: dict[str, Mechanism] = {}
        self._configurators: list[Callable[[Config], Config]] = []
        self._session_configurators: list[Callable[[Config], Config]] = []

        self.handlers: Mapping[str, Sequence[tuple[Handler, bool]]] = self._handlers
        """The handlers by name, in order, each with a flag: whether to call it in a thread.

        The name is a verb in upper case, or one of the other names in lower case.
        """
        self.observers: Sequence[Observer] = self._observers
        """The observers, in order."""
        self.wordings: Sequence[Wording] = self._wordings
        """The functions of `wording`, in order."""
        self.mechanisms: Mapping[str, Mechanism] = self._mechanisms
        """The functions of `mechanism`, by the name of the mechanism."""

    # Registration

    @overload
    def on(self, name: Literal["BDAT"], *, blocking: bool = False) -> ForReply[S, Bdat]: ...

    @overload
    def on(self, name: Literal["DATA"], *, blocking: bool = False) -> ForReply[S, Data]: ...

    @overload
    def on(self, name: Literal["EHLO"], *, blocking: bool = False) -> ForReply[S, Ehlo]: ...

    @overload
    def on(self, name: Literal["ETRN"], *, blocking: bool = False) -> ForReply[S, Etrn]: ...

    @overload
    def on(self, name: Literal["EXPN"], *, blocking: bool = False) -> ForReply[S, Expn]: ...

    @overload
    def on(self, name: Literal["HELO"], *, blocking: bool = False) -> ForReply[S, Helo]: ...

    @overload
    def on(self, name: Literal["HELP"], *, blocking: bool = False) -> ForReply[S, Help]: ...

    @overload
    def on(self, name: Literal["LHLO"], *, blocking: bool = False) -> ForReply[S, Lhlo]: ...

    @overload
    def on(self, name: Literal["MAIL"], *, blocking: bool = False) -> ForReply[S, Mail]: ...

    @overload
    def on(self, name: Literal["NOOP"], *, blocking: bool = False) -> ForReply[S, Noop]: ...

    @overload
    def on(self, name: Literal["QUIT"], *, blocking: bool = False) -> ForReply[S, Quit]: ...

    @overload
    def on(self, name: Literal["RCPT"], *, blocking: bool = False) -> ForReply[S, Rcpt]: ...

    @overload
    def on(self, name: Literal["RSET"], *, blocking: bool = False) -> ForReply[S, Rset]: ...

    @overload
    def on(self, name: Literal["STARTTLS"], *, blocking: bool = False) -> ForReply[S, StartTls]: ...

    @overload
    def on(self, name: Literal["VRFY"], *, blocking: bool = False) -> ForReply[S, Vrfy]: ...

    @overload
    def on(self, name: Literal["XCLIENT"], *, blocking: bool = False) -> ForReply[S, Xclient]: ...

    @overload
    def on(self, name: Literal["XFORWARD"], *, blocking: bool = False) -> ForReply[S, Xforward]: ...

    @overload
    def on(self, name: Literal["connect"], *, blocking: bool = False) -> ForGreeting[S, ConnectionOpened]: ...

    @overload
    def on(self, name: Literal["default"], *, blocking: bool = False) -> ForReply[S, UnknownCommand]: ...

    @overload
    def on(self, name: Literal["invalid"], *, blocking: bool = False) -> ForReply[S, InvalidCommand]: ...

    @overload
    def on(self, name: Literal["error"], *, blocking: bool = False) -> ForReply[S, BaseException]: ...

    @overload
    def on(self, name: Literal["auth"], *, blocking: bool = False) -> ForAnswer[S, Question]: ...

    @overload
    def on(self, name: Literal["header"], *, blocking: bool = False) -> ForHeader[S, Header]: ...

    @overload
    def on(self, name: Literal["message"], *, blocking: bool = False) -> ForMessage[S, Message]: ...

    @overload
    def on(self, name: Literal["disconnect"], *, blocking: bool = False) -> ForEnd[S, Reason]: ...

    @overload
    def on(self, name: Literal["BURL"], *, blocking: bool = False) -> ForPart[S, Burl]: ...

    def on(self, name: str, *, blocking: bool = False) -> Callable[[Any], Any]:
        """Register the decorated function as a handler of `name`: an event, or a verb of SMTP or a built-in extension.

        With `blocking`, a plain function is called in a thread, so that other sessions are served while it blocks.
        Raises `ValueError` for any other name; use `on_verb` for verbs of your own. Also raises `ValueError` for a
        function that cannot be called with the session and one more argument.
        """
        if _key(name) not in _NOT_VERBS | _VERBS:
            hint = "for a verb of your own, use on_verb()"
            raise ValueError(f"{unknown_name(name, _KIND, _NOT_VERBS | _VERBS)}; {hint}")

        return self._adding(name, blocking=blocking)

    def on_verb(
        self, verb: str, *, blocking: bool = False
    ) -> "Callable[[Callable[[Session[S], E], Decides]], Callable[[Session[S], E], Decides]]":
        """Register the decorated function as a handler of any verb, such as a verb that only your clients know.

        The handler gets an `UnknownCommand`, or the command of the extension that has this verb.
        Raises `ValueError` for the name of an event, and for a text that cannot be a verb.
        """
        verb = _checked_verb(verb)
        self._own_verbs.add(verb)
        return self._adding(verb, blocking=blocking)

    def _adding(self, name: str, *, blocking: bool) -> Callable[[Any], Any]:
        def add(handler: Handler) -> Handler:
            self._add(name, handler, blocking=blocking)
            return handler

        return add

    def include(self, thing: object, *, verbs: Iterable[str] = (), blocking: bool = False) -> None:
        """Register the functions of a module, or the methods of an object, by their names: `on_rcpt` handles RCPT.

        `verbs` names the verbs of your own, and of extensions of your own, for which `thing` has functions. With
        `blocking`, plain functions are called in a thread.

        `on_event` is an observer: see `observe`. `on_wording` is a function for `wording`, and `on_mechanism_X__TOKEN`
        is the SASL mechanism X-TOKEN: see `mechanism`. `on_config` is called when a server starts, with its
        configuration, and returns the configuration to use; `on_session_config` does the same for each session that
        begins, and must not block. Raises `ValueError` if `thing` has no name that starts with `on_`, or a name that is
        not known, and for a verb in `verbs` without a function; and `TypeError` if `thing` is a class.
        """
        if isinstance(thing, type):
            raise TypeError(f"{thing.__name__} is a class: include an object of it, {thing.__name__}(...)")
        own = frozenset(map(_checked_verb, verbs))
        names = [name.removeprefix(_PREFIX) for name in dir(thing) if name.startswith(_PREFIX)]
        if not names:
            raise ValueError(f"{thing!r} has no handlers: give it a function on_rcpt, on_message or the like")
        if missing := own.difference(map(str.upper, names)):
            raise ValueError(f"{thing!r} has no function for {min(missing)}, which is one of verbs")

        known = _NOT_VERBS | _VERBS | _CALLED_ELSEWHERE | self._own_verbs | own
        for name in names:
            if not name.startswith(_MECHANISM) and name not in _CALLED_ELSEWHERE and _key(name) not in known:
                hint = f"for a verb of your own, use include(..., verbs=[{name.upper()!r}])"
                raise ValueError(f"{thing!r} has {_PREFIX}{name}: {unknown_name(name, _KIND, known)}; {hint}")

        self._own_verbs |= own
        for name in names:
            function = getattr(thing, _PREFIX + name)
            if name == _OBSERVER:
                self.observe(function)
            elif name == _WORDING:
                self.wording(function)
            elif name.startswith(_MECHANISM):
                self.mechanism(name.removeprefix(_MECHANISM).replace("__", "-"))(function)
            elif name == _CONFIGURATOR:
                self._configurators.append(function)
            elif name == _SESSION_CONFIGURATOR:
                self._session_configurators.append(function)
            else:
                self._add(name, function, blocking=blocking and not inspect.iscoroutinefunction(function))

    def observe(self, observer: "Callable[[Session[S], Observed], object]") -> None:
        """Call `observer` with every event, reply and notice. An observer should be quick, and cannot change anything.

        Raises `ValueError` for a coroutine function, because a session does not wait for observers.
        """
        if inspect.iscoroutinefunction(observer) or not callable(observer):
            raise ValueError(f"the observer {observer!r} must be a plain function")
        _check_arguments(f"the observer {name_of(observer)}", observer, "session", "item")

        self._observers.append(observer)

    def wording(
        self, function: "Callable[[Session[S], Reply, Author], Words]"
    ) -> "Callable[[Session[S], Reply, Author], Words]":
        """Call `function` with each reply and its `Author`, and send the text of the reply that it returns.

        A `Reply` with the same code changes the text and, if it has one, the enhanced status code. If the function
        returns None, the reply is not changed. The replies include the refusals of the core, of limits and of time
        budgets, but not the challenges of AUTH. The first function that returns a `Reply` decides. The functions are
        called for every reply, and should be quick. An exception is logged, and the reply is sent unchanged. Returns
        `function`, so that `wording` can be a decorator. Raises `ValueError` for a coroutine function.
        """
        if inspect.iscoroutinefunction(function) or not callable(function):
            raise ValueError(f"the wording {function!r} must be a plain function")
        _check_arguments(f"the wording {name_of(function)}", function, "session", "reply", "author")

        self._wordings.append(function)
        return function

    def mechanism(self, name: str) -> "ForMechanism[S, MechanismExchange]":
        """Register the decorated coroutine function as the SASL mechanism `name`, for AUTH.

        The function gets the session and a `MechanismExchange`, and returns the name of the user, None to refuse the
        client, or a refusal of its own. The mechanism is offered like the built-in ones: under TLS, and in
        `Config.auth_mechanisms` if this field names mechanisms. The new mechanism replaces a built-in mechanism of the
        same name. Raises `LocalProtocolError` for a name that RFC 4422 does not allow.
        """

        def add(function: Any) -> Any:
            _check_arguments(f"the mechanism {name_of(function)}", function, "session", "exchange")
            self._mechanisms[Auth(name.upper()).mechanism] = function
            return function

        return add

    def _add(self, name: str, handler: Handler, *, blocking: bool) -> None:
        if not callable(handler):
            raise ValueError(f"the handler of {name} is {handler!r}, which cannot be called")
        if blocking and inspect.iscoroutinefunction(handler):
            raise ValueError(f"the handler of {name} is a coroutine function, which cannot be called in a thread")
        _check_arguments(f"the handler {name_of(handler)} of {name}", handler, "session", "event")

        self._handlers.setdefault(_key(name), []).append((handler, blocking))

    def configure(self, config: Config) -> Config:
        """Return `config` as changed by the `on_config` functions of the included objects."""
        for change in self._configurators:
            config = change(config)

        return config

    def configure_session(self, config: Config) -> Config:
        """Return `config` as changed by the `on_session_config` functions, for a session that begins now."""
        for change in self._session_configurators:
            try:
                config = change(config)
            except Exception:
                _logger.exception("on_session_config failed: the session has the configuration of the server")

        return config

    def handles(self, name: str) -> bool:
        """Return whether there is a handler of `name`."""
        return _key(name) in self._handlers


def _check_arguments(what: str, function: Callable[..., object], *arguments: str) -> None:
    """Raise `ValueError` if a function cannot be called with these arguments, rather than at each call."""
    try:
        # A decorator may add arguments to those of the function that it wraps.
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except TypeError as exc:
        raise ValueError(f"{what} cannot be called with ({', '.join(arguments)}): {exc}") from None
    except ValueError:
        return  # some functions of C have no signature


def name_of(function: object) -> str:
    """Return the name of a function for errors."""
    return getattr(function, "__qualname__", None) or repr(function)


def _key(name: str) -> str:
    return name.lower() if name.lower() in _NOT_VERBS else name.upper()


def _checked_verb(verb: str) -> str:
    if not (verb.isascii() and verb.isalnum()) or verb.lower() in _NOT_VERBS:
        raise ValueError(f"{verb!r} is not a verb: use letters and digits, and on() for events")

    return verb.upper()
