"""Forwarding of messages while they arrive, over scripted streams in memory."""

from collections.abc import Mapping
from typing import Any

import pytest

from smtpcore import ClientBudgets, Path, Rcpt, Reply
from smtpcore.proxy import ProxyCommand, ProxyHeader, ProxyReader
from smtpcore_adapters import Address, App, Message, Session
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.recipients import AnyRecipient
from tests.adapters.fakes import DATA, EHLO, MAIL, QUIT, RCPT, SILENCE, Step
from tests.adapters.forward.relay import BODY, LHLO, LMTP, OK, TWO, Relay, commands, relay_one
from tests.adapters.playbook import ACCEPTED, ScriptedServer, next_server
from tests.playbook import GO_AHEAD, offer


def test_message_is_forwarded_and_replies_of_the_next_server_are_returned() -> None:
    hop = next_server("8BITMIME").send(OK, OK, b"550 5.1.1 who?\r\n", GO_AHEAD, ACCEPTED, b"221 bye\r\n")
    relay = Relay(
        EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n" + QUIT, next_servers=[hop], peer=Address("192.0.2.9", 4)
    )

    assert relay.codes == ["250 2.1.0", "250 2.1.0", "550 5.1.1", "354", "250 2.0.0", "221 2.0.0"]
    assert "taken" in relay.dialogue.replies[-2]
    sent = commands(hop)
    assert sent[:4] == [b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n", RCPT, TWO, b"DATA\r\n"]
    trace, _, rest = sent[4].partition(b"Subject")
    assert trace.startswith(b"Received: from c.example ([192.0.2.9])\r\n\tby s.example with ESMTP id ")
    assert b"for <u@s.example>" in trace
    assert b"Subject" + rest + sent[5] == BODY + b".\r\n"
    assert hop.sent[-1] == QUIT
    assert hop.stream.close_timeouts


def test_body_is_forwarded_while_it_arrives() -> None:
    seen: list[int] = []

    def record_size() -> None:
        seen.append(len(hop.output))

    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    pieces: list[Step] = []
    for _ in range(8):
        pieces += [(b"x" * 998 + b"\r\n") * 98, record_size]
    Relay(EHLO + MAIL + RCPT + DATA, b"A: b\r\n\r\n", *pieces, b".\r\n", next_servers=[hop])

    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_session_reuses_its_connection_to_the_next_server() -> None:
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED, OK, OK, OK, OK, OK, GO_AHEAD, ACCEPTED)
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + message + MAIL + RCPT + b"RSET\r\n" + message + QUIT, next_servers=[hop])

    assert relay.dialogue.stream.opened == [("hop.example", 2525)]
    assert sum("taken" in reply for reply in relay.dialogue.replies) == 2
    assert commands(hop).count(b"RSET\r\n") == 1


def test_connection_closed_by_the_next_server_is_replaced() -> None:
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    for end in (b"", b"421 idle\r\n", ConnectionResetError("gone")):
        first = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED, end)
        second = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
        relay = Relay(EHLO + message + message + QUIT, next_servers=[first, second])

        assert relay.codes.count("250 2.0.0") == 2
        assert first.stream.close_timeouts


def test_refused_sender_is_reported_in_the_reply_to_rcpt() -> None:
    hop = next_server("8BITMIME").send(b"550 5.7.1 not you\r\n", OK, OK, GO_AHEAD, ACCEPTED)
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + MAIL + RCPT + TWO + b"RSET\r\n" + message + QUIT, next_servers=[hop])

    assert relay.codes[:4] == ["250 2.1.0", "550 5.7.1", "550 5.7.1", "250 2.0.0"]
    assert relay.codes[-2] == "250 2.0.0"


