"""The envelope of a message, as stores get it."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from smtpcore import EXTENSIONS, BodyType, Extension, LocalProtocolError, Mail, Params, Path, Rcpt, check_fields
from smtpcore.trace import return_path, with_protocol

from ..server._message import Message
from ..server._received import received_by
from ..server._session import Session
from ..streams._stream import Address
from ..tls._info import Tls


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The facts about a message that are known before its first octet."""

    id: str
    """The name of the message in the log of this server."""
    key: str = field(default_factory=partial(secrets.token_hex, 16))
    """A name that no other message on any server has: 128 random bits in hexadecimal digits."""
    session: str = ""
    """The name of the session in the log of this server."""
    mail: Mail
    """The accepted MAIL command, with its parameters."""
    recipients: tuple[Rcpt, ...]
    """The accepted RCPT commands, in order, with their parameters."""
    priority: int = 0
    """The priority of the message from -9 to 9, default 0; at most 0 unless the client is authenticated (RFC 6710)."""
    received_at: datetime
    """The time at which the body began, with a time zone."""
    protocol: str
    """The protocol of the session, such as `"ESMTPS"` (RFC 3848)."""
    hostname: str
    """The name of this server."""
    helo: str = ""
    """The name of the client in HELO, EHLO or LHLO."""
    peer: Address | None = None
    """The address of the client; None for an unnamed Unix socket."""
    tls: Tls | None = None
    """The TLS parameters of the session; None without TLS."""
    identity: str | None = None
    """The name that the client has authenticated as, or None."""
    received: bytes = b""
    """The `Received:` field of this server, CR LF included; empty if the message already has this field."""

    @classmethod
    def of(cls, session: Session[Any], message: Message) -> "Envelope":
        """Return the envelope of a message that a session receives."""
        transaction = message.transaction
        return cls(
            id=message.id,
            session=session.id,
            mail=transaction.mail,
            recipients=tuple(transaction.recipients),
            priority=transaction.priority,
            received_at=datetime.now(UTC),
            protocol=with_protocol(
                session.helo,
                tls=session.tls is not None,
                authenticated=session.identity is not None,
                smtputf8=transaction.mail.params.smtputf8,
            ),
            hostname=session.config.hostname,
            helo=session.helo.domain if session.helo else "",
            peer=session.peer,
            tls=session.tls,
            identity=session.identity,
            received=received_by(session, message),
        )

    @property
    def sender(self) -> str:
        """The address of the sender, empty for a notification."""
        return self.mail.reverse_path.address

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the recipients, in order."""
        return tuple(rcpt.forward_path.address for rcpt in self.recipients)

    @property
    def size(self) -> int | None:
        """The octets that the client has announced with SIZE; None without an announcement."""
        return self.mail.params.size

    @property
    def is_binary(self) -> bool:
        """Whether the message was announced as BINARYMIME (RFC 3030), so that its octets must not be changed."""
        return self.mail.params.body is BodyType.BINARYMIME

    @property
    def is_lmtp(self) -> bool:
        """Whether the client expects a reply for each recipient (RFC 2033)."""
        return "LMTP" in self.protocol

    @property
    def delivery_fields(self) -> bytes:
        """The header fields for final delivery: Return-Path, an X-Original-To for each recipient, and Received."""
        originals = (f"X-Original-To: {address}\r\n".encode() for address in self.addresses)
        return b"".join([return_path(self.mail.reverse_path), *originals, self.received])

    def as_json(self) -> dict[str, Any]:
        """Return the envelope as a value that `json.dumps` accepts. Of TLS, it has the version and the cipher."""
        return {
            "id": self.id,
            "key": self.key,
            "session": self.session,
            "sender": _json_of(self.mail.reverse_path, self.mail.params),
            "recipients": [_json_of(rcpt.forward_path, rcpt.params) for rcpt in self.recipients],
            "priority": self.priority,
            "received_at": self.received_at.isoformat(),
            "protocol": self.protocol,
            "hostname": self.hostname,
            "helo": self.helo,
            "peer": [self.peer.host, self.peer.port] if self.peer else None,
            "tls": [self.tls.version, self.tls.cipher] if self.tls else None,
            "identity": self.identity,
            "received": self.received.decode(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, extensions: Sequence[Extension] = EXTENSIONS) -> "Envelope":
        """Return the envelope that `as_json` has described. `extensions` define the parameters.

        Raises `ValueError` for another value.
        """
        try:
            envelope = _envelope_of(cls, value, extensions)
            check_fields(envelope, TypeError)
        except (KeyError, TypeError, AttributeError, LocalProtocolError) as exc:
            raise ValueError(f"the value is not an envelope: {exc!r:.200}") from exc

        return envelope


def _envelope_of(kind: type[Envelope], value: Mapping[str, Any], extensions: Sequence[Extension]) -> Envelope:
    sender, received_at = value["sender"], datetime.fromisoformat(value["received_at"])
    if received_at.tzinfo is None:
        raise ValueError(f"received_at is {received_at}: it needs a time zone")

    mail = [extension.mail for extension in extensions]
    rcpt = [extension.rcpt for extension in extensions]
    return kind(
        id=value["id"],
        key=value["key"],
        session=value["session"],
        mail=Mail(Path(sender["address"]), _params(sender, mail)),
        recipients=tuple(Rcpt(Path(each["address"]), _params(each, rcpt)) for each in value["recipients"]),
        priority=value["priority"],
        received_at=received_at,
        protocol=value["protocol"],
        hostname=value["hostname"],
        helo=value["helo"],
        peer=Address(*value["peer"]) if value["peer"] else None,
        tls=Tls(*value["tls"]) if value["tls"] else None,
        identity=value["identity"],
        received=value["received"].encode(),
    )


def _json_of(path: Path, params: Params) -> dict[str, Any]:
    # A value has neither a space nor a `=` (RFC 5321 4.1.2).
    pairs = (text.partition("=") for text in str(params).split())
    return {
        "address": path.address,
        "parameters": {keyword: value if equals else True for keyword, equals, value in pairs},
    }


def _params(value: Mapping[str, Any], definitions: Iterable[Iterable[Any]]) -> Params:
    parsers = {parameter.keyword: parameter.parse for group in definitions for parameter in group}
    texts: Mapping[str, str | bool] = value["parameters"]
    return Params(
        {
            keyword: parsers[keyword]("" if text is True else text) if keyword in parsers else text
            for keyword, text in texts.items()
        }
    )
