"""Send mail: the client of all frameworks."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Unpack

from smtpcore import (
    Answered,
    Attributes,
    BodyType,
    Command,
    Data,
    Expn,
    Help,
    LocalProtocolError,
    Mail,
    Noop,
    Path,
    Rcpt,
    Reply,
    Rset,
    SessionLimits,
    State,
    UnknownCommand,
    Vrfy,
    Xclient,
    Xforward,
)

from ..streams._stream import Address
from ..tls._info import Tls
from ._driver import ClientDriver, say_hello
from ._envelope import Recipient, Sender, SendOptions, make_mail, make_rcpts
from ._results import SendResult
from ._sources import Body, Source, regrouped, source_of, with_line_ends


class Unsendable(LocalProtocolError):
    """The message needs what this server does not offer. Nothing was sent."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply: Reply = reply
        """What an MTA would answer to someone who sends it such a message."""


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

    def __init__(self, driver: ClientDriver, greeting: Reply, *, host: str, is_verified: bool, chunking: bool) -> None:
        self._driver = driver
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
        return self._driver.is_open

    @property
    def extensions(self) -> Mapping[str, object]:
        """What the server offers: see `ClientConnection.extensions`."""
        return self._driver.connection.extensions

    @property
    def tls(self) -> Tls | None:
        """What TLS is active."""
        return self._driver.stream.tls

    @property
    def peer(self) -> Address | None:
        """The address of the server."""
        return self._driver.stream.peer

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
            answers = await self._driver.ask_all([mail, *rcpts, *([] if in_chunks else [Data()])])
            if self._driver.connection.state is (State.RCPT if in_chunks else State.DATA):
                answers += await self.send_body(source.pieces(self._driver.stream.run_blocking), binary=binary)
        except LocalProtocolError:
            await self.give_up()
            raise

        await self.give_up()
        return _summarize(rcpts, answers)

    # Transactions, step by step

    async def ask(self, command: Command | UnknownCommand) -> Reply:
        """Send a command, and return the reply."""
        return await self._driver.ask(command)

    async def send_body(self, pieces: AsyncGenerator[bytes, None], *, binary: bool = False) -> list[Answered]:
        """Send the body of the open transaction, with BDAT or DATA, and return the answers to it.

        In LMTP there is one for each accepted recipient. Where the server has refused DATA, a chunk, or to go on, that
        is the only one. If `binary` the octets go as they are.
        """
        outgoing = regrouped(pieces if binary else with_line_ends(pieces))
        if self._uses_chunks(binary=binary):
            return await self._driver.send_chunks(outgoing)
        if self._driver.connection.state is not State.DATA:
            (answer,) = await self._driver.ask_all([Data()])
            if not answer.reply.is_positive:
                return [answer]

        return await self._driver.send_body(outgoing)

    async def give_up(self) -> None:
        """End the open transaction, if there is one, with RSET."""
        if self._driver.connection.state in _UNFINISHED:
            await self._driver.ask(Rset())

    def _uses_chunks(self, *, binary: bool) -> bool:
        return binary or (self._chunking and "CHUNKING" in self.extensions)

    # Other commands

    async def noop(self) -> Reply:
        """Ask whether the server is still there (RFC 5321 4.1.1.9)."""
        return await self._driver.ask(Noop())

    async def vrfy(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask whether there is a user or mailbox `name` (RFC 5321 4.1.1.6)."""
        return await self._driver.ask(Vrfy(name, smtputf8=smtputf8))

    async def expn(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask for the members of the list `name` (RFC 5321 4.1.1.7)."""
        return await self._driver.ask(Expn(name, smtputf8=smtputf8))

    async def help(self, topic: str = "") -> Reply:
        """Ask for help (RFC 5321 4.1.1.8)."""
        return await self._driver.ask(Help(topic))

    async def xclient(self, attributes: Mapping[str, str | None]) -> Reply:
        """Tell for whom this client speaks, and begin the session anew in that name (Postfix XCLIENT_README)."""
        reply = await self._driver.ask(Xclient(Attributes(attributes)))
        return await say_hello(self._driver) if reply.is_positive else reply

    async def xforward(self, attributes: Mapping[str, str | None]) -> Reply:
        """Tell the server's log whom the next message came from (Postfix XFORWARD_README)."""
        return await self._driver.ask(Xforward(Attributes(attributes)))

    async def aclose(self) -> None:
        """Say QUIT, and close the connection. Raises nothing."""
        await self._driver.aclose()

    def __repr__(self) -> str:
        return f"<Client of {self.host} at {self.peer}{'' if self.is_open else ', closed'}>"


_UNFINISHED = frozenset({State.MAIL, State.RCPT, State.CHUNKED, State.CHUNK_REFUSED})


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
