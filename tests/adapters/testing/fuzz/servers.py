"""A small correct server in memory, and servers with one fault each. A server is a `Peer` of the fuzzer."""

import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar, Self

from smtpcore_adapters.testing.fuzz import Peer


class SmallServer:
    """A correct SMTP server. A subclass changes one method."""

    offers: tuple[str, ...] = ("PIPELINING", "8BITMIME", "CHUNKING", "SIZE 100000", "SMTPUTF8")
    lmtp = False
    proxied = False
    delivered: ClassVar[list[bytes]] = []

    def __init__(self) -> None:
        self.input = bytearray()
        self.output = bytearray()
        self.is_over = False
        self.has_hello = False
        self.sender: bytes | None = None
        self.recipients: list[bytes] = []
        self.body: bytearray | None = None
        self.chunk: tuple[int, bool] | None = None
        self.chunks = b""
        self.reply("220 small ESMTP")

    @classmethod
    def connect(cls) -> Self:
        return cls()

    # The interface of a peer

    def send(self, segments: Sequence[bytes], timeout: float) -> None:
        for segment in segments:
            self.receive_segment(segment)

    def receive_segment(self, segment: bytes) -> None:
        self.input += segment
        while not self.is_over and self.take():
            pass

    def receive(self, timeout: float) -> bytes:
        data = bytes(self.output)
        self.output.clear()
        if data or self.is_over:
            return data
        raise TimeoutError

    def start_tls(self, timeout: float) -> None:
        self.reset()

    def close(self) -> None:
        self.is_over = True

    # Octets

    def reply(self, text: str) -> None:
        self.output += text.encode() + b"\r\n"

    def take(self) -> bool:
        """Take one unit of the input. Return whether there may be more."""
        if self.body is not None:
            return self.take_body()
        if self.chunk is not None:
            return self.take_chunk()

        line, end, _ = self.input.partition(b"\r\n")
        if not end:
            return False
        del self.input[: len(line) + 2]
        self.command(bytes(line))
        return True

    def take_body(self) -> bool:
        assert self.body is not None
        line, end, _ = self.input.partition(b"\r\n")
        if not end:
            return False
        del self.input[: len(line) + 2]
        if line == b".":
            self.end_body()
        else:
            self.body += self.unstuffed(bytes(line)) + b"\r\n"
        return True

    def unstuffed(self, line: bytes) -> bytes:
        return line[1:] if line.startswith(b".") else line

    def take_chunk(self) -> bool:
        assert self.chunk is not None
        size, is_last = self.chunk
        if len(self.input) < size:
            return False
        self.chunks += bytes(self.input[:size])
        del self.input[:size]
        self.chunk = None
        self.end_chunk(is_last)
        return True

    # Commands

    def command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        name = verb.decode("latin-1").upper()
        handler = getattr(self, f"do_{name}", None) if name.isalpha() and name.isascii() else None
        if len(line) > 2000 or handler is None or b"\0" in line:
            self.unknown(line)
        else:
            handler(rest)

    def unknown(self, line: bytes) -> None:
        self.reply("500 What?")

    def reset(self) -> None:
        self.sender, self.recipients, self.chunks = None, [], b""

    def do_EHLO(self, rest: bytes) -> None:
        if not rest or b" " in rest:
            return self.reply("501 Name?")
        self.has_hello = True
        self.reset()
        lines = ["small", *self.offers]
        for line in lines[:-1]:
            self.reply(f"250-{line}")
        return self.reply(f"250 {lines[-1]}")

    def do_LHLO(self, rest: bytes) -> None:
        self.do_EHLO(rest)

    def do_HELO(self, rest: bytes) -> None:
        self.has_hello = True
        self.reset()
        self.reply("250 small")

    def do_MAIL(self, rest: bytes) -> None:
        path, bracket, params = rest.partition(b">")
        known = (b"SIZE=", b"BODY=", b"SMTPUTF8")
        if not path.upper().startswith(b"FROM:<") or not bracket or b"\xff" in path or path.endswith(b"@"):
            self.reply("501 Sender?")
        elif not self.has_hello or self.sender is not None:
            self.reply("503 Not now")
        elif not all(word.upper().startswith(known) for word in params.split()):
            self.unknown_parameter()
        else:
            self.sender = path[6:]
            self.reply("250 OK")

    def unknown_parameter(self) -> None:
        self.reply("555 Parameter?")

    def do_RCPT(self, rest: bytes) -> None:
        if not rest.upper().startswith(b"TO:<") or not rest.endswith(b">") or rest.endswith(b"@>") or len(rest) < 6:
            self.reply("501 Recipient?")
        elif not self.may_add_recipient():
            self.reply("503 MAIL first")
        else:
            self.add_recipient(rest[4:-1])
            self.reply("250 OK")

    def may_add_recipient(self) -> bool:
        return self.sender is not None

    def add_recipient(self, path: bytes) -> None:
        self.recipients.append(path)

    def do_DATA(self, rest: bytes) -> None:
        if rest:
            self.reply("501 No arguments")
        elif not self.recipients:
            self.reply("503 RCPT first")
        else:
            self.body = bytearray()
            self.reply("354 Go")

    def end_body(self) -> None:
        assert self.body is not None
        self.deliver(bytes(self.body))
        self.body = None
        self.answer_message()
        self.reset()

    def answer_message(self) -> None:
        for _ in self.recipients if self.lmtp else [b""]:
            self.reply("250 Taken")

    def deliver(self, content: bytes) -> None:
        self.delivered.append(content)

    def do_BDAT(self, rest: bytes) -> None:
        words = rest.split()
        if not words or not words[0].isdigit() or (words[1:] not in ([], [b"LAST"])):
            self.reply("501 Size?")
        else:
            self.chunk = int(words[0]), bool(words[1:])

    def end_chunk(self, is_last: bool) -> None:
        if not self.recipients:
            self.chunks = b""
            self.reply("503 RCPT first")
        elif not is_last:
            self.reply("250 Go on")
        else:
            self.deliver(self.chunks)
            self.answer_message()
            self.reset()

    def do_RSET(self, rest: bytes) -> None:
        if rest:
            self.reply("501 No arguments")
        else:
            self.clear()
            self.reply("250 OK")

    def clear(self) -> None:
        self.reset()

    def do_NOOP(self, rest: bytes) -> None:
        self.reply("250 OK")

    def do_HELP(self, rest: bytes) -> None:
        self.reply("214 No help")

    def do_STARTTLS(self, rest: bytes) -> None:
        is_accepted = "STARTTLS" in self.offers and not rest
        if is_accepted:
            self.drop_plaintext()
        self.reply("220 Go" if is_accepted else "502 No")

    def drop_plaintext(self) -> None:
        self.input.clear()

    def do_QUIT(self, rest: bytes) -> None:
        self.reply("221 Bye")
        self.is_over = True


