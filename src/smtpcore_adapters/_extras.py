"""Name the extra that installs a missing package."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def from_extra(extra: str) -> Iterator[None]:
    """Import packages of an extra in the block: the error of a missing package says how to install it."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(f"{exc}: pip install 'smtpcore[{extra}]'", name=exc.name, path=exc.path) from None
