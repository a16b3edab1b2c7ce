"""Both ends of a session as generators: they yield what an event loop has to do, and return the result.

An item that a generator yields is one of these. `send` its result into the generator to continue:

    Write(data, deadline)   write `data`; the result is None
    Read(deadline)          wait for input; the result is the octets, `b""` at the end of the peer's stream, or None at
                            the deadline; send None earlier to make the generator check `is_stopping`
    Handshake(deadline)     do a TLS handshake; the result is a `sasl.Channel`, or None for a channel without bindings
    any other item          an event or a SASL question for your program (`serving` only); the result is your answer

If a write, a read or a handshake fails, or is not done at its deadline, `throw` an `OSError` into the generator. All
deadlines are times of the clock that you pass, such as `time.monotonic`.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ._addresses import Path
from ._client import ClientConnection
from ._commands import Auth, Data, Helo, Mail, Quit, Rcpt, StartTls
from ._connection import Connection
from ._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import (
    NEED_DATA,
    NEED_TLS,
    Answered,
    AuthCancel,
    AuthResponse,
    ConnectionClosed,
    DataChunk,
    DataEnd,
    Event,
    Request,
    Signal,
    TimedOut,
)
from ._fields import Checked, check_argument
from ._help import show_texts
from ._replies import Reply, ReplyClass
from ._state import State, Wait
from .sasl import Channel, Credentials, Question, ServerExchange, choose, make_client

STOPPING: Final = Reply(421, "closing: the server is shutting down", enhanced="4.3.2")
"""The last reply to a client if the server stops."""


@dataclass(frozen=True, slots=True)
class Write(Checked):
    """An action for the event loop: write octets to the peer."""

    data: bytes
    """The octets, at least one."""
    deadline: float
    """The time at which the write has to be complete."""


@dataclass(frozen=True, slots=True)
class Read(Checked):
    """An action for the event loop: wait for input of the peer."""

    deadline: float
    """The time until which to wait; `math.inf` for no limit."""


@dataclass(frozen=True, slots=True)
class Handshake(Checked):
    """An action for the event loop: do a TLS handshake, as a server for `serving`, as a client for `submission`."""

    deadline: float
    """The time at which the handshake has to be complete."""


Action: TypeAlias = Write | Read | Handshake
Serving: TypeAlias = Generator[Action | Event | Question, Any, None]
Result: TypeAlias = dict[str, Reply | Exception]
"""For each recipient the reply that decided about the message, or the error that prevented such a reply."""
Submission: TypeAlias = Generator[Action, Any, Result]


def _flush(conn: Connection | ClientConnection, clock: Callable[[], float]) -> Generator[Action, Any, None]:
    data = conn.data_to_send()
    if data:
        yield Write(data, conn.send_deadline(clock()))


def _read(conn: Connection | ClientConnection, clock: Callable[[], float]) -> Generator[Action, Any, None]:
    conn.tick(clock())
    data = yield Read(conn.deadline)
    if data is not None:
        conn.receive_data(data)
    conn.tick(clock())


def _shake_hands(conn: Connection | ClientConnection, clock: Callable[[], float]) -> Generator[Action, Any, Channel]:
    conn.tick(clock())
    channel: Channel | None = yield Handshake(conn.deadline)
    conn.tls_established()
    return channel or Channel(tls=True)


# The server's end


def serving(
    conn: Connection,
    clock: Callable[[], float],
    *,
    exchange: ServerExchange | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Serving:
    """Serve one client: yield actions, events and SASL questions.

    The answer to an event is a reply, a sequence of replies for the recipients of an LMTP message, or None for the
    reply of a server without handlers. The answer to a SASL question is described in its class. Without an `exchange`,
    AUTH is an event like any other. When `is_stopping` returns True, the session ends with a 421 before its next
    message. The generator raises `LocalProtocolError` for an answer that cannot be sent.
    """
    check_argument("conn", conn, Connection)
    check_argument("clock", clock, Callable[[], float])
    check_argument("exchange", exchange, ServerExchange | None)
    check_argument("is_stopping", is_stopping, Callable[[], bool])
    return _serve(conn, clock, exchange, is_stopping)


def _serve(
    conn: Connection, clock: Callable[[], float], exchange: ServerExchange | None, is_stopping: Callable[[], bool]
) -> Serving:
    try:
        yield from _converse(conn, clock, exchange, is_stopping)
    except (OSError, RemoteProtocolError) as exc:
        if isinstance(exc, OSError):
            conn.send_failed()
        while not isinstance(event := conn.next_event(), ConnectionClosed | Signal):
            yield event  # the event is the BodyAborted of an open body


def _converse(
    conn: Connection, clock: Callable[[], float], exchange: ServerExchange | None, is_stopping: Callable[[], bool]
) -> Serving:
    while not isinstance(event := conn.next_event(), ConnectionClosed):
        if event is NEED_DATA or event is NEED_TLS:
            yield from _flush(conn, clock)
        if event is NEED_TLS:
            channel = yield from _shake_hands(conn, clock)
            if exchange:
                exchange.channel = channel
        elif event is NEED_DATA:
            if is_stopping() and not conn.transaction and conn.may_send(STOPPING):
                conn.send(STOPPING)
            else:
                yield from _read(conn, clock)
        elif exchange and isinstance(event, Auth | AuthResponse | AuthCancel):
            step = exchange.receive(event)
            while not isinstance(step, Reply):
                step = exchange.answer((yield step))
            conn.answer(event, step)
        else:
            assert not isinstance(event, Signal), "every event was answered"
            answer: Reply | Iterable[Reply] | None = yield event
            if answer is not None and not isinstance(answer, Reply):
                check_argument("answer", answer, Iterable[Reply])
            conn.answer(event, *((answer,) if isinstance(answer, Reply) else answer or ()))
        if conn.must_flush:
            yield from _flush(conn, clock)

    yield from _flush(conn, clock)


# The client's end


class _Refused(Exception):
    """The server has refused a step that all recipients need."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def submission(
    conn: ClientConnection,
    clock: Callable[[], float],
    sender: str | Mail,
    recipients: Sequence[str | Rcpt],
    body: Iterable[bytes],
    *,
    require_tls: bool = False,
    credentials: Credentials | None = None,
) -> Submission:
    """Send one message: yield actions, and return the outcome for each recipient.

    A `Mail` or `Rcpt` is sent with its parameters. The keys of the result are the addresses of the recipients as text.
    TLS is used if the server offers it; with `require_tls`, nothing is sent without TLS. With `credentials`, the client
    logs in. `body` is taken in pieces of any size as the server reads them. An exception in the result means that the
    server did not decide. With a `LocalProtocolError`, the address or the message cannot be sent to this server. With
    another `ProtocolError` or an `OSError`, the session failed; if the body had been sent completely, the server may
    have accepted the message.
    """
    check_argument("conn", conn, ClientConnection)
    check_argument("clock", clock, Callable[[], float])
    check_argument("sender", sender, str | Mail)
    check_argument("recipients", recipients, Sequence[str | Rcpt])
    check_argument("body", body, Iterable[bytes])
    check_argument("require_tls", require_tls, bool)
    check_argument("credentials", credentials, Credentials | None)
    return _submit(_Client(conn, clock), sender, recipients, body, require_tls, credentials)


