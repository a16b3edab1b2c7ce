"""AUTH: SASL authentication, and the AUTH parameter of MAIL (RFC 4954)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .._addresses import Mailbox, strict_mailbox
from .._fields import Checked
from .._grammar import match_mechanism
from .._xtext import decode_xtext, encode_xtext
from ._definition import Extension, NextHop, Parameter


@dataclass(frozen=True, slots=True)
class Submitter(Checked):
    """The AUTH parameter of MAIL: the submitter of the message (RFC 4954 section 5). Falsy if the submitter is unknown.

    The client may claim anything. The submitter counts as unknown unless the client is authenticated and trusted.
    """

    mailbox: Mailbox | None = None
    """The mailbox of the submitter. None for `<>`: the submitter is unknown."""

    def __bool__(self) -> bool:
        return self.mailbox is not None

    def __str__(self) -> str:
        return encode_xtext(str(self.mailbox)) if self.mailbox else "<>"


def _parse_auth(text: str, make: Callable[[str], Mailbox] = strict_mailbox) -> Submitter:
    mailbox = decode_xtext(text)
    return Submitter(None if mailbox == "<>" else make(mailbox))


def _parse_mechanisms(text: str) -> tuple[str, ...]:
    # RFC 4954 section 3. A server that names no valid mechanism does not offer AUTH.
    mechanisms = tuple(dict.fromkeys(word for word in text.upper().split() if match_mechanism(word)))
    if not mechanisms:
        raise ValueError("AUTH names no mechanism")

    return mechanisms


def _relay(submitter: Submitter, hop: NextHop) -> Submitter | None:
    if "AUTH" not in hop.offers:
        return None

    return submitter if hop.is_trusted else Submitter()  # RFC 4954 section 5: do not pass an unverified claim on


_EXAMPLES = (Submitter(), Submitter(Mailbox("e=mc2@example.com")), Submitter(Mailbox('"a b"@example.com')))
_carry = partial(_parse_auth, make=Mailbox)
AUTH = Parameter("AUTH", Submitter, _parse_auth, octets=500, relay=_relay, carry=_carry, examples=_EXAMPLES)

EXTENSION: Extension = Extension(
    keyword="AUTH",
    arguments=lambda config: " ".join(config.auth_mechanisms),
    parse_arguments=_parse_mechanisms,
    offered=lambda config, tls: bool(config.auth_mechanisms if tls else config.plaintext_mechanisms),
    mail=(AUTH,),
    verbs=frozenset({"AUTH"}),
)
