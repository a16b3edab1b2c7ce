"""The file of users: names and hashes, replaced as a whole."""

import os
import stat
from pathlib import Path

import pytest

from smtpcore_adapters.cli._user_file import change_user_file, prepare_name, read_user_file
from smtpcore_adapters.users import hash_password, parse_hash

HASH = hash_password("s3cret")
OTHER = hash_password("other")


def test_users_are_added_changed_and_removed_and_other_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# people\n\ntim:{HASH}\ntom:{HASH}\n")

    change_user_file(path, {"tim": OTHER, "tom": None, "ann@s.example": HASH, "nobody": None})

    assert path.read_text() == f"# people\n\ntim:{OTHER}\nann@s.example:{HASH}\n"
    assert read_user_file(path) == {"tim": parse_hash(OTHER), "ann@s.example": parse_hash(HASH)}
    assert [each.name for each in tmp_path.iterdir()] == ["users"]


def test_only_the_owner_can_read_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    change_user_file(path, {"tim": HASH})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_changed_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.touch()
    path.chmod(0o640)
    change_user_file(path, {"tim": HASH})
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "users", tmp_path / "link"
    path.write_text(f"tom:{HASH}\n")
    link.symlink_to(path)
    change_user_file(link, {"tim": OTHER})
    assert link.is_symlink()
    assert [*read_user_file(path)] == ["tom", "tim"]


def test_change_works_without_unix_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fchown")
    path = tmp_path / "users"
    path.touch()
    change_user_file(path, {"tim": HASH})
    assert [*read_user_file(path)] == ["tim"]


def test_file_that_another_process_changes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"tim:{HASH}\n")
    (tmp_path / "users.new").touch()
    with pytest.raises(FileExistsError, match=r"users\.new"):
        change_user_file(path, {"tom": HASH})
    assert path.read_text() == f"tim:{HASH}\n"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("tim:s3cret", "line 1: after the name, a colon and a hash must follow: use smtpcore user add"),
        ("s3cret", "line 1: after the name, a colon and a hash must follow"),
        (f"# x\ntim:{HASH}\ntim:{HASH}", "line 3: tim is in an earlier line too: remove one of them"),
        ("tim:SCRAM-SHA-256$s3cret", "line 1: a hashed password has the form SCRAM-SHA-256"),
        ("# \x0c \u2028 \x85\ns3cret", "line 2: after the name"),
        (f":{HASH}", "line 1: '' cannot be a user"),
        (f" tim:{HASH}", "line 1: ' tim' cannot be a user"),
        (f"IX:{HASH}\n\u2168:{HASH}", "line 2: IX is in an earlier line too: remove one of them"),
        (f"a\u06271:{HASH}", "line 1: 'a\u06271' cannot be a user: SASLprep .* prohibits this name"),
    ],
)
def test_wrong_line_is_an_error_that_shows_no_secret(tmp_path: Path, content: str, error: str) -> None:
    path = tmp_path / "users"
    path.write_text(content)
    with pytest.raises(ValueError, match=error.replace("$", r"\$")) as caught:
        read_user_file(path)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="line"):
        change_user_file(path, {"tom": HASH})
    assert path.read_text() == content
    assert [each.name for each in tmp_path.iterdir()] == ["users"]


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"tim:{HASH}\n", encoding="utf-8-sig")
    assert [*read_user_file(path)] == ["tim"]


def test_file_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="the file is not UTF-8"):
        read_user_file(path)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a:b",
        "#a",
        " a",
        "a ",
        "a\nb",
        "a\x00",
        "a\x9f",
        "a\u2028b",
        "\udcff",
        "\ufeffa",
        "\xad",
        "\uff03a",
        "\u06271",
    ],
)
def test_name_that_no_line_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a user"):
        prepare_name(name)


@pytest.mark.parametrize("name", ["a", "ann@s.example", "jürgen", "a b", "a#"])
def test_name_may_have_any_other_character(name: str) -> None:
    assert prepare_name(name) == name


def test_user_has_the_name_of_a_login(tmp_path: Path) -> None:
    # A terminal of macOS may send the accent as a character of its own.
    path = tmp_path / "users"
    path.write_text(f"# a\x07:b\nju\u0308rgen:{HASH}\n", encoding="utf-8")
    assert [*read_user_file(path)] == ["j\xfcrgen"]
    assert prepare_name("ju\u0308rgen") == "j\xfcrgen"
    change_user_file(path, {"j\xfcrgen": OTHER})
    assert path.read_text(encoding="utf-8") == f"# a\x07:b\nj\xfcrgen:{OTHER}\n"
