"""Parse a line into a command."""

# RFC 5321 4.1.1: a line is a verb, then the argument of the verb. Spaces before the line end are tolerated. A `Dialect`
# says which verbs and parameters the extensions add. The parser does not know the state of the session.

import re
from collections.abc import Callable, Mapping
from typing import Any

from . import _rules as rules
from ._addresses import Path, strict_path
from ._base64 import decode_base64
from ._command import Command, UnknownCommand
from ._commands import Auth, Bdat, Data, Ehlo, Expn, Helo, Help, Lhlo, Mail, Noop, Quit, Rcpt, Rset, StartTls, Vrfy
from ._dialects import Dialect
from ._errors import LocalProtocolError
from ._events import AuthCancel, AuthResponse, InvalidCommand
from ._extensions._definition import ExtensionCommand, Parameter
from ._grammar import find_command_control, is_domain, match_keyword, match_number, match_param_value, unquote
from ._replies import Reply
from ._rules import Refusal
from .parameters import NO_PARAMS, Params

HIDDEN_RESPONSE = b"AUTH ***"
"""A replacement for a SASL response, which may be a secret."""

# RFC 5321 4.1.1.11. An unknown parameter does not lengthen the longest allowed line.
_UNKNOWN = Parameter[object]("", object, lambda text: text or True, octets=0)

_MAY_BE_UTF8 = frozenset({Mail, Rcpt, Vrfy, Expn})  # RFC 6531 3.1
_match_quoted_path = re.compile(r'((?:[^"<>]|"(?:[^"\\]|\\.)*")*)(>)(.*)').match
_match_auth = re.compile(rb"\s*AUTH\b(?:\s+([\w-]{1,20})\s+\S)?", re.IGNORECASE).match
_UNPRINTABLE = re.compile(r"[^ -~]")


class CommandRejected(Exception):
    """The line is not a valid command. The next `octets` octets are the chunk of a refused BDAT, not commands."""

    def __init__(self, refusal: Refusal, octets: int = 0) -> None:
        super().__init__(refusal)
        self.refusal = refusal
        self.octets = octets


def verb_of(line: bytes) -> str:
    """Return the verb of a line, in upper case."""
    word = line.partition(b" ")[0]
    return _SPELLINGS.get(word) or word.rstrip(b"\t").decode("ascii", "replace").upper()


def parse_command(verb: str, line: bytes, dialect: Dialect) -> Command | UnknownCommand:
    """Parse a line, without its line end, into a command. Raises `CommandRejected`."""
    if (size := len(line) + len(b"\r\n")) > dialect.max_line and size > dialect.max_lines.get(verb, dialect.max_line):
        raise CommandRejected(rules.BAD_CHUNK_SIZE if verb == Bdat.verb else rules.LINE_TOO_LONG)
    if verb in dialect.not_implemented:
        raise CommandRejected(rules.NOT_IMPLEMENTED.fill(verb=verb))

    kind = dialect.kinds.get(verb)
    why = text = ""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        why = "this is not UTF-8"
    if not text.isprintable() and find_command_control(text):
        why = "control characters are not allowed"
    elif not text.isascii() and not (dialect.smtputf8 and kind in _MAY_BE_UTF8):
        why = "only ASCII is allowed"  # RFC 5321 4.1.2
    if why and kind is Bdat:
        raise CommandRejected(rules.BAD_CHUNK_SIZE)
    if why:
        raise CommandRejected((rules.BAD_COMMAND if kind else rules.BAD_LINE).fill(verb=verb, why=why))

    argument = text.rstrip(" \t").partition(" ")[2]
    if kind is not None:
        return _PARSERS.get(kind, _parse_extension)(kind, argument, dialect)
    if match_keyword(verb) is None:
        raise CommandRejected(rules.NO_VERB)

    return UnknownCommand(verb, argument)


def _harmless(error: Exception) -> str:
    # The text of the error may quote the client, so it may have characters that a reply cannot have.
    return _UNPRINTABLE.sub("?", str(error)[:200].encode("ascii", "replace").decode())


# Parsers of arguments


def _parse_hello(kind: type[Helo | Ehlo | Lhlo], argument: str, dialect: Dialect) -> Command:
    # RFC 6531 3.7.1: the argument stays in ASCII. A U-label has to be sent as its A-label.
    if not argument.isascii() or not is_domain(argument):
        raise CommandRejected(rules.BAD_HELLO.fill(verb=kind.verb))

    return kind(argument)


def _parse_path(kind: type[Mail | Rcpt], argument: str, dialect: Dialect) -> Command:
    keyword, refusal = ("FROM:", rules.BAD_SENDER) if kind is Mail else ("TO:", rules.BAD_RECIPIENT)
    opening, _, text = argument.partition("<")
    quoted = _match_quoted_path(text) if '"' in text else None
    address, closing, rest = quoted.groups() if quoted else text.partition(">")
    if opening.upper() != keyword or not closing or ('"' in text and not quoted):
        raise CommandRejected(rules.BAD_PATH.fill(verb=kind.verb, keyword=keyword))

    params = _parse_params(rest, kind.verb, dialect) if rest else NO_PARAMS
    if kind is Mail and address and "@" not in address and not dialect.wide:
        raise CommandRejected(refusal)
    try:
        command = kind(Path(address) if dialect.wide else strict_path(address), params)
    except LocalProtocolError:
        raise CommandRejected(refusal) from None

    if rest:
        for extension, object_to in dialect.objections:
            if objection := object_to(params):
                raise CommandRejected(Refusal(extension, objection))

    return command


