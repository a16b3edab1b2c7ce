"""The fields of `Config` as options of a server."""

import ssl
from collections.abc import Callable
from copy import copy
from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest

from smtpcore import Bodies, Config, LocalProtocolError
from smtpcore_adapters import App, Listener, Options
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.server._config_fields import CONFIG_FIELDS
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG, EHLO, QUIT
from tests.adapters.playbook import accepted


def hello(app: App, listener: Listener | None = None, **options: Any) -> str:
    """Return the replies to EHLO, as a client without TLS gets them."""
    if listener:
        options["listeners"] = [listener]
    acceptor = Acceptor(app, **options)
    return accepted(acceptor).send(EHLO, QUIT).stream.output.decode()


def test_each_field_of_config_is_an_option_of_the_same_type() -> None:
    names = {field.name for field in fields(Config)} - {"bodies", "starttls"}
    hints, options = get_type_hints(Config), get_type_hints(Options)
    assert names | {"enabled"} == CONFIG_FIELDS
    assert {name: options[name] for name in names} == {name: hints[name] for name in names}
    assert options["enabled"] == hints["enabled"].type


def test_fields_of_config_are_options() -> None:
    replies = hello(App(), hostname="mx.example.org", max_message_size=70_000, enabled={"DSN"})
    assert "220 mx.example.org" in replies
    assert "SIZE 70000" in replies
    assert "DSN" in replies
    assert "500" in hello(App(), hostname="mx.example.org", lmtp=True)


def test_fields_of_config_add_to_the_option_config() -> None:
    assert "SIZE 70000" in hello(App(), config=CONFIG, max_message_size=70_000)
    listener = Listener(config=replace(CONFIG, hostname="two.example"))
    replies = hello(App(), listener, config=CONFIG, max_message_size=70_000)
    assert "220 two.example" in replies
    assert "SIZE 70000" in replies


def test_enabled_adds_to_the_option_config() -> None:
    config = replace(CONFIG, disabled=CONFIG.disabled - {"RRVS"})
    replies = hello(App(), config=config, enabled={"DSN"})
    assert "DSN" in replies
    assert "RRVS" in replies


@pytest.mark.parametrize(
    ("config", "given", "error"),
    [
        (CONFIG, {"hostname": "t.example"}, "hostname is given twice, as an option and as 's.example' in config"),
        (replace(CONFIG, max_errors=5), {"max_errors": 5}, "max_errors is given twice, as an option and as 5"),
        (Config(hostname="s.example", lmtp=False), {"lmtp": True}, "lmtp is given twice, as an option and as False"),
        (Config(hostname="s.example", max_errors=50), {"max_errors": 50}, "max_errors is given twice, .* as 50"),
    ],
)
def test_field_that_is_given_twice_is_a_value_error(config: Config, given: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Acceptor(App(), config=config, **given)
    with pytest.raises(ValueError, match=error):
        Acceptor(App(), listeners=[Listener(), Listener(config=config)], **given)


@pytest.mark.parametrize("name", sorted(CONFIG_FIELDS - {"hostname", "enabled"}))
def test_default_of_each_field_in_config_counts_as_given(name: str) -> None:
    default = getattr(Config(hostname="s.example"), name)
    fields: dict[str, Any] = {"hostname": "s.example", name: default}
    with pytest.raises(ValueError, match=f"{name} is given twice"):
        Acceptor(App(), config=Config(**fields), **{name: default})


@pytest.mark.parametrize("made", [replace, copy])
def test_default_counts_as_missing_if_it_is_unknown_which_fields_were_given(made: Callable[..., Config]) -> None:
    config = made(Config(hostname="s.example", max_message_size=52_428_800))
    assert "SIZE 70000" in hello(App(), config=config, max_message_size=70_000)
    with pytest.raises(ValueError, match="hostname is given twice"):
        Acceptor(App(), config=config, hostname="t.example")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"hostname": "a b"}, "is neither a domain"),
        ({"require_tls": True}, "require_tls needs a TLS context: pass tls=... to the server too"),
        ({"require_auth": True}, "require_auth needs a handler of auth: register one, or leave require_auth out"),
        ({"auth_mechanisms": ("PLAIN",)}, "auth_mechanisms needs a handler of auth"),
        ({"enabled": {"DNS"}}, "'DNS' is not off by default"),
    ],
)
def test_wrong_value_of_a_field_is_an_error(given: dict[str, Any], error: str) -> None:
    with pytest.raises(LocalProtocolError, match=error):
        Acceptor(App(), **given)


@pytest.mark.parametrize(("name", "hint"), [("starttls", "pass tls="), ("bodies", "runs of octets in any case")])
def test_field_of_config_without_effect_on_a_server_is_a_type_error(name: str, hint: str) -> None:
    given: dict[str, Any] = {name: True}
    with pytest.raises(TypeError, match=f"'{name}' is not an option of the server.*{hint}"):
        Acceptor(App(), **given)


def test_required_tls_and_login_need_no_other_field() -> None:
    app = App()
    app.include(Users({"tim": "secret"}))
    replies = hello(
        app, hostname="s.example", require_auth=True, require_tls=True, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    )
    assert "STARTTLS" in replies
    assert "AUTH" not in replies
    replies = hello(app, hostname="s.example", require_auth=True, plaintext_auth=True)
    assert "AUTH PLAIN LOGIN" in replies
    names = ("PLAIN", "SCRAM-SHA-256")
    replies = hello(app, require_auth=True, auth_mechanisms=names, plaintext_auth=("SCRAM-SHA-256",))
    assert "AUTH SCRAM-SHA-256\r\n" in replies


def test_form_of_bodies_in_config_has_no_effect_on_a_server() -> None:
    assert "250" in hello(App(), config=replace(CONFIG, bodies=Bodies.LINES), max_text_line=2000)
