"""`smtpcore serve --print` writes messages to standard output."""

import os
import pty
import smtplib
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

import smtpcore
from smtpcore import Reply, Transaction
from smtpcore_adapters import App, Message, Session
from smtpcore_adapters.cli._printing import PrintedCopies, Printer
from smtpcore_adapters.recipients import AnyRecipient
from tests.adapters.cli.clients import connect, send
from tests.adapters.command import TIMEOUT, Running, running
from tests.adapters.fakes import CONFIG, MAIL, RCPT
from tests.adapters.playbook import session

MESSAGE = b"Subject: hello\r\n\r\nbody\t\xc3\xbc\r\n.\r\n"
BLOCK = """\
---------- MESSAGE FOLLOWS ----------
MAIL FROM:<a@client.example> SIZE=30
RCPT TO:<b@example.org>

Subject: hello

body\t\xfc
.
------------ END MESSAGE ------------
"""
CHUNKED = b"EHLO c.example\r\nMAIL FROM:<a@c.example> BODY=BINARYMIME\r\nRCPT TO:<b@example.org>\r\n"


def test_printed_message_has_its_envelope_and_is_not_stored(tmp_path: Path) -> None:
    with running(tmp_path, "--print", stores=False) as server:
        send(server, MESSAGE)

    assert server.output == BLOCK
    (line,) = server.errors
    assert line.endswith("a@client.example -> b@example.org  30 bytes  hello")
    assert list(tmp_path.iterdir()) == []


def test_printed_message_is_also_stored_in_a_given_maildir(tmp_path: Path) -> None:
    with running(tmp_path, "--print") as server:
        send(server, MESSAGE)
        (stored,) = server.messages()

    assert server.output == BLOCK
    assert stored.endswith(b"Subject: hello\n\nbody\t\xc3\xbc\n.\n")


def test_forwarded_messages_are_printed_if_the_next_server_accepts_them(tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    with running(tmp_path / "next", "--fault", "message 1 -> 554") as next_server:
        address = f"smtp://127.0.0.1:{next_server.port}"
        with running(tmp_path, "--print", "--deliver", address, stores=False) as server:
            with pytest.raises(smtplib.SMTPDataError):
                send(server, b"Subject: refused\r\n")
            send(server, MESSAGE)

    assert server.output == BLOCK


def test_dialogue_and_log_go_to_standard_error_beside_printed_messages(tmp_path: Path) -> None:
    for option in ("-v", "--log-json"):
        with running(tmp_path, "--print", option, stores=False) as server:
            send(server, MESSAGE)

        assert server.output == BLOCK
        assert any("C: QUIT" in line or "message accepted" in line for line in server.errors)


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("backend", ["asyncio", "trio", "threads"])
def test_printed_messages_of_several_clients_do_not_mix(tmp_path: Path, backend: str, workers: str) -> None:
    names = [f"n{number}" for number in range(8)]
    content = {name: b"".join(b"%s %d\r\n" % (name.encode(), number) for number in range(20_000)) for name in names}
    options = ("--print", "--backend", backend, "--workers", workers)
    with tempfile.TemporaryFile() as output:
        with running(tmp_path, *options, stores=False, stdout=output.fileno()) as server, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: send(server, content[name], f"{name}@example.org"), names))
        output.seek(0)
        text = output.read()

    blocks = text.split(b"---------- MESSAGE FOLLOWS ----------\n")[1:]
    assert len(blocks) == 8
    for name in names:
        (block,) = (each for each in blocks if f"RCPT TO:<{name}@".encode() in each)
        _, _, body = block.partition(b"\n\n")
        assert body == content[name].replace(b"\r\n", b"\n") + b"------------ END MESSAGE ------------\n"


