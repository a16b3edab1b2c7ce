"""Say to the next server what a client has said, in the words that the next server knows."""

# A relay may not just leave out what the next server does not understand: each extension says what has to be done
# then. Where that is to tell the sender, the one who can is our client: it is still there, so it gets a refusal.

from collections.abc import Callable, Mapping
from typing import TypeAlias

from smtpcore import EXTENSIONS, BodyType, Mail, NoSupport, Notify, Params, Rcpt, Reply, Submitter

Offers: TypeAlias = Mapping[str, object]


def translate_mail(mail: Mail, offers: Offers, *, is_private: bool, is_trusted: bool) -> Mail | Reply:
    """What to say for `mail` to a server that offers `offers`, or the refusal for our client.

    `is_private` tells whether there is verified TLS to that server, `is_trusted` whether our client is authenticated.
    """
    path, params = mail.reverse_path, mail.params
    # RFC 8689 4.2.1; section 5 leaves notifications, which have no sender, free to travel without.
    if params.requiretls and path and not (is_private and "REQUIRETLS" in offers):
        return Reply(550, "The next server does not support REQUIRETLS", enhanced="5.7.30")
    if params.smtputf8 and "SMTPUTF8" not in offers and not path.text.isascii():
        return Reply(550, "The next server takes no non-ASCII sender", enhanced="5.6.7")  # RFC 6531 3.5

    limit = offers.get("SIZE")
    if type(limit) is int and (params.size or 0) > limit:
        return Reply(552, f"The next server takes no more than {limit} octets", enhanced="5.3.4")  # RFC 1870 section 6

    kept = _keep(mail, offers)
    if isinstance(kept, Reply):
        return kept
    if "BODY" not in params and takes_eight_bit(offers):
        kept["BODY"] = BodyType.EIGHT_BIT_MIME  # not every client says so, and what comes is not known yet
    if "AUTH" in kept and not is_trusted:
        kept["AUTH"] = Submitter()  # RFC 4954 section 5: what is not known to be true is not passed on

    return Mail(path, Params(kept))


def translate_rcpt(rcpt: Rcpt, offers: Offers) -> Rcpt | Reply:
    """What to say for `rcpt` to a server that offers `offers`, or the refusal for our client."""
    if not rcpt.forward_path.text.isascii() and "SMTPUTF8" not in offers:
        return Reply(553, "The next server takes no non-ASCII addresses", enhanced="5.6.7")  # RFC 6531 3.5

    kept = _keep(rcpt, offers)
    return kept if isinstance(kept, Reply) else Rcpt(rcpt.forward_path, Params(kept))


def takes_eight_bit(offers: Offers) -> bool:
    """Whether a server takes octets beyond ASCII. SMTPUTF8 comes with that (RFC 6531 3.1 (8))."""
    return "8BITMIME" in offers


def _keep(command: Mail | Rcpt, offers: Offers) -> dict[str, object] | Reply:
    kept = {}
    for keyword, value in command.params.items():
        if _is_offered(command, keyword, value, offers):
            kept[keyword] = value
            continue

        refusal = _WITHOUT.get(keyword, _refuse)(value)
        if refusal:
            return refusal

    return kept


def _is_offered(command: Mail | Rcpt, keyword: str, value: object, offers: Offers) -> bool:
    if value is BodyType.BINARYMIME:
        return {"BINARYMIME", "CHUNKING"} <= offers.keys()

    by = (entry.keyword for entry in EXTENSIONS if keyword in (entry.mail if isinstance(command, Mail) else entry.rcpt))
    return any(name in offers for name in by) or keyword in offers


# What is done where the extension is missing: leave it out, or refuse.


def _refuse(value: object) -> Reply | None:
    return Reply(555, "The next server does not support a parameter of this command", enhanced="5.5.4")


def _drop(value: object) -> Reply | None:
    return None


def _without_body(value: object) -> Reply | None:
    # RFC 3030 section 3: binary data would have to be encoded. 8-bit data is refused where there is some in the body.
    if value is BodyType.BINARYMIME:
        return Reply(554, "The next server takes no binary messages", enhanced="5.6.3")

    return None


def _without_notify(value: object) -> Reply | None:
    # RFC 3461 5.2.2 (b): someone would have to send a "relayed" notification.
    if isinstance(value, frozenset) and Notify.SUCCESS in value:
        return Reply(554, "The next server does not notify of success", enhanced="5.3.3")

    return None


def _without_by(value: object) -> Reply | None:
    # RFC 2852 4.1.4.1, and 4.1.4.2: someone would have to send a "relayed" notification.
    return Reply(554, "The next server does not support DELIVERBY", enhanced="5.3.3")


def _without_rrvs(value: object) -> Reply | None:
    if getattr(value, "no_support", None) is NoSupport.CONTINUE:
        return None

    return Reply(550, "The next server does not support RRVS", enhanced="5.7.19")  # RFC 7293 5.1.1


_WITHOUT: Mapping[str, Callable[[object], Reply | None]] = {
    "SIZE": _drop,  # RFC 1870: an estimate
    "BODY": _without_body,
    "SMTPUTF8": _drop,  # the header is looked at when it comes
    "RET": _drop,  # RFC 3461 5.2.2 (a)
    "ENVID": _drop,
    "ORCPT": _drop,
    "NOTIFY": _without_notify,
    "AUTH": _drop,  # RFC 4954 section 5
    "BY": _without_by,
    "MT-PRIORITY": _drop,  # RFC 6710 4.3
    "REQUIRETLS": _drop,  # of a notification, see above
    "SOLICIT": _drop,  # RFC 3865 2.4
    "RRVS": _without_rrvs,
}
