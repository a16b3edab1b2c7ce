"""Requirements of the RFCs for a server. A row has the state before, the octets sent, and the codes of the replies."""

import re
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    OFF_BY_DEFAULT,
    Bodies,
    ConnectionOpened,
    DataEnd,
    Ehlo,
    Event,
    Extension,
    LocalProtocolError,
    Mail,
    Params,
    Path,
    Rcpt,
    Reply,
    StartTls,
    State,
    UnknownCommand,
    Vrfy,
)

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

ROWS: list[tuple[str, bytes, bytes, list[int]]] = [
    # Commands
    ("R5321-2.2.1-02", GREETED, HELO + FROM, [250, 250]),
    ("R5321-2.3.5-02", MAIL, b"RCPT TO:<postmaster>\r\n", [250]),
    ("R5321-2.3.8-01", READY, b"NOOP\nRSET\r\n", [500, 250]),
    ("R5321-2.4-01", READY, b"mAiL fRoM:<a@c.example>\r\nrcpt to:<b@s.example>\r\ndAtA\r\n", [250, 250, 354]),
    ("R5321-2.4-02", READY, b"MAIL from:<a@c.example> size=10 body=8bitmime\r\n", [250]),
    ("R5321-3.3-01", RCPT, b"RSET\r\nMAIL FROM:<x@c.example>\r\nDATA\r\n", [250, 250, 554]),
    ("R5321-3.3-05", READY, TO, [503]),
    ("R5321-3.3-06", READY, b"MAIL FROM: <a@c.example>\r\nMAIL FROM :<a@c.example>\r\n", [501, 501]),
    ("R5321-3.3-07: no MAIL", READY, b"DATA\r\n", [503]),
    ("R5321-3.3-07: no RCPT", MAIL, b"DATA\r\n", [554]),
    ("R5321-3.3-09", RCPT, b"DATA\r\nQUIT\r\nRSET\r\n.\r\n", [354, 250]),
    ("R5321-3.3-10", DATA, MESSAGE, [250]),
    ("R5321-3.3-12", DATA, b"no header at all\r\n.\r\n", [250]),
    ("R5321-3.3-13", DATA, b"Resent-To: a@b.example\r\n\r\n.\r\n", [250]),
    ("R5321-3.3-14", READY, b"DATA\r\n" + TO + FROM + TO + b"DATA\r\n", [503, 503, 250, 250, 354]),
    ("R5321-3.5.1-05", READY, b"VRFY smith\r\n", [252]),
    ("R5321-3.5.1-06", READY, b"VRFY smith@s.example\r\n", [252]),
    ("R5321-3.5.2-07", READY, b"EXPN list\r\n", [502]),
    ("R5321-3.5.3-01, R5321-3.5.3-03", READY, b"VRFY smith\r\n", [252]),
    ("R5321-3.7.2-01", DATA, b"Received: complete nonsense\r\n\r\nx\r\n.\r\n", [250]),
    ("R5321-3.8-01", READY, b"MAIL\r\n" * 20 + b"NOOP\r\n", [501] * 20 + [250]),
    ("R5321-3.8-02", READY, b"FOO\r\nNOOP\r\n", [500, 250]),
    (
        "R5321-4.1.1-01",
        RCPT,
        b"NOOP  \r\nRSET\t\r\nMAIL FROM:<a@c.example> \r\n" + TO + b"DATA \r\n",
        [250] * 4 + [354],
    ),
    ("R5321-4.1.1-03", RCPT, b"RSET x\r\nDATA x\r\nQUIT x\r\nDATA\r\n", [501, 501, 501, 354]),
    ("R5321-4.1.1.1-02", GREETED, b"EHLO [192.0.2.1] some text\r\n", [501]),
    ("R5321-4.1.1.1-05", RCPT, HELO + b"DATA\r\n" + FROM, [250, 503, 250]),
    ("R5321-4.1.1.1-11", GREETED, b"EHLO\r\nHELO\r\n" + FROM, [501, 501, 503]),
    ("R5321-4.1.1.1-12", GREETED, b"EHLO [192.0.2.1]\r\nEHLO [IPv6:2001:db8::1]\r\nEHLO -bad-\r\n", [250, 250, 501]),
    ("R5321-4.1.1.2-02", READY, b"MAIL FROM:<>\r\n", [250]),
    ("R2505-2.6.1-01", READY, b"MAIL FROM:<>\r\n" + TO, [250, 250]),
    (
        "R5321-4.1.1.2-03",
        READY,
        b"MAIL\r\nMAIL a@c.example\r\nMAIL FROM:a@c.example\r\nMAIL TO:<a@c.example>\r\n",
        [501] * 4,
    ),
    ("R5321-4.1.1.3-06", MAIL, b"RCPT TO:<PoStMaStEr>\r\nRCPT TO:<POSTMASTER@s.example>\r\n", [250, 250]),
    ("R5321-4.1.1.3-07", MAIL, b"RCPT TO:<>\r\n", [501]),
    (
        "R5321-4.1.1.3-08",
        MAIL,
        b"RCPT TO:<a@s.example>,<b@s.example>\r\nRCPT TO:<a@s.example> <b@s.example>\r\n",
        [501] * 2,
    ),
    ("R5321-4.1.1.4-01", RCPT, b"DATA\r\na\r\nb\r\nc\r\n", [354]),
    ("R5321-4.1.1.4-04", DATA, b".\r\n", [250]),
    ("R5321-4.1.1.4-08", DATA, b"a\nb\r\n.\r\n", [550]),
    ("R5321-4.1.1.4-09: LF . LF", DATA, b"x\n.\n", []),
    ("R5321-4.1.1.4-09: CR LF . LF", DATA, b"x\r\n.\n", []),
    ("R5321-4.1.1.4-09: LF . CR LF", DATA, b"x\n.\r\n", []),
    ("R5321-4.1.1.4-09: CR . CR", DATA, b"x\r.\r", []),
    ("R5321-4.1.1.4-09: CR LF . CR", DATA, b"x\r\n.\r", []),
    ("R5321-4.1.1.4-10", DATA, MESSAGE + TO + FROM, [250, 503, 250]),
    ("R5321-4.1.1.4-11", DATA, MESSAGE, [250]),
    ("R5321-4.1.1.4-13", MAIL, TO * 3 + b"DATA\r\n" + MESSAGE, [250] * 3 + [354, 250]),
    ("R5321-4.1.1.5-01", RCPT, b"RSET\r\nDATA\r\n" + TO, [250, 503, 503]),
    ("R5321-4.1.1.5-02: greeted", GREETED, b"RSET\r\n", [250]),
    ("R5321-4.1.1.5-02: ready", READY, b"RSET\r\n", [250]),
    ("R5321-4.1.1.5-02: MAIL", MAIL, b"RSET\r\n", [250]),
    ("R5321-4.1.1.5-02: RCPT", RCPT, b"RSET\r\n", [250]),
    ("R5321-4.1.1.5-02: a message", DATA, MESSAGE + b"RSET\r\n", [250, 250]),
    ("R5321-4.1.1.5-03", RCPT, b"RSET\r\nNOOP\r\n", [250, 250]),
    ("R5321-4.1.1.5-04", READY, b"RSET\r\n" + FROM, [250, 250]),
    ("R5321-4.1.1.6-01", RCPT, b"VRFY smith\r\nDATA\r\n", [252, 354]),
    ("R5321-4.1.1.6-02", READY, b"VRFY\r\n", [501]),
    ("R5321-4.1.1.7-01", RCPT, b"EXPN list\r\nDATA\r\n", [502, 354]),
    ("R5321-4.1.1.8-01", GREETED, b"HELP\r\n", [214]),
    ("R5321-4.1.1.8-02", READY, b"HELP MAIL\r\n", [214]),
    ("R5321-4.1.1.8-03", RCPT, b"HELP\r\nDATA\r\n", [214, 354]),
    ("R5321-4.1.1.9-01: greeted", GREETED, b"NOOP\r\n" + FROM, [250, 503]),
    ("R5321-4.1.1.9-01: RCPT", RCPT, b"NOOP\r\nDATA\r\n", [250, 354]),
    ("R5321-4.1.1.9-02", READY, b"NOOP anything at all\r\n", [250]),
    ("R5321-4.1.1.10-01: greeted", GREETED, b"QUIT\r\n", [221]),
    ("R5321-4.1.1.10-01: RCPT", RCPT, b"QUIT\r\n", [221]),
    ("R5321-4.1.1.11-01", READY, b"MAIL FROM:<a@c.example> FOO=BAR\r\n" + FROM, [555, 250]),
    ("R5321-4.1.1.11-01: RCPT", MAIL, b"RCPT TO:<u@s.example> FOO\r\nDATA\r\n", [555, 554]),
    ("R5321-4.1.2-01", READY, b"MAIL FROM:<a@c.example> =1\r\nMAIL FROM:<a@c.example> -A=1\r\n", [501] * 2),
    ("R5321-4.1.2-02", READY, b"MAIL FROM:<a@c.example> SIZE=1=2\r\nMAIL FROM:<a@c.example> SIZE=\r\n", [501] * 2),
    ("R5321-4.1.2-03", READY, b"MAIL FROM:<a..b@c.example>\r\nMAIL FROM:<.a@c.example>\r\n", [501, 501]),
    ("R5321-4.1.2-03: single dots", READY, b"MAIL FROM:<a.@c.example>\r\nMAIL FROM:<a.b@c.example>\r\n", [501, 250]),
    ("R5321-4.1.2-04", READY, b'MAIL FROM:<"a"b"@c.example>\r\nMAIL FROM:<"a>b"@c.example>\r\n', [501, 250]),
    ("R5321-4.1.2-08", MAIL, b"RCPT TO:<a@c_d.example>\r\nRCPT TO:<a\x07@s.example>\r\n", [501, 501]),
    ("R5321-4.1.2-09", READY, b"".join(b"MAIL FROM:<a@%b>\r\n" % d for d in (b"-x", b"x-", b"x..y", b".x")), [501] * 4),
    ("R5321-4.1.2-10", READY, b"MAIL FROM:<@c.example>\r\nMAIL FROM:<a@b@c.example>\r\nMAIL FROM:<a>\r\n", [501] * 3),
    (
        "R5321-4.1.3-01",
        GREETED,
        b"EHLO [256.1.1.1]\r\nEHLO [1.2.3]\r\nEHLO [1.2.3.4.5]\r\nEHLO [1.2.3.4\r\nEHLO [123.255.37.2]\r\n",
        [501, 501, 501, 501, 250],
    ),
    (
        "R5321-4.1.3-02",
        READY,
        b"MAIL FROM:<a@[2001:db8::1]>\r\nMAIL FROM:<a@[IPv6:2001:db8::zz]>\r\nMAIL FROM:<a@[IPv6:2001:db8::1]>\r\n",
        [501, 501, 250],
    ),
    ("R5321-4.1.3-03", GREETED, b"EHLO [IPv6:1:2:3:4:5:6:7::]\r\nEHLO [IPv6:::ffff:192.0.2.1]\r\n", [501, 250]),
    ("R5321-4.1.3-04", READY, b"MAIL FROM:<a@[Foo:bar]>\r\n", [501]),
    ("R5321-4.1.4-01", GREETED, FROM, [503]),
    ("R5321-4.1.4-02", GREETED, b"VRFY smith\r\n", [252]),
    ("R5321-4.1.4-03", RCPT, READY + TO, [250, 503]),
    ("R5321-4.1.4-04", RCPT, b"EHLO\r\nDATA\r\n", [501, 354]),
    ("R5321-4.1.4-08", GREETED, b"NOOP\r\nHELP\r\nVRFY x\r\nEXPN x\r\nRSET\r\n", [250, 214, 252, 502, 250]),
    ("R5321-4.1.4-10", RCPT, b"MAIL FROM:<x@c.example>\r\nDATA\r\n", [503, 354]),
    ("R5321-4.1.4-11", READY, b"MAIL FROM:<a@>\r\n" + FROM, [501, 250]),
    ("R5321-4.1.4-12", READY, b"DATA\r\n" + FROM + b"DATA\r\n" + TO, [503, 250, 554, 250]),
    ("R5321-4.1.4-15", READY, (FROM + TO + b"DATA\r\n" + MESSAGE) * 2 + b"QUIT\r\n", [250, 250, 354, 250] * 2 + [221]),
    ("R5321-4.1.5-01", READY, b"XFROBNICATE a b\r\n", [500]),
    ("R5321-4.2.4-01", READY, b"TURN\r\nBLURB\r\n", [502, 500]),
    ("R5321-4.3.2-06", GREETED, b"RSET\r\nNOOP\r\nQUIT\r\n", [250, 250, 221]),
    (
        "R5321-4.5.1-01",
        GREETED,
        HELO + READY + FROM + TO + b"RSET\r\nNOOP\r\nVRFY x\r\nQUIT\r\n",
        [250] * 6 + [252, 221],
    ),
    ("R5321-4.5.1-02", MAIL, b"RCPT TO:<Postmaster@t.example>\r\nRCPT TO:<Postmaster>\r\n", [250, 250]),
    ("R5321-4.5.3.1.1-01", MAIL, b"RCPT TO:<%b@s.example>\r\n" % (b"a" * 64), [250]),
    ("R5321-4.5.3.1.2-01", GREETED, b"EHLO %b\r\n" % b".".join([b"a" * 63] * 4), [250]),
    ("R5321-4.5.3.1.3-01", READY, b"MAIL FROM:<%b@%b>\r\n" % (b"a" * 64, b"b" * 189), [250]),
    ("R5321-4.5.3.1.4-01", READY, b"NOOP ".ljust(510, b"x") + b"\r\n", [250]),
    ("R5321-4.5.3.1.4-02", READY, b"x" * 10_000 + b"\r\nNOOP\r\n", [500, 250]),
    ("R5321-4.5.3.1.6-01", DATA, b"x" * 998 + b"\r\n." + b"." * 998 + b"\r\n.\r\n", [250]),
    ("R5321-4.5.3.1.8-01", MAIL, TO * 100, [250] * 100),
    ("R5321-F.1-01", READY, b"TURN\r\n", [502]),
    ("R5321-F.4-01", READY, b"MAIL FROM:<a@#12345>\r\n", [501]),
    ("R5321-F.6-02", READY, b"SEND FROM:<a@c.example>\r\nSOML FROM:<>\r\nSAML FROM:<>\r\n", [502] * 3),
    # SIZE
    (
        "R1870-3-03",
        READY,
        b"".join(b"MAIL FROM:<> SIZE%b\r\n" % v for v in (b"=abc", b"=-1", b"=" + b"1" * 21, b"")),
        [501] * 4,
    ),
    ("R1870-3-03: above the limit", READY, b"MAIL FROM:<> SIZE=12345678901234567890\r\n", [552]),
    ("R1870-3-04", READY, b"MAIL FROM:<> SIZE=%b\r\n" % b"0".zfill(20), [250]),
    ("R1870-4-02", READY, b"MAIL FROM:<> SIZE=10\r\n", [250]),
    ("R1870-6-01", READY, b"MAIL FROM:<> SIZE=1 SIZE=2\r\n", [501]),
    (
        "R1870-6-02, R1870-6.1-04",
        READY,
        b"MAIL FROM:<> SIZE=5\r\n" + TO + b"DATA\r\nx\r\n" + b"y" * 50 + b"\r\n.\r\n",
        [250, 250, 354, 250],
    ),
    ("R1870-6.1-01", READY, b"MAIL FROM:<> SIZE=52428801\r\nMAIL FROM:<> SIZE=52428800\r\n", [552, 250]),
    ("R1870-6.1-03", READY, b"MAIL FROM:<> SIZE=99999999\r\n" + TO, [552, 503]),
    ("R1870-7-01", READY, b"MAIL FROM:<> SIZE=52428801\r\n", [552]),
    # PIPELINING
    ("R2920-3.1-04", DATA, b"body\r\n.\r\nRSET\r\n" + FROM, [250, 250, 250]),
    ("R2920-3.2-03", MAIL, b"DATA\r\n" + TO + b"RCPT TO:<>\r\nDATA\r\n", [554, 250, 501, 354]),
    ("R2920-3.2-08", RCPT, b"NOOP\r\n", [250]),
    ("R2920-3.2-09", READY, b"BAD\r\nMAIL FROM:<\r\nRSET\r\nNOOP\r\n", [500, 501, 250, 250]),
    # 8BITMIME
    ("R6152-1-01", DATA, b"\xff" * 998 + b"\r\n.\r\n", [250]),
    ("R6152-2-02: 7BIT", READY, b"MAIL FROM:<> BODY=7BIT\r\n", [250]),
    ("R6152-2-02: 8BITMIME", READY, b"MAIL FROM:<> BODY=8BITMIME\r\n", [250]),
    ("R6152-2-02: neither", READY, b"MAIL FROM:<> BODY=9BIT\r\nMAIL FROM:<> BODY\r\n", [501, 501]),
    ("R6152-3-01", READY, b"MAIL FROM:<> BODY=7BIT BODY=8BITMIME\r\n", [501]),
    # SMTPUTF8
    ("R5321-2.4-08", HELO, "MAIL FROM:<\u00e9@c.example>\r\n".encode(), [501]),
    ("R6531-3.1-05", READY, b"MAIL FROM:<> SMTPUTF8=1\r\nMAIL FROM:<> SMTPUTF8\r\n", [501, 250]),
    ("R6531-3.1-06", READY, b"VRFY smith SMTPUTF8\r\nVRFY smith SMTPUTF8=1\r\n", [252, 501]),
    ("R6531-3.1-07", HELO, b"MAIL FROM:<> SMTPUTF8\r\n", [555]),
    (
        "R6531-3.2-01",
        READY,
        "MAIL FROM:<\u7528\u6237@\u4f8b.example> SMTPUTF8\r\nRCPT TO:<\u00e9@s.example>\r\n".encode(),
        [250, 250],
    ),
    ("R6531-3.2-02", READY, "MAIL FROM:<\u00e9..\u00e9@c.example> SMTPUTF8\r\n".encode(), [501]),
    ("R6531-3.2-02: quoted", READY, 'MAIL FROM:<"\u00e9 x"@c.example> SMTPUTF8\r\n'.encode(), [250]),
    (
        "R6531-3.3-01",
        READY,
        b"".join(
            b"MAIL FROM:<%b@c.example> SMTPUTF8\r\n" % octets for octets in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80")
        ),
        [501] * 3,
    ),
    ("R6531-3.3-02", READY, "MAIL FROM:<a@b\u00fccher.example> SMTPUTF8\r\n".encode(), [250]),
    ("R6531-3.5-01: MAIL", READY, "MAIL FROM:<\u00e9@c.example>\r\n".encode(), [550]),
    ("R6531-3.5-01: RCPT", MAIL, "RCPT TO:<\u00e9@s.example>\r\n".encode(), [553]),
    ("R6531-3.6-01", READY, b"MAIL FROM:<> SMTPUTF8 BODY=8BITMIME\r\n", [250]),
    ("R6531-3.6-02", READY, b"MAIL FROM:<> SMTPUTF8\r\n" + TO + b"DATA\r\n" + MESSAGE, [250, 250, 354, 250]),
    ("R6531-3.7.1-01", GREETED, "EHLO b\u00fccher.example\r\n".encode(), [501]),
    # STARTTLS
    ("R3207-3-01", READY, b"STARTTLS\r\n", [502]),
    ("R3207-4-02", READY, FROM, [250]),
]


