"""Every limit of time, by numbers: no test waits."""

from collections.abc import Callable
from dataclasses import fields, replace
from math import inf, nan

import pytest

from smtpcore import (
    NEED_DATA,
    Auth,
    Budgets,
    ClientBudgets,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    Event,
    Lhlo,
    LocalProtocolError,
    Noop,
    Quit,
    Reply,
    Request,
    Signal,
    StartTls,
    TimedOut,
    Wait,
)

from ..playbook import accept, exchange, mail, rcpt, take_replies

_KINDS = (Budgets, ClientBudgets)


@pytest.mark.parametrize("kind", _KINDS)
def test_each_budget_is_more_than_0_seconds_and_may_be_infinite(kind: type[Budgets] | type[ClientBudgets]) -> None:
    for field in fields(kind):
        assert getattr(kind(**{field.name: 0.001}), field.name) == 0.001
        assert getattr(kind(**{field.name: inf}), field.name) == inf
        for wrong in (-1, nan, *([0] if field.name != "body_rate" else [])):
            with pytest.raises(LocalProtocolError, match=field.name):
                kind(**{field.name: wrong})


def test_rate_of_0_switches_the_minimum_rate_of_a_body_off() -> None:
    assert Budgets(body_rate=0).body_rate == 0


def test_defaults_of_a_client_are_the_minimums_of_rfc_5321_4_5_3_2() -> None:
    budgets = ClientBudgets()
    assert (budgets.greeting, budgets.mail, budgets.rcpt) == (300, 300, 300)
    assert (budgets.data, budgets.send, budgets.end) == (120, 180, 600)
    assert (Budgets().greeting, Budgets().command) == (300, 300)  # 4.5.3.2.7
    assert Budgets().body >= 180


def test_shortened_budgets_are_at_most_the_given_time_except_the_session_budget() -> None:
    shortened = ClientBudgets(rcpt=7).at_most(10)

    assert shortened.session == inf
    assert {getattr(shortened, each.name) for each in fields(shortened) if each.name != "session"} == {10, 7, 5}


# Waits

BUDGETS = Budgets(greeting=11, command=12, body=13, body_rate=10, block=5, session=1000, handshake=14, send=15)
CONFIG = Config(hostname="s.example", starttls=True, auth_mechanisms=("LOGIN",), plaintext_auth=True)

EHLO = b"EHLO c.example\r\n"
ENVELOPE = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\n"
FAREWELL = b"421 4.4.2 s.example closing: you took too long\r\n"
START = 1000.0


class Clocked:
    """A server whose program follows the rule of `tick`: before each wait, and after each `receive_data`."""

    def __init__(self, *, answer: Callable[[Connection, Event], Reply] = accept, **options: object) -> None:
        self.conn = Connection(CONFIG, **{"budgets": BUDGETS, **options})  # type: ignore[arg-type]
        self.now = START
        self.handler = 0.0
        """Seconds that the program needs for the events of one segment."""
        self.events: list[object] = []
        self._answer = answer
        self.conn.tick(self.now)

    def greet(self) -> "Clocked":
        self._work()
        self.conn.tick(self.now)
        return self

    def wait(self, seconds: float, data: bytes = b"") -> "Clocked":
        """Let time pass, then let the client send `data`."""
        self.now += seconds
        if data:
            self.conn.receive_data(data)
            self.conn.tick(self.now)
            self._work()
            self.now += self.handler
        self.conn.tick(self.now)
        if self.conn.deadline <= self.now:
            self._work()
        return self

    def _work(self) -> None:
        self.events += [event for event in exchange(self.conn, self._answer) if not isinstance(event, Reply)]

    @property
    def left(self) -> float:
        return round(self.conn.deadline - self.now, 6)

    @property
    def end(self) -> tuple[Wait, str] | None:
        """The wait and the budget that ended the session."""
        found = [event for event in self.events if isinstance(event, TimedOut)]
        return (found[0].wait, found[0].budget) if found else None


def greeted(**options: object) -> Clocked:
    return Clocked(**options).greet()  # type: ignore[arg-type]


def ready(**options: object) -> Clocked:
    return greeted(**options).wait(0, EHLO)


def in_body(**options: object) -> Clocked:
    return ready(**options).wait(0, ENVELOPE + b"DATA\r\n")


