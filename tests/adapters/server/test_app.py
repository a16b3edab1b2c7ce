"""The collection of handlers."""

from types import ModuleType
from typing import Any

import pytest

from smtpcore import Reply
from smtpcore_adapters import App, Session
from tests.adapters.fakes import EHLO, MAIL, RCPT, Dialogue, converse, step


@pytest.fixture
def session() -> Session:
    return Dialogue(App()).session


class Greylist:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def on_rcpt(self, session: Session, rcpt: object) -> Reply | None:
        self.seen.append(rcpt)
        return Reply(450, "Later") if len(self.seen) == 1 else None

    def once(self) -> None:
        raise AssertionError("this is no handler")


def test_methods_of_an_object_are_handlers() -> None:
    app = App()
    app.include(greylist := Greylist())
    app.include(Taker())
    assert converse(app, EHLO + MAIL + RCPT + RCPT).codes == [220, 250, 250, 450, 250]
    assert len(greylist.seen) == 2


class Taker:
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
    assert converse(app, EHLO + MAIL + RCPT).codes == [220, 250, 250, 250]


def test_things_without_handlers_are_refused() -> None:
    with pytest.raises(ValueError, match="has no handlers: give it a function on_rcpt"):
        App().include(object())


def test_what_cannot_be_called_is_refused() -> None:
    class Wrong:
        on_rcpt = 5

    with pytest.raises(ValueError, match="the handler of rcpt is 5, which cannot be called"):
        App().include(Wrong())


def test_on_returns_the_function_that_it_decorates() -> None:
    def handler(session: Session, subject: Any) -> None: ...

    assert App().on("RCPT")(handler) is handler


@pytest.mark.parametrize("name", ["EXPN", "expn", "Connect", "MESSAGE", "message", "default", "XFOO"])
def test_names_of_handlers_know_no_letter_case(name: str) -> None:
    app = App()
    assert not app.handles(name)
    app.on(name)(lambda session, subject: None)
    assert app.handles(name.upper())
    assert app.handles(name.lower())
    assert not app.handles("RCPT")


def test_asking_no_one_gives_none(session: Session) -> None:
    assert step(App().ask("RCPT", session, None)) is None


def test_what_a_handler_raises_is_passed_on(session: Session) -> None:
    app = App()

    @app.on("RCPT")
    def boom(session: Session, subject: object) -> Reply:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        step(app.ask("RCPT", session, None))


def test_garbage_names_the_handler(session: Session) -> None:
    class Partial:
        def __call__(self, session: Session, subject: object) -> Any:
            return 250

        def __repr__(self) -> str:
            return "<a partial>"

    app = App()
    app.on("NOOP")(session_handler)
    with pytest.raises(TypeError, match=r"session_handler returned 'OK': a handler returns a Reply or None"):
        step(app.ask("NOOP", session, None))

    app = App()
    app.on("NOOP")(Partial())
    with pytest.raises(TypeError, match="<a partial> returned 250"):
        step(app.ask("NOOP", session, None))


def session_handler(session: Session, subject: object) -> Any:
    return "OK"


def test_telling_calls_all_whatever_they_return_or_raise(session: Session) -> None:
    app = App()
    calls: list[str] = []

    @app.on("disconnect")
    def first(session: Session, reason: str) -> Reply:
        calls.append("first")
        return Reply(250)

    @app.on("disconnect")
    async def second(session: Session, reason: str) -> None:
        calls.append("second")
        raise ZeroDivisionError

    @app.on("disconnect")
    def third(session: Session, reason: str) -> None:
        calls.append("third")
        raise KeyError

    with pytest.raises(ExceptionGroup, match="disconnect handlers failed") as caught:
        step(app.tell("disconnect", session, "QUIT"))

    assert [type(exc) for exc in caught.value.exceptions] == [ZeroDivisionError, KeyError]
    assert calls == ["first", "second", "third"]


def test_telling_no_one_is_no_failure(session: Session) -> None:
    step(App().tell("disconnect", session, "QUIT"))


def test_observers_are_plain_functions() -> None:
    async def look(session: Session, item: object) -> None: ...

    for wrong in (look, 5):
        with pytest.raises(ValueError, match="must be a plain function"):
            App().observe(wrong)  # type: ignore[arg-type]


def test_a_coroutine_function_does_not_run_in_a_thread() -> None:
    with pytest.raises(ValueError, match="a coroutine function, which cannot be called in a thread"):

        @App().on("RCPT", blocking=True)
        async def decide(session: Session, rcpt: object) -> None: ...