@pytest.mark.parametrize(
    ("next_servers", "code"),
    [
        ([ConnectionRefusedError("no one")], "451 4.4.1"),
        ([TimeoutError("slow")], "451 4.4.1"),
        ([ScriptedServer().send(SILENCE)], "451 4.4.1"),
        ([ScriptedServer().send(b"554 no\r\n")], "451 4.3.2"),
        ([ScriptedServer().send(b"nonsense\r\n")], "451 4.5.0"),
        ([next_server("8BITMIME").send(SILENCE)], "451 4.4.2"),
        ([next_server("8BITMIME").send(b"421 busy\r\n")], "451"),
        ([next_server("8BITMIME").send(OK, b"421 4.3.2 busy\r\n")], "451 4.3.2"),
        ([next_server("8BITMIME").send(OK, b"521 5.3.2 never\r\n")], "554 5.3.2"),
        ([next_server("8BITMIME").send(OK, b"")], "451 4.4.2"),
        ([next_server("8BITMIME").send(OK, b"354 what\r\n")], "451 4.5.0"),
        ([next_server("8BITMIME").send(OK, b"598 odd\r\n")], "550"),
    ],
)
def test_failure_of_the_next_server_becomes_a_temporary_refusal_of_rcpt(next_servers: list[Any], code: str) -> None:
    relay = Relay(EHLO + MAIL + RCPT + RCPT + QUIT, next_servers=[*next_servers, ConnectionRefusedError("no one")])

    assert relay.codes[1].startswith(code)
    assert relay.codes[-1] == "221 2.0.0", "the session continues"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([b"451 4.3.0 later\r\n"], "451 4.3.0"),
        ([b"421 4.3.2 bye\r\n"], "451 4.3.2"),
        ([GO_AHEAD, b"552 5.2.2 full\r\n"], "552 5.2.2"),
        ([GO_AHEAD, b"421 4.3.2 bye\r\n"], "451 4.3.2"),
        ([GO_AHEAD, b""], "451 4.4.2"),
        ([GO_AHEAD, SILENCE], "451 4.4.2"),
        ([GO_AHEAD, b"354 what\r\n"], "451 4.5.0"),
    ],
)
def test_failure_at_the_body_becomes_the_reply_to_the_message(answers: list[Step], code: str) -> None:
    hop = next_server("8BITMIME").send(OK, OK, *answers)
    relay = Relay(EHLO + MAIL + RCPT + DATA, BODY + b".\r\n", QUIT, next_servers=[hop])

    assert relay.codes[3] == code
    assert relay.codes[-1] == "221 2.0.0"


@pytest.mark.parametrize("end", [[], [ConnectionResetError("gone")], [SILENCE]])
def test_incomplete_body_is_never_ended_at_the_next_server(end: list[Step]) -> None:
    for offers in (("8BITMIME",), ("8BITMIME", "CHUNKING")):
        hop = next_server(*offers).send(OK, OK, GO_AHEAD, ACCEPTED)
        Relay(EHLO + MAIL + RCPT + DATA, BODY + b"x" * 300_000 + b"\r\n", *end, next_servers=[hop])

        assert not hop.output.endswith((b"\r\n.\r\n", QUIT))
        assert b"LAST" not in hop.output
        assert hop.stream.close_timeouts == [0]


def test_body_refused_by_the_relay_is_never_ended_at_the_next_server() -> None:
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    relay = Relay(EHLO + MAIL + RCPT + DATA, BODY, b"bare\nline\r\n.\r\n" + QUIT, next_servers=[hop])

    assert relay.codes[3] == "550 5.6.0"
    assert not hop.output.endswith(b"\r\n.\r\n")


def test_mail_loop_is_refused_before_the_body_is_sent() -> None:
    trace = b"Received: from a\r\n\tby b\r\n" * 100
    hop = next_server("8BITMIME").send(OK, OK, OK, OK, OK, GO_AHEAD, ACCEPTED)
    again = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + MAIL + RCPT + DATA, trace + BODY + b".\r\n" + again + QUIT, next_servers=[hop])

    assert relay.codes[3] == "554 5.4.6"
    assert commands(hop)[2] == b"RSET\r\n"
    assert relay.codes[-2] == "250 2.0.0"


