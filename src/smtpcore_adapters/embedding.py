"""Run a whole `App`, or a dialogue of `smtpcore.dialogues`, in an event loop of your own.

`Sessions` and `SocketStream` run an `App` in a loop that can wait for sockets. `Driver` runs a dialogue in a loop that
passes octets in and out; it does TLS, but no I/O.
"""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from ssl import SSLContext
from typing import Any, TypeAlias, TypedDict

from smtpcore import Event, LocalProtocolError, check_values, show_texts
from smtpcore.dialogues import Handshake, Read, Serving, Submission, Write
from smtpcore.sasl import Channel, Question

from .server._sessions import Sessions
from .streams._socket_stream import Cancelled, SocketStream, complete
from .streams._tls_codec import Encryption

__all__ = ["Cancelled", "Driver", "Sessions", "SocketStream", "complete"]

logger: logging.Logger = logging.getLogger("smtpcore")

_LAST = 10.0  # seconds
_LONGEST = 3600.0  # seconds: timers of some event loops have a maximum

_Next: TypeAlias = tuple[Callable[[Any], Any], object]


class _Arguments(TypedDict):
    steps: Generator[Any, Any, Any]
    write: Callable[[bytes], object]
    answer: Callable[[Event | Question], object]
    tls: SSLContext | None
    server_name: str | None
    clock: Callable[[], float]


class Driver:
    """One session in your event loop: pass received octets to `receive`; the session passes octets to send to `write`.

    Args:
        steps: the generator of `smtpcore.dialogues.serving` or `submission`.
        write: writes octets to the peer. The result False means that the octets are not written yet: call `written` as
            soon as they are. Any other result means that the octets are written, or that the event loop will write
            them.
        answer: returns your answer to an event or a SASL question of `serving`, or None. If it raises, the error is
            logged, and the connection has to be closed.
        tls: the context for TLS.
        server_name: the name of the server, with which a client checks the server's certificate. None for a server.
        clock: the clock that you have passed to the generator.

    Call `start` first. Then call `receive` with octets that arrive, `tick` after `left` seconds without a call of
    another method, `written` after a `write` that returned False, and `lost` if the connection is lost. When `is_over`
    is true, close the connection after the output is written.
    """

    def __init__(
        self,
        steps: Serving | Submission,
        write: Callable[[bytes], object],
        *,
        answer: Callable[[Event | Question], object] = lambda item: None,
        tls: SSLContext | None = None,
        server_name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = {"steps": steps, "write": write, "answer": answer, "tls": tls, "clock": clock}
        check_values({**given, "server_name": server_name}, _Arguments)
        self._steps: Any = steps
        self._write = write
        self._answer = answer
        self._context = tls
        self._server_name = server_name
        self._clock = clock
        self._yielded: Any = None
        self._encryption: Encryption | None = None
        self._input = bytearray()
        self._has_ended = False
        self.is_over: bool = False
        """Whether the session is over."""
        self.result: Any = None
        """The result of the generator once the session is over; for `submission`, the outcome for each recipient."""

    @property
    def wants_input(self) -> bool:
        """Whether to read from the peer now. While this is false, do not read, so that the peer has to wait."""
        return isinstance(self._yielded, Read | Handshake)

    @property
    def left(self) -> float:
        """Seconds until `tick` has to be called, at most 3600. After the session: 10, for writing the rest."""
        if self._yielded is None and not self.is_over:
            raise LocalProtocolError("the session has not begun: call start() first")

        return _LAST if self.is_over else min(max(0.0, self._yielded.deadline - self._clock()), _LONGEST)

    def start(self) -> None:
        """Begin the session: a server sends its greeting, unless TLS comes first."""
        self._resume(self._steps.send, None)

    def receive(self, data: bytes) -> None:
        """Process received octets; `b""` is the end of the peer's stream."""
        if self._encryption:
            self._encryption.receive_data(data)
        elif data:
            self._input += data
        else:
            self._has_ended = True
        if self.wants_input:
            self._continue()

    def written(self) -> None:
        """Continue after a `write` that returned False: all octets are written now."""
        if isinstance(self._yielded, Write):
            self._resume(self._steps.send, None)

    def tick(self) -> None:
        """Continue at the deadline, or because the server stops."""
        if isinstance(self._yielded, Read):
            self._resume(self._steps.send, None)
        elif not self.is_over and self._clock() >= self._yielded.deadline:
            self._resume(self._steps.throw, TimeoutError("the peer is too slow"))

    def lost(self, error: OSError | None = None) -> None:
        """End the session, because the connection is lost."""
        if not self.is_over:
            self._resume(self._steps.throw, error or ConnectionResetError("the connection is lost"))

    def _continue(self) -> None:
        following = self._fulfil()
        if following:
            self._resume(*following)

    def _resume(self, step: Callable[[Any], Any], value: object) -> None:
        following: _Next | None = step, value
        while following:
            step, value = following
            try:
                self._yielded = step(value)
            except StopIteration as stop:
                self._end(stop.value)
                return

            following = self._fulfil()

    def _fulfil(self) -> _Next | None:
        """Return how to resume the generator, or None if its action has to wait for the event loop."""
        try:
            match self._yielded:
                case Write(data):
                    encrypted = self._encryption.encrypt(data) if self._encryption else data
                    return None if self._write(encrypted) is False else (self._steps.send, None)
                case Read():
                    received = self._take_input()
                    return None if received is None else (self._steps.send, received)
                case Handshake():
                    channel = self._shake_hands()
                    return (self._steps.send, channel) if channel else None
                case _:
                    pass
        except OSError as exc:  # this includes `ssl.SSLError`
            return self._steps.throw, exc

        try:
            return self._steps.send, self._answer(self._yielded)
        except Exception as exc:
            logger.exception("an answer failed, so the session ends")
            return self._steps.throw, ConnectionAbortedError(f"an answer failed: {exc!r}")

    def _take_input(self) -> bytes | None:
        if self._encryption:
            data = self._encryption.read()
            self._flush_encryption()
            return data
        if not self._input:
            return b"" if self._has_ended else None

        received = bytes(self._input)
        self._input.clear()
        return received

    def _shake_hands(self) -> Channel | None:
        if self._context is None:
            raise OSError("TLS is due, but there is no SSLContext: pass tls=...")
        if self._encryption is None:
            self._encryption = Encryption(self._context, self._server_name, bytes(self._input))
            if self._has_ended:
                self._encryption.receive_data(b"")
        try:
            if not self._encryption.handshake():
                return None
        finally:
            self._flush_encryption()

        return Channel(tls=True, external=self._encryption.describe().subject)

    def _flush_encryption(self) -> None:
        if self._encryption and (data := self._encryption.data_to_send()):
            self._write(data)

    def _end(self, result: object) -> None:
        self._yielded, self.result, self.is_over = None, result, True
        if self._encryption:
            with suppress(OSError):
                self._write(self._encryption.close())


show_texts(globals())
