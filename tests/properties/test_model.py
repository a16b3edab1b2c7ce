"""Compare the server's sessions with a model of a session, written from RFC 5321 and not from our tables.

The model and the rules are those of the public `SessionMachine`. Here the handlers also send planned replies, and the
state of the session is compared with the model after each step.
"""

import re
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from smtpcore import (
    COMPILED,
    AuthCancel,
    DataEnd,
    Ehlo,
    InvalidData,
    Mail,
    Quit,
    Rcpt,
    Reply,
    ReplyClass,
    Rset,
    State,
)
from smtpcore._state import MOVES
from smtpcore._state import Step as TransitionStep
from smtpcore_adapters import App, Message, Session
from smtpcore_adapters.testing import Received
from smtpcore_adapters.testing.machine import SessionMachine
from smtpcore_adapters.testing.steps import BodyStep, ChunkStep, Step
from smtpcore_adapters.users import Users

from ..long import mostly_long
from ..profiles import examples

REGULAR = re.compile(rb"(MAIL FROM|RCPT TO):<[^>]*>\r\n")
"""Lines without mistakes that can be out of sequence."""

CODES = {
    "connect": [554, 421],
    "EHLO": [550, 421],
    "HELO": [550],
    "MAIL": [450, 550, 421],
    "RCPT": [251, 450, 550],
    "DATA": [451, 554],
    "BDAT": [451, 554],
    "message": [451, 554, 421],
    "STARTTLS": [454],
    "RSET": [421],
    "NOOP": [550, 421],
    "VRFY": [252, 550],
    "HELP": [214],
    "QUIT": [250, 421, 550],
}
"""The codes that a handler of each name may send, besides its usual reply."""
DECISIONS = [(name, code) for name, codes in CODES.items() for code in codes]


class PlannedSession(SessionMachine):
    """An app that sends any allowed reply."""

    def __init__(self) -> None:
        self.plan: dict[str, int] = {}
        self.chosen: deque[int] = deque()
        """The codes of handlers that the client has not received yet."""
        self.messages: list[bytes] = []
        """The messages that the handler has accepted. Their order is checked by the machine."""
        super().__init__()

    def make_app(self) -> App:
        app = App()
        app.include(Users({"user": "password"}))

        def decide(name: str) -> Any:
            def handle(session: Session, subject: object) -> Reply | None:
                code = self.plan.pop(name, 250 if name == "RCPT" else 0)
                if code and name != "connect":
                    self.chosen.append(code)
                return Reply(code) if code else None

            return handle

        app.on("connect")(decide("connect"))
        for name in CODES.keys() - {"connect", "message"}:
            app.on_verb(name)(decide(name))

        @app.on("message")
        async def store(session: Session, message: Message) -> Reply:
            content = await message.read()
            code = self.plan.pop("message", 250)
            self.chosen.append(code)
            if code < 300:
                self.messages.append(content)
            return Reply(code)

        return app

    @rule(decisions=st.lists(st.sampled_from(DECISIONS), min_size=1, max_size=5))
    def choose(self, decisions: list[tuple[str, int]]) -> None:
        """Let some handlers send another reply to their next command."""
        self.plan.update(decisions)

    def replied(self, step: Step, replies: Sequence[Reply]) -> None:
        """A command out of sequence gets a code for this; a code that a handler has chosen is sent as chosen."""
        is_regular = isinstance(step, BodyStep | ChunkStep) or REGULAR.fullmatch(step.pieces[0])
        if self.objection and is_regular and not self.model.over:
            assert replies[0].code in self.objection

        for reply in replies:
            if self.chosen and reply.code == self.chosen[0]:
                self.chosen.popleft()

    def delivered(self, message: Received) -> None:
        """The handler got the octets that were sent."""
        assert message.content in self.messages
        self.messages.remove(message.content)

    @invariant()
    def state_is_that_of_the_model(self) -> None:
        """Compare the session with the model."""
        model = self.model
        if self.is_waiting or model.over:
            return

        assert not self.chosen
        session = self.session
        assert (session.helo is not None) == model.hello
        assert (session.identity is not None) == model.authenticated
        assert (session.tls is not None) == model.tls
        assert (session.transaction is not None) == (model.sender is not None)
        if session.transaction:
            assert len(session.transaction.recipients) == len(model.recipients)


TestSession = PlannedSession.TestCase
TestSession.settings = examples(25, steps=40)


# The model notices mistakes in the table of transitions

_C, _P = ReplyClass.COMPLETION, ReplyClass.PERMANENT
WRONG_ROWS: dict[str, dict[Any, State]] = {
    "RSET keeps the transaction": {(state, Rset, _C): state for state in (State.MAIL, State.RCPT)},
    "EHLO keeps the transaction": {(state, Ehlo, _C): state for state in (State.MAIL, State.RCPT)},
    "a chunk follows a refused chunk": {(State.CHUNK, InvalidData, _P): State.CHUNKED},
    "a refused body keeps the recipients": {(State.DATA, InvalidData, _P): State.RCPT},
    "TLS keeps EHLO": {(State.TLS, TransitionStep.HANDSHAKE, None): State.READY},
    "an accepted body keeps the recipients": {(State.DATA, DataEnd, _C): State.RCPT},
    "a refused sender opens a transaction": {(State.READY, Mail, _P): State.MAIL},
    "a refused recipient counts": {(State.MAIL, Rcpt, _P): State.RCPT},
    "a cancelled login continues": {(State.AUTH, AuthCancel, _P): State.AUTH},
    "QUIT leaves the session open": {(State.READY, Quit, _C): State.READY},
}
short = settings(
    max_examples=300, stateful_step_count=50, deadline=None, database=None, derandomize=True, phases=[Phase.generate]
)


@pytest.mark.skipif(COMPILED, reason="the compiled core has its tables built in")
@pytest.mark.parametrize("name", mostly_long(WRONG_ROWS, *list(WRONG_ROWS)[:5]))
def test_short_form_of_the_model_notices_a_wrong_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore._endpoint.MOVES", {**MOVES, **WRONG_ROWS[name]})

    with pytest.raises(AssertionError):
        run_state_machine_as_test(PlannedSession, settings=short)
