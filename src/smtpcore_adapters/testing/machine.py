"""`SessionMachine`: a test of an `App` with random sessions, for Hypothesis.

The package hypothesis is needed: `pip install 'smtpcore[testing]'`.
"""

# The machine sends steps to a session in memory. The model (`_session_model.py`) reads the replies of the server, so a
# refusal by policy is always allowed. Steps that RFC 2920 allows in a group wait in a queue, and the group is sent in
# segments of any size. So the meaning of a command depends on replies that the client has not seen yet.

import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from inspect import iscoroutinefunction
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.strategies import SearchStrategy

from smtpcore import Bodies, Command, Config, DataChunk, DataEnd, Mail, Reply, ReplyClass, UnknownCommand, show_texts

from ..server._app import App
from ..server._notifications import Observed, Reason, SessionClosed
from ..server._session import Session
from ..streams._stream import Address
from . import strategies
from ._memory import LOCAL, PEER, Clock, MemoryServer, MemorySession, MemoryStream
from ._received import Received
from ._session_model import Message, SessionModel
from ._session_strategies import BAD_LOGINS, LOGINS
from .steps import AuthStep, BodyStep, ChunkStep, LineStep, RawStep, Step, TlsStep

__all__ = ["SessionMachine", "SessionModel"]

T = TypeVar("T")

_RARELY = st.integers(0, 9).map(lambda number: number == 7)
_SIZES = st.sampled_from([10_000, 1, 2, 7])
_LINES = strategies.hostile_lines().filter(lambda line: not re.match(rb"BDAT +[0-9]", line, re.IGNORECASE))
"""Hostile lines, except those after which a server discards the octets of a chunk."""
_PATH = re.compile(rb'(?:MAIL FROM|RCPT TO):<((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: .*)?', re.IGNORECASE)
_REPLY_LINE = re.compile(rb"[2-5][0-5][0-9](?:[ -][^\r\n\0]*)?")
_XCLIENT_IGNORED = frozenset({500, 501, 502, 503})
"""Refusals of XCLIENT itself; another refusal is the greeting of the app to the new client."""
_NEVER_503 = frozenset({"MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT"})
"""Verbs for which 503 can only mean that the command is out of sequence."""
_ENDS: list[Step] = [
    LineStep(b"RSET"),
    LineStep(b"EHLO"),
    BodyStep(b"x\r\n"),
    BodyStep(b"x\ny\r\n"),
    ChunkStep(b"x\r\n"),
    ChunkStep(b"x\ny\r\n"),
    ChunkStep(b"x\r\n", is_last=False),
    ChunkStep(b"x\ny\r\n", is_last=False),
    TlsStep(),
    AuthStep("LOGIN", None, (b"*",)),
]
"""Ways to end a transaction, some with a refusal, and steps that leave the transaction open."""
_PROBES: list[Step | None] = [
    None,
    LineStep(b"MAIL FROM:<>"),
    LineStep(b"RCPT TO:<u@s.example>"),
    BodyStep(b"x\r\n"),
    ChunkStep(b"x\r\n"),
]
"""Commands whose reply shows whether the transaction is still open."""
_MULTILINE = re.compile(rb"^(([2-5][0-9]{2})-[^\r\n]*)\r\n((?:\2-[^\r\n]*\r\n)*)\2(?: [^\r\n]*)?\r\n", re.MULTILINE)
"""A reply with several lines."""
_DIALOGUE = "The dialogue:"
_DEPTHS = st.sampled_from([0, 1, 2, 2, 2, 3])
"""The number of commands of a transaction before its end. Most ends need a recipient."""
_SHOWN = 100  # octets of a line in the text of the dialogue


def _of_machine(attribute: Callable[["SessionMachine"], Sequence[T]]) -> SearchStrategy[T]:
    """Draw from a sequence that is an attribute of the machine that runs."""
    return st.runner().flatmap(lambda machine: st.sampled_from(attribute(machine)))


def _app_of(machine: "SessionMachine") -> App[Any]:
    """Return the app of a subclass. Raise `TypeError` if its methods cannot be used."""
    for hook in (machine.make_app, machine.delivered, machine.replied):
        if iscoroutinefunction(hook):
            raise TypeError(f"{hook.__name__} must be a plain function: the machine does not await it")
    app: object = machine.make_app()
    if not isinstance(app, App):
        raise TypeError(f"make_app returned {app!r}, and not an App")
    return app


