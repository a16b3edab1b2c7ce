"""The envelope that the header of a message implies, by the rules of `smtplib.SMTP.send_message`."""

# RFC 5322 3.6.6: a message that was sent again has a block of Resent- fields, and the recipients of the last transport
# are in this block only. A message that was sent again twice has two blocks, and nothing marks the end of a block. So
# such a message needs an explicit envelope. smtplib uses the block only if it has Resent-Date, and otherwise sends the
# message to its first recipients again. Here each of these fields shows that the message was sent again.

import re
from email.message import Message

from smtpcore import LocalProtocolError

from ._address_lists import parse_field
from ._envelope import Recipients, Sender


def envelope_of(body: object, sender: Sender | None, recipients: Recipients | None) -> tuple[Sender, Recipients]:
    """Return the sender and the recipients: the given ones or, for None, those in the header of a message.

    Raises:
        LocalProtocolError: the header shows no sender, or no recipient, or `body` is not of the `email` package.
    """
    if sender is not None and recipients is not None:
        return sender, recipients
    if not isinstance(body, Message):
        raise LocalProtocolError(
            "only the header of an EmailMessage shows the envelope: give the sender and the recipients"
        )

    return (
        sender_of(body) if sender is None else sender,
        recipients_of(body) if recipients is None else recipients,
    )


def sender_of(message: Message) -> str:
    """Return the address of Sender or, without this field, the first address of From.

    Raises:
        LocalProtocolError: there is no such address, or the message was sent again more than once.
    """
    prefix = _prefix(message)
    names = [prefix + name for name in ("Sender", "From") if prefix + name in message]
    found = _addresses(message, names[:1])
    if not found:
        raise LocalProtocolError(f"the message has no address in {prefix}Sender or {prefix}From: give the sender")

    return found[0]


def recipients_of(message: Message) -> list[str]:
    """Return the addresses of To, Cc and Bcc.

    Raises:
        LocalProtocolError: there is no such address, or the message was sent again more than once.
    """
    prefix = _prefix(message)
    found = _addresses(message, [prefix + name for name in ("To", "Cc", "Bcc")])
    if not found:
        raise LocalProtocolError(
            f"the message has no address in {prefix}To, {prefix}Cc or {prefix}Bcc: give the recipients"
        )

    return found


def _prefix(message: Message) -> str:
    # RFC 5322 3.6.6: each of these fields occurs at most once in a block.
    blocks = max(len(message.get_all(name, [])) for name in _RESENT)
    if blocks > 1:
        raise LocalProtocolError(
            "the message has several blocks of Resent- fields, so its header shows no envelope: "
            "give the sender and the recipients"
        )

    return "Resent-" if blocks else ""


_RESENT = ("Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Bcc")


def _addresses(message: Message, names: list[str]) -> list[str]:
    wanted = {name.lower(): name for name in names}
    found: list[str] = []
    for field, value in message.raw_items():
        if name := wanted.get(field.lower()):
            try:
                found += _parse(name, _text_of(value))
            except Exception as exc:  # the parser raises several exceptions for malformed addresses
                raise LocalProtocolError(f"{name} is not a list of addresses: {str(value)[:200]!r}") from exc

    return found


def _text_of(value: object) -> str:
    """Return the value of a field without folding (RFC 5322 2.2.3). Raises `ValueError` for any other line end."""
    text = _sub_fold("", str(value).rstrip("\r\n"))
    if "\r" in text or "\n" in text:  # the rest may be another field, which a stranger has put into a name
        raise ValueError("a line end that is no folding")

    # The parser of the `email` package turns octets beyond ASCII, such as UTF-8 (RFC 6532), into surrogates.
    # Names may have octets in another charset.
    return text.encode(errors="surrogateescape").decode(errors="replace")


_sub_fold = re.compile(r"(\r\n|\r|\n)(?=[ \t])").sub


def _parse(name: str, value: str) -> list[str]:
    found, defects = parse_field(name, value)
    # In "Tim tim@example.org" the parser would take the name as a part of the address.
    is_list = not any(defect.startswith(_ERRORS) for defect in defects)
    if "<>" in found or any("\ufffd" in address for address in found) or not is_list:
        raise ValueError(name)

    return found


_ERRORS = ("invalid address", "invalid mailbox", "missing '.' between words")
"""The beginnings of defects that are no obsolete syntax."""
