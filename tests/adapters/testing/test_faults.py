"""Fault scripts: each line changes the server's behaviour, and an invalid line is an error that shows a valid line."""

import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any

import pytest
import trustme
from cryptography import x509

from smtpcore import EXTENSIONS, Bodies, Config, Mail, Path, RemoteProtocolError, State
from smtpcore_adapters import Address, App, Reason
from smtpcore_adapters.asyncio import BackgroundServer
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.server._config import effective_config
from smtpcore_adapters.testing import FaultError, Faults, Inbox, SmtpPair, SmtpServer
from smtpcore_adapters.tls import ServerTls
from tests.adapters.check.faulty_servers import CONTEXT
from tests.adapters.command import run_in_process, running
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import BACKENDS
from tests.adapters.harness import running as running_server
from tests.adapters.playbook import session
from tests.certificates import context_trusting

CONTENT = b"Subject: hello\r\n\r\n" + b"0123456789\r\n" * 10
EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\n"
RCPT = b"RCPT TO:<b@s.example>\r\n"
WITHOUT_EXTENSIONS = frozenset(each.keyword for each in EXTENSIONS) - {"PIPELINING", "ENHANCEDSTATUSCODES"}


def app_with(*lines: str) -> tuple[App, Inbox]:
    inbox = Inbox()
    app = App()
    app.include(Faults(*lines))
    app.include(AnyRecipient())
    app.include(inbox)
    return app, inbox


def replies_to(*lines: str, times: int = 1) -> list[list[int]]:
    """Return the reply codes to messages to two recipients, each message in a new session."""
    app, _ = app_with(*lines)
    return [
        [reply.code for reply in SmtpPair(app).deliver("a@c.example", ["b@s.example", "x@y.example"], CONTENT)]
        for _ in range(times)
    ]


# Replies


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("MAIL -> 451", [451]),
        ("MAIL <a@c.example> -> 451", [451]),
        ("MAIL <A@C.EXAMPLE> -> 451", [250, 250, 250, 354, 250]),
        ("RCPT 2 -> 451 4.2.2 Mailbox full", [250, 250, 451, 354, 250]),
        ("RCPT <x@y.example> -> 550", [250, 250, 550, 354, 250]),
        ("RCPT 2- -> 451", [250, 250, 451, 354, 250]),
        ("RCPT 1-2 -> 451", [250, 451, 451]),
        ("RCPT 3-4 -> 451", [250, 250, 250, 354, 250]),
        ("rcpt -> 550", [250, 550, 550]),
        ("DATA -> 451", [250, 250, 250, 451]),
        ("message -> 452 4.3.1 Full", [250, 250, 250, 354, 452]),
        ("DATA after 50 octets -> 552", [250, 250, 250, 354, 552]),
        ("DATA after 5000 octets -> 552", [250, 250, 250, 354, 250]),
        ("message -> delay 3", [250, 250, 250, 354, 250]),
        ("DATA after 50 octets -> delay 3", [250, 250, 250, 354, 250]),
        ("NOOP -> drop", [250, 250, 250, 354, 250]),
    ],
)
def test_fault_replaces_the_usual_reply(line: str, codes: list[int]) -> None:
    assert replies_to(line) == [codes]


def test_rcpt_is_counted_per_message_and_other_events_per_server() -> None:
    both = ["message 1 -> 452", "RCPT 2 -> 451"]

    assert replies_to(*both, times=2) == [[250, 250, 451, 354, 452], [250, 250, 451, 354, 250]]
    assert replies_to("MAIL 2 -> 451", times=3) == [
        [250, 250, 250, 354, 250],
        [451],
        [250, 250, 250, 354, 250],
    ]


def test_refused_recipients_are_counted() -> None:
    app, _ = app_with("RCPT 1 -> 550", "RCPT 2 -> 551")
    (dialogue,) = [session(app).send(EHLO + MAIL + RCPT * 3 + b"RSET\r\n" + MAIL + RCPT + b"QUIT\r\n")]

    assert dialogue.codes == [220, 250, 250, 550, 551, 250, 250, 250, 550, 221]


def test_first_matching_line_of_a_fault_script_decides() -> None:
    assert replies_to("RCPT 1 -> 450", "RCPT -> 550") == [[250, 450, 550]]


def test_fault_of_the_test_server_may_have_text_and_an_enhanced_status_code() -> None:
    app, _ = app_with("NOOP -> 450 4.2.1 Not now", "RSET -> 550 Never", "HELP -> 214 What?", "VRFY -> 252")
    dialogue = session(app).send(EHLO + b"NOOP\r\nRSET\r\nHELP\r\nVRFY x\r\nQUIT\r\n")

    assert dialogue.replies[2:-1] == [
        "450 4.2.1 Not now",
        "550 5.0.0 Never",
        "214 2.0.0 What?",
        "252 2.0.0 A fault on purpose",
    ]


def test_message_inspected_by_faults_reaches_the_inbox_complete() -> None:
    app, inbox = app_with("DATA after 5000 octets -> drop", "message 2 -> 451")
    SmtpPair(app).deliver("a@c.example", ["b@s.example"], CONTENT)

    assert [received.content for received in inbox] == [CONTENT]


