import pytest

from smtpcore import (
    EXTENSIONS,
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Burl,
    ChunkEnd,
    Command,
    ConnectionClosed,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Ehlo,
    Etrn,
    Event,
    Helo,
    Help,
    InvalidCommand,
    InvalidData,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    ReplyClass,
    Rset,
    StartTls,
    State,
    UnknownCommand,
    Vrfy,
    Wait,
    Xclient,
    Xforward,
)
from smtpcore._commands import COMMANDS
from smtpcore._state import (
    ALLOWED_COMMANDS,
    ALLOWED_REPLIES,
    IN_TRANSACTION,
    MOVES,
    WAITING_FOR,
    WAITING_FOR_REPLY,
    Step,
    chunk_step,
    next_state,
)

COMPLETION, INTERMEDIATE, TRANSIENT, PERMANENT, GOODBYE = ReplyClass
CONNECTED, GREETED, READY, MAIL, RCPT, DATA, CHUNK, CHUNKED, LAST_CHUNK, CHUNK_REFUSED, AUTH, TLS, REFUSED, CLOSED = (
    State
)

SESSION = (GREETED, READY, MAIL, RCPT, CHUNKED, CHUNK_REFUSED)


def steps(step: Step) -> dict[State, State]:
    """Return the transitions that `step` causes, as a mapping from each state to the next state."""
    return {state: then for (state, cause, _), then in MOVES.items() if cause is step}


@pytest.mark.parametrize(
    ("state", "asked", "reply_class", "then"),
    [
        (CONNECTED, ConnectionOpened, COMPLETION, GREETED),
        pytest.param(CONNECTED, ConnectionOpened, PERMANENT, REFUSED, id="R5321-3.1-03"),
        (CONNECTED, ConnectionOpened, TRANSIENT, REFUSED),
        (GREETED, Ehlo, COMPLETION, READY),
        (GREETED, Helo, COMPLETION, READY),
        (GREETED, Ehlo, PERMANENT, GREETED),
        (READY, Mail, COMPLETION, MAIL),
        (READY, Mail, TRANSIENT, READY),
        (MAIL, Rcpt, COMPLETION, RCPT),
        (MAIL, Rcpt, PERMANENT, MAIL),
        (RCPT, Rcpt, COMPLETION, RCPT),
        (RCPT, Rcpt, PERMANENT, RCPT),
        (RCPT, Data, INTERMEDIATE, DATA),
        (RCPT, Data, PERMANENT, RCPT),
        pytest.param(DATA, DataEnd, COMPLETION, READY, id="R5321-4.1.1.4-10: success"),
        pytest.param(DATA, DataEnd, TRANSIENT, READY, id="R5321-4.1.1.4-10: failure"),
        (DATA, InvalidData, PERMANENT, READY),
        pytest.param(CHUNK, ChunkEnd, COMPLETION, CHUNKED, id="R3030-2-06"),
        pytest.param(CHUNK, ChunkEnd, TRANSIENT, CHUNK_REFUSED, id="R3030-2-12: transient failure"),
        pytest.param(CHUNK, InvalidData, PERMANENT, CHUNK_REFUSED, id="R3030-2-12: permanent failure"),
        (LAST_CHUNK, DataEnd, COMPLETION, READY),
        (LAST_CHUNK, DataEnd, PERMANENT, READY),
        (LAST_CHUNK, InvalidData, PERMANENT, READY),
        pytest.param(CHUNKED, Rset, COMPLETION, READY, id="R3030-2-14"),
        (CHUNK_REFUSED, Rset, COMPLETION, READY),
        (CHUNKED, Noop, COMPLETION, CHUNKED),
        (CHUNKED, InvalidCommand, PERMANENT, CHUNKED),
        (CHUNK_REFUSED, InvalidCommand, PERMANENT, CHUNK_REFUSED),
        (CHUNK_REFUSED, Ehlo, COMPLETION, READY),
        (GREETED, Lhlo, COMPLETION, READY),
        pytest.param(RCPT, Lhlo, COMPLETION, READY, id="R2033-4.1-01"),
        (READY, Auth, COMPLETION, READY),
        (READY, Auth, INTERMEDIATE, AUTH),
        (READY, Auth, PERMANENT, READY),
        (AUTH, AuthResponse, INTERMEDIATE, AUTH),
        (AUTH, AuthResponse, COMPLETION, READY),
        (AUTH, AuthResponse, PERMANENT, READY),
        pytest.param(AUTH, AuthCancel, PERMANENT, READY, id="R4954-4-07"),
        pytest.param(AUTH, InvalidCommand, PERMANENT, READY, id="R4954-4-14"),
        pytest.param(GREETED, Rset, COMPLETION, GREETED, id="R5321-4.1.1.5-04"),
        pytest.param(RCPT, Rset, COMPLETION, READY, id="R5321-4.1.1.5-01"),
        (MAIL, Rset, COMPLETION, READY),
        (MAIL, Rset, PERMANENT, MAIL),
        pytest.param(RCPT, Ehlo, COMPLETION, READY, id="R5321-4.1.4-03"),
        pytest.param(RCPT, Ehlo, PERMANENT, RCPT, id="R5321-4.1.4-04"),
        pytest.param(RCPT, Helo, COMPLETION, READY, id="R5321-4.1.1.1-05"),
        pytest.param(RCPT, Noop, COMPLETION, RCPT, id="R5321-4.1.1.9-01"),
        pytest.param(RCPT, Vrfy, COMPLETION, RCPT, id="R5321-4.1.1.6-01"),
        pytest.param(RCPT, Help, COMPLETION, RCPT, id="R5321-4.1.1.8-03"),
        (RCPT, InvalidCommand, PERMANENT, RCPT),
        (RCPT, UnknownCommand, PERMANENT, RCPT),
        (RCPT, StartTls, COMPLETION, TLS),
        (GREETED, StartTls, COMPLETION, TLS),
        (RCPT, StartTls, TRANSIENT, RCPT),
        (RCPT, Quit, COMPLETION, CLOSED),
        (RCPT, Quit, PERMANENT, CLOSED),
        (REFUSED, Quit, COMPLETION, CLOSED),
        (REFUSED, InvalidCommand, PERMANENT, REFUSED),
    ],
)
def test_next_state_after_a_reply(state: State, asked: type[Event], reply_class: ReplyClass, then: State) -> None:
    assert next_state(state, asked, reply_class) is then


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_reply_421_or_521_to_any_event_closes_the_session(state: State) -> None:
    """R5321-3.8-04"""
    assert {asked: next_state(state, asked, GOODBYE) for asked in ALLOWED_REPLIES} == dict.fromkeys(
        ALLOWED_REPLIES, CLOSED
    )


