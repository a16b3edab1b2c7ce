"""The Hypothesis strategies for sessions draw what their parameters describe, and no client of theirs gets stuck."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from smtpcore import (
    Auth,
    AuthResponse,
    BareNewlines,
    Challenge,
    Connection,
    Event,
    InvalidCommand,
    InvalidData,
    Reply,
    State,
    Tolerance,
)
from smtpcore_adapters.testing import strategies
from smtpcore_adapters.testing.steps import AuthStep, BodyStep, ChunkStep, LineStep, RawStep, Step, TlsStep, groups_of
from tests.helpers import bytewise
from tests.playbook import accept, refuse, server

few_examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WITH_AUTH: dict[str, Any] = {"auth_mechanisms": ("PLAIN", "LOGIN"), "plaintext_auth": True}


PASSWORDS = {b"password", b"\0user\0password"}


def log_in(conn: Connection, event: Event) -> Reply:
    """Accept each login that ends with a valid password, and everything else."""
    match event:
        case Auth(initial_response=data) | AuthResponse(data=data):
            return Reply(235) if data in PASSWORDS else Challenge(b"?")
        case _:
            return accept(conn, event)


def is_refused(event: object) -> bool:
    return isinstance(event, InvalidCommand | InvalidData)


@given(st.data())
@few_examples
@pytest.mark.parametrize("lmtp", [False, True])
def test_every_reply_to_a_valid_session_is_positive_even_if_all_is_pipelined(lmtp: bool, data: st.DataObject) -> None:
    groups = data.draw(strategies.sessions(lmtp=lmtp, offers=strategies.OFFERS | {"AUTH"}))
    for segments in (groups, [b"".join(groups)], bytewise(b"".join(groups))):
        book = server(cut=False, lmtp=lmtp, answer=log_in, **WITH_AUTH).send(*segments)
        assert not list(filter(is_refused, book.events))
        assert {code // 100 for code in book.codes} <= {2, 3}
        assert book.state is State.CLOSED


@given(strategies.sessions(offers={"PIPELINING", "8BITMIME"}))
@few_examples
def test_session_uses_only_the_offered_extensions(groups: list[bytes]) -> None:
    book = server(disabled=frozenset({"CHUNKING", "BINARYMIME", "SIZE", "SMTPUTF8"})).send(*groups)

    assert not list(filter(is_refused, book.events))


@given(strategies.sessions(valid=False))
@few_examples
def test_invalid_session_raises_documented_errors_only(groups: list[bytes]) -> None:
    book = server(bare_newlines=BareNewlines.REJECT, cut=False).send(*groups).end()

    assert book.state is State.CLOSED


@pytest.mark.parametrize("bare_newlines", BareNewlines)
@pytest.mark.parametrize("tolerance", Tolerance)
@given(data=st.data())
@few_examples
def test_each_group_gets_a_reply_so_that_a_lock_step_client_never_waits_forever(
    bare_newlines: BareNewlines, tolerance: Tolerance, data: st.DataObject
) -> None:
    lmtp = data.draw(st.booleans())
    groups = data.draw(strategies.sessions(valid=False, lmtp=lmtp, offers=strategies.OFFERS | {"AUTH"}))
    book = server(bare_newlines=bare_newlines, tolerance=tolerance, cut=False, lmtp=lmtp, **WITH_AUTH)
    for group in groups:
        before = len(book.codes)
        book = book.send(group)
        assert len(book.codes) > before or book.state is State.CLOSED
        if book.state is State.CLOSED:
            break


@given(strategies.sessions(valid=False))
@few_examples
def test_each_group_gets_a_reply_of_a_server_that_refuses_everything(groups: list[bytes]) -> None:
    book = server(cut=False, answer=refuse)
    for group in groups:
        before = len(book.codes)
        book = book.send(group)
        assert len(book.codes) > before or book.state is State.CLOSED
        if book.state is State.CLOSED:
            break


CONTENTS: dict[str, Callable[[list[Step]], bool]] = {
    "BDAT in two chunks": lambda steps: any(isinstance(step, ChunkStep) and not step.is_last for step in steps),
    "AUTH with responses": lambda steps: any(isinstance(step, AuthStep) and step.responses for step in steps),
    "octets above 127": lambda steps: any(max(step.content or b"\0") > 127 for step in steps),
    "an address beyond ASCII": lambda steps: any(
        isinstance(step, LineStep) and "ä".encode() in step.line for step in steps
    ),
    "a declared size": lambda steps: any(isinstance(step, LineStep) and b" SIZE=" in step.line for step in steps),
    "TLS": lambda steps: any(isinstance(step, TlsStep) for step in steps),
    "XCLIENT": lambda steps: [step.verb for step in steps[:3]] == ["EHLO", "XCLIENT", "EHLO"],
    "two messages": lambda steps: sum(isinstance(step, BodyStep) for step in steps) > 1,
}
MISTAKES: dict[str, Callable[[list[Step]], bool]] = {
    "NUL in a body": lambda steps: any(isinstance(step, BodyStep) and b"\0" in step.body for step in steps),
    "a bare LF before a dot": lambda steps: any(
        isinstance(step, BodyStep) and b"y\n.\n" in step.body for step in steps
    ),
    "an unfinished line": lambda steps: any(isinstance(step, RawStep) for step in steps),
    "plaintext injected into TLS": lambda steps: any(isinstance(step, TlsStep) and step.injected for step in steps),
    "a cancelled login": lambda steps: any(isinstance(step, AuthStep) and step.responses == (b"*",) for step in steps),
    "a line above 512 octets": lambda steps: any(isinstance(step, LineStep) and len(step.line) > 512 for step in steps),
    "a malformed XCLIENT": lambda steps: LineStep(b"XCLIENT ADDR=x") in steps,
    "no EHLO": lambda steps: steps[0].verb not in ("EHLO", "LHLO"),
    "a hostile line in a transaction": lambda steps: LineStep(b"XYZZY") in steps[2:-1],
}
ALL_OFFERS = strategies.OFFERS | {"AUTH", "STARTTLS", "XCLIENT"}
quickly = settings(max_examples=5000, deadline=None, phases=[Phase.generate], database=None, derandomize=True)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_valid_steps_contain(content: Callable[[list[Step]], bool]) -> None:
    assert find(strategies.steps(offers=ALL_OFFERS), content, settings=quickly)


@pytest.mark.parametrize("content", MISTAKES.values(), ids=MISTAKES)
def test_invalid_steps_contain(content: Callable[[list[Step]], bool]) -> None:
    assert find(strategies.steps(valid=False, offers=ALL_OFFERS), content, settings=quickly)


def test_addresses_may_be_given() -> None:
    def has_recipient(steps: Iterable[Step]) -> bool:
        return LineStep(b"RCPT TO:<me@s.example>") in steps

    steps = find(
        strategies.steps(senders=["x@c.example"], recipients=["me@s.example"]), has_recipient, settings=quickly
    )
    assert LineStep(b"MAIL FROM:<x@c.example>") in steps


def test_command_follows_a_body_in_one_group() -> None:
    def follows(groups: list[bytes]) -> bool:
        return any(b"\r\n.\r\nMAIL" in group for group in groups)

    assert find(strategies.sessions(), follows, settings=quickly)
    assert follows(groups_of([BodyStep(b"\r\n"), LineStep(b"MAIL FROM:<>")], pipelined=True))