def test_disabled_extensions_are_not_offered() -> None:
    app, _ = app_with("EHLO -> no 8bitmime", "EHLO -> no CHUNKING", "LHLO -> no SIZE")
    pair = SmtpPair(app)
    pair.hello()

    assert set(pair.client.extensions) == {"PIPELINING", "ENHANCEDSTATUSCODES", "VRFY", "HELP"}


def test_fault_may_refuse_only_the_first_connection() -> None:
    app, _ = app_with("connect 1 -> 554")

    assert [SmtpPair(app).greeting.code for _ in range(2)] == [554, 220]


def test_fault_of_the_test_server_can_refuse_auth() -> None:
    app, _ = app_with("AUTH -> 454")
    config = Config(hostname="s.example", plaintext_auth=True, bodies=Bodies.CHUNKS, auth_mechanisms=("PLAIN",))
    session(app, config=config).send(EHLO + b"AUTH PLAIN AGEAYg==\r\nQUIT\r\n").expect(220, 250, 454, 221)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("BDAT -> 552", [552, 503, 503]),
        ("BDAT 2 -> 552 5.3.4 Too big", [250, 552, 503]),
        ("BDAT 3 -> 451", [250, 250, 451]),
        ("BDAT 2-3 -> delay 2", [250, 250, 250]),
        ("BDAT after 7 octets -> 552", [250, 552, 503]),
        ("RSET -> 451", [250, 250, 250]),
    ],
)
def test_fault_refuses_a_chunk(line: str, codes: list[int]) -> None:
    app, inbox = app_with(line)
    for _ in range(2):  # chunks are counted within each message
        dialogue = session(app).send(EHLO + MAIL + RCPT, b"BDAT 5\r\none\r\n", b"BDAT 5\r\ntwo\r\n")
        dialogue.send(b"BDAT 7 LAST\r\nthree\r\n", b"QUIT\r\n").expect(220, 250, 250, 250, *codes, 221)

    assert [received.content for received in inbox] == [b"one\r\ntwo\r\nthree\r\n"] * 2 * (codes[-1] == 250)
    assert sum(dialogue.stream.sleeps) == (4 if "delay" in line else 0)


@pytest.mark.parametrize(
    ("line", "config", "why"),
    [
        ("STARTTLS -> 454", {}, "the server has no TLS context"),
        ("AUTH -> 535", {}, "the server does not offer AUTH"),
        ("LHLO -> 451", {}, "the server speaks SMTP"),
        ("EHLO -> 451", {"lmtp": True}, "the server speaks LMTP"),
        ("BDAT 2 -> 552", {"disabled": frozenset({"CHUNKING", "BINARYMIME"})}, "the server does not offer CHUNKING"),
        ("HELP -> 502", {"disabled": frozenset({"HELP"})}, "the server does not offer HELP"),
    ],
)
def test_fault_that_cannot_happen_is_an_error(line: str, config: dict[str, Any], why: str) -> None:
    app, _ = app_with("RCPT -> 451", line)
    with pytest.raises(FaultError, match=f"fault '{line}': {why}, so it would have no effect"):
        effective_config(Config(hostname="s.example", **config), app, None)


# Load


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def mail_codes(app: App, count: int) -> list[int]:
    """Return the replies to MAIL of `count` sessions."""
    return [session(app).send(EHLO + MAIL + b"QUIT\r\n").codes[2] for _ in range(count)]


def app_of(faults: Faults) -> App:
    app = App()
    app.include(faults)
    app.include(AnyRecipient())
    app.include(Inbox())
    return app


def test_events_over_the_rate_are_refused_until_time_has_passed() -> None:
    clock = Clock()
    app = app_of(Faults("MAIL over 3/min -> 421", clock=clock))

    assert mail_codes(app, 2) == [250, 250]
    clock.now += 30
    assert mail_codes(app, 3) == [250, 421, 421]
    clock.now += 29.9
    assert mail_codes(app, 1) == [421]
    clock.now += 0.1  # the first two are a minute old
    assert mail_codes(app, 3) == [250, 250, 421]


@pytest.mark.parametrize(("unit", "seconds"), [("s", 1), ("minute", 60), ("H", 3600)])
def test_rate_has_a_unit_of_time(unit: str, seconds: int) -> None:
    clock = Clock()
    app = app_of(Faults(f"MAIL over 1/{unit} -> 451", clock=clock))

    assert mail_codes(app, 2) == [250, 451]
    clock.now += seconds - 0.01
    assert mail_codes(app, 1) == [451]
    clock.now += 0.01
    assert mail_codes(app, 1) == [250]


def rcpt_codes(faults: Faults, count: int) -> list[int]:
    return session(app_of(faults)).send(EHLO + MAIL + RCPT * count + b"QUIT\r\n").codes[3:-1]


