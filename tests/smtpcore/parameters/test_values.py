from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpcore import (
    ByMode,
    DeliverBy,
    EnvelopeId,
    LocalProtocolError,
    Mailbox,
    NoSupport,
    OriginalRecipient,
    Submitter,
    ValidSince,
    decode_xtext,
    encode_xtext,
)
from smtpcore.parameters import (
    decode_unitext,
    encode_unitext,
    format_date_time,
    parse_auth,
    parse_by,
    parse_date_time,
    parse_envid,
    parse_holduntil,
    parse_orcpt,
    parse_rrvs,
)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
texts = st.text(st.characters(exclude_categories=["Cs"]))
addresses = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(timezones=offsets).map(lambda time: time.replace(microsecond=0))

values: st.SearchStrategy[tuple[Callable[[str], object], object]] = st.one_of(
    printable.filter(bool).map(lambda text: (parse_envid, EnvelopeId.of(text))),
    printable.map(lambda text: (parse_orcpt, OriginalRecipient.of("rfc822", text))),
    addresses.map(lambda text: (parse_orcpt, OriginalRecipient.of("utf-8", text))),
    st.builds(DeliverBy, st.integers(1, 999_999_999), st.sampled_from(ByMode), st.booleans()).map(
        lambda value: (parse_by, value)
    ),
    st.builds(ValidSince, times, st.sampled_from(NoSupport)).map(lambda value: (parse_rrvs, value)),
    st.sampled_from([Submitter(), Submitter(Mailbox("e=mc+2@c.example")), Submitter(Mailbox('"a b"@c.example'))]).map(
        lambda value: (parse_auth, value)
    ),
)


@settings(deadline=None)
@given(values)
def test_parameter_value_round_trip(pair: tuple[Callable[[str], object], object]) -> None:
    parse, value = pair
    again = parse(str(value))

    assert again == value
    assert hash(again) == hash(value)
    assert str(again) == str(value)


# Escapes


@settings(deadline=None)
@given(texts)
def test_xtext_round_trip(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text
    assert encode_xtext(text).isascii()
    assert not set(encode_xtext(text)) & set(" =")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("QQ314159", "QQ314159"),
        pytest.param("a+2Bb", "a+b", id="R3461-4-01"),
        ("+41+20", "A "),
        ("+C3+A9", "\u00e9"),
    ],
)
def test_xtext_is_decoded_to_utf_8_text(text: str, value: str) -> None:
    assert decode_xtext(text) == value


@pytest.mark.parametrize("text", ["+", "a+2", "a+2bb", "+2b", "+GG", "a=b", "a b", "\u00e9", "\u017f", "\r\n", "+FF"])
def test_invalid_xtext_is_refused(text: str) -> None:
    """R3461-4-01"""
    with pytest.raises(ValueError, match=r"xtext|utf-8"):
        decode_xtext(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a@c.example", "a@c.example"),
        ("\u00e9@c.example", "\u00e9@c.example"),
        pytest.param(r"\x{E9}@c.example", "\u00e9@c.example", id="R6533-3-02"),
        (r"\x{2b}\x{20}\x{3D}\x{5C}", "+ =\\"),
        (r"\x{D7FF}\x{E000}\x{FFFF}\x{12345}\x{D8123}\x{10FFFF}", "\ud7ff\ue000\uffff\U00012345\U000d8123\U0010ffff"),
    ],
)
def test_unitext_is_decoded_to_characters(text: str, value: str) -> None:
    assert decode_unitext(text) == value
    assert decode_unitext(encode_unitext(value)) == value
    assert encode_unitext(value).isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+2Bb",
        "a=b",
        "a b",
        "\\",
        r"\x{}",
        r"\x{41}",
        r"\x{0A}",
        r"\x{7F}",
        r"\x{D800}",
        r"\x{DFFF}",
        r"\x{110000}",
        r"\x{0E9}",
        r"\x{E9",
        r"\X{E9}",
        "\x7f",
        "\udc85",
        "\u017f" * 400 + "=",
    ],
)
def test_invalid_unitext_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unitext"):
        decode_unitext(text)


# Identifiers


