"""The server programs of README and docs run in processes: one suite for all of them.

Each program has to answer real clients and `smtpcore check`, deliver each message exactly once, and stop gracefully.
"""

import random
import re
import smtplib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import smtpcore
from smtpcore import ReplyClass
from smtpcore._state import ALLOWED_REPLIES
from smtpcore_adapters.check import Outcome, Severity, Target, run_checks
from tests.adapters.harness import TIMEOUT, Client
from tests.certificates import context_trusting
from tests.docs.programs import AUTHORITY, PROGRAMS, RECIPES, Process, write_certificates
from tests.docs.test_readme import run_example
from tests.long import long, mostly_long
from tests.paths import DOCS
from tests.slowloris import CASES, run_attack

EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@example.org>\r\n"
ENVELOPE = EHLO + MAIL + b"DATA\r\n"


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    server = Process(PROGRAMS[request.param], tmp_path_factory.mktemp("example"))
    yield server
    assert server.stop() == ""


def test_message_is_delivered(server: Process) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, "c.example", timeout=TIMEOUT) as smtp:
        smtp.sendmail("a@c.example", ["b@example.org", "c@example.org"], b"Subject: x\r\n\r\n.hello\r\n")
        if not server.program.accepts_all:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("a@c.example", ["b@elsewhere.example"], b"x\r\n")
    assert server.line() == "a@c.example -> b@example.org, c@example.org: 22 octets"


def test_embedded_server_accepts_a_message_byte_by_byte(server: Process) -> None:
    with server.connect() as client:
        for octet in ENVELOPE + b"one\r\n.\r\nQUIT\r\n":
            client.send(bytes([octet]))
        client.expect(220, 250, 250, 250, 354, 250, 221)
        assert client.rest() == b""
    assert server.line() == "a@c.example -> b@example.org: 5 octets"


def skip_without_half_closed_connections(server: Process) -> None:
    if not server.program.takes_half_closed:
        pytest.skip("this framework closes both ends when the client has closed its sending side")


def test_client_that_closed_its_sending_side_receives_all_replies(server: Process) -> None:
    skip_without_half_closed_connections(server)
    with server.connect() as client:
        client.send(ENVELOPE + b"one\r\n.\r\n" + b"NOOP\r\n" * 90)
        client.socket.shutdown(socket.SHUT_WR)
        client.expect(220, 250, 250, 250, 354, *[250] * 91)
        assert client.rest() == b""
    assert server.line() == "a@c.example -> b@example.org: 5 octets"


