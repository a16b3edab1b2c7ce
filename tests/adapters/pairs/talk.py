"""A server that two rows of the table have set up, and the dialogue of a client that uses both."""

import base64
import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Final

from smtpcore import EXTENSIONS, OFF_BY_DEFAULT, Budgets, Config, Extension, Mail, Params, Rcpt, Reply
from smtpcore_adapters import Address, App, Limits, Message, Server, Session, Timeouts
from smtpcore_adapters.users import Users
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import TIMEOUT, Client

_BUDGETS: Final = {field.name for field in fields(Budgets)}
WAIT: Final = 60.0
"""The seconds of a timeout that has to expire, by the clock of the server."""
SLOW: Final = "closing: you took too long"
"""The end of the reply after a timeout."""
LOCAL: Final = ("127.0.0.0/8", "::1/128", "unix")
CLIENT: Final = Address("198.51.100.7", 1234)
"""The address of the client that a PROXY header or XCLIENT names."""
USER: Final = b"AUTH PLAIN " + base64.b64encode(b"\0tim\0secret") + b"\r\n"
STRANGER: Final = b"AUTH PLAIN " + base64.b64encode(b"\0tim\0wrong") + b"\r\n"


class Conflict(Exception):
    """Two rows set one option to different values."""


class Refused(Exception):
    """The server has refused the connection; the argument is the reply, empty if the server sent no reply."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the `message` handler has received it."""

    body: bytes
    mail: Mail
    rcpts: tuple[Rcpt, ...]
    session: Session
    peer: Address | None
    identity: str | None
    submitter: object
    forwarded: dict[str, str | None]
    is_encrypted: bool

    @property
    def params(self) -> Params:
        """The parameters of MAIL."""
        return self.mail.params


class Setup:
    """The options of a server, and the way in which a client uses the server. Each row adds its options and steps."""

    def __init__(self, contexts: tuple[ssl.SSLContext, ssl.SSLContext], directory: str) -> None:
        self.server_tls, self.client_tls = contexts
        self.directory = directory
        """A directory for Unix sockets."""
        self.clock: Clock | None = None
        """The clock of the server, if a timeout has to expire in the test."""
        self.greeting_delay = 0.0
        self.auth_delay = 0.0
        """The longest time until the reply to a failed login."""
        self.disabled = set(OFF_BY_DEFAULT)
        self.options: dict[str, Any] = {}
        self.extensions: list[Extension] = list(EXTENSIONS)
        self.app = App()
        self._config: dict[str, Any] = {}
        self._timeouts: dict[str, Any] = {"close": 1.0, "auth_delay": 0.0}
        self._limits: dict[str, Any] = {}
        self._set_timeouts: set[str] = set()

        # The client
        self.hello = b"EHLO"
        self.proxy: Callable[[Address], bytes] | None = None
        """Returns the PROXY header that names a client."""
        self.uses_starttls = False
        self.xclient = b""
        self.has_users = False
        self.uses_login = False
        self.mechanism = "PLAIN"
        self.mail = b"MAIL FROM:<a@c.example>"
        self.mail_params: list[bytes] = []
        self.rcpts: list[bytes] = [b"u@s.example"]
        self.rcpt_params: list[bytes] = []
        self.lines: list[bytes] = [b"Subject: x\r\n", b"\r\n", b"first\r\n"]
        """The lines of the message."""
        self.expected: list[Callable[[Setup, bytes], bytes]] = []
        """The changes that the server makes to the body."""
        self.pipelines = False
        self.uses_bdat = False
        self.burl: bytes = b""
        self.is_unix = False

    # The server

    def timed(self) -> None:
        """Give the server a clock of its own, so that timeouts expire without a wait."""
        self.clock = self.clock or Clock()

    def advance(self, seconds: float) -> None:
        """Move the clock of the server forward."""
        assert self.clock
        self.clock.advance(seconds)

    def config(self, **fields: Any) -> None:
        """Set fields of `Config`."""
        _merge(self._config, fields)

    def timeouts(self, **fields: float) -> None:
        """Set fields of `Budgets` and of `Timeouts`."""
        for name in fields.keys() - self._set_timeouts:
            self._timeouts.pop(name, None)
        self._set_timeouts |= fields.keys()
        _merge(self._timeouts, fields)

    def limits(self, **fields: Any) -> None:
        """Set fields of `Limits`."""
        _merge(self._limits, fields)

    def option(self, **options: Any) -> None:
        """Set fields of `Options`."""
        _merge(self.options, options)

    def enable(self, *keywords: str) -> None:
        """Offer extensions that are off by default."""
        self.disabled -= set(keywords)

    def tls(self) -> None:
        """Offer TLS. The client begins TLS if the server does not."""
        self.option(tls=self.server_tls)
        self.uses_starttls = True

    def login(self) -> None:
        """Offer AUTH under TLS, and log in."""
        self.users()
        self.uses_login = True

    def users(self) -> None:
        """Offer AUTH under TLS."""
        self.tls()
        self.has_users = True

    @cached_property
    def server_config(self) -> Config:
        """The configuration of the server, after all rows have set their options."""
        return replace(CONFIG, disabled=frozenset(self.disabled), **self._config)

    def all_options(self) -> dict[str, Any]:
        """Return the options of `serving`."""
        return {
            "config": self.server_config,
            "budgets": Budgets(**{name: self._timeouts[name] for name in self._timeouts.keys() & _BUDGETS}),
            "timeouts": Timeouts(**{name: self._timeouts[name] for name in self._timeouts.keys() - _BUDGETS}),
            "limits": Limits(**self._limits),
            "extensions": tuple(self.extensions),
            "grace": 1.0,
            **self.options,
        }


