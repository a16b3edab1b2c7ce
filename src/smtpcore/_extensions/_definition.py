"""The definition of an ESMTP extension (RFC 5321 2.2)."""

# One `Extension` object holds everything that the package needs to know about an extension: the line in the reply to
# EHLO, the parameters of MAIL and RCPT, the verbs, and the rules for both. Server, client and relay read the same
# object, so a server announces exactly what it accepts. The built-in extensions are defined in the same way, one module
# of this package each; `_builtin.py` lists them.

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Generic, TypeVar, overload

from .._addresses import Path
from .._command import Command
from .._config import Config
from .._errors import LocalProtocolError
from .._fields import Checked, check_argument
from .._replies import Reply
from .._states import State

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop(Checked):
    """The server to which a relay sends a command: the input of the relay rules of parameters."""

    offers: Mapping[str, object]
    """The extensions that the server offers: the value of `ClientConnection.extensions`."""
    path: Path
    """The address in the command."""
    is_private: bool = False
    """Whether the connection to the server uses verified TLS."""
    is_trusted: bool = False
    """Whether the client of the relay is authenticated."""


def relay_or_drop(keyword: str) -> Callable[[_T, NextHop], _T | None]:
    """Return a relay rule: leave the parameter out for servers that do not offer the extension `keyword`."""
    return lambda value, hop: value if keyword in hop.offers else None


def relay_or_refuse(keyword: str, refusal: Reply) -> Callable[[_T, NextHop], _T | Reply]:
    """Return a relay rule: refuse the command with `refusal` if the server does not offer the extension `keyword`."""
    check_argument("refusal", refusal, Reply)
    return lambda value, hop: value if keyword in hop.offers else refusal


@dataclass(frozen=True, eq=False)  # not slots=True: `Parameter[int](...)` would fail in Python 3.11
class Parameter(Checked, Generic[_T]):
    """A parameter of MAIL or RCPT, and the typed key to its value: `TENANT.of(mail.params)`."""

    keyword: str
    """The keyword in upper case."""
    kind: type[_T]
    """The type of the value. `str` of a value must return the text that `parse` accepts."""
    parse: Callable[[str], _T]
    """Return the value for the text after the `=`, or for "" if there is no `=`.

    If `parse` raises `ValueError` or `LocalProtocolError`, the text is malformed, and the server answers 501.
    """
    _: KW_ONLY
    octets: int
    """The octets that the parameter adds to the longest allowed command line (RFC 5321 4.5.3.1.4)."""
    enhanced: str = "5.5.4"
    """The enhanced status code for a malformed or repeated parameter."""
    carry: Callable[[str], _T] | None = None
    """Return the value for a text that `parse` may refuse, but that a relay can pass on unchanged.

    A client sends such a value; a server accepts it only with `Tolerance.LENIENT`. None: only `parse` is used.
    """
    relay: Callable[[_T, NextHop], _T | Reply | None] | None = None
    """Return the value to send to the next server, None to leave the parameter out, or a reply that refuses.

    Without this rule a relay passes the parameter on if the server offers its extension, and otherwise refuses it.
    """
    examples: tuple[_T, ...] = ()
    """Values for generated tests: `smtpcore_adapters.testing.strategies` draws from them."""

    def of(self, params: Mapping[str, object]) -> _T | None:
        """Return the value of this parameter in `params`. None if it is absent or has another type."""
        value = params.get(self.keyword)
        return value if isinstance(value, self.kind) else None

    @overload
    def __get__(self, params: None, owner: type) -> "Parameter[_T]": ...
    @overload
    def __get__(self, params: Mapping[str, object], owner: type) -> _T | None: ...
    def __get__(self, params: Mapping[str, object] | None, owner: type) -> "Parameter[_T] | _T | None":
        # As an attribute of a class, such as `Params`, a parameter is a typed property.
        return self if params is None else self.of(params)


@dataclass(frozen=True, slots=True)
class ExtensionCommand(Command):
    """Base class of the commands that extensions add."""

    states: ClassVar[frozenset[State]] = frozenset({State.READY})
    """The states in which the command is in sequence."""
    before_auth: ClassVar[bool] = False
    """Whether the command is accepted before authentication even if `Config.require_auth` is set."""
    default_reply: ClassVar[Reply] = Reply(502, "Command not implemented", enhanced="5.5.1")
    """The reply that `Connection.default_reply` returns for the command."""
    octets: ClassVar[int] = 0
    """The octets that the command adds to the longest allowed command line."""

    @classmethod
    def parse(cls, argument: str) -> "ExtensionCommand | Reply":
        """Return the command for the text after the verb, or a reply that refuses the text.

        If `parse` raises `ValueError` or `LocalProtocolError`, the server answers 501 with the text of the exception.
        By default the command takes no argument.
        """
        if argument:
            raise ValueError("the command takes no argument")

        return cls()

    def objection(self, terms: Any) -> Reply | None:
        """Return the reply that refuses the command on the terms of its extension, or None to allow it."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extension(Checked):
    """An ESMTP extension, such as this one with a parameter of MAIL; `docs/extensions.md` has a longer example.

    >>> from smtpcore import EXTENSIONS, Config, Connection, Extension, Parameter
    >>> TICKET = Parameter("XTICKET", int, int, octets=len(" XTICKET=") + 9)
    >>> tickets = Extension(keyword="XTICKETS", mail=(TICKET,))
    >>> conn = Connection(Config(hostname="mx.example.org"), extensions=(*EXTENSIONS, tickets))

    The reply to EHLO then lists `XTICKETS`, and `TICKET.of(mail.params)` is the number in a MAIL, or None.
    """

    keyword: str
    """The keyword in the reply to EHLO."""
    arguments: Callable[[Config], str] = lambda config: ""
    """Return the text after the keyword in the reply to EHLO."""
    parse_arguments: Callable[[str], object] = lambda text: text or True
    """Return the terms of the extension, a typed value, for the text after the keyword, which may be empty.

    If this function raises `ValueError` or `LocalProtocolError`, a client treats the extension as not offered. Without
    this function the terms are the text, or True if the text is empty.
    """
    offered: Callable[[Config, bool], bool] = lambda config, tls: True
    """Return whether the extension is offered. The second argument says whether TLS is active."""
    needs: frozenset[str] = frozenset()
    """Keywords of extensions that have to be enabled together with this one."""
    mail: tuple[Parameter[Any], ...] = ()
    """Parameters of MAIL. If two offered extensions define the same keyword, the later one applies."""
    rcpt: tuple[Parameter[Any], ...] = ()
    """Parameters of RCPT."""
    verbs: frozenset[str] = frozenset()
    """Verbs that are not implemented unless the extension is offered. The events are `UnknownCommand`s."""
    commands: tuple[type[ExtensionCommand], ...] = ()
    """Commands with classes of their own, which are not implemented unless the extension is offered."""
    objection: Callable[[Any, Mapping[str, object]], Reply | None] | None = None
    """Given the terms and the parameters, return the reply that refuses a MAIL or RCPT, or None to allow the command.

    The function is called for commands with well-formed parameters. The server's end answers with the reply. The
    client's end does not send such a command.
    """

    def announce(self, config: Config) -> str:
        """Return the line in the reply to EHLO."""
        return f"{self.keyword} {self.arguments(config)}".rstrip()

    def terms(self, config: Config) -> object:
        """Return the terms that a server announces. Raises `LocalProtocolError` if they cannot be parsed."""
        text = self.arguments(config)
        try:
            return self.parse_arguments(text)
        except ValueError as exc:
            raise LocalProtocolError(f"{self.keyword} announces {text!r}, which clients cannot parse: {exc}") from exc
