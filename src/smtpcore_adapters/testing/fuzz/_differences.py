"""The differences between two servers that play the same session."""

# A difference is more or less important: the higher its rank, the less. If the same body ends at different places, an
# attacker can smuggle a message from one server to the other. Different policies are the least important.

from dataclasses import dataclass, field
from enum import IntEnum

from ..steps import BodyStep, ChunkStep
from ._laws import Evidence
from ._plans import Experiment
from ._player import End, Exchange, Recording


class Rank(IntEnum):
    """The importance of a difference, the most important first."""

    BODY = 0
    """The same octets are one message at one server and not at the other: SMTP smuggling is possible."""
    REPLIES = 1
    """The number of replies differs, or one of the servers stops."""
    STATE = 2
    """A command without an address is accepted by one of the servers."""
    POLICY = 3
    """A sender, a recipient, a message or a malformed line is accepted by one of the servers."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between two servers."""

    rank: Rank
    """The importance."""
    verb: str
    """The verb of the step."""
    text: str
    """The two behaviours."""
    experiment: Experiment | None = None
    """The smallest session that shows the difference."""
    recordings: tuple[Recording, ...] = ()
    """The recordings of both servers."""

    @property
    def signature(self) -> tuple[Rank, str, str]:
        """The rank, the verb and the text: the same for the same difference."""
        return self.rank, self.verb, self.text


@dataclass(slots=True)
class Comparison:
    """The result of a run."""

    differences: list[Difference] = field(default_factory=list)
    """The differences, the most important first."""
    notes: list[str] = field(default_factory=list)
    """Remarks about the servers."""
    sessions: int = 0
    """The number of sessions at both servers together."""


def difference_of(left: Evidence, right: Evidence) -> Difference | None:
    """Return the first difference between the same session at two servers, or None."""
    one, other = left.recordings[0], right.recordings[0]
    if End.LOOSE in (one.end, other.end):
        return None  # after octets without CR LF the number of replies is not defined
    for here, there in zip(one.exchanges, other.exchanges, strict=False):
        if found := _difference_of_exchanges(here, there):
            return found
    if one.end is not other.end:
        return _difference_of_ends(one, other)

    counts = [len(set(each.deliveries[0] or ())) if each.deliveries else None for each in (left, right)]
    if None not in counts and counts[0] != counts[1] and len(one.messages) == len(other.messages):
        return Difference(Rank.BODY, "DATA", f"{counts[0]} and {counts[1]} different messages were delivered")

    return None


def _difference_of_exchanges(here: Exchange, there: Exchange) -> Difference | None:
    codes = here.codes, there.codes
    if not all(codes) or _classes(here) == _classes(there):
        return None

    verb = here.step.verb
    text = " and ".join("a refusal" if code[-1] >= 400 else f"{code[-1] // 100}yz" for code in codes)
    is_state = verb in ("RSET", "NOOP", "QUIT", "EHLO", "LHLO", "HELO", "STARTTLS")
    if verb in ("DATA", "BDAT") and here.recipients and there.recipients and len(codes[0]) != len(codes[1]):
        is_state = True
    return Difference(Rank.STATE if is_state else Rank.POLICY, verb or "a malformed line", text)


def _classes(exchange: Exchange) -> list[bool]:
    return [code >= 400 for code in exchange.codes]


def _difference_of_ends(one: Recording, other: Recording) -> Difference:
    exchanges = min(one.exchanges, other.exchanges, key=len)
    bodies = [each for each in exchanges if isinstance(each.step, BodyStep | ChunkStep) and each.codes]
    has_surplus = End.SURPLUS in (one.end, other.end)
    text = f"{one.end.value} and {other.end.value}"
    if has_surplus and bodies:
        return Difference(Rank.BODY, bodies[-1].step.verb, f"the body ends at different places ({text})")

    verb = exchanges[-1].step.verb if exchanges else "the connection"
    return Difference(Rank.REPLIES, verb or "a malformed line", f"the session ends differently: {text}")
