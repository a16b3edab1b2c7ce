"""Run the tests of the core, the client, the fixture, the servers and the Maildir on simulated systems.

`simulation.py` says how. A pass shows that the code needs no name that the other system lacks; only a real machine
shows how its sockets and disks behave.
"""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

SERVERS = (
    "tests/adapters/server/test_asyncio.py",
    "tests/adapters/streams/test_socket_stream.py",
    "tests/adapters/streams/test_wakeup.py",
    "tests/adapters/test_asyncio.py",
    "tests/adapters/test_contract.py",
    "tests/adapters/test_maildir.py",
    "tests/adapters/test_socket.py",
)
OTHERS = (
    "tests/smtpcore/test_connection.py",
    "tests/smtpcore/test_client.py",
    "tests/adapters/client/test_connecting_over_sockets.py",
    "tests/adapters/client/test_over_sockets.py",
    "tests/adapters/testing/test_received.py",
    "tests/adapters/testing/test_server.py",
)
ON_WINDOWS = "tests/platforms/checks_on_windows.py"
ON_MACOS = "tests/platforms/checks_on_macos.py"


def test_servers_work_on_simulated_windows() -> None:
    run_suite("windows", "proactor", ON_WINDOWS, *SERVERS)


@pytest.mark.long
def test_client_and_fixture_work_on_simulated_windows() -> None:
    run_suite("windows", "proactor", *OTHERS)


@pytest.mark.long
@pytest.mark.parametrize("system", [("windows", "selector", ON_WINDOWS), ("macos", ON_MACOS)], ids=" ".join)
def test_suite_passes_on_a_simulated_system(system: tuple[str, ...]) -> None:
    run_suite(*system, *SERVERS, *OTHERS)


def run_suite(system: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"tests.platforms.{system}", *arguments]
    # PYTEST_ADDOPTS of this run may change how much is printed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
