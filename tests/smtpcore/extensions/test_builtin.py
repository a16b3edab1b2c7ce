"""The parameters of MAIL and RCPT that the built-in extensions define."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    OFF_BY_DEFAULT,
    ByMode,
    Command,
    Config,
    Connection,
    DeliverBy,
    EnvelopeId,
    Extension,
    Mail,
    Mailbox,
    NoSupport,
    Notify,
    OriginalRecipient,
    Parameter,
    Params,
    Path,
    Rcpt,
    Reply,
    Ret,
    Submitter,
    ValidSince,
)
from smtpcore._dialects import Dialect, dialect_of
from smtpcore._parser import CommandRejected, parse_command

from ...helpers import CONFIG, MAIL, RCPT, READY, connect, drive, events_after, replies, reply_codes, reply_texts

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
ALL = Config(
    hostname="s.example",
    disabled=frozenset(),
    min_by_time=240,
    max_hold_for=604_800,
    max_hold_until=NEW_YEAR,
    auth_mechanisms=("PLAIN",),
)


def dialect(config: Config = ALL, *, tls: bool = True) -> Dialect:
    return dialect_of(EXTENSIONS, config, tls=tls, extended=True)


def parse(verb: str, params: str, *, config: Config = ALL, tls: bool = True) -> Params:
    """Return the parameters of a command, after checking that encoding and parsing it again changes nothing."""
    path = "FROM:<a@c.example>" if verb == "MAIL" else "TO:<u@s.example>"
    command = parse_command(verb, f"{verb} {path} {params}".encode(), dialect(config, tls=tls))
    assert isinstance(command, Mail | Rcpt)
    assert parse_command(verb, str(command).encode(), dialect(config, tls=tls)) == command
    return command.params


def refused(verb: str, params: str, *, config: Config = ALL, tls: bool = True) -> tuple[int, str | None]:
    with pytest.raises(CommandRejected) as caught:
        parse(verb, params, config=config, tls=tls)
    return caught.value.refusal.reply.code, caught.value.refusal.reply.enhanced


@pytest.mark.parametrize(
    ("verb", "params", "value"),
    [
        pytest.param("MAIL", "RET=hdrs", Ret.HDRS, id="R3461-4.3-01"),
        ("MAIL", "RET=FULL", Ret.FULL),
        pytest.param("MAIL", "ENVID=QQ314159", EnvelopeId("QQ314159"), id="R3461-4.4-01"),
        pytest.param("MAIL", "ENVID=a+2Bb", EnvelopeId.of("a+b"), id="R3461-4-01"),
        pytest.param("RCPT", "NOTIFY=success,Delay", frozenset({Notify.SUCCESS, Notify.DELAY}), id="R3461-4.1-01"),
        ("RCPT", "NOTIFY=FAILURE,FAILURE", frozenset({Notify.FAILURE})),
        ("RCPT", "notify=Never", frozenset({Notify.NEVER})),
        pytest.param(
            "RCPT", "ORCPT=rfc822;a+3Db@x.example", OriginalRecipient.of("rfc822", "a=b@x.example"), id="R3461-4.2-01"
        ),
        pytest.param(
            "RCPT",
            "ORCPT=utf-8;\u00e9@c.example",
            OriginalRecipient("utf-8;\u00e9@c.example"),
            id="R6533-3-01",
        ),
        pytest.param("MAIL", "BY=240;R", DeliverBy(240, ByMode.RETURN), id="R2852-3-02"),
        pytest.param("MAIL", "BY=+240;rt", DeliverBy(240, ByMode.RETURN, trace=True), id="R2852-4-01"),
        pytest.param("MAIL", "BY=-30;N", DeliverBy(-30, ByMode.NOTIFY), id="R2852-4-02"),
        ("MAIL", "BY=0;NT", DeliverBy(0, ByMode.NOTIFY, trace=True)),
        ("MAIL", "BY=1;N", DeliverBy(1, ByMode.NOTIFY)),
        pytest.param("MAIL", "HOLDFOR=3600", 3600, id="R4865-3-02, R4865-4.2-02"),
        ("MAIL", "HOLDFOR=604800", 604_800),
        pytest.param("MAIL", "HOLDUNTIL=2029-12-31T23:59:59Z", NEW_YEAR - timedelta(seconds=1), id="R4865-3-03"),
        ("MAIL", "HOLDUNTIL=2030-01-01T00:00:00Z", NEW_YEAR),
        ("MAIL", "HOLDUNTIL=2029-12-31T23:59:59.5Z", NEW_YEAR - timedelta(seconds=0.5)),
        pytest.param("MAIL", "MT-PRIORITY=3", 3, id="R6710-4.1-02"),
        ("MAIL", "MT-PRIORITY=0", 0),
        ("MAIL", "MT-PRIORITY=1", 1),
        pytest.param("MAIL", "MT-PRIORITY=-4", -4, id="R6710-4.1-04"),
        pytest.param("MAIL", "REQUIRETLS", True, id="R8689-2-01, R8689-4.1-01"),
        pytest.param(
            "RCPT",
            "RRVS=2014-04-03T23:01:00Z;C",
            ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=UTC), NoSupport.CONTINUE),
            id="R7293-3.1-01",
        ),
        pytest.param(
            "RCPT",
            "RRVS=2014-04-03T23:01:00-07:00",
            ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=timezone(timedelta(hours=-7)))),
            id="R7293-3.1-02",
        ),
        ("RCPT", "RRVS=2014-04-03T23:01:00Z;r", ValidSince(datetime(2014, 4, 3, 23, 1, tzinfo=UTC))),
        pytest.param("MAIL", "SOLICIT=org.example:ADV:ADLT", ("org.example:ADV:ADLT",), id="R3865-2.3-01"),
        ("MAIL", "SOLICIT=a,B_c", ("a", "B_c")),
        pytest.param("MAIL", "AUTH=<>", Submitter(), id="R4954-5-01"),
        pytest.param("MAIL", "AUTH=e+3Dmc2@example.com", Submitter(Mailbox("e=mc2@example.com")), id="R4954-5-02"),
    ],
)
def test_parameter_is_parsed_into_a_value_and_encoded_again(verb: str, params: str, value: object) -> None:
    known = parse(verb, params)
    keyword = params.partition("=")[0]

    assert known[keyword] == value
    assert getattr(known, keyword.lower().replace("-", "_")) == value


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", params) for params in ("RET=NONE", "RET", "RET=", "RET=FULL,HDRS", "RET=FULL RET=HDRS")),
        *(("MAIL", params) for params in ("ENVID", "ENVID=", "ENVID=+00", "ENVID=a=b", "ENVID=a+2", "ENVID=a+2bb")),
        *(("MAIL", params) for params in ("ENVID=x ENVID=y", "ENVID=" + "x" * 101)),
        *(("RCPT", f"NOTIFY{value}") for value in ("", "=", "=SOMETIMES", "=NEVER,FAILURE", "=DELAY,", "=,DELAY")),
        *(("RCPT", params) for params in ("NOTIFY=DELAY NOTIFY=NEVER", "NOTIFY=\u017fUCCESS")),
        *(("RCPT", f"ORCPT{value}") for value in ("", "=x", "=u@s.example", "=rfc822;a+07b@x.example")),
        *(("RCPT", f"ORCPT=rfc822;{value}") for value in ("\u00e9@c.example", "+", "x" * 494)),
        *(("MAIL", f"BY{value}") for value in ("", "=", "=120", "=1234567890;R", "=10;X", "=500;TR", "=;R", "=0;R")),
        *(("MAIL", f"BY={value}") for value in ("-1;R", "\u0661;N", "1;\u212a", "+-1;N", "1;NTT")),
        *(("MAIL", f"HOLDFOR{value}") for value in ("", "=0", "=01", "=1234567890", "=x", "=-1", "=604801")),
        *(("MAIL", f"HOLDUNTIL{value}") for value in ("", "=2029-12-31", "=2029-12-31T23:59:59+01:00")),
        *(("MAIL", f"HOLDUNTIL={value}") for value in ("2029-02-30T00:00:00Z", "2030-01-01T00:00:01Z")),
        *(("MAIL", params) for params in ("HOLDFOR=10 HOLDUNTIL=2029-12-31T23:59:59Z", "HOLDFOR=1 HOLDFOR=1")),
        *(("MAIL", f"HOLDFOR=3600 BY={value}") for value in ("600;R", "600;N", "-1;N")),
        *(("MAIL", f"SIZE{value}") for value in ("", "=")),
        *(("MAIL", f"BODY{value}") for value in ("", "=")),
        *(("MAIL", f"SMTPUTF8{value}") for value in ("=", "=1")),
        *(("MAIL", params) for params in ("REQUIRETLS=1", "REQUIRETLS=", "REQUIRETLS REQUIRETLS")),
        *(("RCPT", f"RRVS{value}") for value in ("", "=x", "=2014-04-03T23:01:00Z;X", "=2014-04-03T23:01:00.5Z")),
        *(("RCPT", f"RRVS={value}") for value in ("2014-04-03T23:01:00Z;", "2014-04-03T23:01:00", ";C")),
        *(("MAIL", f"SOLICIT{value}") for value in ("", "=", "=1x", "=a,,b", "=a,", "=\u00e9", "=" + "x" * 1001)),
        *(("MAIL", f"AUTH{value}") for value in ("", "=", "=+ZZ", "=foo", "=<a@c.example>", "=+FF@c.example")),
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R3461-4-01, R3461-4.1-01, R3461-4.2-01, R3461-4.3-01, R3461-4.4-01, R3461-4.5-01, R3461-5.1-03, R3461-5.1-05,
    R2852-4-01, R2852-4-03, R4865-3-02, R4865-3-03, R4865-4.2-05, R4865-4.2-06, R4865-4.2-07, R4865-4.2-08,
    R4865-5.2.2-01, R4865-5.2.2-02, R8689-2-01, R7293-3.1-01, R3865-2.2-01, R4954-5-02
    """
    assert refused(verb, params) == (501, "5.5.4")


