"""The frameworks and event loops that run `smtpcore serve`."""

from functools import partial
from importlib import import_module
from importlib.util import find_spec

from ..server._limits import Limits
from ._processes import Run
from ._sources import Settings

_BACKENDS = {
    "asyncio": "smtpcore_adapters.asyncio",
    "trio": "smtpcore_adapters.trio",
    "threads": "smtpcore_adapters.socket",
}


def event_loop_of(server: Settings) -> str:
    """Return the package of the event loop, or "" for the event loop of Python or of another framework.

    Raises:
        click.UsageError: The settings exclude each other, or a package is missing.
    """
    wanted, backend = server["loop"], server["backend"]
    if backend == "trio" and not find_spec("trio"):
        raise server.error("{backend} trio needs another package: pip install 'smtpcore[trio]'")
    if backend != "asyncio" and wanted != "auto":
        raise server.error("{loop} has no effect with {backend} " + backend + ": leave out one of them")
    if backend != "asyncio" or wanted == "asyncio":
        return ""
    if find_spec("uvloop"):  # not for Windows
        return "uvloop"
    if wanted == "uvloop":
        raise server.error("{loop} uvloop needs another package: pip install 'smtpcore[speed]'")

    return ""


def runner_of(backend: str, event_loop: str, limits: Limits) -> Run:
    """Return the `run` function of the adapter, with the event loop of `event_loop_of` and the limits."""
    run: Run = import_module(_BACKENDS[backend]).run
    if event_loop:
        run = partial(run, loop_factory=import_module(event_loop).new_event_loop)
    return partial(run, limits=limits)
