"""Secrets and certificates in files."""

import os
import ssl
from pathlib import Path

import pytest
import trustme

from smtpcore_adapters.cli._files import check_regular, first_line, reason_of, trusting
from tests.adapters.command import run_in_process


def ssl_error(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "in OpenSSL")
    error.reason = reason  # type: ignore[assignment]
    return error


def test_first_line_is_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2\nmore\n")
    assert first_line(str(file)) == "hunter2"
    for content in ("", "\nhunter2\n"):
        file.write_text(content)
        with pytest.raises(ValueError, match="has to be the password") as info:
            first_line(str(file))
        assert "hunter2" not in str(info.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (ValueError("line 1: wrong"), "line 1: wrong"),
        (ssl_error("KEY_VALUES_MISMATCH"), "the key belongs to another certificate"),
        (ssl_error("EE_KEY_TOO_SMALL"), "the key is too short for OpenSSL"),
        (ssl_error("PEM lib"), "use a certificate chain and a private key without a password, both in PEM"),
        (ssl_error(None), "use a certificate chain and a private key without a password, both in PEM"),
    ],
)
def test_reason_says_what_is_wrong_with_a_file(error: OSError | ValueError, reason: str) -> None:
    assert reason_of(error) == reason


def test_context_trusts_the_authorities_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ca"
    trustme.CA().cert_pem.write_to_path(file)
    context = trusting(str(file))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    file.write_text("none")
    with pytest.raises(ValueError, match="has no certificate in PEM"):
        trusting(str(file))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        trusting(str(tmp_path / "nowhere"))


needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")


@needs_fifo
@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--self-signed", "--users", "fifo"],
        ["serve", "--config", "fifo"],
        ["serve", "--tls-cert", "fifo", "--tls-key", "key"],
        ["serve", "--tls-cert", "cert", "--tls-key", "fifo"],
        ["serve", "--deliver", "smtps://s.example?tls_ca=fifo"],
        ["serve", "--deliver", "smtps://s.example?user=tim&password_file=fifo"],
        ["serve", "--deliver", "nats://s.example/MAIL?credentials=fifo"],
        ["serve", "--deliver", "nats://s.example/MAIL?tls_cert=cert&tls_key=fifo"],
        ["serve", "--deliver", "https://s.example/?secret_file=fifo"],
        ["user", "list", "--users", "fifo"],
        ["user", "add", "tim", "--users", "fifo"],
        ["send", "--server", "127.0.0.1:9", "--to", "a@s.example", "--tls-ca", "fifo"],
    ],
)
def test_no_command_waits_for_a_fifo(tmp_path: Path, arguments: list[str]) -> None:
    os.mkfifo(tmp_path / "fifo")
    made = trustme.CA().issue_cert("s.example")
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    made.private_key_pem.write_to_path(str(tmp_path / "key"))

    done = run_in_process(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.endswith(": it is not a regular file\n")


@needs_fifo
def test_pipe_of_a_shell_may_have_the_settings_or_a_secret(tmp_path: Path) -> None:
    for content, use in ((b"port = 25000\n", check_config), (b"hunter2\n", check_secret)):
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        use(f"/dev/fd/{reading}")
        os.close(reading)

    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="it is not a regular file"):
        check_regular(tmp_path / "fifo", may_be_open=True)


def check_config(path: str) -> None:
    assert "port = 25000" in run_in_process("config", "--config", path).stdout


def check_secret(path: str) -> None:
    assert first_line(path) == "hunter2"
