"""The commands of gateways: ETRN, BURL, XCLIENT and XFORWARD."""

from typing import Any

import pytest

from smtpcore import (
    OFF_BY_DEFAULT,
    PAUSED,
    Attributes,
    Bodies,
    Burl,
    ChunkEnd,
    Config,
    Connection,
    DataChunk,
    DataEnd,
    DataLine,
    Etrn,
    Event,
    InvalidCommand,
    InvalidData,
    LocalProtocolError,
    Noop,
    Reply,
    State,
    Wait,
    Xclient,
    Xforward,
)

from ..helpers import MAIL, RCPT, READY, accept, body, bytewise, connect, drive, replies, take_events

ENABLED: dict[str, Any] = {
    "disabled": OFF_BY_DEFAULT - {"ETRN", "BURL", "XCLIENT", "XFORWARD"},
    "burl": ("imap",),
}
ON: dict[str, Any] = {**ENABLED, "max_errors": None, "max_idle_commands": None}
URL = "imap://u@s.example/outbox;uid=1"


PART = b"From: u@s.example\r\n\r\nHi\r\n"


def fetch(conn: Connection, event: Event) -> Reply | None:
    """Answer as a server that fetches every URL, starts every queue and trusts every proxy."""
    match event:
        case Burl():
            for segment in (*bytewise(PART), b""):
                conn.receive_part(segment)
            return None
        case Etrn():
            return Reply(253, "7 messages started", enhanced="2.5.0")
        case Xclient():
            return Reply(220, "ESMTP")
        case _:
            return accept(conn, event)


def codes(before: bytes, data: bytes, answer: Any = fetch) -> list[int]:
    """Return the reply codes to `data`, after checking that they are the same for any segmentation."""
    seen = []
    for segments in ([data], [data[i : i + 1] for i in range(len(data))], [data + b"NOOP\r\n"]):
        conn = connect(before, answer=answer, **ON)
        _, output = drive(conn, segments, answer)
        seen.append([code for code, _ in replies(output)])

    assert seen[0] == seen[1] == seen[2][: len(seen[0])]
    return seen[0]


def test_gateway_extensions_are_announced_with_their_arguments() -> None:
    """R1985-2-01, R4468-3.1-02, R4468-4-01"""
    _, output = drive(connect(**ON), [READY])
    for line in (
        b"-ETRN\r\n",
        b"-BURL imap\r\n",
        b"-8BITMIME\r\n",
        b"-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n",
        b"-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n",
    ):
        assert line in output


@pytest.mark.parametrize("line", [b"ETRN example.org", b"BURL imap://x/y", b"XCLIENT NAME=x", b"XFORWARD NAME=x"])
def test_gateway_commands_are_not_implemented_by_default(line: bytes) -> None:
    """R4468-3.1-01"""
    _, output = drive(connect(READY), [line + b"\r\n"])
    assert output.startswith(b"502 5.5.1 ")
    assert line[:4] not in drive(connect(), [READY])[1]


# ETRN


@pytest.mark.parametrize("argument", ["example.org", "@example.org", "@com", "#queue"])
def test_etrn_accepts_a_domain_its_subdomains_or_a_queue(argument: str) -> None:
    """R1985-5-01, R1985-5.3-01, R1985-5.1-04"""
    events, _ = drive(connect(READY, **ON), [f"ETRN {argument}\r\n".encode()])
    assert events == [Etrn(argument)]
    assert str(events[0]) == f"ETRN {argument}"
    assert codes(READY, f"etrn {argument}\r\n".encode()) == [253]


@pytest.mark.parametrize(
    ("argument", "code"),
    [("", 500), (" localname", 501), (" a.b c", 501), (" @", 501), (" #", 501), (" #a b", 501), (" -a.b", 501)],
)
def test_etrn_with_an_invalid_node_is_a_syntax_error(argument: str, code: int) -> None:
    """R1985-5-03, R1985-5.1-03, R1985-8-01"""
    assert codes(READY, f"ETRN{argument}\r\n".encode()) == [code]


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (MAIL, b"RCPT TO:<u@s.example>\r\n")])
def test_etrn_is_allowed_only_between_ehlo_and_mail(before: bytes, after: bytes) -> None:
    """R1985-5-02"""
    assert codes(before, b"ETRN example.org\r\n" + after) == [503, 250][: 1 + bool(after)]