def test_envelope_id_keeps_its_text() -> None:
    assert EnvelopeId("+41+2B").value == "A+"
    assert str(EnvelopeId("+41+2B")) == "+41+2B"
    assert str(EnvelopeId.of("a b")) == "a+20b"
    assert EnvelopeId("x" * 100).value == "x" * 100


@pytest.mark.parametrize("text", ["", "+00", "+0D+0A", "+7F", "+C3+A9", "+FF", "a b", "a=b", "a+2", "x" * 101])
def test_invalid_envelope_id_is_refused(text: str) -> None:
    """R3461-4.4-01"""
    with pytest.raises(LocalProtocolError, match=r"xtext|utf-8"):
        EnvelopeId(text)


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
        "utf-8;a+2Bb@c.example",
        "utf-8;a=b",
        r"utf-8;\x{0D}\x{0A}",
        "rfc822;" + "x" * 494,
        pytest.param("rfc822;a+07b@x.example", id="R3461-4.2-02"),
        "rfc822;+FF",
        "utf-8;\ud800",
    ],
)
def test_malformed_original_recipient_is_refused(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        OriginalRecipient(text)


def test_submitter_without_mailbox_is_falsy() -> None:
    assert not Submitter()
    assert Submitter(Mailbox("a@c.example"))
    assert str(Submitter(Mailbox("e=mc2@example.com"))) == "e+3Dmc2@example.com"


# Times


@pytest.mark.parametrize(("seconds", "mode"), [(0, ByMode.RETURN), (-1, ByMode.RETURN), (10**9, ByMode.NOTIFY)])
def test_deliver_by_time_out_of_bounds_is_refused(seconds: int, mode: ByMode) -> None:
    """R2852-4-03"""
    with pytest.raises(LocalProtocolError, match=r"positive|nine digits"):
        DeliverBy(seconds, mode)


def test_negative_deliver_by_time_is_allowed_in_notify_mode() -> None:
    """R2852-4-02"""
    assert str(DeliverBy(-30, ByMode.NOTIFY, trace=True)) == "-30;NT"
    assert str(DeliverBy(-999_999_999, ByMode.NOTIFY)) == "-999999999;N"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2030-01-01T12:00:00Z", NOON),
        ("2030-01-01t12:00:00z", NOON),
        ("2030-01-01T14:00:00+02:00", NOON),
        ("2030-01-01T12:00:00.5Z", NOON + timedelta(seconds=0.5)),
        ("2030-01-01T11:59:60Z", NOON - timedelta(seconds=1)),
    ],
)
def test_date_time_of_rfc_3339_is_parsed(text: str, time: datetime) -> None:
    assert parse_date_time(text) == time
    assert parse_date_time(format_date_time(time)) == time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2029-12-31",
        "2029-02-29T00:00:00Z",
        "2029-12-31T23:59:59",
        "2029-12-31 23:59:59Z",
        "20291231T235959Z",
        "2029-12-31T24:00:00Z",
        "2029-12-31T23:60:00Z",
        "2029-12-31T23:59:61Z",
        "2029-12-31T23:59:59+0100",
        "2029-12-31T23:59:59+24:00",
        "0000-01-01T00:00:00Z",
        "2029-12-31T23:59:59.Z",
        "\u0662029-12-31T23:59:59Z",
    ],
)
def test_invalid_date_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_date_time(text)


@pytest.mark.parametrize(
    "time",
    [
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(seconds=1))),
        NOON.replace(microsecond=1),
    ],
)
def test_rrvs_time_needs_whole_seconds_and_a_utc_offset_in_minutes(time: datetime) -> None:
    """R7293-3.1-01"""
    with pytest.raises(LocalProtocolError):
        ValidSince(time)


def test_rrvs_action_is_encoded_unless_default() -> None:
    """R7293-3.1-02, R7293-5.1.1-03"""
    assert str(ValidSince(NOON)) == "2030-01-01T12:00:00Z"
    assert str(ValidSince(NOON, NoSupport.CONTINUE)) == "2030-01-01T12:00:00Z;C"


@settings(deadline=None)
@given(times)
def test_holduntil_accepts_only_utc(time: datetime) -> None:
    if time.utcoffset():
        with pytest.raises(ValueError, match="UTC"):
            parse_holduntil(format_date_time(time))
    else:
        assert parse_holduntil(format_date_time(time)) == time
