"""The configuration in docs/scaling.md, and its figures."""

import re
from pathlib import Path

import pytest

from tests.adapters.command import run_in_process
from tests.paths import DOCS

PAGE = (DOCS / "scaling.md").read_text()
HAPROXY = (DOCS / "deploy" / "haproxy.cfg").read_text()
(FILE,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_file_of_a_node_is_valid(tmp_path: Path) -> None:
    (tmp_path / "smtpcore.toml").write_text(FILE)
    done = run_in_process("config", "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("key", ["port", "metrics_port", "drain_delay"])
def test_file_and_the_configuration_of_haproxy_agree(key: str) -> None:
    (value,) = re.findall(rf"^{key} = (\d+)$", FILE, re.MULTILINE)
    assert re.search(rf"--{key.replace('_', '-')} {value}\b", HAPROXY)


def test_haproxy_notices_a_stop_before_the_delay_is_over() -> None:
    (interval, fall), (delay,) = (
        re.findall(r"inter (\d+)s fall (\d+)", HAPROXY)[0],
        re.findall(r"drain_delay = (\d+)", FILE),
    )
    assert 2 * int(interval) * int(fall) < int(delay)
