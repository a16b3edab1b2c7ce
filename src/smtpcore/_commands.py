"""What a client says."""

# RFC 5321 4.1.1, one class for each verb. A command is a value that was checked when it was made. Which commands may
# be said at a given point of the dialogue is not known here, nor which parameters are offered.

import re
from dataclasses import dataclass, field
from typing import ClassVar

from ._addresses import Path
from ._base64 import encode_base64
from ._errors import LocalProtocolError
from ._grammar import find_control, is_domain, is_encodable, match_atom, match_domain, match_mechanism, unquote
from .parameters import Attributes
from .parameters._params import NO_PARAMS, Params

XCLIENT_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

_SPECIAL = re.compile(r'["\\]')
_match_flagged = re.compile(r".* SMTPUTF8", re.IGNORECASE | re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Command:
    """Base of the commands that smtpcore knows."""

    verb: ClassVar[str] = ""
    """The word on the wire, in upper case."""

    def __str__(self) -> str:
        return self.verb

    def encode(self) -> bytes:
        """The octets for the wire, CR LF included. Raises `LocalProtocolError` if a parameter cannot be sent."""
        return f"{self}\r\n".encode()


@dataclass(frozen=True, slots=True)
class _Hello(Command):
    domain: str
    """How the client names itself: a domain or an address literal."""

    def __post_init__(self) -> None:
        # RFC 6531 3.7.1: the argument stays in ASCII, a U-label has to be sent as its A-label.
        if not self.domain.isascii() or not is_domain(self.domain):
            raise LocalProtocolError(f"{self.domain!r} is neither a domain nor an address literal")

    def __str__(self) -> str:
        return f"{self.verb} {self.domain}"


@dataclass(frozen=True, slots=True)
class Lhlo(_Hello):
    """`LHLO domain`, which opens an LMTP session (RFC 2033 4.1)."""

    verb: ClassVar[str] = "LHLO"


@dataclass(frozen=True, slots=True)
class Helo(_Hello):
    """`HELO domain` (RFC 5321 4.1.1.1)."""

    verb: ClassVar[str] = "HELO"


@dataclass(frozen=True, slots=True)
class Ehlo(_Hello):
    """`EHLO domain` (RFC 5321 4.1.1.1)."""

    verb: ClassVar[str] = "EHLO"


@dataclass(frozen=True, slots=True)
class Mail(Command):
    """`MAIL FROM:<path> parameters` (RFC 5321 4.1.1.2)."""

    verb: ClassVar[str] = "MAIL"

    reverse_path: Path
    """The sender, to whom failures are reported. The null path is falsy."""
    params: Params = NO_PARAMS
    """What extensions say about the message."""

    def __post_init__(self) -> None:
        if self.reverse_path and "@" not in self.reverse_path.text:
            raise LocalProtocolError(f"sender {self.reverse_path} has no domain")

    def __str__(self) -> str:
        return f"MAIL FROM:<{self.reverse_path}>{self.params}"


@dataclass(frozen=True, slots=True)
class Rcpt(Command):
    """`RCPT TO:<path> parameters` (RFC 5321 4.1.1.3)."""

    verb: ClassVar[str] = "RCPT"

    forward_path: Path
    """The recipient; only `Postmaster` may be without domain."""
    params: Params = NO_PARAMS
    """What extensions say about this recipient."""

    def __post_init__(self) -> None:
        if not self.forward_path:
            raise LocalProtocolError("a recipient cannot be the null path")

    def __str__(self) -> str:
        return f"RCPT TO:<{self.forward_path}>{self.params}"


@dataclass(frozen=True, slots=True)
class Data(Command):
    """`DATA` (RFC 5321 4.1.1.4)."""

    verb: ClassVar[str] = "DATA"


@dataclass(frozen=True, slots=True)
class Bdat(Command):
    """`BDAT size [LAST]` (RFC 3030 section 2). The reply is owed to the end of its octets, not to this."""

    verb: ClassVar[str] = "BDAT"

    size: int
    """How many octets of the body follow."""
    last: bool = False
    """Whether the body ends with them."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise LocalProtocolError(f"a chunk cannot have {self.size} octets")

    def __str__(self) -> str:
        return f"BDAT {self.size}{' LAST' if self.last else ''}"


@dataclass(frozen=True, slots=True)
class Burl(Command):
    """`BURL uri [LAST]`: a part of the body that the server shall fetch (RFC 4468 section 3)."""

    verb: ClassVar[str] = "BURL"

    uri: str
    """Where the part is."""
    last: bool = False
    """Whether the body ends with it."""

    def __post_init__(self) -> None:
        if not self.uri or " " in self.uri or not self.uri.isascii() or not self.uri.isprintable():
            raise LocalProtocolError(f"{self.uri!r} is not a URI")

    def __str__(self) -> str:
        return f"BURL {self.uri}{' LAST' if self.last else ''}"


@dataclass(frozen=True, slots=True)
class Auth(Command):
    """`AUTH mechanism [initial-response]` (RFC 4954 section 4). Neither `repr` nor `str` shows the response."""

    verb: ClassVar[str] = "AUTH"

    mechanism: str
    """The SASL mechanism, in upper case."""
    initial_response: bytes | None = field(default=None, repr=False)
    """The first response, decoded; None if there was none, which is not the same as an empty one."""

    def __post_init__(self) -> None:
        if match_mechanism(self.mechanism) is None:
            raise LocalProtocolError(f"{self.mechanism!r} is not the name of a SASL mechanism")

    def __str__(self) -> str:
        return f"AUTH {self.mechanism}{'' if self.initial_response is None else ' ***'}"

    def encode(self) -> bytes:
        """The octets for the wire, CR LF and the response included."""
        if self.initial_response is None:
            return f"AUTH {self.mechanism}\r\n".encode()

        # RFC 4954 section 4: an empty initial response is written as "=", to tell it from none.
        return f"AUTH {self.mechanism} {encode_base64(self.initial_response) or '='}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Rset(Command):
    """`RSET` (RFC 5321 4.1.1.5)."""

    verb: ClassVar[str] = "RSET"


@dataclass(frozen=True, slots=True)
class Quit(Command):
    """`QUIT` (RFC 5321 4.1.1.10)."""

    verb: ClassVar[str] = "QUIT"


@dataclass(frozen=True, slots=True)
class StartTls(Command):
    """`STARTTLS` (RFC 3207 section 4)."""

    verb: ClassVar[str] = "STARTTLS"


@dataclass(frozen=True, slots=True)
class _WithArgument(Command):
    argument: str = ""
    """What follows the verb; the quoting of a quoted string is resolved (RFC 5321 4.1.2)."""

    def __post_init__(self) -> None:
        if self.argument and (find_control(self.argument) or not is_encodable(self.argument)):
            raise LocalProtocolError(f"argument {self.argument!r} has control characters")

    def __str__(self) -> str:
        return f"{self.verb} {self.argument}".rstrip()

    def encode(self) -> bytes:
        """The octets for the wire, CR LF included; the argument is quoted if it would be read as another one."""
        return f"{self.verb} {_quote(self.argument)}".rstrip().encode() + b"\r\n"


def _quote(text: str) -> str:
    # RFC 5321 4.1.2: a string that is no atom should be quoted. Few servers know, so it is done where it matters only.
    if unquote(text) == text.strip() == text and not _match_flagged(text):
        return text

    return '"' + _SPECIAL.sub(r"\\\g<0>", text) + '"'


@dataclass(frozen=True, slots=True)
class Noop(_WithArgument):
    """`NOOP [string]` (RFC 5321 4.1.1.9)."""

    verb: ClassVar[str] = "NOOP"


@dataclass(frozen=True, slots=True)
class Help(_WithArgument):
    """`HELP [string]` (RFC 5321 4.1.1.8)."""

    verb: ClassVar[str] = "HELP"


@dataclass(frozen=True, slots=True)
class Etrn(_WithArgument):
    """`ETRN node`: start the queue for a host, `@` for its subdomains too, `#` for a queue's name (RFC 1985)."""

    verb: ClassVar[str] = "ETRN"

    def __post_init__(self) -> None:
        option = self.argument[:1] if self.argument[:1] in ("@", "#") else ""
        node = self.argument.removeprefix(option)
        # RFC 1985 section 5: a node is a domain, fully qualified unless it names the domains below; a queue is an atom.
        is_node = match_atom(node) if option == "#" else match_domain(node) and (option or "." in node)
        if not is_node or not node.isascii():
            raise LocalProtocolError(f"{self.argument!r} is not a fully qualified domain, nor a queue")


@dataclass(frozen=True, slots=True)
class _WithAttributes(Command):
    names: ClassVar[frozenset[str]] = frozenset()
    """The attributes that there are."""

    attributes: Attributes
    """What the peer tells, by name."""

    def __post_init__(self) -> None:
        if not self.attributes or not self.names.issuperset(self.attributes):
            raise LocalProtocolError(f"{self.verb} takes some of {', '.join(sorted(self.names))}")

    def __str__(self) -> str:
        return f"{self.verb} {self.attributes}"


@dataclass(frozen=True, slots=True)
class Xclient(_WithAttributes):
    """`XCLIENT name=value ...`: a trusted proxy tells for whom it speaks (Postfix XCLIENT_README)."""

    verb: ClassVar[str] = "XCLIENT"
    names: ClassVar[frozenset[str]] = frozenset(XCLIENT_ATTRIBUTES)

    def __post_init__(self) -> None:
        _WithAttributes.__post_init__(self)
        self.attributes.check_forms()  # what access may depend on has to be understood


@dataclass(frozen=True, slots=True)
class Xforward(_WithAttributes):
    """`XFORWARD name=value ...`: a trusted filter passes on what its client was, for the logs (XFORWARD_README)."""

    verb: ClassVar[str] = "XFORWARD"
    names: ClassVar[frozenset[str]] = frozenset(XFORWARD_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class _Lookup(_WithArgument):
    smtputf8: bool = False
    """Whether the reply may contain UTF-8 (RFC 6531 3.7.4.2)."""

    def __post_init__(self) -> None:
        if not self.argument or find_control(self.argument) or not is_encodable(self.argument):
            raise LocalProtocolError(f"{self.argument!r} is not the name of a user or of a list")

    def __str__(self) -> str:
        return f"{self.verb} {self.argument}{' SMTPUTF8' if self.smtputf8 else ''}"

    def encode(self) -> bytes:
        """The octets for the wire, CR LF included; the name is quoted if it would be read as another one."""
        return f"{self.verb} {_quote(self.argument)}{' SMTPUTF8' if self.smtputf8 else ''}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Vrfy(_Lookup):
    """`VRFY string` (RFC 5321 4.1.1.6)."""

    verb: ClassVar[str] = "VRFY"


@dataclass(frozen=True, slots=True)
class Expn(_Lookup):
    """`EXPN string` (RFC 5321 4.1.1.7)."""

    verb: ClassVar[str] = "EXPN"