@pytest.mark.parametrize(("before", "data", "expected"), [pytest.param(*row, id=name) for name, *row in ROWS])
@pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
def test_replies_follow_the_rfcs(before: bytes, data: bytes, expected: list[int], form: Bodies) -> None:
    assert server(before, bodies=form).send(data).codes == expected


# Decisions of the application

FORWARD = Reply(251, "<u@t.example>")
PROGRAM_DECIDES: list[tuple[str, bytes, bytes, Answer, list[int]]] = [
    ("R5321-3.3-02: transient", READY, FROM, answer_with(Mail, Reply(451)), [451]),
    ("R5321-3.3-02: permanent", READY, FROM, answer_with(Mail, Reply(553)), [553]),
    ("R5321-3.3-03", READY, FROM + TO, answer_with(Rcpt, Reply(550)), [250, 550]),
    ("R5321-3.3-04, R5321-3.6.2-01", MAIL, b"RCPT TO:<u@elsewhere.example>\r\n", refuse, [550]),
    ("R5321-3.3-15", MAIL, TO, refuse, [550]),
    ("R5321-3.4-01", MAIL, TO + b"DATA\r\n", answer_with(Rcpt, FORWARD), [251, 354]),
    ("R5321-3.4-02", MAIL, TO + b"DATA\r\n", answer_with(Rcpt, Reply(551, "<u@t.example>")), [551, 554]),
    (
        "R5321-3.5.1-03",
        READY,
        b"VRFY smith\r\n",
        answer_with(Vrfy, Reply(553, "<a@s.example>", "<b@s.example>")),
        [553],
    ),
    ("R5321-3.6.1-02", MAIL, b"RCPT TO:<@a.example:u@s.example>\r\n", answer_with(Rcpt, Reply(550)), [550]),
    ("R5321-4.1.1.4-12: transient", DATA, MESSAGE, answer_with(DataEnd, Reply(451)), [451]),
    ("R5321-4.1.1.4-12: permanent", DATA, MESSAGE, answer_with(DataEnd, Reply(554)), [554]),
    ("R5321-4.1.1.4-10: failure", DATA, MESSAGE + TO + FROM, answer_with(DataEnd, Reply(554)), [554, 503, 250]),
    ("R5321-4.1.4-04: by policy", RCPT, b"EHLO d.example\r\n", answer_with(Ehlo, Reply(250)), [250]),
    ("R5321-4.1.1.11-02", READY, b"MAIL FROM:<> SIZE=1\r\n", answer_with(Mail, Reply(455)), [455]),
    ("R5321-4.2.5-01", DATA, MESSAGE, answer_with(DataEnd, Reply(451)), [451]),
    ("R5321-4.2.5-02", DATA, MESSAGE, answer_with(DataEnd, Reply(554)), [554]),
    ("R5321-7.3-02", READY, b"VRFY known\r\nVRFY unknown\r\n", refuse, [252, 252]),
    ("R1870-6.1-02", READY, b"MAIL FROM:<> SIZE=500\r\n", answer_with(Mail, Reply(452, enhanced="4.3.1")), [452]),
    ("R1870-6.4-01", MAIL, TO, answer_with(Rcpt, Reply(552)), [552]),
    ("R2920-3.2-03: none accepted", MAIL, TO + b"DATA\r\n", refuse, [550, 554]),
    ("R7504-4-01", MAIL, TO, answer_with(Rcpt, Reply(556, enhanced="5.1.10")), [556]),
    ("R7505-4.1-02", READY, FROM, answer_with(Mail, Reply(550, enhanced="5.7.27")), [550]),
    ("R6531-3.5-03", DATA, MESSAGE, answer_with(DataEnd, Reply(554, enhanced="5.6.9")), [554]),
]


