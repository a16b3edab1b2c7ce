import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import EXTENSIONS, OFF_BY_DEFAULT, BodyType, Config, Extension, Mail, Parameter, Rcpt
from smtpcore._dialects import compiled, offered_extensions

from ...helpers import GREETED, HELO, MAIL, READY, events_after, reply_texts

CONFIG = Config(hostname="s.example")
FULL = Config(
    hostname="s.example",
    tls=True,
    disabled=frozenset(),
    auth_mechanisms=("SCRAM-SHA-256", "PLAIN"),
    plaintext_auth=True,
    min_by_time=240,
    max_hold_for=604_800,
    max_hold_until=datetime(2030, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC),
    priority_policy="MIXER",
    solicitation_classes=("net.example:ADV", "org.example:ADV"),
    burl=("imap",),
    max_messages=5,
    max_recipient_domains=10**7,
)
"""A configuration that announces every extension."""
NEEDS_TLS = {"REQUIRETLS"}
BY_KEYWORD = {extension.keyword: extension for extension in EXTENSIONS}


def announced(config: Config, *, tls: bool = False) -> list[str]:
    return [extension.announce(config) for extension in offered_extensions(EXTENSIONS, config, tls=tls)]


def test_default_config_announces_the_default_extensions() -> None:
    """R5321-2.4-09, R5321-3.5.2-05, R5321-4.5.3.1.7-02, R6531-3.1-03"""
    assert announced(CONFIG) == [
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "ENHANCEDSTATUSCODES",
        "VRFY",
        "HELP",
    ]


@pytest.mark.parametrize("keyword", BY_KEYWORD)
def test_announcement_is_a_valid_ehlo_line(keyword: str) -> None:
    """R5321-4.1.1.1-07, R2920-2-01, R6152-2-01, R2034-3-01, R3207-2-01, R6531-3.1-01, R1870-3-01, R3461-2-01,
    R2852-2-01, R4865-3-01, R6710-3-01, R8689-2-01, R7293-3.1-01, R3865-2-01, R1985-2-01, R3030-3-01, R4954-3-01,
    R9422-unverified-01, R9422-unverified-02
    """
    line = BY_KEYWORD[keyword].announce(FULL)
    arguments = {
        "SIZE": "52428800",
        "AUTH": "SCRAM-SHA-256 PLAIN",
        "DELIVERBY": "240",
        "FUTURERELEASE": "604800 2030-01-01T00:00:00Z",
        "MT-PRIORITY": "MIXER",
        "NO-SOLICITING": "net.example:ADV,org.example:ADV",
        "LIMITS": "MAILMAX=5 RCPTMAX=1000 RCPTDOMAINMAX=999999",
        "BURL": "imap",
        "XCLIENT": "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
        "XFORWARD": "NAME ADDR PORT PROTO HELO IDENT SOURCE",
    }

    assert re.fullmatch(r"[A-Z0-9][A-Z0-9-]*( [!-~]+)*", line)
    assert line.partition(" ")[2] == arguments.get(keyword, "")


@pytest.mark.parametrize("keyword", ["DELIVERBY", "MT-PRIORITY", "NO-SOLICITING", "BURL"])
def test_optional_ehlo_argument_may_be_left_out(keyword: str) -> None:
    """R2852-2-01, R6710-3-01, R3865-2-01, R3865-2.8-01"""
    assert BY_KEYWORD[keyword].announce(CONFIG) == keyword


@pytest.mark.parametrize("keyword", BY_KEYWORD)
def test_each_extension_can_be_disabled(keyword: str) -> None:
    """R5321-3.5.2-06, R5321-3.5.2-07"""
    tls = keyword in NEEDS_TLS
    enabled = announced(FULL, tls=tls)
    disabled = announced(replace(FULL, disabled=frozenset({keyword})), tls=tls)
    also = {"BURL"} if keyword == "8BITMIME" else set()  # R4468-4-01

    assert [line for line in enabled if line.partition(" ")[0] not in {keyword} | also] == disabled
    assert len(disabled) == len(enabled) - 1 - len(also)


def test_extensions_that_need_the_program_are_off_by_default() -> None:
    """R3865-2.8-01, R4865-4.2-01, R4468-3.1-01"""
    lines = announced(CONFIG) + announced(CONFIG, tls=True)

    assert {line.partition(" ")[0] for line in lines}.isdisjoint(OFF_BY_DEFAULT | {"FUTURERELEASE", "AUTH"})
    assert set(BY_KEYWORD) > OFF_BY_DEFAULT


def test_extension_that_is_off_by_default_can_be_enabled() -> None:
    assert "DSN" in announced(replace(CONFIG, disabled=OFF_BY_DEFAULT - {"DSN"}))


