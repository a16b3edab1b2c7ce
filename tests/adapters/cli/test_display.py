"""Details of the display of `smtpcore serve` that a test through the command line cannot reach."""

import json
import logging
import sys
from typing import Any

import pytest

from smtpcore import DataEnd, DataLine, Mail, Path, Rcpt, Reply, Transaction
from smtpcore_adapters.cli._display import Arrival, Arrivals, JsonLog


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"Subject: hello\r\n\r\n", "hello"),
        (b"Subject: =?utf-8?q?=C3=A9?=\r\n\r\n", "\u00e9"),
        (b"X: y\r\n\r\n", ""),
        (b"Subject: \x1b[2J\r\n\r\n", "\ufffd[2J"),
    ],
)
def test_subject_is_decoded_and_has_no_control_characters(header: bytes, subject: str) -> None:
    assert Arrival("1", header=bytearray(header)).subject.replace("?", "\ufffd") == subject


def test_subject_is_empty_if_the_email_package_cannot_parse_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise IndexError("some header was malformed")

    monkeypatch.setattr("smtpcore_adapters.cli._display.message_from_bytes", fail)

    assert Arrival("1", header=bytearray(b"Subject: x\r\n")).subject == ""


def test_json_log_record_includes_the_traceback() -> None:
    try:
        raise ValueError("something broke")
    except ValueError:
        record = logging.LogRecord("smtpcore", logging.ERROR, __file__, 1, "no %s", ("luck",), sys.exc_info())

    entry = json.loads(JsonLog().format(record))

    assert entry["message"] == "no luck"
    assert "ValueError: something broke" in entry["error"]


class FakeSession:
    """The attributes of a session that an observer reads."""

    id = "1"

    def __init__(self) -> None:
        mail, rcpt = Mail(Path("a@c.example")), Rcpt(Path("u@s.example"))
        self.transaction = Transaction(mail, [rcpt])


def test_arrival_is_reported_at_the_reply_to_the_end_of_data() -> None:
    reported: list[Arrival] = []
    arrivals = Arrivals(reported.append)
    session: Any = FakeSession()

    for item in (Reply(250), DataLine(b"Subject: x\r\n"), Reply(250, "a chunk"), DataEnd()):
        arrivals.on_event(session, item)
        assert not reported
    arrivals.on_event(session, Reply(550, "No"))

    assert [(found.size, found.recipients, found.reply) for found in reported] == [
        (12, ["u@s.example"], Reply(550, "No"))
    ]
