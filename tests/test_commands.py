from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest

from smtpcore import (
    BodyType,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    LocalProtocolError,
    Mail,
    Noop,
    Params,
    Path,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
)

COMMANDS: list[Command] = [
    Helo("c.example"),
    Ehlo("[IPv6:2001:db8::1]"),
    Mail(Path("a@c.example")),
    Mail(Path(""), Params({"SIZE": 10})),
    Rcpt(Path("Postmaster")),
    Data(),
    Rset(),
    Noop(),
    Noop("anything\tat all"),
    Quit(),
    Vrfy("Joe Smith", smtputf8=True),
    Expn("list"),
    Help("MAIL"),
    StartTls(),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command).replace("\t", " "))
def test_a_command_is_an_immutable_value_named_by_its_verb(command: Command) -> None:
    again = replace(command)

    assert command.verb == type(command).__name__.upper()
    assert command == again
    assert command is not again
    assert hash(command) == hash(again)
    assert not hasattr(command, "__dict__")
    with pytest.raises((FrozenInstanceError, TypeError)):
        command.verb = "OTHER"  # type: ignore[misc]


def test_commands_of_different_verbs_differ() -> None:
    assert len({*COMMANDS, Helo("[IPv6:2001:db8::1]"), Vrfy("list"), Help("anything\tat all")}) == len(COMMANDS) + 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: Helo(""),
        lambda: Ehlo("not a domain"),
        lambda: Ehlo("[1.2.3.4"),
        pytest.param(lambda: Ehlo("b\u00fccher.example"), id="R6531-3.7.1-01"),
        lambda: Mail(Path("Postmaster")),
        pytest.param(lambda: Rcpt(Path("")), id="R5321-4.1.1.3-07"),
        lambda: Noop("a\r\nQUIT"),
        lambda: Help("\x00"),
        lambda: Vrfy(""),
        lambda: Expn("a\nb"),
    ],
)
def test_a_malformed_command_cannot_be_made(make: Callable[[], Command]) -> None:
    with pytest.raises(LocalProtocolError, match=r".+"):
        make()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Ehlo("c.example"), "EHLO c.example"),
        (Mail(Path("")), "MAIL FROM:<>"),
        (
            Mail(Path("A@c.example"), Params({"SIZE": 10, "body": BodyType.SEVEN_BIT, "SMTPUTF8": True})),
            "MAIL FROM:<A@c.example> SIZE=10 BODY=7BIT SMTPUTF8",
        ),
        (Rcpt(Path("Postmaster")), "RCPT TO:<Postmaster>"),
        (Data(), "DATA"),
        (Noop(), "NOOP"),
        (Help("MAIL"), "HELP MAIL"),
        (Vrfy("Joe Smith"), "VRFY Joe Smith"),
        (Expn("list", smtputf8=True), "EXPN list SMTPUTF8"),
    ],
)
def test_the_text_of_a_command_is_its_line(command: Command, line: str) -> None:
    assert str(command) == line
