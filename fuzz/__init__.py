"""Fuzzing targets. The docstring of each target states the properties that must hold for every input."""