def _merge(into: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if into.setdefault(name, value) != value:
            raise Conflict(name)


class Service:
    """A running server, and what it has recorded."""

    def __init__(self, setup: Setup, log: "Log") -> None:
        self.setup = setup
        self.log = log
        self.server: Server
        self.stop: Callable[[], Future[None]]
        """Begin to stop the server."""
        self.received: list[Received] = []
        self.sessions: list[Session] = []
        self.ended = threading.Condition()
        self.reasons: dict[str, str] = {}
        """The reason of each session that has ended, by its id."""
        app = setup.app
        if setup.has_users:
            app.include(Users({"tim": "secret"}))

        @app.on("connect")
        def opened(session: Session, event: object) -> None:
            if session not in self.sessions:  # XCLIENT calls the handlers again
                self.sessions.append(session)

        @app.on("RCPT")
        def take(session: Session, rcpt: Rcpt) -> Reply:
            return Reply(250, "Taken", enhanced="2.1.5")

        @app.on("message")
        async def store(session: Session, message: Message) -> Reply:
            transaction = session.transaction
            assert transaction
            body = await message.read()
            self.received.append(
                Received(
                    body,
                    transaction.mail,
                    tuple(transaction.recipients),
                    session,
                    session.peer,
                    session.identity,
                    transaction.submitter,
                    dict(session.forwarded),
                    session.tls is not None,
                )
            )
            return Reply(250, "Stored", enhanced="2.0.0")

        @app.on("disconnect")
        def closed(session: Session, reason: str) -> None:
            with self.ended:
                self.reasons[session.id] = str(reason)
                self.ended.notify_all()

    def has_ended(self, session: Session, *, within: float) -> bool:
        """Wait for the end of a session for some seconds, and return whether the session has ended."""
        with self.ended:
            return self.ended.wait_for(lambda: session.id in self.reasons, within)

    def reason(self, session: Session) -> str:
        """Wait for the end of a session, and return its reason."""
        with self.ended:
            assert self.ended.wait_for(lambda: session.id in self.reasons, TIMEOUT)
            return self.reasons[session.id]


class Talk:
    """One session of a client."""

    def __init__(self, service: Service, source: str | None = None) -> None:
        self.service = service
        self.setup = service.setup
        self.source = source
        """The address of the client; None for any."""
        self.offers: dict[str, str] = {}
        """The extensions in the last reply to EHLO, with their arguments."""
        self.greeting = ""
        self.is_encrypted = False
        self._client: Client | None = None

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._client:
            self._client.socket.close()

    @property
    def client(self) -> Client:
        """The connection."""
        assert self._client
        return self._client

    @property
    def session(self) -> Session:
        """The session at the server. Only for the session that was opened last."""
        return self.service.sessions[-1]

    # Before the greeting

    def connect(self, address: Address | None = None, *, receive_buffer: int | None = None) -> "Talk":
        """Connect, and send the PROXY header. Implicit TLS begins in `greet`."""
        address = address or self.service.server.address
        source = self.source if address.port and not self.setup.proxy else None
        if self.setup.clock:
            self.setup.clock.expected += 1
        self._client = Client(address, receive_buffer=receive_buffer, source=source)
        if self.setup.proxy:
            self.client.send(self.setup.proxy(Address(self.source, 1234) if self.source else CLIENT))
        return self

    @property
    def is_implicit(self) -> bool:
        """Whether TLS comes before the greeting."""
        return bool(self.setup.options.get("implicit_tls"))

    def encrypt(self) -> None:
        """Perform a TLS handshake."""
        self.client.start_tls(self.setup.client_tls)
        self.is_encrypted = True

    def greet(self, address: Address | None = None, *, receive_buffer: int | None = None) -> "Talk":
        """Connect, and read the greeting. Raises `Refused` for a 421."""
        self.connect(address, receive_buffer=receive_buffer)
        if self.is_implicit:
            try:
                self.encrypt()
            except OSError as exc:
                raise Refused("") from exc
        if self.setup.greeting_delay:
            self.setup.advance(self.setup.greeting_delay)
        self.greeting = self.read()
        if self.greeting.startswith("421"):
            raise Refused(self.greeting)

        config = self.setup.server_config
        assert self.greeting == f"220 {config.hostname} ESMTP"
        return self

    # The dialogue

    def read(self) -> str:
        """Return the next reply."""
        return self.client.read()

    def say(self, line: bytes, *codes: int) -> str:
        """Send a command, and return its reply, which has to have one of the codes."""
        self.client.send(line + b"\r\n" if not line.endswith(b"\n") else line)
        return self.expect(*codes, after=line)

    def expect(self, *codes: int, after: bytes = b"") -> str:
        """Return the next reply, which has to have one of the codes."""
        reply = self.read()
        assert int(reply[:3]) in codes, f"{reply!r} after {after[:80]!r}, not {codes}"
        return reply

    def introduce(self) -> None:
        """Send EHLO."""
        reply = self.say(self.setup.hello + b" c.example", 250)
        assert reply[4:].startswith(self.setup.server_config.hostname)
        lines = [line[4:].partition(" ") for line in reply.splitlines()[1:]]
        self.offers = {keyword: arguments for keyword, _, arguments in lines}

    def enter(self, *, log_in: bool = True) -> "Talk":
        """Connect, begin TLS, send XCLIENT, and log in, if the setup has these steps."""
        self.greet()
        self.introduce()
        self.secure()
        if self.setup.xclient:
            attributes = b"ADDR=" + self.source.encode() if self.source else self.setup.xclient
            reply = self.say(b"XCLIENT " + attributes, 220, 421)
            if reply.startswith("421"):
                raise Refused(reply)
            self.introduce()
        if log_in and self.setup.uses_login:
            self.log_in()
        return self

    def secure(self) -> None:
        """Begin TLS with STARTTLS, if the setup has STARTTLS."""
        if self.setup.uses_starttls and not self.is_encrypted:
            assert "STARTTLS" in self.offers
            self.say(b"STARTTLS", 220)
            self.encrypt()
            self.introduce()
            assert "STARTTLS" not in self.offers

    def log_in(self) -> None:
        """Authenticate as tim."""
        mechanism = self.setup.mechanism
        assert mechanism in self.offers["AUTH"].split()
        if mechanism == "PLAIN":
            self.say(USER, 235)
        else:
            self.say(b"AUTH LOGIN", 334)
            self.say(base64.b64encode(b"tim"), 334)
            self.say(base64.b64encode(b"secret"), 235)

    # A message

    def send_message(self) -> Received:
        """Send the message of the setup, and return it as the server has received it."""
        setup, before = self.setup, len(self.service.received)
        mail = b" ".join([setup.mail, *setup.mail_params])
        rcpts = [b" ".join([b"RCPT TO:<%b>" % rcpt, *setup.rcpt_params]) for rcpt in setup.rcpts]
        with_data = not (setup.uses_bdat or setup.burl)
        commands = [mail, *rcpts, *([b"DATA"] if with_data else [])]
        codes = [250] * (1 + len(rcpts)) + [354] * with_data
        if setup.pipelines:
            self.client.send(b"".join(command + b"\r\n" for command in commands))
            for command, code in zip(commands, codes, strict=True):
                self.expect(code, after=command)
        else:
            for command, code in zip(commands, codes, strict=True):
                self.say(command, code)

        body = b"".join(setup.lines)
        if with_data:
            self.client.send(body + b".\r\n")
        elif setup.burl:
            self.say(b"BDAT %d\r\n%b" % (len(body), body), 250)
            self.client.send(setup.burl + b" LAST\r\n")
        else:
            half = len(body) // 2
            first = b"BDAT %d\r\n%b" % (half, body[:half])
            last = b"BDAT %d LAST\r\n%b" % (len(body) - half, body[half:])
            if setup.pipelines:
                self.client.send(first + last)
                self.expect(250)
            else:
                self.say_octets(first, 250)
                self.client.send(last)
        self.ends(len(rcpts), 250)

        expected = body + (b"from " + setup.burl[5:] + b"\r\n" if setup.burl else b"")
        for change in setup.expected:
            expected = change(setup, expected)
        (received,) = self.service.received[before:]
        assert received.body == expected
        return received

    def say_octets(self, data: bytes, code: int) -> None:
        """Send octets unchanged, and expect a reply."""
        self.client.send(data)
        self.expect(code, after=data)

    def ends(self, count: int, code: int) -> None:
        """Expect the replies to a body: in LMTP one for each recipient."""
        for _ in range(count if self.setup.server_config.lmtp else 1):
            self.expect(code, after=b"the body")

    def open_body(self, body: bytes = b"") -> None:
        """Begin a second message, with the first octets of its body."""
        self.say(b"MAIL FROM:<a@c.example>", 250)
        self.say(b"RCPT TO:<u@s.example>", 250)
        if self.setup.uses_bdat:
            self.client.send(b"BDAT 1000000\r\n" + body)
        else:
            self.say(b"DATA", 354)
            self.client.send(body)

    def send_body(self, body: bytes, code: int) -> None:
        """Send a second message, and expect the code after its body."""
        self.say(b"MAIL FROM:<a@c.example>", 250)
        self.say(b"RCPT TO:<u@s.example>", 250)
        if self.setup.uses_bdat:
            self.say_octets(b"BDAT %d LAST\r\n%b" % (len(body), body), code)
        else:
            self.say(b"DATA", 354)
            self.say_octets(body + b".\r\n", code)

    # The end

    def quit(self) -> None:
        """End the session with QUIT, and read to the end of the connection."""
        self.say(b"QUIT", 221)
        self.rest()

    def rest(self) -> bytes:
        """Read up to the end of the connection."""
        data = b""
        with suppress(ConnectionError, ssl.SSLError):
            data = self.client.rest()
        return data

    def expect_timeout(self, seconds: float = WAIT) -> None:
        """Let a timeout expire, which ends the session."""
        self.setup.advance(seconds + 1)
        self.expect_goodbye(SLOW)

    def expect_goodbye(self, text: str) -> None:
        """Expect a 421 with this text, and the end of the connection."""
        reply = self.read()
        assert reply.startswith("421 4."), reply
        assert reply.endswith(text), reply
        assert self.rest() == b""


class Log(logging.Handler):
    """Counts log records of level ERROR, by session."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record of level ERROR."""
        name = getattr(record, "session", "")
        if record.levelno == logging.ERROR:
            self.counts[name] = self.counts.get(name, 0) + 1


@contextmanager
def captured_log() -> Iterator[Log]:
    """Count the errors in the log of the package."""
    log, logger = Log(), logging.getLogger("smtpcore")
    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.ERROR)
    try:
        yield log
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)


