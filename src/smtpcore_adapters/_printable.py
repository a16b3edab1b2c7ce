"""Text of a peer for a terminal or a log."""


def printable(text: str) -> str:
    r"""Return `text` with control characters and other unprintable characters escaped, such as `\x1b` for ESC.

    So a text of a peer neither controls a terminal nor imitates another line of a log, and its characters can be seen.
    """
    if text.isprintable():
        return text

    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
