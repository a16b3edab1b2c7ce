"""Compare the server's connection with a model of a session, written from RFC 5321 and not from our tables."""

# The model tracks the progress of a client. For each command it says whether the application decides, and otherwise
# which codes are allowed. Commands are collected and then sent as a group, in segments of any size. So pipelining is
# tested too: the meaning of a command depends on the replies before it.

from collections import deque
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from smtpcore import (
    Challenge,
    Connection,
    DataEnd,
    Event,
    InvalidCommand,
    InvalidData,
    Mail,
    Reply,
    State,
)

from ..helpers import BODY_EVENTS, pieces, replies
from ..playbook import new_server, take_events
from ..profiles import examples

BAD_SEQUENCE = {503}
REFUSED_UNDER_TLS = {501, 502, 503, 504}

Message = tuple[bytes, tuple[bytes, ...], bytes]


@dataclass
class Model:
    """The state that RFC 5321 requires a server to keep."""

    refuses: bool = False
    """RFC 5321 3.1: only QUIT is allowed after a 554 greeting."""
    hello: bool = False
    sender: bytes | None = None
    recipients: list[bytes] = field(default_factory=list)
    chunks: bytes | None = None
    """RFC 3030: the accepted chunks of the body; None before the first chunk."""
    spoiled: bool = False
    """RFC 3030 section 2: whether a chunk was refused, so that RSET must follow."""
    authenticated: bool = False
    tls: bool = False
    over: bool = False
    messages: list[Message] = field(default_factory=list)

    def reset(self) -> None:
        """RFC 5321 3.3, 4.1.1.5: the buffers are cleared."""
        self.sender, self.recipients, self.chunks, self.spoiled = None, [], None, False

    def begin_again(self) -> None:
        """RFC 3207 4.2: the server discards everything that the client sent."""
        self.reset()
        self.hello, self.authenticated, self.tls = False, False, True

    def keep(self, content: bytes) -> None:
        """RFC 5321 4.2.5: the server has taken responsibility for the message."""
        assert self.sender is not None
        self.messages.append((self.sender, tuple(self.recipients), content))

    # The codes that refuse a command out of sequence. An empty set means that the application decides.

    def refusal_of_mail(self) -> set[int]:
        """RFC 5321 3.3: a session must be open, and no transaction."""
        return set() if self.hello and self.sender is None else BAD_SEQUENCE

    def refusal_of_rcpt(self) -> set[int]:
        """RFC 5321 3.3: 503 without MAIL. RFC 3030 section 2: 503 also after the start of the body."""
        return set() if self.sender is not None and not self.has_body else BAD_SEQUENCE

    def refusal_of_data(self) -> set[int]:
        """RFC 5321 3.3: 503 or 554 without recipients. RFC 3030 section 2: DATA and BDAT exclude each other."""
        if self.sender is None or self.has_body:
            return BAD_SEQUENCE

        return set() if self.recipients else {503, 554}

    def refusal_of_bdat(self) -> set[int]:
        """RFC 3030 section 2."""
        if self.sender is None or self.spoiled:
            return BAD_SEQUENCE

        return set() if self.recipients else {503, 554}

    def refusal_of_auth(self) -> set[int]:
        """RFC 4954 section 4: not before EHLO, not in a transaction, not twice."""
        return set() if self.hello and self.sender is None and not self.authenticated else BAD_SEQUENCE

    @property
    def has_body(self) -> bool:
        return self.chunks is not None or self.spoiled


def wishes(*codes: int) -> st.SearchStrategy[int]:
    """Draw the code that the application sends: usually the first of `codes`."""
    return st.sampled_from([codes[0]] * 6 + list(codes[1:]) * 2)


RARELY = st.integers(0, 9).map(lambda number: number == 7)


SENDERS = st.sampled_from([b"", b"a@c.example", b'"a b"@[192.0.2.1]'])
RECIPIENTS = st.sampled_from([b"u@s.example", b"Postmaster", b"@relay.example:v@s.example"])
BODIES = st.lists(st.sampled_from([b"", b".", b"..", b"Subject: x", b"QUIT", b"." * 3 + b"x"]), max_size=4).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)

MISTAKES = [b"", b"EHLO", b"MAIL a", b"RCPT TO:<>", b"MAIL FROM:<a@b> X=Y", b"RSET x", b"\x00", b"SEND x"]