Hook = Callable[[Talk], None]


class Row:
    """An option or extension: how to switch it on, what a client does to use it, and what must then be seen.

    Both rows of a pair are on in each of its sessions. A row that ends a session, or that needs a session without a
    login or a message, gets a session of its own. Each session has a new server.
    """

    name: str = ""
    """The name in the table; by default the first of `covers`."""
    covers: Sequence[str] = ()
    """The options and extensions that this row tests: `Config.lmtp`, or `DSN`."""
    slot: str = ""
    """A resource that only one row of a pair can use, such as a field with several values to test."""
    excludes: ClassVar[dict[str, str]] = {}
    """The rows that make no sense together with this row, with the reason."""

    def on(self, setup: Setup) -> None:
        """Switch the option on."""
        raise NotImplementedError

    def greeted(self, talk: Talk) -> None:
        """Use the option after the greeting, before EHLO."""

    def ready(self, talk: Talk) -> None:
        """Use the option before a message."""

    def received(self, talk: Talk, message: Received) -> None:
        """Check the message that the server has received."""

    last: Hook | None = None
    """Use the option after the message in a way that ends the session."""
    own: Callable[[Service], None] | None = None
    """Use the option in sessions of its own."""


def converse(service: Service, rows: Sequence[Row], last: Hook | None) -> None:
    """Run a session that uses all rows, and ends with `last`."""
    with Talk(service) as talk:
        if any(type(row).greeted is not Row.greeted for row in rows):
            with Talk(service) as first:
                first.greet()
                for row in rows:
                    row.greeted(first)
        talk.enter()
        for row in rows:
            row.ready(talk)
        message = talk.send_message()
        for row in rows:
            row.received(talk, message)
        if last:
            last(talk)
        else:
            talk.quit()