def test_end_of_stream_in_a_message_delivers_nothing(server: Process) -> None:
    skip_without_half_closed_connections(server)
    with server.connect() as client:
        client.send(ENVELOPE + b"one\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        client.expect(220, 250, 250, 250, 354)
        assert client.rest() == b""
    with server.connect() as client:
        client.send(ENVELOPE + b"two\r\n.\r\nQUIT\r\n").expect(220, 250, 250, 250, 354, 250, 221)
    assert server.line() == "a@c.example -> b@example.org: 5 octets"


@pytest.mark.parametrize("count", [10, pytest.param(40, marks=long)])
def test_slow_reader_receives_all_replies(server: Process, count: int) -> None:
    if server.program.is_relay:
        pytest.skip("the next server is asked for each recipient")

    # More replies than small buffers of both ends hold, so that writes can be partial and the server has to wait.
    with server.connect(receive_buffer=4096) as client:
        client.send(EHLO).expect(220, 250)
        block = (b"MAIL FROM:<a@c.example>\r\n" + b"RCPT TO:<b@example.org>\r\n" * 1000 + b"RSET\r\n") * count
        sender = threading.Thread(target=client.send, args=(block + b"QUIT\r\n",))
        sender.start()
        replies = client.rest()
        sender.join(TIMEOUT)
    codes = [line[:3] for line in replies.splitlines()]
    assert codes == [*[b"250"] * 1002 * count, b"221"]


def test_embedded_server_continues_after_a_connection_reset(server: Process) -> None:
    for sent in (b"", b"EHL", EHLO, ENVELOPE, ENVELOPE + b"x\r\n", b"NOOP\r\n" * 90):
        client = server.connect()
        client.send(sent)
        client.reset()
    with server.connect() as client:
        client.expect(220)


def test_connection_reset_before_the_replies_causes_no_error_output(server: Process) -> None:
    # The order varies: out of many clients, some disconnect between the server's read and its write.
    for _ in range(100):
        with server.connect() as client:
            client.expect(220)
            client.send(b"NOOP\r\n" * 90)
            client.reset()


# Bodies, TLS, limits and random sessions


def test_chunks_of_an_abandoned_message_do_not_reach_the_next_message(server: Process) -> None:
    with server.connect() as client:
        client.send(EHLO + MAIL + b"BDAT 6\r\nSECRETRSET\r\n" + MAIL + b"BDAT 3\r\nabcBDAT 2 LAST\r\n\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 250, 250, 250, 250, 250, 250, 221)
    assert server.line() == "a@c.example -> b@example.org: 5 octets"


def test_postmaster_is_accepted(server: Process) -> None:
    with server.connect() as client:
        client.send(EHLO + b"MAIL FROM:<a@c.example>\r\nRCPT TO:<Postmaster>\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 221)


def test_client_that_has_logged_in_under_tls_may_relay(server: Process) -> None:
    if not server.program.has_auth:
        pytest.skip("this program has no users")

    context = context_trusting(AUTHORITY)
    with smtplib.SMTP("localhost", server.port, "c.example", timeout=TIMEOUT) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        smtp.starttls(context=context)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("tim", "wrong")
        smtp.login("tim", "tanstaaftanstaaf")
        smtp.sendmail("a@c.example", ["b@elsewhere.example"], b"x\r\n" * 50_000)
    assert server.line() == "a@c.example -> b@elsewhere.example: 150000 octets"


@pytest.mark.parametrize(
    "server", mostly_long(PROGRAMS, "selectors", "own loop", "readme core", "threads"), indirect=True
)
def test_check_finds_no_fault(server: Process) -> None:
    target = Target(host="127.0.0.1", port=server.port, sender="a@c.example", recipient="b@example.org")
    faults = [finding for finding in run_checks(target) if finding.outcome is Outcome.FAIL]

    # `default_config` accepts a command that ends with a bare LF.
    accepted = [] if server.program.is_strict else ["line-bare-lf"]
    assert [finding.id for finding in faults if finding.severity is not Severity.WARNING] == accepted
    with server.connect() as client:
        client.send(EHLO + MAIL.replace(b"a@", b"end@") + b"DATA\r\n.\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 354, 250, 221)
    while not server.line().startswith("end@"):
        pass


def talk_at_random(client: Client, number: int, *, is_strict: bool) -> Counter[str]:
    """Send messages, some of which are refused or given up, and return the lines of those that were accepted."""
    choose = random.Random(number)
    accepted: Counter[str] = Counter()
    script, codes = bytearray(EHLO), [220, 250]
    for item in range(choose.randrange(1, 5)):
        size = choose.randrange(3, 3000)
        sender = f"{number}.{item}@c.example"
        script += MAIL.replace(b"a@c.example", sender.encode())
        line = f"{sender} -> b@example.org: {size} octets"
        codes += [250, 250]
        body = b"x" * (size - 2) + b"\r\n"
        match choose.randrange(6):
            case 0:
                script += b"DATA\r\n" + body + b"bare\nLF\r\n.\r\n"
                codes += [354, 550 if is_strict else 250]
                if not is_strict:
                    accepted[f"{sender} -> b@example.org: {size + len('bare__LF__')} octets"] += 1
            case 1:
                script += b"BDAT %d\r\n%bRSET\r\n" % (size, body)
                codes += [250, 250]
            case 2:
                script += b"BDAT %d\r\n%bEHLO c.example\r\n" % (size, body)
                codes += [250, 250]
            case 3:
                script += b"BDAT 1\r\nxBDAT %d LAST\r\n%b" % (size - 1, body[1:])
                codes += [250, 250]
                accepted[line] += 1
            case _:
                script += b"DATA\r\n%b.\r\n" % body
                codes += [354, 250]
                accepted[line] += 1
    is_cut = choose.random() < 0.2
    script += MAIL + b"DATA\r\nhalf a mess" if is_cut else b"QUIT\r\n"
    codes += [250, 250, 354] if is_cut else [221]
    while script:
        size = choose.choice([1, 7, 100, 5000, len(script)])
        client.send(bytes(script[:size]))
        del script[:size]
    client.expect(*codes)
    return accepted


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=long)])
def test_no_message_is_lost_mixed_or_repeated_in_random_sessions(server: Process, count: int) -> None:
    expected: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for number in range(count):
        with server.connect() as client:
            accepted = talk_at_random(client, number, is_strict=server.program.is_strict)
        expected += accepted
        found.update(server.line() for _ in range(accepted.total()))

    assert found == expected


@pytest.mark.parametrize(("attack", "encrypted"), CASES)
def test_slow_client_is_disconnected_on_time(attack: str, encrypted: bool, server: Process) -> None:
    if not server.program.can_jump:
        pytest.skip("the clock of this program cannot be moved, or the tests of the adapter move it")

    context = context_trusting(AUTHORITY)
    with server.connect() as client:
        run_attack(attack, client, server.advance, context if encrypted else None)


@contextmanager
def running(name: str, directory: Path, change: str) -> Iterator[Process]:
    program = PROGRAMS[name]
    if change and change not in program.changes:
        pytest.skip("the page says nothing about this option")

    server = Process(program, directory, [change] if change else [])
    try:
        yield server
    finally:
        errors = server.stop()
    assert errors == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_refused_message_does_not_reach_the_next_message(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path, "" if PROGRAMS[name].is_strict else "strict") as server, server.connect() as client:
        client.send(ENVELOPE + b"SECRET\r\nbare\nLF\r\n.\r\n" + MAIL + b"DATA\r\nsecond\r\n.\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 354, 550, 250, 250, 354, 250, 221)
        client.socket.close()
        assert server.line() == "a@c.example -> b@example.org: 8 octets"


@pytest.mark.parametrize("name", ["web", "readme", "background", "header", "burl", "forward"])
def test_trickling_client_of_an_app_gets_421(name: str, tmp_path: Path) -> None:
    server = Process(replace(PROGRAMS[name], can_jump=True), tmp_path)
    with server.connect() as client:
        trickle(server, client)
    assert server.stop() == ""


def trickle(server: Process, client: Client) -> None:
    """Send single octets of a command until its time is over, and expect a 421."""
    client.expect(220)
    for octet in b"NOO":
        server.advance(90)
        client.send(bytes([octet]))
    server.advance(40)
    client.expect(421)


@pytest.mark.parametrize("name", ["qt", "filter", "gevent", "threads"])
def test_silent_or_trickling_client_gets_421(name: str, tmp_path: Path) -> None:
    # These programs wait with a clock that Python code cannot move, so this test waits for a short time.
    with (
        running(name, tmp_path, "impatient") as server,
        server.connect() as silent,
        server.connect() as trickling,
    ):
        begun = time.monotonic()
        with suppress(OSError):
            while time.monotonic() < begun + TIMEOUT:
                trickling.send(b"N")
                time.sleep(0.05)
        assert time.monotonic() < begun + TIMEOUT
        silent.expect(220, 421)
        assert "you took too long" in str(silent.record[-1])
        assert silent.rest() == b""


@pytest.mark.parametrize("name", PROGRAMS)
def test_lmtp_message_has_a_reply_for_each_recipient(name: str, tmp_path: Path) -> None:
    with running(name, tmp_path, "lmtp") as server, server.connect() as client:
        script = b"LHLO c.example\r\n" + MAIL + MAIL.splitlines(keepends=True)[1] + b"DATA\r\nx\r\n.\r\nQUIT\r\n"
        client.send(script).expect(220, 250, 250, 250, 250, 354, 250, 250, 221)


@pytest.mark.parametrize("name", PROGRAMS)
def test_server_stops_gracefully(name: str, tmp_path: Path) -> None:
    if not PROGRAMS[name].stops:
        pytest.skip("the page says nothing about the end of the program")

    server = Process(PROGRAMS[name], tmp_path)
    with server.connect() as idle, server.connect() as busy:
        idle.send(EHLO).expect(220, 250)
        busy.send(ENVELOPE).expect(220, 250, 250, 250, 354)
        server.process.terminate()
        idle.expect(421)
        assert "the server is shutting down" in str(idle.record[-1])
        busy.send(b"one\r\n.\r\n").expect(250, 421)
    assert server.line() == "a@c.example -> b@example.org: 5 octets"
    assert server.stop(signal=False) == ""


@contextmanager
def recipe(name: str, directory: Path, change: str) -> Iterator[Process]:
    server = Process(replace(RECIPES[name], can_jump=True), directory, [change])
    try:
        yield server
    finally:
        errors = server.stop()
    assert errors == ""


@pytest.mark.parametrize("name", mostly_long(RECIPES, "catch mail", "systemd", "from twisted"))
def test_recipe_delivers_each_message_once_and_passes_the_checks(name: str, tmp_path: Path) -> None:
    with recipe(name, tmp_path, "small") as server:
        with server.connect() as client:
            client.send(ENVELOPE + b"SECRET\r\n" * 9000 + b".\r\n" + MAIL + b"DATA\r\nsecond\r\n.\r\nQUIT\r\n")
            client.expect(220, 250, 250, 250, 354, 552, 250, 250, 354, 250, 221)
        assert server.line() == "a@c.example -> b@example.org: 8 octets"
        test_chunks_of_an_abandoned_message_do_not_reach_the_next_message(server)
        test_postmaster_is_accepted(server)
        test_check_finds_no_fault(server)
        test_no_message_is_lost_mixed_or_repeated_in_random_sessions(server, 30)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_speaks_lmtp_and_disconnects_trickling_clients(name: str, tmp_path: Path) -> None:
    with recipe(name, tmp_path, "lmtp") as server, server.connect() as trickling, server.connect() as client:
        script = b"LHLO c.example\r\n" + MAIL + MAIL.splitlines(keepends=True)[1] + b"DATA\r\nx\r\n.\r\nQUIT\r\n"
        client.send(script).expect(220, 250, 250, 250, 250, 354, 250, 250, 221)
        trickle(server, trickling)


def test_filter_refuses_spam(tmp_path: Path) -> None:
    server = Process(PROGRAMS["filter"], tmp_path)
    with smtplib.SMTP("127.0.0.1", server.port, "c.example", timeout=TIMEOUT) as smtp:
        with pytest.raises(smtplib.SMTPDataError, match="spam"):
            smtp.sendmail("a@c.example", ["b@example.org"], b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE\r\n")
        smtp.sendmail("a@c.example", ["b@example.org"], b"hello\r\n")
    assert server.line() == "a@c.example -> b@example.org: 7 octets"
    assert server.stop() == ""


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_web_application_runs_an_smtp_server(framework: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip(framework)
    monkeypatch.setenv("SMTP_PORT", "0")
    write_certificates(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = run_example("PORT = int(os.environ.get")
    web = names["web"]
    if framework == "fastapi":
        from fastapi import FastAPI

        web = FastAPI(lifespan=names["lifespan"], routes=[*names["web"].routes])

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT) as smtp:
            smtp.sendmail("a@c.example", ["b@example.org"], b"hello\r\n")
            context = context_trusting(AUTHORITY)
            context.check_hostname = False
            smtp.starttls(context=context)
            smtp.login("tim", "tanstaaftanstaaf")

    async def main() -> None:
        transport = httpx.ASGITransport(app=web)
        async with (
            web.router.lifespan_context(web),
            httpx.AsyncClient(transport=transport, base_url="http://s.example") as client,
        ):
            ports.append(web.state.smtp.port)
            await anyio.to_thread.run_sync(send, ports[0])
            assert (await client.get("/messages")).json() == [
                {"from": "a@c.example", "to": ["b@example.org"], "octets": 7}
            ]

    ports: list[int] = []
    anyio.run(main)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]), timeout=TIMEOUT)


def test_table_of_replies_has_the_replies_that_each_event_accepts() -> None:
    text = (DOCS / "embedding.md").read_text()
    rows = re.findall(r"^\| (`[A-Z].*) \| ((?:\dyz|none).*) \|$", text, re.MULTILINE)
    shown = {getattr(smtpcore, name): replies for names, replies in rows for name in re.findall(r"`(\w+)`", names)}

    assert len(shown) > 20
    for event, replies in shown.items():
        classes = {ReplyClass(int(digit)) for digit in re.findall(r"\d(?=yz)", replies)}
        assert classes == ALLOWED_REPLIES.get(event, frozenset()) - {ReplyClass.GOODBYE}, event
