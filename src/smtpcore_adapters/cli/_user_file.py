"""The file with the users of a server: `NAME:HASH` in each line, where the hash is that of `hash_password`."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from smtpcore.sasl import ScramKeys, saslprep

from ..users import parse_hash
from ._files import check_regular

_MODE = 0o600
# Excluded are also the line ends of Unicode, surrogates, which no UTF-8 has, and the byte order mark, which is ignored
# at the start of the file.
_match_name = re.compile(r"(?![#\s])[^:\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]+(?<!\s)").fullmatch


def prepare_name(name: str) -> str:
    """Return the name as a login has it, after SASLprep (RFC 4013).

    Raises `ValueError` if a file cannot have a user of this name.
    """
    reason = "a name has no colon and no control character, and begins with neither # nor a space"
    if _match_name(name):
        try:
            prepared = saslprep(name)
        except ValueError as exc:
            reason = f"SASLprep (RFC 4013) prohibits this name, because the {exc}"
        else:
            if _match_name(prepared):
                return prepared
    raise ValueError(f"{name!r:.100} cannot be a user: {reason}")


def read_user_file(path: Path) -> dict[str, ScramKeys]:
    """Return the keys of each user. Raises `OSError`, and `ValueError` with the number of the wrong line.

    Empty lines and lines that begin with # are ignored.
    """
    return dict(_entries(_lines(path)))


def _lines(path: Path) -> list[str]:
    # `str.splitlines` would end lines at further characters, so that the number of a wrong line would be too large.
    check_regular(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None


def _entries(lines: list[str]) -> Iterator[tuple[str, ScramKeys]]:
    found: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not _has_user(line):
            continue

        name, colon, text = line.partition(":")
        try:
            # This error does not quote the line, which may have a password.
            if not colon or not text.startswith("SCRAM-"):
                raise ValueError("after the name, a colon and a hash must follow: use smtpcore user add")

            name = prepare_name(name)
            if name in found:
                raise ValueError(f"{name} is in an earlier line too: remove one of them")
            keys = parse_hash(text)
        except ValueError as exc:
            raise ValueError(f"line {number}: {exc}") from None

        found.add(name)
        yield name, keys


def _has_user(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def change_user_file(path: Path, changes: Mapping[str, str | None]) -> None:
    """Set the hash of each user in `changes`, or remove the user if the hash is None. Keep all other lines.

    The names are those of `prepare_name`.

    A changed user moves to the end of the file. The file is replaced as a whole: after a crash it is the old file or
    the new file. Only its owner can read a new file. Raises `FileExistsError` while another process changes the file,
    other `OSError`s, and `ValueError` for a wrong line.
    """
    with _replacing(path) as new:
        lines = _lines(path) if path.exists() else []
        list(_entries(lines))  # checks the lines
        kept = [line for line in lines if not (_has_user(line) and prepare_name(line.partition(":")[0]) in changes)]
        kept += [f"{name}:{text}" for name, text in changes.items() if text]
        new.write("".join(f"{line}\n" for line in kept).encode())


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Create a file beside `path`, which replaces `path` at the end of the block, and excludes other processes."""
    path = path.resolve()  # a link to the file stays a link
    beside = path.with_name(f"{path.name}.new")
    file = open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb")  # noqa: SIM115 - closed below
    try:
        with file:
            _copy_access(path, file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink()
        raise


def _copy_access(path: Path, descriptor: int) -> None:
    if not path.exists() or not hasattr(os, "fchown"):
        return

    found = path.stat()
    os.fchmod(descriptor, found.st_mode & 0o777)
    with suppress(PermissionError):  # without root, the file gets the group of this process
        os.fchown(descriptor, found.st_uid, found.st_gid)
