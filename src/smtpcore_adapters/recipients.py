"""Handlers that accept mail for certain recipients."""

from collections.abc import Iterable
from typing import Protocol

from smtpcore import LocalProtocolError, Mailbox, Path, Rcpt, Reply

from .server._session import Session


class AnyRecipient:
    """Accepts every recipient. Use this for tests on a loopback address only: on the Internet it is an open relay."""

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply:
        """Accept the recipient."""
        return Reply(250, "Recipient accepted", enhanced="2.1.5")


class Recipients:
    """Accepts the given addresses, and every address at the given domains.

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
            self._domains.add(mailbox.domain)

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply:
        """Accept the recipient, or refuse it with 550."""
        path = rcpt.forward_path
        if self._accepts(path):
            return Reply(250, "Recipient accepted", enhanced="2.1.5")
        if path.domain in self._known_domains:
            return Reply(550, "No such recipient here", enhanced="5.1.1")

        return Reply(550, "We do not relay", enhanced="5.7.1")  # RFC 5321 3.6.2

    def _accepts(self, path: Path) -> bool:
        if path.is_postmaster and path.domain in {"", *self._known_domains}:
            return True

        mailbox = path.mailbox
        return mailbox is not None and (mailbox.domain in self._domains or _key(mailbox) in self._addresses)


class RecipientPolicy(Protocol):
    """A policy that accepts or refuses recipients, such as `Recipients` and `Users`."""

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply | None:
        """Accept or refuse the recipient, or return None to leave the decision to later handlers."""


class RecipientFilter:
    """Refuses recipients that no policy accepts, and leaves the others to later handlers.

    Use it before a handler such as `Forward`, which asks the next server about the remaining recipients:
    `app.include(RecipientFilter(Recipients(["example.org"])))`.
    """

    def __init__(self, *policies: RecipientPolicy) -> None:
        self._policies = policies

    async def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply | None:
        """Return None if a policy accepts the recipient, otherwise the refusal of the last policy."""
        refusal = Reply(550, "We do not relay", enhanced="5.7.1")  # RFC 5321 3.6.2
        for policy in self._policies:
            reply = await policy.on_rcpt(session, rcpt)
            if reply and reply.is_positive:
                return None
            refusal = reply or refusal

        return refusal


def _key(mailbox: Mailbox) -> tuple[str, str]:
    # Letter case in local parts is ignored. RFC 5321 2.4 leaves the interpretation of a local part to its own host.
    return mailbox.local_part.lower(), mailbox.domain
