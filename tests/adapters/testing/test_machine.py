"""`SessionMachine`: random sessions with an `App`, and the replies that it objects to."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from smtpcore import Data, Reply
from smtpcore_adapters import App, Message, Session, testing
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.server._handlers import Handlers
from smtpcore_adapters.testing import Inbox, Received
from smtpcore_adapters.testing.machine import SessionMachine
from smtpcore_adapters.testing.steps import AuthStep, BodyStep, ChunkStep, LineStep, RawStep, Step
from smtpcore_adapters.users import Users


class Machine(SessionMachine):
    """Random sessions with an app that accepts everything."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.codes: list[int] = []
        self.app = App()
        super().__init__()

    def make_app(self) -> App:
        self.app.include(Users({"user": "password"}))
        self.app.include(AnyRecipient())
        self.app.include(Inbox())
        return self.app

    def delivered(self, message: Received) -> None:
        self.received.append(message)

    def replied(self, step: Step, replies: Sequence[Reply]) -> None:
        self.codes += [reply.code for reply in replies]


class LmtpMachine(Machine):
    config = replace(SessionMachine.config, lmtp=True)


class ProxiedMachine(Machine):
    proxied = True


class TrustedMachine(Machine):
    trusted = True


few = settings(
    max_examples=10, stateful_step_count=50, deadline=None, database=None, derandomize=True, phases=[Phase.generate]
)


@pytest.mark.parametrize("kind", [Machine, LmtpMachine, ProxiedMachine, TrustedMachine])
def test_own_server_keeps_the_rules(kind: type[Machine]) -> None:
    run_state_machine_as_test(kind, settings=few)


def connected(kind: type[Machine] = Machine) -> Machine:
    machine = kind()
    machine.connect("192.0.2.1")
    return machine


class ClosingMachine(Machine):
    """The app answers 421 to the message `one`."""

    def make_app(self) -> App:
        @self.app.on("message")
        async def refuse_one(session: Session, message: Message) -> Reply | None:
            return Reply(421) if await message.read() == b"one\r\n" else None

        return super().make_app()


def test_message_that_ends_with_421_is_forgotten_at_the_next_connection() -> None:
    machine = connected(ClosingMachine)
    machine.transaction("a@c.example", "u@s.example", 2, BodyStep(b"one\r\n"), None)
    machine.connect("192.0.2.1")
    machine.transaction("a@c.example", "u@s.example", 2, BodyStep(b"two\r\n"), None)

    assert [message.content for message in machine.received] == [b"two\r\n"]


def test_messages_and_replies_reach_the_hooks() -> None:
    machine = connected()
    machine.transaction("a@c.example", "u@s.example", 2, BodyStep(b"one\r\n"), None)
    machine.transaction("a@c.example", "u@s.example", 2, ChunkStep(b"two", is_last=False), ChunkStep(b"\r\n"))
    machine.flush(1)

    assert [(message.sender, message.content) for message in machine.received] == [
        ("a@c.example", b"one\r\n"),
        ("a@c.example", b"two\r\n"),
    ]
    assert machine.codes == [250, 250, 250, 354, 250] + [250] * 5
    assert "C: RCPT TO:<u@s.example>\nC: BDAT 3" in machine.dialogue
    machine.teardown()


def test_lmtp_has_a_reply_for_each_recipient() -> None:
    machine = connected(LmtpMachine)
    machine.transaction("a@c.example", "u@s.example", 2, LineStep(b"RCPT TO:<v@s.example>"), BodyStep(b"one\r\n"))
    machine.transaction("a@c.example", "u@s.example", 2, LineStep(b"RCPT TO:<v@s.example>"), ChunkStep(b"two\r\n"))
    machine.transaction("a@c.example", "u@s.example", 1, ChunkStep(b"no recipient"), None)
    machine.transaction("a@c.example", "u@s.example", 0, LineStep(b"RSET"), None)
    machine.flush(7)

    assert len(machine.received) == 2
    assert machine.codes == [250, 250, 250, 250, 354, 250, 250] + [250] * 6 + [250, 250] + [250, 250]


def test_session_begins_again_after_its_end() -> None:
    machine = connected()
    machine.quit(False)
    machine.quit(True)
    machine.command(b"NOOP")
    machine.hang_up(False, "192.0.2.2")
    machine.hang_up(True, "192.0.2.2")
    machine.wait(1, False)
    machine.wait(1, True)
    machine.wait(3600, True)
    machine.hello("EHLO")

    assert machine.codes == [221, 250, 250]
    assert machine.dialogue.count("-- connection from") == 4
    assert str(machine.session.peer) == "192.0.2.2:49152"


