"""`ServerExchange`, which joins the events of AUTH, a mechanism, and the replies."""

from base64 import b64encode
from collections.abc import Iterable, Sequence

import pytest

from smtpcore import Auth, AuthCancel, AuthResponse, Connection, LocalProtocolError, Reply, Signal, sasl

from ...helpers import replies
from ...playbook import READY, server

PASSWORDS = {"tim": "tanstaaftanstaaf"}
LOGIN = b64encode(b"\0tim\0tanstaaftanstaaf")


def check(question: sasl.Question) -> sasl.Answer:
    match question:
        case sasl.CheckPassword(username=name):
            return question.matches(PASSWORDS.get(name))
        case _:
            return None


def converse(lines: Iterable[bytes], exchange: sasl.ServerExchange) -> tuple[Connection, list[str]]:
    """Answer all events of these lines, as in the docstring of `ServerExchange`. Return the replies too."""
    book = server(READY, auth_mechanisms=("PLAIN", "LOGIN", "CRAM-MD5"), plaintext_auth=True, cut=False)
    conn = book.connection
    conn.data_to_send()
    for line in lines:
        conn.receive_data(line + b"\r\n")
        answer_all(conn, exchange)

    return conn, [text for _, text in replies(conn.data_to_send())]


def answer_all(conn: Connection, exchange: sasl.ServerExchange) -> None:
    while not isinstance(event := conn.next_event(), Signal):
        match event:
            case Auth() | AuthResponse() | AuthCancel():
                step = exchange.receive(event)
                while not isinstance(step, Reply):
                    step = exchange.answer(check(step))
                conn.answer(event, step)
            case _:
                conn.answer(event)


@pytest.mark.parametrize(
    ("lines", "codes", "identity"),
    [
        ([b"AUTH PLAIN " + LOGIN], [235], "tim"),
        ([b"AUTH PLAIN", LOGIN], [334, 235], "tim"),
        ([b"AUTH LOGIN", b64encode(b"tim"), b64encode(b"tanstaaftanstaaf")], [334, 334, 235], "tim"),
        ([b"AUTH PLAIN " + b64encode(b"\0tim\0wrong")], [535], None),
        ([b"AUTH PLAIN " + b64encode(b"x")], [501], None),
        ([b"AUTH PLAIN", b"*"], [334, 501], None),
        ([b"AUTH PLAIN", b"%%"], [334, 501], None),
        ([b"AUTH CRAM-MD5", b64encode(b"tim 0123456789abcdef0123456789abcdef")], [334, 535], None),
        ([b"AUTH PLAIN", b"*", b"AUTH PLAIN " + LOGIN], [334, 501, 235], "tim"),
        ([b"AUTH PLAIN AAAA", b"AUTH PLAIN " + LOGIN], [501, 235], "tim"),
    ],
)
def test_exchange_answers_the_events_of_auth(lines: Sequence[bytes], codes: list[int], identity: str | None) -> None:
    exchange = sasl.ServerExchange()
    conn, found = converse(lines, exchange)

    assert [int(text[:3]) for text in found] == codes
    assert identity in (None, exchange.claimed)
    assert exchange.identity == identity
    assert conn.authenticated is (identity is not None)


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"AUTH PLAIN " + LOGIN], "235 2.7.0 Welcome"),
        ([b"AUTH PLAIN " + b64encode(b"\0tim\0wrong")], "535 5.7.8 Authentication failed"),
        ([b"AUTH LOGIN", b64encode(b"nobody"), b64encode(b"x")], "535 5.7.8 Authentication failed"),
        ([b"AUTH PLAIN " + b64encode(b"\0tim")], "501 5.5.2 Malformed authentication"),
        ([b"AUTH CRAM-MD5 " + b64encode(b"x")], "501 5.7.0 Malformed authentication"),
        ([b"AUTH PLAIN", b"*"], "501 5.7.0 Authentication cancelled"),
    ],
)
def test_last_reply_names_a_malformed_message_but_no_other_reason(lines: Sequence[bytes], reply: str) -> None:
    assert converse(lines, sasl.ServerExchange())[1][-1] == reply


def test_outcome_and_claimed_name_are_none_until_they_are_known() -> None:
    exchange = sasl.ServerExchange()
    assert (exchange.outcome, exchange.claimed, exchange.identity) == (None, None, None)

    converse([b"AUTH PLAIN " + LOGIN], exchange)
    assert (exchange.outcome, exchange.claimed, exchange.identity) == (sasl.Accepted("tim", "tim"), "tim", "tim")

    exchange.receive(Auth("PLAIN"))
    assert (exchange.outcome, exchange.claimed, exchange.identity) == (None, None, None)


def test_names_are_prepared_as_the_policy_says() -> None:
    exchange = sasl.ServerExchange(policy=sasl.Policy(prepare=str.upper))
    question = exchange.receive(Auth("PLAIN", b"\0tim\0x"))

    assert question == sasl.CheckPassword("TIM", "X")
    assert exchange.claimed == "tim"


@pytest.mark.parametrize("events", [[], [Auth("PLAIN"), AuthCancel()], [Auth("PLAIN", b"x")]])
def test_exchange_needs_auth_before_a_response_or_an_answer(events: Sequence[Auth | AuthCancel]) -> None:
    exchange = sasl.ServerExchange()
    for event in events:
        exchange.receive(event)
    with pytest.raises(LocalProtocolError, match="no exchange is running"):
        exchange.receive(AuthResponse(b""))
    with pytest.raises(LocalProtocolError, match="no exchange is running"):
        exchange.answer(True)


def test_exchange_uses_the_given_mechanisms_and_channel() -> None:
    (anonymous,) = [row for row in sasl.MECHANISMS if row.name == "ANONYMOUS"]
    exchange = sasl.ServerExchange(sasl.Channel(tls=True), mechanisms=[anonymous])
    with pytest.raises(LocalProtocolError, match="no mechanism"):
        exchange.receive(Auth("PLAIN"))

    assert isinstance(exchange.receive(Auth("ANONYMOUS", b"")), sasl.CheckAnonymous)
    assert exchange.answer(True) == Reply(235, "Welcome", enhanced="2.7.0")
    assert exchange.identity == sasl.ANONYMOUS_IDENTITY
