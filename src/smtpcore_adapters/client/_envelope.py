"""The envelope of a message: build MAIL and RCPT from the options of `Client.send`."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeAlias, TypedDict

from smtpcore import (
    BodyType,
    DeliverBy,
    EnvelopeId,
    LocalProtocolError,
    Mail,
    Mailbox,
    Notify,
    Params,
    Path,
    Rcpt,
    Ret,
    Submitter,
    check_values,
)

from .._names import check_options
from ._address_lists import parse_paths
from ._preparation import Sign
from ._progress import Report

Sender: TypeAlias = str | Path | Mailbox
"""The reverse path, to which failures are reported; empty for a message that must not cause reports. A text may have a
name, as in the header: `Tim <tim@example.org>`."""

Recipient: TypeAlias = str | Path | Mailbox | Rcpt
"""A recipient; a `Rcpt` has its own parameters. A text may be a list with names, as in the field To of the header."""

Recipients: TypeAlias = Iterable[Recipient] | Recipient
"""The recipients of a message."""


class SendOptions(TypedDict, total=False):
    """The options of a message. Each option that sets a parameter needs a server that offers its extension."""

    size: int
    """The size of the body in octets, if it cannot be determined from the body (RFC 1870)."""
    body_type: BodyType
    """The type of the body.

    8BITMIME is the default if the server offers this extension, unless the body is known to be ASCII. BINARYMIME sends
    the body unchanged; with other types, line ends become CR LF.
    """
    smtputf8: bool
    """Whether the header has UTF-8 (RFC 6531). By default true if an address in the envelope, or in the header of an
    `EmailMessage`, is not ASCII."""
    ret: Ret
    """The part of the message that a failure notification contains (RFC 3461)."""
    envid: str
    """The identifier of the message in notifications, in printable ASCII (RFC 3461)."""
    notify: Iterable[Notify]
    """The events to notify the sender of (RFC 3461).

    This option has no effect for a recipient that is given as a `Rcpt`.
    """
    requiretls: bool
    """Whether servers may relay the message only over verified TLS (RFC 8689)."""
    by: DeliverBy
    """The time limit for the delivery (RFC 2852)."""
    mt_priority: int
    """The priority, from -9 to 9 (RFC 6710)."""
    hold_for: int
    """Seconds to hold the message before its delivery (RFC 4865)."""
    hold_until: datetime
    """The time until which the message is held (RFC 4865)."""
    solicit: tuple[str, ...]
    """The solicitation class keywords of the message (RFC 3865)."""
    submitter: Submitter
    """The submitter of the message, for AUTH= (RFC 4954 section 5)."""
    sign: Sign
    """A function or coroutine function that signs the message, for example with DKIM. It gets the octets exactly as the
    server gets them, and returns header fields for the top of the message, or the whole signed message. The message is
    held in memory. A plain function runs in a thread."""
    progress: Report
    """A function that is called after each piece of the body: with the number of octets that were sent, and the size of
    the body or None if the size is unknown. If the message is sent in several transactions, the count starts again."""
    params: Mapping[str, object]
    """Parameters of MAIL from your own extensions, by keyword: see `ConnectOptions.extensions`."""


_UNLIKE_THEIR_KEYWORDS = {"body_type": "BODY", "hold_for": "HOLDFOR", "hold_until": "HOLDUNTIL", "submitter": "AUTH"}
KEYWORDS: Mapping[str, str] = {
    option: _UNLIKE_THEIR_KEYWORDS.get(option, option.upper().replace("_", "-"))
    for option in SendOptions.__annotations__
    if option not in ("notify", "params", "sign", "progress")
}
"""The keyword of the MAIL parameter that each option sets, in the order on the wire."""


def check_send_options(options: SendOptions) -> None:
    """Raise `TypeError` for an unknown option, and for a value of a wrong type."""
    check_options("an option of send", options, SendOptions.__annotations__)
    check_values(options, SendOptions)


def make_mail(sender: Sender, options: SendOptions, found: Mapping[str, object]) -> Mail:
    """Return the MAIL command for `options`. The parameters `found` in the message itself are defaults.

    Raise `LocalProtocolError` for values that cannot be sent.
    """
    values = dict(options.items())
    given = {keyword: values[option] for option, keyword in KEYWORDS.items() if values.get(option) is not None}
    if "envid" in options:
        given["ENVID"] = EnvelopeId.of(options["envid"])

    params = {**found, **given, **options.get("params", {})}
    return Mail(
        sender_path(sender), Params({keyword: value for keyword, value in params.items() if value is not False})
    )


def make_rcpts(recipients: Recipients, options: SendOptions) -> list[Rcpt]:
    """Return the RCPT commands, one for each recipient.

    Raise `LocalProtocolError` for values that cannot be sent, and `TypeError` for values of another type.
    """
    if isinstance(recipients, str | Path | Mailbox | Rcpt):
        recipients = [recipients]
    if isinstance(recipients, bytes | bytearray | memoryview):  # it would be read as a list of numbers
        raise TypeError(f"recipients cannot be of type {type(recipients).__name__}: {_USE}")

    notify = frozenset(options.get("notify", ()))
    params = Params({"NOTIFY": notify} if notify else {})
    rcpts: list[Rcpt] = []
    for each in recipients:
        rcpts += [each] if isinstance(each, Rcpt) else [Rcpt(path, params) for path in _paths(each)]

    return rcpts


def sender_path(address: Sender) -> Path:
    """Return the path of a sender. `<>`, the spelling of MAIL, is the empty sender.

    Raise `LocalProtocolError` for anything but one address, and `TypeError` for a value of another type.
    """
    paths = _paths("" if isinstance(address, str) and address == "<>" else address)
    if len(paths) > 1:
        raise LocalProtocolError(f"{str(address)!r} has {len(paths)} addresses: a message has one sender")

    return paths[0]


_USE = "use str, Path, Mailbox or, for recipients, Rcpt"


def _paths(address: Sender) -> list[Path]:
    if not isinstance(address, str | Path | Mailbox):
        raise TypeError(f"an address cannot be {address!r:.80} of type {type(address).__name__}: {_USE}")

    return [address] if isinstance(address, Path) else parse_paths(str(address))
