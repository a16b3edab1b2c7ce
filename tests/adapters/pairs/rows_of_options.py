"""Rows of the table for the fields of `Config`, and for the options of a server."""

import socket
import time
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

from smtpcore import BareNewlines, Bodies, Command, Extension, Parameter, Rcpt, Reply, Tolerance
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore_adapters import Address, Header, Listener, Session
from smtpcore_adapters.server._counts import MemoryCounts

from .talk import CLIENT, LOCAL, STRANGER, Received, Row, Service, Setup, Talk

LONG = b"x" * 8000


# The name, the form of bodies, and the grammar


class Hostname(Row):
    covers = ("Config.hostname",)

    def on(self, setup: Setup) -> None:
        setup.config(hostname="other.example")

    def ready(self, talk: Talk) -> None:
        assert talk.greeting.startswith("220 other.example ")
        assert talk.session.config.hostname == "other.example"


class BodiesAsLines(Row):
    covers = ("Config.bodies",)

    def on(self, setup: Setup) -> None:
        setup.config(bodies=Bodies.LINES)
        setup.lines.append(b"\r\n" * 100)

    def received(self, talk: Talk, message: Received) -> None:
        assert talk.session.config.bodies is Bodies.CHUNKS  # the adapters always use chunks


class Normalize(Row):
    name = "bare_newlines=NORMALIZE"
    covers = ("Config.bare_newlines",)
    slot = "bare_newlines"

    def on(self, setup: Setup) -> None:
        setup.config(bare_newlines=BareNewlines.NORMALIZE)
        setup.lines.append(b"lf\ncr\rend\r\n")
        setup.expected.append(self.normalize)

    @staticmethod
    def normalize(setup: Setup, body: bytes) -> bytes:
        """Return the body as the handlers see it. A body with BODY=BINARYMIME is not changed."""
        is_binary = b"BODY=BINARYMIME" in setup.mail_params
        return body if is_binary else body.replace(b"lf\ncr\rend", b"lf\r\ncr\r\nend")

    def ready(self, talk: Talk) -> None:
        talk.say(b"NOOP\n", 250)


class Accept(Row):
    name = "bare_newlines=ACCEPT"
    covers = ("Config.bare_newlines",)
    slot = "bare_newlines"

    def on(self, setup: Setup) -> None:
        setup.config(bare_newlines=BareNewlines.ACCEPT)
        setup.lines.append(b"lf\ncr\rend\r\n")


class Reject(Row):
    name = "bare_newlines=REJECT"
    covers = ("Config.bare_newlines",)
    slot = "bare_newlines"

    def on(self, setup: Setup) -> None:
        setup.config(bare_newlines=BareNewlines.REJECT)

    def ready(self, talk: Talk) -> None:
        talk.say(b"NOOP\n", 500)

    def last(self, talk: Talk) -> None:
        talk.send_body(b"one\ntwo\r\n", 550)
        talk.quit()


class Lenient(Row):
    name = "tolerance"
    covers = ("Config.tolerance",)
    slot = "the spelling of MAIL"

    def on(self, setup: Setup) -> None:
        setup.config(tolerance=Tolerance.LENIENT)
        setup.mail = b"MAIL FROM: a@c.example"

    def received(self, talk: Talk, message: Received) -> None:
        assert set(message.mail.deviations) == {"blank-before-path", "no-brackets"}
        assert str(message.mail).startswith("MAIL FROM:<a@c.example>")


class Lmtp(Row):
    name = "lmtp"
    covers = ("Config.lmtp",)

    def on(self, setup: Setup) -> None:
        setup.config(lmtp=True)
        setup.hello = b"LHLO"
        setup.rcpts.append(b"v@s.example")

    def greeted(self, talk: Talk) -> None:
        talk.say(b"EHLO c.example", 500)

    def received(self, talk: Talk, message: Received) -> None:
        assert len(message.rcpts) == 2


