"""Measure the waits of one end of a session, and find the deadline of the current wait."""

# A per-read timeout can be defeated by sending one octet just before it expires. So waits add up: for a command line
# until the line is complete, for a reply until the whole reply has arrived, for a message until its end. Only `block`
# starts again with each octet, and each octet of a message extends its deadline at the minimum rate.
#
# The time of your own program does not count. `tick` is called before each wait, and again after `receive_data`, so
# that two kinds of intervals alternate:
#
#     tick  (wait)  receive_data  tick  (next_event, handlers, send)  tick  (wait)  receive_data  tick ...
#
# An interval belongs to the program if a reply was pending at its beginning, or if during the interval the connection
# took input out of its buffer, but received nothing. All other intervals are waits. If a program calls `tick` less
# often, its intervals are longer, and count as waits as a whole: the peer gets less time, never more.
#
# `worked` is the sum of the intervals of the program. `now - worked` is a clock that stands still while the program
# works. The starts of waits are times of that clock. So while a wait lasts, its deadline does not change at all, and a
# program that sleeps until the deadline needs no tolerance for rounding.
#
# The measurement itself is in `Endpoint.tick`, which runs twice for each command: a further call would cost time.
#
# Input that arrives after the deadline may complete the command. So the first `tick` after input never ends a wait: the
# next `tick` does, if the command is still incomplete.

from math import inf
from typing import Final

from ._budgets import Budgets, ClientBudgets
from ._events import TimedOut
from ._states import Wait


class Timer:
    """Measures the waits of one connection, from the first `tick` on."""

    __slots__ = (
        "_item",
        "_item_from",
        "_message",
        "_message_from",
        "_message_octets",
        "_of",
        "budget",
        "deadline",
        "now",
        "octet_from",
        "opened",
        "received",
        "taken",
        "timed_out",
        "wait",
        "was_input",
        "worked",
    )

    def __init__(self, now: float) -> None:
        self.now = self.opened = now
        self.deadline = inf
        """The time at which the current wait has to end."""
        self.budget = ""
        """The name of the budget that sets the deadline."""
        self.wait = Wait.NOTHING
        """The kind of the current wait."""
        self.timed_out: TimedOut | None = None
        """The event that `next_event` has to return next."""

        self.worked = 0.0
        """Seconds for which the program worked, and did not wait for the peer."""
        self.received = 0
        self.taken = 0
        """Octets received, and octets taken out of the receive buffer, up to the last tick."""
        self.was_input = False
        """Whether input arrived before the last tick."""
        self.octet_from = self._item_from = self._message_from = now
        """The starts of the waits for the next octet, for the rest of a line or reply, and for the rest of a message.
        These are times of the clock that stands still while the program works."""
        self._of: object = None
        self._item = 0
        """A number that identifies the awaited line or reply. For a line: its position in the stream. For a reply: the
        number of replies that the request in `_of` still needs."""
        self._message: object = None
        """The message that is being received, or None."""
        self._message_octets = 0
        """Octets received before the first wait within the message."""

    def stop(self) -> None:
        """End the wait: the program has to act, or the session is over."""
        self.wait = Wait.NOTHING
        self.deadline = inf
        self.timed_out = None

    def await_client(self, wait: Wait, budgets: Budgets, message: object | None, line: int | None) -> None:
        """Set the deadline of a server.

        `message` is the message that is being received. `line` is the position in the stream of octets at which the
        current line begins; None while the rest of a faulty line is being skipped.
        """
        worked = self.worked
        at = self.now - worked
        if (line is not None and line != self._item) or wait is not self.wait:
            self._item = self._item if line is None else line
            self._item_from = at
            self.wait = wait
        if message is not self._message:
            self._message = message
            self._message_from = at
            self._message_octets = self.received

        if wait is Wait.BODY:
            budget = "block" if budgets.block < budgets.body else "body"
            end = self.octet_from + getattr(budgets, budget)
        else:
            budget = _OF_SERVER[wait]
            end = self._item_from + getattr(budgets, budget)
        if message is not None and budgets.body_rate:
            end_of_message = (
                self._message_from + budgets.body + (self.received - self._message_octets) / budgets.body_rate
            )
            if end_of_message < end:
                end, budget = end_of_message, "body"
        end += worked
        if self.opened + budgets.session < end:
            end, budget = self.opened + budgets.session, "session"

        self.deadline, self.budget = end, budget

    def await_server(self, wait: Wait, budgets: ClientBudgets, budget: str, request: object, replies: int) -> None:
        """Set the deadline of a client that waits for a reply to `request`, which needs `replies` more."""
        if replies != self._item or request is not self._of or wait is not self.wait:
            self._item = replies
            self._of = request
            self._item_from = self.now - self.worked
            self.wait = wait

        end = self._item_from + getattr(budgets, budget) + self.worked
        if self.opened + budgets.session < end:
            end, budget = self.opened + budgets.session, "session"

        self.deadline, self.budget = end, budget


_OF_SERVER: Final = {
    Wait.GREETING: "greeting",
    Wait.COMMAND: "command",
    Wait.AUTH: "command",
    Wait.TLS: "handshake",
}
"""The budget of each wait of a server, except for a body."""
