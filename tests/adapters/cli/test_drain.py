"""`smtpcore drain` delivers the mail in a queue."""

import asyncio
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from smtpcore_adapters.cli._destinations import parse_destination
from smtpcore_adapters.cli.drain import OneOfEqual, make_delivery
from smtpcore_adapters.drain import NextServer, ToStore
from smtpcore_adapters.stores.jetstream import JetStream
from smtpcore_adapters.testing import SmtpServer
from tests.adapters.command import run_in_process
from tests.adapters.stores.jetstreams import Streams, put, streams
from tests.adapters.stores.nats_servers import needs_nats

SOURCE = "nats://a/MAIL"


@pytest.mark.parametrize(
    ("source", "destination", "reason"),
    [
        ("maildir:x", "maildir:x", "maildir:x is not a queue: use nats://"),
        ("nats://a", "maildir:x", "does not have the form nats://"),
        (f"{SOURCE}?timeout=200", "maildir:x", "timeout is 200"),
        (f"{SOURCE}?credentials=nowhere", "maildir:x", "cannot read nowhere: No such file"),
        (SOURCE, "print:", "print: cannot be the destination of a queue"),
        (SOURCE, "smtp://a?xclient=true", "xclient has no effect here"),
        (SOURCE, "smtp://a?user=u", "user and password_file need each other"),
        (SOURCE, "mail:x", "is not a destination"),
        (SOURCE, SOURCE, "nats://a/MAIL is the queue itself"),
        (SOURCE, "nats://b,a:4222/MAIL?replicas=1", "is the queue itself"),
    ],
)
def test_wrong_arguments_are_one_line(source: str, destination: str, reason: str, tmp_path: Path) -> None:
    assert_refused(reason, source, "--deliver", destination, cwd=tmp_path)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--durable", "a b", "durable is 'a b': use at most 32 letters"),
        ("--domain", "a..b", "domain is 'a..b': it should look like example.org"),
        ("--domain", "", "domain is ''"),
        ("--retry", "inf", "delays is (inf,)"),
    ],
)
def test_impossible_queue_is_one_line(option: str, value: str, reason: str, tmp_path: Path) -> None:
    assert_refused(reason, SOURCE, "--deliver", "maildir:x", option, value, cwd=tmp_path)


def assert_refused(reason: str, *arguments: str, cwd: Path) -> None:
    done = run_in_process("drain", *arguments, cwd=cwd)
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("destination", ["nats://127.0.0.1:1/OTHER", "nats://127.0.0.1:2/MAIL"])
def test_mail_moves_to_another_queue(destination: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.cli._jetstream._TIME_TO_START", 0.05)
    seen: list[object] = []
    monkeypatch.setattr("smtpcore_adapters.drain.run", lambda url, delivery, **options: seen.append(delivery))
    done = run_in_process("drain", "nats://127.0.0.1:1/MAIL", "--deliver", destination, cwd=tmp_path)
    assert done.returncode == 0
    assert isinstance(seen[0], ToStore)


def test_destination_decides_about_the_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("smtpcore_adapters.cli._jetstream._TIME_TO_START", 0.05)
    kinds = {
        "lmtp+unix:socket": NextServer,
        "smtps://a": NextServer,
        "maildir:box": ToStore,
        "https://a/mail": ToStore,
        "nats://127.0.0.1:1/M": ToStore,
    }
    for url, kind in kinds.items():
        assert isinstance(make_delivery(parse_destination(url), "c.example", 3), kind)


def test_options_reach_the_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = dict[str, Any]()
    monkeypatch.setattr("smtpcore_adapters.drain.run", lambda url, delivery, **options: seen.update(options, url=url))
    arguments = ["--durable", "one", "--domain", "s.example", "--concurrency", "3", "--grace", "2", "--give-up", "0.5"]
    done = run_in_process(
        "drain", f"{SOURCE}?replicas=1", "--deliver", "maildir:x", *arguments, "--retry", "60", "--retry", "90",
        cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, f"delivering the mail in {SOURCE}; Ctrl-C stops\n")
    schedule = seen.pop("schedule")
    assert (schedule.delays, schedule.give_up) == ((60.0, 90.0), 43200.0)
    assert seen == {
        "url": SOURCE,
        "durable": "one",
        "domain": "s.example",
        "concurrency": 3,
        "grace": 2.0,
        "replicas": 1,
        "tls": None,
        "tls_first": False,
    }
    assert run_in_process("drain", SOURCE, "--deliver", "maildir:x", cwd=tmp_path).returncode == 0
    assert seen["schedule"].delays == (1800.0, 1800.0, 7200.0)


def test_record_that_all_deliveries_write_is_logged_once() -> None:
    one_of_equal = OneOfEqual()
    seen = [
        (text, created)
        for text, created in (("a", 0.0), ("a", 9.0), ("b", 9.0), ("a", 9.0), ("a", 19.0), ("a", 20.0))
        if one_of_equal.filter(logging.makeLogRecord({"msg": text, "created": created}))
    ]
    assert seen == [("a", 0.0), ("b", 9.0), ("a", 9.0), ("a", 19.0)]


def stop_when_empty(found: Streams) -> None:
    """Send SIGTERM to this process when the stream has no messages."""
    end = time.monotonic() + 20
    while found.subjects(found.name) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


def drained(found: Streams, destination: str, tmp_path: Path) -> None:
    stopping = threading.Thread(target=stop_when_empty, args=(found,))
    stopping.start()
    done = run_in_process("drain", f"{found.url}?replicas=1", "--deliver", destination, "-v", cwd=tmp_path)
    stopping.join()
    assert done.returncode == 0
    assert "is delivered" in done.stderr


@needs_nats
def test_mail_goes_to_a_maildir_and_to_a_server(tmp_path: Path) -> None:
    with streams() as found, SmtpServer() as server:
        asyncio.run(put(JetStream(found.url, replicas=1), b"A: b\r\n"))
        drained(found, "maildir:box", tmp_path)
        (file,) = (tmp_path / "box" / "new").iterdir()
        assert file.read_bytes() == b"Return-Path: <a@c.example>\nX-Original-To: u@s.example\nA: b\n"

        asyncio.run(put(JetStream(found.url, replicas=1), b"A: b\r\n"))
        drained(found, f"smtp://{server.host}:{server.port}?tls=none", tmp_path)
        (message,) = server.messages
        assert message.content == b"A: b\r\n"
