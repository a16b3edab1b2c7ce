"""Rows of the table for the fields of `Budgets`, `Timeouts` and `Limits`."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import ClassVar

from smtpcore import Noop, Reply
from smtpcore_adapters import Session

from .rows_of_options import fail_to_log_in, header
from .talk import LOCAL, WAIT, Refused, Row, Service, Setup, Talk

# Budgets and timeouts


class Timed(Row):
    """A row with a timeout that has to expire: it is `WAIT` seconds."""

    fields: tuple[str, ...] = ()

    def on(self, setup: Setup) -> None:
        setup.timed()
        setup.timeouts(**dict.fromkeys(self.fields, WAIT))


class Greeting(Timed):
    name = "greeting"
    covers = ("Budgets.greeting",)
    fields = ("greeting",)

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.greet()
            talk.expect_timeout()


class CommandTimeout(Timed):
    name = "command"
    covers = ("Budgets.command",)
    fields = ("command",)

    def last(self, talk: Talk) -> None:
        talk.client.send(b"NOO")
        talk.expect_timeout()


class Body(Timed):
    name = "body"
    covers = ("Budgets.body",)
    fields = ("body",)

    def last(self, talk: Talk) -> None:
        talk.open_body(b"unfinished")
        talk.expect_timeout()


class BodyRate(Row):
    name = "body_rate"
    covers = ("Budgets.body_rate",)

    def on(self, setup: Setup) -> None:
        setup.timed()
        setup.timeouts(body=WAIT, body_rate=1e6)

    def last(self, talk: Talk) -> None:
        talk.open_body()
        for _ in range(9):  # a client that is never silent for long
            talk.client.send(b"x\r\n" * 5)
            talk.setup.advance(WAIT / 10)
        talk.client.send(b"x\r\n" * 5)
        talk.expect_timeout(WAIT / 10)


class Block(Timed):
    name = "block"
    covers = ("Budgets.block",)
    fields = ("block",)

    def last(self, talk: Talk) -> None:
        talk.open_body(b"unfinished\r\n" * 1000)
        talk.expect_timeout()


class SessionTimeout(Row):
    name = "session"
    covers = ("Budgets.session",)

    def on(self, setup: Setup) -> None:
        setup.timed()
        setup.timeouts(session=3 * WAIT)

    def last(self, talk: Talk) -> None:
        talk.expect_timeout(3 * WAIT)


class Handshake(Timed):
    name = "handshake"
    covers = ("Budgets.handshake",)
    fields = ("handshake",)

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.tls()

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            if talk.is_implicit:
                talk.connect()
            else:
                talk.greet()
                talk.introduce()
                talk.say(b"STARTTLS", 220)
            talk.setup.advance(WAIT + 1)
            assert talk.client.is_closed()


class Send(Timed):
    name = "send"
    covers = ("Budgets.send",)
    fields = ("send",)

    def on(self, setup: Setup) -> None:
        super().on(setup)
        text = [f"{number:490}" for number in range(1000)]

        @setup.app.on("NOOP")
        def reply(session: Session, noop: Noop) -> Reply | None:
            return Reply(250, *text) if noop.argument == "much" else None

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.greet(receive_buffer=4096)
            session = talk.session
            talk.introduce()
            talk.secure()
            talk.client.send(b"NOOP much\r\n" * 20)
            for _ in range(20):  # each flush of replies has its timeout, and the system takes some of the replies
                talk.setup.advance(WAIT + 1)
                if service.has_ended(session, within=0.01):
                    break
            assert service.reason(session) == "timeout"


class Crowded(Timed):
    name = "crowded"
    covers = ("Timeouts.crowded",)
    fields = ("crowded",)

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.limits(connections=10)

    def own(self, service: Service) -> None:
        with ExitStack() as stack:
            for number in range(10):
                talk = stack.enter_context(Talk(service, in_network(number)))
                enter(talk)
            talk.expect_timeout()


class Close(Row):
    name = "close"
    covers = ("Timeouts.close",)

    def on(self, setup: Setup) -> None:
        setup.timed()
        setup.timeouts(close=WAIT)

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.greet()
            talk.say(b"QUIT", 221)
            talk.setup.advance(WAIT + 1)  # the client does not close the connection
            try:
                for _ in range(1000):
                    talk.client.send(b"NOOP\r\n")
                    time.sleep(0.001)
            except OSError:
                return

        raise AssertionError("the server has not closed the connection")


class GreetingDelay(Row):
    name = "greeting_delay"
    covers = ("Timeouts.greeting_delay",)

    def on(self, setup: Setup) -> None:
        setup.timed()
        setup.greeting_delay = 2.0
        setup.timeouts(greeting_delay=2.0)

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.connect()
            if talk.is_implicit:
                talk.encrypt()
            began = time.monotonic()
            talk.client.send(b"EHLO early.example\r\n")
            reply = talk.read()
            assert reply.startswith("554 ") or time.monotonic() - began > 1.9, reply


class AuthDelay(Row):
    name = "auth_delay"
    covers = ("Timeouts.auth_delay",)

    def on(self, setup: Setup) -> None:
        setup.timed()
        setup.auth_delay = 6.0
        setup.timeouts(auth_delay=5.0)
        setup.users()

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.enter(log_in=False)
            begun = talk.setup.clock and talk.setup.clock()
            fail_to_log_in(talk, 535)
            assert begun
            assert talk.setup.clock
            assert talk.setup.clock() >= begun + 5


class MaxAuthDelay(Row):
    name = "max_auth_delay"
    covers = ("Timeouts.max_auth_delay",)

    def on(self, setup: Setup) -> None:
        setup.timeouts(max_auth_delay=6.0)
        setup.users()

    def own(self, service: Service) -> None:
        for _ in range(2):  # with `auth_delay` as it is by default, these four failures would take 15 seconds
            with Talk(service) as talk:
                talk.enter(log_in=False)
                fail_to_log_in(talk, 535)
                fail_to_log_in(talk, 535)


# Limits


def in_network(number: int) -> str:
    """Return a client's address; each number gives another network."""
    return f"127.{number}.{number}.1"


