"""Observers: events, replies, and notices such as refusals."""

import logging
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import (
    Budgets,
    DataChunk,
    DataEnd,
    InvalidCommand,
    InvalidData,
    Path,
    Reply,
)
from smtpcore_adapters import (
    Address,
    App,
    Decider,
    HandlerDone,
    LimitReached,
    Limits,
    Message,
    Notice,
    Observed,
    Reason,
    Refusal,
    Session,
    SessionClosed,
    SessionOpened,
    Timeouts,
    Tls,
    TlsEstablished,
    TlsFailed,
)
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.users import Users
from tests.adapters.fakes import (
    CONFIG,
    EHLO,
    ENVELOPE,
    MAIL,
    QUIT,
    RCPT,
    SILENCE,
    MessageStore,
    Step,
    accepting,
    register,
    watch,
)
from tests.adapters.playbook import session

BODY = b"Subject: x\r\n\r\nHello\r\n"
END = b".\r\n"


def fail(session: Session, subject: object) -> Reply | None:
    raise RuntimeError("the secret of the database")


TLS_CONFIG = replace(CONFIG, starttls=True)
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


# Observers


def test_observers_see_events_and_replies_in_order() -> None:
    app = accepting(MessageStore())
    happened = watch(app, object)
    session(app).send(b"RCPT\r\n" + ENVELOPE, BODY + END + QUIT)
    seen = [item for item in happened if not isinstance(item, Notice)]
    kinds = [f"{item.code}" if isinstance(item, Reply) else type(item).__name__ for item in seen]
    assert kinds == [
        *("ConnectionOpened", "220", "InvalidCommand", "503", "Ehlo", "250", "Mail", "250", "Rcpt", "250"),
        *("Data", "354", "DataChunk", "DataEnd", "250", "Quit", "221"),
    ]
    assert seen[1] == Reply(220, "s.example ESMTP")  # the reply in the form that was sent
    assert isinstance(seen[2], InvalidCommand)
    assert isinstance(seen[12], DataChunk)
    assert isinstance(seen[13], DataEnd)


def test_observers_see_invalid_data_and_the_final_421() -> None:
    app = accepting()
    seen: list[Observed] = []
    app.observe(lambda session, item: seen.append(item))
    session(app).send(ENVELOPE, b"one\r\nt\nwo\r\n" + END, SILENCE)
    assert DataChunk(b"one\r\nt") in seen
    assert any(isinstance(item, InvalidData) for item in seen)
    assert isinstance(seen[-3], Reply)
    assert seen[-3].code == 421
    assert isinstance(seen[-1], SessionClosed)


def test_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting(store := MessageStore())

    def look(session: Session, item: Observed) -> None:
        raise RuntimeError("the secret of the observer")

    app.observe(look)
    dialogue = session(app).send(ENVELOPE, BODY + END + QUIT).expect(220, 250, 250, 250, 354, 250, 221)
    assert store.bodies == [BODY]
    assert dialogue.reasons == ["QUIT"]
    assert "the secret of the observer" in caplog.text

    dialogue = session(app).send(SILENCE)
    dialogue.expect(220, 421)
    assert dialogue.reasons == ["timeout"]


