"""Forward mail to another server while it is being received."""

# Our client gets the replies of the next server. Each RCPT is passed to the next server, and a message is
# accepted when the next server has accepted it. Nothing is stored here, so nothing can be lost here. If a message is
# aborted, the end of its data is never sent, so that no part of it can be mistaken for the whole message.
#
# If the next server cannot be reached, our client gets a 451 and tries again later. A 421 of the next server is also
# sent as a 451, because the 421 ends the connection to the next server and not ours.

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, TypeAlias, Unpack
from weakref import WeakKeyDictionary

from smtpcore import (
    EXTENSIONS,
    Answered,
    ClientBudgets,
    Config,
    LocalProtocolError,
    Path,
    ProtocolError,
    Rcpt,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    Transaction,
)
from smtpcore.proxy import ProxyCommand, ProxyHeader
from smtpcore.trace import end_of_fields

from ..client._client import Client
from ..client._connecting import open_client
from ..client._options import ConnectOptions, check_connect_options
from ..client._results import Refused
from ..server._content import ContentCheck, is_binary
from ..server._foreign_replies import mildest, mixed, presentable
from ..server._message import Message
from ..server._received import received_by
from ..server._session import Session
from ..streams._blocking import open_blocking_stream
from ..streams._socket_stream import complete
from ._announcing import MOST_SECONDS, Announcement, shortened
from ._origin import Facts, client_facts, message_facts, proxy_header, tell
from ._translation import takes_eight_bit, translate_mail, translate_rcpt

Bounce: TypeAlias = Callable[[Session[Any], Message, Mapping[Path, Reply]], Awaitable[None] | None]
"""A function that is called if only some recipients got a message. The arguments are the session, the message, and the
replies for the failed recipients. The function has to notify the sender, and must return only when the notification is
stored.
"""

Fields: TypeAlias = Callable[[Session[Any], Message], bytes]
"""A function that returns header fields to add at the top of a message, each with its CR LF."""

_logger = logging.getLogger("smtpcore")

_MAX_HEADER = 262_144
"""Maximum octets of a header that are checked before forwarding begins."""
_BLOCK = 65_536
"""Small pieces of a body are sent together when they have this many octets."""
_match_fields = re.compile(rb"(?:[!-9;-~]+:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n)*").fullmatch