# Use


def test_without_tick_there_is_no_limit() -> None:
    conn = Connection(CONFIG)
    client = ClientConnection(ClientConfig(hostname="c.example"))

    assert conn.deadline == conn.within_session(inf) == client.deadline == inf
    assert conn.waited == 0


def test_spent_budget_queues_a_421_and_is_reported_before_the_end_of_the_session() -> None:
    session = ready().wait(11.9)
    assert session.end is None
    session.conn.data_to_send()

    session.now += 0.1
    session.conn.tick(session.now)
    assert session.conn.deadline <= session.now
    event = session.conn.next_event()
    assert event == TimedOut(Wait.COMMAND, "command", event.reply if isinstance(event, TimedOut) else None)
    assert isinstance(event, TimedOut)
    assert event.reply is not None
    assert event.reply.code == 421
    assert session.conn.data_to_send() == FAREWELL
    assert session.conn.next_event() == ConnectionClosed()
    assert session.conn.deadline == inf
    session.conn.tick(session.now + 10_000)
    assert session.conn.next_event() == ConnectionClosed()
    assert session.conn.deadline == inf


def test_clock_that_goes_back_does_not_shorten_the_wait() -> None:
    session = ready().wait(-500)
    assert session.conn.deadline == START + 12
    assert session.conn.waited == 0


def test_deadline_does_not_change_while_a_wait_lasts() -> None:
    session = ready()
    session.now += 0.1
    session.conn.tick(session.now)
    first = session.conn.deadline
    for _ in range(100):
        session.conn.tick(session.now)
        session.now += 0.1
        assert session.conn.deadline == first


# The waits of a server


def test_first_command_has_the_budget_of_the_greeting_and_later_commands_have_another_budget() -> None:
    session = greeted()
    assert session.left == 11
    assert session.wait(10, EHLO).left == 12
    assert session.wait(11, b"NOOP\r\n").left == 12
    assert session.wait(12).end == (Wait.COMMAND, "command")
    assert greeted().wait(11).end == (Wait.GREETING, "greeting")


def test_single_octets_do_not_extend_the_wait_for_a_command() -> None:
    session = ready()
    for octet in b"NOOP":
        assert session.wait(2.9, bytes([octet])).end is None
    assert session.wait(0.39).end is None
    assert session.wait(0.02).end == (Wait.COMMAND, "command")


@pytest.mark.parametrize("filler", [b"x" * 600, b"NO\rOP"])
def test_rest_of_a_faulty_line_does_not_extend_the_wait_for_a_command(filler: bytes) -> None:
    session = ready().wait(0, filler)
    for _ in range(4):
        session.wait(2.5, b"x")
    assert session.end is None
    assert session.wait(2.1).end == (Wait.COMMAND, "command")


def test_line_that_becomes_faulty_keeps_its_deadline() -> None:
    assert ready().wait(0, b"N").wait(5, b"x" * 600).left == 7


def test_end_of_a_faulty_line_begins_a_new_command() -> None:
    session = ready().wait(0, b"x" * 600).wait(10, b"x").wait(1, b"\n")
    assert session.left == 12


def test_time_of_handlers_does_not_count_as_a_wait_for_the_client() -> None:
    session = ready()
    session.handler = 400
    session.wait(2, b"NOOP\r\n").wait(3, b"NOOP\r\n")
    assert session.left == 12
    assert session.conn.waited == 5


def test_no_budget_expires_while_a_reply_is_pending() -> None:
    session = ready()
    session.conn.receive_data(b"NOOP\r\n")
    session.conn.tick(session.now)
    assert session.conn.next_event() == Noop()
    for _ in range(3):
        session.now += 1000
        session.conn.tick(session.now)
        assert session.conn.deadline == inf
    assert session.conn.waited == 0
    session.conn.send(Reply(250))
    session.conn.data_to_send()

    # The time of the session is over, but the reply of the handler is sent before the 421.
    session.conn.tick(session.now)
    assert session.conn.data_to_send() == FAREWELL
    event = session.conn.next_event()
    assert isinstance(event, TimedOut)
    assert event.budget == "session"


def test_command_that_arrives_late_but_complete_is_answered() -> None:
    assert ready().wait(12.5, b"NOOP\r\n").end is None
    assert ready().wait(12.5, b"NOOP\r").end == (Wait.COMMAND, "command")