class UnknownParameters(Row):
    name = "unknown_parameters"
    covers = ("Config.unknown_parameters",)

    def on(self, setup: Setup) -> None:
        setup.config(unknown_parameters=True)
        setup.mail_params.append(b"XFOO=bar")

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params["XFOO"] == "bar"


class Disabled(Row):
    name = "disabled"
    covers = ("Config.disabled",)

    def on(self, setup: Setup) -> None:
        setup.disabled.add("HELP")

    def ready(self, talk: Talk) -> None:
        assert "HELP" not in talk.offers
        talk.say(b"HELP", 502)


# TLS and authentication


class RequireTls(Row):
    name = "require_tls"
    covers = ("Config.require_tls",)

    def on(self, setup: Setup) -> None:
        setup.config(require_tls=True, starttls=True)
        setup.tls()

    def greeted(self, talk: Talk) -> None:
        if not talk.is_encrypted:
            talk.introduce()
            talk.say(b"MAIL FROM:<a@c.example>", 530)

    def received(self, talk: Talk, message: Received) -> None:
        assert message.is_encrypted


class Mechanisms(Row):
    name = "auth_mechanisms"
    covers = ("Config.auth_mechanisms",)

    def on(self, setup: Setup) -> None:
        setup.config(auth_mechanisms=("LOGIN",))
        setup.login()
        setup.mechanism = "LOGIN"

    def ready(self, talk: Talk) -> None:
        assert talk.offers["AUTH"] == "LOGIN"

    def received(self, talk: Talk, message: Received) -> None:
        assert message.identity == "tim"


class PlaintextAuth(Row):
    name = "plaintext_auth"
    covers = ("Config.plaintext_auth",)
    excludes: ClassVar = {"require_tls": "a client may not log in before TLS"}

    def on(self, setup: Setup) -> None:
        setup.config(plaintext_auth=True)
        setup.has_users = True

    def greeted(self, talk: Talk) -> None:
        talk.introduce()
        talk.log_in()

    def ready(self, talk: Talk) -> None:
        assert "AUTH" in talk.offers


class RequireAuth(Row):
    name = "require_auth"
    covers = ("Config.require_auth",)

    def on(self, setup: Setup) -> None:
        setup.config(require_auth=True)
        setup.config(auth_mechanisms=("LOGIN",) if setup.mechanism == "LOGIN" else ("PLAIN",))
        setup.login()

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.enter(log_in=False)
            talk.say(b"MAIL FROM:<a@c.example>", 530)
            talk.quit()

    def received(self, talk: Talk, message: Received) -> None:
        assert message.identity == "tim"


# Sizes and counts of a session


class MaxCommandLine(Row):
    name = "max_command_line"
    covers = ("Config.max_command_line",)

    def on(self, setup: Setup) -> None:
        setup.config(max_command_line=9000)

    def ready(self, talk: Talk) -> None:
        talk.say(b"NOOP " + LONG, 250)
        talk.say(b"NOOP " + LONG * 2, 500)


class MaxTextLine(Row):
    name = "max_text_line"
    covers = ("Config.max_text_line",)

    def on(self, setup: Setup) -> None:
        setup.config(max_text_line=1000)
        setup.lines.append(b"x" * 998 + b"\r\n")

    def last(self, talk: Talk) -> None:
        talk.send_body(b"x" * 1200 + b"\r\n", 554)
        talk.quit()


class MaxMessageSize(Row):
    name = "max_message_size"
    covers = ("Config.max_message_size", "SIZE")

    def on(self, setup: Setup) -> None:
        setup.config(max_message_size=65_536)
        setup.mail_params.append(b"SIZE=65536")

    def ready(self, talk: Talk) -> None:
        assert talk.offers["SIZE"] == "65536"
        talk.say(b"MAIL FROM:<a@c.example> SIZE=65537", 552)

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.size == 65_536

    def last(self, talk: Talk) -> None:
        talk.send_body((b"x" * 70 + b"\r\n") * 1000, 552)
        talk.quit()