@pytest.mark.parametrize("value", ["", "=10", "=-10", "=+3", "=03", "=-0", "=x", "=3 MT-PRIORITY=3", "=\u0661"])
def test_malformed_priority_is_refused_with_its_own_status_code(value: str) -> None:
    """R6710-4.1-01"""
    assert refused("MAIL", f"MT-PRIORITY{value}") == (501, "5.5.2")


@pytest.mark.parametrize("seconds", [1, 120, 239])
def test_by_time_below_the_announced_minimum_is_refused(seconds: int) -> None:
    """R2852-3-01, R2852-4-04"""
    assert refused("MAIL", f"BY={seconds};R") == (555, "5.5.4")
    config = Config(hostname="s.example", disabled=frozenset())
    assert parse("MAIL", f"BY={seconds};R", config=config).by == DeliverBy(seconds, ByMode.RETURN)


def test_message_may_be_held_until_its_delivery_deadline() -> None:
    """R4865-5.2.2-01"""
    assert parse("MAIL", "HOLDFOR=600 BY=600;R").holdfor == 600


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", params) for params in ("RET=FULL", "ENVID=x", "BY=240;R", "HOLDFOR=1", "MT-PRIORITY=0", "AUTH=<>")),
        *(("MAIL", params) for params in ("HOLDUNTIL=2029-12-31T23:59:59Z", "REQUIRETLS", "SOLICIT=a")),
        *(("RCPT", params) for params in ("NOTIFY=NEVER", "ORCPT=rfc822;a", "RRVS=2014-04-03T23:01:00Z")),
    ],
)
def test_parameters_of_disabled_extensions_are_not_recognized(verb: str, params: str) -> None:
    assert refused(verb, params, config=Config(hostname="s.example")) == (555, "5.5.4")


