import re

import pytest

from smtpcore import EXTENSIONS, BodyType, Config, Extension, Parameter
from smtpcore._extensions import longest_command_line, offered_extensions

CONFIG = Config(hostname="s.example")
BY_KEYWORD = {extension.keyword: extension for extension in EXTENSIONS}


def announced(config: Config, *, tls: bool = False) -> list[str]:
    return [extension.announce(config) for extension in offered_extensions(EXTENSIONS, config, tls=tls)]


def test_the_default_announces_what_it_accepts() -> None:
    """R5321-2.4-09, R5321-3.5.2-05, R5321-4.5.3.1.7-02, R6531-3.1-03"""
    assert announced(CONFIG) == [
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "VRFY",
        "HELP",
    ]


@pytest.mark.parametrize("keyword", BY_KEYWORD)
def test_what_is_announced_has_the_form_of_an_EHLO_line(keyword: str) -> None:
    """R5321-4.1.1.1-07, R2920-2-01, R6152-2-01, R2034-3-01, R3207-2-01, R6531-3.1-01, R1870-3-01"""
    line = BY_KEYWORD[keyword].announce(CONFIG)

    assert re.fullmatch(r"[A-Z0-9][A-Z0-9-]*( [!-~]+)*", line)
    assert line.split(" ")[1:] == (["52428800"] if keyword == "SIZE" else [])


@pytest.mark.parametrize("keyword", BY_KEYWORD)
def test_each_extension_can_be_disabled(keyword: str) -> None:
    """R5321-3.5.2-06, R5321-3.5.2-07"""
    enabled = announced(Config(hostname="s.example", tls=True, disabled=frozenset()))
    disabled = announced(Config(hostname="s.example", tls=True, disabled=frozenset({keyword})))

    assert [line for line in enabled if line.partition(" ")[0] != keyword] == disabled
    assert len(disabled) == len(enabled) - 1


@pytest.mark.parametrize(("limit", "line"), [(None, "SIZE 0"), (65536, "SIZE 65536")])
def test_SIZE_announces_the_limit(limit: int | None, line: str) -> None:
    """R1870-3-01, R1870-3-02"""
    assert line in announced(Config(hostname="s.example", max_message_size=limit))


@pytest.mark.parametrize(
    ("possible", "active", "offered"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
def test_STARTTLS_is_offered_as_long_as_it_is_possible_and_not_done(
    possible: bool, active: bool, offered: bool
) -> None:
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
        pytest.param("SMTPUTF8", None, True, id="R6531-3.1-05"),
    ],
)
def test_a_value_is_parsed_into_its_type(keyword: str, text: str | None, value: object) -> None:
    assert parameter(keyword).parse(text) == value


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("SIZE", None),
        ("SIZE", "abc"),
        ("SIZE", "-1"),
        ("SIZE", "1_0"),
        ("SIZE", "\u0661"),
        ("SIZE", "123456789012345678901"),
        ("BODY", None),
        ("BODY", ""),
        ("BODY", "9BIT"),
        ("BODY", "7B\u0131T"),
        ("BODY", "SEVEN_BIT"),
        ("SMTPUTF8", ""),
        ("SMTPUTF8", "1"),
    ],
)
def test_a_malformed_value_is_refused(keyword: str, text: str | None) -> None:
    with pytest.raises(ValueError, match=r"SIZE|BODY|value"):
        parameter(keyword).parse(text)


@pytest.mark.parametrize(
    ("keyword", "longest"),
    [("SIZE", " SIZE=12345678901234567890"), ("BODY", " BODY=8BITMIME"), ("SMTPUTF8", " SMTPUTF8")],
)
def test_a_line_may_grow_by_what_its_parameters_need(keyword: str, longest: str) -> None:
    """R1870-3-04, R6531-3.1-04"""
    assert parameter(keyword).octets >= len(longest)


def test_the_longest_line_has_room_for_all_parameters_of_MAIL_or_of_RCPT() -> None:
    of_mail = Extension(keyword="XM", mail={"XM": Parameter(parse=str, octets=100)})
    of_rcpt = Extension(keyword="XR", rcpt={"XR": Parameter(parse=str, octets=1000)})

    assert longest_command_line((), CONFIG) == 512
    assert longest_command_line(EXTENSIONS, CONFIG) == 512 + 26 + 14 + 10
    assert longest_command_line((*EXTENSIONS, of_mail), CONFIG) == 512 + 26 + 14 + 10 + 100
    assert longest_command_line((of_mail, of_rcpt), CONFIG) == 512 + 1000


def test_an_extension_of_ones_own_needs_no_more_than_a_keyword() -> None:
    extension = Extension(keyword="XFOO")

    assert extension.announce(CONFIG) == "XFOO"
    assert offered_extensions([extension], CONFIG, tls=True) == (extension,)
    assert (dict(extension.mail), dict(extension.rcpt), extension.verbs) == ({}, {}, frozenset())


def parameter(keyword: str) -> Parameter:
    [found] = [extension.mail[keyword] for extension in EXTENSIONS if keyword in extension.mail]
    return found
