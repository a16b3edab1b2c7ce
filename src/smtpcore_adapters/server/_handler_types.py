"""The types of handlers, for type checkers: the session and the argument that they get, and their results."""

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias, TypeVar

from smtpcore import Path, Reply
from smtpcore.sasl import Answer

from ._notifications import AtOnce, Drop
from ._session import Session

T = TypeVar("T")
E = TypeVar("E")

Replies: TypeAlias = (
    Mapping[Path, Reply] | Mapping[str, Reply] | Mapping[Path | str, Reply] | list[Reply] | tuple[Reply, ...]
)
"""A reply for each recipient of a message, in LMTP: by path or text, or in the order of the recipients."""

# The results of handlers have variables, because a decorator returns the handler with its own result. Each kind has a
# protocol, because type checkers do not bind such a variable in an alias of a `Callable`.
Decides = TypeVar("Decides", bound=Reply | Awaitable[Reply | None] | None)
Greets = TypeVar("Greets", bound=Reply | Drop | Awaitable[Reply | Drop | None] | None)
Answers = TypeVar("Answers", bound=Answer | Reply | Awaitable[Answer | Reply])
Judges = TypeVar("Judges", bound=Reply | AtOnce | Awaitable[Reply | AtOnce | None] | None)
Receives = TypeVar("Receives", bound=Reply | AtOnce | Replies | Awaitable[Reply | AtOnce | Replies | None] | None)
_Part: TypeAlias = bytes | AsyncIterable[bytes] | Reply | None
Fetches = TypeVar("Fetches", bound=_Part | Awaitable[_Part])
Ends = TypeVar("Ends", bound=object)
Words = TypeVar("Words", bound=Reply | None)
Authenticates = TypeVar("Authenticates", bound=Awaitable[str | Reply | None])


class ForReply(Protocol[T, E]):
    """A decorator for handlers that return a reply or None."""

    def __call__(self, handler: Callable[[Session[T], E], Decides], /) -> Callable[[Session[T], E], Decides]: ...


class ForGreeting(Protocol[T, E]):
    """A decorator for `connect` handlers."""

    def __call__(self, handler: Callable[[Session[T], E], Greets], /) -> Callable[[Session[T], E], Greets]: ...


class ForAnswer(Protocol[T, E]):
    """A decorator for `auth` handlers."""

    def __call__(self, handler: Callable[[Session[T], E], Answers], /) -> Callable[[Session[T], E], Answers]: ...


class ForHeader(Protocol[T, E]):
    """A decorator for `header` handlers."""

    def __call__(self, handler: Callable[[Session[T], E], Judges], /) -> Callable[[Session[T], E], Judges]: ...


class ForMessage(Protocol[T, E]):
    """A decorator for `message` handlers."""

    def __call__(self, handler: Callable[[Session[T], E], Receives], /) -> Callable[[Session[T], E], Receives]: ...


class ForPart(Protocol[T, E]):
    """A decorator for `BURL` handlers."""

    def __call__(self, handler: Callable[[Session[T], E], Fetches], /) -> Callable[[Session[T], E], Fetches]: ...


class ForEnd(Protocol[T, E]):
    """A decorator for `disconnect` handlers."""

    def __call__(self, handler: Callable[[Session[T], E], Ends], /) -> Callable[[Session[T], E], Ends]: ...


class ForMechanism(Protocol[T, E]):
    """A decorator for SASL mechanisms."""

    def __call__(
        self, handler: Callable[[Session[T], E], Authenticates], /
    ) -> Callable[[Session[T], E], Authenticates]: ...
