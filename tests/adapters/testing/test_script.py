"""The lines of a fault script."""

import re

import pytest

from smtpcore_adapters.testing import FaultError, Faults, parse_fault
from smtpcore_adapters.testing import faults as documented


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("RCPT 451", "the arrow is missing: write a line such as RCPT 2 -> 451"),
        ("-> 451", "'' is not a verb, connect or message"),
        ("FOO -> 451", "'FOO' is not a verb, connect or message: write a line such as RCPT 2 -> 451"),
        ("BDAT -> 451", "'BDAT' is not a verb, connect or message"),
        ("RCPT two -> 451", "'two' cannot follow RCPT: write a number"),
        ("RCPT 0 -> 451", "'0' cannot follow RCPT"),
        ("DATA <a@b.example> -> 451", "'<a@b.example>' cannot follow DATA"),
        ("RCPT after 3 octets -> 451", "'after 3 octets' cannot follow RCPT"),
        ("RCPT <a@> -> 451", "'a@' is not a path"),
        (
            "RCPT -> explode",
            "'explode' is not an action: write a reply such as 451, or drop, reset, cut, garbage, delay, no",
        ),
        ("RCPT ->", "'' is not an action"),
        ("RCPT -> 451 5.1.1 no", "enhanced status code '5.1.1' does not go with 451"),
        ("RCPT -> 299", "'299' is not an action"),
        ("RCPT -> drop it", "drop has no argument: remove 'it'"),
        ("RCPT -> reset it", "reset has no argument: remove 'it'"),
        ("RCPT -> cut", "cut needs a number of octets: write cut 3"),
        ("RCPT -> delay", "delay needs a number of seconds, at most 3600: write delay 2"),
        ("RCPT -> delay -1", "delay needs a number of seconds"),
        ("RCPT -> delay nan", "delay needs a number of seconds"),
        ("RCPT -> garbage what", "garbage needs a quoted text: write garbage"),
        ("RCPT -> garbage 5", "garbage needs a quoted text: write garbage"),
        ("RCPT -> no SIZE", "no is an action for EHLO and LHLO: write EHLO -> no PIPELINING"),
        ("EHLO -> no SUCH", "'SUCH' is not an extension: write EHLO -> no PIPELINING"),
    ],
)
def test_invalid_line_raises_an_error_with_a_valid_example(line: str, why: str) -> None:
    with pytest.raises(FaultError) as failure:
        Faults("RCPT 2 -> 451", line)

    assert str(failure.value).startswith(f"fault {line!r}: {why}")


def test_each_documented_example_is_valid() -> None:
    examples = re.findall(r"^    (\S.*? -> .*?)  +\S.*$", documented.__doc__ or "", re.MULTILINE)

    assert len(examples) == 11
    for example in examples:
        assert parse_fault(example).line == example.strip()
