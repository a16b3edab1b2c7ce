"""The model follows the server's own replies, and names what contradicts them."""

import pytest

from smtpcore_adapters.testing.fuzz._model import SessionModel
from smtpcore_adapters.testing.steps import BodyStep, ChunkStep, LineStep, Step, TlsStep

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET

CHUNK = ChunkStep(b"x\r\n", is_last=False)
LAST = ChunkStep(b"y\r\n")
Observed = list[tuple[Step, list[int]]]

PERMITTED: dict[str, Observed] = {
    "a message": [(HELLO, [250]), (MAIL, [250]), (RCPT, [250]), (BODY, [354, 250])],
    "no reply": [(MAIL, [])],
    "a refused message after 354 without recipients": [(MAIL, [250]), (BODY, [354, 554])],
    "a refused DATA": [(MAIL, [250]), (BODY, [503])],
    "chunks": [(MAIL, [250]), (RCPT, [250]), (CHUNK, [250]), (LAST, [250]), (NOOP, [250])],
    "anything after a refused chunk": [(MAIL, [250]), (CHUNK, [503]), (RCPT, [250]), (LAST, [250])],
    "a message after a refused chunk": [(MAIL, [250]), (CHUNK, [503]), (BODY, [354, 250])],
    "a refused RCPT": [(RCPT, [503])],
}
FORBIDDEN: dict[str, Observed] = {
    "RCPT was accepted after the start of the session, without an accepted MAIL": [(RCPT, [250])],
    "RCPT was accepted after an accepted RSET, without an accepted MAIL": [(MAIL, [250]), (RSET, [250]), (RCPT, [250])],
    "RCPT was accepted after STARTTLS, without an accepted MAIL": [(MAIL, [250]), (TlsStep(), [220]), (RCPT, [250])],
    "a message was accepted after an accepted MAIL, without an accepted RCPT": [(MAIL, [250]), (BODY, [354, 250])],
    "BDAT was accepted after an accepted MAIL, without an accepted RCPT": [(MAIL, [250]), (LAST, [250])],
}


def observe(steps: Observed) -> tuple[SessionModel, str]:
    model = SessionModel()
    found = [model.observe(step, codes) for step, codes in steps]
    assert not any(found[:-1])
    return model, found[-1]


@pytest.mark.parametrize("steps", PERMITTED.values(), ids=PERMITTED)
def test_session_is_permitted(steps: Observed) -> None:
    assert observe(steps)[1] == ""


@pytest.mark.parametrize(("breach", "steps"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_session_is_a_breach(breach: str, steps: Observed) -> None:
    assert observe(steps)[1] == breach


def test_accepted_messages_are_kept() -> None:
    lines: Observed = [(MAIL, [250]), (RCPT, [250])]
    model, _ = observe([*lines, (CHUNK, [250]), (LAST, [250]), *lines, (BodyStep(b"z\0\r\n"), [354, 250])])

    assert model.messages == [(b"x\r\ny\r\n", True), (b"z\0\r\n", False)]


def test_starttls_ends_what_ehlo_offered() -> None:
    model = SessionModel()
    model.offers = frozenset({"CHUNKING"})
    model.observe(LineStep(b"STARTTLS"), [220])

    assert model.uses_tls
    assert not model.offers
