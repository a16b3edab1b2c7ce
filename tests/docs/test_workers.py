"""The example of several worker processes in docs/server.md."""

import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.adapters.harness import TIMEOUT
from tests.docs.test_readme import source_of


def test_workers_of_the_example_count_an_address_together(tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(source_of("run_workers(").replace("2525", "0"))
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True))
        stack.callback(process.send_signal, signal.SIGTERM)
        assert process.stdout
        host, _, port = process.stdout.readline().strip().rpartition(":")
        answers = []
        for _ in range(21):
            client = stack.enter_context(socket.create_connection((host, int(port)), TIMEOUT))
            answers.append(client.recv(4))

    assert answers == [b"220 "] * 20 + [b"421 "]
    assert process.returncode == 0