def test_requiretls_is_recognized_only_under_tls() -> None:
    """R8689-2-03, R8689-2-05"""
    assert refused("MAIL", "REQUIRETLS", tls=False) == (555, "5.5.4")


def test_binarymime_body_is_refused_where_not_offered() -> None:
    """R3030-3-02, R6152-2-02"""
    config = Config(hostname="s.example", disabled=OFF_BY_DEFAULT | {"BINARYMIME"})

    assert refused("MAIL", "BODY=BINARYMIME", config=config) == (501, "5.5.4")
    assert parse("MAIL", "BODY=8bitmime", config=config) == parse("MAIL", "BODY=8BITMIME")
    assert parse("MAIL", "BODY=BinaryMIME")["BODY"].value == "BINARYMIME"  # type: ignore[attr-defined]


def test_defaults_of_absent_parameters() -> None:
    """R3461-4.1-02, R6710-4.1-02"""
    params = Params()

    assert params.notify is None
    assert params.mt_priority == 0
    assert params.requiretls is False
    kinds = ("ret", "envid", "orcpt", "by", "holdfor", "holduntil", "rrvs", "solicit", "auth")
    assert [getattr(params, kind) for kind in kinds] == [None] * len(kinds)


# The length of the line


@pytest.mark.parametrize(
    ("keyword", "verb", "params", "growth"),
    [
        pytest.param("DELIVERBY", "MAIL", "BY=-999999999;NT", 17, id="R2852-2-02"),
        pytest.param("FUTURERELEASE", "MAIL", "HOLDUNTIL=2029-12-31T23:59:59.0Z", 34, id="R4865-3-04"),
        pytest.param("MT-PRIORITY", "MAIL", "MT-PRIORITY=-9", 15, id="R6710-3-02"),
        pytest.param("REQUIRETLS", "MAIL", "REQUIRETLS", 11, id="R8689-2-02"),
        pytest.param("NO-SOLICITING", "MAIL", "SOLICIT=" + "x" * 1000, 1009, id="R3865-4.1-01"),
        pytest.param("AUTH", "MAIL", "AUTH=<>", 500, id="R4954-3-03"),
        pytest.param("BINARYMIME", "MAIL", "BODY=BINARYMIME", 16, id="R3030-3-03"),
        pytest.param("RRVS", "RCPT", "RRVS=2014-04-03T23:01:00-07:00;R", 33, id="R7293-3.1-03"),
        pytest.param("DSN", "MAIL", "RET=FULL ENVID=" + "x" * 100, 9 + 107, id="R3461-5.4-01"),
        pytest.param(
            "DSN",
            "RCPT",
            "NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + "x" * 493,
            29 + 507,
            id="R3461-5.4-02",
        ),
    ],
)
def test_extension_extends_the_line_limit_for_its_parameters(keyword: str, verb: str, params: str, growth: int) -> None:
    others = frozenset(entry.keyword for entry in EXTENSIONS) - {keyword}
    config = Config(
        hostname="s.example",
        disabled=others,
        max_hold_for=1,
        max_hold_until=NEW_YEAR,
        auth_mechanisms=("PLAIN",),
        plaintext_auth=True,
    )
    known = dialect(config, tls=True)
    room = 512 + growth - len(f"{verb} TO:<@s.example> {params}\r\n")
    path = f"TO:<{'u' * room}@s.example>" if verb == "RCPT" else f"FROM:<{'u' * (room - 2)}@s.example>"

    assert len(params) + 1 <= growth
    assert known.max_lines[verb] == 512 + growth
    assert isinstance(parse_command(verb, f"{verb} {path} {params}".encode(), known), Mail | Rcpt)
    with pytest.raises(CommandRejected, match="too long"):
        parse_command(verb, f"{verb} {path} {params} ".encode(), known)