def test_every_event_that_needs_a_reply_has_allowed_replies() -> None:
    """R5321-4.2-01"""
    assert set(ALLOWED_REPLIES) == {
        ConnectionOpened,
        UnknownCommand,
        InvalidCommand,
        ChunkEnd,
        DataEnd,
        InvalidData,
        AuthResponse,
        AuthCancel,
        *COMMANDS.values(),
        *(command for extension in EXTENSIONS for command in extension.commands),
    } - {Bdat}
    assert not {DataLine, DataChunk, ConnectionClosed, Command} & set(ALLOWED_REPLIES)
    for allowed in ALLOWED_COMMANDS.values():
        assert allowed - {Bdat} <= set(ALLOWED_REPLIES)


def test_every_event_may_be_answered_with_4yz_5yz_or_421() -> None:
    for classes in ALLOWED_REPLIES.values():
        assert {TRANSIENT, PERMANENT, GOODBYE} <= classes


def test_only_data_and_auth_may_get_3yz_and_invalid_input_never_gets_2yz() -> None:
    assert {asked for asked, classes in ALLOWED_REPLIES.items() if INTERMEDIATE in classes} == {
        Data,
        Auth,
        AuthResponse,
    }
    assert {asked for asked, classes in ALLOWED_REPLIES.items() if COMPLETION not in classes} == {
        Data,
        AuthCancel,
        InvalidCommand,
        InvalidData,
    }


