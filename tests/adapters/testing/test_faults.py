"""Fault scripts: each line changes the server's behaviour, and an invalid line is an error that shows a valid line."""

import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest

from smtpcore import Bodies, Config, RemoteProtocolError, State
from smtpcore_adapters import App, Reason
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.server._config import effective_config
from smtpcore_adapters.testing import FaultError, Faults, Inbox, SmtpPair, SmtpServer
from tests.adapters.check.faulty_servers import CONTEXT
from tests.adapters.command import run_in_process, running
from tests.adapters.harness import BACKENDS
from tests.adapters.harness import running as running_server
from tests.adapters.playbook import session

CONTENT = b"Subject: hello\r\n\r\n" + b"0123456789\r\n" * 10
EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\n"
RCPT = b"RCPT TO:<b@s.example>\r\n"


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


# The command line


def test_serve_applies_the_option_fault(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--fault", "RCPT 2 -> 451", "--fault", "EHLO -> no SIZE") as server,
        smtplib.SMTP("127.0.0.1", server.port, timeout=10) as smtp,
    ):
        smtp.ehlo()
        assert not smtp.has_extn("size")
        smtp.mail("a@c.example")
        assert [smtp.rcpt("b@s.example")[0] for _ in range(3)] == [250, 451, 250]


def test_serve_applies_a_fault_to_logins(tmp_path: Path) -> None:
    options = ("--fault", "AUTH -> 454", "--auth", "tim:secret", "--allow-plaintext-auth")
    with running(tmp_path, *options) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=10) as smtp:
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
        (["--fault", "STARTTLS -> 454", "--self-signed", "--implicit-tls"], "TLS starts before the greeting"),
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
