"""Bodies of messages: framing, checks, splitting into lines, and dot-stuffing."""