@pytest.mark.parametrize("code", [250, 251, 252, 253, 458, 459])
def test_etrn_reply_codes_of_the_program_are_sent(code: int) -> None:
    """R1985-5.1-01, R1985-5.1-02"""
    assert codes(READY, b"ETRN example.org\r\n", lambda conn, event: Reply(code, "so")) == [code]


def test_etrn_without_a_handler_is_answered_458() -> None:
    assert codes(READY, b"ETRN example.org\r\n", accept) == [458]


# BURL


def test_burl_part_may_be_mixed_with_chunks() -> None:
    """R4468-3.2-01"""
    session = f"BURL {URL}\r\nBDAT 3\r\nabcburl {URL}\r\nBDAT 1 LAST\r\nd".encode()
    assert codes(RCPT, session) == [250, 250, 250, 250]
    for bodies in Bodies:
        events, _ = drive(connect(RCPT, **ON, bodies=bodies), [session], fetch)
        assert body(events) == PART + b"abc" + PART + b"d"
        assert [event for event in events if isinstance(event, ChunkEnd | DataEnd)] == [ChunkEnd()] * 3 + [DataEnd()]


def test_burl_last_ends_the_transaction_even_if_refused() -> None:
    """R4468-3.5-01"""
    again = b"MAIL FROM:<>\r\n"
    assert codes(RCPT, f"BURL {URL} last\r\n".encode() + again) == [250, 250]
    assert codes(RCPT, b"BDAT 1\r\nx" + f"BURL {URL} LAST\r\n".encode() + again) == [250, 250, 250]
    assert codes(RCPT, f"BURL {URL} LAST\r\n".encode() + again, accept) == [554, 250]
    assert str(Burl(URL, last=True)) == f"BURL {URL} LAST"


def test_failed_burl_refuses_the_rest_of_the_message() -> None:
    """R4468-3.2-02"""
    session = f"BURL {URL}\r\nBURL {URL} LAST\r\nBDAT 4 LAST\r\nQUITRSET\r\n".encode()
    assert codes(RCPT, session, accept) == [554, 503, 503, 250]


@pytest.mark.parametrize(
    ("before", "line", "code"),
    [
        (b"", f"BURL {URL} LAST", 503),
        (READY, f"BURL {URL} LAST", 503),
        pytest.param(MAIL, f"BURL {URL} LAST", 554, id="R4468-3.1-04, R4468-6-01"),
        (RCPT, "BURL", 501),
        (RCPT, f"BURL {URL} MORE", 501),
        (RCPT, f"BURL {URL} LAST LAST", 501),
        (RCPT, "BURL http://s.example/x LAST", 504),
    ],
)
def test_invalid_burl_is_refused(before: bytes, line: str, code: int) -> None:
    assert codes(before, line.encode() + b"\r\n") == [code]


def test_new_message_starts_without_the_rest_of_a_previous_one() -> None:
    events, _ = drive(connect(RCPT, **ON), [b"BDAT 3\r\na\nbRSET\r\nMAIL FROM:<>\r\nRCPT TO:<u@s.example>\r\n"], fetch)
    assert not isinstance(events[-1], InvalidCommand)
    events, output = drive(
        connect(RCPT, **ON), [b"BDAT 1\r\na" + READY + RCPT[len(READY) :] + b"BDAT 1 LAST\r\nb"], fetch
    )
    assert [event.data for event in events if isinstance(event, DataLine)] == [b"b"]
    assert output.endswith(b"250 2.6.0 Message taken\r\n")


# XCLIENT and XFORWARD


def test_xclient_attributes_are_decoded_and_unavailable_is_none() -> None:
    line = b"xclient Name=mx+2Eexample addr=IPV6:2001:db8::1 HELO=[UNAVAILABLE] LOGIN=[tempunavail] PORT=25\r\n"
    events, _ = drive(connect(READY, **ON), [line])
    known = {"NAME": "mx.example", "ADDR": "IPV6:2001:db8::1", "HELO": None, "LOGIN": None, "PORT": "25"}
    assert events == [Xclient(Attributes(known))]
    assert (
        str(events[0]) == "XCLIENT NAME=mx.example ADDR=IPV6:2001:db8::1 HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE] PORT=25"
    )
    assert hash(events[0]) == hash(Xclient(Attributes(known)))


