"""Log records of a session."""

import logging
from base64 import b64encode
from dataclasses import replace

import pytest

from smtpcore import Rcpt, Reply
from smtpcore_adapters import (
    Address,
    App,
    Limits,
    Session,
)
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.users import Users
from tests.adapters.fakes import (
    CONFIG,
    EHLO,
    MAIL,
    QUIT,
    RCPT,
)
from tests.adapters.playbook import session

HERE = Address("192.0.2.1", 1)
OFFERING = replace(CONFIG, auth_mechanisms=("PLAIN", "LOGIN"), plaintext_auth=True)
RIGHT = b"AUTH PLAIN " + b64encode(b"\0tim\0tanstaaf") + b"\r\n"


def users() -> App:
    app = App()
    app.include(Users({"tim": "tanstaaf"}))
    return app


def test_log_records_begin_with_the_session_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    dialogue = session(App(), peer=Address("2001:db8::1", 5)).send(QUIT)
    assert [record.getMessage() for record in caplog.records] == [
        f"{dialogue.session.id}: connection from [2001:db8::1]:5",
        f"{dialogue.session.id}: disconnected: QUIT",
    ]


def test_log_records_per_client_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.on("RCPT")
    def stumble(session: Session, rcpt: Rcpt) -> Reply:
        raise RuntimeError("no such table")

    limits = Limits(log_records_per_minute=10)
    table = PeerTable(limits)
    for port in range(3):
        session(app, limits=limits, peers=table, peer=HERE._replace(port=port)).send(EHLO + MAIL + RCPT * 100).end()
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if "a handler failed" in text]) == 10
    assert [text for text in texts if "left out" in text] == [
        "1 log records were left out: some clients cause too many"
    ]
    assert len(texts) == 11


def test_log_records_have_structured_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    dialogue = session(users(), config=OFFERING, peer=HERE).send(EHLO + RIGHT + QUIT)
    fields = [record.__dict__ for record in caplog.records]
    assert {(each["session"], each["client"]) for each in fields} == {(dialogue.session.id, HERE.host)}
    assert fields[1]["identity"] == "tim"
    assert (fields[-1]["reason"], fields[-1]["seconds"]) == ("QUIT", 0)


def test_disabled_log_record_uses_no_quota() -> None:
    table = PeerTable(Limits(log_records_per_minute=1))
    logging.getLogger("smtpcore").setLevel(logging.CRITICAL)
    try:
        session(App(), peers=table).send(ConnectionResetError()).end()
        assert table.may_log("x", 0)
    finally:
        logging.getLogger("smtpcore").setLevel(logging.NOTSET)
