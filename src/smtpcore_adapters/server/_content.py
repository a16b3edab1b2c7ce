"""Checks of a message's content that every destination makes, with the same replies."""

from smtpcore import BodyType, Reply
from smtpcore.trace import Hops

from ._message import Message


class ContentCheck:
    """Checks the octets of an arriving message for mail loops (RFC 5321 6.3) and for NUL."""

    __slots__ = ("_hops", "_is_binary", "_max_hops")

    def __init__(self, max_hops: int, *, is_binary: bool) -> None:
        self._hops = Hops()
        self._max_hops = max_hops
        self._is_binary = is_binary

    def feed(self, data: bytes) -> Reply | None:
        """Check the next octets of the message. Return a refusal if the message cannot be accepted, otherwise None."""
        self._hops.feed(data)
        if self._hops.count > self._max_hops:
            return Reply(554, "Too many hops: the message is in a mail loop", enhanced="5.4.6")
        if not self._is_binary and b"\0" in data:
            # RFC 2045 2.7 and 2.8: neither 7-bit nor 8-bit data contain NUL, and many programs end a text there.
            return Reply(554, "The message contains a NUL", enhanced="5.6.0")

        return None


def is_binary(message: Message) -> bool:
    """Return whether a message was announced as BINARYMIME (RFC 3030), so that its octets must not be changed."""
    return message.transaction.mail.params.body is BodyType.BINARYMIME