def at_host(number: int) -> str:
    """Return a client's address; all numbers give the same network."""
    return f"127.0.0.{number + 1}"


def enter(talk: Talk) -> None:
    """Connect. Raises `Refused` if the server does not admit the client, which can be the client that XCLIENT names."""
    if talk.setup.xclient:
        talk.enter(log_in=False)
    else:
        talk.greet()


def refusal(talk: Talk) -> str:
    """Return the reply of a server that does not admit this client."""
    try:
        enter(talk)
    except Refused as refused:
        return str(refused)

    raise AssertionError("the client was admitted")


def assert_refused(service: Service, reply: str, text: str) -> None:
    """Check the reply of a server that does not admit a client."""
    if service.setup.options.get("implicit_tls") and not reply:
        return  # with implicit TLS, a connection is refused without a handshake and without a reply
    assert reply.startswith("421 "), reply
    assert reply.endswith(text), reply


NO_ADDRESS = "until XCLIENT, the connections of a trusted peer count for no address"


class Connections(Row):
    """A limit on the number of connections that are open at once."""

    name = "connections"
    covers = ("Limits.connections",)
    text = "closing: too many connections"
    most = 10
    source = staticmethod(in_network)
    """Returns the address of each client."""

    def on(self, setup: Setup) -> None:
        setup.limits(**{self.name: self.most})

    def own(self, service: Service) -> None:
        with ExitStack() as stack:
            for number in range(self.most):
                enter(stack.enter_context(Talk(service, self.source(number))))
            reply = refusal(stack.enter_context(Talk(service, self.source(self.most))))
        assert_refused(service, reply, self.text)


class ConnectionsPerAddress(Connections):
    name = "connections_per_address"
    covers = ("Limits.connections_per_address",)
    text = "closing: too many connections from your address"
    most = 8
    source = staticmethod(lambda number: at_host(0))
    excludes: ClassVar = {"XFORWARD": NO_ADDRESS}


class ConnectionsPerPrefix(Connections):
    name = "connections_per_prefix"
    covers = ("Limits.connections_per_prefix",)
    text = "closing: too many connections from your network"
    most = 9
    source = staticmethod(at_host)
    excludes: ClassVar = {"XFORWARD": NO_ADDRESS}


