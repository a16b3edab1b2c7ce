"""The commands that a client sends, one class for each verb (RFC 5321 4.1.1)."""

# A command checks itself when it is constructed. The state tables say in which state a command is allowed, and the
# dialect says which parameters are offered. ETRN, BURL, XCLIENT and XFORWARD have their commands in `_extensions`.

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ._addresses import Path
from ._base64 import encode_base64
from ._command import Command
from ._errors import LocalProtocolError
from ._fields import check_argument, check_fields
from ._grammar import find_control, is_encodable, match_mechanism, unquote
from .parameters import NO_PARAMS, Params

_SPECIAL = re.compile(r'["\\]')
_match_flagged = re.compile(r".* SMTPUTF8", re.IGNORECASE | re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class _Hello(Command):
    domain: str
    """The name of the client: a domain or an address literal; under `Tolerance.LENIENT` any printable text."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not self.domain or not self.domain.isprintable() or self.domain != self.domain.strip(" "):
            raise LocalProtocolError(f"{self.domain!r} cannot be the name of a client: use printable text")

    def __str__(self) -> str:
        return f"{self.verb} {self.domain}"


@dataclass(frozen=True, slots=True)
class Lhlo(_Hello):
    """`LHLO domain`, the command that opens an LMTP session (RFC 2033 4.1)."""


@dataclass(frozen=True, slots=True)
class Helo(_Hello):
    """`HELO domain` (RFC 5321 4.1.1.1)."""


@dataclass(frozen=True, slots=True)
class Ehlo(_Hello):
    """`EHLO domain` (RFC 5321 4.1.1.1)."""


@dataclass(frozen=True, slots=True)
class Mail(Command):
    """`MAIL FROM:<path> parameters` (RFC 5321 4.1.1.2)."""

    reverse_path: Path
    """The sender, who gets notifications of failure. The null path is falsy."""
    params: Params = NO_PARAMS
    """The parameters of the message."""

    def __post_init__(self) -> None:
        if self.reverse_path.__class__ is not Path or self.params.__class__ is not Params:
            check_fields(self, TypeError)

    def __str__(self) -> str:
        return f"MAIL FROM:<{self.reverse_path}>{self.params}"


@dataclass(frozen=True, slots=True)
class Rcpt(Command):
    """`RCPT TO:<path> parameters` (RFC 5321 4.1.1.3).

    Raises `LocalProtocolError` for the null path.
    """

    forward_path: Path
    """The recipient."""
    params: Params = NO_PARAMS
    """The parameters of this recipient."""

    def __post_init__(self) -> None:
        if self.forward_path.__class__ is not Path or self.params.__class__ is not Params:
            check_fields(self, TypeError)
        if not self.forward_path.text:
            raise LocalProtocolError("a recipient cannot be the null path")

    def __str__(self) -> str:
        return f"RCPT TO:<{self.forward_path}>{self.params}"


@dataclass(frozen=True, slots=True, init=False)
class Data(Command):
    """`DATA` (RFC 5321 4.1.1.4)."""


@dataclass(frozen=True, slots=True)
class Bdat(Command):
    """`BDAT size [LAST]` (RFC 3030 section 2). The reply follows the end of the chunk, not this command."""

    size: int
    """The number of octets in the chunk."""
    last: bool = False
    """Whether the body ends with this chunk."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if self.size < 0:
            raise LocalProtocolError(f"a chunk cannot have {self.size} octets")

    def __str__(self) -> str:
        return f"BDAT {self.size}{' LAST' if self.last else ''}"


@dataclass(frozen=True, slots=True)
class Auth(Command):
    """`AUTH mechanism [initial-response]` (RFC 4954 section 4). Neither `repr` nor `str` shows the response."""

    mechanism: str
    """The SASL mechanism, in upper case."""
    initial_response: bytes | None = field(default=None, repr=False)
    """The initial response, decoded: None if the client sent none, `b""` for an empty response."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if match_mechanism(self.mechanism) is None:
            raise LocalProtocolError(f"{self.mechanism!r} is not the name of a SASL mechanism")

    def __str__(self) -> str:
        return f"AUTH {self.mechanism}{'' if self.initial_response is None else ' ***'}"

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF and the response included."""
        if self.initial_response is None:
            return f"AUTH {self.mechanism}\r\n".encode()

        # RFC 4954 section 4: "=" is an empty initial response.
        return f"AUTH {self.mechanism} {encode_base64(self.initial_response) or '='}\r\n".encode()


@dataclass(frozen=True, slots=True, init=False)
class Rset(Command):
    """`RSET` (RFC 5321 4.1.1.5)."""


@dataclass(frozen=True, slots=True, init=False)
class Quit(Command):
    """`QUIT` (RFC 5321 4.1.1.10)."""


@dataclass(frozen=True, slots=True, init=False)
class StartTls(Command):
    """`STARTTLS` (RFC 3207 section 4)."""


@dataclass(frozen=True, slots=True)
class _WithArgument(Command):
    argument: str = ""
    """The text after the verb. The quoting of a quoted string is resolved (RFC 5321 4.1.2)."""

    def __post_init__(self) -> None:
        check_argument("argument", self.argument, str)
        if self.argument and (find_control(self.argument) or not is_encodable(self.argument)):
            raise LocalProtocolError(f"argument {self.argument!r} has control characters")

    def __str__(self) -> str:
        return f"{self.verb} {self.argument}".rstrip()

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included. The argument is quoted if parsing would change it."""
        return f"{self.verb} {_quote(self.argument)}".rstrip().encode() + b"\r\n"


def _quote(text: str) -> str:
    # RFC 5321 4.1.2: a string that is not an atom should be quoted. Few servers resolve the quoting, so a string is
    # quoted only if the parser would otherwise return a different string.
    if unquote(text) == text.strip() == text and not _match_flagged(text):
        return text

    return '"' + _SPECIAL.sub(r"\\\g<0>", text) + '"'


@dataclass(frozen=True, slots=True)
class Noop(_WithArgument):
    """`NOOP [string]` (RFC 5321 4.1.1.9)."""


@dataclass(frozen=True, slots=True)
class Help(_WithArgument):
    """`HELP [string]` (RFC 5321 4.1.1.8)."""


@dataclass(frozen=True, slots=True)
class _Lookup(_WithArgument):
    smtputf8: bool = False
    """Whether the reply may contain UTF-8 (RFC 6531 3.7.4.2)."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not self.argument or find_control(self.argument) or not is_encodable(self.argument):
            raise LocalProtocolError(f"{self.argument!r} is not the name of a user or list")

    def __str__(self) -> str:
        return f"{self.verb} {self.argument}{' SMTPUTF8' if self.smtputf8 else ''}"

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included. The name is quoted if parsing would change it."""
        return f"{self.verb} {_quote(self.argument)}{' SMTPUTF8' if self.smtputf8 else ''}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Vrfy(_Lookup):
    """`VRFY string` (RFC 5321 4.1.1.6)."""


@dataclass(frozen=True, slots=True)
class Expn(_Lookup):
    """`EXPN string` (RFC 5321 4.1.1.7)."""


COMMANDS: Mapping[str, type[Command]] = {
    kind.verb: kind
    for kind in (Helo, Ehlo, Lhlo, Mail, Rcpt, Data, Bdat, Rset, Noop, Quit, Vrfy, Expn, Help, StartTls, Auth)
}
"""The commands by verb, without the commands of extensions."""

HELLOS: Final = frozenset({Helo, Ehlo, Lhlo})
"""The commands that open a session."""
