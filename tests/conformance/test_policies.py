"""Decisions that the RFCs leave to the application, and the behaviour of the core that these decisions need."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    OFF_BY_DEFAULT,
    Auth,
    Burl,
    Connection,
    ConnectionOpened,
    Data,
    DataEnd,
    Ehlo,
    Event,
    Expn,
    Helo,
    InvalidCommand,
    Mail,
    Mailbox,
    OriginalRecipient,
    Params,
    Rcpt,
    Reply,
    Ret,
    State,
    Submitter,
    Transaction,
    Vrfy,
)
from smtpcore._default_replies import DEFAULTS

from ..helpers import body
from ..playbook import (
    DATA,
    GREETED,
    HELO,
    MAIL,
    RCPT,
    READY,
    Answer,
    ServerPlaybook,
    accept,
    answer_with,
    new_server,
    refuse,
    server,
)

FROM = b"MAIL FROM:<a@c.example>\r\n"
TO = b"RCPT TO:<u@s.example>\r\n"
MESSAGE = b"x\r\n.\r\n"
ALL: dict[str, Any] = {"disabled": frozenset()}
SINCE = b"RCPT TO:<u@s.example> RRVS=2014-04-03T23:01:00Z\r\n"

# https://www.iana.org/assignments/mail-parameters: SMTP service extensions
REGISTERED = frozenset(
    re.findall(
        r"\S+",
        "8BITMIME ATRN AUTH BINARYMIME BURL CHECKPOINT CHUNKING CONNEG CONPERM DELIVERBY DSN ENHANCEDSTATUSCODES ETRN "
        "EXPN FUTURERELEASE HELP LIMITS MT-PRIORITY MTRK NO-SOLICITING ONEX PIPELINING REQUIRETLS RRVS SAML SEND SIZE "
        "SMTPUTF8 SOML STARTTLS SUBMITTER TURN VERB VRFY",
    )
)


def refusing_with(kind: type[Event], reply: str) -> Answer:
    code, _, rest = reply.partition(" ")
    return answer_with(kind, Reply(int(code), "so it is", enhanced=rest or None))


# Refusals by the application: the client gets the chosen code, and the state of the session stays the same.
REFUSALS: list[tuple[str, bytes, bytes, type[Event], str]] = [
    ("R5321-7.9-01: EHLO", GREETED, READY, Ehlo, "550"),
    ("R5321-7.9-01: HELO", GREETED, HELO, Helo, "550"),
    ("R5321-7.9-01: MAIL", READY, FROM, Mail, "550 5.7.1"),
    ("R5321-7.9-01: RCPT", MAIL, TO, Rcpt, "550 5.7.1"),
    ("R5321-4.5.3.1.10-03", RCPT, b"DATA\r\n", Data, "503 5.5.3"),
    ("R1870-7-02", READY, b"MAIL FROM:<> SIZE=99999999\r\n", Mail, "452 4.3.1"),
    ("R2852-3-03: RCPT", MAIL, TO, Rcpt, "455 4.5.4"),
    ("R2852-3-03: DATA", RCPT, b"DATA\r\n", Data, "451 4.4.7"),
    ("R3865-2.4-01", MAIL, TO, Rcpt, "550 5.7.1"),
    ("R4865-6-01, R4865-6-02", READY, b"MAIL FROM:<> HOLDFOR=60\r\n", Mail, "552 5.7.16"),
    ("R6409-3.2-01", READY, FROM, Mail, "550 5.1.7"),
    ("R6409-4.1-01: MAIL", READY, FROM, Mail, "554 5.7.0"),
    ("R6409-4.1-01: RCPT", MAIL, TO, Rcpt, "554 5.7.0"),
    ("R6409-4.1-01: DATA", RCPT, b"DATA\r\n", Data, "554 5.7.0"),
    ("R6409-4.2-01, R6409-4.2-02: MAIL", READY, b"MAIL FROM:<a@sales>\r\n", Mail, "554 5.1.8"),
    ("R6409-4.2-01, R6409-4.2-02: RCPT", MAIL, b"RCPT TO:<b@squeaky.sales>\r\n", Rcpt, "554 5.1.2"),
    ("R6409-6.1-01", READY, b"MAIL FROM:<boss@c.example>\r\n", Mail, "550 5.7.1"),
    ("R6409-6.2-01", MAIL, TO, Rcpt, "550 5.7.1"),
    ("R6409-6.3-01: syntax", DATA, MESSAGE, DataEnd, "554 5.6.0"),
    ("R6409-6.3-01: rights", DATA, MESSAGE, DataEnd, "550 5.7.1"),
    ("R6409-6.3-01: policy", DATA, MESSAGE, DataEnd, "550 5.7.0"),
    ("R6409-7-06: syntax", RCPT, b"BDAT 1 LAST\r\nx", DataEnd, "554 5.6.0"),
    ("R6409-7-06: rights", RCPT, b"BDAT 1 LAST\r\nx", DataEnd, "550 5.7.1"),
    ("R6531-3.5-04", MAIL, TO, Rcpt, "553 5.6.7"),
    ("R6531-3.7.4.2-02, R6531-3.7.4.2-03: transient", READY, b"VRFY x\r\n", Vrfy, "252 2.6.8"),
    ("R6531-3.7.4.2-02, R6531-3.7.4.2-03: permanent", READY, b"VRFY x\r\n", Vrfy, "550 5.6.8"),
    ("R6710-4.1-06, R6710-4.1-07: transient", READY, b"MAIL FROM:<> MT-PRIORITY=0\r\n", Mail, "450 4.7.15"),
    ("R6710-4.1-06, R6710-4.1-07: permanent", READY, b"MAIL FROM:<> MT-PRIORITY=0\r\n", Mail, "550 5.7.15"),
    ("R6710-5-02", READY, b"MAIL FROM:<> MT-PRIORITY=4 SIZE=9\r\n", Mail, "552 5.7.16"),
    (
        "R7293-5.1-01, R7293-15.3-01: owner",
        MAIL,
        b"RCPT TO:<u@s.example> RRVS=2014-04-03T23:01:00Z\r\n",
        Rcpt,
        "550 5.7.17",
    ),
    ("R7293-15.3-01: domain", MAIL, SINCE, Rcpt, "550 5.7.18"),
    ("R7293-15.3-01: unknown", MAIL, SINCE, Rcpt, "550 5.7.19"),
    ("R7293-5.1.1-02", RCPT, b"DATA\r\n", Data, "550 5.7.19"),
    ("R7505-4.1-01", MAIL, TO, Rcpt, "556 5.1.10"),
    ("R5248-2.4-02", RCPT, b"BURL imap://x LAST\r\n", Burl, "554 5.7.14"),
    ("R5248-2.4-03: disabled", READY, b"AUTH PLAIN AGEAYg==\r\n", Auth, "525 5.7.13"),
    ("R5248-2.4-03: encryption", READY, b"AUTH PLAIN AGEAYg==\r\n", Auth, "523 5.7.10"),
    ("R5321-3.5.1-08: refused", READY, b"EXPN smith\r\n", Expn, "550 5.1.1"),
]


@pytest.mark.parametrize(("before", "line", "kind", "reply"), [pytest.param(*row, id=name) for name, *row in REFUSALS])
def test_application_can_refuse_with_any_suitable_code(
    before: bytes, line: bytes, kind: type[Event], reply: str
) -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    changes: dict[str, Any] = {
        **ALL,
        "auth_mechanisms": ("PLAIN",),
        "plaintext_auth": True,
        "burl": ("imap",),
        "max_hold_for": 60,
        "max_hold_until": until,
        "max_message_size": None,
    }
    answer = refusing_with(kind, reply)
    book = server(before, answer=answer, **changes)
    at, transaction = book.state, book.connection.transaction
    book.send(line)

    assert isinstance(book.events[-1], kind)
    # RFC 5321 4.1.4: a refusal changes nothing, except that the end of a body ends its transaction.
    ends = isinstance(book.events[-1], DataEnd | Burl)
    assert (book.state, book.connection.transaction) == (State.READY, None) if ends else (at, transaction)
    book.expect(f"{reply} so it is")


def test_password_without_tls_is_never_examined() -> None:
    """R8314-4.1-01"""
    changes: dict[str, Any] = {"auth_mechanisms": ("PLAIN",), "starttls": True}
    right, wrong = (
        server(READY, **changes).send(b"AUTH PLAIN %b\r\n" % text) for text in (b"AHRpbQB0YW5z", b"AGEAYg==")
    )
    assert right.replies == wrong.replies
    [event] = right.events
    assert isinstance(event, InvalidCommand)
    assert b"AHRpbQB0YW5z" not in event.line


# Replies


def test_reply_texts_do_not_affect_the_session() -> None:
    """R5321-4.3.1-03"""

    def terse(conn: Connection, event: Event) -> Reply:
        reply = accept(conn, event)
        return Reply(reply.code, "so it is")

    session = [READY, FROM, TO, b"NOOP\r\nVRFY x\r\nHELP\r\nDATA\r\n", MESSAGE, b"RSET\r\n", b"BOGUS\r\n", b"QUIT\r\n"]
    usual, other = server(), server(answer=terse)
    for segment in session:
        assert other.send(segment).codes == usual.send(segment).codes
        assert other.state is usual.state


def test_default_reply_texts_are_distinct() -> None:
    """R2920-3.2-10"""
    [sender] = server(READY).send(FROM).replies
    [recipient] = server(MAIL, answer=refuse).send(TO).replies
    assert "Sender" in sender
    assert "recipient" in recipient
    sent = [
        DEFAULTS[kind].lines for kind in DEFAULTS if kind not in (Ehlo, Helo, Auth) and DEFAULTS[kind].lines != ("",)
    ]
    assert len(set(sent)) == len(sent)


def test_code_521_is_never_a_default_reply() -> None:
    """R7504-3-02, R6409-7-04"""
    assert 521 not in {reply.code for reply in DEFAULTS.values()}
    assert server(answer=answer_with(ConnectionOpened, Reply(554, "No service for you"))).state is State.REFUSED


def test_expn_reply_has_one_mailbox_per_line() -> None:
    """R5321-3.5.1-01, R5321-3.5.1-04, R5321-3.5.1-08"""
    members = [f"<u{number}@s.example>" for number in range(3)]
    book = server(READY, answer=answer_with(Expn, Reply(250, *members)), **ALL).send(b"EXPN list\r\n")
    book.expect(f"250-2.0.0 {members[0]}\n250-2.0.0 {members[1]}\n250 2.0.0 {members[2]}")
    answer = answer_with(Vrfy, Reply(250, members[1], enhanced="2.1.5"))
    server(READY, answer=answer).send(b"VRFY u1\r\n").expect(f"250 2.1.5 {members[1]}")


def test_vrfy_and_expn_disclose_nothing_by_default() -> None:
    """R5321-7.3-01, R5321-3.5.1-07"""
    server(READY, answer=refuse, **ALL).send(b"VRFY smith\r\nEXPN list\r\nVRFY list\r\n").expect(252, 252, 252)


def test_keywords_are_registered_or_start_with_x() -> None:
    """R5321-2.2.2-01"""
    assert {extension.keyword for extension in EXTENSIONS if extension.keyword[0] != "X"} <= REGISTERED


# Messages


def test_data_without_accepted_recipients_is_refused() -> None:
    """R2920-3.2-04"""
    session = FROM + TO + b"DATA\r\n.\r\n"
    server(READY, answer=refuse).send(session).expect(250, 550, 554, 500)
    assert not any(isinstance(event, DataEnd) for event in server(READY, answer=refuse).send(session).events)


def test_header_fields_are_not_checked() -> None:
    """R5321-4.4-09"""
    content = b"Return-Path: <x@c.example>\r\nReturn-Path: <y@c.example>\r\nReceived: z\r\n\r\n"
    assert body(server(DATA).send(content + b".\r\n").events) == content


@pytest.mark.parametrize(("letters", "code"), [(499, 250), (500, 554)])
def test_line_length_is_measured_in_octets(letters: int, code: int) -> None:
    """R6532-3.4-01"""
    line = ("\u00e9" * letters).encode() + b"\r\n"
    data = b"MAIL FROM:<> SMTPUTF8\r\n" + TO + b"DATA\r\n" + line + b".\r\n"
    assert server(READY, max_text_line=1000).send(data).codes[-1] == code


def test_message_of_the_accepted_declared_size_is_accepted() -> None:
    """R1870-6.3-01"""
    size = 65_536
    body = (b"x" * 62 + b"\r\n") * (size // 64)
    session = b"MAIL FROM:<> SIZE=%d\r\n" % size + TO + b"DATA\r\n" + body + b".\r\n"
    for segments in ([session], [session[:-3], session[-3:]]):
        server(READY, max_message_size=size).send(*segments).expect(250, 250, 354, 250)


def test_null_sender_is_falsy() -> None:
    """R5321-6.1-01, R3461-5.2-01"""
    book = server(READY, **ALL).send(b"MAIL FROM:<>\r\nRCPT TO:<u@s.example> NOTIFY=SUCCESS\r\n")
    transaction = book.connection.transaction
    assert transaction
    assert not transaction.mail.reverse_path
    assert transaction.recipients[0].params.notify


@pytest.mark.parametrize(
    ("params", "ret"), [({"RET": Ret.FULL}, Ret.FULL), ({"RET": Ret.FULL, "REQUIRETLS": True}, Ret.HDRS)]
)
def test_requiretls_limits_ret_to_headers(params: dict[str, object], ret: Ret) -> None:
    """R8689-5-01"""
    assert Params(params).ret is ret
    assert Params({"REQUIRETLS": True}).ret is Ret.HDRS
    assert str(Params(params)).startswith(" RET=FULL")


@pytest.mark.parametrize("value", ["2014-04-03T23:01:00Z", "2014-04-03T23:01:00-07:00;C"])
def test_rrvs_value_can_be_relayed_unchanged(value: str) -> None:
    """R7293-5.1.1-01"""
    [rcpt] = server(MAIL, **ALL).send(f"RCPT TO:<u@s.example> RRVS={value}\r\n".encode()).events
    assert str(rcpt) == f"RCPT TO:<u@s.example> RRVS={value}"


def test_orcpt_may_be_utf_8_with_smtputf8() -> None:
    """R6531-3.2-04"""
    [rcpt] = server(MAIL, **ALL).send("RCPT TO:<u@s.example> ORCPT=utf-8;\u00fc\\x{20}@s.example\r\n".encode()).events
    assert isinstance(rcpt, Rcpt)
    assert rcpt.params.orcpt == OriginalRecipient("utf-8;\u00fc\\x{20}@s.example")
    assert rcpt.params.orcpt.address == "\u00fc @s.example"


# Submitter and priority


def transaction(mail: bytes, *, authenticated: bool) -> Transaction:
    changes: dict[str, Any] = {**ALL, "auth_mechanisms": ("PLAIN",), "plaintext_auth": True}
    book = server(READY, answer=answer_with(Auth, Reply(235)), **changes)
    if authenticated:
        book.send(b"AUTH PLAIN AGEAYg==\r\n").expect(235)
    found = book.send(mail).connection.transaction
    assert found
    return found


@pytest.mark.parametrize(
    ("argument", "authenticated", "submitter"),
    [
        pytest.param(b" AUTH=boss@c.example", True, Mailbox("boss@c.example"), id="R4954-5-05"),
        pytest.param(b" AUTH=boss@c.example", False, None, id="R4954-5-04"),
        pytest.param(b" AUTH=<>", True, None, id="R4954-5-03"),
        pytest.param(b"", True, None, id="R4954-5-07"),
    ],
)
def test_auth_parameter_is_trusted_only_if_authenticated(
    argument: bytes, authenticated: bool, submitter: Mailbox | None
) -> None:
    line = b"MAIL FROM:<a@c.example>" + argument + b"\r\n"
    found = transaction(line, authenticated=authenticated)
    assert found.submitter == submitter
    assert str(found.mail).encode() + b"\r\n" == line  # the untrusted value stays available for relaying


def test_auth_parameter_is_encoded_as_xtext() -> None:
    """R5321-4.1.2-12, R4954-8-02"""
    submitter = Submitter(Mailbox("e=mc2@example.com"))
    assert str(Params({"AUTH": submitter})) == " AUTH=e+3Dmc2@example.com"
    options: dict[str, Any] = {"auth_mechanisms": ("PLAIN",), "plaintext_auth": True}
    [mail] = server(READY, **options).send(b"MAIL FROM:<> AUTH=a+2Bb@c.example\r\n").events
    assert isinstance(mail, Mail)
    assert mail.params.auth == Submitter(Mailbox("a+b@c.example"))
    for escape in (b"+2", b"+2b", b"+"):
        line = b"MAIL FROM:<> AUTH=a" + escape + b"@c.example\r\n"
        server(READY, **options).send(line).expect(501)


@pytest.mark.parametrize(
    ("asked", "authenticated", "granted"), [(5, True, 5), (5, False, 0), (-5, False, -5), (-5, True, -5), (0, False, 0)]
)
def test_raised_priority_is_granted_only_if_authenticated(asked: int, authenticated: bool, granted: int) -> None:
    """R6710-4.1-03"""
    found = transaction(b"MAIL FROM:<> MT-PRIORITY=%d\r\n" % asked, authenticated=authenticated)
    assert (found.priority, found.mail.params.mt_priority) == (granted, asked)


@pytest.mark.parametrize(
    ("asked", "start"), [(5, "250 2.3.6 0 "), (1, "250 2.3.6 0 "), (0, "250 2.1.0 "), (-1, "250 2.1.0 ")]
)
def test_reply_to_mail_reports_a_lowered_priority(asked: int, start: str) -> None:
    """R6710-4.1-05"""
    server(READY, **ALL).send(b"MAIL FROM:<> MT-PRIORITY=%d\r\n" % asked).expect(f"{start}...")


# Submission (RFC 6409, RFC 8314)

SUBMISSION: dict[str, Any] = {
    "auth_mechanisms": ("PLAIN",),
    "require_auth": True,
    "starttls": True,
    "disabled": OFF_BY_DEFAULT - {"DSN"},
}


def submission(*, answer: Answer = accept) -> ServerPlaybook:
    """Return a server after an implicit TLS handshake and EHLO."""
    book = new_server(answer=answer, implicit_tls=True, **SUBMISSION)
    assert book.output == b""
    return book.start_tls().send(READY)


def accept_all_logins(conn: Connection, event: Event) -> Reply | None:
    return Reply(235) if isinstance(event, Auth) else accept(conn, event)


def test_implicit_tls_starts_before_the_greeting() -> None:
    """R8314-3.3-01, R8314-3.3-02"""
    book = submission()
    hello = book.replies[-1]
    assert "STARTTLS" not in hello
    book.expect("220 ...", 250)

    server(READY, **SUBMISSION).send(b"STARTTLS\r\n").expect(220).start_tls().send(READY).expect(hello)


def test_submission_server_offers_the_required_extensions() -> None:
    """R6409-7-01, R6409-7-02, R6409-7-03, R8314-3.3-03"""
    book = submission()
    hello = book.replies[-1]
    offered = {line[4:].split()[0] for line in hello.splitlines()}
    assert {"AUTH", "PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "8BITMIME"} <= offered
    assert not {"ETRN", "ATRN"} & offered
    [etrn] = book.expect(220, 250).send(b"ETRN example.org\r\n").codes
    assert etrn in (502, 530)
    book.expect(etrn).send(FROM).expect("530 5.7.0 ...")


@pytest.mark.parametrize("keyword", ["STARTTLS", "SIZE", "CHUNKING", "BINARYMIME", "DELIVERBY", "NO-SOLICITING"])
def test_submission_server_may_offer_other_extensions(keyword: str) -> None:
    """R6409-7-05"""
    [hello] = server(**{**SUBMISSION, "disabled": OFF_BY_DEFAULT - {keyword}}).send(READY).replies
    assert keyword in re.findall(r"^250.([A-Z0-9-]+)", hello, re.MULTILINE)


def test_authenticated_client_may_use_a_null_but_no_malformed_sender() -> None:
    """R6409-3.2-02, R6409-5.1-01"""
    session = b"MAIL FROM:<a..b@c.example>\r\nMAIL FROM:<>\r\nRCPT TO:<..@s.example>\r\n"
    book = submission(answer=accept_all_logins).expect(220, 250).send(b"AUTH PLAIN AGEAYg==\r\n").expect(235)
    book.send(session).expect(501, 250, 501)


def test_refusal_may_name_the_unwanted_solicitation_classes() -> None:
    """R3865-2.3-02"""

    def answer(conn: Connection, event: Event) -> Reply:
        if not isinstance(event, Rcpt) or not conn.transaction:
            return accept(conn, event)
        classes = ",".join(conn.transaction.mail.params.solicit or ())
        return Reply(550, f"<{event.forward_path}> SOLICIT={classes}", enhanced="5.7.1")

    book = server(READY, answer=answer, **ALL).send(b"MAIL FROM:<> SOLICIT=org.example:ADV:ADLT,b\r\n" + TO)
    book.expect(250, "550 5.7.1 <u@s.example> SOLICIT=org.example:ADV:ADLT,b")