@pytest.mark.parametrize("verb", [b"XCLIENT", b"XFORWARD"])
@pytest.mark.parametrize(
    "argument", [b"", b" ", b" NAME", b" FOO=x", b" NAME=a  ADDR=b", b" NAME=+0D+0A", b" NAME=+ZZ"]
)
def test_malformed_attribute_is_a_syntax_error(verb: bytes, argument: bytes) -> None:
    assert codes(READY, verb + argument + b"\r\n") == [501]


@pytest.mark.parametrize(
    ("attribute", "code"),
    [
        ("ADDR=192.0.2.7", 220),
        ("ADDR=ipv6:2001:db8::1", 220),
        ("DESTADDR=192.0.2.7", 220),
        ("PORT=65535", 220),
        ("PROTO=esmtp", 220),
        ("ADDR=[UNAVAILABLE]", 220),
        ("LOGIN=", 220),
        ("ADDR=", 501),
        ("ADDR=client.example", 501),
        ("ADDR=2001:db8::1", 501),
        ("DESTADDR=IPV6:fe80::1%25lo", 501),
        ("PORT=65536", 501),
        ("DESTPORT=smtp", 501),
        ("PROTO=LMTP", 501),
    ],
)
def test_xclient_values_are_validated_and_xforward_values_are_not(attribute: str, code: int) -> None:
    assert codes(READY, f"XCLIENT {attribute}\r\n".encode()) == [code]
    # XFORWARD values are only logged, so any text is allowed (XFORWARD_README).
    assert codes(READY, b"XFORWARD ADDR=not+20an+20address PORT=x PROTO=UUCP\r\n") == [250]


def test_accepted_xclient_returns_to_the_greeting() -> None:
    session = b"XCLIENT ADDR=192.0.2.7\r\nMAIL FROM:<>\r\n" + READY + b"MAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.8\r\n"
    assert codes(READY, session) == [220, 503, 250, 250, 503]
    conn = connect(READY, **ON)
    _, output = drive(conn, [b"XCLIENT ADDR=192.0.2.7\r\n"], fetch)
    # RFC 2034 section 3 (4): a greeting has no status code.
    assert output == b"220 s.example ESMTP\r\n"
    assert (conn.state, conn.helo) == (State.GREETED, None)


def test_malformed_xclient_leaves_the_session_unchanged() -> None:
    assert codes(READY, b"XCLIENT FOO=x\r\nMAIL FROM:<>\r\n", accept) == [501, 250]


def test_refused_xclient_allows_only_quit() -> None:
    for before in (b"", READY):
        session = b"XCLIENT ADDR=192.0.2.7\r\n" + READY + b"MAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.7\r\nQUIT\r\n"
        _, output = drive(connect(before, **ON), [session])
        assert [code for code, _ in replies(output)] == [550, 503, 503, 503, 221]
        assert output.startswith(b"550 5.7.0 ")


def test_xclient_login_counts_as_authenticated_until_changed_or_tls_starts() -> None:
    conn = connect(READY, **ON, auth_mechanisms=("PLAIN",), tls=True, require_auth=True, plaintext_auth=True)
    refused = b"MAIL FROM:<>\r\n"
    for attributes, code in (
        (b"ADDR=192.0.2.7", 530),
        (b"LOGIN=tim", 250),
        (b"ADDR=192.0.2.7", 250),
        (b"LOGIN=", 530),
        (b"LOGIN=tim", 250),
        (b"LOGIN=[UNAVAILABLE]", 530),
        (b"LOGIN=tim", 250),
    ):
        _, output = drive(conn, [b"RSET\r\nXCLIENT " + attributes + b"\r\n" + READY + refused], fetch)
        assert [number for number, _ in replies(output)] == [250, 220, 250, code]
        assert conn.authenticated is (code == 250)

    drive(conn, [b"STARTTLS\r\n"])
    conn.tls_established()
    assert not conn.authenticated
    drive(conn, [READY, b"XCLIENT ADDR=192.0.2.7\r\n"], fetch)
    assert not conn.authenticated


