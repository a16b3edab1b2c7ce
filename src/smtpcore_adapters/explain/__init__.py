"""Explain a recorded dialogue: what each line means, where it leads, and what in it the RFCs forbid.

`read(octets)` makes recordings of a transcript in one of several formats, or of what one end has sent; `join` makes one
of what both ends have sent. `explain` walks a recording through a `smtpcore.Connection`.
"""

from ._recording import Item, Recording, Side, Unreadable, join, read
from ._replay import Explained, explain
from ._violations import Breach

__all__ = ["Breach", "Explained", "Item", "Recording", "Side", "Unreadable", "explain", "join", "read"]
