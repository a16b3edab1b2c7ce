"""The certificates of `smtpcore serve`: their files, and warnings about their dates."""

import logging
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from smtpcore_adapters.cli._certificates import Certificates, date_warning
from tests.adapters.command import run_in_process, running

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)


def write(directory: Path, name: str, *, begin: timedelta, end: timedelta, now: datetime = NOW) -> tuple[str, str]:
    """Write a certificate and its key, and return their paths."""
    made = trustme.CA().issue_cert("s.example", not_before=now + begin, not_after=now + end)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    made.cert_chain_pems[0].write_to_path(str(certificate))
    made.private_key_pem.write_to_path(str(key))
    return str(certificate), str(key)


@pytest.mark.parametrize(
    ("begin", "end", "warning"),
    [
        (-60, 8, ""),
        (-60, 7, "the certificate {} expires soon: it is valid until 2026-05-24 12:00 UTC"),
        (-60, 0, "the certificate {} has expired: it was valid until 2026-05-17 12:00 UTC"),
        (1, 60, "the certificate {} is not valid yet: it is valid from 2026-05-18 12:00 UTC"),
    ],
)
def test_certificate_that_clients_refuse_now_or_soon_is_a_warning(
    tmp_path: Path, begin: int, end: int, warning: str
) -> None:
    chain, _ = write(tmp_path, "a", begin=timedelta(begin), end=timedelta(end))
    assert date_warning(chain, NOW) == warning.format(chain)


def test_each_certificate_of_a_chain_counts(tmp_path: Path) -> None:
    chain, _ = write(tmp_path, "a", begin=timedelta(-60), end=timedelta(60))
    other, _ = write(tmp_path, "b", begin=timedelta(-60), end=timedelta(-1))
    Path(chain).write_bytes(Path(chain).read_bytes() + Path(other).read_bytes())
    assert "has expired: it was valid until 2026-05-16" in date_warning(chain, NOW)


def test_certificate_that_cannot_be_read_is_no_warning(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert date_warning(str(tmp_path / "a.pem"), NOW) == ""
    assert date_warning(str(tmp_path / "missing.pem"), NOW) == ""


def test_warning_is_logged_at_each_load_once_for_each_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    good = write(tmp_path, "good", begin=timedelta(-1), end=timedelta(60), now=now)
    old = write(tmp_path, "old", begin=timedelta(-60), end=timedelta(-1), now=now)
    certificates = Certificates(*good, {"a.example": old, "b.example": old, "c.example": good})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"the certificate {old[0]} has expired" in caplog.text

    certificates.reload()
    assert len(caplog.records) == 2


def test_check_of_the_settings_warns_of_an_expired_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, key = write(tmp_path, "old", begin=timedelta(-60), end=timedelta(-1), now=datetime.now(UTC))
    done = run_in_process("config", "--check", "--tls-cert", chain, "--tls-key", key, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert caplog.messages[0].startswith(f"the certificate {chain} has expired")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_server_warns_at_sighup_and_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    chain, key = write(tmp_path, "a", begin=timedelta(-1), end=timedelta(60), now=now)
    with running(tmp_path, "--tls-cert", chain, "--tls-key", key) as server:
        assert server.process.stderr
        write(tmp_path, "a", begin=timedelta(-60), end=timedelta(-1), now=now)
        server.process.send_signal(signal.SIGHUP)
        assert f"the certificate {chain} has expired" in server.process.stderr.readline()

        Path(key).unlink()
        os.mkfifo(key)
        server.process.send_signal(signal.SIGHUP)
        assert "the old one stays in use: it is not a regular file" in server.process.stderr.readline()
    assert server.status == 0