def test_random_faults_are_repeated_with_the_same_seed(caplog: pytest.LogCaptureFixture) -> None:
    line = "RCPT 30% -> 451"
    codes = rcpt_codes(Faults(line, seed=7), 100)

    assert 15 < codes.count(451) < 45
    assert rcpt_codes(Faults(line, seed=7), 100) == codes
    assert rcpt_codes(Faults(line, seed=8), 100) != codes
    assert rcpt_codes(Faults("RCPT 100% -> 451", seed=7), 9) == [451] * 9
    assert caplog.messages == []


def test_other_lines_do_not_change_the_random_faults_of_a_line() -> None:
    def codes(*events: str) -> list[int]:
        faults = Faults("RCPT 30% -> 451", "NOOP 30% -> 451", seed=7)
        script = b"".join(event.encode() for event in events)
        dialogue = session(app_of(faults)).send(EHLO + MAIL + script + b"QUIT\r\n")
        return [code for event, code in zip(events, dialogue.codes[3:], strict=False) if event.startswith("RCPT")]

    rcpt = RCPT.decode()
    assert codes(*[rcpt, "NOOP\r\n"] * 40) == codes(*[rcpt] * 40)


def test_random_seed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults("RCPT 30% -> 451")
    other = Faults("RCPT 2 -> 451")

    assert caplog.messages == [f"the faults have the seed {faults.seed}: the same seed repeats the run"]
    assert faults.seed != other.seed
    assert rcpt_codes(faults, 50) == rcpt_codes(Faults("RCPT 30% -> 451", seed=faults.seed), 50)


def test_greylisted_recipient_is_accepted_at_the_second_attempt() -> None:
    app = app_of(Faults("RCPT first -> 451 4.7.1 Greylisted"))
    other_sender = b"MAIL FROM:<x@c.example>\r\n"
    other_rcpt = b"RCPT TO:<c@s.example>\r\n"

    def codes(script: bytes, host: str = "192.0.2.7") -> list[int]:
        dialogue = session(app, peer=Address(host, 4000)).send(EHLO + script + b"QUIT\r\n")
        return dialogue.codes[3:-1]

    assert codes(MAIL + RCPT + RCPT + other_rcpt) == [451, 250, 451]
    assert codes(MAIL + RCPT + other_rcpt) == [250, 250]
    assert codes(other_sender + RCPT) == [451]
    assert codes(MAIL + RCPT, "192.0.2.8") == [451]


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("connect first -> 554", [[554], [220, 250, 250, 250, 354, 250]]),
        ("MAIL first -> 451", [[220, 250, 451], [220, 250, 250, 250, 354, 250]]),
        ("DATA first -> 451", [[220, 250, 250, 250, 451], [220, 250, 250, 250, 354, 250]]),
        ("message first -> 451", [[220, 250, 250, 250, 354, 451], [220, 250, 250, 250, 354, 250]]),
    ],
)
def test_first_attempt_of_an_event_is_refused(line: str, codes: list[list[int]]) -> None:
    app = app_of(Faults(line))
    steps = [EHLO, MAIL, RCPT, b"DATA\r\n", CONTENT + b".\r\n"]

    assert [session(app).send(*steps[: len(expected) - 1]).end().codes for expected in codes] == codes


def test_client_of_a_unix_socket_is_greylisted_too() -> None:
    app = app_of(Faults("RCPT first -> 451"))
    session(app, peer=None).send(EHLO + MAIL + RCPT + RCPT + b"QUIT\r\n").expect(220, 250, 250, 451, 250, 221)


def test_each_third_message_is_late() -> None:
    app = app_of(Faults("message every 3 -> delay 2"))
    sleeps = []
    for _ in range(7):
        dialogue = session(app).send(EHLO + MAIL + RCPT + b"DATA\r\n", CONTENT + b".\r\n", b"QUIT\r\n")
        sleeps.append(sum(dialogue.stream.sleeps))

    assert sleeps == [0, 0, 2, 0, 0, 2, 0]


def test_each_line_counts_every_event() -> None:
    app = app_of(Faults("RCPT 1 -> 550", "RCPT first -> 451"))
    session(app).send(EHLO + MAIL + RCPT * 2 + b"QUIT\r\n").expect(220, 250, 250, 550, 250, 221)


# Additional replies and lines


def test_stray_reply_follows_the_usual_reply() -> None:
    app = app_of(Faults("RCPT 1 -> stray 250 2.1.5 Again", "QUIT -> stray 421"))
    dialogue = session(app).send(EHLO + MAIL + RCPT + b"RSET\r\nQUIT\r\n")

    assert dialogue.codes == [220, 250, 250, 250, 250, 250, 221, 421]
    assert dialogue.replies[4] == "250 2.1.5 Again"


def test_early_reply_takes_the_place_of_the_reply_to_the_next_command() -> None:
    app = app_of(Faults("RCPT 1 -> early 354 Go ahead"))
    dialogue = session(app).send(EHLO + MAIL + RCPT).expect(220, 250, 250, 250, 354)
    dialogue.send(b"DATA\r\n").expect()
    dialogue.send(CONTENT + b".\r\n", b"QUIT\r\n").expect(250, 221)