class SmallAuthServer(SmallServer):
    """A correct server with AUTH, for the user `user` with the password `password`."""

    offers = (*SmallServer.offers, "AUTH PLAIN LOGIN")

    def __init__(self) -> None:
        super().__init__()
        self.is_authenticated = False
        self.responses: list[bytes] | None = None
        self.mechanism = b""

    def do_AUTH(self, rest: bytes) -> None:
        self.mechanism, _, initial = rest.partition(b" ")
        if not self.may_log_in():
            self.reply("503 Not now")
        elif self.mechanism not in (b"PLAIN", b"LOGIN"):
            self.reply("504 Mechanism?")
        else:
            self.responses = []
            if initial:
                self.respond(b"" if initial == b"=" else initial)
            else:
                self.reply("334 ")

    def may_log_in(self) -> bool:
        return self.has_hello and self.sender is None and not self.is_authenticated

    def command(self, line: bytes) -> None:
        if self.responses is None:
            super().command(line)
        elif line == b"*":
            self.responses = None
            self.cancel()
        else:
            self.respond(line)

    def cancel(self) -> None:
        self.reply("501 Cancelled")

    def respond(self, response: bytes) -> None:
        assert self.responses is not None
        try:
            self.responses += b64decode(response, validate=True).split(b"\0")
        except ValueError:
            self.responses = None
            self.malformed()
            return
        if self.mechanism == b"LOGIN" and len(self.responses) == 1:
            self.reply("334 ")
            return
        is_right = self.is_right(self.responses[-2:])
        self.responses = None
        self.is_authenticated = is_right
        self.reply("235 Welcome" if is_right else "535 Wrong")

    def malformed(self) -> None:
        self.reply("501 Base64?")

    def is_right(self, responses: list[bytes]) -> bool:
        return responses == [b"user", b"password"]


