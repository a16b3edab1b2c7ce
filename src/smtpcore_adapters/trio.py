"""Servers and clients on trio."""

from functools import partial
from typing import Any, Final, Unpack

from ._adapter import Adapter, documented_as
from ._extras import from_extra
from .client import _pool
from .server._acceptor import OnReady, OnStop
from .server._app import App
from .server._config import Options
from .streams._framework import Framework

with from_extra("trio"):
    import trio

__all__ = ["Pool", "connect", "open_stream", "run", "send", "serve", "serving", "start"]

_trio = Adapter(
    Framework(
        wait_readable=trio.lowlevel.wait_readable,
        wait_writable=trio.lowlevel.wait_writable,
        notify_closing=trio.lowlevel.notify_closing,
        closed_resource_error=trio.ClosedResourceError,
        checkpoint=trio.lowlevel.checkpoint,
        checkpoint_if_cancelled=trio.lowlevel.checkpoint_if_cancelled,
        sleep=trio.sleep,
        sleep_forever=trio.sleep_forever,
        current_time=trio.current_time,
        event=trio.Event,
        cancel_scope=trio.CancelScope,
        task_group=trio.open_nursery,
        getaddrinfo=trio.socket.getaddrinfo,
        open_signal_receiver=trio.open_signal_receiver,
        run_in_thread=trio.to_thread.run_sync,
        check_cancelled_in_thread=trio.from_thread.check_cancelled,
        run_from_thread=trio.from_thread.run,
    )
)

serving: Final = _trio.serving
serve: Final = _trio.serve
start: Final = _trio.start
open_stream: Final = _trio.open_stream
connect: Final = _trio.connect
send: Final = _trio.send


class Pool(_pool.Pool):
    """A pool of connections on trio."""

    _open_stream = staticmethod(open_stream)
    _new_event = staticmethod(trio.Event)
    _current_loop = staticmethod(trio.lowlevel.current_trio_token)


@documented_as(Adapter.serve, without="handle_signals")
def run(
    app: App[Any], port: int = 0, *, on_ready: OnReady = None, on_stop: OnStop = None, **options: Unpack[Options]
) -> None:
    """Serve in a new event loop of trio until SIGINT or SIGTERM."""
    trio.run(partial(serve, app, port, on_ready=on_ready, on_stop=on_stop, handle_signals=True, **options))
