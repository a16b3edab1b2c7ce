"""The base class of commands, and the commands that have no class of their own."""

from dataclasses import dataclass
from typing import ClassVar, Final

from ._errors import LocalProtocolError
from ._fields import check_fields
from ._grammar import find_control, is_encodable, match_keyword


class Parsed:
    """Base class of all commands. A command stores how the received line deviated from the grammar."""

    __slots__ = ("_deviations",)

    @property
    def deviations(self) -> tuple[str, ...]:
        """The accepted mistakes of the received line, such as `no-brackets` (`Tolerance.LENIENT`). Usually empty."""
        return getattr(self, "_deviations", ())  # no constructor sets the attribute, so it is usually missing


set_deviations: Final = Parsed.__dict__["_deviations"].__set__


@dataclass(frozen=True, slots=True, init=False)
class Command(Parsed):
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


@dataclass(frozen=True, slots=True)
class UnknownCommand(Parsed):
    """A command with an unknown verb. The default reply is a 500.

    Raises `LocalProtocolError` if the verb is not a word in upper case, and for control characters.
    """

    verb: str
    """The verb in upper case."""
    argument: str = ""
    """The text after the verb, as received."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if match_keyword(self.verb) is None or self.verb != self.verb.upper():
            raise LocalProtocolError(f"{self.verb!r} is not a verb: it should be a word in upper case")
        if find_control(self.argument) or not is_encodable(self.argument):
            raise LocalProtocolError(f"argument {self.argument!r} has control characters: remove them")

    def __str__(self) -> str:
        return f"{self.verb} {self.argument}".rstrip()

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included."""
        return f"{self}\r\n".encode()
