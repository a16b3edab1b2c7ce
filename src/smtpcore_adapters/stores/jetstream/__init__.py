"""Mail in a replicated log: a store that writes messages into NATS JetStream, and a consumer that reads them.

A server stores each message with a `JetStream`, and answers 250 only after a quorum of the cluster has acknowledged the
message. Programs on any machine read the messages with `consume`. `docs/jetstream.md` describes the streams, the
records and the failures.
"""

from smtpcore import show_texts

from ..._extras import from_extra
from ._options import JetStreamOptions

with from_extra("nats"):
    from ._consumer import QueuedMessage, consume
    from ._store import JetStream

__all__ = ["JetStream", "JetStreamOptions", "QueuedMessage", "consume"]

show_texts(globals())