@pytest.mark.parametrize("state", SESSION, ids=lambda state: state.name)
def test_commands_outside_the_transaction_are_allowed_in_every_session_state(state: State) -> None:
    """R5321-4.1.4-08"""
    assert (
        set(COMMANDS.values()) - {Mail, Rcpt, Data, Bdat, Burl, Auth, Etrn, Xclient, Xforward}
        <= ALLOWED_COMMANDS[state]
    )
    assert UnknownCommand in ALLOWED_COMMANDS[state]


@pytest.mark.parametrize(
    ("asked", "states"),
    [
        (Mail, {READY}),
        (Auth, {READY}),
        (Rcpt, {MAIL, RCPT}),
        (Data, {RCPT}),
        (Bdat, {RCPT, CHUNKED}),
        (Burl, {RCPT, CHUNKED}),
        (Etrn, {READY}),
        (Xclient, {GREETED, READY}),
        (Xforward, {GREETED, READY}),
        (Quit, {*SESSION, REFUSED}),
    ],
)
def test_transaction_commands_are_allowed_only_in_order(asked: type[Command], states: set[State]) -> None:
    """R5321-3.3-14, R3030-2-15, R4954-4-02"""
    assert {state for state, allowed in ALLOWED_COMMANDS.items() if asked in allowed} == states


def test_only_quit_is_allowed_after_a_refusing_greeting() -> None:
    assert ALLOWED_COMMANDS[REFUSED] == {Quit}


def test_every_transition_by_a_reply_can_happen() -> None:
    for _, cause, reply_class in MOVES:
        assert reply_class is None if isinstance(cause, Step) else reply_class in ALLOWED_REPLIES[cause]


def test_every_state_is_reachable_and_only_closed_is_final() -> None:
    ways = {(state, then) for (state, cause, _), then in MOVES.items() if cause is not Step.CLOSE}
    reached = {CONNECTED}
    while following := {then for state, then in ways if state in reached} - reached:
        reached |= following
    assert reached == set(State)
    assert {state for state, then in ways if then is not state} == set(State) - {CLOSED}


def test_tls_handshake_leads_to_greeted_or_stays_connected() -> None:
    """R3207-4.2-01"""
    assert steps(Step.HANDSHAKE) == {CONNECTED: CONNECTED, TLS: GREETED}


def test_transaction_is_open_from_mail_to_the_end_of_the_body() -> None:
    assert {MAIL, RCPT, DATA, CHUNK, CHUNKED, LAST_CHUNK, CHUNK_REFUSED} == IN_TRANSACTION


def test_chunk_begins_in_each_state_that_allows_bdat() -> None:
    begin = {state for state, commands in ALLOWED_COMMANDS.items() if Bdat in commands}

    assert begin == {RCPT, CHUNKED}
    assert steps(chunk_step(last=False)) == dict.fromkeys(begin, CHUNK)
    assert steps(chunk_step(last=True)) == dict.fromkeys(begin, LAST_CHUNK)
    assert steps(Step.DISCARDED_CHUNK) == {MAIL: READY}


def test_every_state_can_be_closed() -> None:
    assert steps(Step.CLOSE) == dict.fromkeys(State, CLOSED)


def test_every_state_has_a_wait() -> None:
    assert set(WAITING_FOR) == set(State)
    assert {state for state, wait in WAITING_FOR.items() if wait is Wait.NOTHING} == {CONNECTED, CLOSED}
    assert (WAITING_FOR[DATA], WAITING_FOR[TLS], WAITING_FOR[GREETED]) == (Wait.BODY, Wait.TLS, Wait.GREETING)
    assert {state for state, wait in WAITING_FOR.items() if wait is Wait.BODY} == {DATA, CHUNK, LAST_CHUNK}
    assert WAITING_FOR[AUTH] is Wait.AUTH


@pytest.mark.parametrize("table", [ALLOWED_REPLIES, ALLOWED_COMMANDS, MOVES, WAITING_FOR, WAITING_FOR_REPLY])
def test_state_tables_are_immutable(table: dict[object, object]) -> None:
    with pytest.raises(TypeError):
        table[None] = None
