"""Move mail from a queue of JetStream to its destination: `smtpcore drain` as functions."""

from smtpcore import show_texts

from ._asyncio import Deliver, drain, run
from ._deliveries import NextServer, ToStore
from ._schedule import Schedule

__all__ = ["Deliver", "NextServer", "Schedule", "ToStore", "drain", "run"]

show_texts(globals())
