"""The command language that a configuration allows, and all else that follows from a configuration."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from ._commands import Auth, Mail, Rcpt
from ._config import BareNewlines, Config
from ._extensions._definition import Extension, Parameter, check_extensions, longest_command_line, offered_extensions
from ._replies import Reply

MAX_AUTH_LINE = 12_288  # RFC 4954 section 4 (12), CRLF included
_OBSOLETE = frozenset({"SEND", "SOML", "SAML", "TURN"})  # RFC 5321 appendix F.1 and F.6
_TOLD_APART = frozenset({"AUTH", "STARTTLS"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a command line may contain, as the offered extensions have it."""

    max_line: int
    """Octets of a line without parameters, CR LF included."""
    max_lines: Mapping[str, int]
    """Where a verb takes parameters: octets of its line, CR LF included."""
    parameters: Mapping[str, Mapping[str, Parameter]]
    """Verb to keyword to parameter."""
    refused: Mapping[str, frozenset[str]] | None
    """Verb to the keywords that some extension has, where all others pass; None where none does."""
    not_implemented: frozenset[str]
    """Verbs that would be known if their extension were offered."""
    smtputf8: bool
    """Whether UTF-8 may occur at all (RFC 6531)."""
    objections: tuple[tuple[str, Callable[[Mail | Rcpt], Reply | None]], ...]
    """The rules of extensions for the parameters of MAIL and RCPT, each with the extension's keyword."""

    def passes(self, verb: str, keyword: str) -> bool:
        """Whether this parameter, which is not offered, is none of ours to judge."""
        return self.refused is not None and keyword not in self.refused[verb]


def dialect_of(extensions: tuple[Extension, ...], config: Config, *, tls: bool, extended: bool) -> Dialect:
    """The dialect that a connection speaks, with and without TLS, and behind EHLO (`extended`) or before it."""
    offered = offered_extensions(extensions, config, tls=tls)
    otherwise = offered_extensions(extensions, config, tls=not tls)
    return make_dialect(
        {extension: extension.terms(config) for extension in offered if extended},
        longest=config.max_command_line,
        longest_auth=MAX_AUTH_LINE,
        refused=_known_parameters(extensions) if config.unknown_parameters else None,
        # STARTTLS under TLS, and AUTH before it, are out of sequence rather than not implemented.
        not_implemented=verbs_of(extensions) - verbs_of(offered) - (verbs_of(otherwise) & _TOLD_APART),
    )


def make_dialect(
    terms: Mapping[Extension, object],
    *,
    longest: int,
    longest_auth: int,
    not_implemented: frozenset[str],
    refused: Mapping[str, frozenset[str]] | None = None,
) -> Dialect:
    """The dialect of a session in which extensions are offered on these `terms`: what EHLO's reply says of each."""
    parameters: dict[str, dict[str, Parameter]] = {"MAIL": {}, "RCPT": {}}
    for extension in terms:
        parameters["MAIL"] |= extension.mail
        parameters["RCPT"] |= extension.rcpt

    return Dialect(
        max_line=longest,
        max_lines={
            **{verb: longest + sum(p.octets for p in known.values()) for verb, known in parameters.items()},
            Auth.verb: longest_auth,
        },
        parameters=parameters,
        refused=refused,
        not_implemented=not_implemented | _OBSOLETE,
        smtputf8=any(extension.keyword == "SMTPUTF8" for extension in terms),
        objections=tuple(
            (known.keyword.upper(), partial(known.objection, what)) for known, what in terms.items() if known.objection
        ),
    )


def _known_parameters(extensions: Iterable[Extension]) -> Mapping[str, frozenset[str]]:
    known = tuple(extensions)
    return {
        "MAIL": frozenset[str]().union(*(extension.mail for extension in known)),
        "RCPT": frozenset[str]().union(*(extension.rcpt for extension in known)),
    }


def verbs_of(extensions: Iterable[Extension]) -> frozenset[str]:
    """The verbs that come with `extensions`."""
    return frozenset[str]().union(*(extension.verbs for extension in extensions))


@dataclass(frozen=True, slots=True)
class CompiledConfig:
    """By what a connection goes, besides the configuration itself."""

    bare_lf: bool
    """Whether a bare LF ends a command line too."""
    guards: bool
    """Whether something has to come before mail: TLS, or authentication."""
    enhances: bool
    """Whether replies have enhanced status codes (RFC 2034)."""
    longest_line: int
    """Octets of the longest line that is no line of a body, CR LF included."""
    keywords: Mapping[bool, tuple[str, ...]]
    """The lines behind the first one of the reply to EHLO, by whether TLS is active."""
    dialects: Mapping[tuple[bool, bool], Dialect]
    """By whether TLS is active, and whether the client has said EHLO."""


@lru_cache(maxsize=64)  # a server has few configurations
def compiled(extensions: tuple[Extension, ...], config: Config) -> CompiledConfig:
    """The rules. Raises `LocalProtocolError` if `extensions` and `config` do not go together."""
    check_extensions(config, extensions)
    longest = longest_command_line(extensions, config)
    either = (False, True)
    return CompiledConfig(
        bare_lf=config.bare_newlines is not BareNewlines.REJECT,
        guards=config.require_tls or config.require_auth,
        enhances="ENHANCEDSTATUSCODES" not in config.disabled,
        longest_line=max(longest, MAX_AUTH_LINE if config.auth_mechanisms else 0),
        keywords={
            tls: tuple(known.announce(config) for known in offered_extensions(extensions, config, tls=tls))
            for tls in either
        },
        dialects={
            (tls, extended): dialect_of(extensions, config, tls=tls, extended=extended)
            for tls in either
            for extended in either
        },
    )
