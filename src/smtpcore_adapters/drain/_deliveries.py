"""Deliver a message from the queue to a server or into a store, with a reply for each recipient."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Self

from smtpcore import BodyType, LocalProtocolError, ProtocolError, Reply

from ..client._client import Client, Unsendable
from ..client._envelope import SendOptions
from ..client._pool import Pool
from ..client._results import Refused
from ..forward._translation import translate_mail, translate_rcpt
from ..stores import Runtime, StoreHandler
from ..stores.jetstream import QueuedMessage


class NextServer:
    """Sends messages to another server over the connections of `pool`, with SMTP or LMTP.

    `drain` closes the connections at its end; without it, use this object in an `async with` block.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._pool.aclose()

    async def __call__(self, message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        """Send a message to its recipients without a decisive reply. Return a reply for each, by address."""
        try:
            async with self._pool.client() as client:
                return await self._send(client, message)
        except (OSError, ProtocolError) as exc:
            return dict.fromkeys(addresses_of(message), _reply_to(exc))

    async def _send(self, client: Client, message: QueuedMessage) -> Mapping[str, Reply]:
        envelope, offers = message.envelope, client.extensions
        mail = translate_mail(
            envelope.mail, offers, is_private=client.is_verified, is_trusted=envelope.identity is not None
        )
        if isinstance(mail, Reply):
            return dict.fromkeys(addresses_of(message), mail)

        replies: dict[str, Reply] = {}
        accepted = {}
        for rcpt in message.recipients:
            said = translate_rcpt(rcpt, offers)
            if isinstance(said, Reply):
                replies[rcpt.forward_path.address] = said
            else:
                accepted[rcpt.forward_path.address] = said

        # The size that our client announced was that of the message without the fields of this server.
        options: SendOptions = {"params": {name: value for name, value in mail.params.items() if name != "SIZE"}}
        if "SIZE" in offers:
            options["size"] = message.size
        if envelope.is_binary:
            options["body_type"] = BodyType.BINARYMIME
        if accepted:
            result = await client.send(mail.reverse_path, list(accepted.values()), message, **options)
            replies |= zip(accepted, (outcome.reply for outcome in result.outcomes), strict=True)
        return replies


class ToStore:
    """Writes messages into a store, such as a Maildir."""

    def __init__(self, handler: StoreHandler) -> None:
        self._handler = handler

    async def __call__(self, message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        """Store a message for its recipients without a decisive reply. Return a reply for each, by address."""
        envelope = replace(message.envelope, recipients=message.recipients)
        replies = await self._handler.deliver_each(envelope, message, runtime)
        return dict(zip(addresses_of(message), replies, strict=True))


def addresses_of(message: QueuedMessage) -> list[str]:
    """Return the addresses of the recipients without a decisive reply."""
    return [rcpt.forward_path.address for rcpt in message.recipients]


def _reply_to(exc: OSError | ProtocolError) -> Reply:
    if isinstance(exc, Unsendable):
        return exc.reply
    if isinstance(exc, LocalProtocolError):
        return Reply(554, "The next server cannot accept this message", enhanced="5.5.0")
    if isinstance(exc, Refused):
        return Reply(451, "The next server is not available", enhanced="4.3.2")

    return Reply(451, "The next server does not answer", enhanced="4.4.1")
