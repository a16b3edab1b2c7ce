"""Targets for fuzzing: the first line of each is what has to hold for every input."""
