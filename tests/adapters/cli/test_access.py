"""Nobody can run an open relay by accident: which clients each listener admits is checked."""

import os
import socket
from pathlib import Path
from typing import Any

import click
import pytest

from smtpcore_adapters import App, Listener
from smtpcore_adapters.cli._access import FOR_HASHES, MECHANISMS, AcceptedRecipients, read_users, rule_of
from smtpcore_adapters.cli._listening import prepare_listeners
from smtpcore_adapters.recipients import AnyRecipient, Recipients
from smtpcore_adapters.users import hash_password
from tests.adapters.cli.settings import settings
from tests.adapters.fakes import step


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


LETS_STRANGERS_IN = [
    ("host = '0.0.0.0'", "0.0.0.0 is not a loopback address"),
    ("host = ''", ":: is not a loopback address"),
    ("host = '::'", ":: is not a loopback address"),
    ("host = '192.0.2.1'", "192.0.2.1 is not a loopback address"),
    ("host = 'mx.example.org'", "mx.example.org is not a loopback address"),
    ("[[listener]]\nport = 25\nproxy_protocol = true", "proxy_protocol admits clients from other machines"),
    ("proxy_protocol = true\nunix = 'x'", "proxy_protocol admits clients from other machines"),
    ("trusted = '127.0.0.1'", "trusted admits clients from other machines"),
    ("trusted = 'unix'\nunix = 'x'", "trusted admits clients from other machines"),
    ("unix = 'x'\nunix_mode = '666'", "every user of this machine can connect to the Unix socket 'x'"),
    ("[[listener]]\nport = 25\n[[listener]]\nport = 26\nhost = '::'", "smtpcore.toml, line 3: :: is not a loopback"),
]
STAYS_AMONG_US = ["", "host = '::1'", "host = 'localhost'", "host = '127.0.0.9'", "unix = 'x'\nunix_mode = '660'"]


def rules(text: str, *, has_users: bool = False, is_open: bool = True) -> list[object]:
    prepared = prepare_listeners(settings(text), App(), ())
    return [rule_of(each.settings, each.listener, has_users=has_users, is_open=is_open) for each in prepared]


@pytest.mark.parametrize(("text", "reason"), LETS_STRANGERS_IN)
def test_listener_that_admits_strangers_needs_a_rule(text: str, reason: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        rules(text)
    assert reason in caught.value.message
    assert "restrict the recipients with" in caught.value.message
    assert any(rule is None for rule in rules(text, has_users=True))
    assert any(rule is None for rule in rules(text, is_open=False))
    assert all(isinstance(rule, Recipients) for rule in rules("accept = 'example.org'\n" + text))


@pytest.mark.parametrize("text", STAYS_AMONG_US)
def test_clients_of_this_machine_may_send_to_any_recipient(text: str) -> None:
    assert [type(rule) for rule in rules(text)] == [AnyRecipient]
    assert rules(text, is_open=False) == [None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("trusted = '0.0.0.0/0'\nhost = '0.0.0.0'", "0.0.0.0 is not a loopback address"),
        ("trusted = ['10.0.0.1', '::/0']\nhost = '::'", ":: is not a loopback address"),
        ("trusted = 'unix'\nunix = 'x'\nunix_mode = '666'", "every user of this machine can connect"),
    ],
)
def test_stranger_may_not_claim_a_login_by_xclient(text: str, reason: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        rules("accept = 'example.org'\n" + text, has_users=True)
    assert "strangers could claim a login by XCLIENT" in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "trusted = '0.0.0.0/0'",
        "trusted = '10.0.0.0/8'\nhost = '0.0.0.0'",
        "trusted = 'unix'\nhost = '0.0.0.0'",
        "trusted = 'unix'\nunix = 'x'",
        "trusted = '::/0'\nunix = 'x'\nunix_mode = '666'",
    ],
)
def test_own_proxies_may_be_trusted(text: str) -> None:
    assert [type(rule) for rule in rules("accept = 'example.org'\n" + text)] == [Recipients]


def test_each_listener_has_a_rule_of_its_own() -> None:
    text = (
        "accept = 'a.example'\n[[listener]]\nport = 25\nhost = '::'\n[[listener]]\nport = 26\naccept = 'not a domain'"
    )
    with pytest.raises(click.UsageError, match="line 7: accept: 'not a domain' is neither an address nor a domain"):
        rules(text)


