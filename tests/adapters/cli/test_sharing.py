"""The store for several machines and the greylist of `smtpcore serve`."""

import signal
import smtplib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from smtpcore_adapters.cli._sharing import counting, greylist, shared_counts
from smtpcore_adapters.greylist import Greylist
from smtpcore_adapters.server._counts import MemoryCounts
from smtpcore_adapters.shared_limits import RedisCounts
from tests.adapters.cli.settings import settings
from tests.adapters.command import TIMEOUT, run_in_process, running
from tests.adapters.redis_server import PASSWORD, RedisServer, redis_server

DEAD = "redis://:secret@127.0.0.1:1"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def codes(*ports: int) -> list[int]:
    """Return the code of a RCPT at each port, in sessions that stay open until the last."""
    clients = [smtplib.SMTP("127.0.0.1", port, "c.example", timeout=TIMEOUT) for port in ports]
    found = []
    for client in clients:
        client.ehlo()
        client.mail("a@c.example")
        found.append(client.rcpt("b@s.example")[0])
    for client in clients:
        client.close()
    return found


@pytest.mark.parametrize("backend", ["asyncio", "trio", "threads"])
def test_servers_with_the_same_store_share_limits_and_the_greylist(
    backend: str, tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.client as client:
        client.flushall()
    monkeypatch.setenv("SMTPCORE_SHARED_LIMITS", f"{redis.url}?timeout={TIMEOUT}")
    options = ("--backend", backend, "--greylist", "60", "--max-connections-per-address", "1", "--workers", "2")
    with running(tmp_path / "one", *options) as one, running(tmp_path / "other", *options) as other:
        with smtplib.SMTP("127.0.0.1", one.port, "c.example", timeout=TIMEOUT), pytest.raises(smtplib.SMTPException):
            smtplib.SMTP("127.0.0.1", other.port, "c.example", timeout=TIMEOUT)
        with redis.client as client:
            while client.hgetall("smtpcore:connections:127.0.0.1"):
                pass
            assert codes(other.port) == [451]
            (key,) = client.keys("smtpcore:greylist:*")
            client.hincrbyfloat(key, "time", -61)
            while client.hgetall("smtpcore:connections:127.0.0.1"):
                pass
            assert codes(one.port) == [250]
    assert [line for line in (*one.errors, *other.errors) if "refused" not in line] == []


def test_killed_server_frees_its_connections(
    tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.client as client:
        client.flushall()
    monkeypatch.setenv("SMTPCORE_SHARED_LIMITS", f"{redis.url}?timeout={TIMEOUT}&lease=0.3")
    options = ("--max-connections-per-address", "1")
    with (
        running(tmp_path / "one", *options) as one,
        running(tmp_path / "other", *options) as other,
        smtplib.SMTP("127.0.0.1", one.port, "c.example", timeout=TIMEOUT) as session,
    ):
        assert greeting(other.port) == 421
        one.process.kill()
        while greeting(other.port) == 421:
            pass
        session.close()
    assert one.status == -signal.SIGKILL


def greeting(port: int) -> int:
    """Return the code of the greeting."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client, client.makefile() as replies:
        return int(replies.readline()[:3])


def test_unreachable_store_is_one_warning_and_no_refusal(tmp_path: Path) -> None:
    with running(tmp_path, "--shared-limits", DEAD, "--greylist", "60") as server:
        assert codes(server.port, server.port) == [250, 250]
    (record,) = server.errors
    assert "shared limits: no answer from 127.0.0.1:1, so this process counts alone" in record


def test_greylist_alone_counts_with_all_workers(tmp_path: Path) -> None:
    with running(tmp_path, "--greylist", "0.001", "--workers", "2") as server:
        found = codes(*[server.port] * 8)
    assert found[0] == 451
    assert set(found) <= {250, 451}
    assert found[-1] == 250


def test_counts_of_the_workers_are_those_of_the_machine() -> None:
    workers, passed = MemoryCounts(), dict[str, Any]()
    shared, greylist = RedisCounts(DEAD), Greylist()
    run = counting(lambda **options: passed.update(options), shared, greylist)
    run(counts=workers, on_ready=None)
    assert passed == {"counts": shared, "on_ready": None}
    assert (shared.local, greylist.counts) == (workers, shared)
    assert shared._is_closed

    run = counting(lambda **options: passed.update(options), None, greylist)
    run()
    assert passed["counts"] is greylist.counts
    assert counting(run, None, None) is run

    run = counting(lambda **options: passed.update(options), shared, None)
    run()
    assert passed["counts"] is shared


@pytest.mark.usefixtures("_directory")
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("shared_limits = 'http://:secret@x'", "line 1: shared_limits: the URL of the store must be like redis://"),
        ("greylist = 14400", "line 1: greylist: delay is 14400.0: it must be"),
        ("greylist = 60\napp = 'x:y'", "line 1: greylist and app exclude each other: include a Greylist in the app"),
    ],
)
def test_mistake_is_reported_with_its_place_and_without_the_secret(text: str, error: str) -> None:
    read = shared_counts if "shared_limits" in text else greylist
    with pytest.raises(click.UsageError) as caught:
        read(settings(text))
    assert error in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.usefixtures("_directory")
def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smtpcore_adapters.shared_limits", None)
    with pytest.raises(click.UsageError, match=r"pip install 'smtpcore\[shared-limits\]'"):
        shared_counts(settings(f"shared_limits = '{DEAD}'"))


def test_password_of_the_store_is_never_shown(tmp_path: Path) -> None:
    done = run_in_process("config", "--shared-limits", DEAD)
    assert 'shared_limits = "***"' in done.stdout
    assert "secret" not in done.stdout + done.stderr
    assert PASSWORD != "secret"
