"""Name the server, the missing reply and the slow side in the text of an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLError

from smtpcore import ProtocolError


@contextmanager
def naming(server: str) -> Iterator[None]:
    """Add the name of the server to an `OSError` that the block raises."""
    try:
        yield
    except OSError as exc:
        name(exc, server)
        raise


def name(error: OSError | ProtocolError, server: str, missing: str = "", slow: str = "") -> None:
    """Add to the text of `error` itself. The error keeps its class, its traceback and its attributes.

    Args:
        error: The error. An error that already has the name of the server is left unchanged.
        server: The name of the server, such as "mail.example.org:25".
        missing: The input that was due when the system reported an error, such as "the reply to MAIL".
        slow: A remark about the slow side, added at the end.
    """
    before = f" before {missing}" if missing else ""
    if isinstance(error, SSLError):
        if not str(error.strerror).startswith(server):
            error.strerror = f"{server}: {error.strerror}{slow}"
    elif isinstance(error, OSError) and error.errno is not None:
        if error.filename is None:
            error.filename = server
            error.strerror = f"{error.strerror}{before}{slow}"
    elif not str(error).startswith(server):
        lost = before if isinstance(error, ConnectionResetError) else ""
        error.args = (f"{server}: {error}{lost}{slow}", *error.args[1:])
