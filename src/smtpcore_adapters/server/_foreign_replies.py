"""Replies of another server or of a store, for our client."""

from collections.abc import Iterable, Sequence

from smtpcore import Path, Reply, ReplyCode


def presentable(reply: Reply) -> Reply:
    """Convert a reply of another server for our client: to ASCII text, and to a code that does not end our session."""
    code = _CODES.get(reply.code, reply.code)
    if code % 100 > 59:
        code = code // 100 * 100 + 50  # RFC 5321 4.2 does not allow such codes; the first digit keeps the meaning

    lines = [line.encode("ascii", "replace").decode() for line in reply.lines[:_MAX_LINES]]
    return Reply(code, *(line[:_MAX_LINE] for line in lines), enhanced=reply.enhanced)


_CODES: dict[int, int] = {
    ReplyCode.SERVICE_NOT_AVAILABLE: ReplyCode.LOCAL_ERROR,
    ReplyCode.HOST_ACCEPTS_NO_MAIL: ReplyCode.TRANSACTION_FAILED,
}
_MAX_LINES = 20
_MAX_LINE = 480  # RFC 5321 4.5.3.1.5, with room for the codes


def mildest(replies: Iterable[Reply]) -> Reply:
    """Return the reply with the lowest code, so a permanent refusal only if all replies are permanent refusals."""
    # If any recipient may still succeed, our client should try again.
    return min(replies, key=lambda reply: reply.code)


def mixed(refused: Sequence[tuple[Path, Reply]], count: int) -> Reply:
    """Return the reply to a message that was refused for some of `count` recipients."""
    decisive = mildest(reply for _, reply in refused)
    some = f"Accepted for {count - len(refused)} of {count} recipients"
    lines = [f"{path.address}: {reply.lines[0]}" for path, reply in refused]
    return presentable(Reply(decisive.code, some, *lines[: _MAX_LINES - 1], enhanced=decisive.enhanced))