def test_response_of_auth_has_the_time_of_a_command() -> None:
    def challenge(conn: Connection, event: Event) -> Reply:
        return Reply(334, "") if isinstance(event, Auth) else accept(conn, event)

    session = ready(answer=challenge).wait(5, b"AUTH LOGIN\r\n")
    assert session.left == 12
    assert session.wait(6, b"YQ").wait(6).end == (Wait.AUTH, "command")


def test_body_has_a_minimum_rate_and_a_limit_for_each_pause() -> None:
    session = in_body()
    assert session.left == 5
    for _ in range(3):
        session.wait(4, b"x" * 10)  # a second for ten octets, and 13 seconds once
    assert session.wait(3.9).end is None
    assert session.left == 0.1
    assert session.wait(0.2).end == (Wait.BODY, "body")

    assert in_body().wait(5).end == (Wait.BODY, "block")


def test_pause_in_a_body_has_its_full_time_after_a_slow_handler() -> None:
    session = ready()
    session.handler = 3
    assert session.wait(0, ENVELOPE + b"DATA\r\n").wait(1, b"x").left == 5


def test_octets_of_a_body_before_the_first_wait_do_not_extend_the_deadline() -> None:
    session = ready().wait(0, ENVELOPE + b"BDAT 500 LAST\r\n" + b"x" * 100)
    assert session.wait(4, b"x").wait(4, b"x").wait(4, b"x").left == 1.3


def test_without_a_minimum_rate_only_the_pauses_of_a_body_are_limited() -> None:
    session = in_body(budgets=replace(BUDGETS, body_rate=0))
    for _ in range(30):
        assert session.wait(4.9, b"x").end is None
    assert session.wait(5).end == (Wait.BODY, "block")


@pytest.mark.parametrize("rate", [0, 10])
def test_no_wait_within_a_body_exceeds_the_budget_of_the_body(rate: int) -> None:
    session = in_body(budgets=replace(BUDGETS, block=100, body_rate=rate)).wait(1, b"x" * 1000)
    assert session.left == 13
    assert session.wait(13).end == (Wait.BODY, "body")


def test_waits_between_chunks_count_for_the_message() -> None:
    session = ready().wait(0, ENVELOPE)
    for _ in range(4):
        session.wait(3, b"BDAT 0\r\n")
    assert session.left == 13 + (3 * len(b"BDAT 0\r\n")) / 10 - 9
    assert session.wait(8).end == (Wait.COMMAND, "body")


def test_command_between_chunks_also_has_the_budget_of_a_command() -> None:
    session = ready(budgets=replace(BUDGETS, body=100)).wait(0, ENVELOPE + b"BDAT 1\r\nx")
    assert session.left == 12
    assert session.wait(6, b"BD").wait(6).end == (Wait.COMMAND, "command")


def test_each_message_has_a_new_budget() -> None:
    body = b"Subject: x\r\n\r\nx\r\n.\r\n"
    session = in_body().wait(4, b"x").wait(4, b"\r\n" + body + ENVELOPE + b"BDAT 9 LAST\r\n")
    assert session.wait(4, b"x").wait(4, b"x").wait(4, b"x").left == 1.3


def test_octets_of_a_refused_chunk_have_the_budget_of_a_body() -> None:
    session = ready().wait(0, b"BDAT 100\r\nx")
    assert session.left == 5
    for _ in range(3):
        session.wait(4, b"x")
    assert session.wait(3).end == (Wait.BODY, "body")


def test_session_has_a_limit_that_includes_the_time_of_handlers() -> None:
    session = ready()
    session.handler = 990
    session.wait(1, b"NOOP\r\n")
    assert session.left == 9
    assert session.wait(9).end == (Wait.COMMAND, "session")


def test_write_is_limited_by_its_budget_and_by_the_session() -> None:
    session = ready()
    assert session.conn.send_deadline(START + 500) == START + 515
    assert session.conn.send_deadline(START + 990) == START + 1000
    assert session.conn.within_session(inf) == START + 1000
    assert session.conn.within_session(START + 1) == START + 1


