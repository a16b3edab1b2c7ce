"""`Tolerance.LENIENT`: accept a line that breaks the grammar but can have one meaning only."""

# The strict parser comes first. A line that it refuses is corrected, one mistake after the other, and parsed again in
# the wide dialect. This dialect also accepts addresses that are in use but break the grammar, and parameter values that
# a relay can pass on although they are malformed. For example, `MAIL FROM: first..last@example.com  SIZE=9` becomes
# `MAIL FROM:<first..last@example.com> SIZE=9`, with the deviations `blanks`, `blank-before-path`, `no-brackets` and
# `local-part`. `LIBERTIES` lists all accepted mistakes, each with the rule that it breaks. Except for a bare LF, none
# of these mistakes concerns the end of a line or of a body, control characters, limits, or the order of commands.

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from . import _rules as rules
from ._command import Command, UnknownCommand, set_deviations
from ._commands import Ehlo, Helo, Lhlo, Mail, Rcpt
from ._dialects import Dialect
from ._errors import LocalProtocolError
from ._extensions._xforward import Xforward
from ._grammar import is_domain, match_domain, match_local_part
from ._parser import CommandRejected, parse_command

_PATHS: Final = (Mail, Rcpt)
_FLAGS: Final = re.ASCII | re.IGNORECASE
# The closing quote may be missing. The group is atomic: if the rest of a line fails, its octets are not examined again.
_QUOTED = r'(?>"(?:[^"\\]|\\.)*"?)'
_START = r"^((?:MAIL FROM|RCPT TO):)"

_sub_blanks = re.compile(rf"({_QUOTED})|[ \t]+").sub
_sub_blank_before_path = re.compile(rf"{_START} (?! )", _FLAGS).sub
_sub_blanks_in_brackets = re.compile(rf"{_START}< ?((?:{_QUOTED}|[^ \"<>])++) ?>", _FLAGS).sub
# A path without brackets may not look like a parameter: `MAIL FROM: SIZE=9` has no sender.
_sub_no_brackets = re.compile(rf"{_START}(?![a-z0-9-]+=[^ @]*(?: |$))((?:{_QUOTED}|[^ \"<>])++)(?= |$)", _FLAGS).sub
_sub_auth = re.compile(rf"({_QUOTED})| AUTH(?:=([^ ]*))?(?= |$)", _FLAGS).sub
_sub_octets = re.compile(r"(?:\+[0-9A-Fa-f]{2})+").sub


def _repair_blanks(text: str, dialect: Dialect) -> str:
    return _sub_blanks(lambda found: found[1] or " ", text)


def _repair_blank_before_path(text: str, dialect: Dialect) -> str:
    return _sub_blank_before_path(r"\1", text)


def _repair_blanks_in_brackets(text: str, dialect: Dialect) -> str:
    return _sub_blanks_in_brackets(r"\1<\2>", text)


def _repair_no_brackets(text: str, dialect: Dialect) -> str:
    return _sub_no_brackets(r"\1<\2>", text)


def _repair_auth(text: str, dialect: Dialect) -> str:
    known = dialect.parameters[Mail.verb].get("AUTH")

    def repaired(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]

        return "" if known is None else found[0] if _is_valid(known.parse, found[2] or "") else " AUTH=<>"

    return _sub_auth(repaired, text)


def _repair_octets(text: str, dialect: Dialect) -> str:
    def repaired(found: re.Match[str]) -> str:
        octets = bytes.fromhex(found[0].replace("+", "")).decode(errors="replace").encode()
        return "".join(f"+{octet:02X}" for octet in octets)

    return _sub_octets(repaired, text)


@dataclass(frozen=True, slots=True)
class Liberty:
    """A mistake in a command line that is accepted, because the line can have one meaning only."""

    name: str
    """The name in `Command.deviations`."""
    section: str
    """The rule that the line breaks."""
    example: str
    kinds: tuple[type[Command], ...] = ()
    """The commands to which `repair` applies."""
    repair: Callable[[str, Dialect], str] | None = None
    """Return the line without this mistake, for the wide dialect. None if this dialect accepts the mistake itself."""


