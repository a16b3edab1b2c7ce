"""Behaviour of smtpcore on macOS only. `test_platforms.py` runs these tests on a simulated macOS."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smtpcore_adapters import TlsMode
from smtpcore_adapters.maildir import Maildir
from smtpcore_adapters.server._workers import spreads_connections
from smtpcore_adapters.socket import connect
from smtpcore_adapters.testing import SmtpServer
from tests.platforms import macos
from tests.platforms.running import RUNS, check_run


def test_maildir_syncs_the_file_and_the_directory_with_f_fullfsync(tmp_path: Path) -> None:
    store = Maildir(tmp_path)
    before = macos.full_syncs
    with SmtpServer(handlers=[store]) as server, connect(server.host, server.port, tls=TlsMode.NONE) as client:
        assert client.send("a@c.example", ["b@s.example"], b"Subject: x\r\n\r\n")
    assert len(list((tmp_path / "new").iterdir())) == 1
    assert macos.full_syncs == before + 2


def test_workers_share_one_listening_socket() -> None:
    assert not spreads_connections()


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_run_of_each_adapter_serves_until_a_signal(run: Callable[..., None]) -> None:
    check_run(run)
