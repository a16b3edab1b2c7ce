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
        (
            "RCPT 3-x -> 451",
            "'3-x' cannot follow RCPT: write a number, a range such as 2-4 or 2-, every 3, 10%, first, over 10/min, "
            "MAIL <address>, or DATA after 3000 octets",
        ),
        ("RCTP -> 451", "'RCTP' is not a verb, connect or message: write RCPT"),
        ("massage -> 451", "'massage' is not a verb, connect or message: write message"),
        ("RCPT fist -> 451", "'fist' cannot follow RCPT: write RCPT first"),
        (
            "EHLO first -> 451",
            "'first' cannot follow EHLO: write EHLO 1, or first after connect, MAIL, RCPT, DATA, message",
        ),
        ("MAIL over 10 -> 421", "'over 10' cannot follow MAIL: write MAIL over 10/min"),
        ("MAIL 10/min -> 421", "'10/min' cannot follow MAIL: write MAIL over 10/min"),
        ("MAIL over 10/day -> 421", "'day' is not a unit of time: write over 10/s, over 10/min or over 10/h"),
        ("RCPT 0% -> 451", "0% is not a share: write a number between 0 and 100, such as 10%"),
        ("RCPT 101% -> 451", "101% is not a share"),
        ("RCPT 10 percent -> 451", "'10 percent' cannot follow RCPT: write RCPT 10%"),
        ("message evvery 3 -> delay 2", "'evvery 3' cannot follow message: write message every 3"),
        ("message every -> delay 2", "'every' cannot follow message: write message every 3"),
        ("DATA after 3000 -> drop", "'after 3000' cannot follow DATA: write DATA after 3000 octets"),
        ("RCPT -> drp", "'drp' is not an action: write drop"),
        ("RCPT -> 554 No, then dropp", "'then dropp' is not an action: write then drop"),
        ("RCPT -> 554 then rest", "'then rest' is not an action: write then reset"),
        ("RCPT -> stray", "stray needs a reply: write stray 250"),
        ("RCPT -> early what", "early needs a reply: write early 250"),
        ("RCPT -> stray 250 5.1.1 no", "enhanced status code '5.1.1' does not go with 250"),
        (
            "DATA after 9 octets -> stray 250",
            "an additional reply follows the usual reply: write message -> stray 250",
        ),
        ('RCPT -> line "X"', 'line is an action for EHLO and LHLO: write EHLO -> line "X-FOO 1"'),
        ("EHLO -> line X", 'line needs a quoted text: write EHLO -> line "X-FOO 1" instead of X'),
        ("EHLO -> line 5", 'line needs a quoted text: write EHLO -> line "X-FOO 1"'),
        ('EHLO -> line ""', 'line needs printable text of at most 500 octets, or write garbage ""'),
        (r'EHLO -> line "a\r\nb"', "line needs printable text of at most 500 octets"),
        ("EHLO -> line b'a'", "line needs printable text of at most 500 octets"),
        ("EHLO 2 -> no SIZE", "an extension is left out for all clients: write EHLO -> no SIZE"),
        (
            "TLS -> 454",
            "'454' is not an action for TLS: write expired certificate or wrong certificate or untrusted certificate, "
            "or STARTTLS -> 454",
        ),
        (
            "STARTTLS -> expired certificate",
            "a fault of the certificate belongs to TLS: write TLS -> expired certificate",
        ),
        ("TLS -> wrong name", "a fault of the certificate belongs to TLS: write TLS -> wrong certificate"),
        ("RCPT 3-2 -> 451", "the range 3-2 is empty: write 2-3"),
        ("RCPT -> drop then close", "drop has no argument: remove 'then close'"),
        ("RCPT two -> 451", "'two' cannot follow RCPT: write a number"),
        ("RCPT 0 -> 451", "'0' cannot follow RCPT"),
        ("DATA <a@b.example> -> 451", "'<a@b.example>' cannot follow DATA"),
        ("RCPT after 3 octets -> 451", "'after 3 octets' cannot follow RCPT"),
        ("RCPT <a@> -> 451", "'a@' is not a path"),
        (
            "RCPT -> explode",
            "'explode' is not an action: write a reply such as 451, or drop, reset, cut, garbage, delay, no, line, "
            "stray, early, expired, wrong, untrusted",
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

    assert len(examples) == 22
    for example in examples:
        assert parse_fault(example).line == example.strip()


@pytest.mark.parametrize("line", ["RCPT -> 550 No, then again", "MAIL -> 451 Try then"])
def test_text_of_a_reply_may_contain_the_word_then(line: str) -> None:
    fault = parse_fault(line)

    assert fault.reply
    assert f"{fault.event} -> {fault.reply}" == line
    assert not fault.closes


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("RCPT 2 -> 451", False),
        ("BDAT every 2 -> 552", False),
        ("RCPT 10% -> 451", False),
        ("MAIL -> 451", False),
        ("MAIL 2 -> 451", True),
        ("RCPT over 2/s -> 451", True),
        ("RCPT first -> 451", True),
        ("message every 3 -> drop", True),
    ],
)
def test_fault_knows_whether_it_counts_events_of_all_sessions(line: str, counts: bool) -> None:
    assert parse_fault(line).counts_sessions is counts


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