@pytest.mark.parametrize(("mode", "is_for_all"), [(0o600, False), (0o660, False), (0o666, True)])
def test_bound_unix_socket_is_judged_by_its_mode(tmp_path: Path, mode: int, is_for_all: bool) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        os.chmod("socket", mode)
        judge(Listener(bound=bound), "Unix socket 'socket'" if is_for_all else None)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux has the abstract namespace")
def test_unix_socket_in_the_abstract_namespace_is_open_to_all() -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"\0smtpcore-{os.getpid()}")
        judge(Listener(bound=bound), "every user of this machine can connect")


def test_bound_socket_is_judged_by_its_address() -> None:
    with socket.create_server(("0.0.0.0", 0)) as bound:
        judge(Listener(bound=bound), "0.0.0.0 is not a loopback address")
    with socket.create_server(("127.0.0.1", 0)) as bound:
        judge(Listener(bound=bound), None)


def judge(listener: Listener, error: str | None) -> None:
    if error is None:
        assert isinstance(rule_of(settings(), listener, has_users=False, is_open=True), AnyRecipient)
        return
    with pytest.raises(click.UsageError, match=error):
        rule_of(settings(), listener, has_users=False, is_open=True)


def test_rule_of_the_listener_decides_about_a_recipient() -> None:
    rule = AcceptedRecipients({"mx": AnyRecipient()})

    def reply(listener: Listener | None) -> Any:
        session: Any = type("FakeSession", (), {"listener": listener})
        return step(rule.on_rcpt(session, Any))  # type: ignore[arg-type]

    assert reply(Listener(name="mx")).code == 250
    assert reply(Listener(name="other")) is None
    assert reply(None) is None


# Users


def test_users_are_read_from_the_setting_and_from_a_file(tmp_path: Path) -> None:
    assert read_users(settings()) == (None, ())
    (tmp_path / "users").write_text(f"tom:{hash_password('x')}\n\n")
    users, mechanisms = read_users(settings('auth = "tim:secret"', users="users"))
    assert repr(users) == "Users(['tim', 'tom'])"
    assert mechanisms == FOR_HASHES
    assert read_users(settings('auth = ["tim:secret"]'))[1] == MECHANISMS


def test_user_file_without_users_still_means_that_there_are_users(tmp_path: Path) -> None:
    (tmp_path / "users").touch()
    users, mechanisms = read_users(settings(users="users"))
    assert repr(users) == "Users([])"
    assert mechanisms == FOR_HASHES


def test_users_are_read_again_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(f"tom:{hash_password('x')}\n")
    users, _ = read_users(settings('auth = "tim:secret"', users="users"))
    assert users
    (tmp_path / "users").write_text(f"ann:{hash_password('x')}\n")
    users.reload()
    assert repr(users) == "Users(['ann', 'tim'])"
    (tmp_path / "users").write_text("ann:x")
    with pytest.raises(ValueError, match="line 1"):
        users.reload()
    assert repr(users) == "Users(['ann', 'tim'])"

    without_file, _ = read_users(settings('auth = "tim:secret"'))
    assert without_file
    without_file.reload()
    assert repr(without_file) == "Users(['tim'])"


def test_password_of_an_option_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())

    def prompt(text: str, **options: object) -> str:
        asked.append(text)
        return "secret"

    monkeypatch.setattr(click, "prompt", prompt)
    users, _ = read_users(settings(auth=("tim",)))
    assert repr(users) == "Users(['tim'])"
    assert asked == ["Password of tim"]


def test_user_of_both_settings_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(f"tim:{hash_password('x')}\n")
    with pytest.raises(click.UsageError, match="auth and users have the same user tim: remove one of them"):
        read_users(settings('auth = "tim:secret"', users="users"))
    with pytest.raises(click.UsageError, match="auth: two users have the name 'IX' after SASLprep"):
        read_users(settings('auth = ["IX:secret", "\u2168:secret"]'))


@pytest.mark.parametrize("entry", ["tim", ":secret", "tim:"])
def test_wrong_user_is_an_error_without_the_password(entry: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        read_users(settings(f'auth = "{entry}"'))
    assert caught.value.message == "smtpcore.toml, line 1: auth needs USER:PASSWORD, and each user only once"


def test_wrong_user_file_is_an_error_with_the_number_of_the_line(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("# x\ntim:secret\n")
    with pytest.raises(click.UsageError, match="--users: users, line 2: after the name") as caught:
        read_users(settings(users="users"))
    assert "secret" not in caught.value.message