LIBERTIES: Final = (
    Liberty("bare-lf", "RFC 5321 2.3.8", "NOOP, ended by LF"),  # accepted only if `Config.bare_newlines` permits
    Liberty("hello-name", "RFC 5321 4.1.1.1", "EHLO My PC"),
    Liberty("blanks", "RFC 5321 4.1.1.11", "MAIL  FROM:<a@example.com>  SIZE=9", (Command,), _repair_blanks),
    Liberty("blank-before-path", "RFC 5321 3.3", "RCPT TO: <b@example.org>", _PATHS, _repair_blank_before_path),
    Liberty("blanks-in-brackets", "RFC 5321 4.1.2", "RCPT TO:< b@example.org >", _PATHS, _repair_blanks_in_brackets),
    Liberty("no-brackets", "RFC 5321 4.1.2", "RCPT TO:b@example.org", _PATHS, _repair_no_brackets),
    Liberty("local-part", "RFC 5321 4.1.2", "MAIL FROM:<first..last@example.com>"),
    Liberty("domain", "RFC 5321 4.1.2", "MAIL FROM:<a@my_host>"),
    Liberty("no-domain", "RFC 5321 4.1.2", "MAIL FROM:<root>"),
    Liberty("auth-parameter", "RFC 4954 section 5", "MAIL FROM:<a@example.com> AUTH=<a@b>", (Mail,), _repair_auth),
    Liberty("helo-parameter", "RFC 5321 2.2.1", "MAIL FROM:<a@example.com> SIZE=9, after HELO"),
    Liberty("carried-value", "RFC 3461 4.2", "RCPT TO:<b@example.org> ORCPT=rfc822;b+C3+BC@example.org"),
    Liberty("carried-octets", "RFC 3461 section 4", "XFORWARD HELO=b+FCro", (Xforward,), _repair_octets),
)


def tolerate(verb: str, line: bytes, dialect: Dialect) -> Command | UnknownCommand:
    """Return the command in a line that `dialect` refuses, with its deviations. Raises `CommandRejected`."""
    wide = dialect.tolerant
    assert wide, "a strict dialect accepts no mistakes"
    kind = dialect.kinds.get(verb)
    is_short = len(line) + len(b"\r\n") <= dialect.max_lines.get(verb, dialect.max_line)
    if not is_short or kind is None:
        return parse_command(verb, line, dialect)  # this raises the refusal of the line
    if issubclass(kind, Helo | Ehlo | Lhlo):
        return _tolerate_hello(kind, line)

    names = []
    text = line.decode(errors="surrogateescape").rstrip(" \t")
    for liberty in LIBERTIES:
        if liberty.repair and issubclass(kind, liberty.kinds):
            repaired = liberty.repair(text, wide)
            if repaired != text:
                names.append(liberty.name)
            text = repaired

    command = parse_command(verb, text.encode(errors="surrogateescape"), wide)
    set_deviations(command, (*names, *_wide_values(command, dialect)))
    return command


def _tolerate_hello(kind: type[Helo | Ehlo | Lhlo], line: bytes) -> Command:
    # RFC 5321 4.1.4: mail must not be refused because of the name. The name is only used in logs.
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    name = text.rstrip(" \t").partition(" ")[2].lstrip(" ")
    if not name or not name.isprintable():
        raise CommandRejected(rules.BAD_HELLO.fill(verb=kind.verb))

    command = kind(name)
    set_deviations(command, ("blanks" if name.isascii() and is_domain(name) else "hello-name",))
    return command


def _wide_values(command: Command | UnknownCommand, dialect: Dialect) -> Iterator[str]:
    match command:
        case Mail(reverse_path=path, params=params) | Rcpt(forward_path=path, params=params):
            local_part, at, domain = path.address.rpartition("@")
            if at and match_local_part(local_part) is None:
                yield "local-part"
            if at and not domain.startswith("[") and match_domain(domain) is None:
                yield "domain"
            if path and not at and (isinstance(command, Mail) or not path.is_postmaster):
                yield "no-domain"

            known = dialect.parameters[command.verb]
            if any(keyword in known and known[keyword] is None for keyword in params):
                yield "helo-parameter"
            carried = ((known.get(keyword), value) for keyword, value in params.items())
            if any(each and each.carry and not _is_valid(each.parse, str(value)) for each, value in carried):
                yield "carried-value"


def _is_valid(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (ValueError, LocalProtocolError):
        return False

    return True
