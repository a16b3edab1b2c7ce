"""NO-SOLICITING: classes of unwanted messages (RFC 3865)."""

import re

from ._definition import Extension, Parameter, relay_or_drop

MAX_SOLICIT = 1000  # RFC 3865 2.2

_WORD = r"[A-Za-z][A-Za-z0-9._:-]*"
_match_solicit = re.compile(rf"{_WORD}(?:,{_WORD})*").fullmatch  # RFC 3865 2.2


def _parse_solicit(text: str) -> tuple[str, ...]:
    if len(text) > MAX_SOLICIT or _match_solicit(text) is None:
        raise ValueError(f"the value is a list of classes in at most {MAX_SOLICIT} characters")

    return tuple(text.split(","))


SOLICIT = Parameter[tuple[str, ...]](
    "SOLICIT",
    tuple,
    _parse_solicit,
    octets=1009,  # the RFC counts 1007, but " SOLICIT=" and 1000 characters are two more
    relay=relay_or_drop("NO-SOLICITING"),  # RFC 3865 2.4
    examples=(("net.example:ADV",), ("net.example:ADV", "org.example:ADV:ADLT")),
)

EXTENSION: Extension = Extension(
    keyword="NO-SOLICITING",
    arguments=lambda config: ",".join(config.solicitation_classes),
    parse_arguments=lambda text: tuple(word for word in text.split(",") if word),  # RFC 3865 2.2
    mail=(SOLICIT,),
)