@pytest.mark.parametrize(
    ("before", "data", "answer", "expected"), [pytest.param(*row, id=name) for name, *row in PROGRAM_DECIDES]
)
def test_reply_of_the_application_is_sent(before: bytes, data: bytes, answer: Answer, expected: list[int]) -> None:
    assert server(before, answer=answer).send(data).codes == expected


def test_replies_are_sent_in_the_order_of_the_commands() -> None:
    """R2920-3.2-01"""

    def answer(conn: Any, event: Event) -> Reply:
        bad = isinstance(event, Rcpt) and event.forward_path.local_part == "bad"
        return Reply(550) if bad else accept(conn, event)

    group = FROM + TO + b"RCPT TO:<bad@s.example>\r\n" + TO + b"DATA\r\n"
    server(READY, answer=answer).send(group).expect(250, 250, 550, 250, 354)


# Events


@pytest.mark.parametrize(
    ("before", "data", "event"),
    [
        pytest.param(READY, b"MAIL FROM:<a%b!c@o.example>\r\n", Mail(Path("a%b!c@o.example")), id="R5321-2.3.11-01"),
        pytest.param(READY, b"MAIL FROM:<>\r\n", Mail(Path("")), id="R5321-4.1.1.2-02, R5321-4.5.5-01"),
        pytest.param(
            READY, b"MAIL FROM:<a@c> SMTPUTF8\r\n", Mail(Path("a@c"), Params({"SMTPUTF8": True})), id="R6531-3.1-05"
        ),
        pytest.param(READY, b'VRFY "Joe Smith"\r\n', Vrfy("Joe Smith"), id="R5321-4.1.2-11"),
        pytest.param(READY, b"XFOO a b\r\n", UnknownCommand("XFOO", "a b"), id="R5321-4.1.5-01"),
    ],
)
def test_command_becomes_the_right_event(before: bytes, data: bytes, event: Event) -> None:
    server(before).send(data).expect(event)


