from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    OFF_BY_DEFAULT,
    BodyType,
    Command,
    Config,
    Data,
    Ehlo,
    Expn,
    Extension,
    Helo,
    Help,
    Mail,
    Noop,
    Parameter,
    Params,
    Path,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    UnknownCommand,
    Vrfy,
)
from smtpcore._commands import COMMANDS
from smtpcore._dialects import Dialect, dialect_of
from smtpcore._parser import CommandRejected, parse_command, verb_of


def raise_with_unsafe_text(text: str) -> str:
    raise ValueError(f"{text} is none of\r\nours \u00e9 " + "x" * 600)


OWN = Extension(
    keyword="XOWN",
    mail=(
        Parameter(keyword="XFLAG", kind=bool, parse=lambda text: text == "", octets=7),
        Parameter(keyword="XBAD", kind=str, parse=raise_with_unsafe_text, octets=9),
    ),
    rcpt=(Parameter(keyword="XTEXT", kind=str, parse=lambda text: text, octets=500),),
    verbs=frozenset({"XOWN"}),
)
OTHERS = OFF_BY_DEFAULT - {"EXPN"}
CONFIG = Config(hostname="s.example", starttls=True, disabled=OTHERS)


def dialect(
    *, extended: bool = True, tls: bool = False, disabled: frozenset[str] = frozenset(), can_tls: bool = True
) -> Dialect:
    config = Config(hostname="s.example", starttls=can_tls, disabled=disabled | OTHERS)
    return dialect_of((*EXTENSIONS, OWN), config, tls=tls, extended=extended)


TOO_LONG = Reply(500, "Line too long", enhanced="5.5.2")
FULL = dialect()
PLAIN = dialect(extended=False)


def parse(line: bytes, dialect: Dialect = FULL) -> Command | UnknownCommand:
    return parse_command(verb_of(line), line, dialect)


def answer(line: bytes, dialect: Dialect) -> Any:
    try:
        return parse(line, dialect)
    except CommandRejected as exc:
        return exc.refusal.reply


