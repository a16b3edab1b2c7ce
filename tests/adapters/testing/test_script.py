"""The lines of a fault script."""

import re

import pytest

from smtpcore import Bodies, Config
from smtpcore_adapters import App
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.testing import FaultError, Faults, Inbox, parse_fault
from smtpcore_adapters.testing import faults as documented
from tests.adapters.playbook import session


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("RCPT 451", "the arrow is missing: write a line such as RCPT 2 -> 451"),
        ("-> 451", "'' is not a verb, connect or message"),
        ("FOO -> 451", "'FOO' is not a verb, connect or message: write a line such as RCPT 2 -> 451"),
        ("BDAT -> 250", '250 cannot answer BDAT: write a refusal such as 451, or garbage "250 OK\\r\\n" to send it'),
        ("RCPT 3-x -> 451", "'3-x' cannot follow RCPT: write a number, a range such as 2-4 or 2-, MAIL <address>"),
        ("RCPT 3-2 -> 451", "the range 3-2 is empty: write 2-3"),
        ("RCPT -> drop then close", "drop has no argument: remove 'then close'"),
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
        (
            "DATA -> 250",
            '250 cannot answer DATA: write 354, a refusal such as 451, or garbage "250 OK\\r\\n" to send it',
        ),
        ("RCPT -> 354", "354 cannot answer RCPT: write 250"),
        ("MAIL -> 221", "221 cannot answer MAIL: write 250"),
        ("message -> 354", "354 cannot answer message: write 250"),
        ("DATA after 9 octets -> 354", "354 cannot answer message: write 250"),
        ("STARTTLS -> 250", "250 cannot answer STARTTLS: write 220"),
        ("AUTH -> 250", "250 cannot answer AUTH: write 235"),
        ("connect -> 354", "354 cannot answer connect: write 250"),
        ("QUIT -> 220", "220 cannot answer QUIT: write 250"),
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

    assert len(examples) == 14
    for example in examples:
        assert parse_fault(example).line == example.strip()


_EHLO, _MAIL, _RCPT, _DATA = b"EHLO c\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<a@s.example>\r\n", b"DATA\r\n"
_STEPS: dict[str, list[bytes]] = {
    "connect": [],
    "EHLO": [_EHLO],
    "HELO": [b"HELO c\r\n"],
    "MAIL": [_EHLO, _MAIL],
    "RCPT": [_EHLO, _MAIL, _RCPT],
    "DATA": [_EHLO, _MAIL, _RCPT, _DATA],
    "message": [_EHLO, _MAIL, _RCPT, _DATA, b".\r\n"],
    "AUTH": [_EHLO, b"AUTH PLAIN AGEAYg==\r\n"],
    **{verb: [_EHLO, verb.encode() + b"\r\n"] for verb in ("RSET", "NOOP", "QUIT", "STARTTLS", "HELP")},
    "VRFY": [_EHLO, b"VRFY x\r\n"],
}
_CONFIG = Config(
    hostname="s.example", bodies=Bodies.CHUNKS, plaintext_auth=True, auth_mechanisms=("PLAIN",), starttls=True
)


@pytest.mark.parametrize("event", _STEPS)
def test_code_is_sent_as_given_or_is_an_error(event: str) -> None:
    for code in (200, 214, 220, 221, 235, 250, 251, 334, 350, 354, 421, 450, 500, 521, 554):
        app = App()
        try:
            app.include(Faults(f"{event} -> {code}"))
        except FaultError:
            assert code < 400
            continue

        app.include(AnyRecipient())
        app.include(Inbox())
        assert session(app, config=_CONFIG).send(*_STEPS[event]).end().codes[len(_STEPS[event])] == code
