"""Turn a line into a command."""

# RFC 5321 4.1.1: a verb, then what the verb asks for. Spaces before the line end are tolerated, all others stand where
# the grammar puts them. What a line may contain depends on what is offered, so the parser is given a `Dialect`: it
# never asks in which state the dialogue is.

import re
from collections.abc import Callable, Mapping

from . import _rules as rules
from ._addresses import Path
from ._base64 import decode_base64
from ._commands import (
    Auth,
    Bdat,
    Burl,
    Command,
    Data,
    Ehlo,
    Etrn,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
    Xforward,
)
from ._dialects import Dialect
from ._errors import LocalProtocolError
from ._events import AuthCancel, AuthResponse, InvalidCommand, UnknownCommand
from ._extensions._definition import Parameter
from ._extensions._parsing import parse_text
from ._grammar import find_control, match_keyword, match_number, match_param_value, unquote
from ._rules import Refusal
from .parameters import parse_attributes
from .parameters._params import NO_PARAMS, Params

_MAY_BE_UTF8 = frozenset({"MAIL", "RCPT", "VRFY", "EXPN"})  # RFC 6531 3.1

# RFC 5321 4.1.1.11. It has no octets of its own: the line is no longer than it would be without.
_UNKNOWN = Parameter[object]("", object, parse_text, octets=0)

_match_quoted_path = re.compile(r'<((?:[^"<>]|"(?:[^"\\]|\\.)*")*)>').match

_UNPRINTABLE = re.compile(r"[^ -~]")
_match_auth = re.compile(rb"\s*AUTH\b(?:\s+([\w-]{1,20})\s+\S)?", re.IGNORECASE).match


_HELLOS: Mapping[str, Callable[[str], Command]] = {"HELO": Helo, "EHLO": Ehlo, "LHLO": Lhlo}

_BARE: Mapping[str, Callable[[], Command]] = {"DATA": Data, "RSET": Rset, "QUIT": Quit, "STARTTLS": StartTls}

COMMANDS: Mapping[str, type[Command]] = {
    kind.verb: kind
    for kind in (
        Helo,
        Ehlo,
        Lhlo,
        Mail,
        Rcpt,
        Data,
        Bdat,
        Rset,
        Noop,
        Quit,
        Vrfy,
        Expn,
        Help,
        StartTls,
        Auth,
        Burl,
        Etrn,
        Xclient,
        Xforward,
    )
}
"""The commands that smtpcore knows, by verb."""

_SPELLINGS: Mapping[bytes, str] = {word.encode(): verb for verb in COMMANDS for word in (verb, verb.lower())}
"""The verbs as nearly every client writes them: to look one up is quicker than to decode it."""

HIDDEN_RESPONSE = b"AUTH ***"
"""What stands for a SASL response, which may be a secret."""


class CommandRejected(Exception):
    """The line is not a command. The next `octets` octets belong to the line, and are not commands either."""

    def __init__(self, refusal: Refusal, octets: int = 0) -> None:
        super().__init__(refusal)
        self.refusal = refusal
        self.octets = octets


def verb_of(line: bytes) -> str:
    """The verb of a line in upper case."""
    word = line.partition(b" ")[0]
    return _SPELLINGS.get(word) or word.rstrip(b"\t").decode("ascii", "replace").upper()


def parse_command(verb: str, line: bytes, dialect: Dialect) -> Command | UnknownCommand:
    """Turn a line without its end into a command. Raises `CommandRejected`."""
    if len(line) + len(b"\r\n") > dialect.max_lines.get(verb, dialect.max_line):
        raise CommandRejected(rules.BAD_CHUNK_SIZE if verb == Bdat.verb else rules.LINE_TOO_LONG)
    if verb in dialect.not_implemented:
        raise CommandRejected(rules.NOT_IMPLEMENTED.fill(verb=verb))

    argument = _decode(verb, line, dialect).rstrip(" \t").partition(" ")[2]
    parse = _PARSERS.get(verb)
    if parse is not None:
        return parse(verb, argument, dialect)
    if match_keyword(verb) is None:
        raise CommandRejected(rules.NO_VERB)

    return UnknownCommand(verb, argument)


def _decode(verb: str, line: bytes, dialect: Dialect) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise _syntax_error(verb, "this is not UTF-8") from None

    if not text.isprintable() and find_control(text):
        raise _syntax_error(verb, "control characters are not allowed")
    if not text.isascii() and not (dialect.smtputf8 and verb in _MAY_BE_UTF8):
        raise _syntax_error(verb, "only ASCII is allowed")  # RFC 5321 4.1.2

    return text


