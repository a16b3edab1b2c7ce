"""The client that sends mail, for all frameworks."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from ssl import SSLContext
from typing import Unpack

from smtpcore import (
    Answered,
    Attributes,
    Auth,
    Bdat,
    BodyType,
    Command,
    Data,
    DataEnd,
    Expn,
    Extension,
    Help,
    LocalProtocolError,
    Mail,
    Noop,
    Path,
    Rcpt,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    SessionLimits,
    StartTls,
    State,
    UnknownCommand,
    Vrfy,
    Xclient,
    Xforward,
)

from ..streams._stream import Address
from ..tls._info import Tls
from ._domains import NotInAscii, path_in_ascii, rcpt_in_ascii
from ._driver import Usage, say_hello
from ._envelope import Recipients, Sender, SendOptions, check_send_options, make_mail, make_rcpts, sender_path
from ._header_envelope import envelope_of
from ._login import LoginSource
from ._messages import Inconvertible
from ._naming import name
from ._options import check_login
from ._preparation import prepare
from ._progress import Progress
from ._results import Outcome, SendResult
from ._setup import Setup
from ._sources import Body, Source, regrouped, with_line_ends


class Unsendable(LocalProtocolError):
    """The message needs an extension that the server does not offer, or exceeds a limit. Nothing was sent."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply: Reply = reply
        """The reply that an MTA would send to its own client, for example 552 for a message that is too large."""


