from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest

from smtpcore import (
    Attributes,
    BodyType,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Params,
    Path,
    Quit,
    Rcpt,
    Reply,
    Rset,
    StartTls,
    Vrfy,
)

from ..playbook import READY, server

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
def test_command_is_an_immutable_value_named_after_its_verb(command: Command) -> None:
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
        lambda: Ehlo(" c.example"),
        lambda: Ehlo("c.example\t"),
        lambda: Lhlo("c\x85example"),
        lambda: Helo("c\0"),
        pytest.param(lambda: Rcpt(Path("")), id="R5321-4.1.1.3-07"),
        lambda: Noop("a\r\nQUIT"),
        lambda: Help("\x00"),
        lambda: Vrfy(""),
        lambda: Expn("a\nb"),
    ],
)
def test_malformed_command_is_refused(make: Callable[[], Command]) -> None:
    with pytest.raises(LocalProtocolError, match=r".+"):
        make()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Ehlo("c.example"), "EHLO c.example"),
        (Ehlo("X X"), "EHLO X X"),
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
def test_str_of_a_command_is_its_line(command: Command, line: str) -> None:
    assert str(command) == line


@pytest.mark.parametrize(
    "values",
    [
        [Path("a@x"), Path("b@x"), Path("a@y"), Path(""), Path("Postmaster")],
        [Mailbox("a@x"), Mailbox("b@x"), Mailbox("a@y")],
        [Params({"A": True}), Params({"B": True})],
        [Attributes({"NAME": "a"}), Attributes({"NAME": "b"})],
        [Reply(250, "a"), Reply(250, "b"), Reply(251, "a"), Reply(250, "a", enhanced="2.0.0")],
    ],
    ids=["paths", "mailboxes", "parameters", "attributes", "replies"],
)
def test_different_values_have_different_hashes(values: list[object]) -> None:
    assert len({hash(value) for value in values}) == len(values) == len(set(values))


def test_only_the_last_word_of_vrfy_can_be_smtputf8() -> None:
    server(READY).send(b"VRFY Joe J Smith SMTPUTF8\r\n").expect(Vrfy("Joe J Smith", smtputf8=True))
    server(READY).send(b"VRFY SMTPUTF8 Smith\r\n").expect(Vrfy("SMTPUTF8 Smith"))
