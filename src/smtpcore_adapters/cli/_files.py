"""Secrets and certificates in files that settings name."""

import errno
import os
import ssl
import stat
from pathlib import Path
from typing import Protocol


class Checking(Protocol):
    """A server that may only be checked."""

    @property
    def is_check(self) -> bool: ...


def check_regular(path: str | Path, *, may_be_open: bool = False) -> None:
    """Raise `OSError` for a FIFO, a socket or a device: to open or to read it could block forever.

    With `may_be_open`, a pipe may be a descriptor that is open already, such as that of `<(command)` in a shell.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # the function that reads the file reports this error
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (may_be_open and str(path).startswith(_OPEN)):
        return

    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def trusting(file: str) -> ssl.SSLContext:
    """Return a TLS context that trusts the CA certificates in a file. Raises `ValueError` or `OSError`."""
    try:
        check_regular(file)
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError as exc:
        raise ValueError(f"tls_ca: {file} has no certificate in PEM") from exc
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, file) from exc


def reason_of(exc: OSError | ValueError) -> str:
    """Return why a file, or a certificate with its key, cannot be used."""
    if isinstance(exc, ssl.SSLError):
        return _REASONS.get(exc.reason or "", _NOT_PEM)

    return getattr(exc, "strerror", None) or str(exc)


_NOT_PEM = "use a certificate chain and a private key without a password, both in PEM"
_REASONS = {
    "KEY_VALUES_MISMATCH": "the key belongs to another certificate",
    "EE_KEY_TOO_SMALL": "the key is too short for OpenSSL",
    "CA_MD_TOO_WEAK": "OpenSSL refuses its signature algorithm, which is too weak",
}


def first_line(path: str, what: str = "password") -> str:
    """Return the first line of a file, which is a password or another secret. Raises `ValueError` or `OSError`."""
    check_regular(path, may_be_open=True)
    lines = Path(path).read_text().splitlines()
    if not lines or not lines[0]:
        raise ValueError(f"the first line of {path} has to be the {what}")

    return lines[0]
