"""The parsers that several extensions share."""

from datetime import UTC, datetime, timedelta

import pytest

from smtpcore.parameters import BodyType, format_date_time, number, one_of, parse_date_time

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


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


def test_number_is_parsed_if_the_whole_text_has_its_form() -> None:
    parse = number("[0-9]{1,3}", "a number of up to 3 digits")

    assert [parse(text) for text in ("0", "007", "999")] == [0, 7, 999]
    for text in ("", "1234", "-1", "1 ", "x", "\u0661"):
        with pytest.raises(ValueError, match="the value is a number of up to 3 digits"):
            parse(text)


def test_value_of_an_enum_is_parsed_in_any_letter_case() -> None:
    parse = one_of(BodyType)

    assert parse("7bit") is BodyType.SEVEN_BIT
    for text in ("", "9BIT", "7B\u0131T", "7BIT "):
        with pytest.raises(ValueError, match="the value is one of 7BIT, 8BITMIME, BINARYMIME"):
            parse(text)
