"""A server in several worker processes, which share the connections to its ports and the counts of `Limits`."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from multiprocessing import current_process
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from smtpcore import show_texts

from .server._acceptor import Acceptor, OnReady, Server, announce
from .server._app import App
from .server._config import Options
from .server._counts import RemoteCounts
from .server._limits import Limits
from .server._listeners import Listener
from .streams._stream import Address, address_of

if TYPE_CHECKING:
    from .server._shared_counts import SharedCounts

__all__ = ["run_workers"]

WORKER = "worker-"
"""The name of a worker process without its number, which counts from 1."""

Run: TypeAlias = Callable[..., None]


def run_workers(
    run: Run, app: App[Any], port: int = 0, *, workers: int, on_ready: OnReady = None, **options: Unpack[Options]
) -> None:
    """Serve in several processes until SIGINT or SIGTERM: `run_workers(run, app, 2525, workers=4)`.

    The limits of `Limits` apply to all workers together. The counts are in memory that the workers share. A worker that
    dies is replaced, and its connections are no longer counted. If this process is killed, the workers shut down. Call
    this function in the main thread, before any other thread is started. The system must be able to fork, so Windows
    has no workers.

    Args:
        run: The function of an adapter that serves in each worker, such as `smtpcore_adapters.asyncio.run`.
        app: The handlers. Each worker has its own copy, so variables of your program are not shared.
        port: The TCP port to listen on. With 0, the default, the system picks a free port.
        workers: The number of processes.
        on_ready: Called in this process with the address of the server when all workers listen.
        **options: `host`, `tls`, `limits`, `listeners` and the other options in `smtpcore_adapters.Options`.

    Raises:
        ValueError: An option is wrong, or this system cannot fork.
        OSError: The server cannot listen on an address, for example because the port is in use.
        ChildProcessError: A worker failed before it was ready. Its error is on standard error.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: it must be at least 1")
    if not hasattr(os, "fork"):
        raise ValueError("workers need a system that can fork, such as Linux or macOS: call run without workers")

    acceptor = Acceptor(app, port, **options)  # a wrong option is reported before a process is started
    own_counts = options.get("counts")
    others = {name: value for name, value in options.items() if name not in _PASSED}

    def serve(**passed: Any) -> None:
        if isinstance(own_counts, RemoteCounts):
            own_counts.local = passed["counts"]
        run(app, **(passed | ({"counts": own_counts} if own_counts else {})), **others)

    def report(addresses: Sequence[Address]) -> None:
        announce(Server(tuple(addresses)), on_ready)

    supervise(serve, acceptor.listeners, workers, options.get("limits") or Limits(), on_ready=report)


_PASSED = frozenset({"host", "listeners", "counts"})
"""The options that `supervise` passes to each worker."""


def supervise(
    run: Run,
    places: Sequence[Listener],
    workers: int,
    limits: Limits,
    *,
    is_shared: bool = False,
    on_open: Callable[[], None] = lambda: None,
    on_ready: Callable[[Sequence[Address]], None] = lambda addresses: None,
    readers: Sequence[Callable[[Callable[[], None]], None]] = (),
    on_death: Callable[[int], None] = lambda pid: None,
    on_stop: Callable[[], None] = lambda: None,
    drain_delay: float = 0.0,
    on_drain: Callable[[], None] = lambda: None,
    reloading: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Open `places`, and call `run` in each worker with `listeners`, `on_ready` and `counts`.

    `is_shared` is that of `sockets_for_many`. `on_open` is called when the ports are open, before any worker is forked,
    and `on_stop` after this process has closed them. The others are arguments of `Supervisor`, and `on_ready` gets the
    addresses.
    """
    from .server._shared_counts import SharedCounts
    from .server._workers import Supervisor, sockets_for_many

    with SharedCounts(workers, limits.connections) as counts, ExitStack() as listening:
        listening.callback(on_stop)
        listeners = listening.enter_context(sockets_for_many(places, shared=is_shared))
        on_open()

        def note_death(number: int, pid: int) -> None:
            if number < workers:
                counts.forget(number)
            on_death(pid)

        Supervisor(
            [partial(_work, run, listeners, counts, number) for number in range(workers)],
            readers=readers,
            on_ready=partial(on_ready, [_address_at(each) for each in listeners]),
            on_death=note_death,
            on_stop=listening.close,
            drain_delay=drain_delay,
            on_drain=on_drain,
            reloading=reloading,
        ).run()


def _work(
    run: Run, listeners: Sequence[Listener], counts: "SharedCounts", number: int, ready: Callable[[], None]
) -> None:
    current_process().name = f"{WORKER}{number + 1}"  # log records have this name
    run(listeners=listeners, on_ready=lambda address: ready(), counts=counts.of_worker(number))


def _address_at(listener: Listener) -> Address:
    if listener.bound:
        return address_of(listener.bound.getsockname()) or Address("")

    return Address(listener.host or "", listener.port)


show_texts(globals())
