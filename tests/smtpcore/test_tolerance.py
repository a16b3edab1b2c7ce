"""`Tolerance.LENIENT`: the mistakes in command lines that are accepted."""

from typing import Any

import pytest

from smtpcore import (
    OFF_BY_DEFAULT,
    Bdat,
    Command,
    Ehlo,
    InvalidCommand,
    Mail,
    OriginalRecipient,
    Path,
    Rcpt,
    Submitter,
    Tolerance,
    UnknownCommand,
    Xforward,
)
from smtpcore._tolerance import LIBERTIES

from ..playbook import GREETED, HELO, MAIL, RCPT, READY, server

LENIENT: dict[str, Any] = {"tolerance": Tolerance.LENIENT}
DSN: dict[str, Any] = {"disabled": OFF_BY_DEFAULT - {"DSN"}}
AUTH: dict[str, Any] = {"auth_mechanisms": ("PLAIN",), "plaintext_auth": True}
XFORWARD: dict[str, Any] = {"disabled": OFF_BY_DEFAULT - {"XFORWARD"}}

# A line that only a lenient server accepts, the corrected line, and the deviations.
HELLOS = [
    *((f"EHLO {name}", f"EHLO {name}", ["hello-name"]) for name in ("my_box", "_", "box.local.", "-host", "(none)")),
    *((f"EHLO {name}", f"EHLO {name}", ["hello-name"]) for name in ("*", "user@host", "host/1", "My PC", "[1.2.3.4")),
    ("EHLO PhpStorm 9.0.3", "EHLO PhpStorm 9.0.3", ["hello-name"]),
    ("EHLO b\u00fcro-pc", "EHLO b\u00fcro-pc", ["hello-name"]),
    ("HELO laptop.", "HELO laptop.", ["hello-name"]),
    ("EHLO  c.example", "EHLO c.example", ["blanks"]),
    ("EHLO  My PC \t", "EHLO My PC", ["hello-name"]),
    ("EHLO X_X", "EHLO X_X", ["hello-name"]),
]
SENDERS = [
    ("MAIL FROM: <a@c.example>", "MAIL FROM:<a@c.example>", ["blank-before-path"]),
    ("MAIL FROM: <>", "MAIL FROM:<>", ["blank-before-path"]),
    ("MAIL FROM: <a@c.example> \t", "MAIL FROM:<a@c.example>", ["blank-before-path"]),
    ("mail from: <a@c.example> size=10", "MAIL FROM:<a@c.example> SIZE=10", ["blank-before-path"]),
    ("MAIL FROM:   <a@c.example>", "MAIL FROM:<a@c.example>", ["blanks", "blank-before-path"]),
    ("MAIL FROM:<a@c.example>  SIZE=10", "MAIL FROM:<a@c.example> SIZE=10", ["blanks"]),
    ("MAIL FROM:<a@c.example>\tSIZE=10 \t BODY=7BIT", "MAIL FROM:<a@c.example> SIZE=10 BODY=7BIT", ["blanks"]),
    ("MAIL  FROM:<a@c.example>", "MAIL FROM:<a@c.example>", ["blanks"]),
    ('MAIL  FROM:<"a  b"@c.example>', 'MAIL FROM:<"a  b"@c.example>', ["blanks"]),
    ("MAIL FROM:< a@c.example >", "MAIL FROM:<a@c.example>", ["blanks-in-brackets"]),
    ('MAIL FROM:<" > "@c.example > SIZE=9', 'MAIL FROM:<" > "@c.example> SIZE=9', ["blanks-in-brackets"]),
    ("MAIL FROM:a@c.example", "MAIL FROM:<a@c.example>", ["no-brackets"]),
    ("MAIL FROM:a@c.example SIZE=10", "MAIL FROM:<a@c.example> SIZE=10", ["no-brackets"]),
    ('MAIL FROM:"a > b"@c.example', 'MAIL FROM:<"a > b"@c.example>', ["no-brackets"]),
    ("MAIL FROM: size=9@c.example", "MAIL FROM:<size=9@c.example>", ["blank-before-path", "no-brackets"]),
    ("MAIL FROM:<ilo.@c.example>", "MAIL FROM:<ilo.@c.example>", ["local-part"]),
    ("MAIL FROM:<first..last@c.example>", "MAIL FROM:<first..last@c.example>", ["local-part"]),
    ("MAIL FROM:<@b.example:.a@c.example>", "MAIL FROM:<@b.example:.a@c.example>", ["local-part"]),
    ("MAIL FROM:<.@[192.0.2.1]>", "MAIL FROM:<.@[192.0.2.1]>", ["local-part"]),
    ("MAIL FROM:<a@my_host>", "MAIL FROM:<a@my_host>", ["domain"]),
    ('MAIL FROM:<"a@b"@my_host>', 'MAIL FROM:<"a@b"@my_host>', ["domain"]),
    ("MAIL FROM:<a@-c.example>", "MAIL FROM:<a@-c.example>", ["domain"]),
    ("MAIL FROM:<a@c-.example>", "MAIL FROM:<a@c-.example>", ["domain"]),
    ("MAIL FROM:<root>", "MAIL FROM:<root>", ["no-domain"]),
    ("MAIL FROM:Postmaster", "MAIL FROM:<Postmaster>", ["no-brackets", "no-domain"]),
    (
        "MAIL  FROM: a..b@my_host  SIZE=9",
        "MAIL FROM:<a..b@my_host> SIZE=9",
        ["blanks", "blank-before-path", "no-brackets", "local-part", "domain"],
    ),
    ("MAIL FROM:<a@c.example> AUTH=<>", "MAIL FROM:<a@c.example>", ["auth-parameter"]),
    ("MAIL FROM:<a@c.example> AUTH=<a@b> SIZE=9", "MAIL FROM:<a@c.example> SIZE=9", ["auth-parameter"]),
    (
        'MAIL FROM: <"a AUTH=b "@c.example> auth',
        'MAIL FROM:<"a AUTH=b "@c.example>',
        ["blank-before-path", "auth-parameter"],
    ),
    ("MAIL FROM:<\u00e9..@c.example> SMTPUTF8", "MAIL FROM:<\u00e9..@c.example> SMTPUTF8", ["local-part"]),
]
RECIPIENTS = [
    ("RCPT TO: <u@s.example>", "RCPT TO:<u@s.example>", ["blank-before-path"]),
    ("RCPT TO:u@s.example", "RCPT TO:<u@s.example>", ["no-brackets"]),
    ("RCPT TO:u@X", "RCPT TO:<u@X>", ["no-brackets"]),
    ("rcpt  to:<u@s.example>", "RCPT TO:<u@s.example>", ["blanks"]),
    ("RCPT TO:postmaster", "RCPT TO:<postmaster>", ["no-brackets"]),
    ("RCPT TO:<root>", "RCPT TO:<root>", ["no-domain"]),
    ("RCPT TO:<u@my_host>", "RCPT TO:<u@my_host>", ["domain"]),
]
LINES = [
    *((GREETED, *row) for row in HELLOS),
    *((READY, *row) for row in SENDERS),
    *((MAIL, *row) for row in RECIPIENTS),
]