def test_client_raises_if_a_reply_comes_before_its_command() -> None:
    app = app_of(Faults("MAIL -> early 250"))
    pair = SmtpPair(app)
    pair.hello()
    pair.client.send(Mail(Path("a@c.example")))
    with pytest.raises(RemoteProtocolError):
        pair.exchange()


@pytest.mark.parametrize("line", ["BDAT 1 -> stray 250", "BDAT 1 -> early 250"])
def test_reply_to_a_chunk_may_be_followed_by_another_reply(line: str) -> None:
    app = app_of(Faults(line))
    dialogue = session(app).send(EHLO + MAIL + RCPT, b"BDAT 5\r\none\r\n").expect(220, 250, 250, 250, 250, 250)
    dialogue.send(b"BDAT 5 LAST\r\ntwo\r\n", b"QUIT\r\n").expect(*[250][: "stray" in line], 221)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("BDAT every 2 -> delay 2", [250, 250, 250, 250]),
        ("BDAT 100% -> 451", [451, 503, 503, 503]),
        ("BDAT over 1/min -> 552", [250, 552, 503, 503]),
        ("BDAT 2 -> 554 then drop", [250, 554]),
    ],
)
def test_counts_rates_and_percentages_of_faults_apply_to_chunks(line: str, codes: list[int]) -> None:
    app = app_of(Faults(line, seed=1, clock=Clock()))
    dialogue = session(app).send(EHLO + MAIL + RCPT).expect(220, 250, 250, 250)
    dialogue.send(*[b"BDAT 5\r\none\r\n"] * 3, b"BDAT 5 LAST\r\ntwo\r\n").end()

    assert dialogue.codes == codes
    assert sum(dialogue.stream.sleeps) == (4 if "delay" in line else 0)


def test_reply_to_ehlo_has_additional_lines() -> None:
    app = app_of(Faults('EHLO -> line "X-FOO 1"', "EHLO -> line 'AUTH=LOGIN'", "EHLO 2 -> 421"))
    (dialogue,) = [session(app).send(EHLO)]

    assert dialogue.replies[1].splitlines()[-2:] == ["250-X-FOO 1", "250 AUTH=LOGIN"]
    session(app).send(EHLO).expect(220, 421)


def test_reply_to_lhlo_without_keywords_has_an_additional_line() -> None:
    config = Config(hostname="s.example", lmtp=True, disabled=WITHOUT_EXTENSIONS)
    dialogue = session(app_of(Faults('LHLO -> line "X-FOO"')), config=config).send(b"LHLO c.example\r\n")

    assert dialogue.replies[1].splitlines()[-1] == "250 X-FOO"
    assert all(line[3] == "-" for line in dialogue.replies[1].splitlines()[:-1])


# The connection


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("connect -> drop", b""),
        ("connect -> cut 3", b"250"),
        ("EHLO -> drop", b"220 s.example ESMTP\r\n"),
        ('EHLO -> garbage "HTTP/1.1 400\\r\\n"', b"220 s.example ESMTP\r\nHTTP/1.1 400\r\n"),
        ("EHLO -> garbage b'\\xff'", b"220 s.example ESMTP\r\n\xff"),
        ("EHLO -> 550 Listed, then close", b"220 s.example ESMTP\r\n550 Listed\r\n"),
        ("EHLO -> 450 4.7.1 Later THEN CLOSE", b"220 s.example ESMTP\r\n450 4.7.1 Later\r\n"),
        ("EHLO -> 451 then drop", b"220 s.example ESMTP\r\n451 A fault on purpose\r\n"),
        ("EHLO -> 451 then close", b"220 s.example ESMTP\r\n451 A fault on purpose\r\n"),
        ("connect -> 554 then close", b"554 A fault on purpose\r\n"),
    ],
)
def test_connection_is_closed_after_partial_output(line: str, output: bytes) -> None:
    app, _ = app_with(line)
    dialogue = session(app).send(EHLO).end()

    assert dialogue.stream.output == output
    assert dialogue.reasons == [Reason.ABORTED]
    assert not dialogue.stream.is_reset


def test_replies_before_a_drop_are_sent() -> None:
    app, _ = app_with("RCPT 2 -> drop")
    session(app).send(EHLO + MAIL + RCPT * 3).end().expect(220, 250, 250, 250)


def test_fault_may_reset_the_connection() -> None:
    app, _ = app_with("MAIL -> reset")
    dialogue = session(app).send(EHLO + MAIL).end()

    assert dialogue.stream.is_reset
    assert dialogue.stream.close_timeouts == [0]
    assert dialogue.reasons == [Reason.DROPPED]


def test_fault_may_reset_the_connection_after_a_reply() -> None:
    app, _ = app_with("MAIL -> 451 then reset")
    dialogue = session(app).send(EHLO + MAIL + RCPT).end().expect(220, 250, 451)

    assert dialogue.stream.is_reset


@pytest.mark.parametrize("line", ["DATA after 50 octets -> 552 then close", "message -> 552 then close"])
def test_reply_before_the_end_of_the_connection_reaches_the_client(line: str) -> None:
    app, _ = app_with(line)
    dialogue = session(app).send(EHLO + MAIL + RCPT + b"DATA\r\n" + CONTENT + b".\r\n" + MAIL).end()

    assert dialogue.codes == [220, 250, 250, 250, 354, 552]


