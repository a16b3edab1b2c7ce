"""The benchmark of servers under TLS."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import tls
from benchmarks.contenders import POSTFIX, Contender
from benchmarks.tls import Sample

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the benchmarks need Linux")


def test_every_load_is_measured_under_tls() -> None:
    found = tls.measure(["asyncio"], rounds=1, seconds=0.01)
    assert set(found) == {"asyncio"}
    assert set(found["asyncio"]) == set(tls.WORKS)
    assert all(sample.rate > 0 for samples in found["asyncio"].values() for sample in samples)
    assert [sample.resumed for sample in found["asyncio"]["full"]] == [0]
    assert [sample.resumed for sample in found["asyncio"]["resumed"]] == [1]


def test_missing_server_is_skipped_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tls.SERVERS, "postfix", Contender("Postfix", lambda port: [], lambda: "not installed"))
    assert tls.measure(["postfix"], rounds=1, seconds=0) == {}
    assert capsys.readouterr().err == "skipped: postfix: not installed\n"


def test_postfix_needs_its_programs_and_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    assert "by root" in (POSTFIX.missing() or "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert POSTFIX.missing() is None
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert POSTFIX.missing() == "Postfix is not installed"


def test_table_has_medians_and_ratios_of_each_round() -> None:
    def samples(*rates: float, resumed: float) -> list[Sample]:
        return [Sample(rate, resumed) for rate in rates]

    found = {
        "asyncio": {name: samples(3_000, 1_000, 2_000, resumed=0.5) for name in tls.WORKS},
        "aiosmtpd": {name: samples(1_000, 1_000, 1_000, resumed=0) for name in tls.WORKS},
    }
    assert list(tls.table(found))[2:] == [
        "| smtpcore, asyncio |" + " 2,000 | 2.00 x |" * 4 + " 50% |",
        "| aiosmtpd |" + " 1,000 | 1.00 x |" * 4 + " 0% |",
    ]
    assert list(tls.table({"asyncio": found["asyncio"]}))[2] == "| smtpcore, asyncio |" + " 2,000 | - |" * 4 + " 50% |"


def test_cpu_time_includes_children_that_have_ended() -> None:
    child = "subprocess.run([sys.executable, '-c', 'sum(range(3_000_000))'])"
    program = f"import subprocess, sys; {child}; print('done', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"done\n"
        assert tls.family(process.pid) == {process.pid}
        own = tls._own_time_of(process.pid)
        assert tls.cpu_time(process.pid) > own
        assert process.pid in tls.family(os.getpid())
        process.stdin.close()