def test_transaction_collects_mail_and_recipients() -> None:
    """R5321-4.1.1.3-04, R5321-4.1.1.3-03, R5321-4.1.1.2-01, R5321-C-01, R6152-3-04"""
    book = server().send(
        READY + b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n",
        b"RCPT TO:<b@s.example>\r\nRCPT TO:<@x.example:c@s.example>\r\nRCPT TO:<d@s.example>\r\nDATA\r\n",
        b"To: other@s.example\r\n",
    )

    transaction = book.connection.transaction
    assert transaction is not None
    assert transaction.mail == Mail(Path("a@c.example"), Params({"BODY": transaction.mail.params.body}))
    assert [rcpt.forward_path.local_part for rcpt in transaction.recipients] == ["b", "c", "d"]


@pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
def test_body_octets_are_unchanged(form: Bodies) -> None:
    """R5321-3.6.3-02, R5321-4.4-05, R5321-2.4-07, R5321-6.4-01"""
    content = b"Received: nonsense\r\nReceived: more\r\n\r\n\xe9 \x00\r\n" + bytes(range(128, 256)) + b"\r\n"

    assert body(server(DATA, bodies=form).send(content + b".\r\n").events) == content


def test_end_of_body_event_is_returned_before_any_reply() -> None:
    """R5321-6.1-03, R5321-2.1-01"""
    conn = server(DATA).connection
    conn.receive_data(b"x\r\n.\r\n")

    assert [conn.next_event(), conn.next_event()][1] == DataEnd()
    assert conn.data_to_send() == b""
    conn.send(Reply(250))
    assert conn.data_to_send() == b"250 2.0.0 \r\n"


