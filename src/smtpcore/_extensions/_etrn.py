"""ETRN: ask the server to send the messages that it holds for a host (RFC 1985)."""

from dataclasses import dataclass
from typing import ClassVar

from .._errors import LocalProtocolError
from .._fields import check_fields
from .._grammar import match_atom, match_domain
from .._replies import Reply
from ._definition import Extension, ExtensionCommand
from ._parsing import parse_nothing


@dataclass(frozen=True, slots=True)
class Etrn(ExtensionCommand):
    """`ETRN node`: send the queue of a domain, of a domain and its subdomains (`@`), or a named queue (`#`) (RFC 1985).

    Raises `LocalProtocolError` for an argument that is neither a fully qualified domain nor a queue.
    """

    default_reply: ClassVar[Reply] = Reply(458, "The queue of this node cannot be started", enhanced="4.5.0")

    argument: str
    """The domain or queue, with its `@` or `#`."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        option = self.argument[:1] if self.argument[:1] in ("@", "#") else ""
        node = self.argument.removeprefix(option)
        # RFC 1985 section 5: `#` precedes an atom, and `@` a domain. A domain without `@` has to be fully qualified.
        is_node = match_atom(node) if option == "#" else match_domain(node) and (option or "." in node)
        if not is_node or not node.isascii():
            raise LocalProtocolError(f"{self.argument!r} is neither a fully qualified domain, nor # and a queue")

    @classmethod
    def parse(cls, argument: str) -> "Etrn | Reply":
        """Parse the domain or queue."""
        # RFC 1985 section 7
        return Etrn(argument) if argument else Reply(500, "Syntax: ETRN and a domain", enhanced="5.5.2")

    def __str__(self) -> str:
        return f"ETRN {self.argument}"


EXTENSION: Extension = Extension(keyword="ETRN", parse_arguments=parse_nothing, commands=(Etrn,))