class MaxHeader(Row):
    name = "max_header"
    covers = ("Config.max_header",)

    def on(self, setup: Setup) -> None:
        setup.config(max_header=5000)

        @setup.app.on("header")
        def look(session: Session, header: Header) -> None:
            session.state.subject = header.get("Subject")

    def received(self, talk: Talk, message: Received) -> None:
        assert message.session.state.subject == "x"

    def last(self, talk: Talk) -> None:
        talk.send_body(b"X-Field: x\r\n" * 500 + b"\r\n", 552)
        talk.quit()


def send_rcpts(talk: Talk, count: int, text: str) -> None:
    """Send RCPT `count` times in one group; the next RCPT has to be refused with `text`."""
    talk.say(b"MAIL FROM:<a@c.example>", 250)
    talk.client.send(b"".join(b"RCPT TO:<u%d@s.example>\r\n" % number for number in range(count + 1)))
    for _ in range(count):
        talk.expect(250)
    assert talk.expect(452).endswith(text)
    talk.say(b"RSET", 250)
    talk.quit()


class MaxRecipients(Row):
    name = "max_recipients"
    covers = ("Config.max_recipients",)

    def on(self, setup: Setup) -> None:
        setup.config(max_recipients=100)

    def last(self, talk: Talk) -> None:
        send_rcpts(talk, 100, "Too many recipients")


class MaxRecipientsPerSession(Row):
    name = "max_recipients_per_session"
    covers = ("Config.max_recipients_per_session",)
    MOST = 103

    def on(self, setup: Setup) -> None:
        setup.config(max_recipients_per_session=self.MOST)

    def last(self, talk: Talk) -> None:
        for number in range(60):
            if number % 30 == 0:
                talk.say(b"RSET", 250)
                talk.say(b"MAIL FROM:<a@c.example>", 250)
            talk.say(b"RCPT TO:<u%d@s.example>" % number, 250)
        talk.say(b"RSET", 250)
        send_rcpts(talk, self.MOST - 60 - len(talk.setup.rcpts), "Too many recipients in one session")


class MaxRecipientDomains(Row):
    name = "max_recipient_domains"
    covers = ("Config.max_recipient_domains",)

    def on(self, setup: Setup) -> None:
        setup.config(max_recipient_domains=2)

    def last(self, talk: Talk) -> None:
        talk.say(b"MAIL FROM:<a@c.example>", 250)
        talk.say(b"RCPT TO:<u@second.example>", 250)
        talk.say(b"RCPT TO:<u@third.example>", 452)
        talk.say(b"RCPT TO:<u@s.example>", 250)
        talk.say(b"RSET", 250)
        talk.quit()


class MaxMessages(Row):
    name = "max_messages"
    covers = ("Config.max_messages",)

    def on(self, setup: Setup) -> None:
        setup.config(max_messages=4)

    def last(self, talk: Talk) -> None:
        for _ in range(3):
            talk.say(b"MAIL FROM:<a@c.example>", 250)
            talk.say(b"RSET", 250)
        talk.client.send(b"MAIL FROM:<a@c.example>\r\n")
        talk.expect_goodbye("too many messages in one session")


class MaxErrors(Row):
    name = "max_errors"
    covers = ("Config.max_errors",)

    def on(self, setup: Setup) -> None:
        setup.config(max_errors=20)

    def last(self, talk: Talk) -> None:
        for _ in range(20):
            talk.say(b"XNONSENSE", 500)
        talk.client.send(b"NOOP\r\n")
        talk.expect_goodbye("too many errors")


