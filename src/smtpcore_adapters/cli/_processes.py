"""Run a server in this process or in several worker processes, reload certificates, and serve metrics."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from .._hangups import is_hangup_noted, note_hangup
from ..server._app import App
from ..server._limits import Limits
from ..server._listeners import Listener, addresses_of, listening
from ..streams._stream import Address
from ..workers import supervise
from ._files import reason_of
from ._health import Readiness, State
from ._output import show_line
from ._privileges import Account
from ._systemd import NO_SYSTEMD, Notifier, WatchedSocket

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

_logger = logging.getLogger("smtpcore")

Run = Callable[..., None]
"""An adapter's `run` with all arguments bound except `listeners` and `on_ready`."""


def run_alone(
    run: Run,
    listeners: Sequence[Listener],
    app: App[Any],
    *,
    metrics_at: Address | None = None,
    account: Account | None = None,
    on_open: Callable[[], None] = lambda: None,
    notifier: Notifier = NO_SYSTEMD,
    drain_delay: float = 0.0,
    event_loop: str = "",
    show: Callable[[str], None] = show_line,
) -> None:
    """Run the server, and the metrics in a thread, until SIGINT or SIGTERM. Raise `OSError` if listening fails.

    The server calls `on_open` and becomes `account` when it listens. `show` gets a line with the addresses and
    the name of the `event_loop`.
    """
    readiness = Readiness()
    stop = partial(_note_stop, readiness, notifier)
    with ExitStack() as stack:
        metrics = _metrics(app, metrics_at, stack, readiness)
        if metrics:
            threading.Thread(target=metrics.serve_forever, daemon=True).start()
            stack.callback(metrics.shutdown)

        # `on_ready` gets only the first address. The listeners are opened here, so that all addresses can be shown.
        opened = stack.enter_context(listening(listeners))
        addresses = addresses_of(opened)
        bound = [listener.at(stack.enter_context(WatchedSocket(each, stop))) for each, listener in opened]
        on_open()
        if account:
            account.become()
        announce = partial(_announce, readiness, notifier, _address_of(metrics), addresses, event_loop, show=show)

        def drain() -> float:
            _note_drain(readiness, notifier)
            return drain_delay

        run(listeners=bound, on_ready=lambda address: announce(), on_stop=drain)


def run_workers(
    run: Run,
    places: Sequence[Listener],
    count: int,
    app: App[Any],
    *,
    metrics_at: Address | None = None,
    limits: Limits,
    account: Account | None = None,
    on_open: Callable[[], None] = lambda: None,
    notifier: Notifier = NO_SYSTEMD,
    drain_delay: float = 0.0,
    event_loop: str = "",
    show: Callable[[str], None] = show_line,
) -> None:
    """Run `count` worker processes until SIGINT or SIGTERM; one more process serves the metrics of all workers.

    Raise `OSError` if listening fails. When all listeners are open, this process calls `on_open` and becomes `account`,
    so that no process of root remains. The workers then share the sockets. `show` gets a line with the addresses.
    """
    if not hasattr(os, "fork"):
        raise click.UsageError("--workers needs a system that can fork, such as Linux or macOS")

    readiness = Readiness()
    with TemporaryDirectory(prefix="smtpcore-") as directory, ExitStack() as stack:
        if metrics_at:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory  # prometheus_client reads this variable on import
        metrics = _metrics(app, metrics_at, stack, readiness)

        def become_account() -> None:
            on_open()
            if account:
                os.chown(directory, account.uid, account.gid)
                account.become()

        supervise(
            partial(run, on_stop=lambda: drain_delay if readiness.state is State.DRAINING else 0.0),
            places,
            count,
            limits,
            is_shared=account is not None,
            on_open=become_account,
            on_ready=partial(_announce, readiness, notifier, _address_of(metrics), event_loop=event_loop, show=show),
            reloading=partial(_passing_on, notifier),
            readers=[partial(_work_for_metrics, metrics)] if metrics else [],  # until all workers have ended
            on_death=_forget_process if metrics else lambda pid: None,
            on_stop=partial(_note_stop, readiness, notifier),
            drain_delay=drain_delay,
            on_drain=partial(_note_drain, readiness, notifier),
        )


def _announce(
    readiness: Readiness,
    notifier: Notifier,
    metrics: Address | None,
    addresses: Iterable[Address | None],
    event_loop: str = "",
    *,
    show: Callable[[str], None] = show_line,
) -> None:
    readiness.set(State.READY)
    notifier.report_ready()
    with_loop = f" with {event_loop}" if event_loop else ""
    show(f"listening on {' and '.join(map(str, addresses))}{with_loop}")
    if metrics:
        show(f"metrics at http://{metrics}/metrics")


def _note_stop(readiness: Readiness, notifier: Notifier) -> None:
    readiness.set(State.NOT_READY)
    notifier.report_stopping()


def _note_drain(readiness: Readiness, notifier: Notifier) -> None:
    readiness.set(State.DRAINING)
    notifier.report_stopping()


@contextmanager
def _passing_on(notifier: Notifier) -> Iterator[None]:
    note_hangup()  # this process keeps the old files, and the next workers are forked from it
    with notifier.reloading():
        yield


# The process


def raise_descriptor_limit(needed: int) -> None:
    """Let the process open `needed` files, or as many as the system allows (`RLIMIT_NOFILE`)."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with suppress(OSError, ValueError):  # if this fails, the server lowers its limit of connections
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


@contextmanager
def reloading(files: Sequence[tuple[str, Callable[[], object]]], notifier: Notifier = NO_SYSTEMD) -> Iterator[None]:
    """At each SIGHUP while the block runs, read the files again: each has a name for the log, and a function.

    They are also read again at once if there was a SIGHUP after they were read: during the start of the server, or
    before a worker is replaced.
    """
    # A closed terminal, a rotation of logs and `systemctl reload` send SIGHUP. By default SIGHUP would end the process.

    def handle(number: int, frame: object) -> None:
        with notifier.reloading():
            _reload(files)

    before = signal.signal(signal.SIGHUP, handle)
    if is_hangup_noted():
        signal.raise_signal(signal.SIGHUP)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _reload(files: Sequence[tuple[str, Callable[[], object]]]) -> None:
    if not files:
        _logger.info("SIGHUP: there is no certificate file and no file of users to reload")
    for name, reload in files:
        try:
            reload()
        except (OSError, ValueError) as exc:
            _logger.error("cannot reload the %s, the old one stays in use: %s", name, reason_of(exc))
        else:
            _logger.info("%s reloaded", name)


# Metrics


def _metrics(app: App[Any], at: Address | None, stack: ExitStack, is_ready: Callable[[], bool]) -> "WSGIServer | None":
    if at is None:
        return None

    try:
        from ..metrics import Metrics, metrics_server
    except ImportError as exc:
        raise click.UsageError("--metrics-port needs more packages: pip install 'smtpcore[metrics]'") from exc

    try:
        server = stack.enter_context(metrics_server(at.port, host=at.host, is_ready=is_ready))
    except OSError as exc:
        raise click.UsageError(f"cannot serve metrics at {at}: {exc.strerror or exc}") from exc

    app.include(Metrics())
    return server


def _work_for_metrics(metrics: "WSGIServer", ready: Callable[[], None]) -> None:
    ready()
    metrics.serve_forever()


def _address_of(metrics: "WSGIServer | None") -> Address | None:
    return Address(metrics.server_name, metrics.server_port) if metrics else None


def _forget_process(pid: int) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]