def taken(before: bytes, line: str | bytes, **changes: Any) -> Command | UnknownCommand | InvalidCommand:
    line = line.encode() if isinstance(line, str) else line
    event = server(before, **{**LENIENT, **changes}).send(line + b"\r\n").events[0]
    assert isinstance(event, Command | UnknownCommand | InvalidCommand)
    return event


@pytest.mark.parametrize(("before", "line", "clean", "deviations"), LINES)
def test_lenient_server_corrects_the_line_and_names_the_deviations(
    before: bytes, line: str, clean: str, deviations: list[str]
) -> None:
    event = taken(before, line)

    assert isinstance(event, Command)
    assert (str(event), event.deviations) == (clean, tuple(deviations))
    assert taken(before, clean) == event


@pytest.mark.parametrize(("before", "line", "clean", "deviations"), LINES)
def test_strict_server_refuses_lines_that_a_lenient_server_tolerates(
    before: bytes, line: str, clean: str, deviations: list[str]
) -> None:
    assert isinstance(taken(before, line, tolerance=Tolerance.STRICT), InvalidCommand)


# Lines that no server accepts, with the code of the reply of a lenient server.
REFUSED = [
    *((GREETED, line, 501) for line in (b"EHLO", b"EHLO ", b"HELO  ", b"EHLO a\x01", b"EHLO a\x00b", b"EHLO a\tb\t")),
    *((GREETED, line, 501) for line in (b"EHLO a\xc2\x85b", b"EHLO a\x9b1m", b"EHLO a\x7f", b"EHLO a\xe2\x80\xae")),
    *((GREETED, line, 501) for line in (b"EHLO \tc.example", b"EHLO c.example\x0b", b"EHLO \x1fc.example")),
    (GREETED, b"EHLO " + b"x" * 600, 500),
    *((READY, b"MAIL " + rest, 501) for rest in (b"FROM :<a@c>", b"FROM:<a@c>SIZE=1", b"FROM:<a@c", b"FROM:<<a@c>>")),
    *((READY, b"MAIL " + rest, 501) for rest in (b"FROM:Scan <a@c>", b"FROM:", b"FROM: SIZE=9", b"", b"a@c")),
    *((READY, b"MAIL FROM:<a@c> " + rest, 501) for rest in (b"SIZE=", b"BODY=9BIT", b"=", b"SIZE=1 SIZE=1")),
    *((READY, b"MAIL FROM:<" + path + b">", 501) for path in (b"a b@c", b"a@c..d", b"a,b@c", b"a@c.")),
    *((READY, b"MAIL FROM:<" + path + b">", 501) for path in (b"a\x00@c", b"\x1ba@c", b"a\xfc@c", b"a@[1]")),
    (READY, b"MAIL FROM:<a\xc2\x85@c> SMTPUTF8", 501),
    (READY, b"MAIL FROM: <a\xc3\xbc@c.example>", 550),
    (READY, b"MAIL FROM: <a@c> RET=FULL", 555),
    (READY, b"MAIL FROM: <a@c> X=1", 555),
    (READY, b"MAIL FROM: <a@c> SIZE=99999999999", 552),
    (READY, b"MAIL FROM: <" + b"x" * 600 + b"@c>", 500),
    (READY, b"MAIL\tFROM:<a@c>", 500),
    (READY, b"MAIL FROM:<a\r@c>", 500),
    (READY, b"MAIL FROM: <a@c>\x0b", 501),
    (MAIL, b"RCPT TO:<a@b> <c@d>", 501),
    (MAIL, b"RCPT TO:<>", 501),
    (MAIL, b"RCPT TO: <>", 501),
    (MAIL, b"RCPT TO: <u@s> NOTIFY=NEVER", 555),
    (READY, b"DATA\t x", 503),
    (READY, b"RSET  x", 501),
]  # fmt: skip