class Client:
    """A connection to a server, which can send any number of messages, one after the other.

    A negative reply is a return value, not an exception. Each method raises

    - `TimeoutError` if a step takes longer than `ClientBudgets` allows;
    - `OSError` if the connection is lost, `Disconnected` if the server closed the connection;
    - `smtpcore.RemoteProtocolError` if the server's answer is not valid SMTP;
    - `smtpcore.LocalProtocolError` if the arguments cannot be sent as SMTP, and its subclass `Unsendable` if
      only this server cannot take the message.

    After the first three exceptions the connection is closed and cannot be used again.
    """

    def __init__(self, setup: Setup, greeting: Reply, *, chunking: bool) -> None:
        self._setup = setup
        self._driver = setup.driver
        self._chunking = chunking
        self.greeting: Reply = greeting
        """The server's first reply."""
        self.host: str = setup.host
        """The host that was connected to."""

    @property
    def is_verified(self) -> bool:
        """Whether TLS is active and the server's certificate was verified for `host`."""
        return self._setup.is_verified

    @property
    def is_open(self) -> bool:
        """Whether the connection is open on this side. A lost connection is noticed only at the next command."""
        return self._driver.is_open

    @property
    def is_idle(self) -> bool:
        """Whether the connection is open and ready for a message, without XCLIENT, XFORWARD and a login on demand."""
        return self._driver.connection.state is State.READY and not (self._driver.is_busy or self.usage.is_personal)

    @property
    def usage(self) -> Usage:
        """The use of the connection up to now."""
        return self._driver.usage

    @property
    def extensions(self) -> Mapping[str, object]:
        """The extensions that the server offers. See `ClientConnection.extensions`."""
        return self._driver.connection.extensions

    @property
    def tls(self) -> Tls | None:
        """The active TLS, or None."""
        return self._driver.stream.tls

    @property
    def peer(self) -> Address | None:
        """The address of the server."""
        return self._driver.stream.peer

    # Messages

    async def send(
        self,
        sender: Sender,
        recipients: Recipients,
        body: Body,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send a message, and return the decisive reply for each recipient.

        `Body` lists the types of `body`. Files and iterables are streamed in constant memory. If the iteration over the
        body raises, the connection is closed, so that the server cannot accept a part of the message as the whole.

        If there are more recipients than the server allows for one message (RFC 9422), a body that can be read twice is
        sent in several transactions; any other body raises `Unsendable`.
        """
        check_send_options(options)
        given = make_rcpts(recipients, options)
        if not given:
            raise LocalProtocolError("a message needs a recipient")

        try:
            async with aclosing(await self._prepare(body, options)) as source:
                return await self._send(sender, given, source, options)
        except Unsendable as exc:
            name(exc, self._setup.server)
            raise

    async def _prepare(self, body: Body, options: SendOptions) -> Source:
        try:
            return await prepare(
                body,
                eight_bit=self._takes_eight_bit,
                smtputf8="SMTPUTF8" in self.extensions,
                binary=options.get("body_type") is BodyType.BINARYMIME,
                sign=options.get("sign"),
                run_blocking=self._driver.stream.run_blocking,
            )
        except Inconvertible as exc:
            raise Unsendable(Reply(554, f"The message cannot be converted: {exc}", enhanced="5.6.3")) from exc

    async def _send(self, sender: Sender, given: list[Rcpt], source: Source, options: SendOptions) -> SendResult:
        binary = options.get("body_type") is BodyType.BINARYMIME
        takes_utf8 = "SMTPUTF8" in self.extensions
        try:
            reverse_path = sender_path(sender) if takes_utf8 else path_in_ascii(sender_path(sender))
            rcpts = given if takes_utf8 else [rcpt_in_ascii(rcpt) for rcpt in given]
        except NotInAscii as exc:
            raise Unsendable(Reply(553, str(exc), enhanced="5.6.7")) from exc
        mail = make_mail(reverse_path, options, self._found(source, rcpts, reverse_path, binary=binary))
        self._check(mail, source)
        _check_offers(mail, rcpts, self.extensions, self._setup.known)
        examined = source.examined
        total = (examined.size if binary else examined.size_as_text) if examined else options.get("size")
        self._driver.progress = Progress(options.get("progress"), total)

        outcomes: dict[Rcpt, Outcome] = {}
        final = _LOST
        for batch in self._batches(list(dict.fromkeys(rcpts)), source):
            if outcomes and not self.is_open:
                final = final if final.reply_class is ReplyClass.GOODBYE else _LOST
                break
            try:
                decided, final = await self._transact(mail, batch, source, binary=binary)
            except (OSError, RemoteProtocolError) as exc:
                if exc is self._driver.progress.error or not outcomes:
                    raise
                final = _LOST
                break

            outcomes |= {outcome.recipient: outcome for outcome in decided}

        sent = [
            replace(outcomes.get(rcpt) or Outcome(rcpt, final, "message"), recipient=each)
            for each, rcpt in zip(given, rcpts, strict=True)
        ]
        return SendResult.of(sent, final, self._setup.server)

    async def send_message(
        self,
        message: Body,
        sender: Sender | None = None,
        recipients: Recipients | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send a message to the addresses in its header, and return the decisive reply for each recipient.

        Without `sender`, the sender is the address in Sender or else the first in From. Without `recipients`, the
        recipients are all addresses in To, Cc and Bcc. If the message was sent again, the Resent- fields are used
        instead. Bcc and Resent-Bcc are not sent. A body that is not a message of the `email` package needs both
        arguments.

        Raises `LocalProtocolError` if the header has no sender or no recipient, or several blocks of Resent- fields.
        """
        return await self.send(*envelope_of(message, sender, recipients), message, **options)

    @property
    def _takes_eight_bit(self) -> bool:
        return "8BITMIME" in self.extensions

    def _found(self, source: Source, rcpts: Sequence[Rcpt], sender: Path, *, binary: bool) -> dict[str, object]:
        paths = [sender, *(rcpt.forward_path for rcpt in rcpts)]
        found: dict[str, object] = {}
        examined = source.examined
        if examined and "SIZE" in self.extensions:
            found["SIZE"] = examined.size if binary else examined.size_as_text
        if not (binary or (examined and examined.is_ascii)) and self._takes_eight_bit:
            found["BODY"] = BodyType.EIGHT_BIT_MIME
        if source.needs_smtputf8 or not all(path.text.isascii() for path in paths):
            found["SMTPUTF8"] = True

        return found

    def _check(self, mail: Mail, source: Source) -> None:
        params, offered = mail.params, self.extensions
        limit = offered.get("SIZE")
        if params.size is not None and isinstance(limit, int) and params.size > limit and limit is not True:
            raise Unsendable(Reply(552, f"The next server accepts at most {limit} octets", enhanced="5.3.4"))
        if params.smtputf8 and "SMTPUTF8" not in offered:
            raise Unsendable(Reply(553, "The next server accepts only ASCII addresses", enhanced="5.6.7"))
        examined = source.examined
        if examined and not examined.is_ascii and not self._takes_eight_bit:
            raise Unsendable(Reply(554, "The next server accepts only ASCII messages", enhanced="5.6.3"))
        if examined and not examined.is_ascii and params.body is BodyType.SEVEN_BIT:
            raise LocalProtocolError("octets beyond ASCII cannot be sent with BODY=7BIT")
        if examined and examined.has_nul and params.body is not BodyType.BINARYMIME:
            raise LocalProtocolError("a NUL can be sent only with body_type=BodyType.BINARYMIME")
        if params.requiretls and not (self.is_verified and "REQUIRETLS" in offered):
            why = "The next server lacks REQUIRETLS or a verified certificate"
            raise Unsendable(Reply(550, why, enhanced="5.7.30"))

    def _batches(self, rcpts: list[Rcpt], source: Source) -> list[list[Rcpt]]:
        limits = self.extensions.get("LIMITS")
        most = (limits.rcpt_max if isinstance(limits, SessionLimits) else None) or len(rcpts)
        if most < len(rcpts) and not source.is_repeatable:
            raise Unsendable(Reply(452, f"The next server accepts {most} recipients for one message", enhanced="4.5.3"))

        return [rcpts[start : start + most] for start in range(0, len(rcpts), most)]

    async def _transact(
        self, mail: Mail, rcpts: list[Rcpt], source: Source, *, binary: bool
    ) -> tuple[list[Outcome], Reply]:
        in_chunks = self._uses_chunks(binary=binary)
        answers: list[Answered] = []
        is_lost = False
        try:
            # RFC 2920 3.1: one pipelined group. The first BDAT has to wait for the replies (RFC 3030 section 2).
            await self._driver.ask_all([mail, *rcpts, *([] if in_chunks else [Data()])], answers)
            if self._driver.connection.state is (State.RCPT if in_chunks else State.DATA):
                answers += await self.send_body(source.pieces(self._driver.stream.run_blocking), binary=binary)
        except (OSError, RemoteProtocolError) as exc:
            if exc is self._driver.progress.error or not any(_is_decisive(answer) for answer in answers):
                raise
            is_lost = True
        finally:
            # The reply is known already, so an error here does not change the result.
            with suppress(OSError, RemoteProtocolError):
                await self.give_up()

        return _summarize(rcpts, answers, is_lost=is_lost)

    # Transactions, step by step

    async def ask(self, command: Command | UnknownCommand) -> Reply:
        """Send a command, and return the reply.

        Raises `LocalProtocolError` for commands with which more than a reply follows: STARTTLS, AUTH and BDAT.
        """
        if not isinstance(command, Command | UnknownCommand):
            raise TypeError(
                f"a command cannot be of type {type(command).__name__}: use Noop or the like, or UnknownCommand"
            )
        for kind, advice in _MORE_THAN_A_REPLY.items():
            if isinstance(command, kind):
                raise LocalProtocolError(f"{command.verb} cannot be sent alone: {advice}")

        return await self._driver.ask(command)

    async def send_body(self, pieces: AsyncGenerator[bytes, None], *, binary: bool = False) -> list[Answered]:
        """Send the body of the open transaction, with BDAT or DATA, and return the replies to the body.

        The list has one reply, in LMTP a reply for each accepted recipient. If the server refuses DATA, a chunk or the
        body before its end, the list has only that reply. If an LMTP connection is lost after the first replies, the
        other recipients get a 451. With `binary` the octets are sent unchanged; otherwise line ends become CR LF.
        """
        connection = self._driver.connection
        transaction = connection.transaction
        recipients = transaction.recipients[:] if transaction and connection.config.lmtp else []
        outgoing = regrouped(pieces if binary else with_line_ends(pieces))
        answers: list[Answered] = []
        try:
            if self._uses_chunks(binary=binary):
                await self._driver.send_chunks(outgoing, answers)
                return _about_body(recipients, answers)
            if connection.state is not State.DATA:
                await self._driver.ask_all([Data()], answers)
                if _refusals(answers):
                    return answers
                answers.clear()
            await self._driver.send_body(outgoing, answers)
        except (OSError, RemoteProtocolError) as exc:
            if exc is self._driver.progress.error or not any(map(_is_decisive, answers)):
                raise

        return _about_body(recipients, answers)

    async def give_up(self) -> None:
        """Send RSET if a transaction is open."""
        if self._driver.connection.state in _UNFINISHED:
            await self._driver.give_up()

    def _uses_chunks(self, *, binary: bool) -> bool:
        return binary or (self._chunking and "CHUNKING" in self.extensions)

    # TLS and login on demand

    async def starttls(self, context: SSLContext | None = None) -> None:
        """Start TLS in a session that was connected with `TlsMode.NONE`, or where the server has refused TLS before.

        The context is by default that of `connect`. Raises `Refused` if the server does not offer STARTTLS or refuses
        it; the session then continues without TLS. A failed handshake raises `OSError` and closes the connection.
        """
        await self._setup.start_tls(context)

    async def login(self, auth: LoginSource, *, auth_mechanisms: Sequence[str] | None = None) -> Reply:
        """Log in to a session that was connected without `auth`, or whose login was refused, and return the 235.

        The arguments are the options of `connect` with these names. Raises `AuthenticationRefused` if no login is
        possible; the session then continues without a login.
        """
        check_login(auth, auth_mechanisms)
        self.usage.is_personal = True
        return await self._setup.log_in(auth, auth_mechanisms)

    # Other commands

    async def noop(self) -> Reply:
        """Send NOOP, for example to find out whether the connection still works (RFC 5321 4.1.1.9)."""
        return await self._driver.ask(Noop())

    async def vrfy(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask whether there is a user or mailbox `name` (RFC 5321 4.1.1.6)."""
        return await self._driver.ask(Vrfy(name, smtputf8=smtputf8))

    async def expn(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask for the members of the list `name` (RFC 5321 4.1.1.7)."""
        return await self._driver.ask(Expn(name, smtputf8=smtputf8))

    async def help(self, topic: str = "") -> Reply:
        """Send HELP (RFC 5321 4.1.1.8)."""
        return await self._driver.ask(Help(topic))

    async def xclient(self, attributes: Mapping[str, str | None]) -> Reply:
        """Send XCLIENT with the original client's attributes, and EHLO again if the server accepts XCLIENT.

        See Postfix XCLIENT_README. Return the last reply.
        """
        reply = await self._driver.ask(Xclient(Attributes(attributes)))
        return await say_hello(self._driver) if reply.is_positive else reply

    async def xforward(self, attributes: Mapping[str, str | None]) -> Reply:
        """Send XFORWARD with the origin of the next message, for the server's log (Postfix XFORWARD_README)."""
        return await self._driver.ask(Xforward(Attributes(attributes)))

    async def check(self, *, ask: bool = True) -> bool:
        """Return whether the connection works, for example before a message that cannot be sent twice.

        With `ask`, NOOP is sent, and its reply has to arrive within `ClientBudgets.quit` seconds. Without `ask`, only
        input that has arrived is read, such as a 421. If the result is false, the connection cannot be used again.
        """
        return await self._driver.check(ask=ask)

    async def aclose(self) -> None:
        """Send QUIT, and close the connection. Never raises. After a fork, the new process sends and closes nothing."""
        await self._driver.aclose()

    def __repr__(self) -> str:
        return f"<Client of {self.host} at {self.peer}{'' if self.is_open else ', closed'}>"


_MORE_THAN_A_REPLY: Mapping[type[Command], str] = {
    StartTls: "call starttls(), or connect with tls=TlsMode.REQUIRED or another mode of TLS",
    Auth: "call login(auth), or connect with auth=",
    Bdat: "send the body with send or send_body",
}
_UNFINISHED = frozenset({State.MAIL, State.RCPT, State.CHUNKED, State.CHUNK_REFUSED})
_LOST = Reply(451, "The connection was lost before the reply of the next server", enhanced="4.4.2")
"""The reply for recipients that the server has not decided about."""


def _check_offers(mail: Mail, rcpts: Sequence[Rcpt], offered: Mapping[str, object], known: Sequence[Extension]) -> None:
    """Raise `Unsendable` for a parameter of an extension that the server does not offer."""
    for keyword in dict.fromkeys([*mail.params, *(keyword for rcpt in rcpts for keyword in rcpt.params)]):
        owners = [each.keyword for each in known if any(keyword == own.keyword for own in (*each.mail, *each.rcpt))]
        if owners and not any(owner.upper() in offered for owner in owners):  # the keys are in upper case
            why = f"The next server does not offer {owners[0]}, which the parameter {keyword} needs"
            raise Unsendable(Reply(555, why, enhanced="5.5.4"))


def _is_decisive(answer: Answered) -> bool:
    return isinstance(answer.to, DataEnd) or not answer.reply.is_positive


def _refusals(answers: list[Answered]) -> list[Answered]:
    """Return the refusals that apply to all recipients of the message."""
    of_all = (answer for answer in answers if not (answer.recipient or isinstance(answer.to, Rcpt)))
    return [answer for answer in of_all if not answer.reply.is_positive]


def _about_body(recipients: list[Rcpt], answers: list[Answered]) -> list[Answered]:
    """Return the decisive replies to a body: one reply, or with LMTP one reply for each of `recipients`."""
    known = [answer for answer in answers if answer.recipient]
    if not known:
        return _refusals(answers)[:1] or [answer for answer in answers if isinstance(answer.to, DataEnd)]

    last = known[-1].reply
    rest = last if last.reply_class is ReplyClass.GOODBYE else _LOST
    return known + [Answered(DataEnd(), rest, recipient) for recipient in recipients[len(known) :]]


def _summarize(rcpts: list[Rcpt], answers: list[Answered], *, is_lost: bool) -> tuple[list[Outcome], Reply]:
    """Return the outcome for each of `rcpts`, and the last reply of the transaction."""
    own: dict[Rcpt, Answered] = {}
    for answer in answers:
        if isinstance(answer.to, Rcpt) and not answer.reply.is_positive:
            own[answer.to] = answer
        elif answer.recipient:
            own[answer.recipient] = answer

    is_unknown = is_lost and not all(rcpt in own for rcpt in rcpts)
    refusals = _refusals(answers)
    decisive = refusals[0] if refusals else Answered(DataEnd(), _LOST) if is_unknown else answers[-1]
    decided = [(rcpt, own.get(rcpt, decisive)) for rcpt in rcpts]
    return [Outcome(rcpt, each.reply, getattr(each.to, "verb", "message")) for rcpt, each in decided], decisive.reply
