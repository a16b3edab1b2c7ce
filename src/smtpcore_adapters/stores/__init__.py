"""Stores: destinations of messages, all behind one small protocol.

A store opens a `Writer` for each message. The `StoreHandler` writes the message in blocks while it arrives, and answers
the client. `docs/stores.md` shows how to write a store of your own.
"""

from smtpcore import show_texts

from ._envelope import Envelope
from ._handler import BLOCK_SIZE, StoreHandler, received_field
from ._store import Runtime, Store, StoreFull, StoreRefusal, StoreUnavailable, Writer

__all__ = [
    "BLOCK_SIZE",
    "Envelope",
    "Runtime",
    "Store",
    "StoreFull",
    "StoreHandler",
    "StoreRefusal",
    "StoreUnavailable",
    "Writer",
    "received_field",
]

show_texts(globals())
