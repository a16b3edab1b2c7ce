"""Rows of the table for the built-in extensions, with the fields of `Config` that belong to an extension."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import ClassVar

from smtpcore import Burl, Command, Reply
from smtpcore.parameters import BodyType, Notify, Ret
from smtpcore_adapters import Address, Session

from .talk import LOCAL, Received, Row, Service, Setup, Talk

NOT_TRUSTED = "a connection through a proxy is never trusted"
PROXIED = dict.fromkeys(("proxies, version 1", "proxies, version 2", "ipv4_prefix", "ipv6_prefix"), NOT_TRUSTED)


class Extension(Row):
    """A row of an extension with parameters of MAIL and RCPT."""

    mail: bytes = b""
    rcpt: bytes = b""

    def __init__(self) -> None:
        self.keyword = next(name for name in self.covers if "." not in name)
        self.name = self.name or self.keyword

    def on(self, setup: Setup) -> None:
        setup.enable(self.keyword)
        if self.mail:
            setup.mail_params.append(self.mail)
        if self.rcpt:
            setup.rcpt_params.append(self.rcpt)

    def ready(self, talk: Talk) -> None:
        assert self.keyword in talk.offers


class Pipelining(Extension):
    covers = ("PIPELINING",)

    def on(self, setup: Setup) -> None:
        setup.pipelines = True


class EightBitMime(Extension):
    covers = ("8BITMIME",)
    slot = "BODY="
    mail = b"BODY=8BITMIME"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.lines.append("schön\r\n".encode())

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.body is BodyType.EIGHT_BIT_MIME


class SmtpUtf8(Extension):
    covers = ("SMTPUTF8",)
    slot = "the spelling of MAIL"
    mail = b"SMTPUTF8"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.mail = "MAIL FROM:<jörg@c.example>".encode()
        setup.rcpts[0] = "bücher@s.example".encode()

    def received(self, talk: Talk, message: Received) -> None:
        assert message.mail.reverse_path.address == "jörg@c.example"
        assert message.rcpts[0].forward_path.address == "bücher@s.example"


class Chunking(Extension):
    covers = ("CHUNKING",)

    def on(self, setup: Setup) -> None:
        setup.uses_bdat = True


class BinaryMime(Extension):
    covers = ("BINARYMIME",)
    slot = "BODY="
    mail = b"BODY=BINARYMIME"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.uses_bdat = True
        setup.lines.append(b"\0\xff\r\n.\r\n")

    def own(self, service: Service) -> None:
        with Talk(service) as talk:
            talk.enter()
            talk.say(b"MAIL FROM:<a@c.example> BODY=BINARYMIME", 250)
            talk.say(b"RCPT TO:<u@s.example>", 250)
            talk.say(b"DATA", 503)
            talk.quit()


class Auth(Extension):
    covers = ("AUTH",)
    mail = b"AUTH=tim@c.example"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.login()

    def received(self, talk: Talk, message: Received) -> None:
        assert message.identity == "tim"
        assert str(message.submitter) == "tim@c.example"


class Dsn(Extension):
    covers = ("DSN",)
    mail = b"RET=HDRS ENVID=QQ314159"
    rcpt = b"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old@s.example"

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.ret is Ret.HDRS
        assert message.rcpts[0].params.notify == frozenset({Notify.SUCCESS, Notify.DELAY})
        assert str(message.rcpts[0].params.orcpt) == "rfc822;old@s.example"


class DeliverBy(Extension):
    covers = ("DELIVERBY", "Config.min_by_time")
    mail = b"BY=600;R"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.config(min_by_time=60)

    def ready(self, talk: Talk) -> None:
        assert talk.offers["DELIVERBY"] == "60"
        talk.say(b"MAIL FROM:<a@c.example> BY=10;R", 501, 555)

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.by
        assert message.params.by.seconds == 600


class FutureRelease(Extension):
    covers = ("FUTURERELEASE", "Config.max_hold_for", "Config.max_hold_until")
    mail = b"HOLDFOR=60"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.config(max_hold_for=100, max_hold_until=datetime(2099, 1, 1, tzinfo=UTC))

    def ready(self, talk: Talk) -> None:
        assert talk.offers["FUTURERELEASE"] == "100 2099-01-01T00:00:00Z"
        talk.say(b"MAIL FROM:<a@c.example> HOLDFOR=101", 501)

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.holdfor == 60


class MtPriority(Extension):
    covers = ("MT-PRIORITY", "Config.priority_policy")
    mail = b"MT-PRIORITY=3"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.config(priority_policy="MIXER")

    def ready(self, talk: Talk) -> None:
        assert talk.offers["MT-PRIORITY"] == "MIXER"

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.mt_priority == 3


class RequireTlsParameter(Extension):
    covers = ("REQUIRETLS",)
    mail = b"REQUIRETLS"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.tls()

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.requiretls
        assert message.is_encrypted


class Rrvs(Extension):
    covers = ("RRVS",)
    rcpt = b"RRVS=2014-04-03T23:01:00Z"

    def received(self, talk: Talk, message: Received) -> None:
        assert message.rcpts[0].params.rrvs


class NoSoliciting(Extension):
    covers = ("NO-SOLICITING", "Config.solicitation_classes")
    mail = b"SOLICIT=org.example:ADV"

    def on(self, setup: Setup) -> None:
        super().on(setup)
        setup.config(solicitation_classes=("org.example:ADV:ADLT",))

    def ready(self, talk: Talk) -> None:
        assert talk.offers["NO-SOLICITING"] == "org.example:ADV:ADLT"

    def received(self, talk: Talk, message: Received) -> None:
        assert message.params.solicit == ("org.example:ADV",)


class LimitsExtension(Extension):
    covers = ("LIMITS",)

    def ready(self, talk: Talk) -> None:
        assert f"RCPTMAX={talk.setup.server_config.max_recipients}" in talk.offers["LIMITS"].split()


class Etrn(Extension):
    covers = ("ETRN",)

    def on(self, setup: Setup) -> None:
        @setup.app.on("ETRN")
        def start(session: Session, etrn: Command) -> Reply:
            return Reply(251, "No messages waiting")

    def ready(self, talk: Talk) -> None:
        super().ready(talk)
        talk.say(b"ETRN c.example", 251)


class BurlExtension(Extension):
    covers = ("BURL", "Config.burl")
    excludes: ClassVar = {"lmtp": "BURL is for submission, and is not offered in LMTP"}

    def on(self, setup: Setup) -> None:
        setup.config(burl=("imap",))
        setup.burl = b"BURL imap://s.example/1"

        @setup.app.on("BURL")
        async def fetch(session: Session, burl: Burl) -> AsyncIterator[bytes]:
            yield b"from "
            yield burl.uri.encode() + b"\r\n"

    def ready(self, talk: Talk) -> None:
        assert talk.offers["BURL"] == "imap"


class XClient(Extension):
    covers = ("XCLIENT", "Options.trusted")
    excludes: ClassVar = PROXIED

    def on(self, setup: Setup) -> None:
        setup.option(trusted=LOCAL)
        setup.xclient = b"ADDR=198.51.100.9 PORT=99 NAME=real.example"

    def received(self, talk: Talk, message: Received) -> None:
        assert message.peer == Address("198.51.100.9", 99)


class XForward(Extension):
    covers = ("XFORWARD", "Options.trusted")
    excludes: ClassVar = PROXIED

    def on(self, setup: Setup) -> None:
        setup.option(trusted=LOCAL)

    def ready(self, talk: Talk) -> None:
        super().ready(talk)
        talk.say(b"XFORWARD NAME=real.example ADDR=198.51.100.9", 250)

    def received(self, talk: Talk, message: Received) -> None:
        assert message.forwarded["ADDR"] == "198.51.100.9"


class EnhancedStatusCodes(Extension):
    covers = ("ENHANCEDSTATUSCODES",)

    def ready(self, talk: Talk) -> None:
        super().ready(talk)
        assert talk.say(b"NOOP", 250).startswith("250 2.0.0 ")


class Vrfy(Extension):
    covers = ("VRFY",)

    def ready(self, talk: Talk) -> None:
        super().ready(talk)
        talk.say(b"VRFY u", 252)


class Expn(Extension):
    covers = ("EXPN",)

    def on(self, setup: Setup) -> None:
        @setup.app.on("EXPN")
        def expand(session: Session, expn: Command) -> Reply:
            return Reply(250, "<u@s.example>")

    def ready(self, talk: Talk) -> None:
        super().ready(talk)
        talk.say(b"EXPN staff", 250)


class Help(Extension):
    covers = ("HELP",)
    excludes: ClassVar = {"disabled": "that row disables HELP"}

    def ready(self, talk: Talk) -> None:
        super().ready(talk)
        talk.say(b"HELP", 214)


EXTENSION_ROWS: tuple[Row, ...] = (
    Pipelining(),
    EightBitMime(),
    SmtpUtf8(),
    Chunking(),
    BinaryMime(),
    Auth(),
    Dsn(),
    DeliverBy(),
    FutureRelease(),
    MtPriority(),
    RequireTlsParameter(),
    Rrvs(),
    NoSoliciting(),
    LimitsExtension(),
    Etrn(),
    BurlExtension(),
    XClient(),
    XForward(),
    EnhancedStatusCodes(),
    Vrfy(),
    Expn(),
    Help(),
)
