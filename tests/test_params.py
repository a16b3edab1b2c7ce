import pytest

from smtpcore import BodyType, LocalProtocolError, Params


def test_parameters_are_found_in_any_letter_case() -> None:
    params = Params({"size": 10, "X-Other": "text"})

    assert params["Size"] == 10
    assert params["x-OTHER"] == "text"
    assert "SIZE" in params
    assert "BODY" not in params
    assert list(params) == ["SIZE", "X-OTHER"]
    assert len(params) == 2
    with pytest.raises(KeyError):
        params["BODY"]


def test_the_known_parameters_are_typed() -> None:
    params = Params({"SIZE": 10, "BODY": BodyType.EIGHT_BIT_MIME, "SMTPUTF8": True})

    assert params.size == 10
    assert params.body is BodyType.EIGHT_BIT_MIME
    assert params.smtputf8 is True


@pytest.mark.parametrize("params", [Params(), Params({}), Params({"SIZE": "10", "BODY": "8BITMIME"})])
def test_a_parameter_that_is_absent_or_of_another_type_is_None(params: Params) -> None:
    assert params.size is None
    assert params.body is None
    assert params.smtputf8 is False


def test_parameters_are_compared_and_hashed_by_what_they_say() -> None:
    assert Params({"size": 10}) == Params({"SIZE": 10}) == {"SIZE": 10}
    assert hash(Params({"size": 10})) == hash(Params({"SIZE": 10}))
    assert Params({"size": 10}) != Params({"SIZE": 11})
    assert repr(Params({"size": 10})) == "Params({'SIZE': 10})"


def test_parameters_do_not_change_with_what_they_were_made_of() -> None:
    values: dict[str, object] = {"SIZE": 10}
    params = Params(values)
    values["SIZE"] = 11

    assert params.size == 10


@pytest.mark.parametrize("keyword", ["", "-A", "A B", "A=1", "S\u0131ZE", "A\r\n"])
def test_a_malformed_keyword_cannot_be_made(keyword: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a parameter keyword"):
        Params({keyword: 1})
