"""Bodies of messages: framing, checks, lines, and dot-stuffing."""
