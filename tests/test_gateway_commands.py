"""The commands of gateways: ETRN, BURL, XCLIENT and XFORWARD."""

from typing import Any

import pytest

from smtpcore import (
    OFF_BY_DEFAULT,
    Burl,
    Config,
    Connection,
    DataChunk,
    DataEnd,
    DataLine,
    Etrn,
    Event,
    InvalidCommand,
    LocalProtocolError,
    Reply,
    State,
    Xclient,
    Xforward,
)

from .helpers import MAIL, RCPT, READY, accept, connect, drive, replies

ENABLED: dict[str, Any] = {
    "disabled": OFF_BY_DEFAULT - {"ETRN", "BURL", "XCLIENT", "XFORWARD"},
    "burl": ("imap",),
}
ON: dict[str, Any] = {**ENABLED, "max_errors": None, "max_idle_commands": None}
URL = "imap://u@s.example/outbox;uid=1"


def fetch(conn: Connection, event: Event) -> Reply:
    """Fetch every URL, start every queue, believe every proxy."""
    match event:
        case Burl():
            return Reply(250, "Fetched", enhanced="2.5.0")
        case Etrn():
            return Reply(253, "7 messages started", enhanced="2.5.0")
        case Xclient():
            return Reply(220, "ESMTP")
        case _:
            return accept(conn, event)


def codes(before: bytes, data: bytes, answer: Any = fetch) -> list[int]:
    """The replies to `data`, which are the same however it is cut."""
    seen = []
    for segments in ([data], [data[i : i + 1] for i in range(len(data))], [data + b"NOOP\r\n"]):
        conn = connect(before, answer=answer, **ON)
        _, output = drive(conn, segments, answer)
        seen.append([code for code, _ in replies(output)])

    assert seen[0] == seen[1] == seen[2][: len(seen[0])]
    return seen[0]


def test_each_is_announced_with_what_it_takes() -> None:
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
def test_none_is_implemented_unless_it_is_enabled(line: bytes) -> None:
    """R4468-3.1-01"""
    _, output = drive(connect(READY), [line + b"\r\n"])
    assert output.startswith(b"502 5.5.1 ")
    assert line[:4] not in drive(connect(), [READY])[1]


# ETRN


@pytest.mark.parametrize("argument", ["example.org", "@example.org", "@com", "#queue"])
def test_a_node_may_be_a_domain_its_subdomains_or_a_queue(argument: str) -> None:
    """R1985-5-01, R1985-5.3-01, R1985-5.1-04"""
    events, _ = drive(connect(READY, **ON), [f"ETRN {argument}\r\n".encode()])
    assert events == [Etrn(argument)]
    assert str(events[0]) == f"ETRN {argument}"
    assert codes(READY, f"etrn {argument}\r\n".encode()) == [253]


@pytest.mark.parametrize(
    ("argument", "code"),
    [("", 500), (" localname", 501), (" a.b c", 501), (" @", 501), (" #", 501), (" #a b", 501), (" -a.b", 501)],
)
def test_what_is_no_node_is_a_syntax_error(argument: str, code: int) -> None:
    """R1985-5-03, R1985-5.1-03, R1985-8-01"""
    assert codes(READY, f"ETRN{argument}\r\n".encode()) == [code]


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (MAIL, b"RCPT TO:<u@s.example>\r\n")])
def test_ETRN_belongs_between_EHLO_and_MAIL(before: bytes, after: bytes) -> None:
    """R1985-5-02"""
    assert codes(before, b"ETRN example.org\r\n" + after) == [503, 250][: 1 + bool(after)]


@pytest.mark.parametrize("code", [250, 251, 252, 253, 458, 459])
def test_the_program_says_what_becomes_of_the_queue(code: int) -> None:
    """R1985-5.1-01, R1985-5.1-02"""
    assert codes(READY, b"ETRN example.org\r\n", lambda conn, event: Reply(code, "so")) == [code]


def test_without_a_program_no_queue_is_started() -> None:
    assert codes(READY, b"ETRN example.org\r\n", accept) == [458]


# BURL


def test_a_part_that_is_fetched_may_stand_among_chunks() -> None:
    """R4468-3.2-01"""
    session = f"BURL {URL}\r\nBDAT 3\r\nabcburl {URL}\r\nBDAT 1 LAST\r\nd".encode()
    assert codes(RCPT, session) == [250, 250, 250, 250]
    events, _ = drive(connect(RCPT, **ON), [session], fetch)
    assert b"".join(event.data for event in events if isinstance(event, DataLine | DataChunk)) == b"abcd"
    assert events[-1] == DataEnd()


def test_the_last_part_ends_the_transaction_whatever_becomes_of_it() -> None:
    """R4468-3.5-01"""
    again = b"MAIL FROM:<>\r\n"
    assert codes(RCPT, f"BURL {URL} last\r\n".encode() + again) == [250, 250]
    assert codes(RCPT, b"BDAT 1\r\nx" + f"BURL {URL} LAST\r\n".encode() + again) == [250, 250, 250]
    assert codes(RCPT, f"BURL {URL} LAST\r\n".encode() + again, accept) == [554, 250]
    assert str(Burl(URL, last=True)) == f"BURL {URL} LAST"