def _syntax_error(verb: str, why: str) -> CommandRejected:
    if verb == Bdat.verb:
        return CommandRejected(rules.BAD_CHUNK_SIZE)

    return CommandRejected((rules.BAD_COMMAND if verb in COMMANDS else rules.BAD_LINE).fill(verb=verb, why=why))


# One parser for each shape of argument


def _parse_helo(verb: str, argument: str, dialect: Dialect) -> Command:
    try:
        return _HELLOS[verb](argument)
    except LocalProtocolError:
        raise CommandRejected(rules.BAD_HELLO.fill(verb=verb)) from None


def _parse_mail(verb: str, argument: str, dialect: Dialect) -> Command:
    text, params = _split_path(verb, argument, "FROM:", dialect)
    try:
        mail = Mail(Path(text), params)
    except LocalProtocolError:
        raise CommandRejected(rules.BAD_SENDER) from None

    return _unobjected(mail, dialect)


def _parse_rcpt(verb: str, argument: str, dialect: Dialect) -> Command:
    text, params = _split_path(verb, argument, "TO:", dialect)
    try:
        rcpt = Rcpt(Path(text), params)
    except LocalProtocolError:
        raise CommandRejected(rules.BAD_RECIPIENT) from None

    return _unobjected(rcpt, dialect)


def _unobjected(command: Mail | Rcpt, dialect: Dialect) -> Command:
    for keyword, object_to in dialect.objections if command.params else ():
        objection = object_to(command.params)
        if objection:
            raise CommandRejected(Refusal(keyword, objection))

    return command


def _parse_bare(verb: str, argument: str, dialect: Dialect) -> Command:
    if argument:
        raise CommandRejected(rules.NO_ARGUMENT.fill(verb=verb))

    return _BARE[verb]()


def _parse_text(verb: str, argument: str, dialect: Dialect) -> Command:
    return Noop(unquote(argument)) if verb == "NOOP" else Help(unquote(argument))


def _parse_lookup(verb: str, argument: str, dialect: Dialect) -> Command:
    name, _, last = argument.rpartition(" ")
    keyword, equals, _ = last.partition("=")
    smtputf8 = dialect.smtputf8 and name != "" and keyword.isascii() and keyword.upper() == "SMTPUTF8"
    if smtputf8 and equals:
        raise CommandRejected(rules.NO_VALUE)

    wanted = unquote(name if smtputf8 else argument)
    if not wanted:
        raise CommandRejected(rules.BAD_LOOKUP.fill(verb=verb))

    return Vrfy(wanted, smtputf8=smtputf8) if verb == "VRFY" else Expn(wanted, smtputf8=smtputf8)


def _parse_bdat(verb: str, argument: str, dialect: Dialect) -> Command:
    size, space, rest = argument.partition(" ")
    if match_number(size) is None:
        raise CommandRejected(rules.BAD_CHUNK_SIZE)
    if space and rest.upper() != "LAST":
        raise CommandRejected(rules.BAD_BDAT, int(size))

    return Bdat(int(size), last=bool(space))


def _parse_burl(verb: str, argument: str, dialect: Dialect) -> Command:
    uri, space, rest = argument.partition(" ")
    try:
        if not space or rest.upper() == "LAST":
            return Burl(uri, last=bool(space))
    except LocalProtocolError:
        pass

    raise CommandRejected(rules.BAD_BURL)


def _parse_etrn(verb: str, argument: str, dialect: Dialect) -> Command:
    if not argument:
        raise CommandRejected(rules.BAD_ETRN)

    try:
        return Etrn(argument)
    except LocalProtocolError:
        raise CommandRejected(rules.BAD_ETRN_NODE) from None


def _parse_attributes(verb: str, argument: str, dialect: Dialect) -> Command:
    try:
        attributes = parse_attributes(argument)
        return Xclient(attributes) if verb == "XCLIENT" else Xforward(attributes)
    except (ValueError, LocalProtocolError):
        raise CommandRejected(rules.BAD_ATTRIBUTES.fill(verb=verb)) from None


