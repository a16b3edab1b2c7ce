"""The subjects and the records of the streams."""

# The stream STREAM has a record for each message:
#
#     STREAM.new.DOMAIN      a message that waits for its consumer
#     STREAM.dead.DOMAIN     a message that a consumer has given up
#
# A record is a line of JSON, LF, and the body as received. So a short message is stored in one step or not at all. The
# record of a long message has no body. Its body is in the stream STREAM_bodies, in chunks that are written before the
# record:
#
#     STREAM.body.KEY.NUMBER   a chunk, numbered from 0
#     STREAM.body.KEY.state    the results of the attempts to deliver the message up to now
#
# The record is the last step, so chunks without a record belong to no message. They expire after `max_age`.

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from smtpcore import LocalProtocolError, Path, Reply

from .._envelope import Envelope

VERSION = 1
"""The version of the form of a record."""

_WRONG = (KeyError, TypeError, AttributeError, OverflowError, RecursionError, LocalProtocolError)
"""The exceptions, besides `ValueError`, of values that have another form."""
_match_key = re.compile(r"[\w-]{1,255}", re.ASCII).fullmatch
_sub_special = re.compile(r"[^\w-]").sub


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A message in the stream."""

    envelope: Envelope
    """The envelope."""
    size: int
    """The octets of the body."""
    chunks: int = 0
    """The number of chunks of the body; 0 if the record has the body itself."""
    replies: Mapping[str, Reply] = field(default_factory=dict[str, Reply])
    """The decisive replies by recipient, for a message that a consumer has given up."""
    body: bytes = b""
    """The body, if the record has it."""

    def encode(self) -> bytes:
        """Return the octets of the record."""
        values = {
            "version": VERSION,
            "envelope": self.envelope.as_json(),
            "size": self.size,
            "chunks": self.chunks,
            "replies": replies_as_json(self.replies),
        }
        return json.dumps(values, separators=(",", ":")).encode() + b"\n" + self.body


def parse_record(data: bytes) -> Record:
    """Return the record that `encode` has made. Raises `ValueError` for other octets."""
    end = data.find(b"\n")
    try:
        values = json.loads(data[: max(end, 0)])
        if values["version"] != VERSION:
            raise ValueError(f"the record has version {values['version']!r}: use a newer version of smtpcore")

        record = Record(
            envelope=Envelope.from_json(values["envelope"]),
            size=int(values["size"]),
            chunks=int(values["chunks"]),
            replies=replies_of_json(values["replies"]),
            body=data[end + 1 :],
        )
    except _WRONG as exc:
        raise ValueError(f"this is not the record of a message: {exc!r:.200}") from exc

    # The key is a part of subjects, in which `*` and `>` would mean the chunks of other messages.
    if not _match_key(record.envelope.key) or not record.envelope.recipients:
        raise ValueError("this is not the record of a message: its key or its recipients are wrong")
    if not record.chunks and len(record.body) != record.size:
        raise ValueError(f"the body has {len(record.body)} octets, and its record says {record.size}")

    return record


def replies_as_json(replies: Mapping[str, Reply]) -> dict[str, Any]:
    """Return replies as a value that `json.dumps` accepts."""
    # One line of each reply: a record has room for a thousand recipients.
    return {name: [each.code, each.enhanced, each.lines[0][:_LONGEST_LINE]] for name, each in replies.items()}


def replies_of_json(values: Mapping[str, Any]) -> dict[str, Reply]:
    """Return the replies that `replies_as_json` has described."""
    return {name: Reply(code, line, enhanced=enhanced) for name, (code, enhanced, line) in values.items()}


_LONGEST_LINE = 200


@dataclass(frozen=True, slots=True)
class State:
    """The results of the attempts to deliver a message."""

    attempts: int = 0
    """The number of attempts."""
    due: float = 0.0
    """The time before which there is no further attempt, in seconds since 1970."""
    replies: Mapping[str, Reply] = field(default_factory=dict[str, Reply])
    """The decisive replies by recipient: for recipients that need no further attempt."""
    record: int = 0
    """The number of the record in its stream, because a message that was given up may be stored again; 0 if unknown."""

    def encode(self) -> bytes:
        """Return the octets of the state."""
        values = {
            "attempts": self.attempts,
            "due": self.due,
            "replies": replies_as_json(self.replies),
            "record": self.record,
        }
        return json.dumps(values).encode()


def parse_state(data: bytes) -> State:
    """Return the state that `encode` has made. Raises `ValueError` for other octets."""
    try:
        values = json.loads(data)
        attempts, due, record = int(values["attempts"]), float(values["due"]), int(values.get("record", 0))
        replies = replies_of_json(values["replies"])
    except _WRONG as exc:
        raise ValueError(f"these are not the results of a message: {exc!r:.200}") from exc

    # Values that no attempt can have set, NaN among them, must not hold up the message until it expires.
    return State(attempts if 0 <= attempts < _MOST_ATTEMPTS else 0, due if 0 <= due < _LATEST else 0.0, replies, record)


LONGEST_DELAY = 1e9
"""The longest delay of an attempt in seconds. The cluster counts nanoseconds with 64 bits."""
_MOST_ATTEMPTS = 1_000_000
_LATEST = 4e9  # seconds since 1970: the year 2096


def record_of(envelope: Envelope, size: int, *, chunks: int = 0, body: bytes = b"") -> Record:
    """Return the record of a message whose body begins with the `Received:` field of this server."""
    return Record(envelope=replace(envelope, received=b""), size=size, chunks=chunks, body=body)


def domain_token(path: Path) -> str:
    """Return the part of a subject for the domain of a recipient: `example_org` for `example.org`.

    Other characters than letters, digits, hyphens and underscores become underscores. So different domains may have the
    same part, which is no loss: the part divides messages between consumers, and the envelope has the domain.
    """
    return _sub_special("_", path.address.rpartition("@")[2].lower())[:_LONGEST] or "_"


_LONGEST = 255  # RFC 5321 4.5.3.1.2