def test_received_lines_in_the_text_do_not_count_as_trace_fields() -> None:
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    text = b"A: b\r\n\r\n" + b"Received: x\r\n" * 200
    assert Relay(EHLO + MAIL + RCPT + DATA, text + b".\r\n", next_servers=[hop]).codes[3] == "250 2.0.0"
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    assert Relay(EHLO + MAIL + RCPT + DATA, b"\r\n" + text + b".\r\n", next_servers=[hop]).codes[3] == "250 2.0.0"


def test_large_header_is_forwarded_without_buffering_all_of_it() -> None:
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    header = b"A: " + b"x" * 60_000 + b"\r\n"
    relay = Relay(EHLO + MAIL + RCPT + DATA, *[header] * 10, b"\r\n.\r\n", next_servers=[hop])
    assert relay.codes[3] == "250 2.0.0"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_message_that_begins_with_white_space_does_not_continue_added_fields(size: int) -> None:
    forged = b"\t(forged) by evil.example\r\nSubject: x\r\n\r\n"
    choices: list[dict[str, Any]] = [{}, {"trace": False, "fields": lambda session, message: b"X-Score:\r\n 7\r\n"}]
    for options in choices:
        hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
        pieces = [forged[start : start + size] for start in range(0, len(forged), size)]
        Relay(EHLO + MAIL + RCPT + DATA, *pieces, b".\r\n", next_servers=[hop], **options)
        assert b"".join(commands(hop)).partition(b"DATA\r\n")[2].endswith(b"\r\n\r\n" + forged + b".\r\n")

    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    Relay(EHLO + MAIL + RCPT + DATA, forged + b".\r\n", next_servers=[hop], trace=False)
    assert commands(hop)[3] == forged


@pytest.mark.parametrize("fields", [b"X-Score: 7", b" X-Score: 7\r\n", b"X-Score: 7\r\n\r\n", b"X: a\nb\r\n", b"X\r\n"])
def test_malformed_added_fields_are_a_temporary_refusal(fields: bytes, caplog: pytest.LogCaptureFixture) -> None:
    hop = next_server("8BITMIME").send(OK, OK)
    script = EHLO + MAIL + RCPT + DATA, BODY + b".\r\n" + QUIT
    relay = Relay(*script, next_servers=[hop], fields=lambda session, message: fields)
    assert relay.codes[3] == "451 4.3.0"
    assert "each header field must be" in caplog.text
    assert b"DATA" not in hop.output


@pytest.mark.parametrize("text", [b"A: b\0\r\n\r\n", b"A: b\r\n\r\n" + b"x\r\n" * 300_000 + b"\0"])
def test_nul_in_a_text_is_refused(text: bytes) -> None:
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    relay = Relay(EHLO + MAIL + RCPT + DATA, text + b"\r\n.\r\n" + QUIT, next_servers=[hop])
    assert relay.codes[3] == "554 5.6.0"
    assert not hop.output.endswith(b"\r\n.\r\n")


def test_other_handlers_may_refuse_recipients_and_add_header_fields() -> None:
    app = App()

    @app.on("RCPT")
    def refuse_v(session: Session, rcpt: Rcpt) -> Reply | None:
        return Reply(550, "No", enhanced="5.7.1") if rcpt.forward_path.local_part == "v" else None

    @app.on("message")
    async def score(session: Session, message: Message) -> None:
        session.state.score = len(await message.read())

    def fields(session: Session, message: Message) -> bytes:
        return f"X-Score: {session.state.score}\r\n".encode()

    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[hop], app=app, fields=fields, trace=False)

    assert relay.codes == ["250 2.1.0", "250 2.1.0", "550 5.7.1", "354", "250 2.0.0"]
    assert b"".join(hop.sent[-3:-1]) == b"X-Score: 22\r\n" + BODY + b".\r\n"