@pytest.mark.parametrize(
    ("plaintext", "tls", "offered"), [(False, False, False), (False, True, True), (True, False, True)]
)
def test_auth_is_offered_under_tls_or_with_plaintext_auth(plaintext: bool, tls: bool, offered: bool) -> None:
    """R4954-3-02"""
    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=plaintext)

    assert ("AUTH PLAIN" in announced(config, tls=tls)) is offered


@pytest.mark.parametrize("tls", [False, True])
def test_requiretls_is_offered_only_under_tls(tls: bool) -> None:
    """R8689-2-03"""
    assert ("REQUIRETLS" in announced(FULL, tls=tls)) is tls


@pytest.mark.parametrize(("limit", "line"), [(None, "SIZE 0"), (65536, "SIZE 65536")])
def test_size_announces_the_limit(limit: int | None, line: str) -> None:
    """R1870-3-01, R1870-3-02"""
    assert line in announced(Config(hostname="s.example", max_message_size=limit))


@pytest.mark.parametrize(
    ("possible", "active", "offered"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
def test_starttls_is_offered_until_tls_is_active(possible: bool, active: bool, offered: bool) -> None:
    """R3207-3-01, R3207-4.2-09"""
    assert ("STARTTLS" in announced(Config(hostname="s.example", tls=possible), tls=active)) is offered


@pytest.mark.parametrize(
    ("keyword", "text", "value"),
    [
        ("SIZE", "0", 0),
        ("SIZE", "1000", 1000),
        pytest.param("SIZE", "12345678901234567890", 12345678901234567890, id="R1870-3-03"),
        ("BODY", "7BIT", BodyType.SEVEN_BIT),
        pytest.param("BODY", "8bitMIME", BodyType.EIGHT_BIT_MIME, id="R6152-2-02"),
        pytest.param("SMTPUTF8", "", True, id="R6531-3.1-05"),
    ],
)
def test_parameter_value_is_parsed_into_its_type(keyword: str, text: str, value: object) -> None:
    assert parameter(keyword).parse(text) == value


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("SIZE", ""),
        ("SIZE", "abc"),
        ("SIZE", "-1"),
        ("SIZE", "1_0"),
        ("SIZE", "\u0661"),
        ("SIZE", "123456789012345678901"),
        ("BODY", ""),
        ("BODY", "9BIT"),
        ("BODY", "7B\u0131T"),
        ("BODY", "SEVEN_BIT"),
        ("SMTPUTF8", "1"),
    ],
)
def test_malformed_parameter_value_is_refused(keyword: str, text: str) -> None:
    with pytest.raises(ValueError, match="value"):
        parameter(keyword).parse(text)


@pytest.mark.parametrize(
    ("keyword", "longest"),
    [("SIZE", " SIZE=12345678901234567890"), ("BODY", " BODY=8BITMIME"), ("SMTPUTF8", " SMTPUTF8")],
)
def test_parameter_octets_cover_the_longest_form(keyword: str, longest: str) -> None:
    """R1870-3-04, R6531-3.1-04"""
    assert parameter(keyword).octets >= len(longest)


def test_longest_command_line_fits_all_parameters_of_mail_or_of_rcpt() -> None:
    of_mail = Extension(keyword="XM", mail=(parameter_of(octets=100),))
    of_rcpt = Extension(keyword="XR", rcpt=(parameter_of(octets=1000),))

    assert compiled((), CONFIG).longest_line == 512
    assert compiled(EXTENSIONS, CONFIG).longest_line == 512 + 26 + 16 + 10
    assert compiled((*EXTENSIONS, of_mail), CONFIG).longest_line == 512 + 26 + 16 + 10 + 100
    assert compiled((of_mail, of_rcpt), CONFIG).longest_line == 512 + 1000


def test_custom_extension_needs_only_a_keyword() -> None:
    extension = Extension(keyword="XFOO")

    assert extension.announce(CONFIG) == "XFOO"
    assert offered_extensions([extension], CONFIG, tls=True) == (extension,)
    assert (extension.mail, extension.rcpt, extension.verbs) == ((), (), frozenset())


def test_only_extensions_that_may_be_offered_extend_the_line_limit() -> None:
    """R3461-5.4-03"""
    assert compiled(EXTENSIONS, replace(CONFIG, disabled=OFF_BY_DEFAULT - {"REQUIRETLS"})).longest_line == (
        compiled(EXTENSIONS, CONFIG).longest_line + 11
    )
    assert compiled(EXTENSIONS, replace(FULL, auth_mechanisms=())).longest_line > 512 + 1009

    for offered in (lambda config, tls: tls, lambda config, tls: not tls):
        extension = Extension(keyword="XFOO", mail=(parameter_of(octets=9),), offered=offered)
        assert compiled((extension,), CONFIG).longest_line == 512 + 9


