"""`smtpcore user` adds, removes and lists the users of a file."""

from pathlib import Path

import click
import pytest

from smtpcore_adapters.cli import main
from smtpcore_adapters.cli._user_file import read_user_file
from smtpcore_adapters.users import hash_password
from tests.adapters.command import run_in_process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def user(path: Path, *arguments: str, password: bytes = b"s3cret\n") -> tuple[int, str, str]:
    done = run_in_process("user", *arguments, "--users", str(path), stdin=password)
    return done.returncode, done.stdout, done.stderr


def test_users_are_added_listed_and_removed(path: Path) -> None:
    assert user(path, "add", "tom") == (0, "", "")
    assert user(path, "add", "ann@s.example") == (0, "", "")
    assert user(path, "list") == (0, "ann@s.example\ntom\n", "")
    assert user(path, "remove", "tom") == (0, "", "")
    assert user(path, "list") == (0, "ann@s.example\n", "")
    assert "s3cret" not in path.read_text()


def test_existing_user_gets_a_new_password_only_on_request(path: Path) -> None:
    user(path, "add", "tom")
    before = read_user_file(path)
    assert user(path, "add", "tom") == (
        2,
        "",
        "smtpcore: the user tom exists: set a new password with --replace\n",
    )
    assert read_user_file(path) == before
    assert user(path, "add", "tom", "--replace", password=b"other\n") == (0, "", "")
    assert read_user_file(path) != before


def test_name_is_written_as_a_login_has_it(path: Path) -> None:
    assert user(path, "add", "ju\u0308rgen") == (0, "", "")
    assert user(path, "list") == (0, "j\xfcrgen\n", "")
    assert "the user j\xfcrgen exists" in user(path, "add", "ju\u0308rgen")[2]
    assert user(path, "remove", "ju\u0308rgen") == (0, "", "")
    assert user(path, "list") == (0, "", "")


def test_file_of_the_variable_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPCORE_USERS", str(path))
    assert run_in_process("user", "add", "tom", stdin=b"s3cret\n").returncode == 0
    assert run_in_process("user", "list").stdout == "tom\n"


@pytest.mark.parametrize("password", [b"", b"\n"])
def test_empty_password_is_an_error(path: Path, password: bytes) -> None:
    error = "smtpcore: the password is empty: write it at the terminal, or to standard input\n"
    assert user(path, "add", "tom", password=password) == (2, "", error)


def test_unknown_user_is_an_error(path: Path) -> None:
    path.write_text(f"tim:{hash_password('x')}\n")
    assert user(path, "remove", "tom") == (
        2,
        "",
        f"smtpcore: there is no user tom in {path}: see smtpcore user list\n",
    )


@pytest.mark.parametrize(
    ("arguments", "password", "error"),
    [
        (["add", "a:b"], b"x\n", "'a:b' cannot be a user: a name has no colon"),
        (["add", "tom"], b"", "the password is empty"),
        (["add", "tom"], b"a\x07b\n", "the password cannot be used with SCRAM"),
        (["remove", "tom"], b"", "cannot use"),
        (["list"], b"", "No such file or directory"),
    ],
)
def test_wrong_input_is_one_clear_line(path: Path, arguments: list[str], password: bytes, error: str) -> None:
    status, output, errors = user(path, *arguments, password=password)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert error in errors
    assert not path.exists()


def test_wrong_file_is_one_clear_line(path: Path) -> None:
    path.write_text("tom:s3cret\n")
    for arguments in (["add", "ann"], ["remove", "tom"], ["list"]):
        status, _, errors = user(path, *arguments)
        assert status == 2
        assert errors.startswith("smtpcore: ")
        assert errors.endswith("line 1: after the name, a colon and a hash must follow: use smtpcore user add\n")


def test_unreadable_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    status, _, errors = user(tmp_path / "users" / "file", "add", "tom")
    assert status == 2
    assert errors == f"smtpcore: cannot use {tmp_path / 'users' / 'file'}: Not a directory\n"


def test_change_by_another_process_is_one_clear_line(path: Path) -> None:
    path.with_name("users.new").touch()
    assert user(path, "add", "tom") == (
        2,
        "",
        f"smtpcore: another process changes {path}; if there is none, remove {path}.new\n",
    )


def test_missing_file_option_is_an_error() -> None:
    done = run_in_process("user", "list")
    assert (done.returncode, done.stderr) == (2, "smtpcore: Missing option '--users'.\n")


def test_password_is_asked_for_twice_on_a_terminal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    asked: list[dict[str, object]] = []

    def prompt(text: str, **options: object) -> str:
        asked.append({"text": text, **options})
        return "s3cret"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(click, "prompt", prompt)
    assert main(["user", "add", "tim", "--users", str(path)]) == 0
    assert asked == [{"text": "Password of tim", "hide_input": True, "confirmation_prompt": True, "err": True}]
