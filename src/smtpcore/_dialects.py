"""The command language of a session, derived from the configuration and the extensions that it offers."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from ._command import Command
from ._commands import COMMANDS, Auth, Mail, Rcpt
from ._config import BareNewlines, Config, Tolerance
from ._errors import LocalProtocolError
from ._extensions._builtin import EXTENSIONS
from ._extensions._definition import Extension, Parameter
from ._grammar import match_keyword
from ._replies import Reply

MAX_AUTH_LINE = 12_288  # RFC 4954 section 4 (12), CRLF included
_cut_offer = re.compile("[ \t=]").split
_USED_AFTER_HELO = frozenset({"SIZE", "8BITMIME", "BINARYMIME"})
"""Extensions whose parameters some clients send after HELO too."""
_OBSOLETE = frozenset({"SEND", "SOML", "SAML", "TURN"})  # RFC 5321 appendix F.1 and F.6


@dataclass(frozen=True, slots=True)
class Dialect:
    """The command lines that a session accepts while certain extensions are offered."""

    max_line: int
    """Maximum octets of a line, CR LF included."""
    max_lines: Mapping[str, int]
    """Exceptions to `max_line`, by verb."""
    kinds: Mapping[str, type[Command]]
    """The classes of commands by verb, whether they are implemented or not."""
    not_implemented: frozenset[str]
    """Verbs of extensions that are not offered."""
    owners: Mapping[type[Command], tuple[str, object]]
    """For each command class, the keyword of its extension and the terms (None if the extension is not offered)."""
    parameters: Mapping[str, Mapping[str, Parameter[object] | None]]
    """The parameters of MAIL and RCPT, by verb and keyword; None for a parameter that is not offered."""
    unknown_parameters: bool
    """Whether parameters of unknown extensions are accepted, with their text as the value."""
    smtputf8: bool
    """Whether a line may contain UTF-8 (RFC 6531)."""
    objections: tuple[tuple[str, Callable[[Mapping[str, object]], Reply | None]], ...]
    """The rules of extensions for the parameters of MAIL and RCPT, each with the extension's keyword."""
    wide: bool
    """Whether addresses may break the grammar, and parameters are parsed by `Parameter.carry`."""
    tolerant: "Dialect | None" = None
    """The `wide` dialect that accepts lines with known mistakes; None with `Tolerance.STRICT`."""


def make_dialect(
    extensions: Iterable[Extension],
    terms: Mapping[Extension, object],
    *,
    longest: int,
    longest_auth: int,
    always: Iterable[str] = (),
    extended: bool = True,
    unknown_parameters: bool = False,
    wide: bool = False,
) -> Dialect:
    """Return the dialect of a session that knows `extensions` and offers the extensions in `terms`.

    The verbs in `always` are implemented even if their extension is not offered.
    Before EHLO (`extended=False`) no extension adds parameters or UTF-8; but with `wide`, MAIL takes SIZE and BODY.
    """
    known = tuple(extensions)
    offered = [each for each in known if each in terms and (extended or (wide and each.keyword in _USED_AFTER_HELO))]
    # Offered extensions come last, because two extensions may define the same parameter.
    ordered = [*(extension for extension in known if extension not in offered), *offered]
    parameters: dict[str, dict[str, Parameter[object] | None]] = {
        Mail.verb: {
            each.keyword: _form(each, wide) if own in offered else None for own in ordered for each in own.mail
        },
        Rcpt.verb: {
            each.keyword: _form(each, wide) if own in offered else None for own in ordered for each in own.rcpt
        },
    }
    commands = {command: extension for extension in known for command in extension.commands}
    lines = {
        **{verb: longest + sum(known.octets for known in own.values() if known) for verb, own in parameters.items()},
        **{command.verb: longest + command.octets for command in commands},
        Auth.verb: longest_auth,
    }
    return Dialect(
        max_line=longest,
        max_lines=lines,
        kinds={**COMMANDS, **{command.verb: command for command in commands}},
        not_implemented=_verbs_of(known) - _verbs_of(terms) - {*always} | _OBSOLETE,
        owners={command: (known.keyword.upper(), terms.get(known)) for command, known in commands.items()},
        parameters=parameters,
        unknown_parameters=unknown_parameters,
        smtputf8=any(extension.keyword == "SMTPUTF8" for extension in offered),
        objections=tuple(
            (extension.keyword.upper(), partial(extension.objection, terms[extension]))
            for extension in offered
            if extension.objection
        ),
        wide=wide,
    )


def _form(parameter: Parameter[Any], wide: bool) -> Parameter[Any]:
    return replace(parameter, parse=parameter.carry) if wide and parameter.carry else parameter


def _verbs_of(extensions: Iterable[Extension]) -> frozenset[str]:
    commands = (command.verb for extension in extensions for command in extension.commands)
    return frozenset(commands).union(*(extension.verbs for extension in extensions))


# The server's end


