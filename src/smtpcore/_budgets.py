"""Time budgets: how long each end of a session waits for its peer."""

# A connection reads no clock. `tick` states the time, and the connection compares the waits with these budgets. Only
# waits for the peer count: while the program works, for example on a reply, only the budget `session` is used up.

from dataclasses import dataclass, replace
from math import inf
from typing import Self

from ._errors import LocalProtocolError
from ._fields import check_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The time that a server grants its client, in seconds, and the minimum rate of a body.

    `math.inf` switches a budget off. Raises `LocalProtocolError` for a budget that is not more than 0.
    """

    greeting: float = 300.0
    """The time for the client's first command, 300 by default (RFC 5321 4.5.3.2.7). Before the greeting, the time for a
    PROXY header."""
    command: float = 300.0
    """The time until the next command is complete, 300 by default (RFC 5321 4.5.3.2.7). Octets do not extend it."""
    body: float = 300.0
    """The time for all waits within one message together, 300 by default. Each octet adds `1 / body_rate` seconds. No
    single wait may be longer than `body`."""
    body_rate: float = 500.0
    """The minimum average rate of a body, in octets per second, 500 by default; 0 for no minimum. The waits within a
    message of N octets may take `body + N / body_rate` seconds. Without a minimum, a few octets could take hours."""
    block: float = 300.0
    """The time for the next octets of a body, 300 by default (RFC 5321 4.5.3.2.5)."""
    session: float = 7200.0
    """The time for the whole session, 7200 by default. All time counts, from the first `tick`."""
    handshake: float = 60.0
    """The time for a TLS handshake, 60 by default. After this budget no reply can be sent."""
    send: float = 300.0
    """The time for the client to read what was written, 300 by default. After this budget no reply can be sent."""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientBudgets:
    """The time that a client grants its server, in seconds. The defaults are the minimums of RFC 5321 4.5.3.2.

    A budget until a reply covers the whole reply: a server cannot extend the wait by sending single octets or lines.
    `math.inf` switches a budget off. Raises `LocalProtocolError` for a budget that is not more than 0.
    """

    handshake: float = 60.0
    """The time for the TLS handshake, 60 by default."""
    greeting: float = 300.0
    """The time until the greeting, 300 by default (RFC 5321 4.5.3.2.1)."""
    mail: float = 300.0
    """The time until the reply to MAIL, 300 by default (RFC 5321 4.5.3.2.2)."""
    rcpt: float = 300.0
    """The time until the reply to RCPT, 300 by default (RFC 5321 4.5.3.2.3)."""
    data: float = 120.0
    """The time until the reply to DATA, 120 by default (RFC 5321 4.5.3.2.4)."""
    send: float = 180.0
    """The time to write a group of commands or a piece of a body, 180 by default (RFC 5321 4.5.3.2.5)."""
    end: float = 600.0
    """The time until the reply to the end of a body, 600 by default (RFC 5321 4.5.3.2.6). A shorter time may cause
    duplicates."""
    command: float = 300.0
    """The time until the reply to any other command, 300 by default."""
    quit: float = 5.0
    """The time until the reply to QUIT, 5 by default: no result depends on this reply."""
    session: float = inf
    """The time for the whole session, without limit by default. All time counts, from the first `tick`."""

    def __post_init__(self) -> None:
        _check(self)

    def at_most(self, seconds: float) -> Self:
        """Return these budgets, each of them except `session` shortened to at most `seconds`."""
        names = [name for name in self.__slots__ if name != "session"]
        return replace(self, **{name: min(getattr(self, name), seconds) for name in names})


def _check(budgets: Budgets | ClientBudgets) -> None:
    check_fields(budgets)
    for name in budgets.__slots__:
        value = getattr(budgets, name)
        if name == "body_rate" and not value >= 0:
            raise LocalProtocolError(f"body_rate is {value}, but must be at least 0")
        if name != "body_rate" and not value > 0:
            raise LocalProtocolError(f"the budget {name} is {value}, but must be more than 0 seconds")