# The form of replies


def test_replies_to_hello_and_quit_name_the_host_and_list_one_extension_per_line() -> None:
    """R5321-4.2-03, R5321-4.1.1.1-06, R5321-4.2.2-01, R5321-3.2-01, R5321-4.1.1.1-07, R5321-3.1-01"""
    session = HELO + READY + b"QUIT\r\n"
    book = new_server(starttls=True, disabled=OFF_BY_DEFAULT - {"EXPN"}).send(session)

    assert book.output == (
        b"220 s.example ESMTP\r\n"
        b"250 s.example\r\n"
        b"250-s.example\r\n"
        b"250-PIPELINING\r\n"
        b"250-SIZE 52428800\r\n"
        b"250-8BITMIME\r\n"
        b"250-SMTPUTF8\r\n"
        b"250-CHUNKING\r\n"
        b"250-BINARYMIME\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n"
        b"250-STARTTLS\r\n"
        b"250-VRFY\r\n"
        b"250-EXPN\r\n"
        b"250 HELP\r\n"
        b"221 2.0.0 s.example closing\r\n"
    )


def test_ehlo_works_without_any_extension() -> None:
    """R5321-2.2.1-01"""
    book = server(extensions=()).send(MAIL).expect("250 s.example", 250)

    assert book.state is State.MAIL


