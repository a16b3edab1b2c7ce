"""The steps of a client's session: octets to send, and the replies that they need.

The strategy `strategies.steps` draws sequences of steps. A program that sends steps waits for the replies to each piece
of a step, and sends the next piece only if the last reply permits the next piece.
"""

# A step is a unit that can be removed from a session without changing the meaning of the other octets. So DATA and its
# body are one step, and so are BDAT and its octets, and AUTH and its responses. Example: the pieces of
# BodyStep(b"Hi\r\n") are b"DATA\r\n" and b"Hi\r\n.\r\n", and the second piece may be sent only after a 354.

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from smtpcore import show_texts

__all__ = ["AuthStep", "BodyStep", "ChunkStep", "LineStep", "RawStep", "Step", "TlsStep", "groups_of", "stuffed"]

_INSIDE_GROUPS = {"MAIL", "RCPT", "RSET"}
"""Commands that may have others after them in a pipelined group (RFC 2920 3.1)."""


def stuffed(body: bytes) -> bytes:
    """Return the wire form of `body` after a 354: dot-stuffed and with the final dot (RFC 5321 4.5.2).

    The lines of `body` must end in CR LF.
    """
    return (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def _is_plain(body: bytes) -> bool:
    rest = body.replace(b"\r\n", b"")
    lines = body.split(b"\r\n")
    return not lines[-1] and max(map(len, lines)) <= 998 and not any(octet in rest for octet in b"\r\n\0")


class Step(ABC):
    """One step of a client."""

    __slots__ = ()

    @property
    @abstractmethod
    def verb(self) -> str:
        """The verb of the first line, in upper case; empty without a verb."""

    @property
    @abstractmethod
    def pieces(self) -> tuple[bytes, ...]:
        """The octets to send. A piece after the first may be sent only after a reply with the code `continues`."""

    @property
    def continues(self) -> int:
        """The code that permits the next piece: 354, 334 or 220; 0 if the step has one piece."""
        return 0

    @property
    def must_end_group(self) -> bool:
        """Whether the client has to wait for the reply to the first piece before it sends more (RFC 2920 3.1)."""
        return True

    @property
    def content(self) -> bytes | None:
        """The part of a message that this step transfers, without dot-stuffing; None without a message."""
        return None

    def final_replies(self, recipients: int, *, lmtp: bool = False) -> int:
        """Return the number of replies to the last piece.

        Args:
            recipients: The number of RCPT commands that the server has accepted for this message.
            lmtp: Whether the protocol is LMTP, in which the end of a message gets a reply for each recipient.
        """
        return 1


@dataclass(frozen=True, slots=True)
class LineStep(Step):
    """A command line, valid or not. The line ends in CR LF and gets one reply."""

    line: bytes
    """The octets before CR LF."""

    @property
    def verb(self) -> str:
        """The verb of the line, in upper case; empty without a verb."""
        return verb_of(self.line)

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The line with CR LF."""
        return (self.line + b"\r\n",)

    @property
    def must_end_group(self) -> bool:
        """Whether the client has to wait for the reply: true for all commands but MAIL, RCPT and RSET."""
        return self.verb not in _INSIDE_GROUPS


def verb_of(line: bytes) -> str:
    """Return the verb of a command line in upper case, or an empty text if its first word is not ASCII letters.

    A tab ends the verb, as a space does: servers should accept white space before the end of a line (RFC 5321 4.1.1).
    """
    word = line.replace(b"\t", b" ").partition(b" ")[0].upper()
    return word.decode() if word.isalpha() and word.isascii() else ""


@dataclass(frozen=True, slots=True)
class BodyStep(Step):
    """DATA and a body. The end of the body gets one reply; in LMTP one reply for each accepted RCPT."""

    body: bytes
    """The message before dot-stuffing. The last line must end in CR LF."""

    @property
    def verb(self) -> str:
        """`DATA`."""
        return "DATA"

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """DATA, and the dot-stuffed body with the final dot."""
        return (b"DATA\r\n", stuffed(self.body))

    @property
    def continues(self) -> int:
        """354."""
        return 354

    @property
    def content(self) -> bytes | None:
        """The body."""
        return self.body

    @property
    def is_plain(self) -> bool:
        """Whether the body must be delivered unchanged: lines of at most 998 octets, no bare CR, bare LF or NUL."""
        return _is_plain(self.body)

    def final_replies(self, recipients: int, *, lmtp: bool = False) -> int:
        """Return 1; in LMTP the number of accepted recipients."""
        return recipients if lmtp else 1


@dataclass(frozen=True, slots=True)
class ChunkStep(Step):
    """BDAT and its octets, which are sent without waiting for a reply (RFC 3030 section 2)."""

    chunk: bytes
    """The octets after the command line."""
    is_last: bool = True
    """Whether the message ends with this chunk. Default: true."""

    @property
    def verb(self) -> str:
        """`BDAT`."""
        return "BDAT"

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """BDAT together with its octets."""
        return (b"BDAT %d%b\r\n%b" % (len(self.chunk), b" LAST" if self.is_last else b"", self.chunk),)

    @property
    def must_end_group(self) -> bool:
        """False (RFC 3030 4.2)."""
        return False

    @property
    def content(self) -> bytes | None:
        """The octets of the chunk."""
        return self.chunk

    def final_replies(self, recipients: int, *, lmtp: bool = False) -> int:
        """Return 1; for the last chunk in LMTP the number of accepted recipients, which may be 0 (RFC 2033 4.3)."""
        return recipients if lmtp and self.is_last else 1


@dataclass(frozen=True, slots=True)
class AuthStep(Step):
    """AUTH with its responses, each of which is sent after a 334 (RFC 4954)."""

    mechanism: str
    """The name of the mechanism."""
    initial: bytes | None = None
    """The initial response in base64, or None (the default) for no initial response."""
    responses: tuple[bytes, ...] = ()
    """The further responses in base64, without CR LF. `*` cancels the exchange."""

    @property
    def verb(self) -> str:
        """`AUTH`."""
        return "AUTH"

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The command line, and a line for each response."""
        words = [b"AUTH", self.mechanism.encode(), *([] if self.initial is None else [self.initial])]
        return (b" ".join(words) + b"\r\n", *(response + b"\r\n" for response in self.responses))

    @property
    def continues(self) -> int:
        """334, or 0 without responses."""
        return 334 if self.responses else 0


@dataclass(frozen=True, slots=True)
class TlsStep(Step):
    """STARTTLS. After a 220 the client starts the handshake."""

    injected: bytes = b""
    """Octets that follow STARTTLS in plaintext, as an attacker would insert them. Default: none.

    The server has to discard these octets (RFC 3207 section 4.2)."""

    @property
    def verb(self) -> str:
        """`STARTTLS`."""
        return "STARTTLS"

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The command line and the injected octets."""
        return (b"STARTTLS\r\n" + self.injected,)

    @property
    def continues(self) -> int:
        """220: the handshake follows."""
        return 220


@dataclass(frozen=True, slots=True)
class RawStep(Step):
    """Octets that do not end in CR LF. No reply is needed, because the line may continue in the next step."""

    octets: bytes
    """The octets."""

    @property
    def verb(self) -> str:
        """The verb of the first line, in upper case; empty without a verb."""
        return verb_of(self.octets.partition(b"\n")[0].rstrip(b"\r"))

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The octets."""
        return (self.octets,)

    @property
    def must_end_group(self) -> bool:
        """False, because no reply is needed."""
        return False

    def final_replies(self, recipients: int, *, lmtp: bool = False) -> int:
        """Return 0."""
        return 0


def groups_of(steps: Iterable[Step], *, pipelined: bool, lmtp: bool = False) -> list[bytes]:
    """Return the octets of `steps` in groups. After each group a client waits for the replies.

    The groups are for a client that sends all pieces, whatever the replies are. Each group gets at least one reply, if
    the last step gets a reply: a step that may have no reply is joined with the next step.

    Args:
        steps: The steps in order.
        pipelined: Whether commands are sent together as far as RFC 2920 permits. A command may follow a body.
        lmtp: Whether the protocol is LMTP, in which the last chunk of a message without recipients has no reply.
    """
    groups: list[bytes] = []
    is_open = False
    for octets, ends_group in _pieces(steps, pipelined=pipelined, lmtp=lmtp):
        if is_open:
            groups[-1] += octets
        else:
            groups.append(octets)
        is_open = not ends_group

    return groups


def _pieces(steps: Iterable[Step], *, pipelined: bool, lmtp: bool) -> Iterator[tuple[bytes, bool]]:
    # A client that does not look at the replies can get stuck after a line that looks like DATA or BDAT, if the server
    # accepts the line. So such a line is followed by the octets that the server then waits for.
    for step in steps:
        *first, last = step.pieces
        yield from ((piece, True) for piece in first)
        if step.final_replies(0, lmtp=lmtp) == 0 and not isinstance(step, BodyStep):
            yield last, False
        elif isinstance(step, LineStep) and step.verb in _COMPLETED_BY:
            yield last + _COMPLETED_BY[step.verb], True
        else:
            yield last, not pipelined or (step.must_end_group and not first)


_COMPLETED_BY = {"DATA": b".\r\n", "BDAT": b"NOOP\r\n"}


show_texts(globals())
