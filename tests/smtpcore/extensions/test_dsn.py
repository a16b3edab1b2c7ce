"""DSN: delivery status notifications (RFC 3461), and ORCPT in UTF-8 (RFC 6533)."""

import pytest

from smtpcore import (
    Command,
    EnvelopeId,
    LocalProtocolError,
    Notify,
    OriginalRecipient,
    Params,
    Path,
    Rcpt,
    Ret,
)
from smtpcore._extensions._dsn import NOTIFY, RET

from ...playbook import MAIL, RCPT, READY, server
from .helpers import assert_limit_grows, assert_round_trip, refusal_of, relayed


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
            "RCPT", "ORCPT=utf-8;\u00e9@c.example", OriginalRecipient("utf-8;\u00e9@c.example"), id="R6533-3-01"
        ),
    ],
)
def test_valid_parameter_is_parsed_and_encoded_again(verb: str, params: str, value: object) -> None:
    assert_round_trip(verb, params, value)


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
    ],
)
def test_malformed_parameter_is_refused(verb: str, params: str) -> None:
    """R3461-4-01, R3461-4.1-01, R3461-4.2-01, R3461-4.3-01, R3461-4.4-01, R3461-4.5-01, R3461-5.1-03, R3461-5.1-05"""
    assert refusal_of(verb, params) == (501, "5.5.4")


def test_line_limit_grows_by_the_parameters_of_mail() -> None:
    """R3461-5.4-01"""
    assert_limit_grows("DSN", "MAIL", "RET=FULL ENVID=" + "x" * 100, 9 + 107)


def test_line_limit_grows_by_the_parameters_of_rcpt() -> None:
    """R3461-5.4-02"""
    assert_limit_grows("DSN", "RCPT", "NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + "x" * 493, 29 + 507)


def test_transaction_keeps_the_parameters() -> None:
    """R3461-5.1-01, R3461-5.1-02, R3461-5.1-04"""
    book = server(
        READY + b"MAIL FROM:<a@c.example> RET=HDRS ENVID=QQ314159\r\n"
        b"RCPT TO:<u@s.example> NOTIFY=SUCCESS ORCPT=rfc822;Bob@Example.COM\r\n",
        disabled=frozenset[str](),
    )

    transaction = book.connection.transaction
    assert transaction
    assert str(transaction.mail) == "MAIL FROM:<a@c.example> RET=HDRS ENVID=QQ314159"
    [rcpt] = transaction.recipients
    assert rcpt == Rcpt(
        Path("u@s.example"),
        Params({"NOTIFY": frozenset({Notify.SUCCESS}), "ORCPT": OriginalRecipient("rfc822;Bob@Example.COM")}),
    )


def test_utf_8_orcpt_needs_smtputf8_to_be_offered() -> None:
    """R6533-3-01"""
    line = "RCPT TO:<u@s.example> ORCPT=utf-8;\u00e9@c.example\r\n".encode()
    [rcpt] = server(MAIL, disabled=frozenset[str]()).send(line).events
    without = frozenset({"SMTPUTF8"})

    assert isinstance(rcpt, Command)
    server(MAIL, disabled=without).send(line).expect(501)
    server(MAIL, disabled=without).send(b"RCPT TO:<u@s.example> ORCPT=utf-8;\\x{E9}@c.example\r\n").expect(250)


def test_reply_never_repeats_non_ascii_input_of_the_client() -> None:
    line = "RCPT TO:<u@s.example> ORCPT=rfc822;\u00e9\r\n".encode()
    [text] = server(RCPT, disabled=frozenset[str]()).send(line).replies

    assert text.isascii()
    assert text.startswith("501 5.5.4 Malformed ORCPT: ")


# Values


def test_envelope_id_keeps_its_text() -> None:
    assert EnvelopeId("+41+2B").value == "A+"
    assert str(EnvelopeId("+41+2B")) == "+41+2B"
    assert str(EnvelopeId.of("a b")) == "a+20b"
    assert EnvelopeId("x" * 100).value == "x" * 100


@pytest.mark.parametrize("text", ["", "+00", "+0D+0A", "+7F", "+C2+85", "a b", "a=b", "a+2", "x" * 101])
def test_invalid_envelope_id_is_refused(text: str) -> None:
    """R3461-4.4-01"""
    for make in (EnvelopeId, EnvelopeId.parse):
        with pytest.raises(LocalProtocolError, match=r"xtext|control|characters"):
            make(text)


@pytest.mark.parametrize(("text", "value"), [("+C3+A9", "\u00e9"), ("+c3+a9", "\u00e9"), ("+FF", "\ufffd")])
def test_envelope_id_beyond_ascii_is_kept_but_refused_by_a_strict_server(text: str, value: str) -> None:
    assert (str(EnvelopeId(text)), EnvelopeId(text).value) == (text, value)
    with pytest.raises(LocalProtocolError):
        EnvelopeId.parse(text)


@pytest.mark.parametrize("value", ["\ud800", "\r\n", "\u00e9", ""])
def test_envelope_id_of_unprintable_text_is_refused(value: str) -> None:
    with pytest.raises(LocalProtocolError):
        EnvelopeId.of(value)


@pytest.mark.parametrize(
    ("text", "address_type", "address"),
    [
        ("rfc822;Bob@Example.COM", "rfc822", "Bob@Example.COM"),
        ("RFC822;a+3Db@x.example", "rfc822", "a=b@x.example"),
        ("x400;/C=US/".replace("=", "+3D"), "x400", "/C=US/"),
        ("rfc822;", "rfc822", ""),
        (r"utf-8;\x{E9}@c.example", "utf-8", "\u00e9@c.example"),
        ("UTF-8;\u00e9@c.example", "utf-8", "\u00e9@c.example"),
        ("rfc822;" + "x" * 493, "rfc822", "x" * 493),
    ],
)
def test_original_recipient_has_a_type_and_an_address(text: str, address_type: str, address: str) -> None:
    """R3461-4.2-01, R3461-5.2.1-03, R6533-3-01, R6533-3-02"""
    recipient = OriginalRecipient(text)

    assert (recipient.address_type, recipient.address) == (address_type, address)
    assert str(recipient) == text


def test_original_recipient_is_encoded_as_ascii() -> None:
    """R6533-3-03"""
    assert OriginalRecipient.of("rfc822", "a=b@x.example").text == "rfc822;a+3Db@x.example"
    assert OriginalRecipient.of("utf-8", "\u00e9+@c.example").text == r"utf-8;\x{E9}\x{2B}@c.example"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bob@Example.COM",
        ";a@c.example",
        "a b;c",
        "a@b;c",
        "a=b;c",
        "\u00e9;a",
        "rfc822;\u00e9@c.example",
        "rfc822;a b",
        "rfc822;a+2",
        "utf-8;",
        "utf-8;a=b",
        r"utf-8;\x{0D}\x{0A}",
        "rfc822;" + "x" * 494,
        pytest.param("rfc822;a+07b@x.example", id="R3461-4.2-02"),
        "rfc822;b+C2+85",
        "utf-8;\ud800",
    ],
)
def test_malformed_original_recipient_is_refused(text: str) -> None:
    for make in (OriginalRecipient, OriginalRecipient.parse):
        with pytest.raises(LocalProtocolError):
            make(text)


