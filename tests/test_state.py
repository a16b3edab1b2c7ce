import pytest

from smtpcore import (
    Command,
    ConnectionClosed,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Ehlo,
    Event,
    Helo,
    Help,
    InvalidCommand,
    InvalidData,
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
)
from smtpcore._parser import COMMANDS
from smtpcore._state import (
    IN_TRANSACTION,
    MAY_ANSWER,
    MAY_HEAR,
    ON_HANDSHAKE,
    ON_REPLY,
    WAITING_FOR,
    next_state,
)

COMPLETION, INTERMEDIATE, TRANSIENT, PERMANENT, GOODBYE = ReplyClass
CONNECTED, GREETED, READY, MAIL, RCPT, DATA, TLS, REFUSED, CLOSED = State

SESSION = (GREETED, READY, MAIL, RCPT)


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
def test_a_reply_moves_the_dialogue(state: State, asked: type[Event], reply_class: ReplyClass, then: State) -> None:
    assert next_state(state, asked, reply_class) is then


@pytest.mark.parametrize("asked", MAY_ANSWER, ids=lambda asked: asked.__name__)
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_421_or_521_closes_whatever_it_answers(state: State, asked: type[Event]) -> None:
    """R5321-3.8-04"""
    assert next_state(state, asked, GOODBYE) is CLOSED


def test_all_that_can_be_asked_can_be_answered_and_nothing_else() -> None:
    """R5321-4.2-01"""
    assert set(MAY_ANSWER) == {
        ConnectionOpened,
        UnknownCommand,
        InvalidCommand,
        DataEnd,
        InvalidData,
        *COMMANDS.values(),
    }
    assert not {DataLine, DataChunk, ConnectionClosed, Command} & set(MAY_ANSWER)
    for heard in MAY_HEAR.values():
        assert heard <= set(MAY_ANSWER)


def test_everything_can_be_refused_and_closed_upon() -> None:
    for classes in MAY_ANSWER.values():
        assert {TRANSIENT, PERMANENT, GOODBYE} <= classes


def test_only_DATA_is_answered_by_3yz_and_what_is_invalid_never_by_2yz() -> None:
    assert [asked for asked, classes in MAY_ANSWER.items() if INTERMEDIATE in classes] == [Data]
    assert {asked for asked, classes in MAY_ANSWER.items() if COMPLETION not in classes} == {
        Data,
        InvalidCommand,
        InvalidData,
    }


@pytest.mark.parametrize("state", SESSION, ids=lambda state: state.name)
def test_what_is_no_mail_transaction_is_heard_at_any_time(state: State) -> None:
    """R5321-4.1.4-08"""
    assert set(COMMANDS.values()) - {Mail, Rcpt, Data} <= MAY_HEAR[state]
    assert UnknownCommand in MAY_HEAR[state]


@pytest.mark.parametrize(
    ("asked", "states"), [(Mail, {READY}), (Rcpt, {MAIL, RCPT}), (Data, {RCPT}), (Quit, {*SESSION, REFUSED})]
)
def test_a_transaction_goes_MAIL_RCPT_DATA(asked: type[Command], states: set[State]) -> None:
    """R5321-3.3-14"""
    assert {state for state, heard in MAY_HEAR.items() if asked in heard} == states


def test_behind_a_refusing_greeting_only_QUIT_is_heard() -> None:
    assert MAY_HEAR[REFUSED] == {Quit}


def test_no_row_can_never_apply() -> None:
    for _, asked, reply_class in ON_REPLY:
        assert reply_class in MAY_ANSWER[asked]


def test_each_state_is_reached_and_only_CLOSED_is_final() -> None:
    ways = {(state, then) for (state, _, _), then in ON_REPLY.items()} | set(ON_HANDSHAKE.items())

    reached = {CONNECTED}
    while following := {then for state, then in ways if state in reached} - reached:
        reached |= following
    assert reached == set(State)
    assert {state for state, then in ways if then is not state} == set(State) - {CLOSED}


def test_a_handshake_leads_behind_the_greeting() -> None:
    """R3207-4.2-01"""
    assert ON_HANDSHAKE == {CONNECTED: CONNECTED, TLS: GREETED}


def test_a_transaction_is_open_from_MAIL_to_the_end_of_the_body() -> None:
    assert {MAIL, RCPT, DATA} == IN_TRANSACTION


def test_each_state_has_its_time_limit() -> None:
    assert set(WAITING_FOR) == set(State)
    assert {state for state, wait in WAITING_FOR.items() if wait is Wait.NOTHING} == {CONNECTED, CLOSED}
    assert (WAITING_FOR[DATA], WAITING_FOR[TLS], WAITING_FOR[GREETED]) == (Wait.BODY, Wait.TLS, Wait.GREETING)


@pytest.mark.parametrize("table", [MAY_ANSWER, MAY_HEAR, ON_REPLY, ON_HANDSHAKE, WAITING_FOR])
def test_the_tables_do_not_change(table: dict[object, object]) -> None:
    with pytest.raises(TypeError):
        table[None] = None
