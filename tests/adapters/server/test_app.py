"""`App`: the registration of handlers and observers."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from smtpcore import EXTENSIONS, Config, Extension, ExtensionCommand, Reply
from smtpcore_adapters import App, Session
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.server._acceptor import Acceptor
from tests.adapters.fakes import CONFIG, EHLO, MAIL, QUIT, RCPT, register
from tests.adapters.playbook import accepted, session


class Greylist:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def on_rcpt(self, session: Session, rcpt: object) -> Reply | None:
        self.seen.append(rcpt)
        return Reply(450, "Later") if len(self.seen) == 1 else None

    def once(self) -> None:
        raise AssertionError("this method is not a handler")


def test_methods_of_an_object_are_handlers() -> None:
    app = App()
    app.include(greylist := Greylist())
    app.include(AcceptingHandler())
    session(app).send(EHLO + MAIL + RCPT + RCPT).end().expect(220, 250, 250, 450, 250)
    assert len(greylist.seen) == 2


class AcceptingHandler:
    async def on_RCPT(self, session: Session, rcpt: object) -> Reply:
        return Reply(250)


def test_functions_of_a_module_are_handlers() -> None:
    module = ModuleType("handlers")

    def on_rcpt(session: Session, rcpt: object) -> Reply:
        return Reply(250)

    module.on_rcpt = on_rcpt  # type: ignore[attr-defined]
    module.other = on_rcpt  # type: ignore[attr-defined]
    app = App()
    app.include(module)
    session(app).send(EHLO + MAIL + RCPT).end().expect(220, 250, 250, 250)


def test_class_in_place_of_an_object_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^AnyRecipient is a class: include an object of it, AnyRecipient\(\.\.\.\)$"):
        App().include(AnyRecipient)


def test_object_without_handlers_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="has no handlers: give it a function on_rcpt"):
        App().include(object())


def test_handler_that_is_not_callable_is_a_value_error() -> None:
    class Wrong:
        on_rcpt = 5

    with pytest.raises(ValueError, match="the handler of rcpt is 5, which cannot be called"):
        App().include(Wrong())


def test_on_returns_the_decorated_function() -> None:
    def handler(session: Session, subject: Any) -> None: ...

    assert App().on("RCPT")(handler) is handler


@pytest.mark.parametrize("name", ["EXPN", "expn", "Connect", "MESSAGE", "message", "default", "XFOO"])
def test_handler_names_ignore_case(name: str) -> None:
    app = App()
    assert not app.handles(name)
    register(app, name, lambda session, subject: None)
    assert app.handles(name.upper())
    assert app.handles(name.lower())
    assert not app.handles("RCPT")


def test_observer_that_is_not_a_plain_function_is_a_value_error() -> None:
    async def look(session: Session, item: object) -> None: ...

    for wrong in (look, 5):
        with pytest.raises(ValueError, match="must be a plain function"):
            App().observe(wrong)  # type: ignore[arg-type]


def test_blocking_coroutine_function_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="a coroutine function, which cannot be called in a thread"):

        @App().on("RCPT", blocking=True)
        async def decide(session: Session, rcpt: object) -> None: ...


def one_argument(session: Any) -> None: ...
async def three_arguments(session: Session, event: object, more: object) -> None: ...


class OneArgument:
    def on_rcpt(self, session: Session) -> None: ...


@pytest.mark.parametrize(
    ("register", "error"),
    [
        (
            lambda app: app.on("RCPT")(one_argument),
            "handler one_argument of RCPT cannot be called with (session, event)",
        ),
        (lambda app: app.on("message")(three_arguments), "missing a required argument: 'more'"),
        (lambda app: app.on_verb("XPING")(one_argument), "handler one_argument of XPING cannot be called"),
        (lambda app: app.include(OneArgument()), "handler OneArgument.on_rcpt of rcpt cannot be called"),
        (lambda app: app.observe(one_argument), "observer one_argument cannot be called with (session, item)"),
        (lambda app: app.wording(one_argument), "wording one_argument cannot be called with (session, reply, author)"),
        (lambda app: app.mechanism("X-A")(one_argument), "mechanism one_argument cannot be called with (session, exch"),
        (lambda app: app.observe(partial(one_argument, None)), "observer functools.partial("),
    ],
)
def test_function_with_wrong_parameters_is_a_value_error(register: Callable[[App], object], error: str) -> None:
    app = App()
    with pytest.raises(ValueError, match=re.escape(error)):
        register(app)
    assert not any((app.handlers, app.observers, app.wordings, app.mechanisms))


def test_decorator_may_add_arguments() -> None:
    def with_database(function: Callable[..., Any]) -> Callable[..., Any]:
        return wraps(function)(lambda *arguments: function(*arguments, "database"))

    app = App()
    app.on("RCPT")(with_database(three_arguments))
    assert app.handles("RCPT")


def test_function_without_a_known_signature_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "signature", Mock(side_effect=ValueError("no signature found for builtin")))
    app = App()
    app.observe(one_argument)  # type: ignore[arg-type]
    assert len(app.observers) == 1


def test_handler_of_a_custom_command_gets_an_instance_of_its_class() -> None:
    class Quota(ExtensionCommand):
        verb = "XQUOTA"

        @classmethod
        def parse(cls, argument: str) -> ExtensionCommand:
            return cls()

    app, events = App(), []

    @app.on_verb("XQUOTA")
    def tell_quota(session: Session, quota: object) -> Reply:
        events.append(type(quota))
        return Reply(250, "1000 octets", enhanced="2.0.0")

    extensions = (*EXTENSIONS, Extension(keyword="XQUOTA", commands=(Quota,)))
    dialogue = session(app, extensions=extensions).send(EHLO + b"XQUOTA acme\r\n" + QUIT)
    assert dialogue.replies[2] == "250 2.0.0 1000 octets"
    assert events == [Quota]


def test_on_session_config_changes_the_configuration_of_each_session(caplog: pytest.LogCaptureFixture) -> None:
    class Changes:
        def __init__(self) -> None:
            self.names = iter(["one.example", "two.example"])

        def on_session_config(self, config: Config) -> Config:
            return replace(config, hostname=next(self.names))

    app = App()
    app.include(Changes())
    acceptor = Acceptor(app, config=CONFIG)
    greetings = [accepted(acceptor).send(QUIT).end().replies[0].split()[1] for _ in range(3)]
    assert greetings == ["one.example", "two.example", "s.example"]
    assert "on_session_config failed" in caplog.text