def test_address_of_an_original_recipient_begins_after_the_first_semicolon() -> None:
    assert OriginalRecipient.parse("x400;a;b").address == "a;b"
    assert OriginalRecipient("x400;+C3+BC;b").address == "\u00fc;b"
    with pytest.raises(LocalProtocolError):
        OriginalRecipient.parse("x400;+C3+BC;b")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rfc822;b+C3+BC@c.example", "b\u00fc@c.example"),
        ("rfc822;b+c3+bc@c.example", "b\u00fc@c.example"),
        ("rfc822;+FF", "\ufffd"),
        ("utf-8;a+2Bb@c.example", "a+b@c.example"),
    ],
)
def test_original_recipient_beyond_ascii_is_kept_but_refused_by_a_strict_server(text: str, address: str) -> None:
    assert (str(OriginalRecipient(text)), OriginalRecipient(text).address) == (text, address)
    with pytest.raises(LocalProtocolError):
        OriginalRecipient.parse(text)


# Relaying


@pytest.mark.parametrize(
    ("events", "offers", "expected"),
    [
        ({Notify.SUCCESS}, {"DSN": True}, {Notify.SUCCESS}),
        ({Notify.SUCCESS, Notify.FAILURE}, {}, "554 5.3.3 The next server does not notify of success"),
        ({Notify.FAILURE, Notify.DELAY}, {}, None),
    ],
)
def test_relay_refuses_notify_success_without_dsn_and_drops_other_events(
    events: set[Notify], offers: dict[str, bool], expected: object
) -> None:
    """RFC 3461 5.2.2"""
    assert relayed(NOTIFY, frozenset(events), offers=offers) == expected


def test_relay_drops_ret_without_dsn() -> None:
    assert relayed(RET, Ret.FULL, offers={"DSN": True}) == Ret.FULL
    assert relayed(RET, Ret.FULL) is None