class SmallXclientServer(SmallServer):
    """A correct server with XCLIENT."""

    offers = (*SmallServer.offers, "XCLIENT NAME ADDR")

    def do_XCLIENT(self, rest: bytes) -> None:
        attributes = rest.split()
        is_known = all(word.startswith((b"ADDR=192.0.2.9", b"ADDR=IPV6:", b"NAME=[")) for word in attributes)
        if self.sender is not None:
            self.reply("503 Not now")
        elif not is_known or not attributes or b".999" in rest:
            self.reply("501 Attributes?")
        else:
            self.change_client()

    def change_client(self) -> None:
        self.reset()
        self.has_hello = False
        self.reply("220 small ESMTP")


class SmallProxyServer(SmallServer):
    """A correct server that needs a PROXY header of version 1."""

    proxied = True

    def __init__(self) -> None:
        super().__init__()
        self.output.clear()
        self.has_header = False

    @classmethod
    def connect(cls, header: bytes = b"PROXY TCP4 192.0.2.1 192.0.2.2 49152 25\r\n") -> Self:
        server = cls()
        server.receive_segment(header)
        return server

    def take(self) -> bool:
        if self.has_header:
            return super().take()

        line, end, _ = self.input.partition(b"\r\n")
        if not end:
            return False
        self.has_header = self.is_header(bytes(line))
        if self.has_header:
            self.reply("220 small ESMTP")
            del self.input[: len(line) + 2]
        self.is_over = not self.has_header
        return True

    def is_header(self, line: bytes) -> bool:
        return line == b"PROXY TCP4 192.0.2.1 192.0.2.2 49152 25"


