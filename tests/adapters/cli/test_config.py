"""`smtpcore config` shows the settings with their origin, and checks them."""

import os
import tomllib
from datetime import UTC, date, datetime, time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from smtpcore_adapters.cli import _application
from smtpcore_adapters.cli.config import _toml
from tests.adapters.command import run_in_process

FILE = """\
hostname = "mx.example.org"
accept = "example.org"
auth = ["tim:secret"]
self_signed = true
max_hold_for = 60
max_hold_until = 2030-01-01T00:00:00Z
deliver = {url = "smtp://127.0.0.1", xclient = true}

[[listener]]
port = 25

[[listener]]
port = 465
tls = "implicit"
"""


def test_settings_are_shown_as_a_file_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / "smtpcore.toml").write_text(FILE)
    done = run_in_process("config", "--timeout", "5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    shown = tomllib.loads(done.stdout)
    assert shown.pop("auth") == "***"
    assert shown["listener"] == [{"port": 25}, {"port": 465, "tls": "implicit"}]
    assert (shown["timeout"], shown["deliver"]) == (5.0, [{"url": "smtp://127.0.0.1", "xclient": True}])
    assert "port" not in shown
    places = {line.split(" ")[0]: line.rpartition(" # ")[2] for line in done.stdout.splitlines()}
    assert (places["hostname"], places["timeout"], places["workers"]) == (
        "smtpcore.toml, line 1",
        "--timeout",
        "default",
    )
    assert "# tls_cert has no value" in done.stdout

    (tmp_path / "shown.toml").write_text(done.stdout.replace('"***"', '"tim:secret"'))
    again = run_in_process("config", "--config", "shown.toml", cwd=tmp_path)
    assert tomllib.loads(again.stdout) | {"auth": ""} == shown | {"auth": ""}


def test_settings_of_a_single_listener_are_shown_without_a_table(tmp_path: Path) -> None:
    done = run_in_process("config", "--port", "2526", cwd=tmp_path)
    assert tomllib.loads(done.stdout)["port"] == 2526
    assert "secret" not in run_in_process("config", "--auth", "tim:secret", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "value",
    [
        float("inf"),
        'a "b" \\ \n\x1b',
        "\xe9t\xe9 \x7f\x85\u2028\U0001f600",
        {"\xe9t\xe9 \U0001f600": [date(2026, 1, 1), time(7, 32), datetime(2026, 1, 1, tzinfo=UTC), True, 1]},
    ],
)
def test_value_is_shown_as_toml_in_ascii(value: object) -> None:
    shown = _toml(value)
    assert shown.isascii()
    assert shown.isprintable()
    assert tomllib.loads(f"x = {shown}") == {"x": value}


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        ([], 0, ""),
        (["--without", "FOO"], 2, "smtpcore: --without: 'FOO' is not an extension."),
        (["--host", "::", "--no-self-signed"], 2, "smtpcore: SMTPCORE_AUTH needs TLS"),
    ],
)
def test_check_reports_a_mistake_and_stores_nothing(
    tmp_path: Path, arguments: list[str], status: int, error: str
) -> None:
    options = ["--self-signed", "--maildir", "new"]
    done = run_in_process("config", "--check", *options, *arguments, cwd=tmp_path, auth="tim:secret")
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(error)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "package", "extra"),
    [(["--metrics-port", "0"], "prometheus_client", "metrics"), (["--reload"], "watchfiles", "reload")],
)
def test_check_names_a_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], package: str, extra: str
) -> None:
    monkeypatch.setattr(_application, "find_spec", lambda name: None if name == package else find_spec(name))
    done = run_in_process("config", "--check", *options, cwd=tmp_path)
    error = f"smtpcore: {options[0]} needs another package: pip install 'smtpcore[{extra}]'\n"
    assert (done.returncode, done.stderr) == (2, error)


@pytest.mark.parametrize("missing", ["new", "new/deep"])
def test_check_finds_a_maildir_that_cannot_be_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, *args, **options: path != tmp_path)
    done = run_in_process("config", "--check", "--maildir", f"{tmp_path}/{missing}")
    assert done.returncode == 2
    assert done.stderr.endswith(f": {tmp_path}: Permission denied\n")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_check_finds_a_maildir_that_the_user_of_the_server_cannot_write() -> None:
    with TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        done = run_in_process("config", "--check", "--user", "nobody", "--maildir", f"{directory}/Maildir")
        assert (done.returncode, done.stderr.endswith(f": {directory}: Permission denied\n")) == (2, True)
        os.chmod(directory, 0o777)
        done = run_in_process("config", "--check", "--user", "nobody", "--maildir", f"{directory}/Maildir")
        assert (done.returncode, done.stderr) == (0, "")
