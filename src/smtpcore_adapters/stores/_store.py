"""The contract between a store and the server."""

# The calls for a message, in order:
#
#     open(envelope, runtime)   when the body begins, before its first octet
#     write(block) ...          while the body arrives
#     commit()                  after the true end of a valid body; the client gets a 250 only after this call
#     abort()                   in place of commit, or after a commit that failed
#
# The client waits while a method runs, because no further octets are read from it. So a store must not collect blocks
# that it cannot write: a method returns only when there is room for the next block.
#
# The methods are coroutine functions that run in the event loop of the session, which may be that of asyncio, trio or
# anyio. In a server on threads there is no event loop. So a store for every adapter uses `Runtime` only:
#
# - blocking calls: `await runtime.run_blocking(function, *args)`
# - a connection to a server: `await runtime.open_stream(host, port, timeout)`
# - a library that needs asyncio: `smtpcore_adapters.stores.asyncio.AsyncioThread`
#
# A method that waits needs its own timeout. A cancellation of the session may interrupt any method at an `await`,
# except inside `run_blocking`, which returns first. `abort` is then called, and may still wait for a few seconds.

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

from smtpcore import Reply

from ..streams._stream import Stream
from ._envelope import Envelope

T = TypeVar("T")


class StoreFull(Exception):
    """The store has no space for the message: the client gets a 452 and may try again later."""


class StoreUnavailable(Exception):
    """The store cannot be used now: the client gets a 451 and may try again later."""


class StoreRefusal(Exception):
    """The store does not accept the message."""

    def __init__(self, reply: Reply) -> None:
        if reply.code < 400:
            raise ValueError(f"{reply!r} does not refuse a message: use a Reply with a code from 400 to 599")

        super().__init__(str(reply))
        self.reply: Reply = reply
        """The reply to the client, 4yz or 5yz. Codes that would end the session are replaced."""


class Runtime(Protocol):
    """The surroundings in which the methods of a store run. A `Session` is such an object."""

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        """Call a blocking function in a thread. A cancellation waits until the function returns."""
        ...

    async def open_stream(self, host: str, port: int, timeout: float) -> Stream:
        """Connect to a server with the framework that the session runs in: the `open_stream` of an adapter."""
        ...

    def shield(self, seconds: float) -> AbstractContextManager[object]:
        """Return a block in which a cancelled session may still wait, for at most `seconds`."""
        ...


@runtime_checkable
class Writer(Protocol):
    """A message that is being written into a store.

    The methods are called one after the other. Each method may raise `StoreFull`, `StoreUnavailable`, `StoreRefusal`
    or `OSError`. After any exception only `abort` is called.
    """

    async def write(self, block: bytes) -> None:
        """Append a block of the message, cut anywhere, with CR LF line ends. Return when there is room for the next.

        A block has at least one octet and at most `StoreHandler.block_size` octets.
        """
        ...

    async def commit(self) -> str | Sequence[Reply]:
        """Make the message visible and durable, and return its name in the store.

        A store that delivers to each recipient on its own returns a reply for each, in the order of the recipients.
        The client of an LMTP session gets these replies, and the client of an SMTP session gets one of them.
        """
        ...

    async def abort(self) -> None:
        """Drop the message, so that no reader of the store ever sees a part of it. Raises nothing."""
        ...


@runtime_checkable
class Store(Protocol):
    """A destination of messages. Many messages may be open at the same time."""

    async def open(self, envelope: Envelope, runtime: Runtime) -> Writer:
        """Begin a message. May raise what the methods of `Writer` raise; `abort` is then not called."""
        ...
