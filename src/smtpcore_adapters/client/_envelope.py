"""Say about a message what MAIL and RCPT say."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeAlias, TypedDict

from smtpcore import (
    BodyType,
    DeliverBy,
    EnvelopeId,
    Mail,
    Mailbox,
    Notify,
    Params,
    Path,
    Rcpt,
    Ret,
    Submitter,
)

Sender: TypeAlias = str | Path | Mailbox
"""Whom failures are reported to; an empty one for a message that nothing may reply to."""

Recipient: TypeAlias = str | Path | Mailbox | Rcpt
"""For whom the message is; a `Rcpt` has parameters of its own."""


class SendOptions(TypedDict, total=False):
    """What may be said about a message. Each needs that the server offers the extension which has it."""

    body_type: BodyType
    """What the body consists of. By default 8BITMIME where it is needed, or may be, and offered. With BINARYMIME the
    body is sent exactly as it is; else each line is made to end in CR LF."""
    smtputf8: bool
    """Whether the header has UTF-8 (RFC 6531). By default, if an address of the envelope, or one in the header of an
    `EmailMessage`, is not ASCII."""
    size: int
    """The octets of the body, where they cannot be found out (RFC 1870)."""
    ret: Ret
    """What a notification of failure returns (RFC 3461)."""
    envid: str
    """What notifications call the message, in printable ASCII (RFC 3461)."""
    notify: Iterable[Notify]
    """Of what the sender wants to be told, for each recipient that is not a `Rcpt` (RFC 3461)."""
    requiretls: bool
    """Whether the message may travel under verified TLS only (RFC 8689)."""
    by: DeliverBy
    """Until when it has to be delivered (RFC 2852)."""
    mt_priority: int
    """From -9 to 9 (RFC 6710)."""
    hold_for: int
    """For how many seconds it is held (RFC 4865)."""
    hold_until: datetime
    """Until when it is held (RFC 4865)."""
    solicit: tuple[str, ...]
    """The classes of solicitation it belongs to (RFC 3865)."""
    submitter: Submitter
    """Who submitted it (RFC 4954 section 5)."""
    params: Mapping[str, object]
    """Further parameters of MAIL, by keyword."""


def make_mail(sender: Sender, options: SendOptions, found: Mapping[str, object]) -> Mail:
    """The MAIL command for `options`, and for what was `found` out about the message where they do not say it.

    Raises `LocalProtocolError` for what cannot be sent.
    """
    said: dict[str, object] = {
        "SIZE": options.get("size"),
        "BODY": options.get("body_type"),
        "SMTPUTF8": options.get("smtputf8"),
        "RET": options.get("ret"),
        "ENVID": EnvelopeId.of(options["envid"]) if "envid" in options else None,
        "REQUIRETLS": options.get("requiretls"),
        "BY": options.get("by"),
        "MT-PRIORITY": options.get("mt_priority"),
        "HOLDFOR": options.get("hold_for"),
        "HOLDUNTIL": options.get("hold_until"),
        "SOLICIT": options.get("solicit"),
        "AUTH": options.get("submitter"),
    }
    params = {
        **found,
        **{keyword: value for keyword, value in said.items() if value is not None},
        **options.get("params", {}),
    }
    return Mail(_path(sender), Params({keyword: value for keyword, value in params.items() if value is not False}))


def make_rcpts(recipients: Iterable[Recipient] | Recipient, options: SendOptions) -> list[Rcpt]:
    """The RCPT commands, one for each recipient.

    Raises `LocalProtocolError` for what cannot be sent, and where there is none.
    """
    if isinstance(recipients, str | Path | Mailbox | Rcpt):
        recipients = [recipients]

    notify = frozenset(options.get("notify", ()))
    params = Params({"NOTIFY": notify} if notify else {})
    rcpts = [each if isinstance(each, Rcpt) else Rcpt(_path(each), params) for each in recipients]
    # Who is named twice gets one copy, and has one reply.
    return list({rcpt.forward_path: rcpt for rcpt in reversed(rcpts)}.values())[::-1]


def _path(address: Sender) -> Path:
    return address if isinstance(address, Path) else Path(str(address))