def _parse_params(text: str, verb: str, dialect: Dialect) -> Params:
    if not text.startswith(" "):
        raise CommandRejected(rules.BAD_SPACES)

    values: dict[str, object] = {}
    for item in text[1:].split(" "):
        keyword, equals, value = item.partition("=")
        if match_keyword(keyword) is None or (equals and match_param_value(value) is None):
            raise CommandRejected(rules.BAD_PARAMETER)

        keyword = keyword.upper()  # not before the match: the upper case of some non-ASCII letters is S or I
        name = keyword[:40]
        parameter = dialect.parameters[verb].get(keyword, _UNKNOWN if dialect.unknown_parameters else None)
        if parameter is None:
            raise CommandRejected(rules.UNKNOWN_PARAMETER.fill(keyword=name))
        if keyword in values:
            raise CommandRejected(rules.PARAMETER_TWICE.fill(keyword=name, enhanced=parameter.enhanced))

        try:
            values[keyword] = parameter.parse(value)
        except (ValueError, LocalProtocolError) as exc:
            refusal = rules.BAD_VALUE.fill(keyword=name, why=_harmless(exc), enhanced=parameter.enhanced)
            raise CommandRejected(refusal) from exc

    return Params(values)


def _parse_bare(kind: type[Data | Rset | Quit | StartTls], argument: str, dialect: Dialect) -> Command:
    if argument:
        raise CommandRejected(rules.NO_ARGUMENT.fill(verb=kind.verb))

    return kind()


def _parse_text(kind: type[Noop | Help], argument: str, dialect: Dialect) -> Command:
    return kind(unquote(argument))


def _parse_lookup(kind: type[Vrfy | Expn], argument: str, dialect: Dialect) -> Command:
    name, _, last = argument.rpartition(" ")
    keyword, equals, _ = last.partition("=")
    smtputf8 = dialect.smtputf8 and name != "" and keyword.isascii() and keyword.upper() == "SMTPUTF8"
    if smtputf8 and equals:
        raise CommandRejected(rules.NO_VALUE)

    wanted = unquote(name if smtputf8 else argument)
    if not wanted:
        raise CommandRejected(rules.BAD_LOOKUP.fill(verb=kind.verb))

    return kind(wanted, smtputf8=smtputf8)


def _parse_bdat(kind: type[Bdat], argument: str, dialect: Dialect) -> Command:
    size, space, rest = argument.partition(" ")
    if match_number(size) is None:
        raise CommandRejected(rules.BAD_CHUNK_SIZE)
    if space and rest.upper() != "LAST":
        raise CommandRejected(rules.BAD_BDAT, int(size))

    return kind(int(size), last=bool(space))


def _parse_auth(kind: type[Auth], argument: str, dialect: Dialect) -> Command:
    mechanism, space, response = argument.partition(" ")
    try:
        # RFC 4954 section 4: "=" is an empty initial response.
        initial = b"" if response == "=" else decode_base64(response.encode())
        return kind(mechanism.upper(), initial if space else None)
    except LocalProtocolError:
        raise CommandRejected(rules.BAD_AUTH) from None
    except ValueError:
        raise CommandRejected(rules.BAD_BASE64) from None


def _parse_extension(kind: type[Command], argument: str, dialect: Dialect) -> Command:
    assert issubclass(kind, ExtensionCommand), "all other commands have a parser here"
    owner, terms = dialect.owners[kind]
    try:
        parsed = kind.parse(argument)
    except (ValueError, LocalProtocolError) as exc:
        raise CommandRejected(rules.BAD_COMMAND.fill(verb=kind.verb, why=_harmless(exc))) from exc

    if isinstance(parsed, Reply):
        raise CommandRejected(Refusal(owner, parsed))
    if objection := parsed.objection(terms):
        raise CommandRejected(Refusal(owner, objection))

    return parsed


_PARSERS: Mapping[type[Command], Callable[[Any, str, Dialect], Command]] = {
    **dict.fromkeys((Helo, Ehlo, Lhlo), _parse_hello),
    **dict.fromkeys((Mail, Rcpt), _parse_path),
    **dict.fromkeys((Data, Rset, Quit, StartTls), _parse_bare),
    **dict.fromkeys((Noop, Help), _parse_text),
    **dict.fromkeys((Vrfy, Expn), _parse_lookup),
    Bdat: _parse_bdat,
    Auth: _parse_auth,
}
_SPELLINGS = {word.encode(): kind.verb for kind in _PARSERS for word in (kind.verb, kind.verb.lower())}
"""The usual spellings of the verbs: a look-up is faster than decoding the verb."""


# SASL responses, and secrets in lines


def parse_response(line: bytes) -> AuthResponse | AuthCancel | InvalidCommand:
    """Parse a line, without its line end, that answers a challenge (RFC 4954 section 4)."""
    if line == b"*":
        return AuthCancel()

    try:
        return AuthResponse(decode_base64(line))
    except ValueError:
        return InvalidCommand(HIDDEN_RESPONSE, rules.BAD_BASE64.reply, rules.BAD_BASE64.rule)


def visible(line: bytes) -> bytes:
    """Return `line` without the secrets that AUTH may contain."""
    auth = _match_auth(line)
    if auth is None:
        return line

    return b"AUTH %b ***" % auth[1] if auth[1] else HIDDEN_RESPONSE