@pytest.mark.parametrize(("before", "line", "code"), REFUSED)
def test_lenient_server_refuses_lines_without_a_single_meaning(before: bytes, line: bytes, code: int) -> None:
    book = server(before, **LENIENT).send(line + b"\r\n")

    assert [type(event) for event in book.events] == [InvalidCommand]
    assert book.codes == [code]


def test_hello_without_a_name_gets_the_same_refusal_from_every_server() -> None:
    for verb in ("EHLO", "HELO"):
        reply = f"501 Syntax: {verb} and your domain, or your address in brackets"
        for changes in ({}, LENIENT):
            server(GREETED, **changes).send(f"{verb}\r\n".encode()).expect(reply)


def test_limit_of_a_line_counts_before_its_correction() -> None:
    # R1870-3-04, R3030-3-03, R6531-3.1-04: the parameters of three extensions lengthen MAIL.
    longest = 512 + 26 + 16 + 10 - len("\r\n")
    line = b"MAIL  FROM:<" + b"a" * 498 + b"@c.example> SIZE=1 BODY=BINARYMIME SMTPUTF8"

    assert getattr(taken(READY, line.ljust(longest)), "deviations", None) == ("blanks",)
    server(READY, **LENIENT).send(line.ljust(longest + 1) + b"\r\n").expect(500)
    server(MAIL, **LENIENT).send(b"RCPT TO: <u@s.example>".ljust(510) + b"\r\n").expect(250)
    server(MAIL, **LENIENT).send(b"RCPT TO: <u@s.example>".ljust(511) + b"\r\n").expect(500)


def test_correct_commands_have_no_deviations() -> None:
    for before, line in [(GREETED, "EHLO c.example"), (READY, "MAIL FROM:<a@c.example> SIZE=1"), (READY, "NOOP  x")]:
        event = taken(before, line)
        assert isinstance(event, Command)
        assert event.deviations == ()

    unknown = taken(READY, "XYZ")
    assert isinstance(unknown, UnknownCommand)
    assert unknown.deviations == Mail(Path("")).deviations == ()


def test_hello_name_that_is_not_utf_8_is_decoded_as_latin_1() -> None:
    event = taken(GREETED, b"EHLO b\xfcro-pc")

    assert isinstance(event, Ehlo)
    assert (event.domain, event.deviations) == ("b\u00fcro-pc", ("hello-name",))


@pytest.mark.parametrize(
    ("params", "auth"),
    [
        ("AUTH=<a@c.example>", "<>"),
        ("AUTH=a@", "<>"),
        ("AUTH=+zz", "<>"),
        ("AUTH", "<>"),
        ("AUTH=a=b", "<>"),
        ("AUTH=first..last@c.example", "first..last@c.example"),
    ],
)
def test_unusable_submitter_counts_as_unknown(params: str, auth: str) -> None:
    """RFC 4954 section 5"""
    event = taken(READY, f"MAIL FROM:<a@c.example> {params} SIZE=9", **AUTH)

    assert isinstance(event, Mail)
    assert str(event) == f"MAIL FROM:<a@c.example> AUTH={auth} SIZE=9"
    assert event.deviations == ("auth-parameter" if auth == "<>" else "carried-value",)
    assert isinstance(taken(READY, f"MAIL FROM:<a@c> {params}", tolerance=Tolerance.STRICT, **AUTH), InvalidCommand)


