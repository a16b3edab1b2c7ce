"""Send mail: the client of all frameworks."""

import platform
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from ipaddress import ip_address
from typing import Protocol, TypedDict, Unpack

from smtpcore import (
    Answered,
    Attributes,
    BodyType,
    ClientConfig,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    LocalProtocolError,
    Mail,
    Noop,
    Path,
    Rcpt,
    Reply,
    ReplyClass,
    Rset,
    SessionLimits,
    StartTls,
    State,
    UnknownCommand,
    Vrfy,
    Xclient,
    Xforward,
)
from smtpcore.proxy import ProxyHeader
from smtpcore.sasl import Channel

from ._bodies import Body, Source, regrouped, source_of, with_line_ends
from ._client_timeouts import ClientTimeouts
from ._dialogue import Dialogue
from ._envelopes import Recipient, Sender, SendOptions, make_mail, make_rcpts
from ._login import Login, log_in
from ._results import Refused, SendResult
from .streams._stream import Address, Stream
from .tls._info import Tls


class TlsMode(Enum):
    """When a client starts TLS. The certificate is verified in each of them, unless the context says otherwise."""

    NONE = "none"
    """Never."""
    OPPORTUNISTIC = "opportunistic"
    """With STARTTLS, if the server offers and accepts it. Else all goes on in plaintext, which whoever sits in between
    can bring about; but AUTH is not done then. A handshake that fails is an error here too: behind the server's 220
    there is no plaintext to go back to."""
    REQUIRED = "required"
    """With STARTTLS. Without it, there is no connection."""
    IMPLICIT = "implicit"
    """Before the greeting, as on port 465 (RFC 8314 section 3.3)."""


