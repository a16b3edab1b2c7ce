"""A server that runs checks on the clients that connect to it."""

import os
import select
import shlex
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from .._findings import Finding, Outcome
from .._raw_client import printable
from ._client_checks import Case, ClientCheck, Tls
from ._visit import Script, Visit

if TYPE_CHECKING:
    import trustme

MAX_VISITS = 8
"""Maximum connections of a client in one check; further connections are closed."""
_MAX_OUTPUT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSetup:
    """The address of the server that checks clients, and the setup of the clients."""

    host: str = "127.0.0.1"
    """The address to listen on; by default 127.0.0.1."""
    port: int = 0
    """The TCP port; 0 (the default) for a free port."""
    tls: Tls = "none"
    """The TLS that the client requires: `starttls`, `implicit`, or `none` (the default) if it does not require TLS."""
    lmtp: bool = False
    """Whether the server speaks LMTP; by default SMTP."""
    timeout: float = 5.0
    """Seconds to wait for each command, and for the end of the client after its last connection; 5 by default."""
    pause: float = 0.2
    """Seconds to wait for octets that a client sends too early; 0.2 by default."""

    def __post_init__(self) -> None:
        if self.tls not in ("none", "starttls", "implicit"):
            raise ValueError(f"tls is none, starttls or implicit, not {self.tls!r}")
        if self.timeout <= 0 or self.pause < 0:
            raise ValueError("timeout has to be positive, and pause must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The place where a client that is started for a check has to connect."""

    host: str
    """The host."""
    port: int
    """The port."""
    authority: str
    """The path of a PEM file with the authority of the server's certificate."""


Client = Callable[[Run], bool | Collection[str] | None]
"""Sends one message, and returns whether it was sent, or the recipients for whom it was sent.

None stands for an unknown result. The function runs in a thread of its own.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a client."""

    visits: Sequence[Visit]
    """The connections of the client."""
    has_ended: bool
    """Whether the client ended in time."""
    result: bool | Collection[str] | None
    """The result that the client reported."""


class ClientNotEnded(Exception):
    """A client did not end in time."""


class ClientFailed(Exception):
    """A client could not be started; the text gives the reason."""


class ClientListener:
    """A server for clients that are tested, with one connection at a time.

    Entering the block raises `OSError` if listening fails, and `ImportError` without the package trustme.
    """

    def __init__(self, setup: ClientSetup) -> None:
        self.setup: ClientSetup = setup
        """The setup."""
        self.authority: str = ""
        """The path of a PEM file with the authority of the server's certificate."""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            family = socket.AF_INET6 if ":" in self.setup.host else socket.AF_INET
            self._listener = stack.enter_context(
                socket.create_server((self.setup.host, self.setup.port), family=family, backlog=16)
            )
            self._listener.setblocking(False)  # on some systems, a connection that was closed early cannot be accepted
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="smtpcore-check-"))
            self._contexts = _contexts(self.setup.host, Path(directory) / "ca.pem")
            self.authority = str(Path(directory) / "ca.pem")
            self._stack = stack.pop_all()

        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def attempt(self, client: Client, script: Script) -> Attempt:
        """Start a client, serve all its connections, and wait for its end. Raise what `client` raises."""
        with _Started(client, Run(host=self.setup.host, port=self.port, authority=self.authority)) as started:
            visits: list[Visit] = []
            end = time.monotonic() + 2 * self.setup.timeout
            while (left := end - time.monotonic()) > 0 and started.wait_for(self._listener, left):
                if visit := self._visit(script):
                    visits.append(visit)
                    end = time.monotonic() + 2 * self.setup.timeout
                if len(visits) == MAX_VISITS:
                    break

            has_ended, result = started.result(2 * self.setup.timeout)

        return Attempt(visits=visits, has_ended=has_ended, result=result)

    def wait_for(self, script: Script, seconds: float | None = None) -> Visit | None:
        """Serve the next client that connects; return None if no client connects within `seconds`."""
        end = None if seconds is None else time.monotonic() + seconds
        while select.select([self._listener], [], [], end and max(end - time.monotonic(), 0))[0]:
            if visit := self._visit(script):
                return visit

        return None

    def _visit(self, script: Script) -> Visit | None:
        """Serve the next client, and return None if the client has closed the connection already."""
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return None

        connection.setblocking(True)
        setup = self.setup
        context = self._contexts[script.certificate]
        visit = Visit(
            connection,
            script,
            context,
            tls=setup.tls,
            timeout=setup.timeout,
            pause=setup.pause,
            lmtp=setup.lmtp,
        )
        visit.serve()
        return visit