def test_session_may_end_inside_a_group() -> None:
    machine = connected()
    machine.app.on("MAIL")(lambda session, mail: Reply(421, "closing"))
    machine.transaction("a@c.example", "u@s.example", 2, LineStep(b"RSET"), None)
    assert machine.is_waiting
    machine.flush(10)

    assert machine.model.over
    assert machine.codes == [250, 421]


def test_injected_plaintext_ends_tls() -> None:
    machine = connected()
    machine.starttls(False, b"")
    machine.hello("EHLO")
    machine.starttls(True, b"")
    machine.starttls(True, b"NOOP\r\n")

    assert machine.model.tls
    assert machine.codes == [250, 220, 503, 250]


def test_logins() -> None:
    machine = connected()
    machine.hello("EHLO")
    machine.auth(AuthStep("LOGIN"))
    machine.auth(AuthStep("LOGIN", None, (b"dXNlcg==", b"cGFzc3dvcmQ=")))

    assert machine.model.authenticated
    assert machine.codes == [250, 334, 501, 334, 334, 235]


def test_xclient_changes_the_client() -> None:
    machine = connected(TrustedMachine)
    machine.xclient("ADDR=IPv6:2001:db8::9 LOGIN=tim")
    machine.xclient("ADDR=x")
    assert (machine.session.identity, machine.codes) == ("tim", [220, 501])

    machine.app.on("connect")(lambda session, event: Reply(550, "Not you"))
    machine.xclient("ADDR=192.0.2.9")
    machine.command(b"NOOP")
    assert machine.model.refuses
    assert machine.codes[2:] == [550, 503]


def test_hostile_lines_get_one_reply() -> None:
    machine = connected()
    machine.mistake(b"XYZZY", b"\r\n")
    machine.mistake(b"EHLO", b"\n")
    machine.send(RawStep(b"DATA now\r\r\n"))

    assert len(machine.codes) == 3


def test_client_is_refused_by_the_greeting() -> None:
    machine = Machine()
    machine.app.on("connect")(lambda session, event: Reply(554, "Not you"))
    machine.connect("192.0.2.1")
    machine.hello("EHLO")

    assert machine.model.refuses
    assert machine.codes == [503]


EDITS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda octets: b"", "no reply to NOOP"),
    "twice": (lambda octets: octets + octets, "answers no command"),
    "no code": (lambda octets: b"what?\r\n", "is not a line of a reply"),
    "two codes": (lambda octets: b"250-a\r\n251 b\r\n", "is not a line of a reply"),
    "half a reply": (lambda octets: b"250-a\r\n", "the reply ends with b'250-a'"),
    "half a line": (lambda octets: b"250 a", "the reply ends with b'250 a'"),
    "503": (lambda octets: b"503 no\r\n", "NOOP is in sequence"),
}


@pytest.mark.parametrize(("edit", "text"), EDITS.values(), ids=EDITS)
def test_wrong_reply_fails_with_the_dialogue(edit: Callable[[bytes], bytes], text: str) -> None:
    machine = connected()
    machine.app.on("NOOP")(lambda session, noop: session.edit_reply(edit))

    with pytest.raises(AssertionError, match=text) as failure:  # noqa: PT012
        try:
            machine.command(b"NOOP")
        finally:
            machine.teardown()
    (note,) = failure.value.__notes__
    assert "C: NOOP" in note


def test_acceptance_out_of_sequence_fails() -> None:
    machine = connected()

    @machine.app.on("invalid")
    def accept(session: Session, invalid: object) -> None:
        session.edit_reply(lambda octets: b"250 OK\r\n")

    machine.transaction("a@c.example", "u@s.example", 1, LineStep(b"RSET"), LineStep(b"RCPT TO:<u@s.example>"))
    with pytest.raises(AssertionError, match="RCPT is out of sequence, but the reply is 250 OK"):
        machine.flush(10)


def test_replies_to_the_end_of_a_body_are_counted() -> None:
    machine = connected()

    @machine.app.on("DATA")
    def double(session: Session, data: Data) -> None:
        session.edit_reply(lambda octets: octets + octets, skip=1)

    with pytest.raises(AssertionError, match="2 replies to the end of a body that needs 1"):
        machine.transaction("a@c.example", "u@s.example", 2, BodyStep(b"x\r\n"), None)


def test_replies_to_a_response_are_counted() -> None:
    machine = connected()
    machine.app.on("EHLO")(lambda session, ehlo: session.edit_reply(lambda octets: b"", skip=2))
    machine.hello("EHLO")

    with pytest.raises(AssertionError, match="0 replies to one line"):
        machine.auth(AuthStep("LOGIN", None, (b"dXNlcg==",)))