def _submit(
    client: "_Client",
    sender: str | Mail,
    recipients: Sequence[str | Rcpt],
    body: Iterable[bytes],
    require_tls: bool,
    credentials: Credentials | None,
) -> Submission:
    results: Result = {}
    why: Reply | Exception | None = None
    try:
        yield from client.open(require_tls, credentials)
        mail = Mail(Path(sender)) if isinstance(sender, str) else sender
        yield from client.deliver(mail, recipients, body, results)
    except _Refused as refusal:
        why = refusal.reply
    except (ProtocolError, OSError) as exc:
        why = exc
    if why:
        for recipient in recipients:
            results.setdefault(_name(recipient), why)
    if not isinstance(why, OSError):
        yield from client.quit()
    return results


def _name(recipient: str | Rcpt) -> str:
    return recipient if isinstance(recipient, str) else str(recipient.forward_path)


class _Client:
    def __init__(self, conn: ClientConnection, clock: Callable[[], float]) -> None:
        self._conn = conn
        self._clock = clock
        self._channel: Channel | None = None

    # Steps

    def open(self, require_tls: bool, credentials: Credentials | None) -> Generator[Action, Any, None]:
        """Read the greeting, send EHLO, start TLS, and log in."""
        conn = self._conn
        if conn.waiting_for is Wait.TLS:
            self._channel = yield from _shake_hands(conn, self._clock)
        greeting: list[Answered] = []
        yield from self._take(greeting)
        _check(greeting[0])
        yield from self._greet()
        if not conn.tls and (require_tls or "STARTTLS" in conn.extensions):
            answer = yield from self._ask(StartTls())
            if answer.reply.is_positive:
                self._channel = yield from _shake_hands(conn, self._clock)
                yield from self._greet()
            elif require_tls:
                _check(answer)
        if credentials:
            yield from self._log_in(credentials)

    def _greet(self) -> Generator[Action, Any, None]:
        conn = self._conn
        answer = yield from self._ask(conn.hello)
        if answer.reply.reply_class is ReplyClass.PERMANENT and not conn.config.lmtp:
            answer = yield from self._ask(Helo(conn.config.hostname))  # RFC 5321 3.2
        _check(answer)

    def _log_in(self, credentials: Credentials) -> Generator[Action, Any, None]:
        conn, channel = self._conn, self._channel or Channel(tls=self._conn.tls)
        offered = conn.extensions.get("AUTH")
        names = offered if isinstance(offered, tuple) else ()
        name = choose(names, credentials, channel, cleartext=conn.config.plaintext_auth)
        if name is None:
            raise LocalProtocolError("no mechanism that the server offers suits these credentials")

        mechanism = make_client(name, credentials, channel)
        auth = Auth(name, mechanism.initial())
        if not conn.may_send(auth):  # the initial response is too long for a command line
            mechanism = make_client(name, credentials, channel)
            auth = Auth(name)
        answer = yield from self._ask(auth)
        while answer.reply.reply_class is ReplyClass.INTERMEDIATE:
            try:
                response: AuthResponse | AuthCancel = AuthResponse(mechanism.respond(answer.reply.challenge or b""))
                if not conn.may_send(response):
                    response = AuthCancel()  # the challenge was not base64
            except ProtocolError:
                yield from self._ask(AuthCancel())
                raise
            answer = yield from self._ask(response)
        _check(answer)
        mechanism.finish()

    def deliver(
        self, mail: Mail, recipients: Sequence[str | Rcpt], body: Iterable[bytes], results: Result
    ) -> Generator[Action, Any, None]:
        """Send the envelope and the body, and add the outcome for each recipient to `results`."""
        conn, answers, asked = self._conn, list[Answered](), list[str]()
        conn.send(mail)
        try:
            for recipient in recipients:
                try:
                    rcpt = Rcpt(Path(recipient)) if isinstance(recipient, str) else recipient
                    yield from self._wait_for(rcpt, answers)
                    conn.send(rcpt)
                except LocalProtocolError as exc:
                    results[_name(recipient)] = exc
                else:
                    asked.append(_name(recipient))
            yield from self._wait_for(Data(), answers)
            if asked and conn.may_send(Data()):
                conn.send(Data())
            yield from self._take(answers)
        finally:
            decided = [answer.reply for answer in answers if isinstance(answer.to, Rcpt)]
            results.update((each, reply) for each, reply in zip(asked, decided, strict=False) if not reply.is_positive)

        accepted = [recipient for recipient in asked if recipient not in results]
        if accepted:
            _check(answers[-1])  # the reply to DATA
            for piece in body:
                conn.send(DataChunk(piece))
                yield from self._write()
        if conn.state is State.DATA:
            ends: list[Answered] = []
            conn.send(DataEnd())
            yield from self._take(ends)
            # RFC 2033 4.2: in LMTP a reply for each recipient; a 421 is the last one.
            results.update((each, ends[min(i, len(ends) - 1)].reply) for i, each in enumerate(accepted))

    def quit(self) -> Generator[Action, Any, None]:
        """Send QUIT and read the reply, unless QUIT is out of sequence, such as within a message."""
        conn = self._conn
        try:
            yield from self._wait_for(Quit(), [])
            if conn.may_send(Quit()):
                conn.send(Quit())
                yield from self._take([])
        except (_Refused, ProtocolError, OSError):
            pass  # the results are known

    # Requests and replies

    def _ask(self, request: Request) -> Generator[Action, Any, Answered]:
        answers: list[Answered] = []
        self._conn.send(request)
        yield from self._take(answers)
        return answers[-1]

    def _wait_for(self, request: Request, answers: list[Answered]) -> Generator[Action, Any, None]:
        if self._conn.must_wait(request):
            yield from self._take(answers)

    def _take(self, answers: list[Answered]) -> Generator[Action, Any, None]:
        """Write the queued octets, and read all pending replies."""
        conn = self._conn
        yield from self._write()
        while conn.replies_due:
            match event := conn.next_event():
                case Answered(to, reply):
                    answers.append(event)
                    is_end = reply.reply_class is ReplyClass.GOODBYE and not isinstance(to, DataEnd)
                    if to is None or is_end or isinstance(to, Mail):
                        _check(event)
                case _:
                    yield from _read(conn, self._clock)
        if conn.state is State.CLOSED and isinstance(timeout := conn.next_event(), TimedOut):
            raise TimeoutError(f"the server exceeded the time budget {timeout.budget!r}")

    def _write(self) -> Generator[Action, Any, None]:
        try:
            yield from _flush(self._conn, self._clock)
        except TimeoutError:
            raise
        except OSError:
            # The server has closed the connection. A refusal that it sent before is the result.
            while not isinstance(event := self._conn.next_event(), ConnectionClosed):
                if isinstance(event, Answered):
                    _check(event)
                else:
                    yield from _read(self._conn, self._clock)
            raise


def _check(answer: Answered) -> None:
    if not answer.reply.is_positive:
        raise _Refused(answer.reply)
    if answer.to is None:  # this is an unsolicited 221, because a 421 is not positive
        raise RemoteProtocolError(f"the server closed the session: {answer.reply}")


show_texts(globals())