class Unsendable(LocalProtocolError):
    """The message needs what this server does not offer. Nothing was sent."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply: Reply = reply
        """What an MTA would answer to someone who sends it such a message."""


class Opener(Protocol):
    """Connects to a server: an adapter's `open_stream`."""

    async def __call__(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream: ...


class ConnectOptions(TypedDict, total=False):
    """The options that every adapter's `connect` takes."""

    tls: TlsMode
    """When TLS starts; `TlsMode.OPPORTUNISTIC` by default."""
    context: ssl.SSLContext | None
    """How TLS is done. By default the certificate has to be valid for `host`."""
    auth: Login | None
    """Who to log in as: a name and a password, `smtpcore.sasl.Credentials`, or a ready mechanism."""
    plaintext_auth: bool
    """Whether to log in without TLS too, or with a server that was not verified. Then others may read the password."""
    lmtp: bool
    """Whether LMTP is spoken."""
    hostname: str | None
    """The fully qualified domain of this client. By default that of the machine or, if it has none, the address."""
    timeouts: ClientTimeouts
    """How long is waited for what."""
    local_address: str | None
    """The IP address to connect from."""
    path: str | None
    """The Unix socket to connect to instead of a port."""
    proxy: ProxyHeader | None
    """What a server that expects a PROXY header is told."""
    chunking: bool
    """Whether BDAT is used where it is offered. By default it is."""
    pipelining: bool
    """Whether commands are sent in groups where that is offered. By default they are."""


class Client:
    """A connection to a server, for any number of messages, one after the other.

    A reply of the server is never an exception here. Each method raises

    - `TimeoutError` if something takes longer than `ClientTimeouts` allows;
    - `OSError` if the connection is lost, `Disconnected` if the server has closed it;
    - `smtpcore.RemoteProtocolError` if what the server says is no SMTP;
    - `smtpcore.LocalProtocolError` for what cannot be sent; `Unsendable` if it is just this server that cannot be sent
      this message.

    After the first three the connection is of no use any more.
    """

    def __init__(self, dialogue: Dialogue, greeting: Reply, *, host: str, is_verified: bool, chunking: bool) -> None:
        self._dialogue = dialogue
        self._chunking = chunking
        self.greeting: Reply = greeting
        """The server's first reply."""
        self.host: str = host
        """The host that was connected to."""
        self.is_verified: bool = is_verified
        """Whether there is TLS with a server that has proved to be `host`."""

    @property
    def is_open(self) -> bool:
        """Whether something can be sent. That the server is still there shows when it is."""
        return self._dialogue.is_open

    @property
    def extensions(self) -> Mapping[str, object]:
        """What the server offers: see `ClientConnection.extensions`."""
        return self._dialogue.connection.extensions

    @property
    def tls(self) -> Tls | None:
        """What TLS is active."""
        return self._dialogue.stream.tls

    @property
    def peer(self) -> Address | None:
        """The address of the server."""
        return self._dialogue.stream.peer

    # Messages

    async def send(
        self,
        sender: Sender,
        recipients: Iterable[Recipient] | Recipient,
        body: Body,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send a message, and tell what became of it for each recipient.

        See `Body` for what `body` may be. One of any size passes through in constant memory, unless it is given whole.
        If the iteration over it raises, the connection is closed, so that no part of it is taken for the message.

        Where the server limits the recipients of one message (RFC 9422), a body that can be read twice is sent in
        several transactions; with any other `Unsendable` is raised.
        """
        rcpts = make_rcpts(recipients, options)
        if not rcpts:
            raise LocalProtocolError("a message needs a recipient")

        binary = options.get("body_type") is BodyType.BINARYMIME
        source = source_of(body, eight_bit=self._takes_eight_bit, smtputf8="SMTPUTF8" in self.extensions)
        mail = make_mail(sender, options, self._found(source, rcpts, Path(str(sender)), binary=binary))
        self._check(mail, source)

        replies: dict[Path, Reply] = {}
        for batch in self._batches(rcpts, source):
            result = await self._transact(mail, batch, source, binary=binary)
            replies.update(result.replies)
            if not self.is_open:
                break

        return SendResult(
            {rcpt.forward_path: replies.get(rcpt.forward_path, result.final) for rcpt in rcpts}, result.final
        )

    @property
    def _takes_eight_bit(self) -> bool:
        return "8BITMIME" in self.extensions

    def _found(self, source: Source, rcpts: Sequence[Rcpt], sender: Path, *, binary: bool) -> dict[str, object]:
        paths = [sender, *(rcpt.forward_path for rcpt in rcpts)]
        found: dict[str, object] = {}
        if source.size is not None and "SIZE" in self.extensions:
            found["SIZE"] = source.size
        if not (binary or source.is_ascii) and self._takes_eight_bit:
            found["BODY"] = BodyType.EIGHT_BIT_MIME
        if source.needs_smtputf8 or not all(path.text.isascii() for path in paths):
            found["SMTPUTF8"] = True

        return found

    def _check(self, mail: Mail, source: Source) -> None:
        params, offered = mail.params, self.extensions
        limit = offered.get("SIZE")
        if params.size is not None and isinstance(limit, int) and params.size > limit and limit is not True:
            raise Unsendable(Reply(552, f"The next server takes no more than {limit} octets", enhanced="5.3.4"))
        if params.smtputf8 and "SMTPUTF8" not in offered:
            raise Unsendable(Reply(553, "The next server takes no non-ASCII addresses", enhanced="5.6.7"))
        if source.is_ascii is False and not self._takes_eight_bit:
            raise Unsendable(Reply(554, "The next server takes no octets beyond ASCII", enhanced="5.6.3"))
        if params.requiretls and not (self.is_verified and "REQUIRETLS" in offered):
            raise Unsendable(Reply(550, "The next server does not support REQUIRETLS", enhanced="5.7.30"))

    def _batches(self, rcpts: list[Rcpt], source: Source) -> list[list[Rcpt]]:
        limits = self.extensions.get("LIMITS")
        most = (limits.rcpt_max if isinstance(limits, SessionLimits) else None) or len(rcpts)
        if most < len(rcpts) and not source.is_repeatable:
            raise Unsendable(Reply(452, f"The next server takes {most} recipients at a time", enhanced="4.5.3"))

        return [rcpts[start : start + most] for start in range(0, len(rcpts), most)]

    async def _transact(self, mail: Mail, rcpts: list[Rcpt], source: Source, *, binary: bool) -> SendResult:
        in_chunks = self._uses_chunks(binary=binary)
        try:
            # RFC 2920 3.1: one group. A chunk has to wait for the replies to it (RFC 3030 section 2).
            answers = await self._dialogue.ask_all([mail, *rcpts, *([] if in_chunks else [Data()])])
            if self._dialogue.connection.state is (State.RCPT if in_chunks else State.DATA):
                answers += await self.send_body(source.pieces(self._dialogue.stream.run_blocking), binary=binary)
        except LocalProtocolError:
            await self.give_up()
            raise

        await self.give_up()
        return _summarize(rcpts, answers)

    # Transactions, step by step

    async def ask(self, command: Command | UnknownCommand) -> Reply:
        """Send a command, and return the reply."""
        return await self._dialogue.ask(command)

    async def send_body(self, pieces: AsyncGenerator[bytes, None], *, binary: bool = False) -> list[Answered]:
        """Send the body of the open transaction, with BDAT or DATA, and return the answers to it.

        In LMTP there is one for each accepted recipient. Where the server has refused DATA, a chunk, or to go on, that
        is the only one. If `binary` the octets go as they are.
        """
        outgoing = regrouped(pieces if binary else with_line_ends(pieces))
        if self._uses_chunks(binary=binary):
            return await self._dialogue.send_chunks(outgoing)
        if self._dialogue.connection.state is not State.DATA:
            (answer,) = await self._dialogue.ask_all([Data()])
            if not answer.reply.is_positive:
                return [answer]

        return await self._dialogue.send_body(outgoing)

    async def give_up(self) -> None:
        """End the open transaction, if there is one, with RSET."""
        if self._dialogue.connection.state in _UNFINISHED:
            await self._dialogue.ask(Rset())

    def _uses_chunks(self, *, binary: bool) -> bool:
        return binary or (self._chunking and "CHUNKING" in self.extensions)

    # Other commands

    async def noop(self) -> Reply:
        """Ask whether the server is still there (RFC 5321 4.1.1.9)."""
        return await self._dialogue.ask(Noop())

    async def vrfy(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask whether there is a user or mailbox `name` (RFC 5321 4.1.1.6)."""
        return await self._dialogue.ask(Vrfy(name, smtputf8=smtputf8))

    async def expn(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask for the members of the list `name` (RFC 5321 4.1.1.7)."""
        return await self._dialogue.ask(Expn(name, smtputf8=smtputf8))

    async def help(self, topic: str = "") -> Reply:
        """Ask for help (RFC 5321 4.1.1.8)."""
        return await self._dialogue.ask(Help(topic))

    async def xclient(self, attributes: Mapping[str, str | None]) -> Reply:
        """Tell for whom this client speaks, and begin the session anew in that name (Postfix XCLIENT_README)."""
        reply = await self._dialogue.ask(Xclient(Attributes(attributes)))
        return await _say_hello(self._dialogue) if reply.is_positive else reply

    async def xforward(self, attributes: Mapping[str, str | None]) -> Reply:
        """Tell the server's log whom the next message came from (Postfix XFORWARD_README)."""
        return await self._dialogue.ask(Xforward(Attributes(attributes)))

    async def aclose(self) -> None:
        """Say QUIT, and close the connection. Raises nothing."""
        await self._dialogue.aclose()

    def __repr__(self) -> str:
        return f"<Client of {self.host} at {self.peer}{'' if self.is_open else ', closed'}>"


_UNFINISHED = frozenset({State.MAIL, State.RCPT, State.CHUNKED, State.SPOILED})


def _summarize(rcpts: list[Rcpt], answers: list[Answered]) -> SendResult:
    fates: dict[Path, Reply] = {}
    for answer in answers:
        if isinstance(answer.to, Rcpt) and not answer.reply.is_positive:
            fates[answer.to.forward_path] = answer.reply
        elif answer.recipient:
            fates[answer.recipient.forward_path] = answer.reply

    refusals = (answer.reply for answer in answers if not (answer.reply.is_positive or isinstance(answer.to, Rcpt)))
    decisive = next(refusals, answers[-1].reply)
    return SendResult({rcpt.forward_path: fates.get(rcpt.forward_path, decisive) for rcpt in rcpts}, decisive)


# Connecting


@asynccontextmanager
async def connected(
    open_stream: Opener, host: str, port: int, **options: Unpack[ConnectOptions]
) -> AsyncGenerator[Client, None]:
    """Connect to a server for the time of an `async with` block, and yield the `Client`.

    Raises:
        OSError: there is no connection, or it is lost; `ssl.SSLError` for a certificate that is not valid.
        TimeoutError: the server is too slow.
        Refused: it denies its service, TLS where that is required, or, as `AuthenticationRefused`, the authentication.
        RemoteProtocolError: what it says is no SMTP.
    """
    client = await open_client(open_stream, host, port, **options)
    try:
        yield client
    finally:
        await client.aclose()


async def open_client(open_stream: Opener, host: str, port: int, **options: Unpack[ConnectOptions]) -> Client:
    """Connect to a server. `Client.aclose` has to be called at the end. Raises as `connected` does."""
    timeouts = options.get("timeouts") or ClientTimeouts()
    stream = await open_stream(
        host, port, timeouts.connect, local_address=options.get("local_address"), path=options.get("path")
    )
    try:
        return await _introduce(stream, host, port, timeouts, options)
    except BaseException:
        await stream.aclose(0)
        raise


async def _introduce(stream: Stream, host: str, port: int, timeouts: ClientTimeouts, options: ConnectOptions) -> Client:
    mode = options.get("tls", TlsMode.OPPORTUNISTIC)
    dialogue = Dialogue(stream, _config(stream, options), timeouts)
    proxy = options.get("proxy")
    if proxy:
        await stream.send(proxy.encode(), timeouts.block)

    is_verified = mode is TlsMode.IMPLICIT and await _start_tls(dialogue, host, options)
    greeting = await dialogue.listen()
    _demand(greeting, "the server denies its service")
    _demand(await _say_hello(dialogue), "the server refuses to be greeted")
    if mode in (TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED):
        is_verified = await _secure(dialogue, host, options, is_required=mode is TlsMode.REQUIRED)

    login = options.get("auth")
    if login:
        bindings = stream.tls.bindings if stream.tls else ()
        channel = Channel(tls=is_verified, bindings=bindings, host=host or None, port=port or None)
        await log_in(dialogue, login, channel, plaintext_auth=options.get("plaintext_auth", False))

    return Client(dialogue, greeting, host=host, is_verified=is_verified, chunking=options.get("chunking", True))


async def _secure(dialogue: Dialogue, host: str, options: ConnectOptions, *, is_required: bool) -> bool:
    if "STARTTLS" not in dialogue.connection.extensions:
        if is_required:
            raise Refused("the server does not offer STARTTLS")
        return False

    reply = await dialogue.ask(StartTls())
    if reply.is_positive:
        is_verified = await _start_tls(dialogue, host, options)
        _demand(await _say_hello(dialogue), "the server refuses to be greeted under TLS")  # RFC 3207 4.2
        return is_verified
    if is_required or not dialogue.is_open:
        raise Refused("the server does not start TLS", reply)

    return False


async def _start_tls(dialogue: Dialogue, host: str, options: ConnectOptions) -> bool:
    """Start TLS, and tell whether the server has proved who it is."""
    context = options.get("context") or ssl.create_default_context()
    await dialogue.start_tls(context, host)
    return context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


async def _say_hello(dialogue: Dialogue) -> Reply:
    reply = await dialogue.ask(dialogue.connection.hello)
    # RFC 5321 3.2: who does not know EHLO may know HELO.
    if reply.reply_class is ReplyClass.PERMANENT and not dialogue.connection.config.lmtp:
        return await dialogue.ask(Helo(dialogue.connection.config.hostname))

    return reply


def _demand(reply: Reply, what: str) -> None:
    if not reply.is_positive:
        raise Refused(what, reply)


def _config(stream: Stream, options: ConnectOptions) -> ClientConfig:
    return ClientConfig(
        hostname=options.get("hostname") or _own_name(stream),
        lmtp=options.get("lmtp", False),
        pipelining=options.get("pipelining", True),
        plaintext_auth=options.get("plaintext_auth", False),
        max_text_line=None,  # real mail has lines of more than 1,000 octets; it is the server's to say what it takes
    )


def _own_name(stream: Stream) -> str:
    # RFC 5321 4.1.4, 4.1.3: the domain that this client can be found by; if there is none, its address.
    name = platform.node()
    try:
        if "." in name:
            return Ehlo(name).domain
        address = ip_address(stream.local.host if stream.local else "")
    except (LocalProtocolError, ValueError):
        return "localhost"

    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
