"""Name the server, the missing reply and the slow side in the text of an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLError

from smtpcore import ClientBudgets, ProtocolError, TimedOut, Wait


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


def missing_input(wait: Wait, verb: str) -> str:
    """Return the input that is due: for example "the reply to MAIL", or an empty text. `verb` was sent last."""
    return _INPUT.get(wait, f"the reply to {verb}")


def timeout_text(event: TimedOut, budgets: ClientBudgets, verb: str) -> str:
    """Return the text for a server that did not send the input that was due."""
    seconds = getattr(budgets, event.budget)
    missing = "complete the TLS handshake" if event.wait is Wait.TLS else f"send {missing_input(event.wait, verb)}"
    if event.budget == "session":
        return f"the session took longer than {seconds:g} seconds, and the server did not {missing}"

    return f"the server did not {missing} within {seconds:g} seconds"


def write_timeout_text(seconds: float, budgets: ClientBudgets) -> str:
    """Return the text for a server that did not read all octets of a write within `seconds`."""
    if seconds < budgets.send:
        return f"the session took longer than {budgets.session:g} seconds before the server read all that was sent"

    return f"the server did not read all that was sent within {budgets.send:g} seconds"


_INPUT = {
    Wait.SERVER_GREETING: "its greeting",
    Wait.MAIL_REPLY: "the reply to MAIL",
    Wait.RCPT_REPLY: "the reply to RCPT",
    Wait.DATA_REPLY: "the reply to DATA",
    Wait.DATA_BLOCK: "the end of the body",
    Wait.END_REPLY: "the reply to the message",
    Wait.TLS: "the end of the TLS handshake",
    Wait.NOTHING: "",
}
