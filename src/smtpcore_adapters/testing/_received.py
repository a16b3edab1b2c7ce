"""The messages that a test server has received."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, overload

from smtpcore import Params, Reply

from ..server._message import Message
from ..server._session import Session
from ..streams._stream import Address
from ..tls._info import Tls


@dataclass(frozen=True, slots=True)
class Received:
    """A message with its envelope and the properties of its session."""

    sender: str
    """The address of MAIL; empty for the null sender `<>`."""
    recipients: tuple[str, ...]
    """The accepted addresses of RCPT, in order."""
    mail_params: Params
    """The parameters of MAIL."""
    rcpt_params: tuple[Params, ...]
    """The parameters of each RCPT, in the order of `recipients`."""
    content: bytes
    """The octets, without dot-stuffing."""
    helo: str
    """The name in the client's EHLO, HELO or LHLO."""
    tls: Tls | None
    """The TLS of the session, or None."""
    identity: str | None
    """The authenticated user, or None."""
    peer: Address | None
    """The client's address, or None for a Unix socket."""

    @property
    def message(self) -> EmailMessage:
        """The parsed message; each access parses `content` again."""
        return message_from_bytes(self.content, _class=EmailMessage, policy=policy.SMTP)


class Inbox(Sequence[Received]):
    """A sequence of received messages, oldest first, and a handler that accepts every message."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[Received] = []

    async def on_message(self, session: Session[Any], message: Message) -> Reply:
        """Accept a message and add it to the sequence."""
        content = await message.read()
        transaction = message.transaction
        received = Received(
            sender=transaction.mail.reverse_path.address,
            recipients=tuple(rcpt.forward_path.address for rcpt in transaction.recipients),
            mail_params=transaction.mail.params,
            rcpt_params=tuple(rcpt.params for rcpt in transaction.recipients),
            content=content,
            helo=session.helo.domain if session.helo else "",
            tls=session.tls,
            identity=session.identity,
            peer=session.peer,
        )
        with self._changed:
            self._messages.append(received)
            self._changed.notify_all()

        return Reply(250, f"Accepted as {message.id}", enhanced="2.0.0")

    def wait_for(self, count: int, timeout: float) -> list[Received]:
        """Wait until there are `count` messages, and return all. Raise `TimeoutError` after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._messages) >= count, timeout):
                raise TimeoutError(f"{len(self._messages)} of {count} messages arrived within {timeout:g} seconds")

            return list(self._messages)

    def clear(self) -> None:
        """Remove all messages."""
        with self._changed:
            self._messages.clear()

    @overload
    def __getitem__(self, index: int) -> Received: ...
    @overload
    def __getitem__(self, index: slice) -> list[Received]: ...
    def __getitem__(self, index: int | slice) -> Received | list[Received]:
        with self._changed:
            return self._messages[index]

    def __len__(self) -> int:
        with self._changed:
            return len(self._messages)

    def __iter__(self) -> Iterator[Received]:
        return iter(self[:])

    def __repr__(self) -> str:
        return repr(self[:])
