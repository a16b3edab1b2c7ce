"""The command language of a session: what a configuration and the extensions that it offers add up to."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from ._commands import Auth, Mail, Rcpt
from ._config import BareNewlines, Config
from ._errors import LocalProtocolError
from ._extensions._definition import Extension, Parameter
from ._grammar import match_keyword
from ._replies import Reply

MAX_AUTH_LINE = 12_288  # RFC 4954 section 4 (12), CRLF included
_OBSOLETE = frozenset({"SEND", "SOML", "SAML", "TURN"})  # RFC 5321 appendix F.1 and F.6
_OUT_OF_SEQUENCE = frozenset({"AUTH", "STARTTLS"})  # AUTH before TLS and STARTTLS under TLS are implemented


@dataclass(frozen=True, slots=True)
class Dialect:
    """The command lines that a session accepts while certain extensions are offered."""

    max_line: int
    """Maximum octets of a line, CR LF included."""
    max_lines: Mapping[str, int]
    """Exceptions to `max_line`, by verb."""
    parameters: Mapping[str, Mapping[str, Parameter[object]]]
    """The parameters of MAIL and RCPT: verb to keyword to parameter."""
    refused: Mapping[str, frozenset[str]] | None
    """Keywords of parameters that are refused while all other unknown ones pass, by verb. None if none passes."""
    not_implemented: frozenset[str]
    """Verbs of extensions that are not offered."""
    smtputf8: bool
    """Whether a line may contain UTF-8 (RFC 6531)."""
    objections: tuple[tuple[str, Callable[[Mapping[str, object]], Reply | None]], ...]
    """The rules of extensions for the parameters of MAIL and RCPT, each with the extension's keyword."""

    def passes(self, verb: str, keyword: str) -> bool:
        """Return whether an unknown parameter is passed through to the program."""
        return self.refused is not None and keyword not in self.refused[verb]


def make_dialect(
    terms: Mapping[Extension, object],
    *,
    longest: int,
    longest_auth: int,
    not_implemented: frozenset[str],
    refused: Mapping[str, frozenset[str]] | None = None,
) -> Dialect:
    """Return the dialect of a session in which the extensions in `terms` are offered, on these terms."""
    parameters = {
        Mail.verb: {parameter.keyword: parameter for extension in terms for parameter in extension.mail},
        Rcpt.verb: {parameter.keyword: parameter for extension in terms for parameter in extension.rcpt},
    }
    lines = {verb: longest + sum(p.octets for p in known.values()) for verb, known in parameters.items()}
    return Dialect(
        max_line=longest,
        max_lines={**lines, Auth.verb: longest_auth},
        parameters=parameters,
        refused=refused,
        not_implemented=not_implemented | _OBSOLETE,
        smtputf8=any(extension.keyword == "SMTPUTF8" for extension in terms),
        objections=tuple(
            (known.keyword.upper(), partial(known.objection, what)) for known, what in terms.items() if known.objection
        ),
    )


def verbs_of(extensions: Iterable[Extension]) -> frozenset[str]:
    """Return the verbs of `extensions`."""
    return frozenset[str]().union(*(extension.verbs for extension in extensions))


# The server's end


def offered_extensions(extensions: Iterable[Extension], config: Config, *, tls: bool) -> tuple[Extension, ...]:
    """Return those of `extensions` that a server offers, with or without active TLS."""
    return tuple(
        extension
        for extension in extensions
        if extension.keyword not in config.disabled and extension.offered(config, tls)
    )


def dialect_of(extensions: tuple[Extension, ...], config: Config, *, tls: bool, extended: bool) -> Dialect:
    """Return the dialect of a server's end: with or without TLS, after EHLO (`extended`) or before it."""
    offered = offered_extensions(extensions, config, tls=tls)
    sometimes = verbs_of(offered_extensions(extensions, config, tls=not tls)) & _OUT_OF_SEQUENCE
    refused = {
        Mail.verb: frozenset(parameter.keyword for extension in extensions for parameter in extension.mail),
        Rcpt.verb: frozenset(parameter.keyword for extension in extensions for parameter in extension.rcpt),
    }
    return make_dialect(
        {extension: extension.terms(config) for extension in offered if extended},
        longest=config.max_command_line,
        longest_auth=MAX_AUTH_LINE if config.auth_mechanisms else config.max_command_line,
        refused=refused if config.unknown_parameters else None,
        not_implemented=verbs_of(extensions) - verbs_of(offered) - sometimes,
    )


@dataclass(frozen=True, slots=True)
class CompiledConfig:
    """Everything that a connection derives from its `Config` and its extensions."""

    bare_lf: bool
    """Whether a bare LF ends a command line."""
    guards: bool
    """Whether TLS or authentication is required before mail."""
    enhances: bool
    """Whether replies have enhanced status codes (RFC 2034)."""
    longest_line: int
    """Maximum octets of any command line or SASL response, CR LF included."""
    keywords: Mapping[bool, tuple[str, ...]]
    """The lines after the first one of the reply to EHLO, by whether TLS is active."""
    dialects: Mapping[tuple[bool, bool], Dialect]
    """The dialects by whether TLS is active, and whether the client has sent EHLO."""


@lru_cache(maxsize=64)  # a server has few configurations
def compiled(extensions: tuple[Extension, ...], config: Config) -> CompiledConfig:
    """Return what `config` and `extensions` add up to. Raises `LocalProtocolError` if they contradict each other."""
    enabled = {extension.keyword for extension in extensions} - config.disabled
    for extension in extensions:
        missing = extension.needs - enabled if extension.keyword in enabled else None
        if missing:
            keyword = extension.keyword
            raise LocalProtocolError(f"{keyword} needs {min(missing)}: enable both, or disable both")

    # RFC 2033 section 5
    if config.lmtp and not {"PIPELINING", "ENHANCEDSTATUSCODES"} <= enabled:
        raise LocalProtocolError("LMTP needs PIPELINING and ENHANCEDSTATUSCODES: enable both")

    either = (False, True)
    dialects = {
        (tls, extended): dialect_of(extensions, config, tls=tls, extended=extended)
        for tls in either
        for extended in either
    }
    return CompiledConfig(
        bare_lf=config.bare_newlines is not BareNewlines.REJECT,
        guards=config.require_tls or config.require_auth,
        enhances="ENHANCEDSTATUSCODES" not in config.disabled,
        longest_line=max(octets for dialect in dialects.values() for octets in dialect.max_lines.values()),
        keywords={
            tls: tuple(known.announce(config) for known in offered_extensions(extensions, config, tls=tls))
            for tls in either
        },
        dialects=dialects,
    )


# The client's end


def read_keywords(lines: Iterable[str]) -> dict[str, str]:
    """Return the text after each keyword, in upper case, of the lines after the first one of a reply to EHLO.

    A line that does not start with a keyword is ignored.
    """
    found = (line.partition(" ") for line in lines)
    return {keyword.upper(): text.strip() for keyword, _, text in found if match_keyword(keyword)}


def read_terms(keywords: Mapping[str, str], extensions: Iterable[Extension]) -> dict[Extension, object]:
    """Return those of `extensions` that a server offers, with their terms. Malformed terms count as not offered."""
    terms: dict[Extension, object] = {}
    for extension in extensions:
        text = keywords.get(extension.keyword.upper())
        if text is None:
            continue

        try:
            terms[extension] = extension.parse_arguments(text)
        except (ValueError, LocalProtocolError):
            continue

    return terms