class MaxRefusals(Row):
    name = "max_refusals"
    covers = ("Config.max_refusals",)

    def on(self, setup: Setup) -> None:
        setup.config(max_refusals=10)

        @setup.app.on("RCPT")
        def refuse(session: Session, rcpt: Rcpt) -> Reply | None:
            return Reply(450, "Busy", enhanced="4.2.1") if rcpt.forward_path.local_part == "busy" else None

    def last(self, talk: Talk) -> None:
        talk.say(b"MAIL FROM:<a@c.example>", 250)
        for _ in range(10):
            talk.say(b"RCPT TO:<busy@s.example>", 450)
        talk.client.send(b"RSET\r\n")
        talk.expect_goodbye("too many refusals")


class MaxIdleCommands(Row):
    name = "max_idle_commands"
    covers = ("Config.max_idle_commands",)

    def on(self, setup: Setup) -> None:
        setup.config(max_idle_commands=40)

    def last(self, talk: Talk) -> None:
        for _ in range(40):
            talk.say(b"NOOP", 250)
        talk.client.send(b"NOOP\r\n")
        talk.expect_goodbye("too many commands without a message")


class MaxAuthFailures(Row):
    name = "max_auth_failures"
    covers = ("Config.max_auth_failures",)

    def on(self, setup: Setup) -> None:
        setup.config(max_auth_failures=2)
        setup.users()

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.enter(log_in=False)
            fail_to_log_in(talk, 535)
            fail_to_log_in(talk, 535)
            talk.client.send(b"NOOP\r\n")
            talk.expect_goodbye("too many failed authentications")


def fail_to_log_in(talk: Talk, *codes: int) -> int:
    """Send a wrong password, and return the code of the reply."""
    last = STRANGER
    if talk.setup.mechanism == "LOGIN":
        reply = talk.say(b"AUTH LOGIN", 334, *codes)
        if not reply.startswith("334"):
            return int(reply[:3])
        talk.say(b"dGlt", 334)
        last = b"d3Jvbmc=\r\n"

    talk.client.send(last)
    if talk.setup.auth_delay:
        talk.setup.advance(talk.setup.auth_delay)
    return int(talk.expect(*codes, after=last)[:3])


# The server


class Host(Row):
    name = "host"
    covers = ("Options.host",)
    slot = "the listeners"

    def on(self, setup: Setup) -> None:
        setup.option(host=None)

    def ready(self, talk: Talk) -> None:
        addresses = talk.service.server.addresses
        assert {address.host for address in addresses} <= {"0.0.0.0", "::"}
        (address,) = (address for address in addresses if address.host == "0.0.0.0")
        with Talk(talk.service) as other:
            other.greet(Address("127.0.0.1", address.port))


class SeveralListeners(Row):
    name = "listeners"
    covers = ("Options.listeners",)
    slot = "the listeners"

    def on(self, setup: Setup) -> None:
        setup.option(listeners=[Listener(), Listener()])

    def ready(self, talk: Talk) -> None:
        _, second = talk.service.server.addresses
        with Talk(talk.service) as other:
            other.greet(second)
            other.introduce()
            assert other.session.local == second or talk.setup.proxy


class UnixListener(Row):
    name = "listener at a Unix socket"
    covers = ("Options.listeners",)
    slot = "the listeners"
    excludes: ClassVar = dict.fromkeys(
        ("connections_per_address", "connections_per_prefix", "connections_per_minute", "auth_failures_per_hour"),
        "the clients of a Unix socket have no address to count",
    )

    def on(self, setup: Setup) -> None:
        path = f"{setup.directory}/{time.monotonic_ns()}"
        setup.option(listeners=[Listener(path=path)])
        setup.is_unix = True

    def ready(self, talk: Talk) -> None:
        assert Path(talk.service.server.address.host).is_socket()


class BoundListener(Row):
    name = "listener at a bound socket"
    covers = ("Options.listeners",)
    slot = "the listeners"

    def on(self, setup: Setup) -> None:
        setup.option(listeners=[Listener(bound=socket.create_server(("127.0.0.1", 0)))])

    def ready(self, talk: Talk) -> None:
        assert talk.service.server.address.host == "127.0.0.1"


