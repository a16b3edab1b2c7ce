"""`ServerExchange`, which joins the events of AUTH, a mechanism, and the replies."""

from base64 import b64encode
from collections.abc import Sequence

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


def converse(conn: Connection, exchange: sasl.ServerExchange) -> list[int]:
    """Answer all events, as in the docstring of `ServerExchange`, and return the codes of the replies."""
    while not isinstance(event := conn.next_event(), Signal):
        match event:
            case Auth() | AuthResponse() | AuthCancel():
                step = exchange.receive(event)
                while not isinstance(step, Reply):
                    step = exchange.answer(check(step))
                conn.answer(event, step)
            case _:
                conn.answer(event)
    return [code for code, _ in replies(conn.data_to_send())]


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
    book = server(READY, auth_mechanisms=("PLAIN", "LOGIN", "CRAM-MD5"), plaintext_auth=True, cut=False)
    conn, exchange = book.connection, sasl.ServerExchange()
    assert exchange.identity is None
    conn.data_to_send()
    found: list[int] = []
    for line in lines:
        conn.receive_data(line + b"\r\n")
        found += converse(conn, exchange)

    assert found == codes
    assert identity in (None, exchange.claimed)
    assert exchange.identity == identity
    assert conn.authenticated is (identity is not None)


def test_exchange_needs_auth_before_a_response_or_an_answer() -> None:
    exchange = sasl.ServerExchange()
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
