"""What an ESMTP extension is (RFC 5321 2.2)."""

# One entry for each extension says all that the rest of the package has to know of it: what EHLO announces, which
# parameters MAIL and RCPT take, which verbs come with it. What is announced is exactly what is accepted, because both
# are read from here.

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._commands import Mail, Rcpt
from .._config import Config
from .._errors import LocalProtocolError
from .._grammar import match_keyword
from .._replies import Reply
from ._announcements import parse_text


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameter:
    """A parameter of MAIL or RCPT."""

    parse: Callable[[str | None], object]
    """Turns the text behind the `=`, None where there is none, into the value, whose `str` is such a text again.

    Raises `ValueError` or `LocalProtocolError`, which is answered 501.
    """
    octets: int
    """By how much it lengthens the longest allowed command line (RFC 5321 4.5.3.1.4)."""
    enhanced: str = "5.5.4"
    """The enhanced status code where it is malformed, or given twice."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extension:
    r"""An ESMTP extension.

    One of your own, whose parameter is parsed into your own type:

    >>> from smtpcore import EXTENSIONS, Config, Connection, Extension, Mail, Parameter
    >>> class Tenant:
    ...     def __init__(self, text: str | None) -> None:
    ...         if text is None or not text.isalnum():
    ...             raise ValueError("a tenant is named by letters and digits")
    ...         self.name = text
    ...     def __str__(self) -> str:
    ...         return self.name
    >>> tenants = Extension(keyword="XTENANT", mail={"XTENANT": Parameter(parse=Tenant, octets=40)})
    >>> conn = Connection(Config(hostname="mx.example.org"), extensions=(*EXTENSIONS, tenants))

    EHLO lists it, and MAIL carries it:

    >>> conn.receive_data(b"EHLO client.example\r\nMAIL FROM:<a@client.example> XTENANT=acme\r\n")
    >>> while not isinstance(event := conn.next_event(), Mail):
    ...     reply = conn.send(conn.default_reply(event))
    >>> "XTENANT" in reply.lines
    True
    >>> event.params.get_as("XTENANT", Tenant).name, str(event)
    ('acme', 'MAIL FROM:<a@client.example> XTENANT=acme')
    """

    keyword: str
    """The word in the reply to EHLO."""
    arguments: Callable[[Config], str] = lambda config: ""
    """What follows the keyword in the reply to EHLO."""
    parse_arguments: Callable[[str], object] = parse_text
    """Turns that text, empty where there is none, into the terms on which the extension is offered: a typed value.

    Where it raises `ValueError` or `LocalProtocolError`, a client takes the extension for not offered. By default the
    terms are the text, or True if it is empty.
    """
    offered: Callable[[Config, bool], bool] = lambda config, tls: True
    """Whether it is offered, given whether TLS is active."""
    mail: Mapping[str, Parameter] = field(default_factory=dict)
    """The parameters of MAIL, by keyword in upper case. Where two extensions name the same one, the later decides."""
    rcpt: Mapping[str, Parameter] = field(default_factory=dict)
    """The parameters of RCPT, by keyword in upper case."""
    verbs: frozenset[str] = frozenset()
    """The verbs that are not implemented unless this is offered."""
    objection: Callable[[Any, Mail | Rcpt], Reply | None] | None = None
    """What stands against a command with parameters, each of them well-formed, on the terms that were announced.

    A server answers with it; a client does not even send such a command. Called only if there are parameters.
    """

    def announce(self, config: Config) -> str:
        """The line in the reply to EHLO."""
        return f"{self.keyword} {self.arguments(config)}".rstrip()

    def terms(self, config: Config) -> object:
        """What `parse_arguments` makes of what is announced. Raises `LocalProtocolError` if that is nothing."""
        text = self.arguments(config)
        try:
            return self.parse_arguments(text)
        except ValueError as exc:
            raise LocalProtocolError(f"{self.keyword} announces {text!r}, which no client could read: {exc}") from exc


def offered_extensions(extensions: Iterable[Extension], config: Config, *, tls: bool) -> tuple[Extension, ...]:
    """Those of `extensions` that a connection offers now."""
    return tuple(
        extension
        for extension in extensions
        if extension.keyword not in config.disabled and extension.offered(config, tls)
    )


def read_keywords(lines: Iterable[str]) -> dict[str, str]:
    """What stands behind each keyword, in upper case, of a reply to EHLO without its first line.

    RFC 5321 4.1.1.1: keywords know no letter case. A line that does not begin with one says nothing.
    """
    found = (line.partition(" ") for line in lines)
    return {keyword.upper(): text.strip() for keyword, _, text in found if match_keyword(keyword)}


def read_terms(keywords: Mapping[str, str], extensions: Iterable[Extension]) -> dict[Extension, object]:
    """Those of `extensions` that a server offers, each with its terms. What is malformed is not offered."""
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


def longest_command_line(extensions: Iterable[Extension], config: Config) -> int:
    """The most octets, CR LF included, that a command line may have with all its parameters (RFC 5321 4.5.3.1.4)."""
    known = tuple(extensions)
    entries = {entry for tls in (False, True) for entry in offered_extensions(known, config, tls=tls)}
    mail = sum(parameter.octets for entry in entries for parameter in entry.mail.values())
    rcpt = sum(parameter.octets for entry in entries for parameter in entry.rcpt.values())
    return config.max_command_line + max(mail, rcpt)


def check_extensions(config: Config, extensions: Iterable[Extension]) -> None:
    """Raise `LocalProtocolError` if what is enabled lacks what it builds on."""
    keywords = {extension.keyword for extension in extensions} - config.disabled
    # RFC 6531 3.1 (8)
    if "SMTPUTF8" in keywords and "8BITMIME" not in keywords:
        raise LocalProtocolError("SMTPUTF8 needs 8BITMIME: enable both, or disable both")
    # RFC 3030 section 3 (1)
    if "BINARYMIME" in keywords and "CHUNKING" not in keywords:
        raise LocalProtocolError("BINARYMIME needs CHUNKING: enable both, or disable both")
    # RFC 2033 section 5
    if config.lmtp and not {"PIPELINING", "ENHANCEDSTATUSCODES"} <= keywords:
        raise LocalProtocolError("LMTP needs PIPELINING and ENHANCEDSTATUSCODES: enable both")
