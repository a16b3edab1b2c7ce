"""Any octets as a file of users give the keys of each user, or an error with the line and without its text.

A change of one user keeps all other users.
"""

import shutil
import tempfile
from atexit import register
from pathlib import Path

from smtpcore.sasl import ScramKeys
from smtpcore_adapters.cli._user_file import change_user_file, prepare_name, read_user_file
from smtpcore_adapters.users import hash_password, parse_hash

from .harness import Draw, check_time

DIRECTORY = Path(tempfile.mkdtemp())
register(shutil.rmtree, DIRECTORY, ignore_errors=True)
FILE = DIRECTORY / "users"
HASH = hash_password("secret")
ERRORS = (
    "after the name, a colon and a hash must follow",
    "a hashed password has the form",
    "cannot be a user",
    "is in an earlier line too",
)


def read_or_none(content: bytes) -> dict[str, ScramKeys] | None:
    """Return the users of a file with this content, None if the file is refused."""
    FILE.write_bytes(content)
    try:
        return read_user_file(FILE)
    except ValueError as exc:
        check_error(str(exc), content.count(b"\n") + content.count(b"\r") + 1)
        return None


def check_error(text: str, lines: int) -> None:
    """Check that the text of an error names a line of the file."""
    place, _, reason = text.partition(": ")
    if place != "the file is not UTF-8":
        assert 1 <= int(place.removeprefix("line ")) <= lines
        assert any(error in reason for error in ERRORS)


def is_name(name: str) -> bool:
    """Return whether a user may have this name."""
    try:
        return prepare_name(name) == name  # `read_user_file` returns the names in this form
    except ValueError:
        return False


def check_change(users: dict[str, ScramKeys], name: str) -> None:
    """Check that a user can be added, changed and removed, and that all other users stay."""
    for text, expected in ((HASH, {**users, name: parse_hash(HASH)}), (None, users)):
        change_user_file(FILE, {name: text})
        assert read_user_file(FILE) == expected


def test_one_input(data: bytes) -> None:
    """Use the input as the content of a file, after a name on a line of its own."""
    draw = Draw(data)
    choice = draw.byte()
    first, _, content = draw.rest().partition(b"\n")
    name = first.decode(errors="surrogateescape")
    users = read_or_none(content)
    if users is not None:
        assert all(map(is_name, users))
        if is_name(name) and name not in users:
            check_change(users, name)

    middle = len(content) // 2
    check_time(lambda times: read_or_none(content[:middle] + content[middle : middle + 32] * times), choice)