def test_a_part_that_cannot_be_fetched_spoils_the_message() -> None:
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
def test_what_cannot_be_a_part_is_refused(before: bytes, line: str, code: int) -> None:
    assert codes(before, line.encode() + b"\r\n") == [code]


def test_a_message_does_not_begin_with_what_is_left_of_another() -> None:
    events, _ = drive(connect(RCPT, **ON), [b"BDAT 3\r\na\nbRSET\r\nMAIL FROM:<>\r\nRCPT TO:<u@s.example>\r\n"], fetch)
    assert not isinstance(events[-1], InvalidCommand)
    events, output = drive(
        connect(RCPT, **ON), [b"BDAT 1\r\na" + READY + RCPT[len(READY) :] + b"BDAT 1 LAST\r\nb"], fetch
    )
    assert [event.data for event in events if isinstance(event, DataLine)] == [b"b"]
    assert output.endswith(b"250 2.6.0 Message taken\r\n")


# XCLIENT and XFORWARD


def test_attributes_are_decoded_and_what_is_not_known_is_None() -> None:
    line = b"xclient Name=mx+2Eexample addr=IPV6:2001:db8::1 HELO=[UNAVAILABLE] LOGIN=[tempunavail] PORT=\r\n"
    events, _ = drive(connect(READY, **ON), [line])
    known = {"NAME": "mx.example", "ADDR": "IPV6:2001:db8::1", "HELO": None, "LOGIN": None, "PORT": ""}
    assert events == [Xclient(known)]
    assert (
        str(events[0]) == "XCLIENT NAME=mx.example ADDR=IPV6:2001:db8::1 HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE] PORT="
    )
    assert hash(events[0]) == hash(Xclient(known))


@pytest.mark.parametrize("verb", [b"XCLIENT", b"XFORWARD"])
@pytest.mark.parametrize(
    "argument", [b"", b" ", b" NAME", b" FOO=x", b" NAME=a  ADDR=b", b" NAME=+0D+0A", b" NAME=+ZZ"]
)
def test_what_is_no_attribute_is_a_syntax_error(verb: bytes, argument: bytes) -> None:
    assert codes(READY, verb + argument + b"\r\n") == [501]


def test_with_XCLIENT_the_session_begins_again() -> None:
    session = b"XCLIENT ADDR=192.0.2.7\r\nMAIL FROM:<>\r\n" + READY + b"MAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.8\r\n"
    assert codes(READY, session) == [220, 503, 250, 250, 503]
    conn = connect(READY, **ON)
    _, output = drive(conn, [b"XCLIENT ADDR=192.0.2.7\r\n"], fetch)
    assert output == b"220 2.0.0 s.example ESMTP\r\n"
    assert (conn.state, conn.helo) == (State.GREETED, None)


def test_no_one_speaks_for_others_unless_the_program_says_so() -> None:
    assert codes(READY, b"XCLIENT ADDR=192.0.2.7\r\nMAIL FROM:<>\r\n", accept) == [550, 250]


def test_XFORWARD_changes_nothing() -> None:
    events, _ = drive(connect(READY, **ON), [b"XFORWARD NAME=x SOURCE=LOCAL\r\n"])
    assert events == [Xforward({"NAME": "x", "SOURCE": "LOCAL"})]
    assert codes(READY, b"XFORWARD NAME=x\r\nMAIL FROM:<>\r\nXFORWARD NAME=x\r\n", accept) == [250, 250, 503]
    assert codes(b"", b"XFORWARD NAME=x\r\n", accept) == [250]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Xclient({}),
        lambda: Xclient({"IDENT": "x"}),
        lambda: Xforward({"LOGIN": "x"}),
        lambda: Xforward({"NAME": "a\r\nb"}),
        lambda: Etrn("localname"),
        lambda: Burl(""),
        lambda: Burl("imap://a b"),
    ],
)
def test_a_command_that_exists_is_valid(make: Any) -> None:
    with pytest.raises(LocalProtocolError):
        make()


def test_a_positive_answer_to_XCLIENT_is_a_greeting() -> None:
    conn = connect(READY, **ON)
    conn.receive_data(b"XCLIENT ADDR=192.0.2.7\r\n")
    conn.next_event()
    with pytest.raises(LocalProtocolError, match="use 220"):
        conn.send(Reply(250, "Fine"))


def test_BURL_comes_with_8BITMIME() -> None:
    disabled = OFF_BY_DEFAULT - {"BURL"} | {"8BITMIME", "SMTPUTF8"}
    _, output = drive(Connection(Config(hostname="s.example", disabled=disabled, burl=("imap",))), [READY])
    assert b"BURL" not in output