def _parse_auth(verb: str, argument: str, dialect: Dialect) -> Command:
    mechanism, space, response = argument.partition(" ")
    try:
        return Auth(mechanism.upper(), _decode_initial(response) if space else None)
    except LocalProtocolError:
        raise CommandRejected(rules.BAD_AUTH) from None
    except ValueError:
        raise CommandRejected(rules.BAD_BASE64) from None


def parse_response(line: bytes) -> AuthResponse | AuthCancel | InvalidCommand:
    """Turn a line without its end into what answers a challenge (RFC 4954 section 4)."""
    if line == b"*":
        return AuthCancel()

    try:
        return AuthResponse(decode_base64(line))
    except ValueError:
        return InvalidCommand(HIDDEN_RESPONSE, rules.BAD_BASE64.reply, rules.BAD_BASE64.rule)


def _decode_initial(text: str) -> bytes:
    # RFC 4954 section 4: an empty initial response is written as "=", to tell it from none.
    return b"" if text == "=" else decode_base64(text.encode())


def visible(line: bytes) -> bytes:
    """`line` without the secrets that AUTH may carry."""
    auth = _match_auth(line)
    if auth is None:
        return line

    return b"AUTH %b ***" % auth[1] if auth[1] else HIDDEN_RESPONSE


# The argument of MAIL and RCPT


def _split_path(verb: str, argument: str, keyword: str, dialect: Dialect) -> tuple[str, Params]:
    start = len(keyword)
    if argument[:start].upper() != keyword or argument[start : start + 1] != "<":
        raise CommandRejected(rules.BAD_PATH.fill(verb=verb, keyword=keyword))

    end = _find_path_end(argument, start)
    if end < 0:
        raise CommandRejected(rules.BAD_PATH.fill(verb=verb, keyword=keyword))

    return argument[start + 1 : end], _parse_params(argument[end + 1 :], verb, dialect)


def _find_path_end(argument: str, start: int) -> int:
    if '"' not in argument:
        return argument.find(">", start)

    path = _match_quoted_path(argument, start)
    return path.end() - 1 if path else -1


def _parse_params(text: str, verb: str, dialect: Dialect) -> Params:
    if not text:
        return NO_PARAMS
    if not text.startswith(" "):
        raise CommandRejected(rules.BAD_SPACES)

    values: dict[str, object] = {}
    for item in text[1:].split(" "):
        keyword, equals, value = item.partition("=")
        if match_keyword(keyword) is None or (equals and match_param_value(value) is None):
            raise CommandRejected(rules.BAD_PARAMETER)

        keyword = keyword.upper()  # behind the check: there are letters beyond ASCII whose capital is an S or an I
        parameter = dialect.parameters[verb].get(keyword, _UNKNOWN if dialect.passes(verb, keyword) else None)
        if parameter is None:
            raise CommandRejected(rules.UNKNOWN_PARAMETER.fill(keyword=keyword[:40]))
        if keyword in values:
            raise CommandRejected(rules.PARAMETER_TWICE.fill(keyword=keyword[:40], enhanced=parameter.enhanced))

        values[keyword] = _parse_value(keyword, value, parameter)

    return Params(values)


def _parse_value(keyword: str, value: str, parameter: Parameter[object]) -> object:
    try:
        return parameter.parse(value)
    except (ValueError, LocalProtocolError) as exc:
        # The text may quote what the client sent, so it is trusted with nothing.
        why = str(exc)[:200].encode("ascii", "replace").decode()
        why = _UNPRINTABLE.sub("?", why)
        raise CommandRejected(rules.BAD_VALUE.fill(keyword=keyword[:40], why=why, enhanced=parameter.enhanced)) from exc


_PARSERS: Mapping[str, Callable[[str, str, Dialect], Command]] = {
    "HELO": _parse_helo,
    "LHLO": _parse_helo,
    "EHLO": _parse_helo,
    "MAIL": _parse_mail,
    "RCPT": _parse_rcpt,
    "DATA": _parse_bare,
    "RSET": _parse_bare,
    "QUIT": _parse_bare,
    "STARTTLS": _parse_bare,
    "NOOP": _parse_text,
    "HELP": _parse_text,
    "BDAT": _parse_bdat,
    "BURL": _parse_burl,
    "ETRN": _parse_etrn,
    "XCLIENT": _parse_attributes,
    "XFORWARD": _parse_attributes,
    "AUTH": _parse_auth,
    "VRFY": _parse_lookup,
    "EXPN": _parse_lookup,
}
