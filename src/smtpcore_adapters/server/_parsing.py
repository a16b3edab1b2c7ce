"""Parse a whole message with Python's `email` package, within bounds."""

# The parser compares each line with the boundaries of all parts around it, and keeps all lines of a part. So a message
# of many short lines in deeply nested parts costs time that is quadratic in its octets. The product of lines and parts
# bounds this time, and also the memory. Messages with thousands of attachments are within the bound, if each is small.

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

MAX_WORK = 50_000_000  # some ten seconds: a comparison takes 0.2 microseconds
_PER_LINE = 10  # the work for a line without any part, in comparisons
_find_types = re.compile(rb"content-type:", re.IGNORECASE).findall


def parse_message(octets: bytes) -> EmailMessage:
    """Return the message. Mistakes of its author are in `defects`. Raises `ValueError` if parsing takes too long."""
    lines = 1 + max(octets.count(b"\n"), octets.count(b"\r"))
    parts = len(_find_types(octets))
    if lines * (_PER_LINE + parts) > MAX_WORK:
        raise ValueError(f"a message of {lines} lines and {parts} parts takes too long to parse")

    try:
        return message_from_bytes(octets, EmailMessage, policy=default)
    except RecursionError as exc:
        raise ValueError("the parts of the message are nested too deeply") from exc