def test_reply_without_a_command_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = connected()
    monkeypatch.setattr(machine._memory, "advance", lambda seconds: b"250 Hello\r\n")

    with pytest.raises(AssertionError, match="without a command"):
        machine.wait(3600, True)


def test_session_that_continues_after_quit_fails() -> None:
    machine = connected()
    machine.app.on("NOOP")(lambda session, noop: session.edit_reply(lambda octets: b"421 closing\r\n"))

    with pytest.raises(AssertionError, match="continues after QUIT or 421"):
        machine.command(b"NOOP")


def test_message_of_others_fails() -> None:
    def accepted(edit: Callable[[Machine], object], step: Step) -> None:
        machine = connected()
        edit(machine)
        machine.transaction("a@c.example", "u@s.example", 2, step, None)

    def drop_recipient(machine: Machine) -> None:
        machine.app.on("DATA")(lambda session, data: machine.model.recipients.append(b"x@s.example"))

    def lose_octets(machine: Machine) -> None:
        machine.app.on("DATA")(lambda session, data: machine._arrivals.body.append(b"y"))

    def lose_message(machine: Machine) -> None:
        machine.app.on("DATA")(lambda session, data: session.edit_reply(lambda octets: b"250 OK\r\n", skip=1))

    with pytest.raises(AssertionError, match="the accepted envelope is"):
        accepted(drop_recipient, BodyStep(b"x\r\n"))
    with pytest.raises(AssertionError, match="was delivered"):
        accepted(lose_octets, BodyStep(b"x\r\n"))
    with pytest.raises(AssertionError, match="has not arrived completely"):
        accepted(lose_message, BodyStep(b"x\ny\r\n"))


class FailingInvariant(Machine):
    @invariant()
    def no_message(self) -> None:
        if self.received:
            pytest.fail("a message")


def test_failure_of_an_invariant_shows_the_dialogue() -> None:
    with pytest.raises(pytest.fail.Exception, match="a message") as failure:
        run_state_machine_as_test(FailingInvariant, settings=few)

    (note,) = [note for note in failure.value.__notes__ if note.startswith("The dialogue:")]
    assert "S: 250-s.example  (and 11 more lines)\n" in note


def test_failure_before_the_first_connection_has_an_empty_dialogue() -> None:
    with pytest.raises(ValueError, match="early") as failure:  # noqa: PT012
        try:
            raise ValueError("early")
        finally:
            Machine().teardown()

    assert failure.value.__notes__ == ["The dialogue:\n"]


def test_failure_keeps_the_queued_steps_unsent() -> None:
    machine = connected()
    machine.mail("a@c.example", "")
    with pytest.raises(ValueError, match="a rule"):  # noqa: PT012
        try:
            raise ValueError("a rule")
        finally:
            machine.teardown()

    assert machine.codes == []


def test_two_recipients_of_a_transaction() -> None:
    machine = connected()
    machine.transaction("a@c.example", "u@s.example", 3, BodyStep(b"one\r\n"), None)

    assert [message.recipients for message in machine.received] == [("u@s.example", "v@s.example")]


def test_machine_needs_an_app() -> None:
    with pytest.raises(NotImplementedError, match="make_app"):
        SessionMachine()


def test_app_and_hooks_of_another_kind_are_errors() -> None:
    class Nothing(Machine):
        def make_app(self) -> App:
            return None  # type: ignore[return-value]

    class Awaits(Machine):
        async def delivered(self, message: Received) -> None:  # type: ignore[override]
            raise AssertionError

    with pytest.raises(TypeError, match="make_app returned None, and not an App"):
        Nothing()
    with pytest.raises(TypeError, match="delivered must be a plain function"):
        Awaits()


@pytest.mark.parametrize("kind", [Machine, TrustedMachine])
def test_malformed_xclient_does_not_change_the_session(kind: type[Machine]) -> None:
    machine = connected(kind)
    machine.mistake(b"XCLIENT ADDR=192.0.2.9", b"\r\r\n")
    machine.command(b"VRFY u")

    assert "S: 252" in machine.dialogue


def test_machine_without_a_connection_ends() -> None:
    Machine().teardown()


def test_machine_is_imported_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert testing.SessionMachine is SessionMachine
    with pytest.raises(AttributeError, match="no attribute 'SesionMachine'"):
        getattr(testing, "SesionMachine")  # noqa: B009

    monkeypatch.delitem(sys.modules, "smtpcore_adapters.testing.machine")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"pip install 'smtpcore\[testing\]'"):
        testing.SessionMachine  # noqa: B018


def test_failure_of_the_server_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a defect of the server")

    machine = connected()
    monkeypatch.setattr(Handlers, "decide", fail)
    with pytest.raises(AssertionError, match="the server itself has failed"):
        machine.hello("EHLO")
