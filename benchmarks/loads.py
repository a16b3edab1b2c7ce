"""The dialogues that clients hold with a server in the benchmarks, by name."""

# A dialogue is a sequence of steps: octets that are sent at once, and the replies that must arrive before the next
# step. All octets and patterns are prepared before the clock starts.

import re
from dataclasses import dataclass
from functools import cache
from re import Pattern

from .traffic import DATA, DOTS_SOMETIMES, EHLO, MAIL, NO_DOTS, QUIT, RCPT, Dots, body_of


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a dialogue."""

    octets: bytes
    """The octets that are sent at once."""
    replies: Pattern[bytes]
    """The pattern of all replies to the step."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The steps of one client."""

    opening: tuple[Step, ...]
    message: tuple[Step, ...]
    """The steps of a message, repeated for each message."""
    closing: tuple[Step, ...] = ()
    """The steps after each message, if each message has its own connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The work of several clients at the same time."""

    title: str
    clients: int = 32
    size: int = 2_000
    """The octets of a message."""
    dots: Dots = NO_DOTS
    recipients: int = 1
    pipelined: str = ""
    """`envelope`: MAIL, RCPT and DATA are one group. `all`: the group also has the body before them (RFC 2920)."""
    one_per_connection: bool = False
    in_octets: bool = False
    """Whether MB are counted instead of messages."""

    def dialogue(self) -> Dialogue:
        """Return the dialogue of each client."""
        body = body_of(self.size, self.dots)
        envelope = [MAIL, *[RCPT] * self.recipients, DATA]
        group = Step(b"".join(envelope), _replies(*[250] * (len(envelope) - 1), 354))
        if self.pipelined == "all":
            message = (Step(body + group.octets, _replies(250, *[250] * (len(envelope) - 1), 354)),)
            return Dialogue((*OPENING, group), message)

        steps = [Step(line, _replies(354 if line == DATA else 250)) for line in envelope]
        ahead = [group] if self.pipelined else steps
        closing = (Step(QUIT, _replies(221)),) if self.one_per_connection else ()
        return Dialogue(OPENING, (*ahead, Step(body, _replies(250))), closing)


@cache
def _replies(*codes: int) -> Pattern[bytes]:
    # [^\n] instead of a dot, so that each part matches one line and the last line is complete.
    return re.compile(b"".join(b"(?:%d-[^\n]*\n)*%d[ \r][^\n]*\n" % (code, code) for code in codes))


OPENING = (Step(b"", _replies(220)), Step(EHLO, _replies(250)))

THROUGHPUT = {
    "small": Load(title="2 KB, many per connection"),
    "connections": Load(title="2 KB, one per connection", one_per_connection=True),
    "envelope": Load(title="2 KB, envelope pipelined", pipelined="envelope"),
    "pipelined": Load(title="2 KB, all pipelined", pipelined="all"),
    "recipients": Load(title="2 KB, 20 recipients", recipients=20),
    "medium": Load(title="75 KB, envelope pipelined", size=75_000, pipelined="envelope"),
    "large": Load(title="10 MB", clients=4, size=10_000_000, in_octets=True),
    "dots": Load(
        title="10 MB, a dot in every tenth line", clients=4, size=10_000_000, dots=DOTS_SOMETIMES, in_octets=True
    ),
}
LOADS = {
    **THROUGHPUT,
    "background": Load(title="100 MB", clients=1, size=100_000_000, in_octets=True),
    "paced": Load(title="2 KB at a fixed rate", clients=32),
    "idle": Load(title="idle sessions", clients=2_000),
}