def refused(line: bytes, dialect: Dialect = FULL) -> Reply:
    with pytest.raises(CommandRejected) as caught:
        parse(line, dialect)
    return caught.value.refusal.reply


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"HELO c.example", Helo("c.example")),
        (b"EHLO c.example", Ehlo("c.example")),
        pytest.param(b"EHLO [192.0.2.1]", Ehlo("[192.0.2.1]"), id="R5321-4.1.1.1-12"),
        (b"EHLO [IPv6:2001:db8::1]", Ehlo("[IPv6:2001:db8::1]")),
        (b"MAIL FROM:<a@c.example>", Mail(Path("a@c.example"))),
        pytest.param(b"MAIL FROM:<>", Mail(Path("")), id="R5321-4.1.1.2-02"),
        pytest.param(b"mAiL fRoM:<a@c.example>", Mail(Path("a@c.example")), id="R5321-2.4-01"),
        (b"MAIL FROM:<@b.example:a@c.example>", Mail(Path("@b.example:a@c.example"))),
        pytest.param(b"MAIL FROM:<a%b!c@c.example>", Mail(Path("a%b!c@c.example")), id="R5321-2.3.11-01"),
        pytest.param(b'MAIL FROM:<"a b"@c.example>', Mail(Path('"a b"@c.example')), id="R5321-4.1.2-04"),
        (b'MAIL FROM:<"a>b"@c.example>', Mail(Path('"a>b"@c.example'))),
        (b'MAIL FROM:<"a\\"> b"@c.example> SIZE=1', Mail(Path('"a\\"> b"@c.example'), Params({"SIZE": 1}))),
        pytest.param(
            b"MAIL FROM:<a@c.example> SIZE=10 BODY=8BITMIME SMTPUTF8",
            Mail(Path("a@c.example"), Params({"SIZE": 10, "BODY": BodyType.EIGHT_BIT_MIME, "SMTPUTF8": True})),
            id="R5321-4.1.1.2-04",
        ),
        pytest.param(
            b"MAIL from:<a@c.example> size=10 body=8bitmime",
            Mail(Path("a@c.example"), Params({"SIZE": 10, "BODY": BodyType.EIGHT_BIT_MIME})),
            id="R5321-2.4-02",
        ),
        (b"MAIL FROM:<a@c.example> XFLAG", Mail(Path("a@c.example"), Params({"XFLAG": True}))),
        (b"MAIL FROM:<a@c.example> XFLAG=1", Mail(Path("a@c.example"), Params({"XFLAG": False}))),
        (b'MAIL FROM:<a@c.example> XFLAG="', Mail(Path("a@c.example"), Params({"XFLAG": False}))),
        pytest.param(
            "MAIL FROM:<\u7528\u6237@\u4f8b.example> SMTPUTF8".encode(),
            Mail(Path("\u7528\u6237@\u4f8b.example"), Params({"SMTPUTF8": True})),
            id="R6531-3.2-01",
        ),
        (b"RCPT TO:<u@s.example>", Rcpt(Path("u@s.example"))),
        (b"rcpt to:<u@s.example> xtext=a", Rcpt(Path("u@s.example"), Params({"XTEXT": "a"}))),
        pytest.param(b"RCPT TO:<postmaster>", Rcpt(Path("postmaster")), id="R5321-2.3.5-02"),
        (b"DATA", Data()),
        (b"RSET", Rset()),
        (b"QUIT", Quit()),
        (b"STARTTLS", StartTls()),
        (b"NOOP", Noop()),
        pytest.param(b"NOOP anything at all", Noop("anything at all"), id="R5321-4.1.1.9-02"),
        pytest.param(b'NOOP "a b"', Noop("a b"), id="R5321-4.1.2-11"),
        (b"HELP", Help()),
        (b"HELP MAIL", Help("MAIL")),
        (b"VRFY Joe Smith", Vrfy("Joe Smith")),
        (b'VRFY "Joe Smith"', Vrfy("Joe Smith")),
        pytest.param(b"VRFY joe SMTPUTF8", Vrfy("joe", smtputf8=True), id="R6531-3.1-06"),
        (b'VRFY "joe" smtputf8', Vrfy("joe", smtputf8=True)),
        (b"VRFY SMTPUTF8", Vrfy("SMTPUTF8")),
        ("VRFY joe \u017fMTPUTF8".encode(), Vrfy("joe \u017fMTPUTF8")),
        ("VRFY \u00e9".encode(), Vrfy("\u00e9")),
        (b"EXPN list", Expn("list")),
        (b"EXPN list SMTPUTF8", Expn("list", smtputf8=True)),
        (b"XOWN a  b", UnknownCommand("XOWN", "a  b")),
        (b"xfrobnicate", UnknownCommand("XFROBNICATE", "")),
    ],
)
def test_valid_line_is_parsed_into_a_command(line: bytes, command: Command | UnknownCommand) -> None:
    assert parse(line) == command
    assert parse(line + b" \t ") == command