def test_usable_submitter_is_kept_beside_another_deviation() -> None:
    event = taken(READY, "MAIL FROM: <a@c.example> AUTH=e+3Dmc2@c.example", **AUTH)

    assert isinstance(event, Mail)
    assert isinstance(event.params.auth, Submitter)
    assert (str(event.params.auth), event.deviations) == ("e+3Dmc2@c.example", ("blank-before-path",))


def test_size_and_body_are_accepted_after_helo() -> None:
    for params in ("SIZE=1000", "BODY=8BITMIME", "SIZE=1000 BODY=7BIT"):
        event = taken(HELO, f"MAIL FROM:<a@c.example> {params}")
        assert isinstance(event, Mail)
        assert (str(event), event.deviations) == (f"MAIL FROM:<a@c.example> {params}", ("helo-parameter",))

    without = {"disabled": OFF_BY_DEFAULT | {"SIZE"}}
    for params, code, changes in [
        ("SIZE=99999999999", 552, {}),
        ("SIZE=9", 555, without),
        ("SMTPUTF8", 555, {}),
        ("X=1", 555, {}),
    ]:
        refused = taken(HELO, f"MAIL FROM:<a@c.example> {params}", **changes)
        assert isinstance(refused, InvalidCommand)
        assert refused.reply.code == code


@pytest.mark.parametrize("text", ["rfc822;b+C3+BC@s.example", "rfc822;b+c3+bc@s.example", "utf-8;b+C3+BC@s.example"])
def test_lenient_server_keeps_a_malformed_original_recipient_unchanged(text: str) -> None:
    """RFC 3461 5.2.1 (d)"""
    event = taken(MAIL, f"RCPT TO:<u@s.example> ORCPT={text}", **DSN)

    assert isinstance(event, Rcpt)
    assert event.params.orcpt == OriginalRecipient(text)
    assert (str(event), event.deviations) == (f"RCPT TO:<u@s.example> ORCPT={text}", ("carried-value",))


def test_lenient_server_keeps_a_malformed_envelope_id_unchanged() -> None:
    event = taken(READY, "MAIL FROM:<a@c.example> ENVID=+C3+BC+FF", **DSN)

    assert (str(event), getattr(event, "deviations", None)) == (
        "MAIL FROM:<a@c.example> ENVID=+C3+BC+FF",
        ("carried-value",),
    )
    assert isinstance(taken(READY, "MAIL FROM:<a@c.example> ENVID=+0D+0A", **DSN), InvalidCommand)


def test_attributes_for_the_log_may_have_any_octets() -> None:
    event = taken(READY, "XFORWARD HELO=b+FCro  NAME=+c3+bc", **XFORWARD)

    assert isinstance(event, Xforward)
    assert dict(event.attributes) == {"HELO": "b\ufffdro", "NAME": "\u00fc"}
    assert event.deviations == ("blanks", "carried-octets")
    assert isinstance(taken(READY, "XFORWARD HELO=+0D+0A", **XFORWARD), InvalidCommand)


def test_extra_blanks_do_not_change_the_size_of_a_chunk() -> None:
    book = server(RCPT, **LENIENT).send(b"BDAT  3\tLAST\r\nabcNOOP\r\n")

    assert book.events[0] == Bdat(3, last=True)
    assert getattr(book.events[0], "deviations", None) == ("blanks",)
    assert book.codes == [250, 250]
    # A lenient server also skips the octets of a refused chunk.
    server(READY, **LENIENT).send(b"BDAT  5\r\nNOOP\nNOOP\r\n").expect(503, 250)
    server(RCPT, **LENIENT).send(b"BDAT  x\r\n").expect(521)


def test_tolerated_line_is_refused_in_the_wrong_state() -> None:
    server(READY, **LENIENT).send(b"RCPT  TO:<u@s.example>\r\n").expect(503)


@pytest.mark.parametrize("end", [b"", b">", b"<", b' x"<', b"\x01"])
@pytest.mark.parametrize(
    "filling", [b'"\\', b'\\"', b' "', b" \t", b"a@", b" AUTH", b'"a', b'"a"<', b'a"b"', b'"" ', b"> "]
)
def test_quotes_and_blanks_are_examined_in_linear_time(filling: bytes, end: bytes) -> None:
    # If a part of a line could be matched in two ways, matching many of these lines would take forever.
    changes = {**LENIENT, "max_command_line": 100_000}
    for start in (b"MAIL FROM:", b"MAIL FROM:<", b"MAIL FROM: <", b"BDAT 1 ", b"EHLO "):
        server(READY, cut=False, **changes).send(start + filling * (80_000 // len(filling)) + end + b"\r\n")


def test_each_tolerated_mistake_is_listed_once() -> None:
    names = [liberty.name for liberty in LIBERTIES]

    assert len(set(names)) == len(names)
    assert all(liberty.section.startswith("RFC ") and liberty.example for liberty in LIBERTIES)
