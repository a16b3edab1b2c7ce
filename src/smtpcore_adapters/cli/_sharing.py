"""The counts of `smtpcore serve` beyond one process: a store for several machines, and the greylist."""

from functools import partial
from typing import TYPE_CHECKING, Any

from ..greylist import Greylist
from ..server._counts import Counts, MemoryCounts
from ._processes import Run
from ._sources import Settings

if TYPE_CHECKING:
    from ..shared_limits import RedisCounts


def shared_counts(server: Settings) -> "RedisCounts | None":
    """Return the counts of several machines, if the settings name a store. Nothing is connected yet."""
    if server["shared_limits"] is None:
        return None

    try:
        from ..shared_limits import RedisCounts

        return RedisCounts(server["shared_limits"])
    except ImportError:
        raise server.error("{shared_limits} needs another package: pip install 'smtpcore[shared-limits]'") from None
    except ValueError as exc:
        raise server.error("{shared_limits}: {reason}", reason=exc) from exc


def greylist(server: Settings) -> Greylist | None:
    """Return the greylist, if the settings ask for one."""
    if server["greylist"] is None:
        return None
    if server["app"]:
        raise server.error("{greylist} and {app} exclude each other: include a Greylist in the app")

    try:
        return Greylist(server["greylist"])
    except ValueError as exc:
        raise server.error("{greylist}: {reason}", reason=exc) from exc


def counting(run: Run, shared: "RedisCounts | None", greylist: Greylist | None) -> Run:
    """Return a `run` whose server counts with `shared`, and whose greylist uses the counts of the server.

    It is called in the process that serves, with the counts of all workers of this machine if there are workers.
    """
    return partial(_run, run, shared, greylist) if shared or greylist else run


def _run(
    run: Run, shared: "RedisCounts | None", greylist: Greylist | None, *, counts: Counts | None = None, **arguments: Any
) -> None:
    local = MemoryCounts() if counts is None else counts
    if shared:
        shared.local = local
    if greylist:
        greylist.counts = shared or local
    try:
        run(counts=shared or local, **arguments)
    finally:
        if shared:
            shared.close()
