"""The Hypothesis strategies for values draw valid values, within the documented limits."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpcore import (
    Bodies,
    Command,
    DataEnd,
    Mailbox,
    Path,
    Reply,
)
from smtpcore_adapters.testing import strategies
from tests.helpers import body
from tests.playbook import RCPT, READY, new_server, server

few_examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# A configuration with all extensions, in which each command is in sequence after its `BEFORE`.
ALL_EXTENSIONS: dict[str, Any] = {
    "disabled": frozenset[str](),
    "starttls": True,
    "plaintext_auth": True,
    "auth_mechanisms": ("PLAIN", "LOGIN", "CRAM-MD5"),
    "max_message_size": None,
    "burl": ("imap",),
    "max_hold_for": 1000,
    "max_hold_until": datetime(9999, 1, 1, tzinfo=UTC),
    "bodies": Bodies.CHUNKS,
}
BEFORE = {"RCPT": READY + b"MAIL FROM:<> SMTPUTF8\r\n", "DATA": RCPT, "BDAT": RCPT, "BURL": RCPT, "LHLO": b""}


def first_event(command: Command) -> object:
    """Return the first event that a server parses from the line of `command`."""
    implicit_tls = command.verb != "STARTTLS"
    book = new_server(**ALL_EXTENSIONS, lmtp=command.verb == "LHLO", implicit_tls=implicit_tls)
    if implicit_tls:
        book.start_tls()  # REQUIRETLS is offered under TLS only
    before = BEFORE.get(command.verb, READY)
    book.send(*([before] if before else [])).skip()
    return book.send(command.encode()).events[0]


@given(strategies.commands())
@few_examples
def test_drawn_command_is_parsed_as_an_equal_command(command: Command) -> None:
    assert first_event(command) == command


@given(st.data())
@few_examples
def test_drawn_command_with_utf8_is_parsed_as_an_equal_command(data: st.DataObject) -> None:
    path = data.draw(strategies.paths(null=False, utf8=True))
    line = f"RCPT TO:<{path}>\r\n".encode()

    (rcpt,) = server(BEFORE["RCPT"]).send(line).events
    assert str(rcpt) == line.decode().rstrip()


@given(strategies.mailboxes(utf8=True), strategies.paths())
@few_examples
def test_drawn_addresses_are_valid_and_within_the_length_limits(mailbox: Mailbox, path: Path) -> None:
    assert Mailbox(str(mailbox)) == mailbox
    assert len(mailbox.text.rpartition("@")[0]) <= 64
    assert len(mailbox.domain) <= 255
    assert Path(str(path)) == path


@pytest.mark.parametrize("positive", [None, True, False])
@given(data=st.data())
@few_examples
def test_drawn_reply_has_the_requested_class(positive: bool | None, data: st.DataObject) -> None:
    reply = data.draw(strategies.replies(positive=positive))

    assert isinstance(reply, Reply)
    assert positive in (None, reply.is_positive)
    assert reply.encode().count(b"\r\n") == len(reply.lines)


@given(strategies.bodies())
@few_examples
def test_dot_stuffed_body_arrives_unchanged(content: bytes) -> None:
    events = server(RCPT + b"DATA\r\n").send(strategies.stuffed(content)).events

    assert body(events) == content
    assert events[-1] == DataEnd()


@given(strategies.bodies(binary=True))
@few_examples
def test_binary_body_arrives_unchanged(content: bytes) -> None:
    before = RCPT.replace(b"@c.example>", b"@c.example> BODY=BINARYMIME")
    events = server(before, bodies=Bodies.CHUNKS).send(b"BDAT %d LAST\r\n%b" % (len(content), content)).events

    assert body(events) == content
    assert events[-1] == DataEnd()


@given(st.binary(max_size=50), st.data())
@few_examples
def test_segments_are_not_empty_and_join_to_the_data(data: bytes, draw: st.DataObject) -> None:
    segments = draw.draw(strategies.segments(data))

    assert b"".join(segments) == data
    assert all(segments)
