"""Any text after a path is either refused with a reply, or parsed into parameters that keep their meaning when sent."""

from collections.abc import Callable
from typing import Any

from smtpcore import (
    EXTENSIONS,
    EnvelopeId,
    Extension,
    InvalidCommand,
    Mail,
    Mailbox,
    OriginalRecipient,
    Parameter,
    Params,
    Path,
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

PARAMETERS: list[tuple[type[Mail | Rcpt], Extension, Parameter[Any]]] = [
    *((Mail, extension, parameter) for extension in EXTENSIONS for parameter in extension.mail),
    *((Rcpt, extension, parameter) for extension in EXTENSIONS for parameter in extension.rcpt),
]
# Constructors of values from arbitrary text. Unlike the parsers, they encode the text.
MAKERS: dict[str, Callable[[str], object]] = {
    "ENVID": EnvelopeId.of,
    "ORCPT": lambda text: OriginalRecipient.of("utf-8", text),
    "AUTH": lambda text: Submitter(Mailbox(text)),
}


def check_line(line: str) -> None:
    """Check that a parsed command, when sent again, is parsed into an equal command."""
    command = heard(line)
    if isinstance(command, Mail | Rcpt):
        assert heard(str(command)) == command
        # `Parameter.of` raises nothing, and returns the parsed values.
        for kind, _, parameter in PARAMETERS:
            value = parameter.of(command.params)
            assert value is None or value == command.params[parameter.keyword]
            assert isinstance(command, kind) or value is None
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

    for kind, extension, parameter in PARAMETERS:
        make = MAKERS.get(parameter.keyword)
        try:
            values = [made(parameter.parse, text), made(make, text) if make else None]
        except ValueError:
            continue

        for value in values:
            if value is not None:
                check_sent(kind(Path("a@c.example"), Params({parameter.keyword: value})), extension)


def check_sent(command: Mail | Rcpt, extension: Extension) -> None:
    """Check that a sent command is parsed as an equal command, unless its extension is off or refuses the value."""
    event = heard(str(command))
    if isinstance(event, InvalidCommand):
        assert event.rule in ("unknown_parameters", extension.keyword)
    else:
        assert event == command


def test_one_input(data: bytes) -> None:
    """Use the input as parameters of MAIL, as parameters of RCPT, and as a value."""
    text = Draw(data).text()
    check_line(f"MAIL FROM:<a@c.example> {text}")
    check_line(f"RCPT TO:<u@s.example> {text}")
    check_value(text)
