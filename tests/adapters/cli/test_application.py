"""The handlers of `smtpcore serve` are those of the user's app, then users, rules and a destination."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from smtpcore_adapters import App
from smtpcore_adapters.cli._application import Plan, add_handlers, make_plan
from tests.adapters.cli.settings import settings

SERVER = """\
from smtpcore_adapters import App
app = App()
empty = App()
strange = App()
@app.on("RCPT")
def decide(session, rcpt):
    return None
class NeedsLogin:
    def on_config(self, config):
        raise ValueError("the database is missing")
strange.include(NeedsLogin())
"""


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "rtapp.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("rtapp", None)


def plan(text: str = "", **options: object) -> Plan:
    made = make_plan(settings(text, **options))
    add_handlers(made)
    return made


def handlers(app: App, name: str) -> list[str]:
    return [getattr(handler, "__qualname__", "") for handler, _ in app.handlers.get(name, ())]


LOGIN = "auth = 'tim:secret'\nallow_plaintext_auth = true\n"


@pytest.mark.parametrize(
    ("text", "recipients", "messages"),
    [
        ("", ["AcceptedRecipients.on_rcpt"], ["Maildir.on_message"]),
        (LOGIN, ["Users.on_rcpt", "AcceptedRecipients.on_rcpt"], ["Maildir.on_message"]),
        (LOGIN + "host = '::'", ["Users.on_rcpt"], ["Maildir.on_message"]),
        ("print = true", ["AcceptedRecipients.on_rcpt"], ["PrintedMessages.on_message"]),
        ("deliver = 'https://a.example/x'", ["AcceptedRecipients.on_rcpt"], ["Webhook.on_message"]),
        ("print = true\nmaildir = 'x'", ["AcceptedRecipients.on_rcpt"], ["Maildir.on_message"]),
        ("deliver = 'smtp://a.example'", ["RelayPolicy.on_rcpt", "Forward.on_rcpt"], ["Forward.on_message"]),
        (
            LOGIN + "deliver = 'lmtp+unix:/x'",
            ["RelayPolicy.on_rcpt", "Forward.on_rcpt"],
            ["Forward.on_message"],
        ),
        ("greylist = 60", ["Greylist.on_rcpt", "AcceptedRecipients.on_rcpt"], ["Maildir.on_message"]),
        ("app = 'rtapp:app'", ["decide"], []),
        ("app = 'rtapp:app'\naccept = 'a.example'", ["decide", "AcceptedRecipients.on_rcpt"], []),
        ("app = 'rtapp:app'\nmaildir = 'x'\nhost = '::'", ["decide"], ["Maildir.on_message"]),
        ("app = 'rtapp:app'\n" + LOGIN + "host = '::'", ["decide", "Users.on_rcpt"], []),
        (
            "app = 'rtapp:app'\ndeliver = 'smtp://a.example'",
            ["decide", "RelayPolicy.on_rcpt", "Forward.on_rcpt"],
            ["Forward.on_message"],
        ),
    ],
)
def test_handlers_follow_from_the_settings(text: str, recipients: list[str], messages: list[str]) -> None:
    app = plan(text).app
    assert handlers(app, "RCPT") == recipients
    assert handlers(app, "message") == messages
    assert handlers(app, "auth") == (["Users.on_auth"] if LOGIN in text else [])


def test_app_with_a_destination_that_asks_needs_a_rule_for_strangers() -> None:
    with pytest.raises(click.UsageError, match=":: is not a loopback address: restrict the recipients"):
        plan("app = 'rtapp:app'\ndeliver = 'smtp://a.example'\nhost = '::'")


def test_app_without_a_handler_of_rcpt_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "smtpcore"):
        plan("app = 'rtapp:empty'")
    assert caplog.messages == ["rtapp:empty has no handler of RCPT, so each recipient is refused"]


def test_destination_is_checked_without_being_used(tmp_path: Path) -> None:
    made = make_plan(settings("maildir = 'new'"))
    assert not (tmp_path / "new").exists()
    assert not made.is_printing
    assert make_plan(settings("print = true")).is_printing


def test_check_reads_the_files_of_a_destination() -> None:
    with pytest.raises(
        click.UsageError, match=r"line 1: deliver: cannot use the destination .*: missing: No such file"
    ):
        check("deliver = 'smtp://a.example?user=a&password_file=missing'")
    check("deliver = 'smtp://a.example'")


def check(text: str) -> None:
    add_handlers(make_plan(settings(text), is_check=True))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("deliver = 'http://a.example/x'", "deliver: http:// is allowed for loopback addresses only"),
        ("deliver = 'https://a.example/x?secret_file=missing'", "missing: No such file"),
        ("deliver = 'nats://a.example/MAIL?credentials=missing'", "missing: No such file"),
        ("maildir = 'rtapp.py'", "maildir: cannot use the destination maildir:rtapp.py: rtapp.py: Not a directory"),
        ("fault = 'RCPT 451'", "fault: fault 'RCPT 451': the arrow is missing"),
        ("burl = 'imap'", "burl needs an app of your own with a handler of BURL"),
        ("max_connections = 0", "max_connections: limit connections is 0, but must be at least 1"),
        ("ipv4_prefix = 33", "a prefix has at most 32 bits in IPv4"),
        ("backend = 'threads'\nloop = 'uvloop'", "loop has no effect with backend threads"),
        ("unix = 'x'\nunix_owner = 'nobody-here'", "unix_owner: this system has no user 'nobody-here'"),
        ("app = 'rtapp:strange'", "app: the database is missing"),
    ],
)
def test_check_finds_each_mistake_that_the_start_finds(text: str, error: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        check(text)
    assert error in caught.value.message


@pytest.mark.parametrize("deliver", ["maildir:new", "print:", "nats://127.0.0.1:1/MAIL", "https://a.example/x"])
def test_check_creates_nothing_and_asks_no_server(
    deliver: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check(f"deliver = '{deliver}'")
    assert not (tmp_path / "new").exists()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("quiet = true\nverbose = true", "line 1: quiet and verbose exclude each other"),
        ("fault_seed = 0", "line 1: fault_seed has no effect without fault: give both"),
        ('metrics_host = "::"', "line 1: metrics_host has no effect without metrics_port: give both"),
        ("fault = 'RCPT -> 451'\napp = 'rtapp:app'", "line 1: fault and app exclude each other"),
        ("deliver = 'stmp://a.example'", "line 1: deliver: 'stmp://a.example' is not a destination"),
        ("maildir = 'rtapp.py'", "line 1: maildir: cannot use the destination maildir:rtapp.py: "),
        ("maildir = 'x'\ndeliver = 'maildir:y'", "line 2: deliver: mail has one destination"),
        ("app = 'rtapp:strange'", "line 1: app: the database is missing"),
        ("app = 'rtapp:none'", "rtapp has no attribute 'none'"),
    ],
)
def test_mistake_is_one_line_with_its_place(text: str, error: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        plan(text)
    assert error in caught.value.message
    assert "\n" not in caught.value.message
