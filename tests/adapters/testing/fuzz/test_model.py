"""The model follows the server's own replies, and names what contradicts them."""

import pytest

from smtpcore_adapters.testing._proxied import CLIENTS
from smtpcore_adapters.testing.fuzz import LoginStep
from smtpcore_adapters.testing.fuzz._model import SessionModel
from smtpcore_adapters.testing.steps import BodyStep, ChunkStep, LineStep, Step, TlsStep

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET

HELO = LineStep(b"HELO c.example")
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
    "XCLIENT outside of a transaction": [(HELLO, [250]), (CLIENTS[0], [220]), (HELLO, [250]), (MAIL, [250])],
    "XCLIENT after a refused chunk": [(MAIL, [250]), (CHUNK, [503]), (CLIENTS[0], [220])],
    "a refused XCLIENT": [(MAIL, [250]), (CLIENTS[0], [503])],
}
FORBIDDEN: dict[str, Observed] = {
    "RCPT was accepted after the start of the session, without an accepted MAIL": [(RCPT, [250])],
    "RCPT was accepted after an accepted RSET, without an accepted MAIL": [(MAIL, [250]), (RSET, [250]), (RCPT, [250])],
    "RCPT was accepted after STARTTLS, without an accepted MAIL": [(MAIL, [250]), (TlsStep(), [220]), (RCPT, [250])],
    "RCPT was accepted after XCLIENT, without an accepted MAIL": [(MAIL, [503]), (CLIENTS[0], [220]), (RCPT, [250])],
    "XCLIENT was accepted in a transaction": [(MAIL, [250]), (CLIENTS[0], [220])],
    "RCPT was accepted after an accepted HELO, without an accepted MAIL": [(HELO, [250]), (RCPT, [250])],
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


@pytest.mark.parametrize(("line", "code"), [(b"STARTTLS", 220), (CLIENTS[0].line, 220), (b"HELO c.example", 250)])
def test_another_beginning_ends_what_ehlo_offered(line: bytes, code: int) -> None:
    model = SessionModel()
    model.take_offers([b"250-CHUNKING\r\n", b"250-\r\n", b"250 AUTH plain LOGIN\r\n"])
    assert model.offers == {"CHUNKING", "AUTH"}
    assert model.mechanisms == {"PLAIN", "LOGIN"}
    model.observe(LineStep(line), [code])

    assert model.uses_tls is (line == b"STARTTLS")
    assert not model.offers
    assert not model.mechanisms


def test_login_lasts_until_starttls_or_xclient() -> None:
    model = SessionModel()
    for step, codes in ((LoginStep(), [235]), (RSET, [250]), (HELLO, [250]), (LoginStep(), [503])):
        model.observe(step, codes)
        assert model.is_authenticated

    model.observe(CLIENTS[0], [220])
    assert not model.is_authenticated


def test_state_is_unknown_after_a_refused_chunk() -> None:
    model = SessionModel()
    states = [model.in_transaction]
    for step, codes in ((MAIL, [250]), (CHUNK, [503]), (RSET, [250])):
        model.observe(step, codes)
        states.append(model.in_transaction)

    assert states == [False, True, None, False]