def test_line_limit_fits_all_parameters_together() -> None:
    """R3461-5.4-03"""
    params = (
        f"SIZE={'9' * 20} BODY=BINARYMIME SMTPUTF8 AUTH={'a' * 480}@c.example RET=FULL ENVID={'x' * 100} REQUIRETLS"
    )
    params += f" BY=-999999999;NT HOLDUNTIL=2029-12-31T23:59:59.0Z MT-PRIORITY=-9 SOLICIT={'x' * 1000}"
    path = f"{'u' * (512 - len('MAIL FROM:<@c.example>' + chr(13) + chr(10)))}@c.example"

    known = dialect(replace(ALL, max_message_size=None))  # with a limit, this size would be refused
    mail = parse_command("MAIL", f"MAIL FROM:<{path}> {params}".encode(), known)

    assert isinstance(mail, Mail)
    assert len(mail.params) == 11


# In a session


def test_refused_parameter_leaves_the_session_unchanged() -> None:
    """R2852-3-01"""
    options: dict[str, Any] = {"disabled": frozenset(), "min_by_time": 240}

    assert reply_codes(READY, b"MAIL FROM:<a@c.example> BY=120;R\r\n", **options) == [555]
    assert reply_codes(
        READY, b"MAIL FROM:<a@c.example> BY=120;R\r\nMAIL FROM:<a@c.example> BY=240;R\r\n", **options
    ) == [
        555,
        250,
    ]
    assert reply_codes(
        MAIL, b"RCPT TO:<u@s.example> NOTIFY=X\r\nRCPT TO:<u@s.example> NOTIFY=DELAY\r\n", **options
    ) == [
        501,
        250,
    ]


