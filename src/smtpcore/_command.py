"""The base class of commands."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Command:
    """A command with a class of its own. All other commands are `UnknownCommand`."""

    verb: ClassVar[str] = ""
    """The verb on the wire, in upper case. By default the name of the class."""

    def __init_subclass__(cls) -> None:
        if "verb" not in vars(cls):
            cls.verb = cls.__name__.upper()

    def __str__(self) -> str:
        return self.verb

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included. Raises `LocalProtocolError` if a parameter is malformed."""
        return f"{self}\r\n".encode()
