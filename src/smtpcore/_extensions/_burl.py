"""BURL: parts of a message that the server fetches from a URL (RFC 4468)."""

from dataclasses import dataclass
from typing import ClassVar

from .._command import Command
from .._errors import LocalProtocolError
from ._definition import Extension
from ._parsing import parse_words


@dataclass(frozen=True, slots=True)
class Burl(Command):
    """`BURL uri [LAST]`: the URL of a part of the body, which the server fetches (RFC 4468 section 3).

    Raises `LocalProtocolError` for a text that is not a URL.
    """

    verb: ClassVar[str] = "BURL"

    uri: str
    """The URL of the part."""
    last: bool = False
    """Whether the body ends with this part."""

    def __post_init__(self) -> None:
        if not self.uri or " " in self.uri or not self.uri.isascii() or not self.uri.isprintable():
            raise LocalProtocolError(f"{self.uri!r} is not a URI")

    def __str__(self) -> str:
        return f"BURL {self.uri}{' LAST' if self.last else ''}"


EXTENSION = Extension(
    keyword="BURL",
    arguments=lambda config: " ".join(config.burl),
    parse_arguments=parse_words,
    # Section 4: BURL is offered together with 8BITMIME. It is for submission, and the RFC does not mention LMTP.
    offered=lambda config, tls: "8BITMIME" not in config.disabled and not config.lmtp,
    verbs=frozenset({"BURL"}),
)