class OwnCounts(Row):
    name = "counts"
    covers = ("Options.counts",)

    def on(self, setup: Setup) -> None:
        setup.option(counts=MemoryCounts())

    def ready(self, talk: Talk) -> None:
        assert talk.setup.options["counts"].count("") >= 1


class Grace(Row):
    name = "grace"
    covers = ("Options.grace",)

    def on(self, setup: Setup) -> None:
        setup.option(grace=0.0)

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.enter()
            talk.open_body(b"unfinished\r\n")
            session = talk.session
            stopped = service.stop()
            talk.rest()
            assert service.reason(session) in ("cancelled", "timeout")
            stopped.result(5)


TENANT = Parameter("XTENANT", str, str, octets=len(" XTENANT=acme"))
TENANTS = Extension(keyword="XTENANT", mail=(TENANT,), verbs=frozenset({"XQUOTA"}))


class OwnExtension(Row):
    name = "extensions"
    covers = ("Options.extensions",)

    def on(self, setup: Setup) -> None:
        setup.extensions.append(TENANTS)
        setup.mail_params.append(b"XTENANT=acme")

        @setup.app.on_verb("XQUOTA")
        def quota(session: Session, command: Command) -> Reply:
            return Reply(250, "1000 octets")

    def ready(self, talk: Talk) -> None:
        assert "XTENANT" in talk.offers
        assert talk.say(b"XQUOTA acme", 250).endswith("1000 octets")

    def received(self, talk: Talk, message: Received) -> None:
        assert TENANT.of(message.params) == "acme"


class StartTls(Row):
    name = "tls"
    covers = ("Options.tls", "Config.starttls", "STARTTLS")

    def on(self, setup: Setup) -> None:
        setup.tls()

    def received(self, talk: Talk, message: Received) -> None:
        assert message.is_encrypted


class ImplicitTls(Row):
    name = "implicit_tls"
    covers = ("Options.implicit_tls",)

    def on(self, setup: Setup) -> None:
        setup.tls()
        setup.option(implicit_tls=True)

    def received(self, talk: Talk, message: Received) -> None:
        assert message.is_encrypted


class Proxied(Row):
    name = "proxies, version 1"
    covers = ("Options.proxies",)
    slot = "the PROXY header"
    version = 1

    def on(self, setup: Setup) -> None:
        setup.option(proxies=LOCAL)
        setup.proxy = lambda client: header(client, self.version)

    def received(self, talk: Talk, message: Received) -> None:
        assert message.peer == CLIENT or talk.setup.xclient


class ProxiedInBinary(Proxied):
    name = "proxies, version 2"
    version = 2


def header(client: Address, version: int = 1) -> bytes:
    """Return the PROXY header for a client."""
    other = "192.0.2.25" if "." in client.host else "2001:db8::25"
    ends = (Endpoint(ip_address(client.host), client.port), Endpoint(ip_address(other), 25))
    return ProxyHeader(ProxyCommand.PROXY, *ends).encode(version=version)


OPTIONS: tuple[Row, ...] = (
    Hostname(),
    BodiesAsLines(),
    Normalize(),
    Accept(),
    Reject(),
    Lenient(),
    Lmtp(),
    UnknownParameters(),
    Disabled(),
    RequireTls(),
    Mechanisms(),
    PlaintextAuth(),
    RequireAuth(),
    MaxCommandLine(),
    MaxTextLine(),
    MaxHeader(),
    MaxMessageSize(),
    MaxRecipients(),
    MaxRecipientsPerSession(),
    MaxRecipientDomains(),
    MaxMessages(),
    MaxErrors(),
    MaxRefusals(),
    MaxIdleCommands(),
    MaxAuthFailures(),
    Host(),
    SeveralListeners(),
    UnixListener(),
    BoundListener(),
    OwnCounts(),
    Grace(),
    OwnExtension(),
    StartTls(),
    ImplicitTls(),
    Proxied(),
    ProxiedInBinary(),
)
