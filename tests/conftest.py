"""Known before the tests: the profiles of Hypothesis."""

from . import profiles as profiles