def test_recipients_accepted_by_other_handlers_are_checked_before_the_body() -> None:
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n" + QUIT
    for replies, code in [([OK, OK, GO_AHEAD, ACCEPTED], "250 2.0.0"), ([OK, b"550 5.1.1 who?\r\n"], "550 5.1.1")]:
        app = App()
        app.include(AnyRecipient())
        hop = next_server("8BITMIME").send(OK, *replies)
        relay = Relay(*script, next_servers=[hop], app=app)

        assert relay.codes[4] == code
        assert (b"DATA\r\n" in commands(hop)) == (code == "250 2.0.0")

    app = App()
    app.include(AnyRecipient())
    assert Relay(*script, next_servers=[ConnectionRefusedError("no one")], app=app).codes[4] == "451 4.4.1"


# Extensions


def test_no_connection_is_opened_before_the_first_recipient() -> None:
    relay = Relay(EHLO + MAIL + QUIT, next_servers=[])
    assert relay.dialogue.stream.opened == []


def test_8bit_body_is_not_sent_to_a_server_without_8bitmime() -> None:
    for body in (b"A: \xff\r\n\r\n", BODY + b"\xc3\xa9\r\n"):
        hop = next_server().send(OK, OK, GO_AHEAD, ACCEPTED)
        relay = Relay(EHLO + MAIL + RCPT + DATA, body, b"more\r\n.\r\n" + QUIT, next_servers=[hop])

        assert relay.codes[3] == "554 5.6.3"
        assert hop.output.isascii()
        assert not hop.output.endswith(b"\r\n.\r\n")


def test_8bit_body_declared_as_7bit_is_refused() -> None:
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    mail = b"MAIL FROM:<a@c.example> BODY=7BIT\r\n"
    relay = Relay(EHLO + mail + RCPT + DATA, BODY + b"\xff\r\n.\r\n" + QUIT, next_servers=[hop])

    assert relay.codes[3].startswith("554")
    assert not hop.output.endswith(b"\r\n.\r\n")


def test_utf8_header_is_not_sent_to_a_server_without_smtputf8() -> None:
    mail = b"MAIL FROM:<a@c.example> SMTPUTF8\r\n"
    hop = next_server("8BITMIME").send(OK, OK)
    relay = Relay(EHLO + mail + RCPT + DATA, "Subject: grüße\r\n\r\n.\r\n".encode(), next_servers=[hop])
    assert relay.codes[3] == "554 5.6.9"
    assert b"DATA" not in hop.output

    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)
    relay = Relay(EHLO + mail + RCPT + DATA, "Subject: hi\r\n\r\ngrüße\r\n.\r\n".encode(), next_servers=[hop])
    assert relay.codes[3] == "250 2.0.0"


def test_bdat_is_used_for_a_server_with_chunking() -> None:
    codes, sent = relay_one("8BITMIME", "CHUNKING")
    assert codes[-1] == "250 2.0.0"
    assert sent[2] + sent[3] == b"BDAT 22 LAST\r\n" + BODY.replace(b"..", b".")


# LMTP


@pytest.mark.parametrize(
    ("replies", "code", "named"),
    [
        (b"250 2.0.0 a\r\n250 2.0.0 b\r\n", "250 2.0.0", False),
        (b"552 5.2.2 full\r\n552 5.2.2 full\r\n", "552 5.2.2", False),
        (b"452 4.2.2 full\r\n552 5.2.2 full\r\n", "452 4.2.2", False),
        (b"250 2.0.0 a\r\n552 5.2.2 full\r\n", "552 5.2.2", True),
        (b"250 2.0.0 a\r\n452 4.2.2 full\r\n", "452 4.2.2", True),
    ],
)
def test_smtp_to_lmtp_asks_about_each_recipient_and_reports_one_result(replies: bytes, code: str, named: bool) -> None:
    hop = next_server("8BITMIME").send(OK, OK, OK, b"550 5.1.1 who?\r\n", GO_AHEAD, replies)
    three = RCPT + TWO + TWO.replace(b"v@", b"w@")
    relay = Relay(EHLO + MAIL + three + DATA, BODY + b".\r\n", next_servers=[hop], lmtp=True)

    assert relay.codes[:-1] == ["250 2.1.0", "250 2.1.0", "250 2.1.0", "550 5.1.1", "354"]
    assert relay.codes[-1].replace("-", " ") == code
    assert ("Accepted for 1 of 2 recipients" in relay.last) is named
    assert ("v@s.example: full" in relay.last) is named
    assert hop.sent[0] == b"LHLO relay.example\r\n"


