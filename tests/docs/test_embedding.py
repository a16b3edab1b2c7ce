"""The examples in docs/embedding.md: each runs as a server in its event loop."""

import re
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from smtpcore_adapters import Address
from tests.adapters.harness import TIMEOUT, Client
from tests.docs.test_readme import run_example, source_of

LOOPS = {
    "selectors": source_of("import selectors"),
    "asyncio": source_of("class Smtp(asyncio.Protocol)"),
    "twisted": source_of("from twisted.internet import reactor"),
    "gevent": source_of("from gevent.server import StreamServer"),
}
EHLO = b"EHLO c.example\r\n"
ENVELOPE = EHLO + b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"


class Process:
    """An example that runs in a process, on a free port."""

    def __init__(self, loop: str, directory: Path, idle: float) -> None:
        dialogue = source_of("class Dialogue")
        (directory / "dialogue.py").write_text(re.sub("^IDLE = .*$", f"IDLE = {idle}", dialogue, flags=re.MULTILINE))
        (directory / "example.py").write_text(LOOPS[loop])
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", "import example; example.main(0)"],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._watchdog = threading.Timer(60, self.process.kill)
        self._watchdog.start()
        self.port = int(self.line().removeprefix("listening at port "))

    def line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().rstrip("\n")
        assert line, self.process.communicate()[1]
        return line

    def connect(self, receive_buffer: int | None = None) -> Client:
        return Client(Address("127.0.0.1", self.port), receive_buffer=receive_buffer)

    def stop(self) -> str:
        """End the process, and return its error output."""
        self._watchdog.cancel()
        self.process.terminate()
        return self.process.communicate(timeout=TIMEOUT)[1]


def start(loop: str, directory: Path, idle: float) -> Process:
    if loop in ("twisted", "gevent") and find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed")

    return Process(loop, directory, idle)


@pytest.fixture(scope="module", params=LOOPS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    server = start(request.param, tmp_path_factory.mktemp("example"), 300)
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


def test_client_that_closed_its_sending_side_receives_all_replies(server: Process) -> None:
    with server.connect() as client:
        client.send(ENVELOPE + b"one\r\n.\r\n" + b"NOOP\r\n" * 90)
        client.socket.shutdown(socket.SHUT_WR)
        client.expect(220, 250, 250, 250, 354, *[250] * 91)
        assert client.rest() == b""
    assert server.line() == "a@c.example -> b@example.org: 5 octets"


def test_end_of_stream_in_a_message_delivers_nothing(server: Process) -> None:
    with server.connect() as client:
        client.send(ENVELOPE + b"one\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        client.expect(220, 250, 250, 250, 354)
        assert client.rest() == b""


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


@pytest.mark.parametrize("loop", LOOPS)
def test_silent_client_gets_421(loop: str, tmp_path: Path) -> None:
    server = start(loop, tmp_path, 0.2)
    try:
        with server.connect() as client:
            client.expect(220, "421 4.4.2 mx.example.org closing: you took too long")
            assert client.rest() == b""
    finally:
        errors = server.stop()
    assert errors == ""


def test_dialogue_class_groups_the_replies_to_pipelined_commands() -> None:
    names = run_example("class Dialogue")
    output: list[bytes] = []
    dialogue = names["Dialogue"](output.append)
    dialogue.start()
    dialogue.receive(ENVELOPE)
    # RFC 2920 3.2: the replies to MAIL and RCPT may wait for the reply to DATA, which must not wait.
    assert [data[:3] for data in output] == [b"220", b"250", b"250"]


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_web_application_runs_an_smtp_server(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip(framework)
    monkeypatch.setenv("SMTP_PORT", "0")
    names = run_example("from starlette.applications import Starlette")
    web = names["web"]
    if framework == "fastapi":
        from fastapi import FastAPI

        web = FastAPI(lifespan=names["lifespan"], routes=[*names["web"].routes])

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT) as smtp:
            smtp.sendmail("a@c.example", ["b@example.org"], b"hello\r\n")

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