def test_lmtp_server_closes_after_the_first_reply_to_a_message() -> None:
    app, _ = app_with("message -> 250 2.0.0 Stored, then close")
    dialogue = session(app, config=Config(hostname="s.example", lmtp=True))
    dialogue.send(b"LHLO c.example\r\n" + MAIL + RCPT + RCPT + b"DATA\r\n" + CONTENT + b".\r\n").end()

    assert dialogue.codes == [220, 250, 250, 250, 250, 354, 250]


def test_cut_on_a_lost_connection_ends_the_session() -> None:
    app, _ = app_with("MAIL -> cut 3")
    dialogue = session(app)
    dialogue.stream.send_errors.extend([None, None, OSError("lost")])
    dialogue.send(EHLO, MAIL).end()

    assert dialogue.reasons == [Reason.ABORTED]


@pytest.mark.parametrize(
    "line", ["DATA after 20 octets -> drop", "message -> drop", "message -> cut 5", "message -> reset", "DATA -> drop"]
)
def test_client_sees_an_error_if_the_connection_ends_during_a_message(line: str) -> None:
    app, inbox = app_with(line)
    pair = SmtpPair(app)
    with pytest.raises(RemoteProtocolError):
        pair.deliver("a@c.example", ["b@s.example"], CONTENT)

    assert len(inbox) == 0
    assert pair.client.state is State.CLOSED


def test_delay_sleeps_for_the_given_seconds() -> None:
    app, _ = app_with("QUIT -> delay 2", "NOOP -> delay 0.5")
    dialogue = session(app).send(EHLO + b"NOOP\r\nQUIT\r\n").expect(220, 250, 250, 221)
    assert sum(dialogue.stream.sleeps) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("lines", "code", "seconds", "count"),
    [
        (["DATA after 50 octets -> delay 2"], 250, 2, 1),
        (["DATA after 90 octets -> delay 1", "DATA after 50 octets -> delay 2", "message -> delay 4"], 250, 7, 1),
        (["DATA after 50 octets -> delay 2", "message -> 452"], 452, 2, 0),
        (["DATA after 50 octets -> delay 2", "DATA after 90 octets -> 552"], 552, 2, 0),
        (["DATA after 90 octets -> delay 2", "DATA after 50 octets -> 552"], 552, 0, 0),
    ],
)
def test_message_is_delivered_whole_after_delays(lines: list[str], code: int, seconds: float, count: int) -> None:
    app, inbox = app_with(*lines)
    dialogue = session(app)
    dialogue.send(EHLO + MAIL + RCPT + b"DATA\r\n", CONTENT[:60], CONTENT[60:] + b".\r\n", b"QUIT\r\n")

    assert dialogue.codes == [220, 250, 250, 250, 354, code, 221]
    assert sum(dialogue.stream.sleeps) == pytest.approx(seconds)
    assert [received.content for received in inbox] == [CONTENT] * count


@pytest.mark.parametrize("backend", BACKENDS)
def test_message_is_delivered_after_a_delay_on_a_real_connection(backend: str) -> None:
    app, inbox = app_with("DATA after 3000 octets -> delay 0.1")
    body = b"x" * 70 + b"\r\n" + b"y\r\n" * 3000
    with running_server(backend, app) as server, server.connect() as client:
        client.expect(220)
        for line, code in ((EHLO, 250), (MAIL, 250), (RCPT, 250), (b"DATA\r\n", 354), (body + b".\r\n", 250)):
            client.send(line).expect(code)

    assert [received.content for received in inbox] == [body]


@pytest.mark.parametrize("backend", BACKENDS)
def test_client_sees_a_reset_or_drop_on_a_real_connection(backend: str) -> None:
    app, _ = app_with("MAIL -> reset", "RSET -> drop")
    with running_server(backend, app) as server:
        with server.connect() as client:
            client.expect(220)
            client.send(b"EHLO c.example\r\n").expect(250)
            client.send(b"MAIL FROM:<a@c.example>\r\n")
            with pytest.raises(ConnectionResetError):
                client.rest()
        with server.connect() as client:
            client.expect(220)
            client.send(b"RSET\r\n")
            assert client.rest() == b""


@pytest.mark.parametrize("backend", BACKENDS)
def test_client_sees_a_reset_under_tls(backend: str) -> None:
    app, _ = app_with("MAIL -> reset")
    with running_server(backend, app, tls=CONTEXT) as server, server.connect() as client:
        client.expect(220)
        client.send(b"EHLO c.example\r\n").expect(250)
        client.send(b"STARTTLS\r\n").expect(220)
        client.start_tls(_trusting())
        client.send(b"EHLO c.example\r\n")
        client.read()
        client.send(b"MAIL FROM:<a@c.example>\r\n")
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            client.rest()


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# Certificates


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("expired", "certificate has expired"),
        ("wrong", "Hostname mismatch|doesn't match|IP address mismatch"),
        ("untrusted", "unable to get local issuer"),
    ],
)
def test_client_refuses_a_faulty_certificate(kind: str, why: str, implicit: bool) -> None:
    options: Any = {"implicit_tls": True} if implicit else {"tls": True}
    with SmtpServer(faults=[f"TLS 1 -> {kind} certificate"], **options) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match=why):
            talk_tls(server, implicit)
        assert talk_tls(server, implicit) == 250  # the fault is in the first handshake only


