"""The type of `Session.state`, as a variable for type checkers."""

# The variable has a default (PEP 696), so programs need not name the type. Python has such defaults since 3.13, and
# type checkers have them for older versions in `typing_extensions`, which is not imported at runtime.

from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    S = TypeVar("S", default=SimpleNamespace)
    S_co = TypeVar("S_co", default=SimpleNamespace, covariant=True)
else:
    from typing import TypeVar

    S = TypeVar("S")
    S_co = TypeVar("S_co", covariant=True)
