"""The server gives up the rights of root."""

import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock

import click
import pytest

from smtpcore_adapters.cli._application import Plan
from smtpcore_adapters.cli._listening import prepare_listeners
from smtpcore_adapters.cli._privileges import Account, read_account, warn_of_root
from smtpcore_adapters.server._app import App
from smtpcore_adapters.server._limits import Limits
from tests.adapters.cli.clients import send
from tests.adapters.cli.settings import settings
from tests.adapters.command import Running, running

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("user = 'no-such-user'", "this system has no user 'no-such-user'"),
        ("user = '99999999999999999999'", "this system has no user"),
        ("user = 'nobody'\ngroup = 'no-such-group'", "this system has no group 'no-such-group'"),
        ("user = 'nobody'\ngroup = '99999999'", "this system has no group"),
        ("user = '0'", "has all rights"),
        ("group = 'nogroup'", "has no effect without user"),
    ],
)
def test_wrong_user_or_group_is_an_error(text: str, error: str) -> None:
    with pytest.raises(click.UsageError, match=error):
        read_account(settings(text))


def test_user_without_a_start_as_root_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(click.UsageError, match="needs a start as root"):
        read_account(settings("user = 'nobody'"))


def test_user_on_a_system_without_users_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pwd", None)
    with pytest.raises(click.UsageError, match="needs a Unix system"):
        read_account(settings("user = 'nobody'"))


def test_account_has_the_main_group_of_the_user_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    account = read_account(settings(f"user = '{NOBODY.pw_uid}'"))
    assert account
    assert (account.uid, account.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    for group in ("daemon", "1"):
        account = read_account(settings(f"user = 'nobody'\ngroup = '{group}'"))
        assert account
        assert account.gid == 1
        assert 1 in account.groups
    assert read_account(settings()) is None


def test_rights_are_given_up_in_order_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []

    def note(name: str, *, fails_for_root: bool = True) -> Callable[[Any], None]:
        def call(value: Any) -> None:
            calls.append((name, value))
            if value == 0 and fails_for_root:
                raise PermissionError

        return call

    for name in ("setgroups", "setgid", "setuid", "seteuid"):
        monkeypatch.setattr(os, name, note(name))
    account = Account(5, 6, (6, 7))
    account.become()
    changes = [("setgroups", (6, 7)), ("setgid", 6), ("setuid", 5)]
    assert calls == [*changes, ("setuid", 0), ("seteuid", 0)]

    monkeypatch.setattr(os, "seteuid", note("seteuid", fails_for_root=False))
    with pytest.raises(click.UsageError, match="can become root again"):
        account.become()


def test_container_that_may_not_change_users_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "setgroups", Mock(side_effect=PermissionError(1, "Operation not permitted")))
    with pytest.raises(click.UsageError, match="cannot become the user 5: Operation not permitted"):
        Account(5, 6, ()).become()


def test_acting_takes_the_rights_of_the_account_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    for name in ("setgroups", "setegid", "seteuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: calls.append((name, value)))
    with Account(5, 6, (7,)).acting():
        assert calls == [("setgroups", (7,)), ("setegid", 6), ("seteuid", 5)]
        calls.clear()
    assert calls == [("seteuid", 0), ("setegid", os.getegid()), ("setgroups", os.getgroups())]


@pytest.mark.parametrize(
    ("host", "uid", "account", "warns"),
    [
        ("0.0.0.0", 0, None, True),
        ("0.0.0.0", 0, Account(5, 6, ()), False),
        ("0.0.0.0", 5, None, False),
        ("127.0.0.1", 0, None, False),
    ],
)
def test_parsing_octets_of_strangers_as_root_is_noticed(
    host: str, uid: int, account: Account | None, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    server = settings(f"host = '{host}'")
    plan = Plan(server, App(), prepare_listeners(server, App(), ()), None, [], [], Limits(), account=account)
    assert plan.is_parsing_as_root is warns


def test_warning_of_root_names_the_option(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_root()
    assert "--user" in caplog.text


def identities(server: Running) -> set[str]:
    """Return the real, effective, saved and file system ids of all processes of a server."""
    pid = server.process.pid
    pids = [pid, *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    lines = [line for each in pids for line in Path(f"/proc/{each}/status").read_text().splitlines()]
    return {number for line in lines if line.startswith(("Uid:", "Gid:", "Groups:")) for number in line.split()[1:]}


@needs_root
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_no_process_of_a_server_with_user_has_rights_of_root(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With its own variable of Python, the server is no fork of a process that has imported all modules.
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):  # the data could not be written after the change
        monkeypatch.delenv(name, raising=False)
    arguments = ("--accept", "example.org", "--host", "0.0.0.0", "--user", "nobody", "--metrics-port", "0", *options)
    with TemporaryDirectory() as directory:  # only root may enter the directories of pytest
        os.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
        with running(Path(directory), *arguments) as server:
            assert identities(server) == {str(NOBODY.pw_uid), str(NOBODY.pw_gid)}
            send(server)
            (path,) = (server.maildir / "new").iterdir()
            assert path.stat().st_uid == NOBODY.pw_uid

    assert server.status == 0
    assert not [line for line in server.errors if "metrics at" not in line]
