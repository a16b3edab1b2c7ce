"""MT-PRIORITY: the priority of a message (RFC 6710)."""

import re

from ._definition import Extension, Parameter, relay_or_drop
from ._parsing import number

_match_policy = re.compile(r"[A-Za-z0-9._-]{1,20}").fullmatch  # RFC 6710 section 7


MT_PRIORITY = Parameter(
    "MT-PRIORITY",
    int,
    number("-?[1-9]|0", "a number from -9 to 9"),  # RFC 6710 section 7
    octets=15,
    enhanced="5.5.2",  # RFC 6710 4.1 (1)
    relay=relay_or_drop("MT-PRIORITY"),  # RFC 6710 4.3
    examples=(-9, 0, 9),
)

EXTENSION: Extension = Extension(
    keyword="MT-PRIORITY",
    arguments=lambda config: config.priority_policy or "",
    parse_arguments=lambda text: text if _match_policy(text) else None,  # RFC 6710 4.1 (3)
    mail=(MT_PRIORITY,),
)