@pytest.mark.parametrize("keyword", ["EXPN", "HELP", "VRFY", "STARTTLS"])
def test_announced_verbs_are_implemented(keyword: str) -> None:
    """R5321-4.2.4-02, R5321-4.1.1.1-09, R5321-3.5.2-05"""
    line = keyword.encode() + (b" smith\r\n" if keyword in ("VRFY", "EXPN") else b"\r\n")

    [answer] = server(READY, starttls=True, disabled=frozenset()).send(line).replies
    assert answer[:3] in ("252", "214", "220")
    if keyword != "VRFY":
        server(READY, starttls=True, disabled=frozenset({keyword})).send(line).expect(502)


SESSION = b"".join(
    [
        b"BLURB\r\nMAIL\r\n\r\n" + HELO + FROM + TO,
        b"EHLO\r\n" + READY + b"HELP\r\nVRFY x\r\nEXPN x\r\nNOOP\r\nTURN\r\nDATA\r\nMAIL FROM:<> SIZE=99999999\r\n",
        b"BAD\nLINE\r\n" + b"x" * 2000 + b"\r\n",
        FROM + FROM + b"DATA\r\nRCPT TO:<>\r\n" + TO + b"DATA\r\n" + MESSAGE,
        FROM + TO + b"DATA\r\na\nb\r\n.\r\nRSET\r\nMAIL FROM:<> X=1\r\nQUIT\r\n",
    ]
)
SAID = new_server().send(SESSION).replies


def test_every_command_and_every_body_gets_one_reply() -> None:
    """R5321-4.2-01, R5321-4.2-02, R5321-4.2.1-01"""
    # One reply for the greeting and two for the bodies; none for body lines. LF ends the line BAD.
    lines = SESSION.count(b"\n") - len(["x", ".", "a", "b", "."])
    assert len(SAID) == 1 + lines + 2


def test_replies_except_greeting_hello_and_3yz_have_a_status_code() -> None:
    """R2034-3-02, R2034-4-01, R2034-4-02, R2034-4-03, R2034-4-05"""
    plain = [text for text in SAID if not re.match(r"(\d)\d\d.\1\.\d+\.\d+ ", text)]

    assert [text[:3] for text in plain] == ["220", "250", "501", "250", "354", "354"]
    for text in SAID:
        if text not in plain:
            assert all(line[4] == text[0] for line in text.splitlines())


@pytest.mark.parametrize("text", sorted(set(SAID)))
def test_reply_text_is_printable_ascii(text: str) -> None:
    """R5321-4.2-04, R5321-4.2-11"""
    assert re.fullmatch(r"[ -~\n]{5,}", text)


# RFC 5321 4.3.2. Every command may also get 500, 501 and 421.
USUAL = {
    b"EHLO": {250, 504, 550, 502},
    b"HELO": {250, 504, 550, 502},
    b"MAIL": {250, 552, 451, 452, 550, 553, 503, 455, 555},
    b"RCPT": {250, 251, 550, 551, 552, 553, 450, 451, 452, 503, 455, 555},
    b"DATA": {354, 503, 554},
    b"RSET": {250},
    b"VRFY": {250, 251, 252, 550, 551, 553, 502, 504},
    b"EXPN": {250, 252, 550, 500, 502, 504},
    b"HELP": {211, 214, 502, 504},
    b"NOOP": {250},
    b"QUIT": {221},
}


@pytest.mark.parametrize("verb", USUAL, ids=bytes.decode)
@pytest.mark.parametrize("before", [GREETED, HELO, READY, MAIL, RCPT])
def test_reply_codes_are_those_that_rfc_5321_lists_per_command(verb: bytes, before: bytes) -> None:
    """R5321-4.2-05, R5321-4.3.2-02, R5321-4.3.2-03, R5321-4.3.2-04, R5321-4.3.2-05, R5321-4.3.2-07, R5321-4.3.2-08,
    R5321-4.3.2-09
    """
    arguments = [
        b"",
        b" x",
        b" FROM:<a@c.example>",
        b" FROM:<a@c.example> X=1",
        b" TO:<>",
        b" TO:<u@s.example>",
        b" \xff",
    ]
    for argument in arguments:
        [code] = server(before, answer=refuse).send(verb + argument + b"\r\n").codes
        assert code in USUAL[verb] | {500, 501, 421}
        assert code != 500


@pytest.mark.parametrize("greeting", [Reply(220), Reply(554), Reply(421), Reply(521)])
def test_greeting_names_the_host_and_has_no_status_code(greeting: Reply) -> None:
    """R5321-4.3.2-01, R5321-3.1-02, R7504-3-01, R1846-4.1-01"""
    new_server(answer=answer_with(ConnectionOpened, greeting)).send().expect(f"{greeting.code} s.example")


def test_every_command_except_quit_gets_503_after_a_refusing_greeting() -> None:
    """R5321-3.1-03, R5321-3.1-04, R5321-3.1-05"""
    answer = answer_with(ConnectionOpened, Reply(554, "No mail for you: you are on our list"))
    new_server(answer=answer).send().expect("554 ...you are on our list")

    server(answer=answer).send(b"NOOP\r\n" + READY + FROM + b"BLURB\r\n").expect(503, 503, 503, 503)
    server(answer=answer).send(b"RSET\r\nQUIT\r\n").expect(503, 221)


def test_greeting_521_closes_the_connection() -> None:
    """R7504-3-03"""
    assert server(answer=answer_with(ConnectionOpened, Reply(521))).state is State.CLOSED


# SMTPUTF8 in replies

UTF8 = "<\u00e9@x.example>"