class _Rejected(Exception):
    """The message cannot be forwarded. `reply` is the reply to our client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(slots=True)
class _Hop:
    """The connection of a session to the next server, with its state."""

    client: Client | None = None
    origin: tuple[ProxyHeader | None, Facts] = (None, {})
    """The PROXY header and the XCLIENT attributes that were sent to the next server to describe our client."""
    transaction: Transaction | None = None
    """The transaction of the session that MAIL was sent for."""
    refusal: Reply | None = None
    """The negative reply to MAIL, or None."""
    accepted: dict[int, Rcpt] = field(default_factory=dict)
    """The recipients that the next server accepted, in order. Each key is an `id`, because recipients may be equal."""

    async def drop(self) -> None:
        """Close the connection, if there is one."""
        client, self.client = self.client, None
        if client:
            await client.aclose()


class Forward:
    """Forwards mail to another server: `app.include(Forward("192.0.2.25", 25))`.

    Include this object after the handlers that may refuse mail, such as `recipients.RelayPolicy`: the next server
    decides about all other recipients. Each RCPT is sent to the next server, after MAIL for the first recipient, and
    our client gets the next server's reply. The body is streamed, with a `Received:` field at the top. Each session
    opens its own connection to the next server when it needs one.

    If the next server speaks LMTP and this server does not, the next server's replies for several recipients may
    differ, but our client expects a single reply. A message that was refused for some recipients is then refused, with
    their addresses in the text, although the other recipients got the message. With a `bounce` function, which notifies
    the sender of the failed recipients, such a message is accepted.
    """

    def __init__(
        self,
        host: str,
        port: int = 25,
        *,
        fields: Fields | None = None,
        bounce: Bounce | None = None,
        trace: bool = True,
        max_hops: int = 100,
        xclient: bool = False,
        xforward: bool = False,
        proxy_protocol: bool = False,
        announce: bool = False,
        **options: Unpack[ConnectOptions],
    ) -> None:
        """Configure the next server.

        Args:
            host: the name or address of the next server.
            port: the port of the next server.
            fields: a function that returns header fields to add to each message, such as the results of a filter.
            bounce: a function that notifies the sender of failed recipients, for LMTP: see `Forward`.
            trace: whether to add a `Received:` field, as every relay must (RFC 5321 4.4).
            max_hops: maximum `Received:` fields; a message with more fields is refused as a mail loop (RFC 5321 6.3).
            xclient: whether to send XCLIENT, so that the next server treats the session as the client's own.
            xforward: whether to send XFORWARD, so that the next server can log the client.
            proxy_protocol: whether to send a PROXY header with the client's address.
            announce: whether this server offers its clients the extensions and the size limit of the next server. The
                next server is asked when this server starts, and at each new connection to it.
            options: the options of `ConnectOptions`, such as `lmtp`, `tls` and `auth`.
        """
        check_connect_options(host, port, options, many=True)
        if proxy_protocol and options.get("proxy"):
            raise ValueError("proxy_protocol and proxy exclude each other: both are the PROXY header")
        if xclient and options.get("auth"):
            raise ValueError("xclient and auth exclude each other: XCLIENT starts a session without authentication")

        self._host = host
        self._port = port
        self._fields = fields
        self._bounce = bounce
        self._trace = trace
        self._max_hops = max_hops
        self._xclient = xclient
        self._xforward = xforward
        self._proxy_protocol = proxy_protocol
        self._announcement = Announcement() if announce else None
        self._options = options
        self._extensions = options.get("extensions", EXTENSIONS)
        self._hops: WeakKeyDictionary[Session[Any], _Hop] = WeakKeyDictionary()

    # Configuration

    def on_config(self, config: Config) -> Config:
        """Ask the next server which extensions it offers, if the option `announce` is set."""
        announcement = self._announcement
        is_due = announcement and not announcement.is_known and not announcement.is_pending
        # The next server is asked in a thread, because the caller may run an event loop, which this wait blocks. The
        # answer of a slow server counts for the sessions that begin after the answer.
        if announcement and is_due and not announcement.ask(self._ask_for_extensions):
            _logger.warning("%s has not answered yet: its extensions are unknown until then", self._host)

        return config

    def _ask_for_extensions(self, announcement: Announcement) -> None:
        options = self._options.copy()
        options["budgets"] = shortened(options.get("budgets") or ClientBudgets())
        options["connect_timeout"] = min(options.get("connect_timeout", MOST_SECONDS), MOST_SECONDS)
        if self._proxy_protocol:
            options["proxy"] = ProxyHeader(ProxyCommand.LOCAL)  # this connection is not for a client
        try:
            client = complete(open_client(open_blocking_stream, self._host, self._port, **options))
        except (OSError, ProtocolError) as exc:
            _logger.warning("the extensions of %s are unknown until the first message: %s", self._host, exc)
        else:
            announcement.learn(client)
            complete(client.aclose())

    def on_session_config(self, config: Config) -> Config:
        """Return the configuration of a session, with the extensions that the next server offers now."""
        return self._announcement.apply(config) if self._announcement else config

    # Handlers

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply:
        """Ask the next server about the recipient, and return its reply."""
        hop = self._hops.setdefault(session, _Hop())
        try:
            reply = await self._ask_about(session, hop, rcpt)
        except (OSError, ProtocolError) as exc:
            reply = await self._fail(session, hop, exc)

        return Reply(reply.code, *reply.lines, enhanced=reply.enhanced, is_relayed=True)

    async def on_message(self, session: Session[Any], message: Message) -> Reply | list[Reply]:
        """Forward the body, and return the next server's reply."""
        hop = self._hops.setdefault(session, _Hop())
        try:
            # Earlier handlers may have accepted recipients that the next server was not asked about.
            for rcpt in message.transaction.recipients:
                if not self._knows(hop, session, rcpt):
                    reply = await self._ask_about(session, hop, rcpt)
                    if not reply.is_positive:
                        return reply

            answers = await self._pass_on(session, hop, message)
        except _Rejected as exc:
            return exc.reply
        except (OSError, ProtocolError) as exc:
            return await self._fail(session, hop, exc)
        finally:
            hop.transaction = None  # the next RCPT starts another transaction, whatever the result of this one
            if hop.client and not hop.client.is_open:
                await hop.drop()

        return await self._conclude(session, message, hop, answers)

    async def on_disconnect(self, session: Session[Any], reason: str) -> None:
        """Close the connection to the next server."""
        hop = self._hops.pop(session, None)
        if hop:
            await hop.drop()

    # Envelopes

    def _knows(self, hop: _Hop, session: Session[Any], rcpt: Rcpt) -> bool:
        return hop.transaction is session.transaction and id(rcpt) in hop.accepted

    async def _ask_about(self, session: Session[Any], hop: _Hop, rcpt: Rcpt) -> Reply:
        if hop.transaction is not session.transaction:
            await self._begin(session, hop)
        if hop.refusal:
            return hop.refusal
        client = hop.client
        assert client, "a transaction has begun"
        said = translate_rcpt(rcpt, client.extensions, extensions=self._extensions)
        if isinstance(said, Reply):
            return said

        reply = await client.ask(said)
        if reply.is_positive:
            hop.accepted[id(rcpt)] = rcpt

        return presentable(reply)

    async def _begin(self, session: Session[Any], hop: _Hop) -> None:
        transaction = session.transaction
        assert transaction, "RCPT and the body are part of a transaction"
        hop.accepted.clear()
        origin = self._origin(session)
        if hop.origin != origin:
            await hop.drop()  # the connection belongs to another client, whose rights the next server would apply

        reply = await self._begin_on_kept(session, hop, transaction) if hop.client else None
        if reply is None:
            hop.client = await self._connect(session, origin)
            hop.origin = origin
            reply = await self._send_mail(session, hop.client, transaction)

        hop.refusal = None if reply.is_positive else presentable(reply)
        hop.transaction = transaction

    async def _begin_on_kept(self, session: Session[Any], hop: _Hop, transaction: Transaction) -> Reply | None:
        # The next server may have closed an idle connection, which is not an error.
        client, hop.client = hop.client, None
        assert client
        try:
            await client.give_up()
            reply = await self._send_mail(session, client, transaction)
        except LocalProtocolError:
            hop.client = client
            raise
        except (OSError, RemoteProtocolError):
            await client.aclose()
            return None

        if reply.reply_class is ReplyClass.GOODBYE:
            await client.aclose()
            return None

        hop.client = client
        return reply

    async def _send_mail(self, session: Session[Any], client: Client, transaction: Transaction) -> Reply:
        said = translate_mail(
            transaction.mail,
            client.extensions,
            is_private=client.is_verified,
            is_trusted=session.identity is not None,
            extensions=self._extensions,
        )
        if isinstance(said, Reply):
            return said
        if self._xforward:
            await tell(client, "XFORWARD", client.xforward, message_facts(session))

        return await client.ask(said)

    def _origin(self, session: Session[Any]) -> tuple[ProxyHeader | None, Facts]:
        header = proxy_header(session) if self._proxy_protocol else None
        return header, client_facts(session) if self._xclient else {}

    async def _connect(self, session: Session[Any], origin: tuple[ProxyHeader | None, Facts]) -> Client:
        header, facts = origin
        options = self._options.copy()
        if header:
            options["proxy"] = header

        client = await open_client(session.open_stream, self._host, self._port, **options)
        if self._announcement:
            self._announcement.learn(client)
        if self._xclient:
            try:
                await tell(client, "XCLIENT", client.xclient, facts)
            except BaseException:
                await client.aclose()
                raise

        return client

    # Bodies

    async def _pass_on(self, session: Session[Any], hop: _Hop, message: Message) -> list[Answered]:
        client = hop.client
        assert client, "a transaction has begun"
        pieces = aiter(message)
        header = bytearray()
        async for piece in pieces:
            searched = max(len(header) - len(b"\r\n\r"), 0)
            header += piece
            has_end = header.startswith(b"\r\n") or header.find(b"\r\n\r\n", searched) >= 0
            if has_end or len(header) > _MAX_HEADER:
                break

        may_be_utf8 = "SMTPUTF8" in client.extensions or not message.transaction.mail.params.smtputf8
        if not may_be_utf8 and not _cut(header).isascii():
            # RFC 6531 3.5
            raise _Rejected(Reply(554, "The next server does not accept UTF-8 in a header", enhanced="5.6.9"))

        check = _BodyCheck(message, self._max_hops, eight_bit=takes_eight_bit(client.extensions))
        start = check.passed(bytes(header))
        body = self._body(self._top(session, message, start) + start, pieces, check)
        return await client.send_body(body, binary=is_binary(message))

    def _top(self, session: Session[Any], message: Message, start: bytes) -> bytes:
        """Return the octets to add on top of a message that begins with `start`."""
        fields = self._fields(session, message) if self._fields else b""
        if not _match_fields(fields):
            raise ValueError(f"fields returned {fields!r}: each header field must be `Name: value` and end in CR LF")

        top = received_by(session, message) + fields if self._trace else fields
        return top and top + end_of_fields(start)

    async def _body(
        self, start: bytes, pieces: AsyncIterator[bytes], check: "_BodyCheck"
    ) -> AsyncGenerator[bytes, None]:
        block = bytearray(start)  # one buffer: a list of small pieces would take more memory than their octets
        async for piece in pieces:
            block += check.passed(piece)
            if len(block) >= _BLOCK:
                yield bytes(block)
                block.clear()

        yield bytes(block)

    async def _conclude(
        self, session: Session[Any], message: Message, hop: _Hop, answers: list[Answered]
    ) -> Reply | list[Reply]:
        if not any(answer.recipient for answer in answers):
            return presentable(answers[-1].reply)

        # RFC 2033 4.2: the replies come in the order of the recipients, and each recipient has a reply of its own.
        answer_to = dict(zip(hop.accepted, answers, strict=True))
        recipients = message.transaction.recipients
        replies = [presentable(answer_to[id(rcpt)].reply) for rcpt in recipients]
        if session.config.lmtp:
            return replies

        pairs = zip(recipients, replies, strict=True)
        refused = [(rcpt.forward_path, reply) for rcpt, reply in pairs if not reply.is_positive]
        if len(refused) in (0, len(replies)):
            return mildest(replies)

        # RFC 2033 4.2: recipients that got the message must not get it again, so our client gets a positive reply if
        # the sender is notified. Otherwise the reply is a refusal: lost mail is worse than mail that comes twice.
        if not self._bounce:
            return mixed(refused, len(replies))

        told = self._bounce(session, message, dict(refused))
        if isawaitable(told):
            await told

        return next(reply for reply in replies if reply.is_positive)

    # Failures

    async def _fail(self, session: Session[Any], hop: _Hop, exc: OSError | ProtocolError) -> Reply:
        _logger.warning("%s: not forwarded to %s: %s", session.id, self._host, exc, extra={"session": session.id})
        if isinstance(exc, LocalProtocolError):
            return Reply(554, "The next server cannot accept this message", enhanced="5.5.0")

        status = "4.4.2" if hop.client else "4.4.1"  # RFC 3463 3.5: the connection failed, or could not be opened
        hop.transaction = None
        await hop.drop()
        if isinstance(exc, Refused):
            return Reply(451, "The next server is not available", enhanced="4.3.2")
        if isinstance(exc, RemoteProtocolError):
            return Reply(451, "The next server does not speak SMTP", enhanced="4.5.0")

        return Reply(451, "The next server does not answer", enhanced=status)


def _cut(header: bytearray) -> bytearray:
    return bytearray() if header.startswith(b"\r\n") else header.partition(b"\r\n\r\n")[0]


class _BodyCheck:
    """Checks that the next server may get the octets of a message.

    If a check fails after a part of the body was sent, the connection is closed before the end of the body.
    """

    def __init__(self, message: Message, max_hops: int, *, eight_bit: bool) -> None:
        self._content = ContentCheck(
            max_hops - 1, is_binary=is_binary(message)
        )  # this server adds one `Received:` field
        self._eight_bit = eight_bit

    def passed(self, piece: bytes) -> bytes:
        """Return `piece`. Raise `_Rejected` if the message cannot be forwarded."""
        refusal = self._content.feed(piece)
        if not (refusal or self._eight_bit or piece.isascii()):  # RFC 6152 section 3
            refusal = Reply(554, "The next server does not accept octets beyond ASCII", enhanced="5.6.3")
        if refusal:
            raise _Rejected(refusal)

        return piece
