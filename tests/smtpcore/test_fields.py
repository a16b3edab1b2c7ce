"""A value of a wrong type in a configuration or in options is an error at once, in the core and in the adapters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeVar, get_type_hints

import pytest

from smtpcore import Budgets, ClientBudgets, ClientConfig, Config, LocalProtocolError, check_values
from smtpcore_adapters import Limits, Listener, Timeouts

SETTINGS: list[Any] = [
    Config(hostname="s.example", max_hold_for=1, max_hold_until=datetime(2030, 1, 1, tzinfo=UTC)),
    ClientConfig(hostname="c.example"),
    Budgets(),
    ClientBudgets(),
    Timeouts(),
    Limits(),
    Listener(),
]
FIELDS = [(settings, field.name) for settings in SETTINGS for field in fields(settings)]
WRONG: list[Any] = [object(), "PLAIN", b"PLAIN", ["PLAIN"], {"PLAIN"}, (1,), frozenset({1}), True, 1.5, "5"]
"""Values of which at most a few fit any field."""

ALLOWED: dict[Any, list[Any]] = {
    str: ["PLAIN", "5"],
    str | None: ["PLAIN", "5"],
    bool: [True],
    bool | None: [True],
    bool | tuple[str, ...]: [True],
    float: [1.5],
}


@pytest.mark.parametrize(
    ("settings", "name"), FIELDS, ids=[f"{type(settings).__name__}.{name}" for settings, name in FIELDS]
)
def test_value_of_a_wrong_type_names_the_field(settings: Any, name: str) -> None:
    allowed = ALLOWED.get(get_type_hints(type(settings))[name], [])
    for value in WRONG:
        if not any(value is other for other in allowed):
            with pytest.raises((LocalProtocolError, ValueError), match=f"^{name} is .*: use "):
                replace(settings, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("auth_mechanisms", "PLAIN", "auth_mechanisms is 'PLAIN', which is of type str: use a tuple of str"),
        ("disabled", {"DSN"}, "disabled is {'DSN'}, which is of type set: use a frozenset of str"),
        ("max_errors", "5", "max_errors is '5', which is of type str: use int or None"),
        ("starttls", 1, "starttls is 1, which is of type int: use bool"),
        ("bodies", "LINES", "bodies is 'LINES', which is of type str: use Bodies"),
    ],
)
def test_error_says_what_to_use(name: str, value: object, message: str) -> None:
    with pytest.raises(LocalProtocolError) as error:
        replace(SETTINGS[0], **{name: value})

    assert str(error.value) == message


def test_time_may_be_a_whole_number() -> None:
    assert Budgets(command=300).command == 300


T = TypeVar("T")


class Choices(TypedDict, total=False):
    """Options of a function."""

    names: Iterable[str]
    order: Sequence[int] | None
    login: tuple[str, int]
    extra: Mapping[str, object]
    sizes: tuple[int, ...]
    source: str | Callable[[], str]
    kind: type[str]
    items: list[Any]
    values: list[T]  # type: ignore[valid-type]  # an unbound variable means any type


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", []),
        ("names", {"a": 1}),
        ("names", iter(["a"])),
        ("order", (1, 2)),
        ("order", None),
        ("login", ("tim", 5)),
        ("extra", {"a": object()}),
        ("sizes", ()),
        ("sizes", (1, 2, 3)),
        ("source", str),
    ],
)
def test_right_value_of_an_option_is_accepted_and_not_consumed(name: str, value: Any) -> None:
    check_values({name: value}, Choices)
    assert name != "names" or list(value) in ([], ["a"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("names", "a", "names is 'a', which is of type str: use an iterable of str"),
        ("names", b"a", "names is b'a', which is of type bytes: use an iterable of str"),
        ("names", ["a", 1], "names is ['a', 1], which is of type list: use an iterable of str"),
        ("order", {1}, "order is {1}, which is of type set: use a sequence of int or None"),
        ("login", ("tim",), "login is ('tim',), which is of type tuple: use a tuple (str, int)"),
        ("login", ["tim", 5], "login is ['tim', 5], which is of type list: use a tuple (str, int)"),
        ("extra", {1: 1}, "extra is {1: 1}, which is of type dict: use a mapping of str"),
        ("sizes", ("1",), "sizes is ('1',), which is of type tuple: use a tuple of int"),
        ("source", 5, "source is 5, which is of type int: use str or a function"),
        ("kind", 5, "kind is 5, which is of type int: use a class"),
        ("items", (), "items is (), which is of type tuple: use a list of values"),
        ("values", (), "values is (), which is of type tuple: use a list of values"),
    ],
)
def test_wrong_value_of_an_option_is_a_type_error(name: str, value: object, message: str) -> None:
    with pytest.raises(TypeError) as error:
        check_values({name: value}, Choices)

    assert str(error.value) == message


def test_secret_value_is_not_shown() -> None:
    with pytest.raises(TypeError, match="login is a value of type str: use a tuple"):
        check_values({"login": "tim:secret"}, Choices, secret=("login",))