@pytest.mark.parametrize(
    ("before", "line", "reply", "permitted"),
    [
        pytest.param(READY, b"VRFY a SMTPUTF8\r\n", Reply(250, UTF8), True, id="R6531-3.7.4.2-01: VRFY"),
        pytest.param(READY, b"EXPN a SMTPUTF8\r\n", Reply(250, UTF8), True, id="R6531-3.7.4.2-01: EXPN"),
        pytest.param(READY, b"VRFY a\r\n", Reply(250, UTF8), False, id="R6531-3.7.4.2-01: without SMTPUTF8"),
        pytest.param(READY, b"VRFY b SMTPUTF8\r\nVRFY a\r\n", Reply(250, UTF8), False, id="R6531-3.7.4.2-04"),
        pytest.param(READY, b"MAIL FROM:<> SMTPUTF8\r\n" + TO, Reply(251, UTF8), True, id="R6531-3.7.4.1-02: 251"),
        pytest.param(READY, b"MAIL FROM:<> SMTPUTF8\r\n" + TO, Reply(551, UTF8), True, id="R6531-3.7.4.1-02: 551"),
        pytest.param(READY, b"MAIL FROM:<> SMTPUTF8\r\n" + TO, Reply(250, UTF8), False, id="R6531-3.7.4.2-05: RCPT"),
        pytest.param(MAIL, TO, Reply(251, UTF8), False, id="R6531-3.7.4.1-01: 251"),
        pytest.param(MAIL, TO, Reply(551, UTF8), False, id="R6531-3.7.4.1-01: 551"),
        pytest.param(READY, b"MAIL FROM:<> SMTPUTF8\r\n", Reply(250, UTF8), False, id="R6531-3.7.4.2-05: MAIL"),
        pytest.param(READY, b"NOOP\r\n", Reply(250, UTF8), False, id="R6531-3.7.4.2-05: NOOP"),
    ],
)
def test_utf_8_reply_needs_permission_of_the_client(before: bytes, line: bytes, reply: Reply, permitted: bool) -> None:
    *prologue, last = line.splitlines(keepends=True)
    conn = server(before, disabled=frozenset()).send(*prologue).connection
    conn.receive_data(last)
    conn.next_event()

    if permitted:
        conn.send(reply)
        assert "\u00e9" in conn.data_to_send().decode()
    else:
        with pytest.raises(LocalProtocolError, match="has not permitted"):
            conn.send(reply)
        assert conn.data_to_send() == b""


# STARTTLS


@pytest.mark.parametrize("before", [GREETED, HELO, READY, MAIL, RCPT])
def test_starttls_is_accepted_in_every_state_outside_a_body(before: bytes) -> None:
    """R3207-4-01"""
    book = server(before, starttls=True).send(b"STARTTLS\r\n").expect(StartTls(), "220 2.0.0 ...")

    assert book.state is State.TLS


@pytest.mark.parametrize(
    ("line", "answer", "expected"),
    [
        pytest.param(b"STARTTLS now\r\n", accept, [501], id="R3207-4-01: with an argument"),
        pytest.param(b"STARTTLS\r\nRSET\r\n", accept, [421], id="R3207-4.2-03"),
    ],
)
def test_starttls_with_an_argument_or_pipelined_command_is_refused(
    line: bytes, answer: Answer, expected: list[int]
) -> None:
    assert server(READY, answer=answer, starttls=True, cut=False).send(line).codes == expected


def test_starttls_may_be_refused_with_454() -> None:
    """R3207-4-01, R3207-6-02"""
    answer = answer_with(StartTls, Reply(454))

    server(READY, starttls=True, answer=answer).send(b"STARTTLS\r\n").expect(454).send(FROM).expect(250)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (FROM, 530),
        (TO, 530),
        (b"DATA\r\n", 530),
        (b"VRFY x\r\n", 530),
        (b"HELP\r\n", 530),
        (b"RSET\r\n", 530),
        (HELO, 530),
        (b"AUTH PLAIN\r\n", 530),
        (b"NOOP\r\n", 250),
        (READY, 250),
        (b"QUIT\r\n", 221),
    ],
)
def test_require_tls_refuses_most_commands_before_tls(line: bytes, code: int) -> None:
    """R3207-4-03, R3207-4-04, R3207-6-01"""
    book = server(READY, starttls=True, require_tls=True).send(line)
    assert book.codes == [code]
    [text] = book.replies
    # RFC 2034 section 3 (4): the replies to HELO and EHLO have no status code.
    assert text.startswith("530 5.7.0 ") is (code == 530 and line != HELO)


def under_tls(before: bytes = RCPT, **options: Any) -> ServerPlaybook:
    return server(before, starttls=True, **options).send(b"STARTTLS\r\n").expect(220).start_tls()


def test_handshake_resets_the_session_without_a_new_greeting() -> None:
    """R3207-4.2-01, R3207-4.2-02"""
    book = under_tls().expect()
    conn = book.connection

    assert (conn.state, conn.helo, conn.transaction, conn.tls) == (State.GREETED, None, None, True)
    book.send(b"DATA\r\n" + TO + FROM + READY + FROM).expect(503, 503, 503, 250, 250)


def test_starttls_is_neither_announced_nor_accepted_under_tls() -> None:
    """R3207-4.2-09, R3207-4.2-10"""
    book = under_tls().send(READY)

    assert b"STARTTLS" not in book.output
    book.expect(250).send(b"STARTTLS\r\n").expect(503).send(b"NOOP\r\n").expect(250)


def test_require_tls_allows_commands_under_tls() -> None:
    under_tls(READY, require_tls=True).send(MAIL).expect(250, 250)


def test_application_may_refuse_ehlo_under_tls() -> None:
    """R3207-4.1-01, R3207-4.1-03"""
    under_tls(GREETED, answer=answer_with(Ehlo, Reply(554))).send(READY).expect(554)


