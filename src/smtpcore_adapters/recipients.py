"""Handlers that accept mail for certain recipients."""

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv6Address
from typing import Any, Protocol
from unicodedata import normalize

from smtpcore import LocalProtocolError, Mailbox, Rcpt, Reply, show_texts

from .server._session import Session


class AnyRecipient:
    """Accepts every recipient. Use this for tests on a loopback address only: on the Internet it is an open relay."""

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply:
        """Accept the recipient."""
        return Reply(250, "Recipient accepted", enhanced="2.1.5")


class Recipients:
    """Accepts the given addresses, and every address at the given domains.

    Each spelling of a domain is accepted: any letter case, U-labels or A-labels (RFC 5890 2.3.2.1), and each notation
    of an IP address.
    `postmaster` is also accepted at each of these domains and without a domain, as RFC 5321 4.5.1 requires. Raises
    `ValueError` for an entry that is neither an address nor a domain.
    """

    def __init__(self, addresses_or_domains: Iterable[str]) -> None:
        if isinstance(addresses_or_domains, str):
            raise TypeError(f"pass recipients as a list: [{addresses_or_domains!r}]")

        self._addresses: set[tuple[str, str]] = set()
        self._domains: set[str] = set()
        for entry in addresses_or_domains:
            self._add(entry)

        self._known_domains = self._domains | {domain for _, domain in self._addresses}

    def _add(self, entry: str) -> None:
        try:
            # The part after the `@` of a mailbox is a valid domain.
            mailbox = Mailbox(entry if "@" in entry else f"postmaster@{entry}")
        except LocalProtocolError:
            raise ValueError(f"{entry!r} is neither an address nor a domain") from None

        if "@" in entry:
            self._addresses.add(_key(mailbox))
        else:
            self._domains.add(_domain_of(mailbox))

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply:
        """Accept the recipient, or refuse it with 550."""
        path = rcpt.forward_path
        mailbox = path.mailbox
        if not mailbox:
            is_accepted, is_known = path.is_postmaster, False
        else:
            key = _key(mailbox)
            is_known = key[1] in self._known_domains
            is_accepted = key[1] in self._domains or key in self._addresses or (is_known and path.is_postmaster)

        if is_accepted:
            return Reply(250, "Recipient accepted", enhanced="2.1.5")
        if is_known:
            return Reply(550, "No such recipient here", enhanced="5.1.1")

        return Reply(550, "We do not relay", enhanced="5.7.1")  # RFC 5321 3.6.2


class RecipientPolicy(Protocol):
    """A policy that accepts or refuses recipients, such as `Recipients` and `Users`."""

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply | None:
        """Accept or refuse the recipient, or return None to leave the decision to later handlers."""


class RecipientFilter:
    """Refuses recipients that no policy accepts, and leaves all other recipients to later handlers.

    Use this class before a handler such as `Forward`, which asks the next server about the remaining recipients:
    `app.include(RecipientFilter(Recipients(["example.org"])))`.
    """

    def __init__(self, *policies: RecipientPolicy) -> None:
        for policy in policies:
            if not callable(getattr(policy, "on_rcpt", None)):
                raise TypeError(f"{policy!r} has no method on_rcpt: for addresses and domains, pass Recipients([...])")

        self._policies = policies

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply | None:
        """Return None if a policy accepts the recipient, otherwise the refusal of the last policy."""
        refusal = Reply(550, "We do not relay", enhanced="5.7.1")  # RFC 5321 3.6.2
        for policy in self._policies:
            reply = await policy.on_rcpt(session, rcpt)
            if reply and reply.is_positive:
                return None
            refusal = reply or refusal

        return refusal


class Authenticator(Protocol):
    """An object whose `on_auth` authenticates users, such as `Users`."""

    @property
    def on_auth(self) -> Callable[..., object]:
        """The handler of `auth`."""
        ...


class RelayPolicy:
    """Lets authenticated clients send to every recipient, and all other clients only to local recipients.

    Include the policy before `Forward`: `app.include(RelayPolicy(Users({"tim": "secret"}), local=["example.org"]))`.
    All other recipients are refused with 550. The permitted recipients are left to later handlers, so that `Forward`
    asks the next server about each of them. Without a later handler, permitted recipients are refused too.

    `users` authenticates clients: `Users`, or an object of your own with a method `on_auth`. None, the default, is for
    programs whose other handlers authenticate clients. `local` has addresses and domains, as for `Recipients`; by
    default it is empty, so that only authenticated clients can send mail. A recipient of another client is also local
    if one of `policies` accepts it.
    """

    on_auth: Callable[..., object]
    """The handler of `auth`: the method of `users`. The attribute is missing without `users`."""

    def __init__(
        self, users: Authenticator | None = None, *policies: RecipientPolicy, local: Collection[str] = ()
    ) -> None:
        self._others = RecipientFilter(*policies, *([Recipients(local)] if local else []))
        if users is not None:
            self.on_auth = users.on_auth

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply | None:
        """Return None for an authenticated client and for a local recipient, otherwise a refusal."""
        return None if session.identity else await self._others.on_rcpt(session, rcpt)


def _key(mailbox: Mailbox) -> tuple[str, str]:
    # Letter case in local parts is ignored. RFC 5321 2.4 leaves the interpretation of a local part to its own host.
    # RFC 6532 3.1: the same text has several forms in Unicode, which NFC makes equal.
    return normalize("NFC", mailbox.local_part.lower()), _domain_of(mailbox)


def _domain_of(mailbox: Mailbox) -> str:
    """Return the domain of a mailbox as a text that is the same for all spellings of the domain."""
    address = mailbox.address
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address:
        return f"[{address}]"

    return ".".join(map(_a_label, mailbox.domain.split(".")))


def _a_label(label: str) -> str:
    # RFC 5890 2.3.2.1. The codec `idna` follows IDNA 2003, which treats some different names as equal.
    return label if label.isascii() else f"xn--{normalize('NFC', label).encode('punycode').decode()}"


show_texts(globals())
