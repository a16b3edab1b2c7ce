"""Servers and clients on anyio, which runs on asyncio or trio."""

from functools import partial
from typing import Any, Final, Literal, TypeAlias, Unpack

from ._adapter import Adapter, documented_as
from ._extras import from_extra
from .client import _pool
from .server._acceptor import OnReady, OnStop
from .server._app import App
from .server._config import Options
from .streams._framework import Accept, Framework

with from_extra("anyio"):
    import anyio
    import anyio.from_thread
    import anyio.lowlevel
    import anyio.to_thread

__all__ = ["Pool", "connect", "open_stream", "run", "send", "serve", "serving", "start"]

Backend: TypeAlias = Literal["asyncio", "trio"]


async def _getaddrinfo(host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
    found = await anyio.getaddrinfo(host, port, **options)
    return [(*others, _with_scope(address)) for *others, address in found]


def _with_scope(address: tuple[Any, ...]) -> tuple[Any, ...]:
    # anyio writes the interface of a link-local address into its host, in a form to which no socket can connect.
    host, percent, interface = str(address[0]).partition("%")
    return (host, address[1], 0, int(interface)) if percent else address


def _own_accept(framework: Framework) -> Accept | None:
    """Return the function that accepts connections on asyncio; None on trio."""
    if anyio.get_cancelled_exc_class().__module__.partition(".")[0] != "asyncio":
        return None

    from .server._asyncio import accept_streams  # imported here, because programs on trio do not need asyncio

    return partial(accept_streams, framework)


_anyio = Adapter(
    # The streams use sockets, not anyio's own streams, which read ahead without limit on asyncio.
    Framework(
        wait_readable=anyio.wait_readable,
        wait_writable=anyio.wait_writable,
        notify_closing=anyio.notify_closing,
        closed_resource_error=anyio.ClosedResourceError,
        checkpoint=anyio.lowlevel.checkpoint,
        checkpoint_if_cancelled=anyio.lowlevel.checkpoint_if_cancelled,
        sleep=anyio.sleep,
        sleep_forever=anyio.sleep_forever,
        current_time=anyio.current_time,
        event=anyio.Event,
        cancel_scope=anyio.CancelScope,
        task_group=anyio.create_task_group,
        getaddrinfo=_getaddrinfo,
        open_signal_receiver=anyio.open_signal_receiver,
        run_in_thread=anyio.to_thread.run_sync,
        check_cancelled_in_thread=anyio.from_thread.check_cancelled,
        run_from_thread=anyio.from_thread.run,
        own_accept=_own_accept,
    )
)

serving: Final = _anyio.serving
serve: Final = _anyio.serve
start: Final = _anyio.start
open_stream: Final = _anyio.open_stream
connect: Final = _anyio.connect
send: Final = _anyio.send


class Pool(_pool.Pool):
    """A pool of connections on anyio."""

    _open_stream = staticmethod(open_stream)
    _new_event = staticmethod(anyio.Event)
    _current_loop = staticmethod(anyio.lowlevel.current_token)


@documented_as(Adapter.serve, without="handle_signals")
def run(
    app: App[Any],
    port: int = 0,
    *,
    backend: Backend = "asyncio",
    on_ready: OnReady = None,
    on_stop: OnStop = None,
    **options: Unpack[Options],
) -> None:
    """Serve in a new event loop until SIGINT or SIGTERM; `backend` is "asyncio" or "trio"."""
    main = partial(serve, app, port, on_ready=on_ready, on_stop=on_stop, handle_signals=True, **options)
    anyio.run(main, backend=backend)
