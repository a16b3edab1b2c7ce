"""Any text after a path is either refused with a reply, or parsed into parameters that keep their meaning when sent."""

from collections.abc import Callable

from smtpcore import (
    EnvelopeId,
    InvalidCommand,
    Mail,
    Mailbox,
    OriginalRecipient,
    Rcpt,
    Submitter,
    decode_xtext,
    encode_xtext,
)
from smtpcore.parameters import decode_unitext, encode_unitext

from .harness import Draw, heard, made

CODECS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (decode_xtext, encode_xtext),
    (decode_unitext, encode_unitext),
)

PROPERTIES = [
    "size",
    "body",
    "ret",
    "envid",
    "by",
    "holdfor",
    "holduntil",
    "solicit",
    "auth",
    "notify",
    "orcpt",
    "rrvs",
]


def check_line(line: str) -> None:
    """Check that a parsed command, when sent again, is parsed into an equal command."""
    command = heard(line)
    if isinstance(command, Mail | Rcpt):
        assert heard(str(command)) == command
        # The typed properties raise nothing, and return the parsed values.
        for name in PROPERTIES:
            value = getattr(command.params, name)
            assert value is None or value == command.params[name]
    elif "\n" not in line and "\r" not in line:
        assert isinstance(command, InvalidCommand)
        assert command.reply.code in (500, 501, 552, 555)


def check_value(text: str) -> None:
    """Check that a parsed value can be sent, and that the ASCII codecs are inverses of each other."""
    for decode, encode in CODECS:
        try:
            meaning = decode(text)
        except ValueError:
            continue

        assert decode(encode(meaning)) == meaning

    for make in (EnvelopeId, EnvelopeId.of, OriginalRecipient, lambda text: Submitter(Mailbox(text))):
        value = made(make, text)
        if value is None:
            continue

        line = {
            EnvelopeId: f"MAIL FROM:<> ENVID={value}",
            OriginalRecipient: f"RCPT TO:<a@c.example> ORCPT={value}",
            Submitter: f"MAIL FROM:<> AUTH={value}",
        }[type(value)]
        command = heard(line)
        assert isinstance(command, Mail | Rcpt)
        assert list(command.params.values()) == [value]


def test_one_input(data: bytes) -> None:
    """Use the input as parameters of MAIL, as parameters of RCPT, and as a value."""
    text = Draw(data).text()
    check_line(f"MAIL FROM:<a@c.example> {text}")
    check_line(f"RCPT TO:<u@s.example> {text}")
    check_value(text)