def talk_tls(server: SmtpServer, implicit: bool) -> int:
    context = server.client_context
    if implicit:
        with smtplib.SMTP_SSL("localhost", server.port, timeout=10, context=context) as secure:
            return secure.noop()[0]

    with smtplib.SMTP("localhost", server.port, timeout=10) as smtp:
        smtp.starttls(context=context)
        return smtp.noop()[0]


def test_given_certificate_is_shown_again_after_the_faults_are_removed() -> None:
    certificate = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(certificate)
    names: list[object] = []
    certificate.sni_callback = lambda connection, name, context: names.append(name)
    trusting = context_trusting(authority)

    def start_tls(server: SmtpServer) -> None:
        with smtplib.SMTP("localhost", server.port, timeout=10) as smtp:
            smtp.starttls(context=trusting)

    with SmtpServer(certificate=certificate, faults=["TLS 1 -> expired certificate"]) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            start_tls(server)
        start_tls(server)
        server.configure(faults=[])
        start_tls(server)

    assert names == ["localhost"] * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_server_shows_a_faulty_certificate_on_each_adapter(backend: str) -> None:
    faults = Faults("TLS -> expired certificate")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    faults.apply_to(context)
    with running_server(backend, app_of(faults), tls=context) as server, server.connect() as client:
        client.expect(220)
        client.send(EHLO).expect(250)
        client.send(b"STARTTLS\r\n").expect(220)
        client.start_tls(_trusting())
        assert isinstance(client.socket, ssl.SSLSocket)
        certificate = x509.load_der_x509_certificate(client.socket.getpeercert(binary_form=True) or b"")

    assert certificate.not_valid_after_utc < datetime.now(UTC)


def test_fault_of_a_certificate_stays_when_the_certificates_are_reloaded(tmp_path: FilePath) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    tls = ServerTls(tmp_path / "pem", tmp_path / "pem", client_ca=tmp_path / "ca")
    faults = Faults("TLS -> expired certificate")
    faults.apply_to(tls.context, authority=authority)
    trusting = context_trusting(authority)
    with BackgroundServer(app_of(faults), tls=tls.context) as server:
        for _ in range(2):
            tls.reload()
            smtp = smtplib.SMTP(*server.address, "client.example", timeout=10)
            with smtp, pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
                smtp.starttls(context=trusting)


