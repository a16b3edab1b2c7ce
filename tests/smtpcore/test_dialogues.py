"""Both ends of a session as generators: joined, against scripted peers, and over failing connections."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from smtpcore import (
    Bodies,
    BodyAborted,
    BodyType,
    Budgets,
    ClientBudgets,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    DataChunk,
    DataEnd,
    Ehlo,
    LocalProtocolError,
    Mail,
    Params,
    Path,
    Rcpt,
    RemoteProtocolError,
    Reply,
    State,
    TimedOut,
    sasl,
)
from smtpcore.dialogues import STOPPING, Handshake, Read, Result, Write, serving, submission

from ..helpers import replies
from ..playbook import GO_AHEAD, GREETING, OK, offer

SENDER = "a@c.example"
ONE = ["u@s.example"]
TIM = sasl.Credentials(username="tim", password="tanstaaftanstaaf")
KEYS = sasl.scram_keys("tanstaaftanstaaf")
BYE = b"221 bye\r\n"


class Party:
    """One end: a generator, its input, and what it has done."""

    def __init__(self, steps: Any, answer: Callable[[Any], Any] = lambda item: None) -> None:
        self.steps = steps
        self.answer = answer
        self.input = bytearray()
        self.output = bytearray()
        self.writes: list[Write] = []
        self.items: list[Any] = []
        self.result: Any = None
        self.is_over = False
        self.waits = False
        self._resume(steps.send, None)

    def _resume(self, step: Callable[[Any], Any], value: Any) -> None:
        try:
            self.action = step(value)
        except StopIteration as stop:
            self.is_over, self.result = True, stop.value

    def run(self) -> "Party":
        """Perform all actions that need no input."""
        while not self.is_over and not isinstance(self.action, Read | Handshake):
            if isinstance(self.action, Write):
                assert self.action.data
                self.writes.append(self.action)
                self.output += self.action.data
                self._resume(self.steps.send, None)
            else:
                self.items.append(self.action)
                self._resume(self.steps.send, self.answer(self.action))
        return self

    def give(self, value: object) -> "Party":
        """Give the generator its input or its handshake, or an exception."""
        assert isinstance(self.action, Read | Handshake), self.action
        self._resume(self.steps.throw if isinstance(value, Exception) else self.steps.send, value)
        return self.run()

    def take_output(self) -> bytes:
        data = bytes(self.output)
        self.output.clear()
        return data


def ticks() -> Callable[[], float]:
    return map(float, count()).__next__


def policy(conn: Connection, messages: list[bytes]) -> Callable[[Any], Any]:
    def answer(item: Any) -> Any:
        match item:
            case Rcpt(forward_path=path) if path.local_part == "refused":
                return Reply(550, "No")
            case Rcpt():
                return Reply(250)
            case DataChunk(data) if conn.transaction:
                conn.transaction.body.append(data)
            case DataEnd() if conn.transaction:
                messages.append(b"".join(conn.transaction.body))
                return [Reply(250, "Yes") for _ in conn.transaction.recipients] if conn.config.lmtp else Reply(250)
            case sasl.CheckPassword():
                return item.matches("tanstaaftanstaaf")
            case sasl.GiveScramKeys():
                return KEYS
        return None

    return answer


def join(
    server_conn: Connection,
    client_conn: ClientConnection,
    recipients: Sequence[str] = ONE,
    channel: sasl.Channel | None = None,
    **options: Any,
) -> tuple[Result, list[bytes]]:
    """Join both generators, and return the result of the client and the messages of the server."""
    messages: list[bytes] = []
    exchange = sasl.ServerExchange() if server_conn.config.auth_mechanisms else None
    server = Party(serving(server_conn, ticks(), exchange=exchange), policy(server_conn, messages))
    client = Party(submission(client_conn, ticks(), SENDER, recipients, [b"x\r\n", b".y\r\n"], **options))
    server.run(), client.run()
    while not client.is_over:
        if isinstance(client.action, Handshake):
            server.give(channel)
            client.give(channel)
        elif data := server.take_output():
            client.give(data)
        elif data := client.take_output():
            server.give(data)
        else:
            assert server.is_over
            client.give(b"")
    result: Result = client.result
    return result, messages


def codes(result: Result) -> dict[str, int | type[Exception]]:
    return {name: value.code if isinstance(value, Reply) else type(value) for name, value in result.items()}


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("lmtp", [True, False])
def test_both_generators_deliver_a_message(lmtp: bool, pipelining: bool) -> None:
    server = Connection(Config(hostname="s.example", lmtp=lmtp, bodies=Bodies.CHUNKS))
    client = ClientConnection(ClientConfig(hostname="c.example", lmtp=lmtp, pipelining=pipelining))
    names = ["u@s.example", "refused@s.example", "not an address", "ü@s.example", "v@s.example"]
    result, messages = join(server, client, names)

    assert messages == [b"x\r\n.y\r\n"]
    assert codes(result) == dict(zip(names, [250, 550, LocalProtocolError, LocalProtocolError, 250], strict=True))
    assert server.state is client.state is State.CLOSED


@pytest.mark.parametrize("implicit_tls", [True, False])
def test_both_generators_use_tls_and_auth(implicit_tls: bool) -> None:
    config = Config(hostname="s.example", bodies=Bodies.CHUNKS, starttls=True, auth_mechanisms=("LOGIN", "PLAIN"))
    server = Connection(config, implicit_tls=implicit_tls)
    client = ClientConnection(ClientConfig(hostname="c.example"), implicit_tls=implicit_tls)
    result, messages = join(server, client, require_tls=True, credentials=TIM)

    assert codes(result) == {"u@s.example": 250}
    assert len(messages) == 1
    assert server.tls
    assert server.authenticated


@pytest.mark.parametrize("username", ["tim", "t" * 400])
def test_both_generators_bind_the_login_to_the_channel_of_the_handshake(username: str) -> None:
    channel = sasl.Channel(tls=True, bindings=(sasl.ChannelBinding("tls-exporter", b"x" * 32),))
    server = Connection(
        Config(hostname="s.example", bodies=Bodies.CHUNKS, starttls=True, auth_mechanisms=("SCRAM-SHA-256-PLUS",))
    )
    client = ClientConnection(ClientConfig(hostname="c.example"))
    credentials = sasl.Credentials(username=username, password="tanstaaftanstaaf")  # a long name needs a second message

    assert codes(join(server, client, channel=channel, credentials=credentials)[0]) == {"u@s.example": 250}
    assert server.authenticated


# The client


def submit(
    *said: Any,
    sender: str | Mail = SENDER,
    recipients: Sequence[str | Rcpt] = ONE,
    body: Sequence[bytes] = (b"x\r\n",),
    **options: Any,
) -> Party:
    """Run a client against a server that gives these replies, one for each read, and then ends its stream."""
    changes = {name: options.pop(name) for name in ("lmtp", "plaintext_auth", "max_group") if name in options}
    config = ClientConfig(hostname="c.example", **changes)
    conn = ClientConnection(config, budgets=options.pop("budgets", ClientBudgets()))
    party = Party(submission(conn, ticks(), sender, recipients, body, **options)).run()
    rest = iter(said)
    while not party.is_over:
        party.give(next(rest, b""))
    return party


TLS_OFFERED = offer("STARTTLS")


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ([b"554 no service\r\n", BYE], 554),
        ([b"421 busy\r\n"], 421),
        ([GREETING, b"221 closing\r\n"], RemoteProtocolError),
        ([b""], RemoteProtocolError),
        ([b"nonsense\r\n"], RemoteProtocolError),
        ([GREETING, b"550 no\r\n", b"550 no\r\n", BYE], 550),
        ([GREETING, b"450 no\r\n", BYE], 450),
        ([GREETING, b"502 no\r\n", OK, OK, OK, GO_AHEAD, OK, BYE], 250),
        ([GREETING, offer(), b"550 no\r\n", BYE], 550),
        ([GREETING, offer(), b"421 no\r\n"], 421),
        ([GREETING, offer(), OK, b"550 no\r\n", BYE], 550),
        ([GREETING, offer(), OK, b"421 no\r\n"], 421),
        ([GREETING, offer(), OK, OK, b"451 no\r\n", BYE], 451),
        ([GREETING, offer(), OK, OK, GO_AHEAD, b"552 no\r\n", BYE], 552),
        ([GREETING, offer(), OK, OK, GO_AHEAD, b"421 no\r\n"], 421),
        ([GREETING, offer(), OK, OK, GO_AHEAD, b""], RemoteProtocolError),
        ([GREETING, offer(), OK, OK, GO_AHEAD, OK], 250),
        ([GREETING, offer(), OK, OK, GO_AHEAD, OK, b"500 what\r\n"], 250),
        ([GREETING, offer(), OK, OK, GO_AHEAD, OK, TimeoutError()], 250),
        ([GREETING, offer("PIPELINING"), b"550 no\r\n503 no\r\n503 no\r\n", BYE], 550),
        ([GREETING, offer("PIPELINING"), b"550 no\r\n503 no\r\n354 go on\r\n"], 550),
        ([GREETING, offer("PIPELINING"), OK + b"550 no\r\n354 go on\r\n", b"554 no\r\n", BYE], 550),
        ([GREETING, OSError("reset")], OSError),
        ([GREETING, None, offer(), OK, OK, GO_AHEAD, OK, BYE], 250),
    ],
)
def test_refusal_at_each_step_decides_about_the_recipient(said: list[Any], outcome: int | type[Exception]) -> None:
    assert codes(submit(*said).result) == {"u@s.example": outcome}


def test_earlier_refusal_of_a_recipient_is_kept_when_the_server_closes() -> None:
    party = submit(GREETING, offer(), OK, b"550 no\r\n", b"421 enough\r\n", recipients=["u@s.example", "v@s.example"])

    assert codes(party.result) == {"u@s.example": 550, "v@s.example": 421}


def test_server_that_closes_decides_about_later_recipients_too() -> None:
    party = submit(GREETING, offer(), OK, b"421 enough\r\n", recipients=["u@s.example", "v@s.example"])

    assert codes(party.result) == {"u@s.example": 421, "v@s.example": 421}


def test_last_reply_in_lmtp_counts_for_all_recipients_without_a_reply_if_it_is_a_421() -> None:
    names = ["u@s.example", "v@s.example", "w@s.example"]
    party = submit(GREETING, offer(), OK, OK, OK, OK, GO_AHEAD, OK, b"421 enough\r\n", recipients=names, lmtp=True)

    assert codes(party.result) == dict(zip(names, [250, 421, 421], strict=True))


def test_envelope_is_written_at_once_with_pipelining() -> None:
    party = submit(GREETING, offer("PIPELINING"), OK + OK + GO_AHEAD, OK, BYE)

    assert codes(party.result) == {"u@s.example": 250}
    assert [write.data.partition(b" ")[0] for write in party.writes] == [
        b"EHLO",
        b"MAIL",
        b"x\r\n",
        b".\r\n",
        b"QUIT\r\n",
    ]
    assert party.writes[1].data.endswith(b"\r\nDATA\r\n")


def test_quit_is_written_before_the_replies_to_recipients_after_a_refused_sender() -> None:
    names = [f"{each}@s.example" for each in "tuvw"]
    party = submit(GREETING, offer("PIPELINING"), b"550 no\r\n", recipients=names, max_group=80)

    assert party.writes[-1].data == b"QUIT\r\n"
    assert set(codes(party.result).values()) == {550}


def test_mail_and_rcpt_are_sent_with_their_parameters() -> None:
    mail, rcpt = Mail(Path(SENDER), Params({"BODY": BodyType.EIGHT_BIT_MIME})), Rcpt(Path(ONE[0]))
    replies = [GREETING, offer("8BITMIME"), OK, OK, GO_AHEAD, OK, BYE]
    party = submit(*replies, sender=mail, recipients=[rcpt, "not an address"], body=[b"\xff\r\n"])

    assert b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n" in party.output
    assert codes(party.result) == {ONE[0]: 250, "not an address": LocalProtocolError}


def test_no_data_is_sent_without_a_recipient() -> None:
    party = submit(GREETING, offer(), OK, BYE, recipients=["not an address"])

    assert codes(party.result) == {"not an address": LocalProtocolError}
    assert b"DATA" not in party.output


def test_body_that_cannot_be_sent_is_not_ended() -> None:
    party = submit(GREETING, offer(), OK, OK, GO_AHEAD, body=[b"a\r\n", b"bare\nLF\r\n"])

    assert codes(party.result) == {"u@s.example": LocalProtocolError}
    assert party.output.endswith(b"DATA\r\na\r\n")


def test_time_budget_of_the_server_ends_the_submission() -> None:
    party = submit(GREETING, *[None] * 9, budgets=ClientBudgets(command=5))

    assert isinstance(party.result["u@s.example"], TimeoutError)
    assert "command" in str(party.result["u@s.example"])


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ([GREETING, offer()], LocalProtocolError),
        ([GREETING, TLS_OFFERED, b"454 later\r\n", BYE], 454),
        ([GREETING, TLS_OFFERED, b"220 go\r\n", OSError("no certificate")], OSError),
        ([GREETING, TLS_OFFERED, b"220 go\r\n", None, offer(), OK, OK, GO_AHEAD, OK, BYE], 250),
    ],
)
def test_message_needs_tls_if_required(said: list[Any], outcome: int | type[Exception]) -> None:
    party = submit(*said, require_tls=True)

    assert codes(party.result) == {"u@s.example": outcome}
    assert (b"MAIL" in party.output) is (outcome == 250)


def test_message_is_sent_without_tls_after_a_refused_starttls() -> None:
    assert codes(submit(GREETING, TLS_OFFERED, b"454 later\r\n", OK, OK, GO_AHEAD, OK, BYE).result) == {ONE[0]: 250}


LONG = sasl.Credentials(username="tim", password="x" * 400)


@pytest.mark.parametrize(
    ("offered", "credentials", "said", "outcome"),
    [
        ("AUTH PLAIN", TIM, [b"535 no\r\n", BYE], 535),
        ("AUTH PLAIN", LONG, [b"334 \r\n", b"535 no\r\n", BYE], 535),
        ("AUTH LOGIN", TIM, [b"334 %%%\r\n", b"501 cancelled\r\n", BYE], 501),
        ("AUTH PLAIN", TIM, [b"334 more\r\n", b"501 cancelled\r\n", BYE], RemoteProtocolError),
        ("AUTH XFOO", TIM, [BYE], LocalProtocolError),
        ("SIZE", TIM, [BYE], LocalProtocolError),
        ("AUTH PLAIN", TIM, [b"235 yes\r\n", OK, OK, GO_AHEAD, OK, BYE], 250),
        ("AUTH LOGIN", TIM, [b"334 \r\n", b"334 \r\n", b"235 yes\r\n", OK, OK, GO_AHEAD, OK, BYE], 250),
    ],
)
def test_recipient_gets_the_result_of_a_failed_login(
    offered: str, credentials: sasl.Credentials, said: list[Any], outcome: int | type[Exception]
) -> None:
    party = submit(GREETING, TLS_OFFERED, b"220 go\r\n", None, offer(offered), *said, credentials=credentials)

    assert codes(party.result) == {"u@s.example": outcome}


@pytest.mark.parametrize(("plaintext_auth", "outcome"), [(True, 250), (False, LocalProtocolError)])
def test_password_is_sent_without_tls_only_if_the_configuration_allows_this(
    plaintext_auth: bool, outcome: int | type[Exception]
) -> None:
    said = [GREETING, offer("AUTH PLAIN"), *([b"235 yes\r\n", OK, OK, GO_AHEAD, OK] if plaintext_auth else []), BYE]
    party = submit(*said, credentials=TIM, plaintext_auth=plaintext_auth)

    assert codes(party.result) == {"u@s.example": outcome}
    assert (b"AUTH" in party.output) is plaintext_auth


def test_login_over_tls_that_the_program_started_before_uses_a_password() -> None:
    conn = ClientConnection(ClientConfig(hostname="c.example"), implicit_tls=True)
    conn.tls_established()
    party = Party(submission(conn, ticks(), SENDER, ONE, [b"x\r\n"], credentials=TIM)).run()
    for reply in (GREETING, offer("AUTH PLAIN"), b"235 yes\r\n", OK, OK, GO_AHEAD, OK, BYE):
        party.give(reply)

    assert codes(party.result) == {"u@s.example": 250}


def test_each_action_of_a_client_has_the_deadline_of_its_budget() -> None:
    budgets = ClientBudgets(greeting=101, handshake=102, command=103, send=104)
    conn = ClientConnection(ClientConfig(hostname="c.example"), budgets=budgets)
    party = Party(submission(conn, lambda: 1000.0, SENDER, ONE, [b"x\r\n"])).run()
    deadlines = [party.action.deadline]
    deadlines += [party.give(reply).action.deadline for reply in (GREETING, TLS_OFFERED, b"220 go\r\n")]

    assert deadlines == [1101, 1103, 1103, 1102]
    assert {write.deadline for write in party.writes} == {1104}


class Broken(Party):
    """A party whose write number `at` fails."""

    def __init__(self, steps: Any, at: int, failure: Exception) -> None:
        self.at, self.failure = at, failure
        super().__init__(steps)

    def run(self) -> "Party":
        while not self.is_over and not isinstance(self.action, Read | Handshake):
            self.at -= isinstance(self.action, Write)
            if isinstance(self.action, Write) and self.at < 0:
                self._resume(self.steps.throw, self.failure)
            else:
                self._resume(self.steps.send, None)
        return self


@pytest.mark.parametrize(
    ("failure", "last", "outcome"),
    [
        (ConnectionResetError(), [b"552 too big\r\n"], 552),
        (ConnectionResetError(), [b"421 closing\r\n"], 421),
        (ConnectionResetError(), [b""], RemoteProtocolError),
        (ConnectionResetError(), [ConnectionResetError()], ConnectionResetError),
        (TimeoutError(), [], TimeoutError),
    ],
)
def test_refusal_that_came_before_a_write_failed_is_the_result(
    failure: Exception, last: list[Any], outcome: int | type[Exception]
) -> None:
    conn = ClientConnection(ClientConfig(hostname="c.example"))
    party = Broken(submission(conn, ticks(), SENDER, ONE, [b"x\r\n"] * 9), 5, failure)
    party.run()
    for reply in (GREETING, offer(), OK, OK, GO_AHEAD, *last):
        party.give(reply)

    assert party.is_over
    assert codes(party.result) == {"u@s.example": outcome}


def test_write_that_fails_after_the_end_of_the_session_is_the_error() -> None:
    conn = ClientConnection(ClientConfig(hostname="c.example"))
    party = Broken(submission(conn, ticks(), SENDER, ONE, [b"x\r\n"]), 0, ConnectionResetError())
    party.run()
    for reply in (GREETING, OK, b"221 closing\r\n"):
        party.give(reply)

    assert codes(party.result) == {"u@s.example": RemoteProtocolError}


def test_quit_that_cannot_be_written_changes_no_result() -> None:
    conn = ClientConnection(ClientConfig(hostname="c.example"))
    party = Broken(submission(conn, ticks(), SENDER, ONE, [b"x\r\n"]), 6, ConnectionResetError())
    party.run()
    for reply in (GREETING, offer(), OK, OK, GO_AHEAD, OK, b""):
        party.give(reply)

    assert codes(party.result) == {"u@s.example": 250}


# The server


def serve(answer: Callable[[Any], Any] = lambda item: None, **options: Any) -> Party:
    budgets = options.pop("budgets", Budgets())
    kind = {name: options.pop(name) for name in ("exchange", "is_stopping") if name in options}
    conn = Connection(Config(hostname="s.example", bodies=Bodies.CHUNKS, **options), budgets=budgets)
    return Party(serving(conn, ticks(), **kind), answer).run()


EHLO = b"EHLO c.example\r\n"
CHUNK = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\nBDAT 3\r\nabc"


def accept(item: Any) -> Reply | None:
    return Reply(250) if isinstance(item, Rcpt | DataEnd) else None


def found(party: Party) -> list[int]:
    return [code for code, _ in replies(bytes(party.output))]


def test_events_without_an_answer_get_the_reply_of_a_server_without_handlers() -> None:
    party = serve().give(EHLO + CHUNK[:48]).give(b"QUIT\r\n")

    assert found(party) == [220, 250, 250, 550, 221]
    assert party.is_over


def test_answer_of_a_wrong_type_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"^answer is '250 OK', which is of type str: use an iterable of Reply$"):
        serve(lambda item: "250 OK")


@pytest.mark.parametrize("rest", [b"", b"RS"])
def test_pipelined_commands_are_answered_with_one_write_before_the_next_read(rest: bytes) -> None:
    party = serve(accept).give(EHLO + CHUNK[:48] + rest)

    assert [[code for code, _ in replies(write.data)] for write in party.writes] == [[220], [250], [250, 250]]


def test_each_action_of_a_server_has_the_deadline_of_its_budget() -> None:
    conn = Connection(
        Config(hostname="s.example", starttls=True), budgets=Budgets(greeting=101, handshake=102, command=103, send=104)
    )
    party = Party(serving(conn, lambda: 1000.0)).run()
    deadlines = [party.action.deadline]
    deadlines += [party.give(line).action.deadline for line in (EHLO, b"STARTTLS\r\n")]

    assert deadlines == [1101, 1103, 1102]
    assert {write.deadline for write in party.writes} == {1104}


def test_time_budget_of_the_client_ends_the_session_with_a_421() -> None:
    party = serve(budgets=Budgets(greeting=3))
    while not party.is_over:
        assert party.action.deadline < 9
        party.give(None)

    assert isinstance(party.items[-1], TimedOut)
    assert found(party) == [220, 421]


@pytest.mark.parametrize("end", [b"", ConnectionResetError()])
def test_connection_lost_inside_a_body_aborts_the_body(end: object) -> None:
    party = serve(accept).give(EHLO + CHUNK + b"BDAT 5\r\nab").give(end)

    assert party.is_over
    assert party.items[-1] == BodyAborted()


def test_write_that_fails_aborts_the_session() -> None:
    conn = Connection(Config(hostname="s.example"))
    party = Broken(serving(conn, ticks()), 0, ConnectionResetError())
    party.run()

    assert party.is_over
    assert conn.state is State.CLOSED


def test_last_reply_is_written_although_commands_follow() -> None:
    party = serve(lambda item: Reply(421) if isinstance(item, Mail) else None).give(EHLO + CHUNK)

    assert party.is_over
    assert found(party) == [220, 250, 421]


def test_session_without_auth_continues_after_the_handshake() -> None:
    party = serve(starttls=True).give(EHLO + b"STARTTLS\r\n").give(None).give(EHLO)

    assert found(party) == [220, 250, 220, 250]


def test_plaintext_before_tls_ends_the_session() -> None:
    party = serve(starttls=True).give(EHLO + b"STARTTLS\r\n")
    assert isinstance(party.action, Handshake)
    party.give(OSError("no handshake"))

    assert party.is_over
    assert found(party) == [220, 250, 220]


def test_session_ends_with_a_421_before_its_next_message_when_the_server_stops() -> None:
    stopping: list[bool] = []
    party = serve(accept, is_stopping=lambda: bool(stopping)).give(EHLO + CHUNK)
    stopping.append(True)
    party.give(None).give(b"BDAT 0 LAST\r\n")

    assert party.is_over
    assert replies(bytes(party.output))[-2:][0][0] == 250
    assert bytes(party.output).endswith(b"421 4.3.2 s.example " + STOPPING.lines[0].encode() + b"\r\n")


def test_auth_without_an_exchange_is_an_event() -> None:
    line = b"AUTH PLAIN " + b64encode(b"\0tim\0x") + b"\r\n"
    party = serve(auth_mechanisms=("PLAIN",), plaintext_auth=True).give(EHLO + line)

    assert found(party) == [220, 250, 535]


def test_answer_that_cannot_be_sent_is_a_local_error() -> None:
    party = serve(lambda item: Reply(354) if isinstance(item, Ehlo) else None)
    with pytest.raises(LocalProtocolError):
        party.give(EHLO)