def test_offered_extensions_may_depend_on_tls() -> None:
    """R3207-4.2-07, R5321-4.1.1.1-10, R5321-4.1.5-02"""
    extensions = (*EXTENSIONS, Extension(keyword="XSAFE", offered=lambda config, tls: tls, verbs=frozenset({"XSAFE"})))
    book = server(starttls=True, extensions=extensions).send(READY)

    assert b"XSAFE" not in book.output
    book.expect(250).send(b"XSAFE\r\n").expect("502 5.5.1 XSAFE is not implemented")
    book.send(b"STARTTLS\r\n").expect(220).start_tls()
    book.send(READY).expect("250-...\n250 XSAFE").send(b"XSAFE\r\n").expect("500 5.5.1 Command not recognized")


# Limits


@pytest.mark.parametrize(
    ("before", "data", "changes", "expected"),
    [
        pytest.param(
            MAIL,
            b"RCPT TO:<u@s.example>\r\n" * 101 + b"DATA\r\n" + MESSAGE,
            {"max_recipients": 100},
            [250] * 100 + [452, 354, 250],
            id="R5321-4.5.3.1.8-02, R5321-4.5.3.1.10-01, R9422-unverified-05",
        ),
        pytest.param(
            DATA, b"x" * 1001 + b"\r\n.\r\nNOOP\r\n", {"max_text_line": 1000}, [554, 250], id="R5321-2.3.8-04"
        ),
        pytest.param(
            DATA,
            b"x" * 70_000 + b"\r\n.\r\n",
            {"max_message_size": 65_536, "max_text_line": 99_999},
            [552],
            id="R1870-4-01",
        ),
        pytest.param(READY, b"MAIL FROM:<> SIZE=9\r\n", {"max_message_size": None}, [250], id="R1870-3-02"),
        pytest.param(READY, b"MAIL FROM:<> SIZE=65537\r\n", {"max_message_size": 65_536}, [552], id="R1870-6.1-01"),
        pytest.param(READY, b"BLURB\r\n" * 11, {"max_errors": 10}, [500] * 10 + [421], id="R5321-7.8-01"),
        pytest.param(READY, b"BLURB\r\n" * 10 + b"QUIT\r\n", {"max_errors": 10}, [500] * 10 + [221], id="QUIT"),
        pytest.param(
            READY,
            b"a\nb\r\n" * 9 + b"x" * 600 + b"\r\n" * 2,
            {"max_errors": 10},
            [500] * 10 + [421],
            id="bare newlines and a long line",
        ),
        pytest.param(READY, b"a\nb\r\n" * 11, {"max_errors": 10}, [500] * 10 + [421], id="bare newlines"),
        pytest.param(GREETED, HELO + b"NOOP\r\n", {"max_idle_commands": 1}, [250, 421], id="idle commands"),
        pytest.param(READY, b"NOOP\r\n" * 10, {"max_idle_commands": 10}, [250] * 9 + [421], id="more idle commands"),
        pytest.param(
            READY,
            (b"RSET\r\n" * 8 + FROM + TO + b"DATA\r\n" + MESSAGE) * 2 + b"NOOP\r\n" * 11,
            {"max_idle_commands": 10},
            ([250] * 10 + [354, 250]) * 2 + [250] * 10 + [421],
            id="a message resets the idle command count",
        ),
    ],
)
def test_each_exceeded_limit_gets_the_required_reply(
    before: bytes, data: bytes, changes: dict[str, Any], expected: list[int]
) -> None:
    """R5321-4.5.3.1.9-01"""
    assert server(before, **changes).send(data).codes == expected


def test_refused_message_does_not_reset_the_idle_command_count() -> None:
    answer = answer_with(DataEnd, Reply(550))
    data = FROM + TO + b"DATA\r\n" + MESSAGE + b"NOOP\r\n" * 3

    server(READY, answer=answer, max_idle_commands=3).send(data).expect(250, 250, 354, 550, 250, 250, 421)


def test_recipients_over_the_limit_do_not_affect_the_accepted_recipients() -> None:
    """R5321-4.5.3.1.8-02"""
    group = b"".join(b"RCPT TO:<%d@s.example>\r\n" % number for number in range(101))
    book = server(MAIL, max_recipients=100).send(group).expect(*[250] * 100, "452 4.5.3 ...")

    transaction = book.connection.transaction
    assert transaction is not None
    assert [rcpt.forward_path.local_part for rcpt in transaction.recipients] == list(map(str, range(100)))


@pytest.mark.parametrize(
    ("before", "line", "status"),
    [
        pytest.param(GREETED, FROM, "503 5.5.1", id="R3463-3.6-01: sequence"),
        pytest.param(READY, b"BLURB\r\n", "500 5.5.1", id="R3463-3.6-01: unknown"),
        pytest.param(READY, b"\x01\r\n", "500 5.5.2", id="R3463-3.6-01: unreadable"),
        pytest.param(READY, b"RSET x\r\n", "501 5.5.4", id="R3463-3.6-01: argument"),
        pytest.param(READY, b"MAIL FROM:<a..b@c.example>\r\n", "501 5.1.7", id="R3463-3.2-01: sender"),
        pytest.param(MAIL, b"RCPT TO:<a..b@c.example>\r\n", "501 5.1.3", id="R3463-3.2-01: recipient"),
        pytest.param(READY, b"MAIL FROM:<> SIZE=99999999\r\n", "552 5.3.4", id="R3463-3.4-01, R1870-6.1-03"),
        pytest.param(READY, "MAIL FROM:<\u00e9@c>\r\n".encode(), "550 5.6.7", id="R6531-3.5-02: MAIL"),
        pytest.param(MAIL, "RCPT TO:<\u00e9@c>\r\n".encode(), "553 5.6.7", id="R6531-3.5-02: RCPT"),
    ],
)
def test_refusal_has_the_registered_status_code(before: bytes, line: bytes, status: str) -> None:
    """R3463-2-02, R5248-2.4-01"""
    server(before).send(line).expect(f"{status} ...")
