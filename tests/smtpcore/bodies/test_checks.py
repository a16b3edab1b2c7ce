"""The checks of a body: line ends, line lengths and size."""

from collections.abc import Iterable
from typing import Any

import pytest

from smtpcore import BareNewlines, ClientConfig, Config
from smtpcore._bodies._checks import BodyCheck

MAX_LINE = 1000
MAX_SIZE = 65_536
LINE = b"x" * (MAX_LINE - 2) + b"\r\n"
MESSAGE = (b"y" * 62 + b"\r\n") * (MAX_SIZE // 64)
ROOM_FOR_A_LINE = MESSAGE[-(MAX_SIZE - MAX_LINE) :]


def checked(runs: Iterable[bytes], **limits: Any) -> tuple[bytes, int | None]:
    check = BodyCheck(Config(hostname="s.example", **limits))
    passed = b"".join([check.pass_on(run) for run in runs])
    return passed, check.fault.reply.code if check.fault else None


LINES = [
    pytest.param(LINE * 3, LINE * 3, None, id="R5321-4.5.3.1.6-01"),
    (b"\r\n" + LINE + b"\r\n", b"\r\n" + LINE + b"\r\n", None),
    (b"x" * MAX_LINE, b"x" * MAX_LINE, None),
    (b"a\r\n" * 300 + LINE, b"a\r\n" * 300 + LINE, None),
    (b"x" + LINE, b"x" * (MAX_LINE - 1) + b"\r", 554),
    (b"a\r\n" + b"x" * 3000, b"a\r\n" + b"x" * MAX_LINE, 554),
    (LINE + b"x" + LINE + b"\r\n", LINE + b"x" * (MAX_LINE - 1) + b"\r", 554),
]


@pytest.mark.parametrize(("wire", "expected", "fault"), LINES)
def test_body_line_over_the_limit_is_cut_at_the_limit(wire: bytes, expected: bytes, fault: int | None) -> None:
    """R5321-2.3.8-04"""
    for size in (len(wire), 1000, 999, 7, 3):
        passed, found = checked(runs_of(wire, size), max_text_line=MAX_LINE)
        assert found == fault
        assert passed == expected


def runs_of(wire: bytes, size: int) -> list[bytes]:
    """Cut `wire` into runs of about `size` octets; no run ends between CR and LF."""
    runs = []
    while wire:
        end = size + (wire[size - 1 : size + 1] == b"\r\n")
        runs.append(wire[:end])
        wire = wire[end:]
    return runs


@pytest.mark.parametrize(
    ("wire", "expected", "fault"),
    [
        pytest.param(MESSAGE, MESSAGE, None, id="R5321-4.5.3.1.7-01"),
        pytest.param(MESSAGE + b"x", MESSAGE, 552, id="R1870-4-01"),
        pytest.param(MESSAGE * 2, MESSAGE, 552, id="twice the size"),
    ],
)
@pytest.mark.parametrize("size", [64, 999, 1_000_000])
def test_body_over_the_size_limit_is_cut_at_the_limit(
    wire: bytes, expected: bytes, fault: int | None, size: int
) -> None:
    assert checked(runs_of(wire, size), max_message_size=MAX_SIZE) == (expected, fault)


def test_body_size_can_be_unlimited() -> None:
    assert checked([MESSAGE] * 900, max_message_size=None) == (MESSAGE * 900, None)


@pytest.mark.parametrize(
    ("wire", "expected", "fault"),
    [
        pytest.param(b"a\nb" + b"x" * 1000, b"a", 550, id="a newline before a long line"),
        pytest.param(b"x" * 1000 + b"y\n", b"x" * 1000, 554, id="a long line before a newline"),
        pytest.param(b"x" * 1000 + b"\ny", b"x" * 1000, 550, id="both at the same octet"),
        pytest.param(MESSAGE + b"a\n" + b"x" * 1000, MESSAGE, 552, id="the size before both"),
        pytest.param(MESSAGE + b"\n", MESSAGE, 550, id="size and newline at the same octet"),
        pytest.param(
            ROOM_FOR_A_LINE + b"x" * 1001,
            ROOM_FOR_A_LINE + b"x" * 1000,
            554,
            id="size and line length at the same octet",
        ),
    ],
)
def test_earliest_fault_decides_for_any_segmentation(wire: bytes, expected: bytes, fault: int) -> None:
    for size in (len(wire), 1000, 64, 3, 1):
        assert checked(runs_of(wire, size), max_text_line=1000, max_message_size=MAX_SIZE) == (expected, fault)


def test_no_octet_is_passed_on_after_a_fault() -> None:
    assert checked([b"a\n", b"b\r\n", b"\n"]) == (b"a", 550)


@pytest.mark.parametrize("limits", [{"max_text_line": 1000}, {"max_message_size": MAX_SIZE}])
def test_limits_count_the_normalized_octets(limits: dict[str, int]) -> None:
    wire = b"\n" * MAX_SIZE
    passed, fault = checked([wire], bare_newlines=BareNewlines.NORMALIZE, **limits)

    assert passed == (b"\r\n" * MAX_SIZE)[: limits.get("max_message_size")]
    assert fault == (552 if "max_message_size" in limits else None)


def test_line_ends_and_line_lengths_of_a_binary_body_are_not_checked() -> None:
    check = BodyCheck(Config(hostname="s.example", max_text_line=1000, max_message_size=MAX_SIZE), binary=True)
    assert check.pass_on(b"a\nb\rc" + b"x" * 2000) == b"a\nb\rc" + b"x" * 2000

    check.pass_on(b"x" * MAX_SIZE)
    assert check.fault
    assert check.fault.rule == "max_message_size"


def test_body_check_of_a_client_has_no_size_limit() -> None:
    check = BodyCheck(ClientConfig(hostname="c.example"))

    assert check.pass_on(MESSAGE * 900) == MESSAGE * 900
    assert check.fault is None


def test_cr_at_the_end_of_a_run_is_held_back_until_the_next_run_or_the_end() -> None:
    check = BodyCheck(Config(hostname="s.example"))
    assert check.pass_on(b"a\r") == b"a"
    assert check.pass_on(b"\nb") == b"\r\nb"
    assert check.pass_on(b"c\r") == b"c"
    assert check.pass_on(b"", is_end=True) == b""
    assert check.fault
    assert check.fault.rule == "bare_newlines"


def test_body_check_continues_from_the_state_of_another() -> None:
    check, other = (BodyCheck(Config(hostname="s.example", max_text_line=1000)) for _ in range(2))
    check.pass_on(b"x" * 998 + b"\r")
    other.continue_from(check)

    assert other.pass_on(b"\n") == b"\r\n"
    assert check.pass_on(b"\n") == b"\r\n"
    assert check.fault is other.fault is None


def test_body_check_continues_with_the_line_length_and_the_fault_of_another() -> None:
    check, other = (BodyCheck(Config(hostname="s.example", max_text_line=1000)) for _ in range(2))
    check.pass_on(b"x" * 999)
    other.continue_from(check)
    other.pass_on(b"\r\n")
    assert other.fault
    assert other.fault.rule == "max_text_line"

    check.continue_from(other)
    assert check.fault is other.fault


def test_cr_at_the_end_of_a_run_is_a_fault_although_the_next_run_needs_no_check() -> None:
    check = BodyCheck(Config(hostname="s.example"))

    assert check.pass_on(b"a\r\nb\r") == b"a\r\nb"
    assert check.pass_on(b"c\n", is_paired=True) == b""
    assert check.fault
    assert check.fault.rule == "bare_newlines"