@pytest.mark.parametrize(
    ("replies", "code", "bounced"),
    [
        (b"250 2.0.0 a\r\n250 2.0.0 b\r\n", "250 2.0.0", {}),
        (b"250 2.0.0 a\r\n552 5.2.2 full\r\n", "250 2.0.0", {"v@s.example": 552}),
        (b"552 5.2.2 full\r\n250 2.0.0 b\r\n", "250 2.0.0", {"u@s.example": 552}),
        (b"552 5.2.2 full\r\n452 4.2.2 full\r\n", "452 4.2.2", {}),
        (b"552 5.2.2 full\r\n550 5.1.1 gone\r\n", "550 5.1.1", {}),
        (b"250 2.0.0 a\r\n421 4.3.2 bye\r\n", "250 2.0.0", {"v@s.example": 451}),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_smtp_to_lmtp_with_bounce_accepts_many_recipients(
    replies: bytes, code: str, bounced: dict[str, int], is_async: bool
) -> None:
    bounced_codes: dict[str, int] = {}

    def bounce(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        bounced_codes.update({str(path): reply.code for path, reply in refused.items()})

    async def bounce_later(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        bounce(session, message, refused)

    hop = next_server("8BITMIME").send(OK, OK, OK, GO_AHEAD, replies)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[hop], lmtp=True, bounce=bounce_later if is_async else bounce)

    assert relay.codes[-1] == code
    assert bounced_codes == bounced


def test_failing_bounce_becomes_a_temporary_refusal() -> None:
    def bounce(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        raise OSError("no disk")

    hop = next_server("8BITMIME").send(OK, OK, OK, GO_AHEAD, b"250 2.0.0 a\r\n552 5.2.2 full\r\n")
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    assert Relay(*script, next_servers=[hop], lmtp=True, bounce=bounce).codes[-1] == "451 4.3.0"


def test_lmtp_to_lmtp_returns_the_reply_of_each_recipient() -> None:
    hop = next_server("8BITMIME").send(OK, OK, OK, GO_AHEAD, b"250 2.0.0 a\r\n552 5.2.2 full\r\n")
    script = LHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[hop], config=LMTP, lmtp=True)
    assert relay.codes[-2:] == ["250 2.0.0", "552 5.2.2"]


@pytest.mark.parametrize("accepts_first", [True, False])
def test_lmtp_to_lmtp_keeps_equal_recipients_apart(accepts_first: bool) -> None:
    app = App()
    if accepts_first:  # the next server is asked about this recipient after the other recipients

        @app.on("RCPT")
        def accept_first(session: Session, rcpt: Rcpt) -> Reply | None:
            return None if session.transaction and session.transaction.recipients else Reply(250)

    replies = [b"250 2.0.0 a\r\n", b"452 4.2.2 b\r\n", b"552 5.2.2 c\r\n"]
    body_replies = b"".join(replies[1:] + replies[:1] if accepts_first else replies)
    hop = next_server("8BITMIME").send(OK, OK, OK, OK, GO_AHEAD, body_replies)
    relay = Relay(LHLO + MAIL + RCPT * 3 + DATA, BODY + b".\r\n", next_servers=[hop], config=LMTP, app=app, lmtp=True)
    assert relay.codes[-3:] == ["250 2.0.0", "452 4.2.2", "552 5.2.2"]


def test_lmtp_to_smtp_repeats_the_reply_for_each_recipient() -> None:
    hop = next_server("8BITMIME").send(OK, OK, OK, GO_AHEAD, ACCEPTED)
    script = LHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[hop], config=LMTP)
    assert relay.codes[-2:] == ["250 2.0.0", "250 2.0.0"]


# Identity of the client


def test_xclient_and_xforward_describe_the_client() -> None:
    peer = Address("2001:db8::9", 4)
    hop = next_server("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME")
    hop.send(b"220 x\r\n", offer("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"), OK, OK, OK)
    relay = Relay(EHLO + MAIL + RCPT, next_servers=[hop], xclient=True, xforward=True, peer=peer)

    assert relay.codes[-1] == "250 2.1.0"
    sent = commands(hop)
    assert sent[0] == (
        b"XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::9 PORT=4 PROTO=ESMTP HELO=c.example LOGIN=[UNAVAILABLE] "
        b"DESTADDR=192.0.2.25 DESTPORT=25\r\n"
    )
    ident = relay.dialogue.session.id.encode()
    assert sent[1] == (
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::9 PORT=4 PROTO=ESMTP HELO=c.example IDENT=" + ident
        + b" SOURCE=REMOTE\r\n"
    )  # fmt: skip


@pytest.mark.parametrize("option", ["xclient", "xforward"])
@pytest.mark.parametrize("offered", [True, False])
def test_missing_or_refused_xclient_or_xforward_is_a_temporary_refusal(option: str, offered: bool) -> None:
    keywords = [f"{option.upper()} NAME ADDR"] if offered else []
    hop = next_server(*keywords).send(b"550 5.7.0 not you\r\n")
    options: dict[str, Any] = {option: True}
    relay = Relay(EHLO + MAIL + RCPT, next_servers=[hop], **options)

    assert relay.codes[-1] == "451 4.3.2"
    assert hop.stream.close_timeouts


def test_proxy_header_describes_the_client() -> None:
    for peer, command in [
        (Address("192.0.2.9", 4), ProxyCommand.PROXY),
        (Address("2001:db8::9", 4), ProxyCommand.PROXY),
        (None, ProxyCommand.LOCAL),
    ]:
        hop = next_server("8BITMIME").send(OK, OK)
        Relay(EHLO + MAIL + RCPT, next_servers=[hop], proxy_protocol=True, peer=peer)
        reader = ProxyReader()
        reader.receive_data(hop.sent[0])
        header = reader.next_header()
        assert isinstance(header, ProxyHeader)
        assert header.command is command


def test_xclient_with_auth_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="exclude"):
        Forward("hop.example", xclient=True, auth=("tim", "secret"))


def test_two_proxy_headers_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="proxy_protocol and proxy exclude each other"):
        Forward("hop.example", proxy_protocol=True, proxy=ProxyHeader(ProxyCommand.LOCAL))


def test_forward_applies_the_client_timeouts() -> None:
    hop = next_server("8BITMIME").send(OK, OK)
    Relay(EHLO + MAIL + RCPT, next_servers=[hop], budgets=ClientBudgets(rcpt=7))
    assert 7 in [round(limit) for limit in hop.stream.receive_timeouts]


def test_long_or_non_ascii_reply_of_the_next_server_is_cut_to_a_valid_reply() -> None:
    long = "x" * 3000
    hop = next_server("8BITMIME").send(OK, f"550-grüße {long}\r\n".encode() * 100 + b"550 end\r\n")
    relay = Relay(EHLO + MAIL + RCPT + QUIT, next_servers=[hop])
    lines = relay.dialogue.replies[-2].split("\n")

    assert len(lines) <= 20
    assert all(len(line) <= 510 and line.isascii() for line in lines)
    assert relay.codes[-1] == "221 2.0.0"
