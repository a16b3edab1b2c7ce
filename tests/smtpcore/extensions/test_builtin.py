"""The table of the built-in extensions: announcements, options, and properties that all share."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpcore import (
    EXTENSIONS,
    OFF_BY_DEFAULT,
    ByMode,
    Config,
    DeliverBy,
    EnvelopeId,
    Mail,
    Mailbox,
    NoSupport,
    OriginalRecipient,
    Params,
    Submitter,
    ValidSince,
)
from smtpcore._parser import parse_command

from ...playbook import MAIL, READY, server
from .helpers import ALL, announced, dialect, gateway, refusal_of

CONFIG = Config(hostname="s.example")


FULL = Config(
    hostname="s.example",
    starttls=True,
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


def test_extensions_that_need_application_code_are_off_by_default() -> None:
    """R3865-2.8-01, R4865-4.2-01, R4468-3.1-01"""
    lines = announced(CONFIG) + announced(CONFIG, tls=True)

    assert {line.partition(" ")[0] for line in lines}.isdisjoint(OFF_BY_DEFAULT | {"FUTURERELEASE", "AUTH"})
    assert set(BY_KEYWORD) > OFF_BY_DEFAULT


def test_extension_that_is_off_by_default_can_be_enabled() -> None:
    assert "DSN" in announced(replace(CONFIG, disabled=OFF_BY_DEFAULT - {"DSN"}))


@pytest.mark.parametrize(
    ("possible", "active", "offered"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
def test_starttls_is_offered_until_tls_is_active(possible: bool, active: bool, offered: bool) -> None:
    """R3207-3-01, R3207-4.2-09"""
    assert ("STARTTLS" in announced(Config(hostname="s.example", starttls=possible), tls=active)) is offered


def test_gateway_extensions_are_announced_with_their_arguments() -> None:
    """R1985-2-01, R4468-3.1-02, R4468-4-01"""
    book = gateway().send(READY)
    for line in (
        b"-ETRN\r\n",
        b"-BURL imap\r\n",
        b"-8BITMIME\r\n",
        b"-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n",
        b"-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n",
    ):
        assert line in book.output


@pytest.mark.parametrize("line", [b"ETRN example.org", b"BURL imap://x/y", b"XCLIENT NAME=x", b"XFORWARD NAME=x"])
def test_gateway_commands_are_not_implemented_by_default(line: bytes) -> None:
    """R4468-3.1-01"""
    server(READY).send(line + b"\r\n").expect("502 5.5.1 ...")
    assert line[:4] not in server().send(READY).output


# REQUIRETLS has a test of its own, because it is offered only under TLS.
@pytest.mark.parametrize("keyword", sorted({extension.keyword for extension in EXTENSIONS} - {"REQUIRETLS"}))
def test_disabling_an_extension_removes_keyword_verbs_and_parameters(keyword: str) -> None:
    needs = {"8BITMIME": {"SMTPUTF8", "BURL"}, "CHUNKING": {"BINARYMIME"}}
    extension = next(extension for extension in EXTENSIONS if extension.keyword == keyword)
    changes: dict[str, Any] = {
        "starttls": True,
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
            [reply] = server(READY, disabled=disabled, **changes).send(verb.encode() + b"\r\n").replies
            assert reply.startswith("502 5.5.1 ") is bool(disabled)
        # BODY belongs to 8BITMIME and to BINARYMIME.
        for before, line in parameters if keyword not in ("8BITMIME", "BINARYMIME") else ():
            book = server(before, disabled=disabled, **changes).send(line + b"=+\r\n")
            book.expect("555 5.5.4 ..." if disabled else "501 5.5...")


def keywords(before: bytes, **changes: Any) -> set[str]:
    """Return the keywords in the reply to EHLO."""
    [reply] = server(**changes).send(before).replies
    return {line[4:].split()[0] for line in reply.splitlines()[1:]}


# Parameters


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
texts = st.text(st.characters(exclude_categories=["Cs"]))
addresses = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(timezones=offsets).map(lambda time: time.replace(microsecond=0))

values: st.SearchStrategy[tuple[Callable[[str], object], object]] = st.one_of(
    printable.filter(bool).map(lambda text: (Params.envid.parse, EnvelopeId.of(text))),
    printable.map(lambda text: (Params.orcpt.parse, OriginalRecipient.of("rfc822", text))),
    addresses.map(lambda text: (Params.orcpt.parse, OriginalRecipient.of("utf-8", text))),
    st.builds(DeliverBy, st.integers(1, 999_999_999), st.sampled_from(ByMode), st.booleans()).map(
        lambda value: (Params.by.parse, value)
    ),
    st.builds(ValidSince, times, st.sampled_from(NoSupport)).map(lambda value: (Params.rrvs.parse, value)),
    st.sampled_from([Submitter(), Submitter(Mailbox("e=mc+2@c.example")), Submitter(Mailbox('"a b"@c.example'))]).map(
        lambda value: (Params.auth.parse, value)
    ),
)


@settings(deadline=None)
@given(values)
def test_parameter_value_survives_encoding_and_parsing(pair: tuple[Callable[[str], object], object]) -> None:
    parse, value = pair
    again = parse(str(value))

    assert again == value
    assert hash(again) == hash(value)
    assert str(again) == str(value)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        *(("MAIL", params) for params in ("RET=FULL", "ENVID=x", "BY=240;R", "HOLDFOR=1", "MT-PRIORITY=0", "AUTH=<>")),
        *(("MAIL", params) for params in ("HOLDUNTIL=2029-12-31T23:59:59Z", "REQUIRETLS", "SOLICIT=a")),
        *(("RCPT", params) for params in ("NOTIFY=NEVER", "ORCPT=rfc822;a", "RRVS=2014-04-03T23:01:00Z")),
    ],
)
def test_parameters_of_disabled_extensions_are_not_recognized(verb: str, params: str) -> None:
    assert refusal_of(verb, params, config=Config(hostname="s.example")) == (555, "5.5.4")


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


def test_table_has_a_short_repr() -> None:
    assert repr(EXTENSIONS) == "EXTENSIONS"