def test_fault_of_a_certificate_needs_the_context_of_the_server() -> None:
    app = app_of(Faults("TLS -> expired certificate"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with pytest.raises(FaultError, match=r"call apply_to\(context\) with the TLS context of the server"):
        effective_config(Config(hostname="s.example"), app, context)
    with pytest.raises(FaultError, match="the server has no TLS context"):
        effective_config(Config(hostname="s.example"), app, None)


def test_context_without_faulty_certificates_is_not_changed() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    Faults("RCPT -> 451").apply_to(context)

    assert context.sni_callback is None


# Combinations


def test_faults_apply_under_tls_and_after_a_login() -> None:
    faults = ["MAIL over 1/h -> 451", 'EHLO -> line "X-FOO"', "AUTH 1 -> 454", "RCPT first -> 450"]
    login: Any = {"auth": {"tim": "secret"}, "auth_mechanisms": ("PLAIN",)}
    with (
        SmtpServer(tls=True, **login, require_auth=True, faults=faults) as server,
        smtplib.SMTP("localhost", server.port, timeout=10) as smtp,
    ):
        smtp.starttls(context=server.client_context)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("tim", "secret")
        smtp.login("tim", "secret")
        assert smtp.has_extn("x-foo")
        assert smtp.mail("a@c.example")[0] == 250
        assert [smtp.rcpt("b@s.example")[0] for _ in range(2)] == [450, 250]
        smtp.rset()
        assert smtp.mail("a@c.example")[0] == 451


def test_lmtp_server_greylists_recipients_and_answers_the_others() -> None:
    dialogue = session(app_of(Faults("RCPT first -> 450", "message -> stray 250")), config=replace(CONFIG, lmtp=True))
    dialogue.send(b"LHLO c.example\r\n" + MAIL + RCPT * 3 + b"DATA\r\n", CONTENT + b".\r\n", b"QUIT\r\n")

    assert dialogue.codes == [220, 250, 250, 450, 250, 250, 354, 250, 250, 250, 221]


def test_faults_of_a_pipelined_group_answer_their_commands() -> None:
    app = app_of(Faults("MAIL -> stray 250", "RCPT every 2 -> 451", "DATA -> early 250"))
    group = EHLO + MAIL + RCPT * 4 + b"DATA\r\n" + CONTENT + b".\r\nQUIT\r\n"
    for segments in ([group], [group[at : at + 1] for at in range(len(group))]):
        session(app).send(*segments).expect(220, 250, 250, 250, 250, 451, 250, 451, 354, 250, 221)


@pytest.mark.parametrize("backend", BACKENDS)
def test_additional_replies_arrive_on_a_real_connection(backend: str) -> None:
    app = app_of(Faults("RCPT -> early 354", "message -> stray 451 4.3.0 Oops", 'EHLO -> line "X-FOO"'))
    with running_server(backend, app, tls=CONTEXT) as server, server.connect() as client:
        client.expect(220)
        client.send(EHLO).expect(250)
        client.send(b"STARTTLS\r\n").expect(220)
        client.start_tls(_trusting())
        client.send(EHLO)
        assert client.read().endswith("250 X-FOO")
        client.send(MAIL).expect(250)
        client.send(RCPT).expect(250, 354)
        client.send(b"DATA\r\n" + CONTENT + b".\r\n").expect(250, 451)
        client.send(b"QUIT\r\n").expect(221)


# Clients


def test_smtplib_raises_for_greylisting_and_for_a_rate(smtp_faults: Callable[..., SmtpServer]) -> None:
    server = smtp_faults("RCPT first -> 451 4.7.1 Try again", "message over 1/h -> 452")

    def send() -> None:
        with smtplib.SMTP(server.host, server.port, timeout=10) as smtp:
            smtp.sendmail("a@c.example", ["b@s.example"], CONTENT)

    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send()
    send()
    with pytest.raises(smtplib.SMTPDataError):
        send()
    assert len(server.messages) == 1


def run_client(*arguments: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")

    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("line", "is_sent"),
    [
        ("RCPT first -> 451", False),
        ("MAIL over 1/h -> 421", True),
        ("message every 1 -> 554 then drop", False),
        ("RCPT 100% -> 451", False),
        ("connect -> 554 then drop", False),
        ('EHLO -> line "X-FOO 1"', True),
    ],
)
def test_curl_reports_the_fault(
    line: str, is_sent: bool, tmp_path: FilePath, smtp_faults: Callable[..., SmtpServer]
) -> None:
    (tmp_path / "message").write_bytes(CONTENT)
    server = smtp_faults(line)
    url = f"smtp://{server.host}:{server.port}/c.example"
    options = ("--mail-from", "a@c.example", "--mail-rcpt", "b@s.example", "-T", str(tmp_path / "message"))
    done = run_client("curl", "-sS", url, *options)

    assert (done.returncode == 0) is is_sent, done.stderr
    assert len(server.messages) == is_sent


@pytest.mark.parametrize("kind", ["expired", "wrong", "untrusted"])
def test_curl_refuses_a_faulty_certificate(
    kind: str, tmp_path: FilePath, smtp_faults: Callable[..., SmtpServer]
) -> None:
    server = smtp_faults(f"TLS 1 -> {kind} certificate", tls=True)
    (tmp_path / "ca.pem").write_bytes(server.ca_pem)
    command = ("curl", "-sS", "--ssl-reqd", "--cacert", str(tmp_path / "ca.pem"), f"smtp://localhost:{server.port}")

    assert [run_client(*command, "-X", "NOOP").returncode for _ in range(2)] == [60, 0]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("RCPT first -> 451 4.7.1 Greylisted", "<** 451 4.7.1 Greylisted"),
        ("message every 1 -> 554 5.7.1 Spam, then drop", "<** 554 5.7.1 Spam"),
        ("EHLO -> line 'X-FOO 1'", "<-  250 X-FOO 1"),
        ("MAIL over 1/h -> delay 1", "<-  250 2.0.0 Accepted as"),
        ("RCPT -> early 354", "<-  354 A fault on purpose"),
    ],
)
def test_swaks_shows_the_fault(line: str, text: str, smtp_faults: Callable[..., SmtpServer]) -> None:
    server = smtp_faults(line)
    options = ("--from", "a@c.example", "--to", "b@s.example", "--helo", "c.example")
    done = run_client("swaks", "--server", f"{server.host}:{server.port}", *options)

    assert text in done.stdout


@pytest.fixture
def smtp_faults() -> Iterator[Callable[..., SmtpServer]]:
    """A function that starts a test server with the faults in its arguments."""
    with ExitStack() as stack:
        yield lambda *lines, **options: stack.enter_context(SmtpServer(faults=lines, fault_seed=1, **options))


# The command line


def test_serve_applies_greylisting_and_random_faults(tmp_path: FilePath) -> None:
    faults = ("--fault", "RCPT first -> 451", "--fault", "RCPT 20% -> 452", "--fault-seed", "3")
    with running(tmp_path, *faults) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=10) as smtp:
        smtp.ehlo()
        smtp.mail("a@c.example")
        codes = [smtp.rcpt("b@s.example")[0] for _ in range(30)]

    assert codes[0] == 451
    assert set(codes[1:]) == {250, 452}
    assert codes[1:] == rcpt_codes(Faults("DATA -> 451", "RCPT 20% -> 452", seed=3), 30)[1:]
    assert server.errors == []


