"""BURL: parts of a message that the server fetches from a URL (RFC 4468)."""

from dataclasses import dataclass
from typing import ClassVar

from .._errors import LocalProtocolError
from .._fields import check_fields
from .._replies import Reply
from .._states import State
from ._definition import Extension, ExtensionCommand


@dataclass(frozen=True, slots=True)
class Burl(ExtensionCommand):
    """`BURL uri [LAST]`: the URL of a part of the body, which the server fetches (RFC 4468 section 3).

    Raises `LocalProtocolError` for a text that is not a URL.
    """

    states: ClassVar[frozenset[State]] = frozenset({State.RCPT, State.CHUNKED})
    default_reply: ClassVar[Reply] = Reply(554, "The URL cannot be fetched", enhanced="5.6.6")

    uri: str
    """The URL of the part."""
    last: bool = False
    """Whether the body ends with this part."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not self.uri or " " in self.uri or not self.uri.isascii() or not self.uri.isprintable():
            raise LocalProtocolError(f"{self.uri!r} is not a URI")

    @classmethod
    def parse(cls, argument: str) -> "Burl":
        """Parse the URL and the word LAST."""
        uri, space, rest = argument.partition(" ")
        if space and rest.upper() != "LAST":
            raise ValueError("a URI may be followed by LAST only")

        return Burl(uri, last=bool(space))

    def objection(self, terms: tuple[str, ...]) -> Reply | None:
        """Refuse URLs whose scheme is not announced (RFC 4468 3.1)."""
        if self.uri.partition(":")[0].lower() in {word.partition(":")[0].lower() for word in terms}:
            return None

        return Reply(504, "URLs of this scheme are not fetched here", enhanced="5.5.4")

    def __str__(self) -> str:
        return f"BURL {self.uri}{' LAST' if self.last else ''}"


EXTENSION: Extension = Extension(
    keyword="BURL",
    arguments=lambda config: " ".join(config.burl),
    parse_arguments=lambda text: tuple(text.split()),
    # Section 4: BURL is offered together with 8BITMIME. The RFC defines BURL for submission, not for LMTP.
    offered=lambda config, tls: "8BITMIME" not in config.disabled and not config.lmtp,
    commands=(Burl,),
)
