"""Requirements of the RFCs for a client. Each row names the number of its requirement."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    Answered,
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    BodyType,
    Burl,
    ByMode,
    Challenge,
    ClientConfig,
    Data,
    DataChunk,
    DataEnd,
    DeliverBy,
    Ehlo,
    EnvelopeId,
    Etrn,
    Expn,
    Extension,
    Helo,
    Help,
    HoldLimits,
    Lhlo,
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Notify,
    Params,
    Path,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    Request,
    Ret,
    Rset,
    SessionLimits,
    StartTls,
    State,
    Submitter,
    UnknownCommand,
    Vrfy,
    Wait,
)

from ..helpers import public_properties
from ..playbook import GO_AHEAD, GREETING, HELLO, OK, ClientPlaybook, client, mail, new_client, offer, rcpt

AUTH: dict[str, Any] = {"plaintext_auth": True}
UTF8 = Rcpt(Path("j\u00f6rg@s.example"))
EIGHT_BIT = mail(BODY=BodyType.EIGHT_BIT_MIME)
BINARY = mail(BODY=BodyType.BINARYMIME)

# Refused requests

REFUSED: list[tuple[str, ClientPlaybook, Request, str]] = [
    ("R5321-4.1.1.3-05", client(at=State.MAIL), rcpt(NOTIFY=frozenset({Notify.NEVER})), "NOTIFY is not recognized"),
    ("R3461-5.2.2-01", client(), mail(RET=Ret.HDRS, ENVID=EnvelopeId.of("x")), "RET is not recognized"),
    ("R6710-4.3-01", client(), mail(MT_PRIORITY=3), "MT-PRIORITY is not recognized"),
    ("R2852-4.1.4.1-01: not offered", client(), mail(BY=DeliverBy(98, ByMode.RETURN)), "BY is not recognized"),
    (
        "R2852-4.1.4.1-01: too soon",
        client("DELIVERBY 240"),
        mail(BY=DeliverBy(98, ByMode.RETURN)),
        "at least 240 seconds",
    ),
    ("R4865-4.1-01: not offered", client(), mail(HOLDFOR=60), "HOLDFOR is not recognized"),
    (
        "R4865-4.1-01: too long",
        client("FUTURERELEASE 60 2030-01-01T00:00:00Z"),
        mail(HOLDFOR=61),
        "at most 60 seconds",
    ),
    (
        "R4865-4.1-01: too late",
        client("FUTURERELEASE 60 2030-01-01T00:00:00Z"),
        mail(HOLDUNTIL=datetime(2030, 1, 2, tzinfo=UTC)),
        "at the latest",
    ),
    (
        "R4865-4.1-01: both parameters",
        client("FUTURERELEASE 60 2030-01-01T00:00:00Z"),
        mail(HOLDFOR=6, HOLDUNTIL=datetime(2029, 1, 2, tzinfo=UTC)),
        "exclude each other",
    ),
    ("SIZE over the limit", client("SIZE 1000"), mail(SIZE=1001), "exceeds the maximum size of 1000 octets"),
    ("SIZE not offered", client(), mail(SIZE=1), "SIZE is not recognized"),
    ("R8689-2-04", client("REQUIRETLS"), mail(REQUIRETLS=True), "REQUIRETLS needs TLS"),
    ("R8689-4.2.1-01", client(tls=True), mail(REQUIRETLS=True), "REQUIRETLS is not recognized"),
    ("R6531-3.2-03: a sender", client(), mail("\u00e9@c.example", SMTPUTF8=True), "only ASCII"),
    ("R6531-3.2-03: a recipient", client(at=State.MAIL), UTF8, "needs the parameter SMTPUTF8"),
    ("R6531-3.4-01: a sender", client("SMTPUTF8"), mail("\u00e9@c.example"), "needs the parameter SMTPUTF8"),
    ("R6531-3.4-01: a recipient", client("SMTPUTF8", at=State.MAIL), UTF8, "needs the parameter SMTPUTF8"),
    ("R6152-3-05: a parameter", client(), EIGHT_BIT, "BODY is not recognized"),
    (
        "R6152-3-05: in HELO",
        new_client().send(GREETING).ask(Helo("c.example")).send(OK),
        EIGHT_BIT,
        "BODY is not recognized",
    ),
    ("R5321-2.4-06, R6152-3-05: a body", client("8BITMIME", at=State.DATA), DataChunk(b"\xe9"), "BODY=8BITMIME"),
    ("a NUL", client(at=State.DATA), DataChunk(b"\0"), "BODY=BINARYMIME"),
    ("R3030-3-06", client("8BITMIME", "CHUNKING"), BINARY, "Malformed BODY"),
    ("BINARYMIME without CHUNKING", client("BINARYMIME"), BINARY, "needs CHUNKING"),
    (
        "a binary message with DATA",
        client("BINARYMIME", "CHUNKING").ask(BINARY).send(OK).ask(rcpt()).send(OK),
        Data(),
        "a binary message must be sent with BDAT",
    ),
    ("CHUNKING not offered", client(at=State.RCPT), Bdat(1), "BDAT is not implemented"),
    ("R3030-2-17", client("CHUNKING", at=State.RCPT).ask(Bdat(2)), DataChunk(b"a\n"), "bare CR or LF"),
    ("R5321-4.1.4-09", client(at=State.RCPT), mail(), "MAIL cannot be sent in State.RCPT"),
    ("R5321-4.1.1.1-04, R5321-4.1.4-01", new_client().send(GREETING), mail(), "MAIL cannot be sent in State.GREETED"),
    ("R5321-3.3-14: RCPT", client(), rcpt(), "RCPT cannot be sent in State.READY"),
    ("R5321-3.3-14: DATA", client(at=State.MAIL), Data(), "DATA cannot be sent in State.MAIL"),
    ("R5321-3.3-08: before DATA", client(at=State.RCPT), DataChunk(b"x"), "no body can be sent"),
    (
        "R5321-3.3-08: refused",
        client(at=State.RCPT).ask(Data()).send(b"554 no\r\n"),
        DataChunk(b"x"),
        "no body can be sent",
    ),
    ("R5321-3.3-08: no reply yet", client(at=State.RCPT).ask(Data()), DataChunk(b"x"), "no body can be sent"),
    ("the end of a body before DATA", client(at=State.RCPT), DataEnd(), "DataEnd cannot be sent"),
    (
        "the end of a DATA body after chunks",
        client("CHUNKING", at=State.RCPT).ask(Bdat(0)).send(OK),
        DataEnd(),
        "DataEnd cannot be sent",
    ),
    ("more body after its end", client(at=State.DATA).ask(DataEnd()), DataChunk(b"x"), "no body can be sent"),
    ("a command inside a body", client(at=State.DATA), Rset(), "RSET cannot be sent in State.DATA"),
    (
        "R3030-2-09",
        client("CHUNKING", at=State.RCPT).ask(Bdat(0)).send(b"503 no\r\n"),
        Noop(),
        "clear the transaction with RSET",
    ),
    ("R3030-2-11", client("CHUNKING", at=State.RCPT).ask(Bdat(0)).send(b"452 no\r\n"), Bdat(1), "BDAT cannot be sent"),
    (
        "R3030-2-13",
        client("CHUNKING", at=State.RCPT).ask(Bdat(0)).send(b"451 no\r\n"),
        HELLO,
        "clear the transaction with RSET",
    ),
    ("DATA after BDAT", client("CHUNKING", at=State.RCPT).ask(Bdat(0)).send(OK), Data(), "DATA cannot be sent"),
    (
        "a CR at the end of chunks",
        client("CHUNKING", at=State.RCPT).ask(Bdat(1, last=True)),
        DataChunk(b"\r"),
        "bare CR",
    ),
    ("STARTTLS not offered", client(), StartTls(), "STARTTLS is not implemented"),
    ("R3207-4.2-08", client("STARTTLS", tls=True), StartTls(), "TLS is already active"),
    ("AUTH not offered", client(**AUTH), Auth("PLAIN"), "PLAIN is not offered"),
    ("another mechanism", client("AUTH PLAIN", **AUTH), Auth("LOGIN"), "LOGIN is not offered"),
    ("AUTH without TLS", client("AUTH PLAIN"), Auth("PLAIN", b"x"), "AUTH needs TLS"),
    (
        "AUTH twice",
        client("AUTH PLAIN", **AUTH).ask(Auth("PLAIN", b"x")).send(b"235 ok\r\n"),
        Auth("PLAIN"),
        "already authenticated",
    ),
    ("AUTH in a transaction", client("AUTH PLAIN", at=State.MAIL, **AUTH), Auth("PLAIN"), "AUTH cannot be sent"),
    (
        "R4954-4-09",
        client("AUTH OAUTHBEARER", **AUTH),
        Auth("OAUTHBEARER", b"x" * 600),
        "the initial response exceeds a command line",
    ),
    (
        "a response without a challenge",
        client("AUTH PLAIN", **AUTH),
        AuthResponse(b""),
        "AuthResponse cannot be sent",
    ),
    (
        "R4954-4-17",
        client("AUTH PLAIN", **AUTH).ask(Auth("PLAIN")).send(b"334 %%%\r\n"),
        AuthResponse(b""),
        "the challenge is not base64",
    ),
    (
        "R4954-4-18: too long",
        client("AUTH PLAIN", **AUTH).ask(Auth("PLAIN")).send(b"334 \r\n"),
        AuthResponse(b"x" * 9300),
        "exceeds 12288",
    ),
    ("R5321-F.6-01: SEND", client(), UnknownCommand("SEND", "FROM:<a@c.example>"), "SEND is not implemented"),
    ("R5321-F.6-01: SOML", client(), UnknownCommand("SOML", "FROM:<a@c.example>"), "SOML is not implemented"),
    ("R5321-F.6-01: SAML", client(), UnknownCommand("SAML", "FROM:<a@c.example>"), "SAML is not implemented"),
    ("TURN", client(), UnknownCommand("TURN"), "TURN is not implemented"),
    ("a known verb", client(), UnknownCommand("MAIL", "FROM:<a@c.example>"), "MAIL would be read as MAIL"),
    ("a secret in an unknown command", client(), UnknownCommand("AUTH", "PLAIN AAAA"), "AUTH is not implemented"),
    ("ETRN not offered", client(), Etrn("@s.example"), "ETRN is not implemented"),
    ("BURL not offered", client(at=State.RCPT), Burl("imap://x/y"), "BURL is not implemented"),
    (
        "a scheme of BURL",
        client("BURL imap", at=State.RCPT),
        Burl("http://x/y"),
        "URLs of this scheme are not fetched",
    ),
    ("a long line", client(), Noop("x" * 600), "Line too long"),
    ("R5321-4.1.2-07: NOOP", client(), Noop("\u00e9"), "only ASCII"),
    ("a parameter over its length limit", client("AUTH PLAIN"), mail(AUTH="x" * 1000), "Line too long"),
    ("a malformed parameter", client("SIZE"), mail(SIZE=-1), "Malformed SIZE"),
    ("VRFY of non-ASCII without SMTPUTF8", client(), Vrfy("\u00e9", smtputf8=True), "only ASCII"),
    ("a trailing space", client(), UnknownCommand("XFOO", "bar "), "would be read as XFOO"),
    ("after the end", new_client().send(b"421 no\r\n"), Quit(), "QUIT cannot be sent in State.CLOSED"),
]


@pytest.mark.parametrize(("book", "request_", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_forbidden_request_raises_and_changes_nothing(book: ClientPlaybook, request_: Request, error: str) -> None:
    conn = book.connection
    before = public_properties(conn)

    assert not conn.may_send(request_)
    with pytest.raises(LocalProtocolError, match=error.replace("(", r"\(")):
        conn.send(request_)
    assert public_properties(conn) == before
    assert conn.data_to_send() == b""


# Allowed requests

SENT: list[tuple[str, ClientPlaybook, Request, bytes]] = [
    ("R5321-2.2.1-03", new_client().send(GREETING), HELLO, b"EHLO c.example"),
    ("R5321-4.1.1-02: RSET", client(), Rset(), b"RSET"),
    ("R5321-4.1.1-02: DATA", client(at=State.RCPT), Data(), b"DATA"),
    ("R5321-4.1.1-02: QUIT", client(), Quit(), b"QUIT"),
    ("R5321-4.1.1.1-03", new_client().send(GREETING), Ehlo("[IPv6:2001:db8::1]"), b"EHLO [IPv6:2001:db8::1]"),
    ("R5321-2.4-03", client(at=State.MAIL), Rcpt(Path("SmItH@s.example")), b"RCPT TO:<SmItH@s.example>"),
    ("R5321-3.3-06", client(), mail(), b"MAIL FROM:<a@c.example>"),
    ("R1870-4-03", client("SIZE 1000"), mail(SIZE=500), b"MAIL FROM:<a@c.example> SIZE=500"),
    ("SIZE without a limit", client("SIZE"), mail(SIZE=10**9), b"MAIL FROM:<a@c.example> SIZE=1000000000"),
    ("SIZE 0", client("SIZE 0"), mail(SIZE=10**9), b"MAIL FROM:<a@c.example> SIZE=1000000000"),
    (
        "R5321-4.1.2-12",
        client("AUTH PLAIN"),
        mail(AUTH=Submitter(Mailbox("e=mc2@example.com"))),
        b"MAIL FROM:<a@c.example> AUTH=e+3Dmc2@example.com",
    ),
    (
        "R6531-3.4-01",
        client("SMTPUTF8"),
        mail("\u00e9@c.example", SMTPUTF8=True),
        "MAIL FROM:<\u00e9@c.example> SMTPUTF8".encode(),
    ),
    ("R4954-4-10", client("AUTH EXTERNAL", **AUTH), Auth("EXTERNAL", b""), b"AUTH EXTERNAL ="),
    ("R4422-5-01", client("AUTH CRAM-MD5", **AUTH), Auth("CRAM-MD5"), b"AUTH CRAM-MD5"),
    ("AUTH", client("AUTH PLAIN", tls=True), Auth("PLAIN", b"\0u\0p"), b"AUTH PLAIN AHUAcA=="),
    (
        "R4954-4-09",
        client("AUTH OPENID20", **AUTH),
        Auth("OPENID20", b"x" * 372),
        b"AUTH OPENID20 " + b"eHh4" * 124,
    ),
    (
        "R4954-4-17",
        client("AUTH PLAIN", **AUTH).ask(Auth("PLAIN")).send(b"334 %%%\r\n"),
        AuthCancel(),
        b"*",
    ),
    (
        "R4954-4-29",
        client("AUTH PLAIN LOGIN", **AUTH).ask(Auth("PLAIN", b"x")).send(b"535 no\r\n"),
        Auth("LOGIN"),
        b"AUTH LOGIN",
    ),
    ("R4954-4-32", client("AUTH PLAIN", tls=True), Auth("PLAIN", b"x"), b"AUTH PLAIN eA=="),
    ("HELP needs no announcement", client(), Help("MAIL"), b"HELP MAIL"),
    ("EXPN needs no announcement", client(), Expn("list"), b"EXPN list"),
    ("VRFY with UTF-8", client("SMTPUTF8"), Vrfy("\u00e9", smtputf8=True), "VRFY \u00e9 SMTPUTF8".encode()),
    ("an argument that ends like a parameter", client("SMTPUTF8"), Vrfy("x SMTPUTF8"), b'VRFY "x SMTPUTF8"'),
    ("an argument in quotes", client(), Noop('"a\\\\"'), b'NOOP "\\"a\\\\\\\\\\""'),
    ("spaces at the end", client(), Noop("a  "), b'NOOP "a  "'),
    ("an unknown command", client(), UnknownCommand("XFOO", "bar"), b"XFOO bar"),
    ("RSET after a refused chunk", client("CHUNKING", at=State.RCPT).ask(Bdat(0)).send(b"451 no\r\n"), Rset(), b"RSET"),
    ("QUIT after a refused chunk", client("CHUNKING", at=State.RCPT).ask(Bdat(0)).send(b"451 no\r\n"), Quit(), b"QUIT"),
    ("BURL", client("BURL imap", at=State.RCPT), Burl("imap://x/y", last=True), b"BURL imap://x/y LAST"),
    ("a scheme and a host", client("BURL imap://x", at=State.RCPT), Burl("imap://x/y"), b"BURL imap://x/y"),
    ("EHLO again", client(at=State.RCPT), HELLO, b"EHLO c.example"),
    ("R5321-4.5.4.1-01", client().ask(mail()).send(b"550 no\r\n"), mail(), b"MAIL FROM:<a@c.example>"),
    ("R7504-5.1-01", new_client().send(b"521 no\r\n"), Quit(), b"QUIT"),
    (
        "R5321-3.2-02",
        new_client().send(GREETING).ask(HELLO).send(b"500 what?\r\n"),
        Helo("c.example"),
        b"HELO c.example",
    ),
    (
        "a line of maximum length",
        client(),
        Noop("x" * (512 - len("NOOP \r\n"))),
        b"NOOP " + b"x" * (512 - len("NOOP \r\n")),
    ),
    (
        "a line of maximum length with parameters",
        client("SIZE", "8BITMIME"),
        mail("u" * 488 + "@c.example", SIZE=10**18, BODY=BodyType.EIGHT_BIT_MIME),
        b"MAIL FROM:<" + b"u" * 488 + b"@c.example> SIZE=1000000000000000000 BODY=8BITMIME",
    ),
    (
        "R4954-4-18",
        client("AUTH PLAIN", **AUTH).ask(Auth("PLAIN")).send(b"334 \r\n"),
        AuthResponse(b"x" * 9213),
        b"eHh4" * 3071,
    ),
]


@pytest.mark.parametrize(("book", "request_", "line"), [row[1:] for row in SENT], ids=[row[0] for row in SENT])
def test_allowed_request_is_encoded_and_awaits_a_reply(book: ClientPlaybook, request_: Request, line: bytes) -> None:
    assert book.skip().connection.may_send(request_)
    book.ask(request_).wire(line + b"\r\n")
    assert book.connection.replies_due == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("host.example", b"EHLO host.example\r\n"),
        ("[192.0.2.7]", b"EHLO [192.0.2.7]\r\n"),
        ("a." * 127 + "a", b"EHLO " + b"a." * 127 + b"a\r\n"),
    ],
)
def test_client_hostname_may_be_a_domain_or_an_address_literal(name: str, line: bytes) -> None:
    """R5321-2.3.5-01, R5321-4.1.1.1-01"""
    book = new_client(hostname=name).send(GREETING)

    assert book.connection.config.hostname == name
    book.ask(book.connection.hello).wire(line)


@pytest.mark.parametrize("name", ["", "a b", "b\u00fccher.example", "[192.0.2]", "a\r\nQUIT", "x" * 256, "-a-"])
def test_invalid_client_hostname_is_refused(name: str) -> None:
    """R5321-4.1.4-05, R6531-3.7.1-01"""
    with pytest.raises(LocalProtocolError, match="neither a domain nor an address literal"):
        ClientConfig(hostname=name)


# Replies


@pytest.mark.parametrize(
    ("line", "reply_class"),
    [
        (b"250 OK", ReplyClass.COMPLETION),
        (b"250", ReplyClass.COMPLETION),
        (b"250 ", ReplyClass.COMPLETION),
        (b"250-x\r\n250", ReplyClass.COMPLETION),
        (b"250 550 No such user", ReplyClass.COMPLETION),
        (b"259 hm", ReplyClass.COMPLETION),
        (b"299 hm", ReplyClass.COMPLETION),
        (b"499 hm", ReplyClass.TRANSIENT),
        (b"454 hm", ReplyClass.TRANSIENT),
        (b"599 hm", ReplyClass.PERMANENT),
        (b"556 hm", ReplyClass.PERMANENT),
        (b"521 hm", ReplyClass.PERMANENT),
    ],
    ids=[
        "R5321-4.2-06",
        "R5321-4.2-07: no space",
        "R5321-4.2-07: no text",
        "R5321-4.2-12, R5321-4.2.1-03",
        "R5321-4.2-06: misleading text",
        "R5321-4.3.2-10",
        "R5321-4.2-08: 2",
        "R5321-4.2-08: 4",
        "R4954-6-08",
        "R5321-4.2-08: 5",
        "R7504-4-02",
        "521 to MAIL",
    ],
)
def test_client_acts_on_the_first_digit_of_a_reply(line: bytes, reply_class: ReplyClass) -> None:
    book = client().ask(mail()).send(line + b"\r\n")

    [answered] = book.answered
    assert answered.reply.reply_class is reply_class
    assert answered.reply.code == int(line[:3])
    assert (book.state is State.MAIL) is (reply_class is ReplyClass.COMPLETION)


def test_unknown_3yz_reply_to_data_starts_the_body() -> None:
    """R5321-4.2-08: 3"""
    assert client(at=State.RCPT).ask(Data()).send(b"399 hm\r\n").state is State.DATA


@pytest.mark.parametrize("reply", [b"552 too large\r\n", b"451 later\r\n"])
def test_body_may_be_refused_despite_an_accepted_declared_size(reply: bytes) -> None:
    """R1870-6.2-03, R5321-4.5.3.1-01"""
    book = client("SIZE").ask(mail(SIZE=3)).send(OK).ask(rcpt()).send(OK).ask(Data()).send(GO_AHEAD)
    book.expect(250, 250, 354).ask(DataEnd()).send(reply).expect(int(reply[:3]))

    assert (book.state, book.connection.transaction) == (State.READY, None)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"550 5.7.99 no", Reply(550, "no", enhanced="5.7.99")),
        (b"550-5.1.1 a\r\n550 5.1.1 b", Reply(550, "a", "b", enhanced="5.1.1")),
        (b"550-5.1.1 a\r\n550-b\r\n550 5.1.2 c", Reply(550, "a", "b", "5.1.2 c", enhanced="5.1.1")),
        (b"550 5.1.1", Reply(550, "", enhanced="5.1.1")),
        (b"550", Reply(550)),
        (b"550 4.1.1 a", Reply(550, "4.1.1 a")),
        (b"550 5.01.1 a", Reply(550, "5.01.1 a")),
        (b"550 5.1.1: a", Reply(550, "5.1.1: a")),
        (b"550 a\tb\x00\x1b[1m\x7f", Reply(550, "a\tb??[1m?")),
        ("550 j\u00f6rg".encode(), Reply(550, "j\u00f6rg")),
        (b"550 \xff\xc3", Reply(550, "\ufffd\ufffd")),
        (b"550 " + b"x" * 1000, Reply(550, "x" * 496, "x" * 496, "x" * 8)),
        (b"550 " + "\u00e9".encode() * 248, Reply(550, "\u00e9" * 248)),
        (b"550 " + "\u00e9".encode() * 249, Reply(550, "\u00e9" * 124, "\u00e9" * 124, "\u00e9")),
    ],
    ids=[
        "R3463-2-03",
        "on each line",
        "on some lines",
        "no text",
        "only a code",
        "another class",
        "malformed",
        "part of a word",
        "control characters",
        "UTF-8",
        "invalid UTF-8",
        "a long line",
        "the longest line of UTF-8 that fits",
        "a long line of UTF-8",
    ],
)
def test_reply_text_and_status_code_are_parsed_tolerantly(sent: bytes, expected: Reply) -> None:
    book = client().ask(mail()).send(sent + b"\r\n")

    [answered] = book.answered
    assert answered.reply == expected
    assert answered.reply.encode()


def test_greeting_and_reply_to_ehlo_have_no_enhanced_status_code() -> None:
    book = new_client().send(b"220 2.0.0 ready\r\n").ask(HELLO).send(b"250-2.0.0 hello\r\n250 SIZE\r\n")

    assert [event.reply.enhanced for event in book.answered] == [None, None]
    assert [event.reply.lines[0] for event in book.answered] == ["2.0.0 ready", "2.0.0 hello"]


# The reply to EHLO

KEYWORDS: list[tuple[str, str, dict[str, object]]] = [
    ("R5321-4.1.1.1-08", "size 100", {"SIZE": 100}),
    ("SIZE", "SIZE", {"SIZE": None}),
    ("SIZE 0", "SIZE 0", {"SIZE": None}),
    ("SIZE with an invalid number", "SIZE many", {"SIZE": None}),
    ("R6531-3.1-02", "SMTPUTF8 foo", {"SMTPUTF8": True}),
    ("AUTH", "AUTH plain  SCRAM-SHA-256 PLAIN b@d", {"AUTH": ("PLAIN", "SCRAM-SHA-256")}),
    ("AUTH without mechanisms", "AUTH", {}),
    ("AUTH in the obsolete form", "AUTH=PLAIN LOGIN", {"AUTH": ("PLAIN", "LOGIN")}),
    ("DELIVERBY", "DELIVERBY", {"DELIVERBY": None}),
    ("DELIVERBY with a minimum", "DELIVERBY 240", {"DELIVERBY": 240}),
    ("DELIVERBY with an invalid number", "DELIVERBY soon", {}),
    (
        "FUTURERELEASE",
        "FUTURERELEASE 60 2030-01-01T00:00:00Z",
        {"FUTURERELEASE": HoldLimits(60, datetime(2030, 1, 1, tzinfo=UTC))},
    ),
    ("FUTURERELEASE without limits", "FUTURERELEASE", {}),
    ("FUTURERELEASE without a time", "FUTURERELEASE 60", {}),
    ("FUTURERELEASE in another zone", "FUTURERELEASE 60 2030-01-01T00:00:00+01:00", {}),
    ("MT-PRIORITY", "MT-PRIORITY MIXER", {"MT-PRIORITY": "MIXER"}),
    ("MT-PRIORITY without a policy", "MT-PRIORITY", {"MT-PRIORITY": None}),
    ("NO-SOLICITING", "NO-SOLICITING a.b:ADV,c", {"NO-SOLICITING": ("a.b:ADV", "c")}),
    ("NO-SOLICITING without classes", "NO-SOLICITING", {"NO-SOLICITING": ()}),
    (
        "R9422-unverified-03",
        "LIMITS FOO=1 RCPTMAX=10 MAILMAX=x rcptdomainmax=2",
        {"LIMITS": SessionLimits(rcpt_max=10, rcpt_domain_max=2)},
    ),
    ("LIMITS of a session", "LIMITS MAILMAX=5", {"LIMITS": SessionLimits(mail_max=5)}),
    ("BURL", "BURL imap imap://x", {"BURL": ("imap", "imap://x")}),
    ("XCLIENT", "XCLIENT NAME ADDR", {"XCLIENT": ("NAME", "ADDR")}),
    ("an unknown keyword", "XFOO bar baz", {"XFOO": "bar baz"}),
    ("an unknown keyword without arguments", "X-1", {"X-1": ""}),
    ("an invalid keyword", "this_is not one", {}),
    ("an empty line", "", {}),
    ("a keyword twice", "SIZE 1\r\n250-SIZE 2", {"SIZE": 2}),
]


@pytest.mark.parametrize(("line", "expected"), [row[1:] for row in KEYWORDS], ids=[row[0] for row in KEYWORDS])
def test_keyword_of_the_ehlo_reply_has_a_typed_value(line: str, expected: dict[str, object]) -> None:
    book = new_client().send(GREETING).ask(HELLO).send(f"250-s.example\r\n250-{line}\r\n250 8BITMIME\r\n".encode())

    assert dict(book.connection.extensions) == {**expected, "8BITMIME": True}


def test_ehlo_line_longer_than_a_reply_line_is_one_keyword() -> None:
    mechanisms = tuple(f"M{number}" for number in range(200))
    book = new_client().send(GREETING).ask(HELLO).send(f"250-s.example\r\n250 AUTH {' '.join(mechanisms)}\r\n".encode())

    assert book.connection.extensions["AUTH"] == mechanisms
    assert len(book.answered[-1].reply.lines) > 2


def test_custom_extension_has_its_parsed_value_or_its_text() -> None:
    def number(text: str) -> int:
        if text == "none":
            raise LocalProtocolError("no number")
        return int(text)

    own = [Extension(keyword="XNUM", parse_arguments=number), Extension(keyword="XTEXT"), Extension(keyword="xflag")]
    for text, expected in [("7", {"XNUM": 7}), ("x", {}), ("none", {})]:
        book = client(f"XNUM {text}", "XTEXT a b", "XFLAG", extensions=(*EXTENSIONS, *own))
        assert dict(book.connection.extensions) == {**expected, "XTEXT": "a b", "XFLAG": True}


def test_announcement_that_no_client_can_parse_is_refused() -> None:
    from smtpcore import Config, Connection

    own = Extension(keyword="XNUM", arguments=lambda config: "x", parse_arguments=int)
    with pytest.raises(LocalProtocolError, match="XNUM announces 'x', which clients cannot parse"):
        Connection(Config(hostname="s.example"), extensions=(*EXTENSIONS, own))

    for sometimes in (
        replace(own, offered=lambda config, tls: tls),
        replace(own, offered=lambda config, tls: not tls),
    ):
        with pytest.raises(LocalProtocolError, match="which clients cannot parse"):
            Connection(Config(hostname="s.example"), extensions=(*EXTENSIONS, sometimes))


def test_refused_ehlo_keeps_the_extensions_offered_before() -> None:
    book = client("SIZE 7").ask(HELLO).send(b"550 no\r\n")
    assert dict(book.connection.extensions) == {"SIZE": 7}

    book = client("SIZE 7", at=State.RCPT).ask(HELLO).send(offer("DSN"))
    assert dict(book.connection.extensions) == {"DSN": True}
    assert book.connection.transaction is None


# Groups

FULL = ("PIPELINING", "CHUNKING", "8BITMIME", "BURL imap", "ETRN", "STARTTLS", "AUTH PLAIN LOGIN EXTERNAL", "XFORWARD")


@pytest.mark.parametrize(
    "last",
    [
        HELLO,
        Noop(),
        Vrfy("x"),
        Expn("x"),
        Help(),
        Etrn("@s.example"),
        StartTls(),
        Auth("LOGIN"),
        Auth("PLAIN"),
        Quit(),
        UnknownCommand("XFOO"),
    ],
    ids=lambda command: command.verb,
)
def test_group_ending_command_may_only_be_the_last_of_a_group(last: Request) -> None:
    """R2920-3.1-02, R2920-3.1-03, R3207-4-07, R4954-4-34"""
    book = client(*FULL, **AUTH).ask(Rset())
    assert book.connection.may_send(last)
    book.ask(last)

    for request in (Rset(), mail(), Noop(), Quit()):
        assert not book.connection.may_send(request)
        with pytest.raises(LocalProtocolError, match="take the reply to"):
            book.connection.send(request)


@pytest.mark.parametrize("mechanism", ["PLAIN", "EXTERNAL"])
def test_commands_may_follow_auth_with_a_single_response_in_a_group(mechanism: str) -> None:
    """R4954-4-34"""
    book = client(*FULL, **AUTH).ask(Auth(mechanism, b""), mail(), rcpt(), Data())

    assert book.output.count(b"\r\n") == 4
    book.send(b"535 no\r\n", b"530 no\r\n", b"503 no\r\n", b"503 no\r\n")
    assert book.state is State.READY
    assert not book.connection.authenticated


def test_two_auth_commands_are_not_sent_in_one_group() -> None:
    book = client(*FULL, **AUTH).ask(Auth("PLAIN", b""), Rset())

    assert not book.connection.may_send(Auth("PLAIN", b""))


def test_chunks_wait_for_replies_to_the_envelope_and_mail_waits_for_the_last_chunk() -> None:
    book = client(*FULL).ask(mail(), rcpt())
    assert not book.connection.may_send(Bdat(0))
    assert book.connection.may_send(Burl("imap://x/y"))
    book.send(OK, OK).ask(Bdat(0), Burl("imap://x/y"), Bdat(0))
    assert not book.connection.may_send(Rset())
    book.ask(Burl("imap://x/y", last=True))
    assert not book.connection.may_send(mail())
    book.send(OK * 4).expect(*[250] * 6)

    assert book.state is State.READY
    assert book.connection.transaction is None


def test_positive_reply_to_burl_after_a_refused_burl_is_a_remote_error() -> None:
    book = client(*FULL, at=State.RCPT).ask(Burl("imap://x/y"), Burl("imap://x/z", last=True))

    book.send(b"554 no\r\n", OK).expect(554, RemoteProtocolError("250 cannot answer BURL"))


@pytest.mark.parametrize(("room", "fit"), [(-1, 2), (0, 3), (1, 3)])
def test_group_size_is_limited(room: int, fit: int) -> None:
    """R2920-3.1-09"""
    book = client(*FULL, max_group=len(mail().encode() + 3 * rcpt().encode()) + room).ask(mail())
    sent = 0
    while book.connection.may_send(rcpt()):
        book.ask(rcpt())
        sent += 1
    assert sent == fit

    with pytest.raises(LocalProtocolError, match="octets of commands have no reply yet"):
        book.connection.send(rcpt())
    assert book.send(OK * 2).connection.may_send(rcpt())


def test_group_limit_below_one_command_still_allows_one_command() -> None:
    assert client(*FULL, max_group=1).connection.may_send(mail())


def test_pipelining_can_be_disabled() -> None:
    book = client(*FULL, pipelining=False).ask(mail())

    assert not book.connection.is_pipelining
    assert not book.connection.may_send(rcpt())


def test_message_with_one_accepted_recipient_of_2000_is_sent_once() -> None:
    """R5321-4.5.4.1-02: one MAIL, many RCPT, one DATA"""
    book = client(*FULL, max_group=None)
    book.ask(mail(), *(rcpt(f"u{number}@s.example") for number in range(2000)), Data())
    book.send(OK, b"550 no\r\n" * 1999, OK, GO_AHEAD)

    assert book.state is State.DATA
    assert book.connection.transaction
    assert book.connection.transaction.recipients == [rcpt("u1999@s.example")]
    assert book.output.count(b"MAIL") == 1


# Waits


@pytest.mark.parametrize(
    ("book", "wait"),
    [
        (new_client(), Wait.SERVER_GREETING),
        (new_client().send(GREETING), Wait.NOTHING),
        (new_client().send(GREETING).ask(HELLO), Wait.COMMAND_REPLY),
        (client().ask(mail()), Wait.MAIL_REPLY),
        (client(at=State.MAIL).ask(rcpt()), Wait.RCPT_REPLY),
        (client(at=State.RCPT).ask(Data()), Wait.DATA_REPLY),
        (client(at=State.DATA), Wait.DATA_BLOCK),
        (client(at=State.DATA).ask(DataEnd()), Wait.END_REPLY),
        (client("CHUNKING", at=State.RCPT).ask(Bdat(3)), Wait.DATA_BLOCK),
        (client("CHUNKING", at=State.RCPT).ask(Bdat(1), DataChunk(b"x")), Wait.END_REPLY),
        (client("CHUNKING", "PIPELINING", at=State.RCPT).ask(Bdat(0), Bdat(3)), Wait.END_REPLY),
        (client("STARTTLS").ask(StartTls()).send(b"220 go\r\n"), Wait.TLS),
        (client("AUTH PLAIN", **AUTH).ask(Auth("PLAIN")).send(b"334 \r\n"), Wait.NOTHING),
        (new_client().send(b"421 no\r\n"), Wait.NOTHING),
    ],
)
def test_client_wait_follows_the_pending_reply(book: ClientPlaybook, wait: Wait) -> None:
    """R5321-4.5.3.2-01"""
    assert book.connection.waiting_for is wait


# Authentication


def test_challenges_are_decoded_and_responses_encoded() -> None:
    """R4954-4-15, R4954-4-16, R4954-4-18"""
    long = Challenge(b"x" * 9000)
    book = client("AUTH LOGIN", max_reply_line=512, **AUTH)
    book.ask(Auth("LOGIN")).wire(b"AUTH LOGIN\r\n").send(b"334 VXNlcm5hbWU6\r\n")
    book.ask(AuthResponse(b"tim")).wire(b"dGlt\r\n").send(long.encode())
    book.ask(AuthResponse(b"")).wire(b"\r\n").send(b"235 2.7.0 welcome\r\n")

    assert [event.reply.challenge for event in book.answered] == [b"Username:", b"x" * 9000, None]
    assert book.connection.authenticated
    assert book.state is State.READY


@pytest.mark.parametrize("text", ["=AAA", "AAA=BBB", "AAAAA", "AA=", "AHRl NA==", "-AAA", "\u00e9"])
def test_challenge_that_is_not_base64_is_none(text: str) -> None:
    """R4954-4-15, R4954-4-16, R4954-4-17"""
    assert Reply(334, text).challenge is None
    assert Reply(334, "eA==", "eA==").challenge is None
    assert Reply(354, "eA==").challenge is None


def test_cancelled_authentication_leaves_the_session_ready() -> None:
    """R4954-4-29"""
    book = client("AUTH LOGIN", **AUTH).ask(Auth("LOGIN")).send(b"334 %%%\r\n")
    book.ask(AuthCancel()).send(b"501 5.7.0 fine\r\n").expect(334, 501)

    assert (book.state, book.connection.authenticated) == (State.READY, False)


def test_client_errors_and_reprs_hide_secrets() -> None:
    conn = client("AUTH PLAIN LOGIN", **AUTH).connection
    conn.send(Auth("PLAIN", b"secret"))
    conn.data_to_send()
    conn.receive_data(b"535 no\r\n")
    answered = conn.next_event()
    assert isinstance(answered, Answered)

    shown = f"{answered} {answered!r} {AuthResponse(b'secret')} {AuthResponse(b'secret')!r} {conn!r}"
    for request in (Auth("PLAIN", b"secret" * 200), UnknownCommand("AUTH", "PLAIN c2VjcmV0")):
        with pytest.raises(LocalProtocolError) as caught:
            conn.send(request)
        shown += str(caught.value)
    assert "secret" not in shown
    assert "c2Vj" not in shown


# Injection


@pytest.mark.parametrize("control", ["\r\n", "\r", "\n", "\0", "\x1b", "\x7f"])
def test_control_characters_in_any_value_are_refused(control: str) -> None:
    """R5321-4.1.2-07"""
    smuggled = f"x{control}RSET"
    for make in (
        lambda: Ehlo(smuggled),
        lambda: Helo(smuggled),
        lambda: Lhlo(smuggled),
        lambda: Mail(Path(f"a@c.example>{smuggled}")),
        lambda: Rcpt(Path(f'"{smuggled}"@s.example')),
        lambda: mail(SIZE=smuggled).encode(),
        lambda: Params({smuggled: True}),
        lambda: Noop(smuggled),
        lambda: Help(smuggled),
        lambda: Vrfy(smuggled),
        lambda: Expn(smuggled),
        lambda: Etrn(smuggled),
        lambda: Burl(smuggled),
        lambda: Auth(smuggled),
        lambda: UnknownCommand("XFOO", smuggled),
        lambda: UnknownCommand(smuggled.upper()),
        lambda: ClientConfig(hostname=smuggled),
    ):
        with pytest.raises(LocalProtocolError):
            make()


@pytest.mark.parametrize("text", ["\ud800", "x\udfff"])
def test_lone_surrogates_in_any_value_are_refused(text: str) -> None:
    for make in (
        lambda: Noop(text),
        lambda: Vrfy(text),
        lambda: UnknownCommand("XFOO", text),
        lambda: mail(SIZE=text).encode(),
    ):
        with pytest.raises(LocalProtocolError):
            make()


@pytest.mark.parametrize("verb", ["", "xfoo", "X FOO", "X:", "\u00c4", "\u017f"])
def test_verb_of_an_unknown_command_must_be_an_upper_case_word(verb: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a verb"):
        UnknownCommand(verb)


@pytest.mark.parametrize(
    ("limit", "least"), [("max_text_line", 1000), ("max_reply_line", 512), ("max_reply_lines", 1), ("max_group", 1)]
)
def test_client_limit_below_its_minimum_is_refused(limit: str, least: int) -> None:
    assert getattr(ClientConfig(hostname="c.example", **{limit: least}), limit) == least  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match=f"^{limit} is {least - 1}, but must be at least {least}$"):
        ClientConfig(hostname="c.example", **{limit: least - 1})  # type: ignore[arg-type]
