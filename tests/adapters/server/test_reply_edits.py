"""`Session.edit_reply` changes the octets of replies, and leaves the dialogue of the server as it is."""

from functools import partial

import pytest

from smtpcore import Rcpt, Reply
from smtpcore_adapters import App, Observed, OctetsSent, Session
from tests.adapters.fakes import EHLO, MAIL, QUIT, RCPT
from tests.adapters.playbook import session


def add(octets: bytes, reply: bytes) -> bytes:
    return reply + octets


def editing(*edits: tuple[bytes, int]) -> App:
    """Return a server whose handler of RCPT adds octets to later replies: each edit has the octets and `skip`."""
    app = App()

    @app.on("RCPT")
    def edit(session: Session, rcpt: Rcpt) -> Reply:
        for octets, skip in edits:
            session.edit_reply(partial(add, octets), skip=skip)
        return Reply(250, "Yes")

    return app


@pytest.mark.parametrize("segments", [[EHLO + MAIL + RCPT + b"RSET\r\n" + QUIT], [EHLO, MAIL, RCPT, b"RSET\r\n", QUIT]])
def test_edits_apply_to_the_next_reply_or_to_later_replies(segments: list[bytes]) -> None:
    dialogue = session(editing((b"one\r\n", 0), (b"two\r\n", 0), (b"three\r\n", 2))).send(*segments)

    output = dialogue.stream.output.partition(b"Yes\r\n")[2].splitlines()
    assert [line[:5] for line in output] == [b"one", b"two", b"250 2", b"221 2", b"three"]


def test_observers_get_the_original_reply_and_then_the_sent_octets() -> None:
    app = editing((b"one\r\n", 0))
    seen: list[Observed] = []
    app.observe(lambda session, item: seen.append(item))
    session(app).send(EHLO + MAIL + RCPT + QUIT)

    reply = seen.index(Reply(250, "Yes", enhanced="2.0.0"))
    assert seen[reply + 1] == OctetsSent(b"250 2.0.0 Yes\r\none\r\n", instead=True)
    assert sum(isinstance(item, OctetsSent) for item in seen) == 1


def test_replies_before_the_end_of_the_connection_are_sent() -> None:
    dialogue = session(editing((b"one\r\n", 0))).send(EHLO + MAIL + RCPT).end()

    assert dialogue.stream.output.endswith(b"Yes\r\none\r\n")
