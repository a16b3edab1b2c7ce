"""Forward mail to another server while it is being received."""

# Our client gets the replies of the next server. Each RCPT is passed to the next server, and a message is
# accepted when the next server has accepted it. Nothing is stored here, so nothing can be lost here. If a message is
# aborted, the end of its data is never sent, so that no part of it can be mistaken for the whole message.
#
# If the next server cannot be reached, our client gets a 451 and tries again later. A 421 of the next server is treated
# in the same way, because it ends the connection to the next server and not ours.

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import TypeAlias, Unpack
from weakref import WeakKeyDictionary

from smtpcore import (
    EXTENSIONS,
    Answered,
    BodyType,
    Ehlo,
    Lhlo,
    LocalProtocolError,
    Path,
    ProtocolError,
    Rcpt,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    ReplyCode,
    Transaction,
)
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader

from ..client._client import Client
from ..client._connecting import open_client
from ..client._options import ConnectOptions, check_connect_options
from ..client._results import Refused
from ..server._message import Message
from ..server._received import address_of_peer, received_by
from ..server._session import Session
from ..streams._stream import Address
from ._translation import takes_eight_bit, translate_mail, translate_rcpt

Bounce: TypeAlias = Callable[[Session, Message, Mapping[Path, Reply]], Awaitable[None] | None]
"""A function that is called if only some recipients got a message. Its arguments are the session, the message, and the
replies for the failed recipients. It has to notify the sender, and must return only when the notification is stored."""

Fields: TypeAlias = Callable[[Session, Message], bytes]
"""A function that returns header fields to add at the top of a message, each with its CR LF."""

_logger = logging.getLogger("smtpcore")

_MAX_HEADER = 262_144
"""Maximum octets of a header that are checked before forwarding begins."""
_find_received = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE).findall