@contextmanager
def on_terminal(directory: Path, *options: str) -> Iterator[tuple[Running, list[str]]]:
    """Run a server whose standard output is a terminal; the list gets the output at the end of the block."""
    master, slave = pty.openpty()
    pieces: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(master, 65_536):
                pieces.append(piece)
        except OSError:
            pass  # the server has closed the terminal

    output: list[str] = []
    reader = threading.Thread(target=read)
    try:
        with running(directory, "--print", *options, stores=False, stdout=slave) as server:
            os.close(slave)
            reader.start()
            yield server, output
        reader.join(TIMEOUT)
        output.append(b"".join(pieces).decode().replace("\r\n", "\n"))
    finally:
        os.close(master)


def test_printed_message_cannot_control_a_terminal(tmp_path: Path) -> None:
    with on_terminal(tmp_path) as (server, output):
        send(server, MESSAGE)
        send(server, b"a\x1b[31m\xff \xc2\x9b\r\n")

    (text,) = output
    assert text.startswith(BLOCK)
    assert "\na\\x1b[31m\ufffd \\x9b\n-" in text


def test_piped_message_has_the_octets_that_were_received(tmp_path: Path) -> None:
    # The last line has no line end, and the CR LF of a binary message need not be line ends.
    with (
        tempfile.TemporaryFile() as output,
        running(tmp_path, "--print", stores=False, stdout=output.fileno()) as server,
        socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as client,
    ):
        client.sendall(CHUNKED + b"BDAT 7 LAST\r\n\x1b\x00\xff\r\nyzQUIT\r\n")
        assert b"\r\n250 2.0.0 Printed as " in client.makefile("rb").read()
        output.seek(0)
        assert b"\n\n\x1b\x00\xff\r\nyz\n----" in output.read()


def test_message_that_cannot_be_printed_is_not_accepted(tmp_path: Path) -> None:
    with (
        open("/dev/full", "wb") as full,
        running(tmp_path, "--print", stores=False, stdout=full.fileno()) as server,
        pytest.raises(smtplib.SMTPDataError, match="could not be printed"),
    ):
        send(server, MESSAGE)

    assert any("could not be printed: [Errno 28]" in line for line in server.errors)


def test_abandoned_and_refused_messages_are_not_printed(tmp_path: Path) -> None:
    with running(tmp_path, "--print", "--bare-newlines", "reject") as server, connect(server) as smtp:
        smtp.ehlo()
        for octets in (b"BDAT 5\r\nlost\nRSET\r\n", b"BDAT 5 LAST\r\nbare\n"):
            smtp.mail("a@client.example")
            smtp.rcpt("b@example.org")
            smtp.send(octets)
            smtp.getreply()
        assert smtp.getreply()[0] == 550
        smtp.sendmail("c@client.example", ["b@example.org"], b"kept\r\n")

    assert server.output.count("MAIL FROM:") == 1
    assert "lost" not in server.output
    assert "bare" not in server.output
    assert server.errors[-1].endswith("c@client.example -> b@example.org  6 bytes  ")


def test_message_whose_copy_cannot_be_printed_is_stored(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full, running(tmp_path, "--print", stdout=full.fileno()) as server:
        send(server, MESSAGE)
        assert len(server.messages()) == 1

    assert any("an observer failed" in line for line in server.errors)


@pytest.mark.parametrize(("codes", "count"), [((550, 250), 1), ((250, 250), 1), ((550, 452), 0)])
def test_lmtp_message_is_printed_once_if_one_recipient_accepts_it(codes: Sequence[int], count: int) -> None:
    printed: list[bytes] = []

    class FakePrinter(Printer):
        def write(self, transaction: Transaction, content: IO[bytes]) -> None:
            content.seek(0)
            printed.append(content.read())

    app = App()
    app.include(AnyRecipient())
    app.include(PrintedCopies(FakePrinter(workers=1)))

    @app.on("message")
    def decide(session: Session, message: Message) -> dict[smtpcore.Path | str, Reply]:
        return {str(path): Reply(code) for path, code in zip(message.forward_paths, codes, strict=True)}

    dialogue = session(app, config=replace(CONFIG, lmtp=True))
    dialogue.send(b"LHLO c.example\r\n" + MAIL + RCPT + b"RCPT TO:<c@s.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")

    assert dialogue.codes[-3:] == [*codes, 221]
    assert printed == [b"x\r\n"] * count
