"""The decisions of a pool: the connection that each task gets, and the end of each connection."""

# This module does no I/O and never waits: `Pool` does the I/O, and holds a lock around each call.
#
# A slot stands for one task. The slot waits in a queue until it is granted. A granted slot either has an idle
# connection or permits its task to open a new one. At most `size` slots are granted or connections idle at any time. A
# slot keeps its place while its connection is replaced or closed, so that a server with a limit never sees one
# connection more.
#
# A server may end a connection after a number of messages, or refuse a further connection. The pool learns both limits
# from this 421. A server that is about to restart sends a 421 too, so a learnt limit is forgotten after a time.

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from smtpcore import Answered, Mail, Noop, Rset

C = TypeVar("C")

LEARNT_FOR = 3600.0
"""Seconds until a learnt limit is forgotten."""

_AT_ONCE = 5.0
"""Seconds of idleness after which a 421 probably means that the connection was idle for too long."""

# RFC 3463 3.4, 3.5: these codes mean a connection that was too slow or idle, and a system that is shutting down.
_NOT_A_LIMIT = frozenset({"4.3.2", "4.4.2"})

_BETWEEN_MESSAGES = (Mail, Noop, Rset, type(None))
"""The commands between two messages; None is the cause of an unsolicited 421."""


class Event(Protocol):
    """An event that one task waits for. Each framework has such a class."""

    def set(self) -> object: ...

    async def wait(self) -> object: ...


@dataclass(eq=False, slots=True)
class Pooled(Generic[C]):
    """A connection of a pool."""

    client: C
    opened: float
    """The time at which the connection was opened, in seconds."""
    most_uses: float = math.inf
    """The number of messages that the server has announced as its limit (MAILMAX, RFC 9422)."""
    most_recipients: float = math.inf
    """The number of recipients of one message that the server has announced as its limit (RCPTMAX)."""
    uses: int = 0
    """The number of messages that were begun."""
    is_reused: bool = False
    """Whether the connection was idle in the pool since it was opened."""
    last_used: float = field(init=False)
    """The time at which the last use ended, in seconds."""

    def __post_init__(self) -> None:
        self.last_used = self.opened


@dataclass(eq=False, slots=True)
class Slot(Generic[C]):
    """A task that has, or waits for, a connection."""

    event: Event
    """The event that is set when the slot is granted."""
    is_granted: bool = False
    connection: Pooled[C] | None = None
    """The connection; None for a granted slot that has to open one."""


class Slots(Generic[C]):
    """The slots and idle connections of a pool."""

    def __init__(self, name: str, size: int, max_age: float, max_uses: int, clock: Callable[[], float]) -> None:
        self._name = name
        self._size = size
        self._max_age = max_age
        self._max_uses = max_uses
        self._clock = clock
        self._waiting: deque[Slot[C]] = deque()
        self._idle: list[Pooled[C]] = []
        self._granted = 0
        """The number of granted slots, and of idle connections that are being closed."""
        self._closing: list[Event] = []
        """Events to set when the last connection is closed. The pool is closed if the list has events."""
        self._learnt_uses = _Learnt()
        self._learnt_size = _Learnt()

    # Limits

    @property
    def size(self) -> float:
        """The maximum number of connections."""
        return min(self._size, self._learnt_size.value_at(self._clock()))

    @property
    def max_uses(self) -> float:
        """The maximum number of messages of a connection."""
        return min(self._max_uses, self._learnt_uses.value_at(self._clock()))

    def is_fresh(self, connection: Pooled[C], recipients: int = 1) -> bool:
        """Return whether the connection may be used for another message with this number of recipients."""
        age = self._clock() - connection.opened
        # A message with more recipients than the server takes at once is sent several times.
        uses = connection.uses + max(1, math.ceil(recipients / connection.most_recipients))
        return age < self._max_age and uses <= min(self.max_uses, connection.most_uses)

    def learn(self, connection: Pooled[C], goodbye: Answered) -> None:
        """Learn the number of messages after which the server ends a connection, if its 421 shows such a limit."""
        is_idle = self._clock() - connection.last_used > _AT_ONCE
        if is_idle or goodbye.reply.enhanced in _NOT_A_LIMIT or not isinstance(goodbye.to, _BETWEEN_MESSAGES):
            return

        # The MAIL that is answered with the 421 counts as a use, but the server does not count it as a message.
        complete = connection.uses - isinstance(goodbye.to, Mail)
        if complete:
            self._learnt_uses = _Learnt(complete, self._clock() + LEARNT_FOR)

    # Slots

    def request(self, event: Event) -> Slot[C]:
        """Return a new slot at the end of the queue. Raises `RuntimeError` after `close`."""
        if self._closing:
            raise RuntimeError(f"the pool of connections to {self._name} is closed")

        slot: Slot[C] = Slot(event)
        self._waiting.append(slot)
        self._grant()
        return slot

    def requeue(self, slot: Slot[C], event: Event) -> bool:
        """Let a slot for which the server has refused a further connection wait at the head of the queue.

        Return False if there is no other connection to wait for. For some time, the pool has no more connections than
        these others.
        """
        others = self._granted - 1 + len(self._idle)
        if not others:
            return False

        self._learnt_size = _Learnt(others, self._clock() + LEARNT_FOR)
        self._granted -= 1
        slot.is_granted, slot.event = False, event
        self._waiting.appendleft(slot)
        self._grant()
        return True

    def may_keep(self, connection: Pooled[C]) -> bool:
        """Return whether a connection should stay open after its use."""
        return self.is_fresh(connection) and (bool(self._waiting) or not self._closing)

    def give_back(self, slot: Slot[C]) -> list[Pooled[C]]:
        """End a granted slot, and keep its connection. Return idle connections that are too old.

        The caller has to close them, and to call `count_closed` for each.
        """
        assert slot.connection, "a slot without a connection ends with `end`"
        slot.connection.last_used = self._clock()
        slot.connection.is_reused = True
        self._idle.append(slot.connection)
        self.end(slot)
        return self._take([each for each in self._idle if not self.is_fresh(each)])

    def end(self, slot: Slot[C]) -> None:
        """End a slot. Its connection is closed or was never opened."""
        if slot.is_granted:
            self.count_closed()
        else:
            self._waiting.remove(slot)
            self._check_end()

    def count_closed(self) -> None:
        """Note that a connection is closed, so that another slot can be granted."""
        self._granted -= 1
        self._grant()

    def close(self, event: Event) -> list[Pooled[C]]:
        """Refuse new slots, and return the idle connections; the caller has to close them, as after `give_back`.

        Slots that wait are still granted. `event` is set when all slots have ended and all connections are closed.
        """
        self._closing.append(event)
        idle = self._take(self._idle[:])
        self._check_end()
        return idle

    def _take(self, connections: list[Pooled[C]]) -> list[Pooled[C]]:
        for each in connections:
            self._idle.remove(each)
        self._granted += len(connections)
        return connections

    def _grant(self) -> None:
        while self._waiting and self._granted < self.size:
            slot = self._waiting.popleft()
            # Take the connection that was used last. Then the others become old when there are fewer messages.
            slot.connection = self._idle.pop() if self._idle else None
            self._granted += 1
            slot.is_granted = True
            slot.event.set()

        self._check_end()

    def _check_end(self) -> None:
        if self._granted == 0 and not self._waiting:
            for event in self._closing:
                event.set()


@dataclass(frozen=True, slots=True)
class _Learnt:
    """A limit that was learnt from the server, until it is forgotten."""

    value: float = math.inf
    until: float = 0.0

    def value_at(self, now: float) -> float:
        return self.value if now < self.until else math.inf