def test_objection_is_not_called_for_commands_without_parameters() -> None:
    def object_to(terms: object, params: Mapping[str, object]) -> Reply:
        return Reply(555, "Never", enhanced="5.5.4")

    own = Extension(
        keyword="XOWN", mail=(Parameter(keyword="XOWN", kind=str, parse=str, octets=9),), objection=object_to
    )
    conn = Connection(CONFIG, extensions=(*EXTENSIONS, own))
    _, output = drive(conn, [READY, b"MAIL FROM:<> XOWN=1\r\n", b"MAIL FROM:<>\r\n"])

    assert [code for code, _ in replies(output)][-2:] == [555, 250]


def test_transaction_keeps_the_parameters() -> None:
    """R3461-5.1-01, R3461-5.1-02, R3461-5.1-04"""
    conn = connect(
        READY + b"MAIL FROM:<a@c.example> RET=HDRS ENVID=QQ314159\r\n"
        b"RCPT TO:<u@s.example> NOTIFY=SUCCESS ORCPT=rfc822;Bob@Example.COM\r\n",
        disabled=frozenset[str](),
    )

    assert conn.transaction
    assert str(conn.transaction.mail) == "MAIL FROM:<a@c.example> RET=HDRS ENVID=QQ314159"
    [rcpt] = conn.transaction.recipients
    assert rcpt == Rcpt(
        Path("u@s.example"),
        Params({"NOTIFY": frozenset({Notify.SUCCESS}), "ORCPT": OriginalRecipient("rfc822;Bob@Example.COM")}),
    )


def test_utf_8_orcpt_needs_smtputf8_to_be_offered() -> None:
    """R6533-3-01"""
    line = "RCPT TO:<u@s.example> ORCPT=utf-8;\u00e9@c.example\r\n".encode()
    [rcpt] = events_after(MAIL, line, disabled=frozenset[str]())
    without = frozenset({"SMTPUTF8"})

    assert isinstance(rcpt, Command)
    assert reply_codes(MAIL, line, disabled=without) == [501]
    assert reply_codes(MAIL, b"RCPT TO:<u@s.example> ORCPT=utf-8;\\x{E9}@c.example\r\n", disabled=without) == [250]


def test_reply_never_repeats_non_ascii_input_of_the_client() -> None:
    [text] = reply_texts(RCPT, "RCPT TO:<u@s.example> ORCPT=rfc822;\u00e9\r\n".encode(), disabled=frozenset[str]())

    assert text.isascii()
    assert text.startswith("501 5.5.4 Malformed ORCPT: ")
