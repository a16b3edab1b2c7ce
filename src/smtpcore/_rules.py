"""What a configuration and its extensions come to, worked out once for all connections that share them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ._config import BareNewlines, Config
from ._extensions import Extension, check_extensions, longest_command_line, offered_extensions
from ._parser import MAX_AUTH_LINE, Dialect, dialect_of


@dataclass(frozen=True, slots=True)
class Rules:
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
def rules_of(extensions: tuple[Extension, ...], config: Config) -> Rules:
    """The rules. Raises `LocalProtocolError` if `extensions` and `config` do not go together."""
    check_extensions(config, extensions)
    longest = longest_command_line(extensions, config)
    either = (False, True)
    return Rules(
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
