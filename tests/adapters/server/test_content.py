"""Checks of the content of a message, with the same replies for every destination."""

import pytest

from smtpcore import Reply
from smtpcore_adapters import App, Message, Session
from smtpcore_adapters.server._content import ContentCheck, is_binary
from tests.adapters.fakes import EHLO, MAIL, RCPT, accepting
from tests.adapters.playbook import session


def refusal_of(content: bytes, *, max_hops: int = 2, body: bytes = b"8BITMIME", size: int = 1000) -> str:
    """Check a message in pieces of `size` octets, and return the reply."""
    app: App = accepting()

    @app.on("message")
    async def check(session: Session, message: Message) -> Reply:
        check = ContentCheck(max_hops, is_binary=is_binary(message))
        assert is_binary(message) == (body == b"BINARYMIME")
        refusals = [check.feed(piece) async for piece in message]
        return next(filter(None, refusals), Reply(250, "fine", enhanced="2.0.0"))

    chunks = [content[start : start + size] for start in range(0, len(content), size)]
    script = b"".join(b"BDAT %d\r\n%b" % (len(chunk), chunk) for chunk in chunks) + b"BDAT 0 LAST\r\n"
    mail = MAIL.replace(b"\r", b" BODY=" + body + b"\r")
    return session(app).send(EHLO + mail + RCPT + script).end().replies[-1][:9]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("hops", "reply"), [(2, "250 2.0.0"), (3, "554 5.4.6")])
def test_message_with_too_many_received_fields_is_refused(hops: int, reply: str, size: int) -> None:
    """R5321-6.3-01"""
    assert refusal_of(b"Received: x\r\n" * hops + b"\r\nReceived: y\r\n" * 9, size=size) == reply


@pytest.mark.parametrize(("body", "reply"), [(b"7BIT", "554 5.6.0"), (b"BINARYMIME", "250 2.0.0")])
def test_only_a_binary_message_may_contain_nul(body: bytes, reply: str) -> None:
    assert refusal_of(b"A: b\r\n\r\nx\0", body=body) == reply
