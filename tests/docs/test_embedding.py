"""The examples in docs/embedding.md: each runs as a server in its event loop."""

import random
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trustme

from smtpcore import Rcpt, Reply
from smtpcore_adapters import Address, App, Message, Session
from smtpcore_adapters.check import Outcome, Severity, Target, run_checks
from smtpcore_adapters.socket import serving
from tests.adapters.harness import TIMEOUT, Client
from tests.docs.test_readme import run_example, source_of
from tests.slowloris import CASES, run_attack

LOOPS = {
    "selectors": source_of("import selectors"),
    "asyncio": source_of("class Smtp(asyncio.Protocol)"),
    "twisted": source_of("from twisted.internet import reactor"),
    "gevent": source_of("from gevent.server import StreamServer"),
    "tornado": source_of("from tornado.tcpserver import TCPServer"),
    "PySide6": source_of("from PySide6.QtCore import"),
}
EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@example.org>\r\n"
ENVELOPE = EHLO + MAIL + b"DATA\r\n"
AUTHORITY = trustme.CA()


def write_certificates(directory: Path) -> None:
    certificate = AUTHORITY.issue_cert("mx.example.org", "localhost")
    certificate.private_key_pem.write_to_path(directory / "privkey.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(directory / "fullchain.pem", append=True)


CLOCK = """
import sys
import threading
import time

monotonic, wall = time.monotonic, time.time
jumped = 0.0
time.monotonic, time.time = (lambda: monotonic() + jumped), (lambda: wall() + jumped)


def read_jumps():
    global jumped
    for line in sys.stdin:
        jumped += float(line)
        print("jumped", flush=True)


threading.Thread(target=read_jumps, daemon=True).start()
"""
"""The module `clock`: each line of input moves the clock of the process forward by the seconds in the line."""
OWN_CLOCKS = ("gevent", "PySide6")
"""Loops whose timers use a clock that Python code cannot replace."""


class Process:
    """An example that runs in a process, on a free port."""

    def __init__(self, source: str, directory: Path, changes: str = "", *arguments: str) -> None:
        self.directory = directory
        self.source = source
        write_certificates(directory)
        (directory / "mail.py").write_text(source_of("def make_driver") + changes)
        (directory / "example.py").write_text(source)
        (directory / "clock.py").write_text(CLOCK)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", "import clock, example; example.main(0)", *arguments],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._watchdog = threading.Timer(180, self.process.kill)
        self._watchdog.start()
        self.port = int(self.line().removeprefix("listening at port "))

    def line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().rstrip("\n")
        assert line, self.process.communicate()[1]
        return line

    def connect(self, receive_buffer: int | None = None) -> Client:
        return Client(Address("127.0.0.1", self.port), receive_buffer=receive_buffer)

    def advance(self, seconds: float) -> None:
        """Move the clock of the process forward, when the server has done all that it can do."""
        with self.connect() as other:
            other.expect(220)
            assert self.process.stdin
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
            while self.line() != "jumped":
                pass  # a message was delivered
            other.send(b"QUIT\r\n")  # wakes the loop, which checks its deadlines
            other.rest()

    def stop(self, *, signal: bool = True) -> str:
        """End the process, or wait for its end without a `signal`, and return its error output."""
        if signal:
            self.process.terminate()
        errors = self.process.communicate(timeout=TIMEOUT)[1]
        self._watchdog.cancel()
        assert self.process.returncode == 0, errors
        return errors


def start(loop: str, directory: Path, changes: str = "") -> Process:
    if find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed")

    return Process(LOOPS[loop], directory, changes)


@pytest.fixture(scope="module", params=LOOPS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    server = start(request.param, tmp_path_factory.mktemp("example"))
    yield server
    assert server.stop() == ""


def test_message_is_delivered(server: Process) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, "c.example", timeout=TIMEOUT) as smtp:
        smtp.sendmail("a@c.example", ["b@example.org", "c@example.org"], b"Subject: x\r\n\r\n.hello\r\n")
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
    if "tornado" in (server.directory / "example.py").read_text():
        pytest.skip("an IOStream closes both ends when the client has closed its sending side")


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


def test_slow_reader_receives_all_replies(server: Process) -> None:
    # More replies than the buffers of both ends hold, so that writes are partial and the server has to wait.
    count = 40
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


def test_refused_message_does_not_reach_the_next_message(server: Process) -> None:
    with server.connect() as client:
        client.send(ENVELOPE + b"SECRET\r\nbare\nLF\r\n.\r\n" + MAIL + b"DATA\r\nsecond\r\n.\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 354, 550, 250, 250, 354, 250, 221)
    assert server.line() == "a@c.example -> b@example.org: 8 octets"


def test_chunks_that_are_given_up_do_not_reach_the_next_message(server: Process) -> None:
    with server.connect() as client:
        client.send(EHLO + MAIL + b"BDAT 6\r\nSECRETRSET\r\n" + MAIL + b"BDAT 3\r\nabcBDAT 2 LAST\r\n\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 250, 250, 250, 250, 250, 250, 221)
    assert server.line() == "a@c.example -> b@example.org: 5 octets"


def test_postmaster_is_accepted(server: Process) -> None:
    with server.connect() as client:
        client.send(EHLO + b"MAIL FROM:<a@c.example>\r\nRCPT TO:<Postmaster>\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 221)


def test_client_that_has_logged_in_under_tls_may_relay(server: Process) -> None:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    with smtplib.SMTP("localhost", server.port, "c.example", timeout=TIMEOUT) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        smtp.starttls(context=context)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("tim", "wrong")
        smtp.login("tim", "tanstaaftanstaaf")
        smtp.sendmail("a@c.example", ["b@elsewhere.example"], b"x\r\n" * 50_000)
    assert server.line() == "a@c.example -> b@elsewhere.example: 150000 octets"


def test_check_finds_no_fault(server: Process) -> None:
    target = Target(host="127.0.0.1", port=server.port, sender="a@c.example", recipient="b@example.org")
    faults = [finding for finding in run_checks(target) if finding.outcome is Outcome.FAIL]

    assert [finding.id for finding in faults if finding.severity is not Severity.WARNING] == []
    with server.connect() as client:
        client.send(EHLO + MAIL.replace(b"a@", b"end@") + b"DATA\r\n.\r\nQUIT\r\n")
        client.expect(220, 250, 250, 250, 354, 250, 221)
    while not server.line().startswith("end@"):
        pass


def talk_at_random(client: Client, number: int) -> Counter[str]:
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
                codes += [354, 550]
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


def test_no_message_is_lost_mixed_or_repeated_in_random_sessions(server: Process) -> None:
    expected: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for number in range(1000):
        with server.connect() as client:
            accepted = talk_at_random(client, number)
        expected += accepted
        found.update(server.line() for _ in range(accepted.total()))

    assert found == expected


@pytest.mark.parametrize(("attack", "encrypted"), CASES)
def test_slow_client_is_ended_on_time(attack: str, encrypted: bool, server: Process) -> None:
    if any(loop in server.source for loop in OWN_CLOCKS):
        pytest.skip("the timers of this loop use a clock that Python code cannot replace")

    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    with server.connect() as client:
        run_attack(attack, client, server.advance, context if encrypted else None)


@pytest.mark.parametrize("loop", OWN_CLOCKS)
def test_silent_or_trickling_client_gets_421(loop: str, tmp_path: Path) -> None:
    server = start(loop, tmp_path, "\nBUDGETS = Budgets(greeting=0.6, command=0.6)\n")
    try:
        with server.connect() as silent, server.connect() as trickling:
            begun = time.monotonic()
            with suppress(OSError):
                while time.monotonic() < begun + TIMEOUT:
                    trickling.send(b"N")
                    time.sleep(0.1)
            assert time.monotonic() < begun + TIMEOUT
            silent.expect(220, "421 4.4.2 mx.example.org closing: you took too long")
            assert silent.rest() == b""
    finally:
        errors = server.stop()
    assert errors == ""


@pytest.mark.parametrize("loop", LOOPS)
def test_lmtp_message_has_a_reply_for_each_recipient(loop: str, tmp_path: Path) -> None:
    changes = "\nfrom dataclasses import replace\nCONFIG = replace(CONFIG, lmtp=True)\n"
    server = start(loop, tmp_path, changes)
    try:
        with server.connect() as client:
            script = b"LHLO c.example\r\n" + MAIL + MAIL.splitlines(keepends=True)[1] + b"DATA\r\nx\r\n.\r\nQUIT\r\n"
            client.send(script).expect(220, 250, 250, 250, 250, 354, 250, 250, 221)
    finally:
        errors = server.stop()
    assert errors == ""


@pytest.mark.parametrize("loop", LOOPS)
def test_server_stops_gracefully(loop: str, tmp_path: Path) -> None:
    server = start(loop, tmp_path)
    with server.connect() as idle, server.connect() as busy:
        idle.send(EHLO).expect(220, 250)
        busy.send(ENVELOPE).expect(220, 250, 250, 250, 354)
        server.process.terminate()
        idle.expect("421 4.3.2 mx.example.org closing: the server is shutting down")
        busy.send(b"one\r\n.\r\n").expect(250, 421)
    assert server.line() == "a@c.example -> b@example.org: 5 octets"
    assert server.stop(signal=False) == ""


def test_filter_passes_messages_on_and_refuses_some(tmp_path: Path) -> None:
    app, messages = App(), list[bytes]()

    @app.on("RCPT")
    def accept(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250)

    @app.on("message")
    async def keep(session: Session, message: Message) -> Reply:
        messages.append(await message.read())
        return Reply(250, "Kept by the next server")

    with serving(app) as following:
        server = Process(source_of("def pass_on"), tmp_path, "", str(following.address.port))
        with smtplib.SMTP("127.0.0.1", server.port, "c.example", timeout=TIMEOUT) as smtp:
            smtp.sendmail("a@c.example", ["b@example.org"], b"hello\r\n")
            assert messages == [b"hello\r\n"]
            with pytest.raises(smtplib.SMTPDataError, match="spam"):
                smtp.sendmail("a@c.example", ["b@example.org"], b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE\r\n")
        assert len(messages) == 1
        assert server.stop() == ""


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_web_application_runs_an_smtp_server(framework: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip(framework)
    monkeypatch.setenv("SMTP_PORT", "0")
    write_certificates(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = run_example("from starlette.applications import Starlette")
    web = names["web"]
    if framework == "fastapi":
        from fastapi import FastAPI

        web = FastAPI(lifespan=names["lifespan"], routes=[*names["web"].routes])

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT) as smtp:
            smtp.sendmail("a@c.example", ["b@example.org"], b"hello\r\n")
            context = ssl.create_default_context()
            context.check_hostname = False
            AUTHORITY.configure_trust(context)
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
            assert (await client.get("/messages")).json() == [{"from": "a@c.example", "octets": 7}]

    ports: list[int] = []
    anyio.run(main)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]), timeout=TIMEOUT)