class _Rejected(Exception):
    """The message cannot be forwarded. `reply` is the reply to our client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(slots=True)
class _Hop:
    """The connection of a session to the next server, with its state."""

    client: Client | None = None
    transaction: Transaction | None = None
    """The transaction of the session that MAIL was sent for."""
    refusal: Reply | None = None
    """The negative reply to MAIL, or None."""
    accepted: set[Path] = field(default_factory=set)
    """The recipients that the next server accepted."""

    async def drop(self) -> None:
        """Close the connection, if there is one."""
        client, self.client = self.client, None
        if client:
            await client.aclose()


class Forward:
    """Forwards mail to another server: `app.include(Forward("192.0.2.25", 25))`.

    Include it after the handlers that may refuse mail. Each RCPT is sent to the next server, after MAIL for the first
    recipient, and our client gets the next server's reply. The body is streamed, with a `Received:` field at the top.
    Each session opens its own connection to the next server when it needs one.

    If the next server speaks LMTP and this server does not, the next server's replies for several recipients may
    differ, but our client expects a single reply. Transactions are then limited to one recipient, and further
    recipients get a 452 (RFC 5321 4.5.3.1.10). A `bounce` function, which notifies the sender of the failed recipients,
    lifts this limit.
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
        **options: Unpack[ConnectOptions],
    ) -> None:
        """Configure the next server.

        Args:
            host: the name or address of the next server.
            port: the port of the next server.
            fields: a function that returns header fields to add to each message, such as the results of a filter.
            bounce: a function that notifies the sender of failed recipients, for LMTP. See above.
            trace: whether to add a `Received:` field, as every relay must (RFC 5321 4.4).
            max_hops: maximum `Received:` fields. A message with more is in a mail loop and refused (RFC 5321 6.3).
            xclient: whether to send XCLIENT, so that the next server treats the session as the client's own.
            xforward: whether to send XFORWARD, so that the next server can log the client.
            proxy_protocol: whether to send a PROXY header with the client's address.
            options: the options of `ConnectOptions`, such as `lmtp`, `tls` and `auth`.
        """
        check_connect_options(options)
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
        self._options = options
        self._extensions = options.get("extensions", EXTENSIONS)
        self._hops: WeakKeyDictionary[Session, _Hop] = WeakKeyDictionary()

    # Handlers

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply:
        """Ask the next server about the recipient, and return its reply."""
        hop = self._hops.setdefault(session, _Hop())
        try:
            return await self._ask_about(session, hop, rcpt)
        except (OSError, ProtocolError) as exc:
            return await self._fail(session, hop, exc)

    async def on_message(self, session: Session, message: Message) -> Reply | Mapping[Path, Reply]:
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

        return await self._conclude(session, message, answers)

    async def on_disconnect(self, session: Session, reason: str) -> None:
        """Close the connection to the next server."""
        hop = self._hops.pop(session, None)
        if hop:
            await hop.drop()

    # Envelopes

    def _knows(self, hop: _Hop, session: Session, rcpt: Rcpt) -> bool:
        return hop.transaction is session.transaction and rcpt.forward_path in hop.accepted

    async def _ask_about(self, session: Session, hop: _Hop, rcpt: Rcpt) -> Reply:
        if hop.transaction is not session.transaction:
            await self._begin(session, hop)
        if hop.refusal:
            return hop.refusal
        if hop.accepted and self._takes_one(session):
            return Reply(452, "One recipient at a time", enhanced="4.5.3")

        client = hop.client
        assert client, "a transaction has begun"
        said = translate_rcpt(rcpt, client.extensions, extensions=self._extensions)
        if isinstance(said, Reply):
            return said

        reply = await client.ask(said)
        if reply.is_positive:
            hop.accepted.add(rcpt.forward_path)

        return _presentable(reply)

    def _takes_one(self, session: Session) -> bool:
        return bool(self._options.get("lmtp")) and not session.config.lmtp and not self._bounce

    async def _begin(self, session: Session, hop: _Hop) -> None:
        transaction = session.transaction
        assert transaction, "RCPT and the body are part of a transaction"
        hop.accepted.clear()
        reply = await self._begin_on_kept(session, hop, transaction) if hop.client else None
        if reply is None:
            hop.client = await self._connect(session)
            reply = await self._send_mail(session, hop.client, transaction)

        hop.refusal = None if reply.is_positive else _presentable(reply)
        hop.transaction = transaction

    async def _begin_on_kept(self, session: Session, hop: _Hop, transaction: Transaction) -> Reply | None:
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

    async def _send_mail(self, session: Session, client: Client, transaction: Transaction) -> Reply:
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
            await _demand(client, "XFORWARD", client.xforward, _attributes(session, client, "XFORWARD"))

        return await client.ask(said)

    async def _connect(self, session: Session) -> Client:
        options = self._options.copy()
        if self._proxy_protocol:
            options["proxy"] = _proxy_header(session)

        client = await open_client(session.open_stream, self._host, self._port, **options)
        if self._xclient:
            try:
                await _demand(client, "XCLIENT", client.xclient, _attributes(session, client, "XCLIENT"))
            except BaseException:
                await client.aclose()
                raise

        return client

    # Bodies

    async def _pass_on(self, session: Session, hop: _Hop, message: Message) -> list[Answered]:
        client = hop.client
        assert client, "a transaction has begun"
        pieces = aiter(message)
        header = bytearray()
        async for piece in pieces:
            header += piece
            if _has_end(header) or len(header) > _MAX_HEADER:
                break

        self._check_header(client, message, bytes(header))
        body = self._body(session, client, message, bytes(header), pieces)
        return await client.send_body(body, binary=message.transaction.mail.params.body is BodyType.BINARYMIME)

    def _check_header(self, client: Client, message: Message, header: bytes) -> None:
        if len(_find_received(_cut(header))) >= self._max_hops:
            raise _Rejected(Reply(554, "Too many hops: the message is in a mail loop", enhanced="5.4.6"))

        may_be_utf8 = "SMTPUTF8" in client.extensions or not message.transaction.mail.params.smtputf8
        if not may_be_utf8 and not _cut(header).isascii():
            # RFC 6531 3.5
            raise _Rejected(Reply(554, "The next server does not accept UTF-8 in a header", enhanced="5.6.9"))

    async def _body(
        self, session: Session, client: Client, message: Message, header: bytes, pieces: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        top = self._fields(session, message) if self._fields else b""
        if self._trace:
            top = received_by(session, message) + top

        is_clean = takes_eight_bit(client.extensions)
        yield _checked(top + header, eight_bit=is_clean)
        async for piece in pieces:
            yield _checked(piece, eight_bit=is_clean)

    async def _conclude(
        self, session: Session, message: Message, answers: list[Answered]
    ) -> Reply | Mapping[Path, Reply]:
        last = _presentable(answers[-1].reply)
        if not any(answer.recipient for answer in answers):
            return last

        replies = dict.fromkeys(message.forward_paths, last)
        replies |= {each.recipient.forward_path: _presentable(each.reply) for each in answers if each.recipient}
        if session.config.lmtp:
            return replies

        refused = {path: reply for path, reply in replies.items() if not reply.is_positive}
        if len(refused) in (0, len(replies)):
            return _mildest(replies.values())

        # RFC 2033 4.2: recipients that got the message must not get it again, so our client gets a positive reply.
        assert self._bounce, "without a bounce function there is a single recipient"
        told = self._bounce(session, message, refused)
        if isawaitable(told):
            await told

        return next(reply for reply in replies.values() if reply.is_positive)

    # Failures

    async def _fail(self, session: Session, hop: _Hop, exc: OSError | ProtocolError) -> Reply:
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


def _presentable(reply: Reply) -> Reply:
    """Return a reply of the next server for our client: in ASCII, and with a code that does not end our session."""
    code = _CODES.get(reply.code, reply.code)
    if code % 100 > 59:
        code = code // 100 * 100 + 50  # RFC 5321 4.2 does not allow such codes; the first digit keeps the meaning

    lines = [line.encode("ascii", "replace").decode() for line in reply.lines[:_MAX_LINES]]
    return Reply(code, *(line[:_MAX_LINE] for line in lines), enhanced=reply.enhanced)


_CODES: dict[int, int] = {
    ReplyCode.SERVICE_NOT_AVAILABLE: ReplyCode.LOCAL_ERROR,
    ReplyCode.HOST_ACCEPTS_NO_MAIL: ReplyCode.TRANSACTION_FAILED,
}
_MAX_LINES = 20
_MAX_LINE = 480  # RFC 5321 4.5.3.1.5, with room for the codes


def _mildest(replies: Iterable[Reply]) -> Reply:
    # If any recipient may still succeed, our client should try again. So the reply is permanent only if all replies
    # are permanent.
    return min(replies, key=lambda reply: reply.code)


def _has_end(header: bytearray) -> bool:
    return header.startswith(b"\r\n") or b"\r\n\r\n" in header


def _cut(header: bytes) -> bytes:
    return b"" if header.startswith(b"\r\n") else header.partition(b"\r\n\r\n")[0]


def _checked(piece: bytes, *, eight_bit: bool) -> bytes:
    # RFC 6152 section 3: a server without 8BITMIME must not get octets beyond ASCII. If a part of the body was already
    # sent, the connection is closed before the end of the body.
    if not eight_bit and not piece.isascii():
        raise _Rejected(Reply(554, "The next server does not accept octets beyond ASCII", enhanced="5.6.3"))

    return piece


# Information about the client


async def _demand(
    client: Client,
    keyword: str,
    tell: Callable[[Mapping[str, str | None]], Awaitable[Reply]],
    attributes: Mapping[str, str | None],
) -> None:
    if not attributes:
        raise Refused(f"the next server does not offer {keyword}")

    reply = await tell(attributes)
    if not reply.is_positive:
        raise Refused(f"the next server refuses {keyword}", reply)


def _attributes(session: Session, client: Client, keyword: str) -> dict[str, str | None]:
    """Return the attributes of the session's client that the next server requests for XCLIENT or XFORWARD."""
    offered = client.extensions.get(keyword)
    known: dict[str, str | None] = {
        "NAME": None,
        "ADDR": _postfix_address(session.peer),
        "PORT": str(session.peer.port) if session.peer and session.peer.port else None,
        "PROTO": "ESMTP" if isinstance(session.helo, Ehlo | Lhlo) else "SMTP",
        "HELO": session.helo.domain if session.helo else None,
        "LOGIN": session.identity,
        "IDENT": session.id,
        "SOURCE": "REMOTE",
        "DESTADDR": _postfix_address(session.local),
        "DESTPORT": str(session.local.port) if session.local and session.local.port else None,
    }
    return {name: known[name] for name in offered if name in known} if isinstance(offered, tuple) else {}


def _postfix_address(end: Address | None) -> str | None:
    address = address_of_peer(end)
    return None if address is None else f"{'IPV6:' if address.version == 6 else ''}{address}"


def _proxy_header(session: Session) -> ProxyHeader:
    source, destination = address_of_peer(session.peer), address_of_peer(session.local)
    if not (source and destination and session.peer and session.local and source.version == destination.version):
        return ProxyHeader(ProxyCommand.LOCAL)

    return ProxyHeader(
        ProxyCommand.PROXY,
        source=Endpoint(source, session.peer.port),
        destination=Endpoint(destination, session.local.port),
    )