class Inbox:
    """The messages that the servers of one test have delivered, as a sink of the fuzzer."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def begin(self) -> None:
        self.messages.clear()

    def take(self, count: int, timeout: float) -> list[bytes]:
        return list(self.messages)


# Servers with one fault


class LfReplies(SmallServer):
    def reply(self, text: str) -> None:
        self.output += text.encode() + b"\n"


class TwoCodes(SmallServer):
    def do_EHLO(self, rest: bytes) -> None:
        self.has_hello = True
        self.reset()
        self.output += b"250-small\r\n220-PIPELINING\r\n250 CHUNKING\r\n"


class EightBitReply(SmallServer):
    def unknown(self, line: bytes) -> None:
        self.output += b"500 What is " + line[:20] + b"?\r\n"


class SecondReplyToNoop(SmallServer):
    def do_NOOP(self, rest: bytes) -> None:
        self.reply("250 OK")
        self.reply("250 OK")


class SilentOnEmptyLine(SmallServer):
    def command(self, line: bytes) -> None:
        if line:
            super().command(line)


class SilentOnLongLine(SmallServer):
    def command(self, line: bytes) -> None:
        if len(line) < 1000:
            super().command(line)


class ExtraReplyAfterBody(SmallServer):
    def answer_message(self) -> None:
        super().answer_message()
        self.reply("250 Queued")


class LosesCommandsAfterBody(SmallServer):
    def end_body(self) -> None:
        super().end_body()
        self.input.clear()


class BodyEnd(SmallServer):
    """Takes another sequence for the end of a message."""

    def take_body(self) -> bool:
        for end in (b"\n.\n", b"\n.\r\n", b"\r.\r"):
            if end in self.ends():
                place = self.input.find(end)
                if place >= 0 and self.input[place - 1 : place + 3] != b"\r\n.\r" and self.body is not None:
                    self.body += self.input[:place]
                    del self.input[: place + len(end)]
                    self.end_body()
                    return True
        return super().take_body()

    def ends(self) -> tuple[bytes, ...]:
        return ()


class LfDotLf(BodyEnd):
    def ends(self) -> tuple[bytes, ...]:
        return (b"\n.\n",)


class LfDotCrLf(BodyEnd):
    def ends(self) -> tuple[bytes, ...]:
        return (b"\n.\r\n",)


class CrDotCr(BodyEnd):
    def ends(self) -> tuple[bytes, ...]:
        return (b"\r.\r",)


class RefusedChunkIsCommands(SmallServer):
    def do_BDAT(self, rest: bytes) -> None:
        if self.recipients:
            super().do_BDAT(rest)
        else:
            self.reply("503 RCPT first")


class OneReplyInLmtp(SmallServer):
    lmtp = True

    def answer_message(self) -> None:
        self.reply("250 Taken")


class NoReplyForRepeatedRecipientInLmtp(SmallServer):
    lmtp = True

    def add_recipient(self, path: bytes) -> None:
        if path not in self.recipients:
            super().add_recipient(path)


class DropsOnNul(SmallServer):
    def command(self, line: bytes) -> None:
        if b"\0" in line:
            self.is_over = True
        else:
            super().command(line)


class DropsOnLongLine(SmallServer):
    def command(self, line: bytes) -> None:
        if len(line) > 1000:
            self.is_over = True
        else:
            super().command(line)


class RsetKeepsRecipients(SmallServer):
    def clear(self) -> None:
        self.sender = None


class EhloKeepsRecipients(SmallServer):
    def do_EHLO(self, rest: bytes) -> None:
        kept = self.recipients
        super().do_EHLO(rest)
        self.recipients = kept


class MessageKeepsSender(SmallServer):
    def end_body(self) -> None:
        sender = self.sender
        super().end_body()
        self.sender = sender


class RcptWithoutMail(SmallServer):
    def may_add_recipient(self) -> bool:
        return True


class QuitGets250(SmallServer):
    def do_QUIT(self, rest: bytes) -> None:
        self.reply("250 Bye")
        self.is_over = True


class StaysOpen(SmallServer):
    def do_QUIT(self, rest: bytes) -> None:
        self.reply("221 Bye")


class DataGets250(SmallServer):
    def do_DATA(self, rest: bytes) -> None:
        self.reply("250 Go")


class EndMustBeInOneSegment(SmallServer):
    def receive_segment(self, segment: bytes) -> None:
        if self.body is not None and not segment.endswith(b".\r\n"):
            segment += b"" if segment.endswith(b"\n") else b"\r\n"
        super().receive_segment(segment)


class LineMustBeInOneSegment(SmallServer):
    def receive_segment(self, segment: bytes) -> None:
        super().receive_segment(segment)
        if self.body is None and self.chunk is None and self.input:
            self.command(bytes(self.input))
            self.input.clear()


class LosesGroupAfterError(SmallServer):
    def unknown(self, line: bytes) -> None:
        super().unknown(line)
        self.input.clear()

    def reply(self, text: str) -> None:
        super().reply(text)
        if text.startswith("5"):
            self.input.clear()


class RsetForgetsHello(SmallServer):
    def clear(self) -> None:
        super().clear()
        self.has_hello = False


class KeepsDots(SmallServer):
    def unstuffed(self, line: bytes) -> bytes:
        return line


class LosesEmptyLines(SmallServer):
    def deliver(self, content: bytes) -> None:
        head, middle, rest = content.partition(b"\r\n\r\n")
        super().deliver(head + middle + rest.strip(b"\r\n") + b"\r\n")


class SevenBits(SmallServer):
    def deliver(self, content: bytes) -> None:
        super().deliver(bytes(octet & 0x7F for octet in content))


class DeliversNothing(SmallServer):
    def deliver(self, content: bytes) -> None:
        pass


class OffersChunkingOnly(SmallServer):
    def do_BDAT(self, rest: bytes) -> None:
        size = (rest.split() or [b""])[0]
        self.chunk = int(size) if size.isdigit() else 0, False

    def end_chunk(self, is_last: bool) -> None:
        self.reply("502 Not implemented")


class AcceptsAnyParameter(SmallServer):
    def unknown_parameter(self) -> None:
        self.sender = b"x"
        self.reply("250 OK")


class AnswersInjectedCommands(SmallServer):
    offers = (*SmallServer.offers, "STARTTLS")

    def drop_plaintext(self) -> None:
        pass


class ShowsTraceback(SmallServer):
    def unknown(self, line: bytes) -> None:
        self.reply("500 UnicodeDecodeError: 'ascii' codec" if not line.isascii() else "500 What?")


class RsetNeedsNoError(SmallServer):
    failed = False

    def unknown(self, line: bytes) -> None:
        self.failed = True
        super().unknown(line)

    def do_RSET(self, rest: bytes) -> None:
        self.reply("503 Not after an error") if self.failed else super().do_RSET(rest)


class EndlessReply(SmallServer):
    def do_HELP(self, rest: bytes) -> None:
        self.output += b"214-more\r\n" * 200_000


class LateTls(SmallServer):
    offers = (*SmallServer.offers, "STARTTLS")

    def start_tls(self, timeout: float) -> None:
        pass


class HeloKeepsRecipients(SmallServer):
    def do_HELO(self, rest: bytes) -> None:
        kept = self.sender, self.recipients
        super().do_HELO(rest)
        self.sender, self.recipients = kept


class RefusedMessageKeepsSender(SmallServer):
    def end_body(self) -> None:
        if self.body:
            super().end_body()
        else:
            self.body = None
            self.reply("554 Empty")


class NoopResets(SmallServer):
    def do_NOOP(self, rest: bytes) -> None:
        self.reset()
        super().do_NOOP(rest)


class AcceptsTwoMessages(SmallServer):
    count = 0

    def end_body(self) -> None:
        super().end_body()
        self.count += 1
        self.sender = b"x" if self.count == 2 else None

    def may_add_recipient(self) -> bool:
        return super().may_add_recipient() and self.count < 2


class UpperCaseOnly(SmallServer):
    def command(self, line: bytes) -> None:
        if line[:4].islower():
            self.unknown(line)
        else:
            super().command(line)


class UpperCaseKeywordsOnly(SmallServer):
    def do_MAIL(self, rest: bytes) -> None:
        if rest.startswith(b"from:"):
            self.reply("501 Sender?")
        else:
            super().do_MAIL(rest)


class RefusesItsParameters(SmallServer):
    def do_MAIL(self, rest: bytes) -> None:
        if b"BODY=" in rest:
            self.reply("501 BODY?")
        else:
            super().do_MAIL(rest)


class SplitsLongLines(SmallServer):
    def take_body(self) -> bool:
        assert self.body is not None
        end = self.input.find(b"\r\n") + 2
        if end < 2:
            return False
        line = bytes(self.input[: min(end, 1000)])
        del self.input[: len(line)]
        if line == b".\r\n":
            self.end_body()
        else:
            self.body += self.unstuffed(line)
        return True


class LongReply(SmallServer):
    def unknown(self, line: bytes) -> None:
        self.reply(f"500 {'x' * 600}")


class LogsInTwice(SmallAuthServer):
    def may_log_in(self) -> bool:
        return self.has_hello and self.sender is None


class LogsInDuringTransaction(SmallAuthServer):
    def may_log_in(self) -> bool:
        return self.has_hello and not self.is_authenticated


class IgnoresCancellation(SmallAuthServer):
    def cancel(self) -> None:
        self.responses = []
        self.reply("334 Again")


class TakesAnyPassword(SmallAuthServer):
    def is_right(self, responses: list[bytes]) -> bool:
        return responses[0] == b"user"


class LoginForgetsHello(SmallAuthServer):
    def is_right(self, responses: list[bytes]) -> bool:
        self.has_hello = False
        return super().is_right(responses)


class DropsOnMalformedResponse(SmallAuthServer):
    def malformed(self) -> None:
        self.is_over = True


class OffersAuthOnly(SmallAuthServer):
    def do_AUTH(self, rest: bytes) -> None:
        self.reply("502 Not implemented")


class LogsInWithoutOffer(SmallAuthServer):
    offers = SmallServer.offers


class XclientWithoutOffer(SmallXclientServer):
    offers = SmallServer.offers


class XclientKeepsSender(SmallXclientServer):
    def change_client(self) -> None:
        sender = self.sender or b"x"
        super().change_client()
        self.sender = sender


class XclientDuringTransaction(SmallXclientServer):
    def do_XCLIENT(self, rest: bytes) -> None:
        self.reset()
        super().do_XCLIENT(rest)


class XclientGets250(SmallXclientServer):
    def change_client(self) -> None:
        self.reset()
        self.reply("250 OK")


class OffersXclientOnly(SmallXclientServer):
    def do_XCLIENT(self, rest: bytes) -> None:
        self.reply("500 What?")


class GuessesHeader(SmallProxyServer):
    """Serves a client without a PROXY header."""

    def take(self) -> bool:
        if not self.has_header and self.input.startswith(b"EHLO"):
            self.has_header = True
            self.reply("220 small ESMTP")
        return super().take()


class TakesAnyHeader(SmallProxyServer):
    def is_header(self, line: bytes) -> bool:
        return line.startswith(b"PROXY ")


LMTP_SERVERS: tuple[type[SmallServer], ...] = (OneReplyInLmtp, NoReplyForRepeatedRecipientInLmtp)
BROKEN: dict[type[SmallServer], str] = {
    LfReplies: "form",
    TwoCodes: "form",
    EightBitReply: "form",
    SecondReplyToNoop: "count",
    SilentOnEmptyLine: "count",
    SilentOnLongLine: "count",
    ExtraReplyAfterBody: "count",
    LosesCommandsAfterBody: "pipelining",
    LfDotLf: "count",
    LfDotCrLf: "count",
    CrDotCr: "count",
    RefusedChunkIsCommands: "count",
    OneReplyInLmtp: "count",
    NoReplyForRepeatedRecipientInLmtp: "count",
    EndlessReply: "count",
    StaysOpen: "count",
    DropsOnNul: "end",
    DropsOnLongLine: "end",
    RsetKeepsRecipients: "sequence",
    EhloKeepsRecipients: "sequence",
    MessageKeepsSender: "sequence",
    RcptWithoutMail: "sequence",
    LateTls: "sequence",
    HeloKeepsRecipients: "sequence",
    RefusedMessageKeepsSender: "sequence",
    NoopResets: "sequence",
    AcceptsTwoMessages: "sequence",
    UpperCaseOnly: "case",
    UpperCaseKeywordsOnly: "case",
    RefusesItsParameters: "offers",
    SplitsLongLines: "count",
    LongReply: "form",
    QuitGets250: "codes",
    DataGets250: "codes",
    EndMustBeInOneSegment: "cuts",
    LineMustBeInOneSegment: "cuts",
    LosesGroupAfterError: "pipelining",
    RsetForgetsHello: "reset",
    KeepsDots: "delivery",
    LosesEmptyLines: "delivery",
    SevenBits: "delivery",
    DeliversNothing: "delivery",
    OffersChunkingOnly: "offers",
    AcceptsAnyParameter: "offers",
    AnswersInjectedCommands: "injection",
    LogsInTwice: "auth",
    LogsInDuringTransaction: "auth",
    IgnoresCancellation: "auth",
    TakesAnyPassword: "auth",
    LoginForgetsHello: "auth",
    DropsOnMalformedResponse: "end",
    OffersAuthOnly: "offers",
    LogsInWithoutOffer: "offers",
    XclientWithoutOffer: "offers",
    XclientKeepsSender: "sequence",
    XclientDuringTransaction: "sequence",
    XclientGets250: "codes",
    OffersXclientOnly: "offers",
    GuessesHeader: "proxy",
    TakesAnyHeader: "proxy",
    RsetNeedsNoError: "alive",
    ShowsTraceback: "internals",
}
"""The law that each server breaks."""


# Over sockets


@contextmanager
def served(connect: Callable[[], Peer]) -> Iterator[int]:
    """Serve a server in memory on a port, and yield the port. An exception in the server is raised at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = SocketServer(listener, connect)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()
            thread.join()
            if server.failures:
                raise server.failures[0]


