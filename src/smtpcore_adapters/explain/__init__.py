"""Explain a recorded dialogue: the events and the state of each line, and the breaches of the RFCs.

`read(octets)` parses a transcript in one of several formats, or the octets of one side, and returns a recording for
each session. `join` makes a recording from the octets of both sides. `explain` replays a recording through a
`smtpcore.Connection`.
"""

from smtpcore import show_texts

from ._recording import MAX_OCTETS, Item, Recording, Side, Unreadable, join, read
from ._replay import Explained, explain
from ._violations import Breach

__all__ = ["MAX_OCTETS", "Breach", "Explained", "Item", "Recording", "Side", "Unreadable", "explain", "join", "read"]

show_texts(globals())
