r"""The SMTP protocol without I/O.

Pass received bytes in, take typed events out, answer each event with a reply, and send the bytes of `data_to_send`.

>>> from smtpcore import NEED_DATA, Config, Connection, Mail, Rcpt, Reply
>>> conn = Connection(Config(hostname="mx.example.org"))
>>> conn.receive_data(b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nQUIT\r\n")
>>> while (event := conn.next_event()) is not NEED_DATA and conn.state.name != "CLOSED":
...     match event:
...         case Mail(reverse_path=sender) if sender.domain == "client.example":
...             _ = conn.answer(event, Reply(250, "A friend", enhanced="2.1.0"))
...         case _:
...             _ = conn.answer(event)
>>> print(conn.data_to_send().decode().replace("\r\n", "\n").rstrip())
220 mx.example.org ESMTP
250-mx.example.org
250-PIPELINING
250-SIZE 52428800
250-8BITMIME
250-SMTPUTF8
250-CHUNKING
250-BINARYMIME
250-ENHANCEDSTATUSCODES
250-VRFY
250 HELP
250 2.1.0 A friend
221 2.0.0 mx.example.org closing
"""

from ._addresses import Mailbox, Path
from ._budgets import Budgets, ClientBudgets
from ._client import ClientConnection
from ._command import Command, UnknownCommand
from ._commands import Auth, Bdat, Data, Ehlo, Expn, Helo, Help, Lhlo, Mail, Noop, Quit, Rcpt, Rset, StartTls, Vrfy
from ._config import OFF_BY_DEFAULT, BareNewlines, Bodies, ClientConfig, Config, Tolerance, given_fields
from ._connection import COMPILED, Connection
from ._endpoint import Transaction
from ._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import (
    NEED_DATA,
    NEED_PART,
    NEED_REPLY,
    NEED_TLS,
    Answered,
    AuthCancel,
    AuthResponse,
    BodyAborted,
    ChunkEnd,
    ClientEvent,
    ConnectionClosed,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    HeaderEnd,
    InvalidCommand,
    InvalidData,
    Question,
    Request,
    Signal,
    TimedOut,
)
from ._extensions._auth import Submitter
from ._extensions._builtin import EXTENSIONS
from ._extensions._burl import Burl
from ._extensions._definition import Extension, ExtensionCommand, NextHop, Parameter, relay_or_drop, relay_or_refuse
from ._extensions._etrn import Etrn
from ._extensions._futurerelease import HoldLimits
from ._extensions._limits import SessionLimits
from ._extensions._rrvs import NoSupport, ValidSince
from ._extensions._xclient import Attributes, Xclient
from ._extensions._xforward import Xforward
from ._fields import check_fields, check_values
from ._help import show_texts, texts_of
from ._replies import Challenge, Reply, ReplyClass, ReplyCode
from ._state import State, Wait
from ._xtext import decode_xtext, encode_xtext
from .parameters import BodyType, ByMode, DeliverBy, EnvelopeId, Notify, OriginalRecipient, Params, Ret

__version__ = "0.2.0"

__all__ = ["COMPILED", "NEED_DATA", "NEED_PART", "NEED_REPLY", "NEED_TLS"]
__all__ += ["BareNewlines", "Bodies", "ClientConfig", "ClientConnection", "Config"]
__all__ += ["Budgets", "ClientBudgets", "Connection", "Signal", "State", "Tolerance", "Transaction", "Wait"]
__all__ += ["LocalProtocolError", "ProtocolError", "RemoteProtocolError"]
__all__ += ["Auth", "Bdat", "Burl", "Command", "Data", "Ehlo", "Etrn", "Expn", "Helo", "Help", "Lhlo", "Mail", "Noop"]
__all__ += ["Quit", "Rcpt", "Rset", "StartTls", "Vrfy", "Xclient", "Xforward"]
__all__ += ["Answered", "AuthCancel", "AuthResponse", "BodyAborted", "ChunkEnd", "ClientEvent", "ConnectionClosed"]
__all__ += ["ConnectionOpened", "DataChunk", "DataEnd", "DataLine", "Event"]
__all__ += ["HeaderEnd", "InvalidCommand", "InvalidData", "Question", "Request", "TimedOut", "UnknownCommand"]
__all__ += ["Challenge", "Reply", "ReplyClass", "ReplyCode"]
__all__ += ["Attributes", "BodyType", "ByMode", "DeliverBy", "EnvelopeId", "HoldLimits", "Mailbox", "NoSupport"]
__all__ += ["Notify", "OriginalRecipient", "Params", "Path", "Ret", "SessionLimits", "Submitter", "ValidSince"]
__all__ += ["check_fields", "check_values", "decode_xtext", "encode_xtext", "given_fields", "show_texts", "texts_of"]
__all__ += ["EXTENSIONS", "OFF_BY_DEFAULT", "Extension", "ExtensionCommand", "NextHop", "Parameter"]
__all__ += ["relay_or_drop", "relay_or_refuse"]

show_texts(globals())