def test_observers_see_notices_of_sessions_tls_and_handlers() -> None:
    app = accepting(MessageStore())
    seen = watch(app, SessionOpened, SessionClosed, TlsEstablished, TlsFailed, LimitReached, HandlerDone)
    session(app, config=TLS_CONFIG, tls=CONTEXT).send(EHLO, b"STARTTLS\r\n", ENVELOPE, END + QUIT)
    assert seen == [
        SessionOpened(),
        TlsEstablished(Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
        HandlerDone("RCPT", 0),
        HandlerDone("message", 0),
        SessionClosed(Reason.QUIT, 0),
    ]


def test_observers_see_a_failed_handshake() -> None:
    app = App()
    seen = watch(app, SessionOpened, SessionClosed, TlsEstablished, TlsFailed, LimitReached, HandlerDone)
    for failure in (ssl.SSLError(1, "no shared cipher"), ConnectionResetError()):
        dialogue = session(app, config=TLS_CONFIG, tls=CONTEXT, implicit_tls=True)
        dialogue.stream.handshake_error = failure
        dialogue.send(EHLO).end()

    assert [item.error for item in seen if isinstance(item, TlsFailed)] == ["no shared cipher", "ConnectionResetError"]


def test_object_with_on_event_observes() -> None:
    class ReplyObserver:
        def __init__(self) -> None:
            self.replies: list[int] = []

        def on_event(self, session: Session, item: Observed) -> None:
            if isinstance(item, Reply):
                self.replies.append(item.code)

    app = App()
    app.include(observer := ReplyObserver())
    session(app).send(b"EVENT x\r\n" + QUIT)
    assert observer.replies == [220, 500, 221]


def test_observer_that_raises_does_not_stop_other_observers() -> None:
    app = App()
    seen: list[Observed] = []
    app.observe(fail)
    app.observe(lambda session, item: seen.append(item))
    session(app).send(QUIT)
    assert len(seen) == 6


# Refusals


Author = tuple[int, Decider, str]
END = b".\r\n"
AUTH = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
WRONG = EHLO + b"AUTH PLAIN " + b64encode(b"\0tim\0wrong") + b"\r\n"


def raise_error(session: Session, subject: object) -> Reply:
    raise RuntimeError("the database is gone")


def handling(name: str, answer: object) -> App:
    """Return an app whose handler of `name` is `answer`, or a function that returns `answer` if that is no function.

    Unless `name` is RCPT, the app also accepts every recipient.
    """
    app = App() if name == "RCPT" else accepting()
    register(app, name, answer if callable(answer) else lambda session, subject: answer)
    return app


def refuse_second(session: Session, message: Message) -> Mapping[Path, Reply]:
    first, second, _ = message.forward_paths
    return {first: Reply(250, "Stored"), second: Reply(452, "Full")}


REFUSALS: dict[str, tuple[App, bytes, dict[str, Any], Author]] = {
    # Four different 452s
    "recipients of a message": (
        accepting(),
        EHLO + MAIL + RCPT * 101,
        {"config": replace(CONFIG, max_recipients=100)},
        (452, Decider.RULE, "max_recipients"),
    ),
    "domains of recipients": (
        accepting(),
        EHLO + MAIL + RCPT + b"RCPT TO:<u@t.example>\r\n",
        {"config": replace(CONFIG, max_recipient_domains=1)},
        (452, Decider.RULE, "max_recipient_domains"),
    ),
    "recipients of a session": (
        accepting(),
        EHLO + MAIL + RCPT + RCPT,
        {"config": replace(CONFIG, max_recipients_per_session=1)},
        (452, Decider.RULE, "max_recipients_per_session"),
    ),
    "handler of RCPT": (
        handling("RCPT", Reply(452, "Mailbox full")),
        EHLO + MAIL + RCPT,
        {},
        (452, Decider.HANDLER, "RCPT"),
    ),
    # Commands
    "RCPT by default": (handling("RCPT", None), EHLO + MAIL + RCPT, {}, (550, Decider.DEFAULT, "RCPT")),
    "unknown verb": (App(), b"XFOO\r\n", {}, (500, Decider.DEFAULT, "default")),
    "default handler": (
        handling("default", Reply(550, "No")),
        b"XFOO\r\n",
        {},
        (550, Decider.HANDLER, "default"),
    ),
    "web browser": (App(), b"GET / HTTP/1.1\r\n", {}, (421, Decider.LIMIT, "http")),
    "exception": (handling("MAIL", raise_error), EHLO + MAIL, {}, (451, Decider.FAILURE, "MAIL")),
    "reply that cannot be sent": (
        handling("MAIL", Reply(354, "Go on")),
        EHLO + MAIL,
        {},
        (451, Decider.FAILURE, "MAIL"),
    ),
    "syntax": (App(), EHLO + b"MAIL TO:<x>\r\n", {}, (501, Decider.RULE, "syntax")),
    "sequence": (App(), EHLO + RCPT, {}, (503, Decider.RULE, "sequence")),
    "size": (App(), EHLO + b"MAIL FROM:<> SIZE=99999999\r\n", {}, (552, Decider.RULE, "SIZE")),
    "authentication required": (
        App(),
        EHLO + MAIL,
        {"config": replace(AUTH, require_auth=True)},
        (530, Decider.RULE, "require_auth"),
    ),
    "refusals": (
        handling("RCPT", Reply(450, "Later")),
        EHLO + MAIL + RCPT + RCPT,
        {"config": replace(CONFIG, max_refusals=1)},
        (421, Decider.RULE, "max_refusals"),
    ),
    # Messages
    "message by default": (accepting(), ENVELOPE + END, {}, (554, Decider.DEFAULT, "message")),
    "message handler": (
        handling("message", Reply(554, "Spam")),
        ENVELOPE + END,
        {},
        (554, Decider.HANDLER, "message"),
    ),
    "message handler that raises": (
        handling("message", raise_error),
        ENVELOPE + END,
        {},
        (451, Decider.FAILURE, "message"),
    ),
    "bare newline": (accepting(MessageStore()), ENVELOPE + b"a\nb\r\n" + END, {}, (550, Decider.RULE, "bare_newlines")),
    # Connections
    "connect handler": (handling("connect", Reply(554, "No")), QUIT, {}, (554, Decider.HANDLER, "connect")),
    "early talker": (App(), EHLO, {"timeouts": Timeouts(greeting_delay=1)}, (554, Decider.LIMIT, "greeting_delay")),
    # AUTH
    "wrong password": (
        handling("auth", lambda session, question: False),
        WRONG,
        {"config": AUTH},
        (535, Decider.HANDLER, "auth"),
    ),
    "unknown user": (handling("auth", None), WRONG, {"config": AUTH}, (535, Decider.DEFAULT, "auth")),
    "auth handler with a reply": (
        handling("auth", Reply(454, "Later")),
        WRONG,
        {"config": AUTH},
        (454, Decider.HANDLER, "auth"),
    ),
    "auth handler that raises": (
        handling("auth", raise_error),
        WRONG,
        {"config": AUTH},
        (454, Decider.FAILURE, "auth"),
    ),
    "malformed credentials": (
        handling("auth", None),
        EHLO + b"AUTH PLAIN " + b64encode(b"tim") + b"\r\n",
        {"config": AUTH},
        (501, Decider.RULE, "AUTH"),
    ),
    "cancelled authentication": (
        handling("auth", None),
        EHLO + b"AUTH PLAIN\r\n*\r\n",
        {"config": AUTH},
        (501, Decider.DEFAULT, "auth"),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_observers_and_the_log_get_the_rule_that_decided_each_refusal(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, script, options, expected = REFUSALS[name]
    caplog.set_level(logging.INFO, "smtpcore")
    seen = watch(app, Refusal)
    dialogue = session(app, peer=Address("192.0.2.1", 5), **options).send(script).end()

    assert [item.reply.code for item in seen] == [code for code in dialogue.codes if code >= 400]
    assert (seen[-1].reply.code, seen[-1].decided_by, seen[-1].rule) == expected
    authors = [(record.__dict__.get("decided_by"), record.__dict__.get("rule")) for record in caplog.records]
    unsendable = name == "reply that cannot be sent"
    assert authors == [(None, None) if unsendable else (str(item.decided_by), item.rule) for item in seen]


def test_refusal_of_each_lmtp_recipient_names_the_rule_that_decided() -> None:
    app = handling("message", refuse_second)
    seen = watch(app, Refusal)
    recipients = b"".join(b"RCPT TO:<%d@s.example>\r\n" % number for number in range(3))
    config = replace(CONFIG, lmtp=True)
    dialogue = session(app, config=config).send(b"LHLO c.example\r\n" + MAIL + recipients + b"DATA\r\n" + END + QUIT)

    assert dialogue.codes[6:] == [354, 250, 452, 451, 221]
    assert [(item.decided_by, item.rule) for item in seen] == [
        (Decider.HANDLER, "message"),
        (Decider.FAILURE, "message"),
    ]


@pytest.mark.parametrize(
    ("script", "timeout"),
    [
        ((SILENCE,), "greeting"),
        ((EHLO, SILENCE), "command"),
        ((ENVELOPE, SILENCE), "body"),
        ((EHLO + b"AUTH PLAIN\r\n", SILENCE), "command"),
    ],
)
def test_421_of_a_timeout_names_the_timeout(script: tuple[Step, ...], timeout: str) -> None:
    app = accepting(Users({}))
    seen = watch(app, Refusal)
    dialogue = session(app, config=AUTH).send(*script).end()

    assert seen == [Refusal(seen[0].reply, Decider.TIMEOUT, timeout)]
    assert dialogue.codes[-1] == 421


def test_421_of_the_session_timeout_names_this_timeout() -> None:
    app = App()
    seen = watch(app, Refusal)
    session(app, budgets=Budgets(session=20)).send(EHLO, SILENCE)
    assert [(item.decided_by, item.rule) for item in seen] == [(Decider.TIMEOUT, "session")]


def test_refusal_names_the_timeout_of_a_crowded_server() -> None:
    app = App()
    seen = watch(app, Refusal)
    limits = Limits(connections=10)
    peers = PeerTable(limits)
    for _ in range(9):
        peers.enter("", 0)

    session(app, limits=limits, peers=peers).send(EHLO, SILENCE)
    assert [(item.decided_by, item.rule) for item in seen] == [(Decider.TIMEOUT, "crowded")]


def test_refused_greeting_names_the_limit_of_connections(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    seen = watch(app, Refusal)
    limits = Limits(connections_per_address=1)
    peers = PeerTable(limits)
    peers.enter("192.0.2.1", 0)

    session(app, limits=limits, peers=peers, peer=Address("192.0.2.1", 5)).send(EHLO).end()
    assert [(item.decided_by, item.rule) for item in seen] == [(Decider.LIMIT, "connections_per_address")]
    assert [record.__dict__["rule"] for record in caplog.records] == ["connections_per_address"]


def test_refusal_454_names_the_limit_of_failed_authentications(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpcore")
    app = accepting(Users({}))
    seen = watch(app, Refusal)
    limits = Limits(auth_failures_per_hour=1)
    session(app, config=AUTH, limits=limits, peer=Address("192.0.2.1", 5)).send(WRONG + WRONG).end()

    assert [(item.reply.code, item.decided_by, item.rule) for item in seen] == [
        (535, Decider.HANDLER, "auth"),
        (454, Decider.LIMIT, "auth_failures_per_hour"),
    ]
    assert [record.__dict__["rule"] for record in caplog.records] == ["auth", "auth_failures_per_hour"]


def test_refusal_names_the_shutdown_or_the_failure_of_the_session() -> None:
    app = App()
    seen = watch(app, Refusal)
    dialogue = session(app)
    dialogue.send(dialogue.loop.drain)
    refused = session(app)
    refused.loop.refuse(Reply(421, "closing: shutdown"))
    refused.end()
    session(app).send(ValueError("a defect")).end()

    assert [(item.decided_by, item.rule) for item in seen] == [
        (Decider.SHUTDOWN, "shutdown"),
        (Decider.SHUTDOWN, "shutdown"),
        (Decider.FAILURE, "session"),
    ]


def test_records_of_refusals_count_for_the_quota_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpcore")
    limits = Limits(log_records_per_minute=2)
    dialogue = session(App(), limits=limits, peer=Address("192.0.2.1", 5)).send(EHLO + 5 * MAIL).end()

    texts = [record.getMessage() for record in caplog.records]
    refused = f"{dialogue.session.id}: refused: 503 5.5.1 A mail transaction is already open (rule: sequence)"
    assert texts[:2] == [refused] * 2
    assert not any(text == refused for text in texts[2:])
