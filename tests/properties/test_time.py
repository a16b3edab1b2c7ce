"""Random sessions with random pauses and random calls of `tick`, compared with a model that only adds up seconds.

No budget is overrun by more than one tick, no budget ends a session early, and a peer that sends an octet now and then
is timed out on time. All times are whole seconds, and the rate is a power of two, so that the model can compare
exactly.
"""

from dataclasses import dataclass, field
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from smtpcore import (
    NEED_DATA,
    Answered,
    BodyAborted,
    Budgets,
    ClientBudgets,
    ClientConfig,
    ClientConnection,
    Command,
    Config,
    Connection,
    Data,
    DataChunk,
    DataEnd,
    Ehlo,
    Event,
    Quit,
    Reply,
    Request,
    State,
    TimedOut,
    Wait,
)

from ..playbook import accept, exchange, mail, rcpt, take_replies
from ..profiles import examples

BUDGETS = Budgets(greeting=9, command=10, body=12, body_rate=8, block=7, session=300, handshake=60, send=60)
CLIENT = ClientBudgets(greeting=5, mail=6, rcpt=7, data=8, end=9, command=10, quit=4, session=200)
CONFIG = Config(hostname="s.example", max_idle_commands=None, max_errors=None, max_refusals=None)

ENVELOPE = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\n"
PARTS = (
    b"NOOP\r\n",
    b"RSET\r\n",
    b"NO\rOP and more\r\n",
    b"X" * 600 + b"\r\n",
    ENVELOPE,
    ENVELOPE + b"DATA\r\nSubject: x\r\n\r\n" + b"x" * 40 + b"\r\n.\r\n",
    ENVELOPE + b"BDAT 30\r\n" + b"x" * 30 + b"BDAT 0\r\nBDAT 20 LAST\r\n" + b"y" * 20,
    ENVELOPE + b"BDAT 2 LAST\r\nxx",
    b"BDAT 25\r\n" + b"z" * 25,
)

Step = tuple[list[int], int, int]
# A step: seconds of silence, cut at random by calls of `tick`; octets that arrive; seconds that the program works then.
seconds = st.sampled_from([0, 0, 1, 2, 3, 5, 8, 11])
steps = st.lists(st.tuples(st.lists(seconds, max_size=3), st.sampled_from([1, 1, 2, 5, 30, 200]), seconds), max_size=60)


@dataclass
class Server:
    """A model of the time of a server: the seconds that the client has used, by the budget that counts them."""

    session: int = 0
    line: int = 0
    message: int = 0
    pause: int = 0
    octets: int = 0
    in_message: bool = False
    wait: Wait = Wait.GREETING
    events: list[Event] = field(default_factory=list)

    def add(self, waited: int) -> None:
        self.session += waited
        self.line += waited
        self.message += waited
        self.pause += waited

    def receive(self, segment: bytes) -> None:
        self.pause = 0
        self.octets += len(segment)
        if b"\n" in segment:
            self.line = 0

    def work(self, conn: Connection, events: list[Event], worked: int) -> None:
        """Take over the state of the connection after it has handled a segment."""
        self.session += worked
        if conn.waiting_for is not self.wait:
            self.line = 0
            self.wait = conn.waiting_for
        # A refused chunk ends a message, and several refused chunks count together.
        is_new = any(isinstance(event, Command) and event.verb == "RCPT" for event in events)
        in_message = conn.waiting_for is Wait.BODY or conn.state is State.CHUNKED
        if is_new or not (in_message and self.in_message):
            self.message = self.octets = 0
        self.in_message = in_message

    def left(self) -> float:
        """Return the seconds that are left for the current wait."""
        limits: list[float] = [BUDGETS.session - self.session]
        if self.wait is Wait.BODY:
            limits.append(BUDGETS.block - self.pause)
        else:
            limits.append((BUDGETS.greeting if self.wait is Wait.GREETING else BUDGETS.command) - self.line)
        if self.in_message:
            limits.append(BUDGETS.body + self.octets / BUDGETS.body_rate - self.message)
        return min(limits)


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=8), steps)
@examples(300)
def test_client_gets_exactly_the_time_of_its_budgets(
    parts: list[bytes], steps: list[tuple[list[int], int, int]]
) -> None:
    stream = b"EHLO c.example\r\n" + b"".join(parts)
    conn, model, now = Connection(CONFIG, budgets=BUDGETS), Server(), 100
    conn.tick(now)
    model.work(conn, taken(conn), 0)
    conn.tick(now)
    for pauses, size, work in steps:
        for pause in pauses:
            now += pause
            model.add(pause)
            conn.tick(now)
            if model.left() <= 0:
                assert timed_out(conn)
                return
            assert conn.deadline == now + model.left()
        segment, stream = stream[:size], stream[size:]
        if not segment:
            break
        conn.receive_data(segment)
        conn.tick(now)
        model.receive(segment)
        events = taken(conn)
        work = work if events else 0  # a program has nothing to do with half a line
        now += work
        model.work(conn, events, work)
        conn.tick(now)
        if model.left() <= 0:
            assert timed_out(conn)
            return
    assert not timed_out(conn)


