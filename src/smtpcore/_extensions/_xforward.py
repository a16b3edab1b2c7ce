"""XFORWARD: a trusted filter passes on the attributes of its client, for logs (Postfix XFORWARD_README)."""

from dataclasses import dataclass
from typing import ClassVar

from .._replies import Reply
from ._definition import Extension
from ._xclient import AttributesCommand


@dataclass(frozen=True, slots=True)
class Xforward(AttributesCommand):
    """`XFORWARD name=value ...`: the client that a filter got the next message from (Postfix XFORWARD_README).

    Raises `LocalProtocolError` for unknown attributes.
    """

    default_reply: ClassVar[Reply] = Reply(250, "Attributes recorded", enhanced="2.0.0")
    names: ClassVar[tuple[str, ...]] = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")


EXTENSION: Extension = Extension(
    keyword="XFORWARD",
    arguments=lambda config: " ".join(Xforward.names),
    parse_arguments=lambda text: tuple(text.split()),
    commands=(Xforward,),
)
