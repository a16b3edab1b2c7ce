"""Details of the display of `smtpcore serve` that a test through the command line cannot reach."""

import json
import logging
import os
import re
import sys
import time
from typing import Any

import pytest
from rich.logging import RichHandler

from smtpcore import BodyAborted, DataChunk, DataEnd, Mail, Path, Rcpt, Reply, Transaction
from smtpcore_adapters.cli._display import Arrival, Arrivals, JsonLog, LineLog, PrintableLog
from smtpcore_adapters.cli._output import log_handler


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"Subject: hello\r\n\r\n", "hello"),
        (b"Subject: =?utf-8?q?=C3=A9?=\r\n\r\n", "\u00e9"),
        (b"X: y\r\n\r\n", ""),
        (b"Subject: \x1b[2J\r\n\r\n", "\\x1b[2J"),
    ],
)
def test_subject_is_decoded_and_has_no_control_characters(header: bytes, subject: str) -> None:
    assert Arrival("1", header=bytearray(header)).subject.replace("?", "\ufffd") == subject


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"subject:  a\r\n b\r\n\tc\r\nX: y\r\n\r\n", "a b c"),
        (b"Subject: first\r\nSubject: second\r\n\r\n", "first"),
        (b"X: y\n\nSubject: in the body\n", ""),
        (b"X-Subject: x\r\n\r\n", ""),
        (b"Subject: =?no-such?q?x?=\r\n\r\n", "=?no-such?q?x?="),
        (b"Subject: =?utf-8?b?broken!?=\r\n\r\n", "=?utf-8?b?broken!?="),
        (b"Subject: =?utf-8?b?Zg?=\r\n\r\n", "f"),
        (b"Subject: =?utf-8?b?A?=\r\n\r\n", "=?utf-8?b?A?="),
        ("Subject: gr\u00fcn\r\n\r\n".encode(), "gr\u00fcn"),
        (b"Subject: " + b"x" * 5000 + b"\r\n\r\n", "x" * 200),
        (b"Subject: \xc2\x9b31m \xe2\x80\xae\r\n\r\n", "\\x9b31m \\u202e"),
        (b"Subject:", ""),
    ],
)
def test_subject_of_a_malformed_header_is_still_shown(header: bytes, subject: str) -> None:
    assert Arrival("1", header=bytearray(header)).subject == subject


@pytest.mark.parametrize("field", [b";", b";a", b";a*0=b", b"=?", b"=?a?q?", b"\t", b" \r\n "])
@pytest.mark.parametrize("name", [b"Content-Type: a/b", b"Subject: x", b"To: "])
def test_time_for_the_subject_is_linear_in_the_header(name: bytes, field: bytes) -> None:
    def seconds(octets: int) -> float:
        header = bytearray(name + field * (octets // len(field)) + b"\r\n\r\n")
        times = []
        for _ in range(5):
            begun = time.process_time()
            assert Arrival("1", header=header).subject is not None
            times.append(time.process_time() - begun)
        return min(times)

    assert seconds(64_000) < 40 * seconds(4_000) + 0.02


EVIL = "554 red\x9b31mtext \u202e\x85 \x1b[2J\u2028 one\r\ntwo"


def test_log_on_a_terminal_has_no_control_characters() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("smtpcore", logging.ERROR, __file__, 1, "said %s", (EVIL,), sys.exc_info())

    text = PrintableLog().format(record)
    message, *traceback = text.split("\n")
    assert message == "said 554 red\\x9b31mtext \\u202e\\x85 \\x1b[2J\\u2028 one\\r\\ntwo"
    assert all(line.isprintable() for line in traceback)
    assert "ValueError" in text


def test_log_record_in_a_file_is_one_line_with_time_and_level() -> None:
    record = logging.LogRecord("smtpcore", logging.WARNING, __file__, 1, f"{'x' * 300} {EVIL}", (), None)

    (line,) = LineLog().format(record).splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING x{300} .*", line)
    assert line.isprintable()


def test_log_on_a_terminal_has_colours_and_in_a_file_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, kind in ((True, RichHandler), (False, logging.StreamHandler)):
        monkeypatch.setattr("rich.console.Console.is_terminal", is_terminal)
        assert type(log_handler()) is kind


def test_json_log_record_includes_the_traceback() -> None:
    try:
        raise ValueError("something broke")
    except ValueError:
        record = logging.LogRecord("smtpcore", logging.ERROR, __file__, 1, "no %s", ("luck",), sys.exc_info())

    entry = json.loads(JsonLog().format(record))

    assert entry["message"] == "no luck"
    assert "ValueError: something broke" in entry["error"]


@pytest.mark.parametrize(("name", "fields"), [("MainProcess", {}), ("worker-3", {"worker": 3}), (None, {})])
def test_json_log_names_the_process_and_the_worker(name: str | None, fields: dict[str, int]) -> None:
    record = logging.LogRecord("smtpcore", logging.INFO, __file__, 1, "text", (), None)
    record.processName = name
    entry = json.loads(JsonLog().format(record))
    assert entry["pid"] == os.getpid()
    assert {key: value for key, value in entry.items() if key == "worker"} == fields


class FakeSession:
    """The attributes of a session that an observer reads."""

    id = "1"

    def __init__(self) -> None:
        mail, rcpt = Mail(Path("a@c.example")), Rcpt(Path("u@s.example"))
        self.transaction = Transaction(mail, [rcpt])


def test_size_of_a_message_does_not_include_an_abandoned_message() -> None:
    reported: list[Arrival] = []
    arrivals = Arrivals(reported.append)
    session: Any = FakeSession()

    for item in (DataChunk(b"lost"), Reply(250), BodyAborted(), DataChunk(b"kept\r\n"), DataEnd(), Reply(250)):
        arrivals.on_event(session, item)

    assert [found.size for found in reported] == [6]


def test_message_is_shown_after_the_reply_to_the_end_of_data() -> None:
    reported: list[Arrival] = []
    arrivals = Arrivals(reported.append)
    session: Any = FakeSession()

    for item in (Reply(250), DataChunk(b"Subject: x\r\n"), Reply(250, "a chunk"), DataEnd()):
        arrivals.on_event(session, item)
        assert not reported
    arrivals.on_event(session, Reply(550, "No"))

    assert [(found.size, found.recipients, found.reply) for found in reported] == [
        (12, ["u@s.example"], Reply(550, "No"))
    ]
