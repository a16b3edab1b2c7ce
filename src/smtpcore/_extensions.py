"""The table of ESMTP extensions (RFC 5321 2.2)."""

# One entry for each extension says all that the rest of the package has to know of it: what EHLO announces, which
# parameters MAIL and RCPT take, which verbs come with it. What is announced is exactly what is accepted, because both
# are read from here.

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ._config import Config
from ._params import BodyType


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameter:
    """A parameter of MAIL or RCPT."""

    parse: Callable[[str | None], object]
    """Turns the text behind the `=`, None where there is none, into the value. Raises `ValueError`."""
    octets: int
    """By how much it lengthens the longest allowed command line (RFC 5321 4.5.3.1.4)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extension:
    """An ESMTP extension."""

    keyword: str
    """The word in the reply to EHLO."""
    arguments: Callable[[Config], str] = lambda config: ""
    """What follows the keyword in the reply to EHLO."""
    offered: Callable[[Config, bool], bool] = lambda config, tls: True
    """Whether it is offered, given whether TLS is active."""
    mail: Mapping[str, Parameter] = field(default_factory=dict)
    """The parameters of MAIL, by keyword in upper case."""
    rcpt: Mapping[str, Parameter] = field(default_factory=dict)
    """The parameters of RCPT, by keyword in upper case."""
    verbs: frozenset[str] = frozenset()
    """The verbs that are not implemented unless this is offered."""

    def announce(self, config: Config) -> str:
        """The line in the reply to EHLO."""
        return f"{self.keyword} {self.arguments(config)}".rstrip()


def offered_extensions(extensions: Iterable[Extension], config: Config, *, tls: bool) -> tuple[Extension, ...]:
    """Those of `extensions` that a connection offers now."""
    return tuple(
        extension
        for extension in extensions
        if extension.keyword not in config.disabled and extension.offered(config, tls)
    )


def longest_command_line(extensions: Iterable[Extension], config: Config) -> int:
    """The most octets, CR LF included, that a command line may have with all its parameters (RFC 5321 4.5.3.1.4)."""
    entries = tuple(extensions)
    mail = sum(parameter.octets for entry in entries for parameter in entry.mail.values())
    rcpt = sum(parameter.octets for entry in entries for parameter in entry.rcpt.values())
    return config.max_command_line + max(mail, rcpt)


# Parsers of values


_match_size = re.compile(r"[0-9]{1,20}").fullmatch  # RFC 1870 section 3 (6)


def _parse_size(text: str | None) -> int:
    if text is None or not _match_size(text):
        raise ValueError("SIZE takes 1 to 20 digits")

    return int(text)


def _parse_body(text: str | None) -> BodyType:
    try:
        # As octets, because there are letters beyond ASCII whose capital is an I.
        return BodyType((text or "").encode("ascii").upper().decode())
    except ValueError:
        raise ValueError(f"BODY is one of {', '.join(body.value for body in BodyType)}") from None


def _parse_flag(text: str | None) -> bool:
    if text is not None:
        raise ValueError("this parameter takes no value")

    return True


EXTENSIONS = (
    # RFC 2920
    Extension(keyword="PIPELINING"),
    # RFC 1870. Section 3 (1): 0 stands for "no fixed maximum".
    Extension(
        keyword="SIZE",
        arguments=lambda config: str(config.max_message_size or 0),
        mail={"SIZE": Parameter(parse=_parse_size, octets=26)},
    ),
    # RFC 6152. It names no growth of the line; " BODY=8BITMIME" should not cost an address its room.
    Extension(keyword="8BITMIME", mail={"BODY": Parameter(parse=_parse_body, octets=14)}),
    # RFC 6531 3.1 (5): the MAIL line grows by 10 octets.
    Extension(keyword="SMTPUTF8", mail={"SMTPUTF8": Parameter(parse=_parse_flag, octets=10)}),
    # RFC 2034
    Extension(keyword="ENHANCEDSTATUSCODES"),
    # RFC 3207 4.2: not offered under TLS.
    Extension(keyword="STARTTLS", offered=lambda config, tls: config.tls and not tls, verbs=frozenset({"STARTTLS"})),
    # RFC 5321 3.5.2: VRFY works whether it is announced or not, EXPN has to be announced.
    Extension(keyword="VRFY"),
    Extension(keyword="EXPN", verbs=frozenset({"EXPN"})),
    # RFC 5321 4.1.1.8
    Extension(keyword="HELP", verbs=frozenset({"HELP"})),
)
"""The built-in extensions. Pass `(*EXTENSIONS, yours)` to a connection to add entries of your own."""
