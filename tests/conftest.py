"""Known before the tests: the profiles of Hypothesis, and the fixtures of all adapters."""

from . import profiles as profiles
from .adapters.conftest import backend as backend
from .adapters.conftest import loop_backend as loop_backend