def test_xforward_does_not_change_the_session() -> None:
    events, _ = drive(connect(READY, **ON), [b"XFORWARD NAME=x SOURCE=LOCAL\r\n"])
    assert events == [Xforward(Attributes({"NAME": "x", "SOURCE": "LOCAL"}))]
    assert codes(READY, b"XFORWARD NAME=x\r\nMAIL FROM:<>\r\nXFORWARD NAME=x\r\n", accept) == [250, 250, 503]
    assert codes(b"", b"XFORWARD NAME=x\r\n", accept) == [250]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Xclient(Attributes({})),
        lambda: Xclient(Attributes({"IDENT": "x"})),
        lambda: Xforward(Attributes({"LOGIN": "x"})),
        lambda: Xforward(Attributes({"NAME": "a\r\nb"})),
        lambda: Etrn("localname"),
        lambda: Burl(""),
        lambda: Burl("imap://a b"),
    ],
)
def test_invalid_gateway_command_is_refused(make: Any) -> None:
    with pytest.raises(LocalProtocolError):
        make()


def test_xclient_can_be_accepted_only_with_220() -> None:
    conn = connect(READY, **ON)
    conn.receive_data(b"XCLIENT ADDR=192.0.2.7\r\n")
    conn.next_event()
    with pytest.raises(LocalProtocolError, match="use 220"):
        conn.send(Reply(250, "Fine"))


def test_attributes_are_an_immutable_copy_of_their_source() -> None:
    values: dict[str, str | None] = {"NAME": "x", "ADDR": None}
    attributes = Attributes(values)
    values["NAME"] = "y"

    assert dict(attributes) == {"NAME": "x", "ADDR": None}
    assert attributes == Attributes({"ADDR": None, "NAME": "x"}) != Attributes({"ADDR": "x", "NAME": None})
    assert hash(attributes) == hash(Attributes({"ADDR": None, "NAME": "x"})) != hash(Attributes({"NAME": "z"}))
    assert repr(attributes) == "Attributes({'NAME': 'x', 'ADDR': None})"
    with pytest.raises(TypeError):
        attributes["NAME"] = "y"  # type: ignore[index]


@pytest.mark.parametrize(
    "changes", [{"disabled": OFF_BY_DEFAULT - {"BURL"} | {"8BITMIME", "SMTPUTF8"}}, {"lmtp": True}]
)
def test_burl_is_not_offered_without_8bitmime_or_in_lmtp(changes: dict[str, Any]) -> None:
    conn = Connection(Config(hostname="s.example", **{**ENABLED, **changes}))
    _, output = drive(conn, [b"LHLO c.example\r\n" if conn.config.lmtp else READY])
    assert b"250 HELP" in output
    assert b"BURL" not in output


# The part that BURL requests


def connection_after_burl(data: bytes, **changes: Any) -> Connection:
    conn = connect(RCPT, **(ON | changes))
    conn.receive_data(data)
    assert isinstance(conn.next_event(), Burl)
    return conn


def test_burl_part_is_returned_as_it_arrives() -> None:
    conn = connection_after_burl(f"BURL {URL} LAST\r\nNOOP\r\n".encode(), bodies=Bodies.CHUNKS)
    assert (conn.next_event(), conn.waiting_for) == (PAUSED, Wait.NOTHING)
    for data in (b"ab", b"c"):
        conn.receive_part(data)
        assert (conn.next_event(), conn.next_event()) == (DataChunk(data), PAUSED)

    conn.receive_part(b"")
    assert (conn.next_event(), conn.next_event(), conn.replies_owed) == (DataEnd(), PAUSED, 1)
    conn.send(Reply(250, "Taken"))
    assert (conn.next_event(), conn.transaction) == (Noop(), None)


@pytest.mark.parametrize(("last", "following"), [("", []), (" LAST", [DataLine(b"c")])])
def test_unterminated_line_of_a_burl_part_is_returned_at_the_end_of_the_message(
    last: str, following: list[Event]
) -> None:
    conn = connection_after_burl(f"BURL {URL}{last}\r\n".encode())
    conn.receive_part(b"ab\r\nc")
    conn.receive_part(b"")

    assert list(take_events(conn)) == [DataLine(b"ab\r\n"), *following, DataEnd() if last else ChunkEnd()]


