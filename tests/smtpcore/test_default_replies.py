"""The replies of a server that leaves the decision to the protocol."""

from typing import Any

import pytest

from smtpcore import EXTENSIONS, ConnectionOpened, Noop, Reply, ReplyCode, UnknownCommand
from smtpcore._commands import COMMANDS
from smtpcore._default_replies import DEFAULTS, SENT_AS_GIVEN, check_reply, complete
from smtpcore._state import ALLOWED_REPLIES

from ..playbook import HELO, MAIL, READY, new_server, refuse, server

CODES: dict[str, str] = {
    "ConnectionOpened": "220",
    "Helo": "250",
    "Ehlo": "250",
    "Lhlo": "250",
    "Mail": "250 2.1.0",
    "Rcpt": "550 5.7.1",
    "Data": "354",
    "ChunkEnd": "250 2.0.0",
    "DataEnd": "554 5.3.0",
    "Rset": "250 2.0.0",
    "Noop": "250 2.0.0",
    "Quit": "221 2.0.0",
    "Vrfy": "252 2.5.0",
    "Expn": "252 2.5.0",
    "Help": "214 2.0.0",
    "StartTls": "220 2.0.0",
    "Burl": "554 5.6.6",
    "Etrn": "458 4.5.0",
    "Xforward": "250 2.0.0",
    "Auth": "535 5.7.8",
    "AuthResponse": "535 5.7.8",
    "AuthCancel": "501 5.7.0",
    "Xclient": "550 5.7.0",
    "UnknownCommand": "500 5.5.1",
}


ALL_DEFAULTS: dict[type[object], Reply] = {
    **DEFAULTS,
    **{command: command.default_reply for extension in EXTENSIONS for command in extension.commands},
}


def test_each_default_reply_has_its_codes() -> None:
    codes = {kind.__name__: f"{reply.code} {reply.enhanced or ''}".strip() for kind, reply in ALL_DEFAULTS.items()}
    assert codes == CODES


def test_each_default_reply_may_answer_its_event() -> None:
    assert all(reply.reply_class in ALLOWED_REPLIES[kind] for kind, reply in ALL_DEFAULTS.items())


@pytest.mark.parametrize(
    ("before", "data", "kind"),
    [
        (READY, b"MAIL FROM:<a@c.example>\r\n", COMMANDS["MAIL"]),
        (MAIL, b"RCPT TO:<u@s.example>\r\n", COMMANDS["RCPT"]),
        (READY, b"NOOP\r\n", COMMANDS["NOOP"]),
        (READY, b"RSET\r\n", COMMANDS["RSET"]),
        (READY, b"VRFY u\r\n", COMMANDS["VRFY"]),
        (READY, b"XFOO\r\n", UnknownCommand),
    ],
)
def test_default_reply_is_sent_as_listed_in_the_table(before: bytes, data: bytes, kind: type[object]) -> None:
    server(before, answer=refuse).send(data).expect(str(DEFAULTS[kind]))


def test_greeting_and_goodbye_name_the_host() -> None:
    greeting, goodbye = (DEFAULTS[kind].lines[0] for kind in (ConnectionOpened, COMMANDS["QUIT"]))
    conn = new_server().connection
    event = conn.next_event()
    assert isinstance(event, ConnectionOpened)

    assert str(conn.send(conn.default_reply(event))) == f"220 s.example {greeting}"
    server(READY).send(b"QUIT\r\n").expect(f"221 2.0.0 s.example {goodbye}")


def test_sessions_share_the_completed_default_replies() -> None:
    greetings: list[Reply] = []
    for conn in (new_server().connection, new_server().connection):
        event = conn.next_event()
        assert isinstance(event, ConnectionOpened)
        greetings += conn.answer(event)

    first, second = greetings
    assert first is second


def test_helo_is_answered_with_the_name_of_the_host() -> None:
    server().send(HELO).expect("250 s.example")


@pytest.mark.parametrize(
    ("reply", "enhanced"),
    [
        (Reply(250), "2.0.0"),
        (Reply(250, enhanced="2.1.5"), "2.1.5"),
        (Reply(451), "4.0.0"),
        (Reply(550), "5.0.0"),
        (Reply(235), "2.7.0"),
        (Reply(503), "5.5.1"),
        (Reply(555), "5.5.4"),
    ],
)
def test_reply_without_an_enhanced_status_code_gets_a_general_code(reply: Reply, enhanced: str) -> None:
    completed = complete(Noop(), reply, hostname="s.example", keywords=(), enhances=True)
    assert completed.enhanced == enhanced


@pytest.mark.parametrize("code", ReplyCode)
def test_complete_reply_listed_as_sent_as_given_passes_the_check_unchanged(code: ReplyCode) -> None:
    enhanced = None if code in (334, 354) else f"{code // 100}.0.0"
    reply = Reply(code, "text", enhanced=enhanced)
    kinds = [kind for kind, listed in SENT_AS_GIVEN if listed == code]

    assert kinds
    for kind in kinds:
        asked: Any = object.__new__(kind)
        check_reply(asked, reply)
        if reply.is_complete:
            assert complete(asked, reply, hostname="s.example", keywords=("SIZE",), enhances=True) is reply
