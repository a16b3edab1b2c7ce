"""What is shown of a server's work, as far as the command line's own tests do not see it."""

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
def test_a_subject_is_decoded_and_cannot_steer_a_terminal(header: bytes, subject: str) -> None:
    assert Arrival("1", header=bytearray(header)).subject.replace("?", "\ufffd") == subject


def test_a_header_that_the_email_package_cannot_read_has_no_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise IndexError("some header was malformed")

    monkeypatch.setattr("smtpcore_adapters.cli._display.message_from_bytes", fail)

    assert Arrival("1", header=bytearray(b"Subject: x\r\n")).subject == ""


def test_a_record_of_the_log_has_its_error_with_it() -> None:
    try:
        raise ValueError("something broke")
    except ValueError:
        record = logging.LogRecord("smtpcore", logging.ERROR, __file__, 1, "no %s", ("luck",), sys.exc_info())

    entry = json.loads(JsonLog().format(record))

    assert entry["message"] == "no luck"
    assert "ValueError: something broke" in entry["error"]


class FakeSession:
    """As much of a session as an observer looks at."""

    id = "1"

    def __init__(self) -> None:
        mail, rcpt = Mail(Path("a@c.example")), Rcpt(Path("u@s.example"))
        self.transaction = Transaction(mail, [rcpt])


def test_what_became_of_a_message_is_told_at_the_reply_to_its_end() -> None:
    told: list[Arrival] = []
    arrivals = Arrivals(told.append)
    session: Any = FakeSession()

    for item in (Reply(250), DataLine(b"Subject: x\r\n"), Reply(250, "a chunk"), DataEnd()):
        arrivals.on_event(session, item)
        assert not told
    arrivals.on_event(session, Reply(550, "No"))

    assert [(found.size, found.recipients, found.reply) for found in told] == [(12, ["u@s.example"], Reply(550, "No"))]
