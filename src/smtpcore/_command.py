"""The base class of commands."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Command:
    """A command with a class of its own. All other commands are `UnknownCommand`."""

    verb: ClassVar[str] = ""
    """The verb on the wire, in upper case."""

    def __str__(self) -> str:
        return self.verb

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included. Raises `LocalProtocolError` if a parameter is malformed."""
        return f"{self}\r\n".encode()