class _Arrivals:
    """The messages that the server has received and accepted, as an observer sees them."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        """The octets of the message that arrives."""
        self.accepted: deque[tuple[Message, Received]] = deque()
        """The accepted messages that `SessionMachine` has not checked yet."""
        self.has_failed = False
        """Whether the server itself has failed, and not a handler of the app."""
        self._arrived: tuple[Message, Received] | None = None

    def clear(self) -> None:
        """Forget the messages of the last connection."""
        self.body.clear()
        self.accepted.clear()
        self._arrived = None

    def observe(self, session: Session[Any], item: Observed) -> None:
        """Collect the messages that arrive and are accepted. The next commands of a group may follow at once."""
        match item:
            case Reply() if item.is_positive and self._arrived:
                self.accepted.append(self._arrived)
                self._arrived = None
            case Command() | UnknownCommand():
                self._arrived = None
                if isinstance(item, Mail):
                    self.body.clear()
            case DataChunk(data=octets):
                self.body.append(octets)
            case DataEnd() if session.transaction:
                mail, rcpts = session.transaction.mail, session.transaction.recipients
                content = b"".join(self.body)
                paths = tuple(str(rcpt.forward_path).encode() for rcpt in rcpts)
                received = Received(
                    sender=mail.reverse_path.address,
                    recipients=tuple(rcpt.forward_path.address for rcpt in rcpts),
                    mail_params=mail.params,
                    rcpt_params=tuple(rcpt.params for rcpt in rcpts),
                    content=content,
                    helo=session.helo.domain if session.helo else "",
                    tls=session.tls,
                    identity=session.identity,
                    peer=session.peer,
                )
                self._arrived = (str(mail.reverse_path).encode(), paths, content), received
                self.body.clear()
            case SessionClosed(reason=Reason.FAILED):
                self.has_failed = True
            case _:
                pass


class SessionMachine(RuleBasedStateMachine):
    """Random sessions with your `App`, in memory: subclass it, and override `make_app` and the hooks.

    The clients send valid, nearly valid and hostile commands and bodies, in groups and in segments of any size. Time
    passes only by the rule `wait`. Each reply is checked with `model`: one reply for each command, in order; no command
    out of sequence is accepted; 503 only out of sequence; and a message that is accepted has the sender, the recipients
    and the octets that were accepted. The server's own refusals are always allowed.

    A test runner runs `TestMyApp = MyMachine.TestCase`. A failure shows the dialogue, also a failure of your own
    rules, invariants and hooks.
    """

    config: ClassVar[Config] = Config(
        hostname="s.example", bodies=Bodies.CHUNKS, starttls=True, plaintext_auth=True, max_auth_failures=None
    )
    """The configuration of the server. By default with STARTTLS, and AUTH without TLS if the app handles `auth`."""
    trusted: ClassVar[bool] = False
    """Whether the clients may use XCLIENT. Default: false."""
    proxied: ClassVar[bool] = False
    """Whether each connection begins with a PROXY header that names the client. Default: false."""
    peers: ClassVar[Sequence[str]] = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
    """The IP addresses of the clients."""
    senders: ClassVar[Sequence[str]] = ("a@c.example", "", '"a b"@[192.0.2.1]')
    """The senders without brackets."""
    recipients: ClassVar[Sequence[str]] = ("u@s.example", "Postmaster", "@relay.example:v@s.example")
    """The recipients without brackets: use addresses that the app accepts, and some that it refuses."""
    logins: ClassVar[Sequence[Step]] = (*LOGINS, *BAD_LOGINS)
    """The attempts to log in. By default with the user `user` and the password `password`, valid and not."""

    _memory: MemorySession

    def __init__(self) -> None:
        super().__init__()
        self.clock: Clock = Clock()
        """The clock of the server."""
        self.model: SessionModel = SessionModel()
        """The state of the session as the RFCs require it."""
        self.objection: frozenset[int] = frozenset()
        """The codes that may refuse the last step because it was out of sequence; empty if it was in sequence."""
        app = _app_of(self)
        served = copy(app)
        self._arrivals = _Arrivals()
        served.observers = [*app.observers, self._arrivals.observe]
        self._server = MemoryServer(served, self.config, self.clock, trusted=self.trusted, proxied=self.proxied)
        self._peer = self.peers[0]
        self._lines: list[str] = []
        self._queue: list[Step] = []
        self._is_exact = True
        self._is_open = False

    # For subclasses

    def make_app(self) -> App[Any]:
        """Return the app to test, for one run of random sessions. Override this method.

        By default a server refuses every recipient: without a handler of RCPT in the app, no message is delivered.
        """
        raise NotImplementedError("override make_app(), so that it returns your App")

    def delivered(self, message: Received) -> None:
        """Override this method to check a message after the server has accepted it."""

    def replied(self, step: Step, replies: Sequence[Reply]) -> None:
        """Override this method to check the replies to each step."""

    @property
    def session(self) -> Session[Any]:
        """The session that the handlers receive."""
        return self._memory.session

    @property
    def dialogue(self) -> str:
        """The dialogue since the beginning, one line for each line of the client and for each reply."""
        return "\n".join(self._lines)

    # Rules

    @initialize(peer=_of_machine(lambda machine: machine.peers))
    def connect(self, peer: str) -> None:
        """Begin a session from the address `peer`."""
        self._peer = peer
        self._lines.append(f"-- connection from {peer}")
        self.model = SessionModel(lmtp=self.config.lmtp)
        if self._is_open:
            self._memory.send(b"")
        self._arrivals.clear()
        address = Address(peer, PEER.port)
        self._memory = MemorySession(self._server, MemoryStream(self.clock, peer=address))
        self._is_open = True
        header = _proxy_header(peer) if self.proxied else b""
        with self._showing_dialogue():
            for reply in self._transfer(header, len(header)):
                self.model.refuses = not reply.is_positive
                self._close_after(reply)

    @rule(verb=st.sampled_from(["EHLO", "HELO"]))
    def hello(self, verb: str) -> None:
        """RFC 5321 4.1.4: EHLO is allowed at any time, and clears the transaction."""
        self.send(LineStep(f"{'LHLO' if self.config.lmtp else verb} c.example".encode()))

    @rule(
        sender=_of_machine(lambda machine: machine.senders),
        params=st.sampled_from(["", "", " BODY=8BITMIME", " SMTPUTF8", " SIZE=100"]),
    )
    def mail(self, sender: str, params: str) -> None:
        """Begin a transaction."""
        self.send(LineStep(f"MAIL FROM:<{sender}>{params}".encode()))

    @rule(recipient=_of_machine(lambda machine: machine.recipients))
    def rcpt(self, recipient: str) -> None:
        """Name a recipient."""
        self.send(LineStep(f"RCPT TO:<{recipient}>".encode()))

    @rule(body=strategies.bodies() | strategies.hostile_bodies())
    def data(self, body: bytes) -> None:
        """Send a message with DATA."""
        self.send(BodyStep(body))

    @rule(chunk=strategies.bodies() | strategies.hostile_bodies(), last=st.booleans())
    def bdat(self, chunk: bytes, last: bool) -> None:
        """Send a chunk of a message (RFC 3030)."""
        self.send(ChunkStep(chunk, last))

    @rule(login=_of_machine(lambda machine: machine.logins))
    def auth(self, login: Step) -> None:
        """Log in (RFC 4954)."""
        self.send(login)

    @rule(really=_RARELY, injected=st.sampled_from([b"", b"", b"NOOP\r\n"]))
    def starttls(self, really: bool, injected: bytes) -> None:
        """Begin TLS (RFC 3207), in some sessions with injected plaintext."""
        if really:
            self.send(TlsStep(injected))

    @rule(line=st.sampled_from([b"RSET", b"NOOP", b"VRFY u", b"HELP", b"NOOP x"]))
    def command(self, line: bytes) -> None:
        """Send a command that is allowed at any time."""
        self.send(LineStep(line))

    @rule(line=_LINES, end=st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n"]))
    def mistake(self, line: bytes, end: bytes) -> None:
        """Send a line with a mistake."""
        self.send(LineStep(line) if end == b"\r\n" else RawStep(line + end))

    @precondition(lambda self: self.trusted)
    @rule(line=st.sampled_from(["ADDR=192.0.2.9", "ADDR=IPv6:2001:db8::9 LOGIN=tim", "NAME=[UNAVAILABLE]", "ADDR=x"]))
    def xclient(self, line: str) -> None:
        """Speak for another client (XCLIENT)."""
        self.send(LineStep(f"XCLIENT {line}".encode()))

    @rule(
        sender=_of_machine(lambda machine: machine.senders),
        recipient=_of_machine(lambda machine: machine.recipients),
        plans=st.lists(st.tuples(_DEPTHS, st.sampled_from(_ENDS), st.sampled_from(_PROBES)), min_size=1, max_size=12),
    )
    def transactions(self, sender: str, recipient: str, plans: list[tuple[int, Step, Step | None]]) -> None:
        """Send transactions or their beginnings, end each in one of many ways, and then try a command."""
        for depth, end, probe in plans:
            self.transaction(sender, recipient, depth, end, probe)

    def transaction(self, sender: str, recipient: str, depth: int, end: Step, probe: Step | None) -> None:
        """Send EHLO, the first `depth` commands of a transaction, the step `end`, and the step `probe`.

        The commands are MAIL, RCPT for `recipient`, and RCPT for the last of `recipients`.
        """
        self.hello("EHLO")
        if depth > 0:
            self.mail(sender, "")
        if depth > 1:
            self.rcpt(recipient)
        if depth > 2:
            self.rcpt(self.recipients[-1])
        if end.verb == "EHLO":
            self.hello("EHLO")
        else:
            self.send(end)
        if probe:
            self.send(probe)

    @rule(really=_RARELY)
    def quit(self, really: bool) -> None:
        """RFC 5321 4.1.1.10: QUIT ends the session."""
        if really:
            self.send(LineStep(b"QUIT"))

    @rule(really=_RARELY, peer=_of_machine(lambda machine: machine.peers))
    def hang_up(self, really: bool, peer: str) -> None:
        """Close the connection at any point, and open another one."""
        if really:
            self.flush(10_000)
            self.connect(peer)

    @rule(seconds=st.sampled_from([1, 60, 301, 3600]), really=_RARELY)
    def wait(self, seconds: int, really: bool) -> None:
        """Let time pass. The server may then close the session with 421 (RFC 5321 4.5.3.2)."""
        if not really:
            return

        self.flush(10_000)
        self._lines.append(f"-- {seconds} seconds pass")
        with self._showing_dialogue():
            for reply in self._parsed(self._memory.advance(seconds)):
                if not self._close_after(reply):
                    raise AssertionError("the server has sent a reply without a command (RFC 5321 4.2)")
            self.model.over |= self._memory.is_over

    @rule(size=_SIZES)
    def flush(self, size: int) -> None:
        """Send the queued group in segments of `size` octets, and check the replies."""
        steps, self._queue = self._queue, []
        if not steps:
            return
        if self.model.over:
            self.connect(self._peer)
        with self._showing_dialogue():
            replies = deque(self._transfer(b"".join(step.pieces[0] for step in steps), size))
            for step in steps:
                if not self.model.over:
                    self._check(step, replies, size)
            if replies:
                raise AssertionError(f"the reply {replies[0]} answers no command (RFC 5321 4.2)")

            if self.model.over and not self._memory.is_over:
                raise AssertionError("the session continues after QUIT or 421 (RFC 5321 4.1.1.10)")

            self.model.over |= self._memory.is_over

    @property
    def is_waiting(self) -> bool:
        """Whether steps wait for the rest of their group: `model` contains only the steps that were sent."""
        return bool(self._queue)

    def teardown(self) -> None:
        """Send the rest of the queue, and close the connection. After a failure, add the dialogue to the failure."""
        # Hypothesis calls this method while the exception of a rule or of an invariant is handled.
        failure = sys.exception()
        if failure:
            _show_dialogue(failure, self.dialogue)
        if self._is_open:
            try:
                if failure is None:
                    self.flush(10_000)
            finally:
                self._memory.send(b"")

    def send(self, step: Step) -> None:
        """Send a step, or keep the step for a group if RFC 2920 3.1 allows further commands after it."""
        self._queue.append(step)
        if step.must_end_group or isinstance(step, RawStep):
            self.flush(10_000)

    # Replies

    def _check(self, step: Step, replies: deque[Reply], size: int) -> None:
        """Take the replies to `step`, and check them with the model. Send the further pieces of the step."""
        if isinstance(step, ChunkStep) and step.is_last and self.model.is_body_without_reply:
            self.model.reset()
            return

        objection = self.objection = self.model.objection(step.verb)
        reply = _next(step, replies)
        if objection and reply.is_positive | (reply.reply_class is ReplyClass.INTERMEDIATE):
            raise AssertionError(f"{step.verb} is out of sequence, but the reply is {reply} (RFC 5321 4.1.4)")
        if not objection and reply.code == 503 and step.verb in _NEVER_503:
            raise AssertionError(f"{step.verb} is in sequence, but the reply is {reply} (RFC 5321 4.1.4)")

        answers = [reply]
        if not self._close_after(reply):
            match step:
                case ChunkStep():
                    self._end_chunk(step, answers, replies, is_free=not objection)
                case AuthStep():
                    self._log_in(step, answers, size)
                case _ if reply.code == 354:
                    body = step.body if isinstance(step, BodyStep) else b""
                    self._end_body(body, answers, size)
                case _ if reply.is_positive:
                    self._accept(step, reply)
                case _ if self.trusted and step.verb == "XCLIENT" and reply.code not in _XCLIENT_IGNORED:
                    self.model.refuses = True
                case _:
                    pass
        if isinstance(step, TlsStep) and not reply.is_positive and not self.model.over:
            answers += [_next(step, replies) for _ in range(step.injected.count(b"\n"))]
        if step.verb == "QUIT" and reply.code not in (500, 501, 503, 555):
            self.model.over = True
        self.replied(step, answers)

    def _close_after(self, reply: Reply) -> bool:
        """Return whether `reply` ends the session, and note the end in the model."""
        is_end = reply.reply_class is ReplyClass.GOODBYE
        self.model.over |= is_end
        return is_end

    def _accept(self, step: Step, reply: Reply) -> None:
        """Apply the effect of a command that the server has accepted."""
        model, line = self.model, step.pieces[0].rstrip(b"\r\n")
        match step.verb:
            case "EHLO" | "HELO" | "LHLO":
                model.reset()
                model.hello = True
            case "MAIL":
                self._is_exact = bool(_PATH.fullmatch(line))
                model.sender = self._path(line)
            case "RCPT":
                model.recipients.append(self._path(line))
            case "RSET":
                model.reset()
            case "STARTTLS":
                model.start_tls()
            case "XCLIENT":
                model.change_client(authenticated=b"LOGIN=" in line)
            case _:
                pass

    def _path(self, line: bytes) -> bytes:
        match = _PATH.fullmatch(line)
        self._is_exact &= match is not None
        return match[1] if match else line

    def _log_in(self, step: AuthStep, answers: list[Reply], size: int) -> None:
        # RFC 4954 section 4: the client cancels a challenge for which it has no response.
        for piece in [*step.pieces[1:], b"*\r\n", b"*\r\n"]:
            if answers[-1].code == 334:
                answers.append(self._only_reply(piece, size))
        if answers[-1].is_positive:
            self.model.authenticated = True

    def _end_body(self, body: bytes, answers: list[Reply], size: int) -> None:
        wanted = BodyStep(body).final_replies(len(self.model.recipients), lmtp=self.model.lmtp)
        piece = BodyStep(body).pieces[1]
        finals = self._transfer(piece, size)
        self._finish(finals, wanted, self.model.end_body(body, accepted=any(reply.is_positive for reply in finals)))
        answers += finals

    def _end_chunk(self, step: ChunkStep, answers: list[Reply], replies: deque[Reply], *, is_free: bool) -> None:
        if not is_free:
            return

        model = self.model
        wanted = step.final_replies(len(model.recipients), lmtp=model.lmtp)
        while len(answers) < wanted and replies:
            answers.append(replies.popleft())
        is_accepted = any(reply.is_positive for reply in answers)
        message = model.end_chunk(step.chunk, last=step.is_last, accepted=is_accepted)
        self._finish(answers, wanted, message)

    def _finish(self, finals: Sequence[Reply], wanted: int, message: Message | None) -> None:
        """Check the replies to the end of a body or chunk, and the message that the server has accepted."""
        for reply in finals:
            self._close_after(reply)
        if len(finals) != wanted and not self.model.over:
            raise AssertionError(f"{len(finals)} replies to the end of a body that needs {wanted} (RFC 2033 4.2)")
        if not message:
            return

        if not self._arrivals.accepted:
            raise AssertionError("the server has accepted a message that has not arrived completely")

        arrived = self._arrivals.accepted.popleft()
        if self._is_exact and arrived[0][:2] != message[:2]:
            raise AssertionError(f"the accepted envelope is {message[:2]}, the message has {arrived[0][:2]}")
        if BodyStep(message[2]).is_plain and arrived[0][2] != message[2]:
            raise AssertionError(f"the client has sent {message[2]!r}, and {arrived[0][2]!r} was delivered")

        self.delivered(arrived[1])

    # Octets

    def _transfer(self, octets: bytes, size: int) -> list[Reply]:
        """Send octets in segments, and return the replies."""
        self._lines += [f"C: {_shown(line)}" for line in octets.splitlines(keepends=True)]
        segments = [octets[start : start + size] for start in range(0, len(octets), size or 1)]
        return self._parsed(b"".join(self._memory.send(segment) for segment in segments) or self._memory.resume())

    def _only_reply(self, octets: bytes, size: int) -> Reply:
        replies = self._transfer(octets, size)
        if len(replies) != 1:
            raise AssertionError(f"{len(replies)} replies to one line (RFC 5321 4.2)")

        self._close_after(replies[0])
        return replies[0]

    def _parsed(self, output: bytes) -> list[Reply]:
        if self._arrivals.has_failed:
            raise AssertionError("the server itself has failed, not a handler: its log has the exception")

        short = _MULTILINE.sub(_first_line, output)
        self._lines += [f"S: {_shown(line)}" for line in short.splitlines(keepends=True)]
        return _parse(output)

    @contextmanager
    def _showing_dialogue(self) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:
            _show_dialogue(exc, self.dialogue)
            raise


def _show_dialogue(failure: BaseException, dialogue: str) -> None:
    if not any(note.startswith(_DIALOGUE) for note in getattr(failure, "__notes__", ())):
        failure.add_note(f"{_DIALOGUE}\n{dialogue}")


def _proxy_header(peer: str) -> bytes:
    family, local = ("TCP6", "2001:db8::25") if ":" in peer else ("TCP4", LOCAL.host)
    return f"PROXY {family} {peer} {local} {PEER.port} {LOCAL.port}\r\n".encode()


def _next(step: Step, replies: deque[Reply]) -> Reply:
    if not replies:
        raise AssertionError(f"no reply to {step.verb or 'a line'} (RFC 5321 4.2)")

    return replies.popleft()


def _parse(output: bytes) -> list[Reply]:
    """Return the replies in `output`, and check their syntax (RFC 5321 4.2)."""
    replies: list[Reply] = []
    begun: list[bytes] = []
    *lines, rest = output.split(b"\r\n")
    for line in lines:
        if not _REPLY_LINE.fullmatch(line) or (begun and begun[0][:3] != line[:3]):
            raise AssertionError(f"{line!r} is not a line of a reply (RFC 5321 4.2)")

        begun.append(line)
        if line[3:4] != b"-":
            replies.append(Reply.parse(b"\n".join(begun).decode("utf-8", "replace")))
            begun = []
    if begun or rest:
        raise AssertionError(f"the reply ends with {(begun or [rest])[-1]!r} (RFC 5321 4.2)")

    return replies


def _first_line(reply: re.Match[bytes]) -> bytes:
    more = reply[3].count(b"\n") + 1
    return b"%b  (and %d more line%b)\r\n" % (reply[1], more, b"s" * (more > 1))


def _shown(line: bytes) -> str:
    text = line.removesuffix(b"\r\n")
    cut = f"... ({len(text)} octets)" if len(text) > _SHOWN else ""
    return text[:_SHOWN].decode("ascii", "backslashreplace").encode("unicode_escape").decode() + cut


show_texts(globals())