def test_budgets_may_be_replaced_during_a_wait() -> None:
    session = ready().wait(2)
    session.conn.budgets = replace(BUDGETS, command=3)
    assert session.wait(0).left == 1
    session.conn.budgets = BUDGETS
    assert session.wait(0).left == 10


def test_before_the_greeting_a_proxy_header_has_the_time_of_the_greeting() -> None:
    session = Clocked().wait(10)
    assert session.left == 1
    assert session.wait(2).end == (Wait.GREETING, "greeting")
    assert session.conn.data_to_send() == b"421 s.example closing: you took too long\r\n"

    assert Clocked().wait(10).greet().left == 11  # the first command has a time of its own


# TLS


@pytest.mark.parametrize("is_implicit", [True, False])
def test_handshake_has_its_own_budget_and_no_reply_is_sent_during_the_handshake(is_implicit: bool) -> None:
    session = Clocked(implicit_tls=True) if is_implicit else ready().wait(0, b"STARTTLS\r\n")
    session.conn.data_to_send()
    assert session.conn.waiting_for is Wait.TLS
    assert session.conn.next_event() is Signal.NEED_TLS
    assert session.left == 14 - (session.now - START)
    with pytest.raises(LocalProtocolError, match="no reply can be sent"):
        session.conn.send(Reply(421))

    assert session.wait(14).end == (Wait.TLS, "handshake")
    assert session.events[-2] == TimedOut(Wait.TLS, "handshake", None)
    assert session.conn.data_to_send() == b""


def test_first_command_after_implicit_tls_has_its_full_time() -> None:
    session = Clocked(implicit_tls=True).wait(13)
    session.conn.tls_established()
    assert session.greet().left == 11
    assert not [event for event in session.events if isinstance(event, TimedOut)]


def test_421_may_be_sent_in_every_state_before_a_handshake() -> None:
    def with_421(conn: Connection) -> bool:
        return conn.send(Reply(421)).code == 421

    for script in (b"", EHLO, EHLO + ENVELOPE, EHLO + ENVELOPE + b"DATA\r\nx", EHLO + ENVELOPE + b"BDAT 5\r\nx"):
        assert with_421(greeted().wait(0, script).conn)
    assert with_421(Clocked().conn)
    session = ready()
    session.conn.receive_data(b"STARTTLS\r\n")
    assert session.conn.next_event() == StartTls()
    assert with_421(session.conn)


def test_client_can_read_the_greeting_of_implicit_tls_only_after_the_handshake() -> None:
    client = ClientConnection(ClientConfig(hostname="c.example"), implicit_tls=True)
    before = client.waiting_for, client.next_event()
    client.tls_established()
    after = client.waiting_for, client.next_event()

    assert before == (Wait.TLS, Signal.NEED_TLS)
    assert after == (Wait.SERVER_GREETING, NEED_DATA)


# The waits of a client

CLIENT = ClientBudgets(handshake=9, greeting=1, mail=2, rcpt=3, data=4, end=5, command=6, quit=7, send=8)


class ClockedClient:
    def __init__(self, *, budgets: ClientBudgets = CLIENT, implicit_tls: bool = False, lmtp: bool = False) -> None:
        config = ClientConfig(hostname="c.example", lmtp=lmtp)
        self.conn = ClientConnection(config, budgets=budgets, implicit_tls=implicit_tls)
        self.now = START
        self.events: list[object] = []
        self.wait(0)

    def wait(self, seconds: float, data: bytes = b"") -> "ClockedClient":
        self.now += seconds
        if data:
            self.conn.receive_data(data)
            self.conn.tick(self.now)
            self.events += take_replies(self.conn)
        self.conn.tick(self.now)
        if self.conn.deadline <= self.now:
            self.events += take_replies(self.conn)
        return self

    def ask(self, *requests: Request) -> "ClockedClient":
        for request in requests:
            self.conn.send(request)
        self.conn.data_to_send()
        return self.wait(0)

    @property
    def left(self) -> float:
        return round(self.conn.deadline - self.now, 6)

    @property
    def end(self) -> tuple[Wait, str] | None:
        found = [event for event in self.events if isinstance(event, TimedOut)]
        assert all(event.reply is None for event in found)
        return (found[0].wait, found[0].budget) if found else None