def parameter_of(*, octets: int) -> Parameter[str]:
    return Parameter(keyword="XFOO", kind=str, parse=str, octets=octets)


def parameter(keyword: str) -> Parameter[object]:
    return next(known for extension in EXTENSIONS for known in extension.mail if known.keyword == keyword)


# Unknown parameters

PASSING: dict[str, Any] = {"unknown_parameters": True}


@pytest.mark.parametrize(
    ("before", "line", "expected"),
    [
        (READY, b"MAIL FROM:<> X-OWN=a+b FLAG size=9\r\n", {"X-OWN": "a+b", "FLAG": True, "SIZE": 9}),
        (MAIL, b"RCPT TO:<u@s.example> x-own=1\r\n", {"X-OWN": "1"}),
        (HELO, b"MAIL FROM:<> X-OWN=1\r\n", {"X-OWN": "1"}),
    ],
)
def test_unknown_parameters_are_passed_through_if_configured(
    before: bytes, line: bytes, expected: dict[str, object]
) -> None:
    [event] = events_after(before, line, **PASSING)
    assert isinstance(event, Mail | Rcpt)
    assert dict(event.params) == expected
    assert reply_texts(before, line)[0].startswith("555 5.5.4 ")


@pytest.mark.parametrize(
    ("before", "line", "start"),
    [
        (READY, b"MAIL FROM:<> X=1 x=2\r\n", "501 5.5.4 "),
        (READY, b"MAIL FROM:<> X=\r\n", "501 5.5.4 "),
        (READY, b"MAIL FROM:<> SIZE=x\r\n", "501 5.5.4 "),
        pytest.param(READY, b"MAIL FROM:<> RET=HDRS\r\n", "555 5.5.4 ", id="known, not offered"),
        pytest.param(HELO, b"MAIL FROM:<> SMTPUTF8\r\n", "555 5.5.4 ", id="known, not offered before EHLO"),
        pytest.param(
            MAIL, b"RCPT TO:<u@s.example> NOTIFY=NEVER\r\n", "555 5.5.4 ", id="known parameter of RCPT, not offered"
        ),
        pytest.param(READY, b"MAIL FROM:<> X=" + b"x" * 1200 + b"\r\n", "500 5.5.2 ", id="too long"),
    ],
)
def test_malformed_or_disabled_parameters_are_never_passed_through(before: bytes, line: bytes, start: str) -> None:
    assert reply_texts(before, line, **PASSING)[0].startswith(start)


# REQUIRETLS has a test of its own, because it is offered only under TLS.
@pytest.mark.parametrize("keyword", sorted({extension.keyword for extension in EXTENSIONS} - {"REQUIRETLS"}))
def test_disabling_an_extension_removes_keyword_verbs_and_parameters(keyword: str) -> None:
    needs = {"8BITMIME": {"SMTPUTF8", "BURL"}, "CHUNKING": {"BINARYMIME"}}
    extension = next(extension for extension in EXTENSIONS if extension.keyword == keyword)
    changes: dict[str, Any] = {
        "tls": True,
        "auth_mechanisms": ("PLAIN",),
        "plaintext_auth": True,
        "burl": ("imap",),
        "max_hold_for": 60,
        "max_hold_until": datetime(2030, 1, 1, tzinfo=UTC),
    }
    parameters = [(READY, f"MAIL FROM:<a@c.example> {known.keyword}".encode()) for known in extension.mail]
    parameters += [(MAIL, f"RCPT TO:<u@s.example> {known.keyword}".encode()) for known in extension.rcpt]
    for disabled in (frozenset[str](), frozenset({keyword} | needs.get(keyword, set()))):
        assert (keyword in keywords(READY, disabled=disabled, **changes)) is (not disabled)
        for verb in extension.verbs:
            unknown = reply_texts(READY, verb.encode() + b"\r\n", disabled=disabled, **changes)[0].startswith(
                "502 5.5.1 "
            )
            assert unknown is bool(disabled)
        # BODY belongs to 8BITMIME and to BINARYMIME.
        for before, line in parameters if keyword not in ("8BITMIME", "BINARYMIME") else ():
            [reply] = reply_texts(before, line + b"=+\r\n", disabled=disabled, **changes)
            assert reply.startswith("555 5.5.4 " if disabled else "501 5.5.")


def keywords(before: bytes, **changes: Any) -> set[str]:
    """Return the keywords in the reply to EHLO."""
    return {line[4:].split()[0] for line in reply_texts(GREETED, before, **changes)[-1].splitlines()[1:]}
