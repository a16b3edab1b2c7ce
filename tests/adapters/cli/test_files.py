"""Secrets and certificates in files."""

import ssl
from pathlib import Path

import pytest
import trustme

from smtpcore_adapters.cli._files import first_line, reason_of, trusting


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
