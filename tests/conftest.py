"""Shared by all tests: the Hypothesis profiles and the adapter fixtures."""

from . import profiles as profiles
from .adapters.conftest import backend as backend
from .adapters.conftest import loop_backend as loop_backend