def test_serve_shows_the_seed(tmp_path: FilePath) -> None:
    done = run_in_process("serve", "--fault", "RCPT 20% -> 452", "--host", "192.0.2.1", "--accept", "s.example")

    assert re.search(r"WARNING the faults have the seed \d+: the same seed repeats the run", done.stderr)


@pytest.mark.parametrize("options", [("--self-signed",), ("--self-signed", "--tls", "implicit"), ("files",)])
def test_serve_shows_a_faulty_certificate(tmp_path: FilePath, options: tuple[str, ...]) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    if options == ("files",):
        options = ("--tls-cert", str(tmp_path / "both.pem"), "--tls-key", str(tmp_path / "both.pem"))

    def certificate_of(port: int) -> x509.Certificate:
        if "implicit" in options:
            smtp: smtplib.SMTP = smtplib.SMTP_SSL("localhost", port, timeout=10, context=_trusting())
        else:
            smtp = smtplib.SMTP("localhost", port, timeout=10)
            smtp.starttls(context=_trusting())
        with smtp:
            assert isinstance(smtp.sock, ssl.SSLSocket)
            return x509.load_der_x509_certificate(smtp.sock.getpeercert(binary_form=True) or b"")

    with running(tmp_path, "--fault", "TLS 1 -> expired certificate", *options) as server:
        expired, usual = (certificate_of(server.port) for _ in range(2))

    now = datetime.now(UTC)
    assert expired.not_valid_after_utc < now < usual.not_valid_after_utc


@pytest.mark.parametrize("line", ["connect 1 -> 554", "MAIL over 9/s -> 421", "RCPT first -> 451"])
def test_serve_refuses_faults_that_processes_cannot_count_together(line: str) -> None:
    done = run_in_process("serve", "--workers", "2", "--fault", line)

    assert done.returncode == 2
    assert f"--fault '{line}' and --workers exclude each other: each process counts alone" in done.stderr


def test_workers_apply_faults_within_a_message(tmp_path: FilePath) -> None:
    options = ("--workers", "2", "--fault", "RCPT every 2 -> 451", "--fault", "MAIL 100% -> stray 250")
    with (
        running(tmp_path, *options, "--fault-seed", "1") as server,
        smtplib.SMTP("127.0.0.1", server.port, timeout=10) as smtp,
    ):
        smtp.ehlo()
        smtp.mail("a@c.example")
        assert smtp.getreply()[0] == 250
        assert [smtp.rcpt("b@s.example")[0] for _ in range(4)] == [250, 451, 250, 451]


def test_seed_needs_a_fault() -> None:
    done = run_in_process("serve", "--fault-seed", "0")

    assert done.returncode == 2
    assert "--fault-seed has no effect without --fault" in done.stderr


def test_serve_applies_the_option_fault(tmp_path: FilePath) -> None:
    with (
        running(tmp_path, "--fault", "RCPT 2 -> 451", "--fault", "EHLO -> no SIZE") as server,
        smtplib.SMTP("127.0.0.1", server.port, timeout=10) as smtp,
    ):
        smtp.ehlo()
        assert not smtp.has_extn("size")
        smtp.mail("a@c.example")
        assert [smtp.rcpt("b@s.example")[0] for _ in range(3)] == [250, 451, 250]


def test_serve_applies_a_fault_to_logins(tmp_path: FilePath) -> None:
    options = ("--fault", "AUTH -> 454", "--allow-plaintext-auth")
    with (
        running(tmp_path, *options, auth="tim:secret") as server,
        smtplib.SMTP("127.0.0.1", server.port, timeout=10) as smtp,
    ):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
            smtp.login("tim", "secret")
        assert refusal.value.smtp_code == 454


@pytest.mark.parametrize(
    ("line", "options", "why"),
    [
        ("STARTTLS -> 454", {}, "the server has no TLS context"),
        ("STARTTLS -> 454", {"implicit_tls": True}, "TLS starts before the greeting"),
        ("XCLIENT -> 550", {}, "the server has no trusted peers"),
        ("XFORWARD -> 550", {}, "the server has no trusted peers"),
    ],
)
def test_fault_that_cannot_happen_in_the_test_server_is_an_error(line: str, options: Any, why: str) -> None:
    with pytest.raises(FaultError, match=why), SmtpServer(faults=[line], **options):
        pytest.fail("the server has started")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--fault", "STARTTLS -> 454"], "the server has no TLS context"),
        (["--fault", "STARTTLS -> 454", "--self-signed", "--tls", "implicit"], "TLS starts before the greeting"),
        (["--fault", "XCLIENT -> 550"], "the server has no trusted peers"),
    ],
)
def test_serve_refuses_a_fault_that_cannot_happen(arguments: list[str], why: str) -> None:
    done = run_in_process("serve", "--port", "0", *arguments)

    assert done.returncode == 2
    assert f": {why}, so it would have no effect" in done.stderr


def test_invalid_fault_option_of_serve_is_explained() -> None:
    done = run_in_process("serve", "--fault", "RCPT -> explode")

    assert done.returncode == 2
    assert done.stderr.startswith("smtpcore: --fault: fault 'RCPT -> explode': 'explode' is not an action")