class Session(RuleBasedStateMachine):
    """A client that sends any command at any time, and an application that sends any allowed reply."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.conn: Connection = new_server(
            starttls=True, auth_mechanisms=("PLAIN", "LOGIN"), plaintext_auth=True, max_auth_failures=None
        ).connection
        self.unsent = b""
        self.expected: list[set[int]] = []
        self.answers: deque[int] = deque()
        self.body: list[bytes] = []
        self.messages: list[Message] = []

    # Collecting commands

    def expect(self, octets: bytes, codes: set[int]) -> None:
        """Add octets that are answered with one of `codes` without asking the application."""
        self.unsent += octets
        self.expected.append(codes)

    def ask_program(self, octets: bytes, wish: int) -> bool:
        """Add a command that the application wants to answer with `wish`. Return whether the command is accepted."""
        self.expect(octets, {wish})
        self.answers.append(wish)
        self.model.over |= wish == 421
        return wish < 400

    def attempt(self, octets: bytes, objection: set[int], wish: int) -> bool:
        """Add a command that may be out of sequence. Return whether it is accepted."""
        objection = BAD_SEQUENCE if self.model.refuses else objection
        if objection:
            self.expect(octets, objection)
            return False

        return self.ask_program(octets, wish)

    def answer(self, conn: Connection, event: Event) -> Reply:
        """Return the reply of an invalid event, and for other events a reply with the next planned code."""
        if isinstance(event, InvalidCommand | InvalidData):
            return event.reply

        wish = self.answers.popleft()
        if isinstance(event, DataEnd) and wish == 250 and conn.transaction:
            recipients = tuple(str(rcpt.forward_path).encode() for rcpt in conn.transaction.recipients)
            self.messages.append((str(conn.transaction.mail.reverse_path).encode(), recipients, b"".join(self.body)))
        return Challenge(b"more") if wish == 334 else Reply(wish)

    @initialize(refuses_service=RARELY)
    def connect(self, refuses_service: bool) -> None:
        wish = 554 if refuses_service else 220
        self.ask_program(b"", wish)
        self.model.refuses = wish == 554
        self.send(1)

    @precondition(lambda self: not self.model.over)
    @rule(wish=wishes(250, 550), verb=st.sampled_from([b"EHLO", b"HELO"]))
    def hello(self, wish: int, verb: bytes) -> None:
        """RFC 5321 4.1.4: EHLO is allowed at any time, and clears the buffers unless it is refused."""
        if self.attempt(verb + b" c.example\r\n", set(), wish):
            self.model.reset()
            self.model.hello = True

    @precondition(lambda self: not self.model.over)
    @rule(sender=SENDERS, wish=wishes(250, 450, 550))
    def mail(self, sender: bytes, wish: int) -> None:
        if self.attempt(b"MAIL FROM:<%b>\r\n" % sender, self.model.refusal_of_mail(), wish):
            self.model.sender = sender

    @precondition(lambda self: not self.model.over)
    @rule(recipient=RECIPIENTS, wish=wishes(250, 251, 450, 550))
    def rcpt(self, recipient: bytes, wish: int) -> None:
        if self.attempt(b"RCPT TO:<%b>\r\n" % recipient, self.model.refusal_of_rcpt(), wish):
            self.model.recipients.append(recipient)

    @precondition(lambda self: not self.model.over)
    @rule(content=BODIES, wish=wishes(354, 451, 554), verdict=wishes(250, 451, 554), is_bare=st.booleans())
    def data(self, content: bytes, wish: int, verdict: int, is_bare: bool) -> None:
        if not self.attempt(b"DATA\r\n", self.model.refusal_of_data(), wish):
            return

        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        if is_bare:
            # RFC 5321 2.3.8: a bare CR or LF does not end a line, so it cannot be part of the end marker.
            self.expect(stuffed + b"x\n.\r\ny\r\n.\r\n", {550})
        elif self.ask_program(stuffed + b".\r\n", verdict):
            self.model.keep(content)
        self.model.reset()

    @precondition(lambda self: not self.model.over)
    @rule(content=BODIES, is_last=st.booleans(), wish=wishes(250, 451, 554))
    def bdat(self, content: bytes, is_last: bool, wish: int) -> None:
        line = b"BDAT %d%b\r\n%b" % (len(content), b" LAST" if is_last else b"", content)
        objection = self.model.refusal_of_bdat()
        if not self.attempt(line, objection, wish):
            if not objection and is_last:
                self.model.reset()
            self.model.spoiled |= not objection and not is_last
            return

        self.model.chunks = (self.model.chunks or b"") + content
        if is_last:
            self.model.keep(self.model.chunks)
            self.model.reset()

    @precondition(lambda self: not self.model.over)
    @rule(wish=wishes(235, 535, 454))
    def auth(self, wish: int) -> None:
        if self.attempt(b"AUTH PLAIN AHUAcA==\r\n", self.model.refusal_of_auth(), wish):
            self.model.authenticated = True

    @precondition(lambda self: not self.model.over)
    @rule(wish=wishes(235, 535), response=st.sampled_from([b"", b"dXNlcg==", b"*", b"!"]))
    def auth_with_challenges(self, wish: int, response: bytes) -> None:
        if not self.attempt(b"AUTH LOGIN\r\n", self.model.refusal_of_auth(), 334):
            return
        # RFC 4954 section 4: cancelling and invalid base64 both end the exchange with 501.
        if response == b"!":
            self.expect(b"!\r\n", {501})
        elif response == b"*":
            self.ask_program(b"*\r\n", 501)
        elif self.ask_program(response + b"\r\n", 334) and self.ask_program(b"cA==\r\n", wish):
            self.model.authenticated = True

    @precondition(lambda self: not self.model.over)
    @rule(wish=wishes(220, 454), really=RARELY)
    def starttls(self, wish: int, really: bool) -> None:
        if not really:
            return

        is_accepted = self.attempt(b"STARTTLS\r\n", REFUSED_UNDER_TLS if self.model.tls else set(), wish)
        if is_accepted:
            self.model.reset()

        self.send(10_000)  # RFC 3207 section 4: STARTTLS must be the last of its group
        if is_accepted:
            self.conn.tls_established()
            self.model.begin_again()

    @precondition(lambda self: not self.model.over)
    @rule(wish=wishes(250))
    def rset(self, wish: int) -> None:
        if self.attempt(b"RSET\r\n", set(), wish):
            self.model.reset()

    @precondition(lambda self: not self.model.over)
    @rule(line=st.sampled_from([b"NOOP", b"NOOP x", b"VRFY u", b"HELP", b"XFOO bar"]), wish=wishes(250, 550))
    def command_without_effect(self, line: bytes, wish: int) -> None:
        """RFC 5321 4.1.4: allowed at any time, without effect."""
        self.attempt(line + b"\r\n", set(), wish)

    @precondition(lambda self: not self.model.over)
    @rule(line=st.sampled_from(MISTAKES))
    def mistake(self, line: bytes) -> None:
        """RFC 5321 4.2.4, 4.3.2: refused, without effect."""
        self.expect(line + b"\r\n", {500, 501, 502, 503, 555})

    @precondition(lambda self: not self.model.over)
    @rule(wish=st.sampled_from([221, 250, 421, 550]), really=RARELY)
    def quit(self, wish: int, really: bool) -> None:
        """RFC 5321 4.1.1.10: QUIT ends the session with any reply."""
        if really:
            self.ask_program(b"QUIT\r\n", wish)
            self.model.over = True

    @precondition(lambda self: not self.model.over and not self.model.refuses)
    @rule(line=st.sampled_from([b"EHLO c.example", b"RSET", b"NOOP"]), really=RARELY)
    def hang_up(self, line: bytes, really: bool) -> None:
        """RFC 5321 3.8: the server may end the session with 421 at any time."""
        if really:
            self.ask_program(line + b"\r\n", 421)

    @precondition(lambda self: not self.model.over)
    @rule(sender=SENDERS, recipient=RECIPIENTS, depth=st.integers(1, 4), wish=wishes(250, 451))
    def start_transaction(self, sender: bytes, recipient: bytes, depth: int, wish: int) -> None:
        """Send a transaction, or its beginning, in one step."""
        self.hello(250, b"EHLO")
        self.mail(sender, 250)
        if depth > 1:
            self.rcpt(recipient, 250)
        if depth > 2:
            self.bdat(b"x\r\n", False, wish)

    # Sending and comparing

    @rule(size=st.sampled_from([1, 2, 7, 10_000]))
    def send(self, size: int) -> None:
        """Send the collected octets in pieces of this size, and compare."""
        self.feed(pieces(self.unsent, size))
        self.unsent = b""

        codes = [code for code, _ in replies(self.conn.data_to_send())]
        assert len(codes) == len(self.expected), (codes, self.expected)
        assert all(code in allowed for code, allowed in zip(codes, self.expected, strict=True)), (codes, self.expected)
        self.expected = []
        assert not self.answers
        assert self.messages == self.model.messages
        self.compare()

    def feed(self, segments: list[bytes]) -> None:
        for segment in [None, *segments]:
            if segment:
                self.conn.receive_data(segment)
            for event in take_events(self.conn, self.answer):
                if isinstance(event, Mail):
                    self.body.clear()
                if isinstance(event, BODY_EVENTS):
                    self.body.append(event.data)

    def compare(self) -> None:
        """Compare the state of the connection with the model."""
        conn, model = self.conn, self.model
        assert (conn.state is State.CLOSED) == model.over
        if not model.over:
            assert (conn.helo is not None) == model.hello
            assert conn.authenticated == model.authenticated
            assert (conn.transaction is not None) == (model.sender is not None)
        if conn.transaction:
            assert [str(rcpt.forward_path).encode() for rcpt in conn.transaction.recipients] == model.recipients

    def teardown(self) -> None:
        self.send(10_000)


TestSession = Session.TestCase
TestSession.settings = examples(80, steps=50)