def taken(conn: Connection) -> list[Event]:
    return [event for event in exchange(conn, accept) if not isinstance(event, Reply)]


def timed_out(conn: Connection | ClientConnection) -> bool:
    event = conn.next_event()
    return isinstance(conn.next_event() if isinstance(event, BodyAborted) else event, TimedOut)


@given(st.sampled_from([b"NOOP ", b"X" * 1000, b"EHLO "]), st.lists(st.integers(0, 9), min_size=200, max_size=200))
@examples(50)
def test_client_that_sends_a_command_in_single_octets_is_timed_out_on_time(line: bytes, pauses: list[int]) -> None:
    conn = Connection(CONFIG, budgets=BUDGETS)
    conn.tick(0)
    taken(conn)
    conn.receive_data(b"EHLO c.example\r\n")
    conn.tick(0)
    taken(conn)
    conn.receive_data(line)
    taken(conn)
    conn.tick(0)
    now = 0
    for pause in pauses:
        assert now < BUDGETS.command
        now += max(pause, 1)
        conn.tick(now)
        if conn.deadline <= now:
            break
        conn.receive_data(b"x")
        conn.tick(now)
        taken(conn)
        conn.tick(now)
    assert timed_out(conn)


_NAMES = {
    Wait.SERVER_GREETING: "greeting",
    Wait.MAIL_REPLY: "mail",
    Wait.RCPT_REPLY: "rcpt",
    Wait.DATA_REPLY: "data",
    Wait.END_REPLY: "end",
    Wait.COMMAND_REPLY: "command",
}
_REPLIES: dict[type[object], bytes] = {
    Ehlo: b"250-s.example\r\n250 HELP\r\n",
    Data: b"354-Go\r\n354 ahead\r\n",
    Quit: b"221 bye\r\n",
}


class Client:
    """A client that sends one message as soon as the replies allow, a server that replies, and a model of the time."""

    def __init__(self, *, pipelining: bool) -> None:
        self.conn = ClientConnection(ClientConfig(hostname="c.example"), budgets=CLIENT)
        self.stream = b"220-s.example\r\n220 ready\r\n"
        """The replies that the server has still to send."""
        self.session = 0
        self.reply = 0
        """The seconds that the server has used for the current reply."""
        self._replies = dict(_REPLIES)
        if pipelining:
            self._replies[Ehlo] = b"250-s.example\r\n250 PIPELINING\r\n"
        envelope: list[Request] = [mail(), rcpt(), rcpt("v@s.example"), Data()]
        self._waiting: list[Request] = [self.conn.hello, *envelope, DataChunk(b"x\r\n"), DataEnd(), Quit()]
        self._asked: list[Request | None] = [None]

    def left(self) -> float:
        """Return the seconds that are left for the current reply."""
        if not self._asked or self.conn.waiting_for is Wait.NOTHING:
            return inf
        is_quit = isinstance(self._asked[0], Quit)
        budget = CLIENT.quit if is_quit else getattr(CLIENT, _NAMES[self.conn.waiting_for])
        return min(CLIENT.session - self.session, float(budget) - self.reply)

    def receive(self, size: int, now: int) -> bool:
        """Let the server send `size` octets. Return whether the client now has something to do."""
        segment, self.stream = self.stream[:size], self.stream[size:]
        if segment:
            self.conn.receive_data(segment)
            self.conn.tick(now)
        events = [event for event in take_replies(self.conn) if isinstance(event, Answered)]
        if events:
            del self._asked[: len(events)]
            self.reply = 0
        return bool(events)

    def send(self) -> None:
        while self._waiting and self.conn.may_send(self._waiting[0]):
            request = self._waiting.pop(0)
            if not isinstance(request, DataChunk):
                self.reply = self.reply if self._asked else 0
                self._asked.append(request)
                self.stream += self._replies.get(type(request), b"250 OK\r\n")
            self.conn.send(request)
        self.conn.data_to_send()


@given(st.booleans(), steps)
@examples(200)
def test_server_gets_exactly_the_time_of_its_budgets(pipelining: bool, steps: list[Step]) -> None:
    client, now = Client(pipelining=pipelining), 100
    conn = client.conn
    conn.tick(now)
    for pauses, size, work in steps:
        for pause in pauses:
            now += pause
            client.session += pause
            client.reply += pause
            left = client.left()
            conn.tick(now)
            assert conn.deadline == now + left or left <= 0
            if left <= 0:
                assert timed_out(conn)
                return
        worked = work if client.receive(size, now) else 0
        if conn.state is State.CLOSED:
            return
        now += worked
        client.session += worked
        client.send()
        left = client.left()
        conn.tick(now)
        if left <= 0:
            assert timed_out(conn)
            return
    assert conn.next_event() is NEED_DATA