class SocketServer:
    """Serves each connection in a thread of its own, so that a client that stays delays no other client."""

    def __init__(self, listener: socket.socket, connect: Callable[[], Peer]) -> None:
        self.failures: list[Exception] = []
        self._listener = listener
        self._connect = connect
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._is_closing = False

    def run(self) -> None:
        """Accept connections until `close` is called."""
        try:
            while True:
                self._start(self._listener.accept()[0])
        except OSError as exc:
            if not self._is_closing:
                self.failures.append(exc)

    def close(self) -> None:
        """Stop to accept, close all connections, and wait until their threads have ended."""
        with self._lock:
            self._is_closing = True
            self._listener.shutdown(socket.SHUT_RDWR)
            for connection in self._connections:
                with suppress(OSError):  # the client has closed the connection
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, connection: socket.socket) -> None:
        with self._lock:
            if self._is_closing:
                connection.close()
                return
            self._connections.add(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError):  # the client has closed the connection
                _exchange(connection, self._connect())
        except Exception as exc:
            self.failures.append(exc)
        finally:
            with self._lock:
                self._connections.remove(connection)
            connection.close()


def _exchange(connection: socket.socket, server: Peer) -> None:
    while True:
        try:
            data = server.receive(0)
        except TimeoutError:
            received = connection.recv(65_536)
            if not received:
                return
            server.send([received], 1)
            continue
        if not data:
            return
        connection.sendall(data)
