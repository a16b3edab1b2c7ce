"""Rules derived from a configuration once and shared by its connections."""

from dataclasses import replace
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    OFF_BY_DEFAULT,
    BareNewlines,
    Extension,
    LocalProtocolError,
    Mail,
    Parameter,
    Rcpt,
    Tolerance,
)
from smtpcore._dialects import MAX_AUTH_LINE, compiled

from ..playbook import CONFIG, HELO, MAIL, READY, client, mail, server
from .extensions.helpers import ALL


def test_compiled_rules_are_shared_between_equal_configs() -> None:
    rules = compiled(EXTENSIONS, CONFIG)
    assert compiled(EXTENSIONS, replace(CONFIG)) is rules
    assert compiled(EXTENSIONS, replace(CONFIG, hostname="other.example")) is not rules
    assert compiled(EXTENSIONS[:-1], CONFIG) is not rules


@pytest.mark.parametrize("bare_newlines", BareNewlines)
def test_bare_lf_ends_a_command_unless_rejected(bare_newlines: BareNewlines) -> None:
    rules = compiled(EXTENSIONS, replace(CONFIG, bare_newlines=bare_newlines))
    assert rules.bare_lf is (bare_newlines is not BareNewlines.REJECT)


def test_auth_mechanisms_extend_the_line_limit() -> None:
    assert compiled((), CONFIG).longest_line == 512
    assert compiled((), replace(CONFIG, auth_mechanisms=("PLAIN",))).longest_line == MAX_AUTH_LINE


def test_keywords_and_dialects_depend_on_tls_and_on_ehlo() -> None:
    rules = compiled(EXTENSIONS, replace(CONFIG, starttls=True))
    assert "STARTTLS" in rules.keywords[False]
    assert "STARTTLS" not in rules.keywords[True]
    assert rules.dialects[False, True].parameters["MAIL"]["SIZE"]
    assert not any(rules.dialects[False, False].parameters["MAIL"].values())
    assert set(rules.dialects) == {(False, False), (False, True), (True, False), (True, True)}


def test_dialect_of_a_lenient_server_after_helo_has_size_and_body_only() -> None:
    rules = compiled(EXTENSIONS, replace(CONFIG, tolerance=Tolerance.LENIENT))
    known = rules.dialects[False, False].tolerant

    assert known
    assert {keyword for keyword, parameter in known.parameters["MAIL"].items() if parameter} == {"SIZE", "BODY"}
    assert not any(known.parameters["RCPT"].values())


def test_contradictory_config_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="SMTPUTF8 needs 8BITMIME"):
        compiled(EXTENSIONS, replace(CONFIG, disabled=CONFIG.disabled | {"8BITMIME"}))


def test_unknown_keyword_in_disabled_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="disabled: 'CHUNKNG' is not an extension; use 8BITMIME, AUTH, "):
        compiled(EXTENSIONS, replace(CONFIG, disabled=frozenset({"CHUNKNG"})))
    own = Extension(keyword="XOWN")
    assert compiled((own,), replace(CONFIG, disabled=OFF_BY_DEFAULT | {"XOWN"})).keywords[False] == ()


# Line limits


def test_longest_command_line_fits_all_parameters_of_mail_or_of_rcpt() -> None:
    of_mail = Extension(keyword="XM", mail=(parameter_of(octets=100),))
    of_rcpt = Extension(keyword="XR", rcpt=(parameter_of(octets=1000),))

    assert compiled((), CONFIG).longest_line == 512
    assert compiled(EXTENSIONS, CONFIG).longest_line == 512 + 26 + 16 + 10
    assert compiled((*EXTENSIONS, of_mail), CONFIG).longest_line == 512 + 26 + 16 + 10 + 100
    assert compiled((of_mail, of_rcpt), CONFIG).longest_line == 512 + 1000


def test_only_extensions_that_may_be_offered_extend_the_line_limit() -> None:
    """R3461-5.4-03"""
    assert compiled(EXTENSIONS, replace(CONFIG, disabled=OFF_BY_DEFAULT - {"REQUIRETLS"})).longest_line == (
        compiled(EXTENSIONS, CONFIG).longest_line + 11
    )
    assert compiled(EXTENSIONS, replace(ALL, auth_mechanisms=())).longest_line > 512 + 1009

    for offered in (lambda config, tls: tls, lambda config, tls: not tls):
        extension = Extension(keyword="XFOO", mail=(parameter_of(octets=9),), offered=offered)
        assert compiled((extension,), CONFIG).longest_line == 512 + 9


def parameter_of(*, octets: int) -> Parameter[str]:
    return Parameter(keyword="XFOO", kind=str, parse=str, octets=octets)


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
    [event] = server(before, **PASSING).send(line).events
    assert isinstance(event, Mail | Rcpt)
    assert dict(event.params) == expected
    server(before).send(line).expect("555 5.5.4 ...")


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
    server(before, **PASSING).send(line).expect(f"{start}...")


def test_client_sends_no_parameter_of_an_unknown_extension() -> None:
    with pytest.raises(LocalProtocolError, match="XOWN is not recognized"):
        client("XOWN").ask(mail(XOWN="1"))
