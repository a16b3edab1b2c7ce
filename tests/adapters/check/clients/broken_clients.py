"""A small correct client, and clients with one fault each."""

import base64
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from smtpcore_adapters.check.clients import Run, Tls

HEADER = b"From: <a@c.example>\r\nSubject: check\r\n\r\n"
BODY = b"Hello\r\n.hidden\r\n.\r\nend\r\n"


class ClientError(Exception):
    """The client gives up."""


class Correct:
    """A client without pipelining, which sends one message. An instance is called once for each check."""

    def __init__(self, tls: Tls = "none", *, logs_in: bool = False, lmtp: bool = False) -> None:
        self.tls = tls
        self.lmtp = lmtp
        self.logs_in = logs_in

    def __call__(self, run: Run) -> bool:
        self.input = b""
        self.offers: dict[str, str] = {}
        self.is_secure = False
        self.run = run
        try:
            with socket.create_connection((run.host, run.port), timeout=5) as self.socket:
                if self.tls == "implicit":
                    self.start_tls()
                return self.session()
        except (ClientError, OSError):
            return False
        finally:
            self.socket.close()

    def session(self) -> bool:
        self.greeting(self.reply())
        self.hello()
        if self.tls == "starttls":
            self.starttls()
        if self.logs_in:
            self.log_in()
        return self.transaction()

    # Steps, for faults to replace

    def greeting(self, code: int) -> None:
        if code != 220:
            self.leave()

    def hello(self) -> None:
        if self.lmtp:
            if self.ask(b"LHLO c.example") // 100 != 2:
                self.leave()
        elif (code := self.ask(b"EHLO c.example")) // 100 == 4 or (
            code // 100 == 5 and self.ask(b"HELO c.example") != 250
        ):
            self.leave()

    def starttls(self) -> None:
        if "STARTTLS" not in self.offers or self.ask(b"STARTTLS") != 220:
            self.leave()
        self.after_starttls()
        self.hello()

    def after_starttls(self) -> None:
        self.input = b""
        self.start_tls()

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.run.authority)

    def log_in(self) -> None:
        if "PLAIN" not in self.offers.get("AUTH", "").split() or not self.is_secure:
            self.leave()
        if self.ask(b"AUTH PLAIN " + base64.b64encode(b"\0tim\0secret")) != 235:
            self.leave()

    def transaction(self) -> bool:
        if 0 < self.max_size() < len(self.message()):
            self.leave()
        self.mail()
        self.rcpt(self.ask(b"RCPT TO:<b@s.example>"))
        self.data(self.ask(b"DATA"))
        self.send(self.stuffed(self.message()) + b".\r\n")
        is_sent = self.end()
        self.quit()
        return is_sent

    def max_size(self) -> int:
        return int(self.offers.get("SIZE") or 0)

    def message(self) -> bytes:
        return HEADER + BODY

    def stuffed(self, message: bytes) -> bytes:
        return message.replace(b"\n.", b"\n..")

    def mail(self) -> None:
        self.after_mail(self.ask(b"MAIL FROM:<a@c.example>"))

    def after_mail(self, code: int) -> None:
        if code // 100 != 2:
            self.leave()

    def rcpt(self, code: int) -> None:
        if code // 100 != 2:
            self.leave()

    def data(self, code: int) -> None:
        if code != 354:
            self.leave()
        if self.input:
            raise ClientError("early reply")

    def end(self) -> bool:
        return self.reply() // 100 == 2

    def quit(self) -> None:
        with suppress(ClientError, OSError):
            self.ask(b"QUIT")

    def leave(self) -> None:
        self.send(b"QUIT\r\n")
        raise ClientError

    # Octets

    max_reply = 65_536

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, line: bytes) -> int:
        self.send(line + b"\r\n")
        code = self.reply()
        if line.startswith((b"EHLO", b"LHLO")):
            texts = [text[4:].upper().partition(" ") for text in self.lines[1:]] if code == 250 else []
            self.offers = {keyword: arguments for keyword, _, arguments in texts}
        return code

    def reply(self) -> int:
        self.lines = [self.line()]
        while self.lines[-1][3:4] == "-":
            self.lines.append(self.line())
            if len(self.lines) * 16 > self.max_reply:
                raise ClientError("endless reply")
        code = self.lines[-1][:3]
        if not code.isdecimal() or {line[:3] for line in self.lines} != {code}:
            raise ClientError("malformed reply")
        return int(code)

    def line(self) -> str:
        while b"\n" not in self.input:
            if len(self.input) > self.max_reply:
                raise ClientError("endless line")
            self.receive()
        line, _, self.input = self.input.partition(b"\n")
        return line.decode("latin-1").rstrip("\r")

    def receive(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ClientError("closed")
        self.input += data

    def start_tls(self) -> None:
        self.socket = self.context().wrap_socket(self.socket, server_hostname="localhost")
        self.is_secure = True


class TalksFirst(Correct):
    def session(self) -> bool:
        self.send(b"NOOP\r\n")
        self.greeting(self.reply())
        self.reply()
        self.hello()
        return self.transaction()


class IgnoresGreeting(Correct):
    ignored = 421

    def greeting(self, code: int) -> None:
        if code != self.ignored:
            super().greeting(code)


class IgnoresNoService(IgnoresGreeting):
    ignored = 554


class ReadsOneLineOfGreeting(Correct):
    def greeting(self, code: int) -> None:
        super().greeting(code)
        if len(self.lines) > 1:
            raise ClientError("unexpected line")


class StartsWithMail(Correct):
    def hello(self) -> None:
        self.ask(b"MAIL FROM:<>")
        super().hello()


class GivesBadName(Correct):
    name = b"my_host"

    def ask(self, line: bytes) -> int:
        return super().ask(line.replace(b"c.example", self.name) if line[:4] == b"EHLO" else line)


class GivesLongName(GivesBadName):
    name = b".".join([b"x" * 63] * 9)


class KnowsNoHelo(Correct):
    def hello(self) -> None:
        if self.ask(b"EHLO c.example") != 250:
            self.leave()


class IgnoresRefusedHelo(Correct):
    def hello(self) -> None:
        if self.ask(b"EHLO c.example") != 250:
            self.ask(b"HELO c.example")


class RejectsUnknownKeywords(Correct):
    def hello(self) -> None:
        super().hello()
        if "XUNKNOWN" in self.offers:
            raise ClientError("unknown extension")


class AlwaysDeclaresSize(Correct):
    def mail(self) -> None:
        self.after_mail(self.ask(b"MAIL FROM:<a@c.example> SIZE=100"))


class EndsCommandsWithLf(Correct):
    def mail(self) -> None:
        self.send(b"NOOP\n")
        self.reply()
        super().mail()


class PutsSpaceBeforePath(Correct):
    def mail(self) -> None:
        self.after_mail(self.ask(b"MAIL FROM: <a@c.example>"))


class PipelinesUnasked(Correct):
    def mail(self) -> None:
        self.send(b"RSET\r\nMAIL FROM:<a@c.example>\r\n")
        self.reply()
        self.after_mail(self.reply())


class PipelinesHello(Correct):
    def hello(self) -> None:
        code = self.ask(b"EHLO c.example\r\nNOOP")
        self.reply()
        if code // 100 == 5 and self.ask(b"HELO c.example") != 250:
            self.leave()


class SendsMessageWithData(Correct):
    def send(self, data: bytes) -> None:
        message = self.stuffed(self.message()) + b".\r\n"
        if data == b"DATA\r\n":
            data += message
        elif data == message:
            return
        super().send(data)

    def data(self, code: int) -> None:
        if code != 354:
            self.leave()


class ReadsWholeReplies(Correct):
    def line(self) -> str:
        if not self.input:
            self.receive()
        if not self.input.endswith(b"\r\n"):
            raise ClientError("incomplete reply")
        return super().line()


class NeedsText(Correct):
    def after_mail(self, code: int) -> None:
        super().after_mail(code if self.lines[-1][4:] else 500)


class KnowsNoContinuation(Correct):
    def data(self, code: int) -> None:
        super().data(code if len(self.lines) == 1 else 500)


class KnowsOnly250(Correct):
    def after_mail(self, code: int) -> None:
        super().after_mail(code if code == 250 or code >= 400 else 500)


class ReadsEndlessLine(Correct):
    max_reply = 100_000_000


class AcceptsEarlyReplies(Correct):
    def data(self, code: int) -> None:
        if code != 354:
            self.leave()


class SendsMessageAfter421(Correct):
    def after_mail(self, code: int) -> None:
        if code == 421:
            self.send(b"DATA\r\n")
        super().after_mail(code)


class CallsCloseSuccess(Correct):
    def __call__(self, run: Run) -> bool:
        return super().__call__(run) or self.was_closed

    was_closed = False

    def rcpt(self, code: int) -> None:
        super().rcpt(code)

    def receive(self) -> None:
        self.was_closed = False
        try:
            super().receive()
        except ClientError:
            self.was_closed = self.offers != {} and not self.has_data
            raise

    has_data = False

    def after_mail(self, code: int) -> None:
        self.has_data = code == 421
        super().after_mail(code)

    def data(self, code: int) -> None:
        self.has_data = True
        super().data(code)


class LeavesWithoutQuit(Correct):
    def quit(self) -> None:
        pass


class TalksAfterQuit(Correct):
    def quit(self) -> None:
        self.send(b"QUIT\r\nNOOP\r\n")
        super().quit()


class IgnoresRefusedMail(Correct):
    def after_mail(self, code: int) -> None:
        if code == 421:
            super().after_mail(code)


class SendsMessageWithoutRecipients(Correct):
    def rcpt(self, code: int) -> None:
        pass


class CallsRefusalSuccess(Correct):
    def rcpt(self, code: int) -> None:
        self.is_refused = code == 550
        super().rcpt(code)

    is_refused = False

    def __call__(self, run: Run) -> bool:
        self.is_refused = False
        return super().__call__(run) or self.is_refused


class IgnoresRefusedData(Correct):
    def data(self, code: int) -> None:
        super().data(354 if code == 451 else code)


class IgnoresEnd(Correct):
    ignored = 554

    def end(self) -> bool:
        return self.reply() in (250, 255, self.ignored)


class CallsIntermediateReplySuccess(Correct):
    def end(self) -> bool:
        return self.reply() < 400


class IgnoresDeferral(IgnoresEnd):
    ignored = 451


class Ignores421(IgnoresEnd):
    ignored = 421


class CallsMissingReplySuccess(Correct):
    def end(self) -> bool:
        try:
            return super().end()
        except ClientError as exc:
            return str(exc) == "closed"


class NeedsReplyToQuit(Correct):
    def quit(self) -> None:
        self.ask(b"QUIT")


class NeedsSuccessOfQuit(Correct):
    def quit(self) -> None:
        try:
            code = self.ask(b"QUIT")
        except ClientError:
            return
        if code != 221:
            raise ClientError


class SendsTwice(Correct):
    def quit(self) -> None:
        try:
            self.ask(b"QUIT")
        except ClientError:
            if not self.is_second:
                self.is_second = True
                self.socket.close()
                self(self.run)
                self.is_second = False

    is_second = False


class IgnoresSize(Correct):
    def max_size(self) -> int:
        return 0


class SendsBareLf(Correct):
    def message(self) -> bytes:
        return HEADER + b"one\ntwo\r\n" + BODY


class SendsBareCr(Correct):
    def message(self) -> bytes:
        return HEADER + b"one\rtwo\r\n" + BODY


class DoublesNoDots(Correct):
    def stuffed(self, message: bytes) -> bytes:
        return message.replace(b".\r\n", b"")


class DoublesNoSingleDot(Correct):
    def stuffed(self, message: bytes) -> bytes:
        return message.replace(b"\n.h", b"\n..h")

    def end(self) -> bool:
        is_sent = super().end()
        with suppress(ClientError):
            self.reply()
            self.reply()
        return is_sent


class SendsLongLines(Correct):
    def message(self) -> bytes:
        return HEADER + b"x" * 2000 + b"\r\n" + BODY


class SendsEightBits(Correct):
    def message(self) -> bytes:
        return HEADER + b"\xc3\xa9\r\n" + BODY


class SendsUtf8Header(Correct):
    def message(self) -> bytes:
        return b"Subject: \xc3\xa9\r\n" + HEADER + BODY if "8BITMIME" in self.offers else super().message()


class IgnoresRefusedRecipient(Correct):
    def rcpt(self, code: int) -> None:
        super().rcpt(code)
        self.second = self.ask(b"RCPT TO:<c@s.example>")


class SendsUtf8Sender(Correct):
    def mail(self) -> None:
        self.after_mail(self.ask("MAIL FROM:<é@c.example>".encode()))


class SendsUtf8Recipient(Correct):
    def rcpt(self, code: int) -> None:
        super().rcpt(code)
        self.ask("RCPT TO:<é@s.example>".encode())


BROKEN_CONNECTIONS: dict[Callable[[], Correct], set[str]] = {
    IgnoresGreeting: {"greeting-421"},
    IgnoresNoService: {"greeting-554"},
    ReadsOneLineOfGreeting: {"greeting-multiline"},
    StartsWithMail: {"hello-first"},
    GivesBadName: {"hello-name"},
    GivesLongName: {"command-length"},
    KnowsNoHelo: {"hello-fallback"},
    IgnoresRefusedHelo: {"hello-refused"},
    RejectsUnknownKeywords: {"hello-keywords"},
    AlwaysDeclaresSize: {"hello-nothing-offered"},
    EndsCommandsWithLf: {"command-line-ends"},
    PutsSpaceBeforePath: {"command-path"},
    PipelinesUnasked: {"pipelining-not-offered"},
    PipelinesHello: {"pipelining-hello"},
    SendsMessageWithData: {"pipelining-data", "data-refused", "reply-early"},
    ReadsWholeReplies: {"reply-octets"},
    NeedsText: {"reply-bare-codes"},
    KnowsNoContinuation: {"reply-multiline"},
    KnowsOnly250: {"reply-unknown-codes"},
    ReadsEndlessLine: {"reply-endless-line", "reply-endless-lines"},
    AcceptsEarlyReplies: {"reply-early"},
    SendsMessageAfter421: {"shutdown-421"},
    CallsCloseSuccess: {"shutdown-closed"},
    LeavesWithoutQuit: {"quit-sent"},
    TalksAfterQuit: {"quit-last"},
}
"""Clients without TLS, each with the checks that have to find its fault; no other check may."""

BROKEN_TRANSACTIONS: dict[Callable[[], Correct], set[str]] = {
    IgnoresRefusedMail: {"mail-refused"},
    SendsMessageWithoutRecipients: {"recipients-354"},
    CallsRefusalSuccess: {"recipients-refused", "recipients-354"},
    IgnoresRefusedData: {"data-refused"},
    IgnoresEnd: {"end-refused"},
    IgnoresDeferral: {"end-deferred"},
    Ignores421: {"end-421"},
    CallsMissingReplySuccess: {"end-closed"},
    NeedsReplyToQuit: {"end-accepted-closed"},
    NeedsSuccessOfQuit: {"end-quit-refused"},
    SendsTwice: {"end-accepted-closed"},
    IgnoresSize: {"size-smaller"},
    SendsBareLf: {"body-line-ends"},
    SendsBareCr: {"body-line-ends"},
    DoublesNoDots: {"body-dots"},
    SendsLongLines: {"body-line-length"},
    SendsEightBits: {"body-8bit"},
    SendsUtf8Header: {"body-smtputf8"},
    SendsUtf8Sender: {"body-smtputf8"},
    SendsUtf8Recipient: {"body-smtputf8", "recipients-partly-refused"},
    IgnoresRefusedRecipient: {"recipients-partly-refused"},
    DoublesNoSingleDot: {"body-dots"},
}
"""The same for faults in a transaction."""


# TLS and logins


class FallsBackToPlaintext(Correct):
    def starttls(self) -> None:
        if "STARTTLS" in self.offers:
            super().starttls()


class IgnoresRefusedStarttls(Correct):
    def starttls(self) -> None:
        if "STARTTLS" not in self.offers:
            self.leave()
        code = self.ask(b"STARTTLS")
        if code == 220:
            self.after_starttls()
            self.hello()


class FallsBackWithoutEhlo(Correct):
    def starttls(self) -> None:
        if self.offers:
            super().starttls()


class UsesInjectedReplies(Correct):
    def after_starttls(self) -> None:
        self.start_tls()


class SendsNoNewHello(Correct):
    def hello(self) -> None:
        if not self.is_secure:
            super().hello()


class KeepsExtensions(Correct):
    def mail(self) -> None:
        self.after_mail(self.ask(b"MAIL FROM:<a@c.example> BODY=8BITMIME"))


class AcceptsAnyAuthority(Correct):
    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


class AcceptsAnyName(Correct):
    def context(self) -> ssl.SSLContext:
        context = super().context()
        context.check_hostname = False
        return context


class LogsInBeforeTls(Correct):
    def starttls(self) -> None:
        if "AUTH" in self.offers and "STARTTLS" in self.offers:
            self.ask(b"AUTH LOGIN")
            self.ask(b"dGlt")
            self.ask(b"c2VjcmV0")
        super().starttls()


class LogsInUnasked(Correct):
    def log_in(self) -> None:
        if "AUTH" in self.offers:
            super().log_in()
        elif self.ask(b"AUTH PLAIN AHRpbQBzZWNyZXQ=") != 235:
            self.leave()


class IgnoresMechanisms(Correct):
    def log_in(self) -> None:
        if self.offers.get("AUTH") == "XUNKNOWN":
            self.offers["AUTH"] = "PLAIN"
        super().log_in()


class CallsRefusedLoginSuccess(Correct):
    def __call__(self, run: Run) -> bool:
        self.is_refused = False
        return super().__call__(run) or self.is_refused

    is_refused = False

    def ask(self, line: bytes) -> int:
        code = super().ask(line)
        self.is_refused |= code == 535
        return code


BROKEN_WITH_TLS: dict[Callable[..., Correct], set[str]] = {
    FallsBackToPlaintext: {"tls-stripped", "tls-no-ehlo"},
    IgnoresRefusedStarttls: {"tls-refused"},
    FallsBackWithoutEhlo: {"tls-no-ehlo"},
    SendsNoNewHello: {"tls-new-hello"},
    KeepsExtensions: {"tls-forgets-extensions"},
    AcceptsAnyAuthority: {"tls-authority", "tls-name"},
    AcceptsAnyName: {"tls-name"},
    LogsInBeforeTls: {"auth-plaintext", "tls-refused"},
}
"""The same for clients that require STARTTLS, among the checks of TLS and AUTH."""

BROKEN_WITH_LOGIN: dict[Callable[..., Correct], set[str]] = {
    LogsInUnasked: {"auth-not-offered"},
    IgnoresMechanisms: {"auth-mechanism"},
    CallsRefusedLoginSuccess: {"auth-refused"},
}
"""The same for clients that require STARTTLS and log in."""