@pytest.mark.parametrize(
    ("line", "code", "enhanced"),
    [
        (b"", 500, "5.5.2"),
        (b" NOOP", 500, "5.5.2"),
        (b"\tNOOP", 500, "5.5.2"),
        (b"-X", 500, "5.5.2"),
        (b"RSET\tx", 500, "5.5.2"),
        (b"\xff", 500, "5.5.2"),
        ("XF\u00d6\u00d6 a".encode(), 500, "5.5.2"),
        ("XFOO \u00e9".encode(), 500, "5.5.2"),
        (b"XFOO a\x00", 500, "5.5.2"),
        pytest.param(b"EHLO", 501, "5.5.4", id="R5321-4.1.1.1-11"),
        (b"HELO", 501, "5.5.4"),
        (b"EHLO  c.example", 501, "5.5.4"),
        (b"EHLO -bad-", 501, "5.5.4"),
        pytest.param(b"EHLO [192.0.2.1] some text", 501, "5.5.4", id="R5321-4.1.1.1-02"),
        ("EHLO b\u00fccher.example".encode(), 501, "5.5.4"),
        (b"EHLO c.example\x00", 501, "5.5.4"),
        pytest.param(b"RSET x", 501, "5.5.4", id="R5321-4.1.1-03"),
        (b"RSET\t x", 501, "5.5.4"),
        (b"DATA x", 501, "5.5.4"),
        (b"QUIT x", 501, "5.5.4"),
        (b"STARTTLS now", 501, "5.5.4"),
        pytest.param(b"MAIL", 501, "5.5.4", id="R5321-4.1.1.2-03"),
        (b"MAIL a@c.example", 501, "5.5.4"),
        (b"MAIL FROM:a@c.example", 501, "5.5.4"),
        (b"MAIL TO:<a@c.example>", 501, "5.5.4"),
        (b"MAIL FROM:", 501, "5.5.4"),
        (b"MAIL FROM:<a@c.example", 501, "5.5.4"),
        (b'MAIL FROM:<"a@c.example>', 501, "5.5.4"),
        pytest.param(b"MAIL FROM: <a@c.example>", 501, "5.5.4", id="R5321-3.3-06"),
        (b"MAIL FROM :<a@c.example>", 501, "5.5.4"),
        (b"MAIL  FROM:<a@c.example>", 501, "5.5.4"),
        pytest.param(b"MAIL FROM:<a..b@c.example>", 501, "5.1.7", id="R3463-3.2-01"),
        (b"MAIL FROM:<Postmaster>", 501, "5.1.7"),
        (b"MAIL FROM:<<a@c.example>>", 501, "5.5.4"),
        (b'MAIL FROM:<"a"b"@c.example>', 501, "5.5.4"),
        pytest.param(b"MAIL FROM:<a@[IPv6:2001:db8::zz]>", 501, "5.1.7", id="R5321-4.1.3-02"),
        pytest.param(b"MAIL FROM:<\xff@c.example>", 501, "5.5.4", id="R6531-3.3-01: stray octet"),
        pytest.param(b"MAIL FROM:<\xc0\xaf@c.example>", 501, "5.5.4", id="R6531-3.3-01: overlong encoding"),
        pytest.param(b"MAIL FROM:<\xed\xa0\x80@c.example>", 501, "5.5.4", id="R6531-3.3-01: surrogate"),
        pytest.param(b"RCPT TO:<a\x07@s.example>", 501, "5.5.4", id="R5321-4.1.2-08"),
        (b"RCPT TO:<a..b@s.example>", 501, "5.1.3"),
        (b"RCPT TO:<>", 501, "5.1.3"),
        (b"RCPT FROM:<u@s.example>", 501, "5.5.4"),
        pytest.param(b"RCPT TO:<a@s.example>,<b@s.example>", 501, "5.5.4", id="R5321-4.1.1.3-08"),
        (b"RCPT TO:<a@s.example> <b@s.example>", 501, "5.5.4"),
        pytest.param(b"MAIL FROM:<> =1", 501, "5.5.4", id="R5321-4.1.2-01"),
        (b"MAIL FROM:<> -A=1", 501, "5.5.4"),
        pytest.param(b"MAIL FROM:<> SIZE=1=2", 501, "5.5.4", id="R5321-4.1.2-02"),
        (b"MAIL FROM:<> SIZE=", 501, "5.5.4"),
        (b"MAIL FROM:<>  SIZE=1", 501, "5.5.4"),
        (b"MAIL FROM:<>SIZE=1", 501, "5.5.4"),
        (b"MAIL FROM:<>\tSIZE=1", 501, "5.5.4"),
        pytest.param("MAIL FROM:<>\u3000".encode(), 501, "5.5.4", id="trailing non-ASCII space"),
        ("MAIL FROM:<> \u017fIZE=1".encode(), 501, "5.5.4"),
        pytest.param(b"MAIL FROM:<> SIZE=1 SIZE=2", 501, "5.5.4", id="R1870-6-01"),
        pytest.param(b"MAIL FROM:<> BODY=7BIT body=8BITMIME", 501, "5.5.4", id="R6152-3-01"),
        pytest.param(b"MAIL FROM:<> SIZE", 501, "5.5.4", id="R1870-3-03"),
        (b"MAIL FROM:<> SIZE=abc", 501, "5.5.4"),
        (b"MAIL FROM:<> SIZE=123456789012345678901", 501, "5.5.4"),
        (b"MAIL FROM:<> BODY=9BIT", 501, "5.5.4"),
        (b"MAIL FROM:<> BODY", 501, "5.5.4"),
        (b"MAIL FROM:<> SMTPUTF8=1", 501, "5.5.4"),
        pytest.param(b"MAIL FROM:<> FOO=BAR", 555, "5.5.4", id="R5321-4.1.1.11-01"),
        (b"MAIL FROM:<> XTEXT=1", 555, "5.5.4"),
        (b"RCPT TO:<u@s.example> FOO", 555, "5.5.4"),
        (b"RCPT TO:<u@s.example> SIZE=1", 555, "5.5.4"),
        pytest.param(b"VRFY", 501, "5.5.4", id="R5321-4.1.1.6-02"),
        (b'VRFY ""', 501, "5.5.4"),
        (b'VRFY "" SMTPUTF8', 501, "5.5.4"),
        pytest.param(b"EXPN", 501, "5.5.4", id="R5321-4.1.1.7-02"),
        (b"VRFY joe SMTPUTF8=1", 501, "5.5.4"),
        (b"NOOP \x7f", 501, "5.5.4"),
        ("NOOP \u00e9".encode(), 501, "5.5.4"),
        pytest.param(b"TURN", 502, "5.5.1", id="R5321-4.2.4-01"),
        pytest.param(b"SEND FROM:<a@c.example>", 502, "5.5.1", id="R5321-F.6-02"),
        (b"soml from:<a@c.example>", 502, "5.5.1"),
        (b"SAML FROM:<a@c.example>", 502, "5.5.1"),
    ],
)
def test_invalid_line_is_refused_with_the_right_code(line: bytes, code: int, enhanced: str) -> None:
    reply = refused(line)
    assert (reply.code, reply.enhanced) == (code, enhanced)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param(b"MAIL FROM:<> SIZE=1", 555, id="SIZE"),
        pytest.param(b"MAIL FROM:<> BODY=7BIT", 555, id="BODY"),
        pytest.param(b"MAIL FROM:<> SMTPUTF8", 555, id="R6531-3.1-07"),
        pytest.param("MAIL FROM:<\u00e9@c.example>".encode(), 501, id="R5321-2.4-08"),
        pytest.param("RCPT TO:<\u00e9@s.example>".encode(), 501, id="RCPT"),
        pytest.param("VRFY \u00e9".encode(), 501, id="VRFY"),
    ],
)
def test_extension_parameters_are_refused_before_ehlo_or_when_disabled(line: bytes, code: int) -> None:
    assert refused(line, PLAIN).code == code
    assert refused(line, dialect(disabled=frozenset({"SIZE", "8BITMIME", "BINARYMIME", "SMTPUTF8"}))).code == code