def test_burl_cannot_be_accepted_before_the_part_is_complete() -> None:
    conn = connection_after_burl(f"BURL {URL} LAST\r\n".encode())
    with pytest.raises(LocalProtocolError, match="receive_part"):
        conn.send(Reply(250, "Taken"))

    conn.receive_part(b"x\r\n")
    with pytest.raises(LocalProtocolError, match="receive_part"):
        conn.send(Reply(250, "Taken"))


@pytest.mark.parametrize(("last", "following"), [("", [503, 250]), (" LAST", [250, 554])])
def test_incomplete_burl_part_can_be_refused(last: str, following: list[int]) -> None:
    conn = connection_after_burl(f"BURL {URL}{last}\r\n".encode())
    conn.receive_part(b"half a li")
    assert conn.next_event() is PAUSED
    conn.send(Reply(451, "The line is dead"))
    with pytest.raises(LocalProtocolError, match="no part is wanted"):
        conn.receive_part(b"ne\r\n")

    _, output = drive(conn, [b"MAIL FROM:<>\r\nRSET\r\n" if not last else b"MAIL FROM:<>\r\nBDAT 0\r\n"])
    assert [code for code, _ in replies(output)] == [451, *following]


def test_rest_of_an_incomplete_burl_part_does_not_reach_the_next_message() -> None:
    conn = connection_after_burl(f"BURL {URL} LAST\r\n".encode())
    conn.receive_part(b"x\r\nhalf a li")
    conn.receive_part(b"ne\r\n")
    conn.send(Reply(451, "The line is dead"))

    conn.receive_data(RCPT[len(READY) :] + f"BURL {URL} LAST\r\n".encode())
    while not isinstance(event := conn.next_event(), Burl):
        conn.send(accept(conn, event))  # type: ignore[arg-type]
    assert conn.next_event() is PAUSED
    conn.receive_part(b"all\r\n")
    conn.receive_part(b"")
    assert list(take_events(conn)) == [DataLine(b"all\r\n"), DataEnd()]


@pytest.mark.parametrize(("data", "code"), [(b"x" * 70_000 + b"\r\n", 552), (b"a\nb\r\n", 550), (b"x" * 69_999, 554)])
@pytest.mark.parametrize("last", ["", " LAST"])
def test_burl_part_is_checked_like_any_body(data: bytes, code: int, last: str) -> None:
    changes = {"max_message_size": 65_536, "max_text_line": 100_000} if code == 552 else {}
    conn = connection_after_burl(f"BURL {URL}{last}\r\n".encode(), **changes)
    conn.receive_part(data)
    events = list(take_events(conn))
    assert isinstance(events[-1], InvalidData)
    with pytest.raises(LocalProtocolError, match="no part is wanted"):
        conn.receive_part(b"more")

    assert conn.data_to_send().startswith(b"%d " % code)
    assert conn.state is (State.READY if last else State.CHUNK_REFUSED)


def test_burl_part_may_be_empty() -> None:
    conn = connection_after_burl(f"BURL {URL}\r\n".encode())
    conn.receive_part(b"")
    with pytest.raises(LocalProtocolError, match="no part is wanted"):
        conn.receive_part(b"x")
    assert list(take_events(conn)) == [ChunkEnd()]


def test_empty_burl_parts_count_as_idle_commands() -> None:
    conn = connect(RCPT, **ENABLED, max_idle_commands=10)

    def fetch_nothing(conn: Connection, event: Event) -> Reply | None:
        if not isinstance(event, Burl):
            return accept(conn, event)
        conn.receive_part(b"")
        return None

    _, output = drive(conn, [f"BURL {URL}\r\n".encode() * 20], fetch_nothing)
    assert [code for code, _ in replies(output)] == [250] * 9 + [421]


def test_receive_part_without_burl_is_refused() -> None:
    for before in (b"", READY, RCPT):
        with pytest.raises(LocalProtocolError, match="no part is wanted"):
            connect(before, **ON).receive_part(b"x")