def test_each_reply_has_its_budget() -> None:
    client = ClockedClient()
    assert client.left == 1
    assert client.wait(0.5, b"220 s.example\r\n").left == inf
    assert client.wait(900).ask(client.conn.hello).left == 6
    assert client.wait(5, b"250 s.example\r\n").ask(mail()).left == 2
    assert client.wait(1, b"250 OK\r\n").ask(rcpt()).left == 3
    assert client.wait(2, b"250 OK\r\n").ask(Data()).left == 4
    assert client.wait(3, b"354 OK\r\n").left == inf  # the client has to send
    assert client.conn.send_deadline(client.now) == client.now + 8
    client.conn.send(DataChunk(b"x\r\n"))
    assert client.wait(900).ask(DataEnd()).left == 5
    assert client.wait(4, b"250 OK\r\n").ask(Quit()).left == 7
    assert client.wait(7).end == (Wait.COMMAND_REPLY, "quit")
    assert client.conn.data_to_send() == b""
    assert client.conn.next_event() == ConnectionClosed()


def test_server_cannot_extend_a_wait_by_single_octets_or_lines() -> None:
    client = ClockedClient().wait(0, b"220 s.example\r\n").ask(Noop())
    for data in (b"2", b"50-one\r\n", b"250-two\r\n", b"250-three\r\n25"):
        assert client.wait(1.4, data).end is None
    assert client.left == 0.4
    assert client.wait(0.5).end == (Wait.COMMAND_REPLY, "command")


def test_each_pipelined_reply_and_each_lmtp_reply_has_its_full_time() -> None:
    client = ClockedClient(lmtp=True).wait(0, b"220 s.example\r\n").ask(Lhlo("c.example"))
    client.wait(0, b"250-s.example\r\n250 PIPELINING\r\n")
    client.ask(mail(), rcpt(), rcpt("v@s.example"), Data())
    assert client.left == 2
    assert client.wait(1.5, b"250 OK\r\n").left == 3
    assert client.wait(2.5, b"250 OK\r\n").left == 3
    assert client.wait(2.5, b"250 OK\r\n").left == 4
    client.wait(3, b"354 OK\r\n").ask(DataEnd())
    assert client.wait(4, b"250 OK\r\n").left == 5
    assert client.wait(5).end == (Wait.END_REPLY, "end")


def test_client_has_a_budget_for_the_handshake() -> None:
    client = ClockedClient(implicit_tls=True)
    assert client.left == 9
    assert client.wait(9).end == (Wait.TLS, "handshake")

    client = ClockedClient(implicit_tls=True).wait(8)
    client.conn.tls_established()
    assert client.wait(0).left == 1
    client.wait(0, b"220 s.example\r\n").ask(client.conn.hello).wait(0, b"250-s.example\r\n250 STARTTLS\r\n")
    assert client.end is None


def test_budget_may_limit_the_whole_session_of_a_client() -> None:
    client = ClockedClient(budgets=replace(CLIENT, session=10)).wait(0, b"220 s.example\r\n")
    assert client.wait(8).ask(Noop()).left == 2
    assert client.conn.send_deadline(client.now) == START + 10
    assert client.wait(2).end == (Wait.COMMAND_REPLY, "session")


# Programs that call `tick` less often


@pytest.mark.parametrize("order", ["before the wait only", "after receive_data only", "before receive_data"])
def test_client_that_sends_single_octets_is_timed_out_for_any_order_of_tick_calls(order: str) -> None:
    conn = Connection(CONFIG, budgets=BUDGETS)
    now = START
    conn.tick(now)
    list(exchange(conn))
    for octet in b"NOOP" * 5:
        if order == "before the wait only":
            conn.tick(now)
        now += 4.0
        if order == "before receive_data":
            conn.tick(now)
        conn.receive_data(bytes([octet]))
        if order == "after receive_data only":
            conn.tick(now)
        list(exchange(conn))
        if order == "before receive_data":
            conn.tick(now)
        if conn.next_event() is not NEED_DATA:
            break
    assert START + 11 <= now <= START + 20


def test_silence_after_a_first_tick_with_input_is_limited() -> None:
    conn = Connection(CONFIG, budgets=BUDGETS)
    list(exchange(conn))
    conn.receive_data(EHLO)
    conn.tick(START)
    assert conn.deadline < inf
