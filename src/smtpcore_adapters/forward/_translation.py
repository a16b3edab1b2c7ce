"""Adapt MAIL and RCPT to the extensions that the next server offers."""

# A relay may not simply leave out a parameter that the next server does not support: the RFC of each extension
# prescribes what to do. If the RFC prescribes a notification to the sender, the command is refused instead, so that the
# client, which is still connected, notifies the sender. The rule of a parameter is part of its definition:
# `Parameter.relay`.

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from smtpcore import EXTENSIONS, BodyType, Extension, Mail, NextHop, Parameter, Params, Path, Rcpt, Reply

Offers: TypeAlias = Mapping[str, object]


def translate_mail(
    mail: Mail, offers: Offers, *, is_private: bool, is_trusted: bool, extensions: Sequence[Extension] = EXTENSIONS
) -> Mail | Reply:
    """Return the MAIL to send to a server that offers `offers`, or the refusal for the client.

    `is_private` says whether the connection to the server uses verified TLS, `is_trusted` whether the client is
    authenticated.
    """
    path, params = _without_route(mail.reverse_path), mail.params
    hop = NextHop(offers=offers, path=path, is_private=is_private, is_trusted=is_trusted)
    kept = _relay(params, hop, [(known, parameter) for known in extensions for parameter in known.mail])
    if isinstance(kept, Reply):
        return kept
    if "BODY" not in params and takes_eight_bit(offers):
        # Some clients send 8-bit text without BODY. The body has not arrived yet, so it may have such text.
        kept["BODY"] = BodyType.EIGHT_BIT_MIME

    return Mail(path, Params(kept))


def translate_rcpt(rcpt: Rcpt, offers: Offers, *, extensions: Sequence[Extension] = EXTENSIONS) -> Rcpt | Reply:
    """Return the RCPT to send to a server that offers `offers`, or the refusal for the client."""
    path = _without_route(rcpt.forward_path)
    if not path.text.isascii() and "SMTPUTF8" not in offers:
        return Reply(553, "The next server accepts only ASCII addresses", enhanced="5.6.7")  # RFC 6531 3.5

    hop = NextHop(offers=offers, path=path)
    kept = _relay(rcpt.params, hop, [(known, parameter) for known in extensions for parameter in known.rcpt])
    return kept if isinstance(kept, Reply) else Rcpt(path, Params(kept))


def takes_eight_bit(offers: Offers) -> bool:
    """Return whether a server accepts octets beyond ASCII. SMTPUTF8 includes 8BITMIME (RFC 6531 3.1 (8))."""
    return "8BITMIME" in offers


def _without_route(path: Path) -> Path:
    # RFC 5321 4.1.1.3, appendix C: a relay should strip source routes, because only their final mailbox counts.
    return Path(path.address) if path.source_route else path


def _relay(
    params: Params, hop: NextHop, known: Iterable[tuple[Extension, Parameter[Any]]]
) -> dict[str, object] | Reply:
    kept: dict[str, object] = {}
    for keyword, value in params.items():
        entries = [(extension, parameter) for extension, parameter in known if parameter.keyword == keyword]
        relay = entries[-1][1].relay if entries else None
        if relay:
            decision = relay(value, hop)
        elif any(extension.keyword in hop.offers for extension, _ in entries):
            decision = value
        else:
            decision = Reply(555, "The next server does not support a parameter of this command", enhanced="5.5.4")

        if isinstance(decision, Reply):
            return decision
        if decision is not None:
            kept[keyword] = decision

    return kept