def offered_extensions(extensions: Iterable[Extension], config: Config, *, tls: bool) -> tuple[Extension, ...]:
    """Return the extensions that a server offers, with or without active TLS."""
    return tuple(
        extension
        for extension in extensions
        if extension.keyword not in config.disabled and extension.offered(config, tls)
    )


def dialect_of(extensions: tuple[Extension, ...], config: Config, *, tls: bool, extended: bool) -> Dialect:
    """Return the dialect of a server's end: with or without TLS, after EHLO (`extended`) or before it."""
    offered = offered_extensions(extensions, config, tls=tls)
    make = partial(
        make_dialect,
        extensions,
        {extension: extension.terms(config) for extension in offered},
        longest=config.max_command_line,
        longest_auth=MAX_AUTH_LINE if config.auth_mechanisms else config.max_command_line,
        # AUTH before TLS and STARTTLS under TLS are known verbs, but out of sequence.
        always=_verbs_of(offered_extensions(extensions, config, tls=not tls)) & {"AUTH", "STARTTLS"},
        extended=extended,
        unknown_parameters=config.unknown_parameters,
    )
    return replace(make(), tolerant=make(wide=True) if config.tolerance is Tolerance.LENIENT else None)


@dataclass(frozen=True, slots=True)
class CompiledConfig:
    """The values that a connection derives from its `Config` and its extensions."""

    bare_lf: bool
    """Whether a bare LF ends a command line."""
    enhances: bool
    """Whether replies have enhanced status codes (RFC 2034)."""
    longest_line: int
    """Maximum octets of any command line or SASL response, CR LF included."""
    keywords: Mapping[bool, tuple[str, ...]]
    """The keyword lines of the reply to EHLO, by whether TLS is active."""
    dialects: Mapping[tuple[bool, bool], Dialect]
    """The dialects by whether TLS is active, and whether the client has sent EHLO."""


@lru_cache(maxsize=64)  # a server has few configurations
def compiled(extensions: tuple[Extension, ...], config: Config) -> CompiledConfig:
    """Return the values derived from `config` and `extensions`. Raises `LocalProtocolError` if the two conflict."""
    known = {extension.keyword for extension in (*EXTENSIONS, *extensions)}
    if unknown := config.disabled - known:
        raise LocalProtocolError(f"disabled: {min(unknown)!r} is not an extension; use {', '.join(sorted(known))}")
    enabled = {extension.keyword for extension in extensions} - config.disabled
    for extension in extensions:
        missing = extension.needs - enabled if extension.keyword in enabled else None
        if missing:
            raise LocalProtocolError(f"{extension.keyword} needs {min(missing)}: enable both, or disable both")

    # RFC 2033 section 5
    if config.lmtp and not {"PIPELINING", "ENHANCEDSTATUSCODES"} <= enabled:
        raise LocalProtocolError("LMTP needs PIPELINING and ENHANCEDSTATUSCODES: enable both")

    plain = replace(config, auth_mechanisms=config.plaintext_mechanisms, require_auth=False)
    either = (False, True)
    dialects = {
        (tls, extended): dialect_of(extensions, config, tls=tls, extended=extended)
        for tls in either
        for extended in either
    }
    return CompiledConfig(
        bare_lf=config.bare_newlines is not BareNewlines.REJECT,
        enhances="ENHANCEDSTATUSCODES" not in config.disabled,
        longest_line=max(octets for dialect in dialects.values() for octets in dialect.max_lines.values()),
        keywords={
            tls: tuple(known.announce(shown) for known in offered_extensions(extensions, config, tls=tls))
            for tls, shown in ((False, plain), (True, config))
        },
        dialects=dialects,
    )


# The client's end


def read_offers(
    lines: Iterable[str], extensions: Iterable[Extension]
) -> tuple[dict[str, object], dict[Extension, object]]:
    """Parse the reply to EHLO. Return the offers by keyword in upper case, and the terms by known extension.

    The first line of the reply is not part of `lines`, and lines without a keyword are ignored. The offer of a known
    extension is its terms, the offer of an unknown keyword is its text. Malformed terms count as not offered. The lists
    of a repeated keyword are joined; of other values the last counts. `AUTH=PLAIN` is an old form of `AUTH PLAIN`.
    """
    texts: dict[str, list[str]] = {}
    for keyword, *rest in (_cut_offer(line, maxsplit=1) for line in lines):
        if match_keyword(keyword):
            texts.setdefault(keyword.upper(), []).append("".join(rest).strip())
    offers: dict[str, object] = {keyword: all_texts[-1] for keyword, all_texts in texts.items()}
    terms: dict[Extension, object] = {}
    for extension in extensions:
        values: list[object] = []
        for text in texts.get(keyword := extension.keyword.upper(), ()):
            try:
                values.append(extension.parse_arguments(text))
            except (ValueError, LocalProtocolError):
                continue

        offers.pop(keyword, None)
        if values:
            words = [word for value in values if isinstance(value, tuple) for word in value]
            terms[extension] = offers[keyword] = tuple(dict.fromkeys(words)) or values[-1]

    return offers, terms