def test_smtputf8_is_part_of_the_vrfy_argument_where_not_offered() -> None:
    assert parse(b"VRFY joe SMTPUTF8", PLAIN) == Vrfy("joe SMTPUTF8")
    assert parse(b"VRFY joe SMTPUTF8=1", PLAIN) == Vrfy("joe SMTPUTF8=1")


@pytest.mark.parametrize(
    ("disabled", "line", "code"),
    [
        pytest.param("EXPN", b"EXPN list", 502, id="R5321-3.5.3-02"),
        ("HELP", b"HELP", 502),
        ("STARTTLS", b"STARTTLS", 502),
        ("XOWN", b"xown a", 502),
    ],
)
def test_verbs_of_a_disabled_extension_are_not_implemented(disabled: str, line: bytes, code: int) -> None:
    """R5321-4.2.1-05, R5321-4.2.4-02"""
    assert refused(line, dialect(disabled=frozenset({disabled}))).code == code
    assert parse(line, dialect()) is not None


def test_vrfy_is_parsed_even_if_not_announced() -> None:
    assert parse(b"VRFY joe", dialect(disabled=frozenset({"VRFY"}))) == Vrfy("joe")


def test_starttls_is_not_implemented_without_tls_support_and_parsed_under_tls() -> None:
    assert refused(b"STARTTLS", dialect(can_tls=False)).code == 502
    assert parse(b"STARTTLS", dialect(tls=True)) == StartTls()


