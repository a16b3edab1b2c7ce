"""The records of messages, and the subjects."""

from dataclasses import replace
from datetime import datetime

import pytest

from smtpcore import Mail, Params, Path, Rcpt, Reply
from smtpcore_adapters.stores.jetstream._records import (
    Record,
    State,
    domain_token,
    parse_record,
    parse_state,
    record_of,
)
from tests.adapters.stores.jetstreams import make_envelope

ENVELOPE = replace(
    make_envelope("u@example.org", "ü@example.net"),
    mail=Mail(Path("a@c.example"), Params({"SMTPUTF8": True})),
)


@pytest.mark.parametrize("body", [b"", b"\n\n", b"A: b\r\n\r\n\xff\0\r\n"])
def test_record_has_the_envelope_and_the_body(body: bytes) -> None:
    record = replace(
        record_of(ENVELOPE, len(body), body=body), replies={"u@example.org": Reply(550, "No", "such user")}
    )
    parsed = parse_record(record.encode())
    assert parsed.envelope == replace(ENVELOPE, received=b"")
    assert (parsed.size, parsed.chunks, parsed.body) == (len(body), 0, body)
    assert parsed.replies == {"u@example.org": Reply(550, "No")}


def test_record_of_a_long_message_counts_its_chunks() -> None:
    parsed = parse_record(record_of(ENVELOPE, 1_000_000, chunks=4).encode())
    assert (parsed.size, parsed.chunks, parsed.body) == (1_000_000, 4, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b'{"version":1}\n',
        b'{"version":1,"envelope":{}}\n',
        pytest.param(b"[" * 100_000 + b"\n", id="deep"),
        Record(envelope=ENVELOPE, size=1, chunks=1).encode().replace(b'"size":1', b'"size":1e999'),
        Record(envelope=replace(ENVELOPE, key=">"), size=0).encode(),
        Record(envelope=replace(ENVELOPE, received_at=datetime(1, 1, 1)), size=0).encode(),
        Record(envelope=replace(ENVELOPE, key="a.b"), size=0).encode(),
        Record(envelope=replace(ENVELOPE, recipients=()), size=0).encode(),
    ],
)
def test_other_octets_are_no_record(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not the record|is not an envelope|Expecting value|time zone"):
        parse_record(data)


def test_record_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="use a newer version"):
        parse_record(b'{"version":2}\n')


def test_record_whose_body_was_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 octets, and its record says 4"):
        parse_record(Record(envelope=ENVELOPE, size=4, body=b"abcd").encode()[:-1])


def test_state_has_the_decided_recipients() -> None:
    state = State(3, 1234.5, {"u@example.org": Reply(250, "OK", enhanced="2.1.5")}, 7)
    assert parse_state(state.encode()) == state


def test_state_of_an_older_version_belongs_to_every_record() -> None:
    assert parse_state(b'{"attempts":1,"due":2.0,"replies":{}}') == State(1, 2.0, {}, 0)


@pytest.mark.parametrize("data", [b"", b"garbage", b"[]", b"{}", b'{"attempts":1e999,"due":0,"replies":{}}'])
def test_other_octets_are_no_state(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not the results|Expecting value"):
        parse_state(data)


@pytest.mark.parametrize("due", ["NaN", "Infinity", "-Infinity", "1e300", "-1", "1767225600000"])
def test_message_with_an_impossible_time_of_its_next_attempt_is_due_now(due: str) -> None:
    state = parse_state(b'{"attempts":1,"due":%b,"replies":{},"record":7}' % due.encode())
    assert state == State(1, 0.0, {}, 7)


@pytest.mark.parametrize("attempts", [-5, 10**400])
def test_impossible_number_of_attempts_is_not_used(attempts: int) -> None:
    assert parse_state(b'{"attempts":%d,"due":2.0,"replies":{}}' % attempts) == State(0, 2.0)


@pytest.mark.parametrize(
    ("address", "token"),
    [
        ("u@Example.ORG", "example_org"),
        ("u@sub-domain.example", "sub-domain_example"),
        ("u@[192.0.2.1]", "_192_0_2_1_"),
        ("u@[IPv6:2001:db8::1]", "_ipv6_2001_db8__1_"),
        ("u@bücher.example", "bücher_example"),
        ("Postmaster", "postmaster"),
    ],
)
def test_domain_is_one_part_of_a_subject(address: str, token: str) -> None:
    assert domain_token(Path(address)) == token
    assert Rcpt(Path(address)).forward_path.address == address
