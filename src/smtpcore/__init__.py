r"""SMTP as an object without I/O.

Bytes go in, typed events come out; the program answers with replies, and bytes to send come out.

>>> from smtpcore import NEED_DATA, PAUSED, Config, Connection, Mail, Rcpt, Reply
>>> conn = Connection(Config(hostname="mx.example.org"))
>>> conn.receive_data(b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nQUIT\r\n")
>>> while (event := conn.next_event()) is not NEED_DATA and conn.state.name != "CLOSED":
...     match event:
...         case Mail(reverse_path=sender) if sender.domain == "client.example":
...             reply = Reply(250, "A friend", enhanced="2.1.0")
...         case _:
...             reply = conn.default_reply(event)
...     _ = conn.send(reply)
>>> print(conn.data_to_send().decode().replace("\r\n", "\n").rstrip())
220 mx.example.org ESMTP
250-mx.example.org
250-PIPELINING
250-SIZE 52428800
250-8BITMIME
250-SMTPUTF8
250-ENHANCEDSTATUSCODES
250-VRFY
250 HELP
250 2.1.0 A friend
221 2.0.0 mx.example.org closing
"""

from ._addresses import Mailbox, Path
from ._commands import (
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
)
from ._config import BareNewlines, Bodies, Config
from ._connection import Connection, Transaction
from ._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import (
    NEED_DATA,
    PAUSED,
    ConnectionClosed,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    InvalidCommand,
    InvalidData,
    Signal,
    UnknownCommand,
)
from ._extensions import EXTENSIONS, Extension, Parameter
from ._params import BodyType, Params
from ._replies import Reply, ReplyClass, ReplyCode
from ._state import State, Wait

__version__ = "0.1.0"

__all__ = [
    "EXTENSIONS",
    "NEED_DATA",
    "PAUSED",
    "BareNewlines",
    "Bodies",
    "BodyType",
    "Command",
    "Config",
    "Connection",
    "ConnectionClosed",
    "ConnectionOpened",
    "Data",
    "DataChunk",
    "DataEnd",
    "DataLine",
    "Ehlo",
    "Event",
    "Expn",
    "Extension",
    "Helo",
    "Help",
    "InvalidCommand",
    "InvalidData",
    "LocalProtocolError",
    "Mail",
    "Mailbox",
    "Noop",
    "Parameter",
    "Params",
    "Path",
    "ProtocolError",
    "Quit",
    "Rcpt",
    "RemoteProtocolError",
    "Reply",
    "ReplyClass",
    "ReplyCode",
    "Rset",
    "Signal",
    "StartTls",
    "State",
    "Transaction",
    "UnknownCommand",
    "Vrfy",
    "Wait",
]
