from datetime import UTC, datetime

import pytest

from smtpcore import BodyType, LocalProtocolError, Notify, Params


def test_parameters_are_case_insensitive() -> None:
    params = Params({"size": 10, "X-Other": "text"})

    assert params["Size"] == 10
    assert params["x-OTHER"] == "text"
    assert "SIZE" in params
    assert "BODY" not in params
    assert list(params) == ["SIZE", "X-OTHER"]
    assert len(params) == 2
    with pytest.raises(KeyError):
        params["BODY"]


def test_known_parameters_are_typed_properties() -> None:
    params = Params({"SIZE": 10, "BODY": BodyType.EIGHT_BIT_MIME, "SMTPUTF8": True})

    assert params.size == 10
    assert params.body is BodyType.EIGHT_BIT_MIME
    assert params.smtputf8 is True


@pytest.mark.parametrize("params", [Params(), Params({}), Params({"SIZE": "10", "BODY": "8BITMIME"})])
def test_parameter_property_is_none_if_absent_or_of_another_type(params: Params) -> None:
    assert params.size is None
    assert params.body is None
    assert params.smtputf8 is False


@pytest.mark.parametrize(("body", "is_binary"), [(BodyType.BINARYMIME, True), (BodyType.SEVEN_BIT, False), ("", False)])
def test_body_is_binary_only_with_binarymime(body: object, is_binary: bool) -> None:
    assert Params({"BODY": body}).is_binary is is_binary
    assert Params().is_binary is False


def test_property_of_the_class_is_the_definition_of_the_parameter() -> None:
    assert Params.size.of({"SIZE": 10}) == 10


def test_parameters_are_compared_and_hashed_by_value() -> None:
    assert Params({"size": 10}) == Params({"SIZE": 10}) == {"SIZE": 10}
    assert hash(Params({"size": 10})) == hash(Params({"SIZE": 10}))
    assert Params({"size": 10}) != Params({"SIZE": 11})
    assert repr(Params({"size": 10})) == "Params({'SIZE': 10})"


def test_parameters_copy_their_source() -> None:
    values: dict[str, object] = {"SIZE": 10}
    params = Params(values)
    values["SIZE"] = 11

    assert params.size == 10


@pytest.mark.parametrize("keyword", ["", "-A", "A B", "A=1", "S\u0131ZE", "A\r\n"])
def test_malformed_keyword_is_refused(keyword: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a parameter keyword"):
        Params({keyword: 1})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, " A"),
        (1, " A=1"),
        (0, " A=0"),
        ("text", " A=text"),
        ("\u00e9", " A=\u00e9"),
        (BodyType.SEVEN_BIT, " A=7BIT"),
        (("b", "a"), " A=b,a"),
        (frozenset({Notify.SUCCESS, Notify.DELAY}), " A=DELAY,SUCCESS"),
        (datetime(2030, 1, 1, tzinfo=UTC), " A=2030-01-01T00:00:00Z"),
    ],
)
def test_value_is_encoded_for_the_wire(value: object, text: str) -> None:
    assert str(Params({"A": value})) == text


@pytest.mark.parametrize("value", ["", "a b", "a=b", "a\r\nRCPT", "\x7f", (), None.__class__, datetime(2030, 1, 1)])
def test_value_without_wire_form_is_refused_when_encoded(value: object) -> None:
    params = Params({"A": value})

    assert repr(params)
    with pytest.raises(LocalProtocolError, match=r"cannot be sent|UTC"):
        str(params)


def test_absent_parameters_have_their_default_values() -> None:
    """R3461-4.1-02, R6710-4.1-02"""
    params = Params()

    assert params.notify is None
    assert params.mt_priority == 0
    assert params.requiretls is False
    kinds = ("ret", "envid", "orcpt", "by", "holdfor", "holduntil", "rrvs", "solicit", "auth")
    assert [getattr(params, kind) for kind in kinds] == [None] * len(kinds)


def test_get_returns_the_default_of_an_absent_parameter() -> None:
    params = Params({"SIZE": 10})

    assert (params.get("size", 5), params.get("BODY", 5), params.get("BODY")) == (10, 5, None)