@pytest.mark.parametrize(
    ("start", "plain", "extended"),
    [
        pytest.param(b"NOOP ", 512, 512, id="R5321-4.5.3.1.4-01"),
        (b"XFOO ", 512, 512),
        (b"VRFY ", 512, 512),
        pytest.param(b"MAIL FROM:<> SIZE=1 BODY=7BIT ", 512, 512 + 26 + 16 + 10 + 7 + 9, id="R1870-3-04, R6531-3.1-04"),
        (b"RCPT TO:<u@s.example> XTEXT=", 512, 512 + 500),
    ],
)
def test_line_limit_grows_with_the_parameters_of_the_extensions(start: bytes, plain: int, extended: int) -> None:
    for known, longest in ((PLAIN, plain), (FULL, extended)):
        line = start.ljust(longest - 2, b"x")
        assert answer(line, known) != TOO_LONG
        assert answer(line + b"x", known) == TOO_LONG


def test_chunk_size_in_a_long_line_is_refused_with_a_reply_that_closes() -> None:
    assert refused(b"BDAT 1".ljust(511)).code == 521
    assert refused(b"NOOP 1".ljust(511)).code == 500


def test_error_text_of_a_value_parser_is_sanitized_in_the_reply() -> None:
    reply = refused(b"MAIL FROM:<> XBAD=1")

    assert reply.code == 501
    assert reply.lines[0].startswith("Malformed XBAD: 1 is none of??ours ? xxx")
    assert len(reply.encode()) <= 512


def test_long_parameter_name_is_shortened_in_the_reply() -> None:
    name = b"X" * 400
    for line in (b"MAIL FROM:<> " + name, b"MAIL FROM:<> SIZE=1 SIZE=2 " + name):
        assert len(refused(line).encode()) <= 512


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        (b"", ""),
        (b"noop", "NOOP"),
        (b"NOOPX", "NOOPX"),
        (b"NoOp x", "NOOP"),
        (b"RSET\t", "RSET"),
        (b" x", ""),
        (b"\xff x", "\ufffd"),
    ],
)
def test_verb_is_the_first_word_in_upper_case(line: bytes, verb: str) -> None:
    assert verb_of(line) == verb


def test_every_verb_of_the_core_is_parsed() -> None:
    """R5321-4.5.1-01"""
    config = Config(
        hostname="s.example",
        starttls=True,
        auth_mechanisms=("PLAIN",),
        plaintext_auth=True,
        disabled=frozenset(),
        burl=("imap",),
    )
    known = dialect_of(EXTENSIONS, config, tls=False, extended=True)
    for verb, kind in COMMANDS.items():
        assert kind.verb == verb
        parsed = answer(verb.encode(), known)
        # A BDAT without a valid size closes the connection: the end of the chunk is unknown.
        assert isinstance(parsed, kind) or parsed.code == {"BDAT": 521, "ETRN": 500}.get(verb, 501)