class ConnectionsPerMinute(Row):
    name = "connections_per_minute"
    covers = ("Limits.connections_per_minute",)
    excludes: ClassVar = {"XFORWARD": NO_ADDRESS}
    MOST = 12

    def on(self, setup: Setup) -> None:
        setup.limits(connections_per_minute=self.MOST)

    def own(self, service: Service) -> None:
        for count in range(3 * self.MOST):  # the limit is a rate, so a slow client may connect more often
            with Talk(service, at_host(0)) as talk:
                try:
                    enter(talk)
                    talk.quit()
                except Refused as refused:
                    assert count >= self.MOST
                    assert_refused(service, str(refused), "closing: too many new connections from your address")
                    return

        raise AssertionError("all connections were admitted")


class Prefix(Row):
    """The size of the networks that `connections_per_prefix` counts. The addresses come with PROXY headers."""

    slot = "the PROXY header"
    same: ClassVar[Sequence[str]]
    """The addresses of clients in one network."""
    other: str
    """The address of a client in another network."""
    fields: ClassVar[dict[str, int]]

    def on(self, setup: Setup) -> None:
        setup.limits(connections_per_prefix=9, **self.fields)
        setup.option(proxies=LOCAL)
        setup.proxy = header

    def own(self, service: Service) -> None:
        *admitted, last = self.same
        with ExitStack() as stack:
            for address in admitted:
                stack.enter_context(Talk(service, address)).greet()
            reply = refusal(stack.enter_context(Talk(service, last)))
            stack.enter_context(Talk(service, self.other)).greet()
        assert_refused(service, reply, "closing: too many connections from your network")


class Ipv4Prefix(Prefix):
    name = "ipv4_prefix"
    covers = ("Limits.ipv4_prefix",)
    fields: ClassVar = {"ipv4_prefix": 16}
    same: ClassVar = [f"203.0.{number}.1" for number in range(10)]
    other = "203.1.0.1"


class Ipv6Prefix(Prefix):
    name = "ipv6_prefix"
    covers = ("Limits.ipv6_prefix",)
    fields: ClassVar = {"ipv6_prefix": 48}
    same: ClassVar = [f"2001:db8:1:{number}::1" for number in range(10)]
    other = "2001:db8:2::1"


class AuthFailuresPerHour(Row):
    name = "auth_failures_per_hour"
    covers = ("Limits.auth_failures_per_hour",)

    def on(self, setup: Setup) -> None:
        setup.timed()
        setup.auth_delay = 6.0
        setup.limits(**{self.name: 4})
        setup.timeouts(max_auth_delay=6.0)
        setup.users()

    def own(self, service: Service) -> None:
        codes = []
        for _ in range(5):
            with Talk(service) as talk:
                talk.enter(log_in=False)
                codes.append(fail_to_log_in(talk, 535, 454))
        assert codes == [535] * 4 + [454]


class AccountFailuresPerHour(AuthFailuresPerHour):
    name = "account_failures_per_hour"
    covers = ("Limits.account_failures_per_hour",)


class LogRecordsPerMinute(Row):
    name = "log_records_per_minute"
    covers = ("Limits.log_records_per_minute",)

    def on(self, setup: Setup) -> None:
        setup.limits(log_records_per_minute=5)

        @setup.app.on("NOOP")
        def fail(session: Session, noop: Noop) -> None:
            if noop.argument == "fail":
                raise RuntimeError("a handler that fails")

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.enter(log_in=False)
            for _ in range(8):
                talk.say(b"NOOP fail", 451)
            assert service.log.counts[talk.session.id] == 5


LIMITS: tuple[Row, ...] = (
    Greeting(),
    CommandTimeout(),
    Body(),
    BodyRate(),
    Block(),
    SessionTimeout(),
    Handshake(),
    Send(),
    Crowded(),
    Close(),
    GreetingDelay(),
    AuthDelay(),
    MaxAuthDelay(),
    Connections(),
    ConnectionsPerAddress(),
    ConnectionsPerPrefix(),
    ConnectionsPerMinute(),
    Ipv4Prefix(),
    Ipv6Prefix(),
    AuthFailuresPerHour(),
    AccountFailuresPerHour(),
    LogRecordsPerMinute(),
)
