"""The types of handlers, for type checkers: the argument and the results of each kind."""

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from smtpcore import (
    Bdat,
    Burl,
    ConnectionOpened,
    Data,
    Ehlo,
    Etrn,
    Expn,
    Helo,
    Help,
    InvalidCommand,
    Lhlo,
    Mail,
    Noop,
    Path,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    UnknownCommand,
    Vrfy,
    Xclient,
    Xforward,
)
from smtpcore.sasl import Answer, Question

from ._header import Header
from ._message import Message
from ._notifications import AtOnce, Drop, Reason

if TYPE_CHECKING:
    from ._session import Session

E = TypeVar("E")
R = TypeVar("R")

Handles: TypeAlias = "Callable[[Session, E], R | Awaitable[R]]"
"""A function, or a coroutine function, that gets the session and an `E`, and returns an `R`."""

Replies: TypeAlias = (
    Mapping[Path, Reply] | Mapping[str, Reply] | Mapping[Path | str, Reply] | list[Reply] | tuple[Reply, ...]
)
"""A reply for each recipient of a message, in LMTP: by path or text, or in the order of the recipients."""

# One variable for each kind of handler: a decorator returns the function with the type that the function had before.
OnBdat = TypeVar("OnBdat", bound="Handles[Bdat, Reply | None]")
OnData = TypeVar("OnData", bound="Handles[Data, Reply | None]")
OnEhlo = TypeVar("OnEhlo", bound="Handles[Ehlo, Reply | None]")
OnEtrn = TypeVar("OnEtrn", bound="Handles[Etrn, Reply | None]")
OnExpn = TypeVar("OnExpn", bound="Handles[Expn, Reply | None]")
OnHelo = TypeVar("OnHelo", bound="Handles[Helo, Reply | None]")
OnHelp = TypeVar("OnHelp", bound="Handles[Help, Reply | None]")
OnLhlo = TypeVar("OnLhlo", bound="Handles[Lhlo, Reply | None]")
OnMail = TypeVar("OnMail", bound="Handles[Mail, Reply | None]")
OnNoop = TypeVar("OnNoop", bound="Handles[Noop, Reply | None]")
OnQuit = TypeVar("OnQuit", bound="Handles[Quit, Reply | None]")
OnRcpt = TypeVar("OnRcpt", bound="Handles[Rcpt, Reply | None]")
OnRset = TypeVar("OnRset", bound="Handles[Rset, Reply | None]")
OnStartTls = TypeVar("OnStartTls", bound="Handles[StartTls, Reply | None]")
OnVrfy = TypeVar("OnVrfy", bound="Handles[Vrfy, Reply | None]")
OnXclient = TypeVar("OnXclient", bound="Handles[Xclient, Reply | None]")
OnXforward = TypeVar("OnXforward", bound="Handles[Xforward, Reply | None]")
OnConnect = TypeVar("OnConnect", bound="Handles[ConnectionOpened, Reply | Drop | None]")
OnDefault = TypeVar("OnDefault", bound="Handles[UnknownCommand, Reply | None]")
OnInvalid = TypeVar("OnInvalid", bound="Handles[InvalidCommand, Reply | None]")
OnError = TypeVar("OnError", bound="Handles[BaseException, Reply | None]")
OnAuth = TypeVar("OnAuth", bound="Handles[Question, Answer | Reply]")
OnHeader = TypeVar("OnHeader", bound="Handles[Header, Reply | AtOnce | None]")
OnMessage = TypeVar("OnMessage", bound="Handles[Message, Reply | AtOnce | Replies | None]")
OnDisconnect = TypeVar("OnDisconnect", bound="Handles[Reason, object]")
OnBurl = TypeVar("OnBurl", bound="Handles[Burl, bytes | AsyncIterable[bytes] | Reply | None]")