class ClientChecks(ClientListener):
    """A server that runs checks on clients: `with ClientChecks(ClientSetup()) as checks:`.

    Entering the block raises `OSError` if listening fails, and `ImportError` without the package trustme.
    """

    def __init__(self, setup: ClientSetup) -> None:
        super().__init__(setup)
        self._has_delivered = False

    # Clients that are started

    def run(self, client: Client, checks: Iterable[ClientCheck]) -> Iterator[Finding]:
        """Run `client` once for each check, and yield the findings. Raise what `client` raises."""
        for check in checks:
            yield self._skipped(check) or self._run_one(client, check)

    def _run_one(self, client: Client, check: ClientCheck) -> Finding:
        attempt = self.attempt(client, check.script)
        if not attempt.visits:
            return check.finding(Outcome.INCONCLUSIVE, "the client did not connect")

        reported = None if attempt.result is None else bool(attempt.result)
        finding = self._judged(check, attempt.visits, reported=reported)
        if attempt.has_ended or finding.outcome is Outcome.FAIL:
            return finding

        note = f"the client did not end within {2 * self.setup.timeout:g} seconds after its last connection"
        return check.finding(Outcome.FAIL, note, sent=finding.sent, seen=finding.seen)

    # Clients that connect by themselves

    def wait(self, checks: Iterable[ClientCheck], seconds: float | None = None) -> Iterator[Finding]:
        """Run the next check on each connection, and yield the findings. Stop after `seconds`; None for no limit."""
        end = None if seconds is None else time.monotonic() + seconds
        for check in checks:
            skipped = self._skipped(check)
            if skipped is not None:
                yield skipped
                continue

            left = None if end is None else max(0, end - time.monotonic())
            visit = self.wait_for(check.script, left)
            if visit is None:
                return
            yield self._judged(check, [visit], reported=None)

    # Both

    def _skipped(self, check: ClientCheck) -> Finding | None:
        if self.setup.lmtp and not check.is_for_lmtp:
            return check.finding(Outcome.NOT_APPLICABLE, "this check is for clients of SMTP")
        if self.setup.tls in check.needs:
            return None

        needs = " or ".join(check.needs)
        return check.finding(Outcome.NOT_APPLICABLE, f"this check is for clients set up with TLS: {needs}")

    def _judged(self, check: ClientCheck, visits: Sequence[Visit], *, reported: bool | None) -> Finding:
        self._has_delivered |= any(visit.accepted for visit in visits)
        case = Case(visits=visits, tls=self.setup.tls, reported=reported, has_delivered=self._has_delivered)
        sent = "\n".join(line for visit in visits for line in visit.sent)
        return check.judged(case, sent=sent, seen="\n".join(line for visit in visits for line in visit.seen))


class _Started:
    """A client that runs in a thread; a pair of sockets reports its end."""

    def __init__(self, client: Client, run: Run) -> None:
        self._client, self._run = client, run
        self._ended, self._end = socket.socketpair()
        self._result: bool | Collection[str] | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._call, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.close()

    def _call(self) -> None:
        try:
            self._result = self._client(self._run)
        except Exception as exc:  # raised again in the thread of the caller
            self._error = exc
        finally:
            self._end.close()

    def wait_for(self, listener: socket.socket, timeout: float) -> bool:
        """Return whether the client has connected; False if it ended, or after the timeout."""
        # A connection comes first: a client may end before its connection was accepted.
        readable, _, _ = select.select([listener, self._ended], [], [], timeout)
        return listener in readable

    def result(self, timeout: float) -> tuple[bool, bool | Collection[str] | None]:
        """Return whether the client has ended, and its result. Raise the error of the client."""
        self._thread.join(timeout)
        if isinstance(self._error, ClientNotEnded):
            return False, None
        if self._error is not None:
            raise self._error

        return not self._thread.is_alive(), self._result


def _contexts(host: str, file: Path) -> dict[Literal["valid", "unknown authority", "wrong name"], ssl.SSLContext]:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(file))
    names = ("localhost", "127.0.0.1", "::1", *{host} - {"localhost", "127.0.0.1", "::1"})
    return {
        "valid": _context(authority, *names),
        "unknown authority": _context(trustme.CA(), *names),
        "wrong name": _context(authority, "other.example"),
    }


def _context(authority: "trustme.CA", *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


# Commands


def command(text: str, *, timeout: float = 30.0) -> Client:
    """Return a client that runs a command, without a shell. Its exit status 0 reports success.

    `{host}`, `{port}` and `{ca}` in `text` are replaced by the address of the server, and by the path of a PEM file
    with the authority of its certificate. After `timeout` seconds the command is killed.

    Raises:
        ValueError: the text is no command, or has no `{port}`.
    """
    words = shlex.split(text)
    if not words or "{port}" not in text:
        raise ValueError("the command needs {port}, the port of the server")

    def client(run: Run) -> bool:
        values = {"{host}": run.host, "{port}": str(run.port), "{ca}": run.authority}
        return _succeeds([_filled_in(word, values) for word in words], timeout)

    return client


def _filled_in(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)

    return word


def _succeeds(words: Sequence[str], timeout: float) -> bool:
    try:
        process = subprocess.Popen(  # noqa: S603 - the command of the user
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that its children are killed, too
        )
    except OSError as exc:
        raise ClientFailed(f"{printable(words[0].encode())[:_MAX_OUTPUT]}: {exc.strerror}") from exc
    try:
        return process.wait(timeout) == 0
    except subprocess.TimeoutExpired:
        raise ClientNotEnded from None
    finally:
        _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()
    process.wait()
