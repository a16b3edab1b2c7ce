"""Every built-in extension and parameter has all of its parts, in all places that have to know them."""

# `EXTENSIONS` says which extensions and parameters exist. A test below fails for a new parameter until the parameter
# has example values, a relay rule, a typed property, an option of `Client.send` and its documentation.

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import find

import smtpcore
from fuzz import parameters as fuzz_target
from smtpcore import EXTENSIONS, EnvelopeId, Extension, Mail, NextHop, Parameter, Params, Path, Rcpt, Reply
from smtpcore._dialects import make_dialect
from smtpcore._parser import parse_command
from smtpcore_adapters.client._envelope import KEYWORDS, make_mail
from smtpcore_adapters.testing import strategies
from tests.paths import DOCS

DOCUMENT = (DOCS / "extensions.md").read_text()
ADDRESS = Path("a@c.example")
Entry = tuple[type[Mail | Rcpt], Extension, Parameter[Any]]
PARAMETERS: list[Entry] = [
    *((Mail, extension, parameter) for extension in EXTENSIONS for parameter in extension.mail),
    *((Rcpt, extension, parameter) for extension in EXTENSIONS for parameter in extension.rcpt),
]
each_parameter = pytest.mark.parametrize(
    ("kind", "extension", "parameter"),
    PARAMETERS,
    ids=[f"{parameter.keyword} of {extension.keyword}" for _, extension, parameter in PARAMETERS],
)


def table_after(heading: str) -> dict[str, list[str]]:
    """Return the first table after a heading of the document: first cell of each row to its other cells."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("|")]
    return {first: others for first, *others in rows[2:]}


def property_of(parameter: Parameter[Any]) -> str:
    return parameter.keyword.lower().replace("-", "_")


def option_of(parameter: Parameter[Any]) -> str | None:
    return next((option for option, keyword in KEYWORDS.items() if keyword == parameter.keyword), None)


def relayed(parameter: Parameter[Any], value: object, *offered: Extension) -> Any:
    """Return the value that a relay sends to a server with these extensions, a refusal, or None for no parameter."""
    assert parameter.relay, "the parameter has a relay rule"
    offers = {extension.keyword: None for extension in offered}
    return parameter.relay(value, NextHop(offers=offers, path=ADDRESS, is_private=True, is_trusted=True))


@each_parameter
def test_examples_are_parsed_as_they_were_encoded(
    kind: type[Mail | Rcpt], extension: Extension, parameter: Parameter[Any]
) -> None:
    known = replace(extension, objection=None)
    dialect = make_dialect([known], {known: None}, longest=1000, longest_auth=1000)
    assert parameter.examples
    for example in parameter.examples:
        assert isinstance(example, parameter.kind)
        line = str(kind(ADDRESS, Params({parameter.keyword: example})))
        parsed = parse_command(kind.verb, line.encode(), dialect)
        assert isinstance(parsed, Mail | Rcpt)
        assert parameter.of(parsed.params) == example


@each_parameter
def test_parameter_has_a_typed_property(kind: object, extension: object, parameter: Parameter[Any]) -> None:
    for example in parameter.examples:
        assert getattr(Params({parameter.keyword: example}), property_of(parameter)) == example
    assert not getattr(Params(), property_of(parameter))


@each_parameter
def test_type_of_the_parameter_is_public(kind: object, extension: object, parameter: Parameter[Any]) -> None:
    if parameter.kind.__module__.startswith("smtpcore."):
        assert getattr(smtpcore, parameter.kind.__name__) is parameter.kind


@each_parameter
def test_relay_passes_each_parameter_on(kind: object, extension: object, parameter: Parameter[Any]) -> None:
    for example in parameter.examples:
        assert relayed(parameter, example, *EXTENSIONS) == example


@each_parameter
def test_relay_rule_is_documented(kind: object, extension: Extension, parameter: Parameter[Any]) -> None:
    [*_, documented] = table_after("Parameters")[parameter.keyword]
    for example in parameter.examples:
        sent = relayed(parameter, example)
        assert sent is None or isinstance(sent, Reply)
        assert ("left out" if sent is None else f"{sent.code} {sent.enhanced}") in documented


@pytest.mark.parametrize("parameter", [parameter for kind, _, parameter in PARAMETERS if kind is Mail], ids=property_of)
def test_client_has_an_option_for_the_parameter_of_mail(parameter: Parameter[Any]) -> None:
    option = option_of(parameter)
    assert option, f"SendOptions has an option for {parameter.keyword}"
    for example in parameter.examples:
        options: Any = {option: example.value if isinstance(example, EnvelopeId) else example}
        assert parameter.of(make_mail("", options, {}).params) == example


@each_parameter
def test_each_parameter_is_documented(kind: object, extension: Extension, parameter: Parameter[Any]) -> None:
    extensions, typed, option, _ = table_after("Parameters")[parameter.keyword]
    assert extension.keyword in extensions.split(", ")
    assert typed.startswith(f"`{property_of(parameter)}`: ")
    assert option == f"`{option_of(parameter) or 'notify'}`" or (kind is Rcpt and option == "in a `Rcpt`")


@pytest.mark.parametrize("keyword", [extension.keyword for extension in EXTENSIONS])
def test_extension_is_documented(keyword: str) -> None:
    assert keyword in ", ".join(table_after("Built-in extensions")).split(", ")


def test_documented_parameters_and_extensions_exist() -> None:
    assert set(table_after("Parameters")) == {parameter.keyword for _, _, parameter in PARAMETERS}
    keywords = {extension.keyword for extension in EXTENSIONS}
    assert set(", ".join(table_after("Built-in extensions")).split(", ")) == keywords


@each_parameter
def test_strategies_draw_the_parameter(
    kind: type[Mail | Rcpt], extension: Extension, parameter: Parameter[Any]
) -> None:
    drawn = strategies.mail_params() if kind is Mail else strategies.rcpt_params()
    assert parameter.of(find(drawn, lambda params: parameter.keyword in params)) is not None


def test_fuzzing_covers_every_parameter() -> None:
    assert fuzz_target.PARAMETERS == PARAMETERS
