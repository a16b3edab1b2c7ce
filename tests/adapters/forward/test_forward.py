"""Mail that is passed on while it arrives, over streams in memory that follow a script."""

import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import Config, Path, Rcpt, Reply
from smtpcore.proxy import ProxyCommand, ProxyHeader, ProxyReader
from smtpcore_adapters import Address, App, ClientTimeouts, Message, Session, TlsMode
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.recipients import AnyRecipient
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT, SILENCE, Dialogue, FakeStream, Step

OK = b"250 2.1.0 ok\r\n"
GO_ON = b"354 go on\r\n"
TAKEN = b"250 2.0.0 taken\r\n"
TWO = b"RCPT TO:<v@s.example>\r\n"
BODY = b"Subject: hi\r\n\r\n..text\r\n"
EVERYTHING = replace(CONFIG, disabled=frozenset({"BURL"}))
LMTP = replace(CONFIG, lmtp=True)
LHLO = EHLO.replace(b"EHLO", b"LHLO")


def ehlo(*keywords: str) -> bytes:
    lines = ["hop.example", *keywords]
    return "".join(f"250{'-' if line is not lines[-1] else ' '}{line}\r\n" for line in lines).encode()


GREETING = b"220 hop.example\r\n"


def hop(*script: Step, offers: tuple[str, ...] = ("8BITMIME",)) -> FakeStream:
    return FakeStream(GREETING, ehlo(*offers), *script)


class Relay:
    """A session that passes its mail on to scripted servers."""

    def __init__(
        self,
        *script: Step,
        hops: list[Any],
        config: Config = CONFIG,
        app: App | None = None,
        server_tls: ssl.SSLContext | None = None,
        peer: Address | None = None,
        **options: Any,
    ) -> None:
        options.setdefault("hostname", "relay.example")
        options.setdefault("tls", TlsMode.NONE)
        self.app = app or App()
        self.app.include(Forward("hop.example", 2525, **options))
        self.dialogue = Dialogue(self.app, *script, config=config, tls=server_tls, peer=peer)
        self.dialogue.stream.others.extend(hops)
        self.dialogue.run()

    @property
    def codes(self) -> list[str]:
        """The replies, each as its code and its enhanced status code."""
        words = [reply.split(" ", 2) for reply in self.dialogue.replies[2:]]
        return [" ".join(word[:2]) if word[1:] and word[1].count(".") == 2 else word[0] for word in words]

    @property
    def last(self) -> str:
        return self.dialogue.last


def commands(stream: FakeStream) -> list[bytes]:
    """What was written, one command each, without hello and goodbye."""
    return [line for line in stream.sent if not line.startswith((b"EHLO", b"LHLO", b"QUIT"))]


def relay_one(*keywords: str, mail: bytes = MAIL, rcpt: bytes = RCPT, **options: Any) -> tuple[list[str], list[bytes]]:
    """Pass one message on to a server that offers `keywords`, and accepts it."""
    chunks = "CHUNKING" in keywords
    stream = hop(OK, OK, *([] if chunks else [GO_ON]), TAKEN, offers=keywords)
    relay = Relay(EHLO + mail + rcpt + DATA, BODY + b".\r\n", hops=[stream], trace=False, **options)
    return relay.codes, commands(stream)


def test_a_message_is_passed_on_and_the_next_server_answers() -> None:
    stream = hop(OK, OK, b"550 5.1.1 who?\r\n", GO_ON, TAKEN, b"221 bye\r\n")
    relay = Relay(EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n" + QUIT, hops=[stream], peer=Address("192.0.2.9", 4))

    assert relay.codes == ["250 2.1.0", "250 2.1.0", "550 5.1.1", "354", "250 2.0.0", "221 2.0.0"]
    assert "taken" in relay.dialogue.replies[-2]
    sent = commands(stream)
    assert sent[:4] == [b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n", RCPT, TWO, b"DATA\r\n"]
    trace, _, rest = sent[4].partition(b"Subject")
    assert trace.startswith(b"Received: from c.example ([192.0.2.9])\r\n\tby s.example with ESMTP id ")
    assert b"for <u@s.example>" in trace
    assert b"Subject" + rest + sent[5] == BODY + b".\r\n"
    assert stream.sent[-1] == QUIT
    assert stream.closings


def test_the_body_is_passed_on_while_it_arrives() -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(len(stream.output))

    stream = hop(OK, OK, GO_ON, TAKEN)
    pieces: list[Step] = []
    for _ in range(8):
        pieces += [(b"x" * 998 + b"\r\n") * 98, look]
    Relay(EHLO + MAIL + RCPT + DATA, b"A: b\r\n\r\n", *pieces, b".\r\n", hops=[stream])

    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_a_session_keeps_its_connection() -> None:
    stream = hop(OK, OK, GO_ON, TAKEN, OK, OK, OK, OK, OK, GO_ON, TAKEN)
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + message + MAIL + RCPT + b"RSET\r\n" + message + QUIT, hops=[stream])

    assert relay.dialogue.stream.opened == [("hop.example", 2525)]
    assert sum("taken" in reply for reply in relay.dialogue.replies) == 2
    assert commands(stream).count(b"RSET\r\n") == 1


def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    for end in (b"", b"421 idle\r\n", ConnectionResetError("gone")):
        first = hop(OK, OK, GO_ON, TAKEN, end)
        second = hop(OK, OK, GO_ON, TAKEN)
        relay = Relay(EHLO + message + message + QUIT, hops=[first, second])

        assert relay.codes.count("250 2.0.0") == 2
        assert first.closings


def test_a_refused_sender_is_told_at_RCPT() -> None:
    stream = hop(b"550 5.7.1 not you\r\n", OK, OK, GO_ON, TAKEN)
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + MAIL + RCPT + TWO + b"RSET\r\n" + message + QUIT, hops=[stream])

    assert relay.codes[:4] == ["250 2.1.0", "550 5.7.1", "550 5.7.1", "250 2.0.0"]
    assert relay.codes[-2] == "250 2.0.0"


@pytest.mark.parametrize(
    ("hops", "code"),
    [
        ([ConnectionRefusedError("no one")], "451 4.4.1"),
        ([TimeoutError("slow")], "451 4.4.1"),
        ([FakeStream(SILENCE)], "451 4.4.1"),
        ([FakeStream(b"554 no\r\n")], "451 4.3.2"),
        ([FakeStream(b"nonsense\r\n")], "451 4.5.0"),
        ([hop(SILENCE)], "451 4.4.2"),
        ([hop(b"421 busy\r\n")], "451"),
        ([hop(OK, b"421 4.3.2 busy\r\n")], "451 4.3.2"),
        ([hop(OK, b"521 5.3.2 never\r\n")], "554 5.3.2"),
        ([hop(OK, b"")], "451 4.4.2"),
        ([hop(OK, b"354 what\r\n")], "451 4.5.0"),
        ([hop(OK, b"598 odd\r\n")], "550"),
    ],
)
def test_whatever_keeps_the_next_server_from_answering_is_temporary(hops: list[Any], code: str) -> None:
    relay = Relay(EHLO + MAIL + RCPT + RCPT + QUIT, hops=[*hops, ConnectionRefusedError("no one")])

    assert relay.codes[1].startswith(code)
    assert relay.codes[-1] == "221 2.0.0", "the session goes on"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([b"451 4.3.0 later\r\n"], "451 4.3.0"),
        ([b"421 4.3.2 bye\r\n"], "451 4.3.2"),
        ([GO_ON, b"552 5.2.2 full\r\n"], "552 5.2.2"),
        ([GO_ON, b"421 4.3.2 bye\r\n"], "451 4.3.2"),
        ([GO_ON, b""], "451 4.4.2"),
        ([GO_ON, SILENCE], "451 4.4.2"),
        ([GO_ON, b"354 what\r\n"], "451 4.5.0"),
    ],
)
def test_the_fate_of_a_body_is_told(answers: list[Step], code: str) -> None:
    stream = hop(OK, OK, *answers)
    relay = Relay(EHLO + MAIL + RCPT + DATA, BODY + b".\r\n", QUIT, hops=[stream])

    assert relay.codes[3] == code
    assert relay.codes[-1] == "221 2.0.0"


@pytest.mark.parametrize("end", [b"", ConnectionResetError("gone"), SILENCE])
def test_a_body_that_breaks_off_is_never_ended(end: Step) -> None:
    for offers in (("8BITMIME",), ("8BITMIME", "CHUNKING")):
        stream = hop(OK, OK, GO_ON, TAKEN, offers=offers)
        Relay(EHLO + MAIL + RCPT + DATA, BODY + b"x" * 300_000 + b"\r\n", end, hops=[stream])

        assert not stream.output.endswith((b"\r\n.\r\n", QUIT))
        assert b"LAST" not in stream.output
        assert stream.closings == [0]


def test_a_body_that_is_refused_here_is_never_ended_there() -> None:
    stream = hop(OK, OK, GO_ON, TAKEN)
    relay = Relay(EHLO + MAIL + RCPT + DATA, BODY, b"bare\nline\r\n.\r\n" + QUIT, hops=[stream])

    assert relay.codes[3] == "550 5.6.0"
    assert not stream.output.endswith(b"\r\n.\r\n")


def test_a_message_that_goes_round_in_circles_is_refused_before_it_is_sent() -> None:
    trace = b"Received: from a\r\n\tby b\r\n" * 100
    stream = hop(OK, OK, OK, OK, OK, GO_ON, TAKEN)
    again = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + MAIL + RCPT + DATA, trace + BODY + b".\r\n" + again + QUIT, hops=[stream])

    assert relay.codes[3] == "554 5.4.6"
    assert commands(stream)[2] == b"RSET\r\n"
    assert relay.codes[-2] == "250 2.0.0"


def test_what_looks_like_a_trace_in_the_text_is_none() -> None:
    stream = hop(OK, OK, GO_ON, TAKEN)
    text = b"A: b\r\n\r\n" + b"Received: x\r\n" * 200
    assert Relay(EHLO + MAIL + RCPT + DATA, text + b".\r\n", hops=[stream]).codes[3] == "250 2.0.0"
    stream = hop(OK, OK, GO_ON, TAKEN)
    assert Relay(EHLO + MAIL + RCPT + DATA, b"\r\n" + text + b".\r\n", hops=[stream]).codes[3] == "250 2.0.0"


def test_an_endless_header_is_not_held() -> None:
    stream = hop(OK, OK, GO_ON, TAKEN)
    header = b"A: " + b"x" * 60_000 + b"\r\n"
    relay = Relay(EHLO + MAIL + RCPT + DATA, *[header] * 10, b"\r\n.\r\n", hops=[stream])
    assert relay.codes[3] == "250 2.0.0"


def test_other_handlers_may_refuse_and_may_add_fields() -> None:
    app = App()

    @app.on("RCPT")
    def not_him(session: Session, rcpt: Rcpt) -> Reply | None:
        return Reply(550, "No", enhanced="5.7.1") if rcpt.forward_path.local_part == "v" else None

    @app.on("message")
    async def score(session: Session, message: Message) -> None:
        session.state.score = len(await message.read())

    def fields(session: Session, message: Message) -> bytes:
        return f"X-Score: {session.state.score}\r\n".encode()

    stream = hop(OK, OK, GO_ON, TAKEN)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, hops=[stream], app=app, fields=fields, trace=False)

    assert relay.codes == ["250 2.1.0", "250 2.1.0", "550 5.7.1", "354", "250 2.0.0"]
    assert b"".join(stream.sent[-3:-1]) == b"X-Score: 22\r\n" + BODY + b".\r\n"


def test_recipients_that_others_accepted_are_asked_about_before_the_body() -> None:
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n" + QUIT
    for replies, code in [([OK, OK, GO_ON, TAKEN], "250 2.0.0"), ([OK, b"550 5.1.1 who?\r\n"], "550 5.1.1")]:
        app = App()
        app.include(AnyRecipient())
        stream = hop(OK, *replies)
        relay = Relay(*script, hops=[stream], app=app)

        assert relay.codes[4] == code
        assert (b"DATA\r\n" in commands(stream)) == (code == "250 2.0.0")

    app = App()
    app.include(AnyRecipient())
    assert Relay(*script, hops=[ConnectionRefusedError("no one")], app=app).codes[4] == "451 4.4.1"


# Extensions


def test_what_the_next_server_knows_is_passed_on() -> None:
    offers = ("8BITMIME", "SMTPUTF8", "SIZE 1000", "DSN", "MT-PRIORITY", "NO-SOLICITING", "RRVS", "DELIVERBY", "XFOO")
    mail = (
        b"MAIL FROM:<gr\xc3\xbc\xc3\x9fe@c.example> SMTPUTF8 SIZE=20 BODY=7BIT RET=HDRS ENVID=QQ MT-PRIORITY=3 "
        b"SOLICIT=net.example:ADV BY=120;R\r\n"
    )
    rcpt = b"RCPT TO:<u@s.example> NOTIFY=SUCCESS ORCPT=rfc822;u@s.example RRVS=2020-01-01T00:00:00Z\r\n"
    codes, sent = relay_one(*offers, mail=mail, rcpt=rcpt, config=EVERYTHING)

    assert codes[-1] == "250 2.0.0"
    assert sent[:2] == [mail, rcpt]


def test_what_may_be_left_out_is_left_out_for_a_server_that_does_not_know_it() -> None:
    mail = (
        b"MAIL FROM:<a@c.example> SMTPUTF8 SIZE=20 BODY=8BITMIME RET=HDRS ENVID=QQ MT-PRIORITY=3 "
        b"SOLICIT=net.example:ADV\r\n"
    )
    rcpt = b"RCPT TO:<u@s.example> NOTIFY=FAILURE ORCPT=rfc822;u@s.example RRVS=2020-01-01T00:00:00Z;C\r\n"
    codes, sent = relay_one(mail=mail, rcpt=rcpt, config=EVERYTHING)

    assert codes[-1] == "250 2.0.0"
    assert sent[:2] == [MAIL, RCPT]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (b"BODY=BINARYMIME", "554 5.6.3"),
        (b"BY=120;R", "554 5.3.3"),
        (b"BY=120;N", "554 5.3.3"),
    ],
)
def test_what_may_not_be_left_out_of_MAIL_is_refused(params: bytes, code: str) -> None:
    mail = b"MAIL FROM:<a@c.example> " + params + b"\r\n"
    relay = Relay(EHLO + mail + RCPT + RCPT + QUIT, hops=[hop()], config=EVERYTHING)
    assert relay.codes[1:3] == [code, code]


@pytest.mark.parametrize(
    ("params", "code"), [(b"NOTIFY=SUCCESS,FAILURE", "554 5.3.3"), (b"RRVS=2020-01-01T00:00:00Z", "550 5.7.19")]
)
def test_what_may_not_be_left_out_of_RCPT_is_refused(params: bytes, code: str) -> None:
    rcpt = b"RCPT TO:<u@s.example> " + params + b"\r\n"
    assert Relay(EHLO + MAIL + rcpt, hops=[hop(OK)], config=EVERYTHING).codes[1] == code


def test_what_the_next_server_has_no_use_for_is_refused() -> None:
    config = replace(EVERYTHING, max_hold_for=100, max_hold_until=datetime(2100, 1, 1, tzinfo=UTC))
    mail = b"MAIL FROM:<a@c.example> HOLDFOR=60\r\n"
    assert Relay(EHLO + mail + RCPT, hops=[hop()], config=config).codes[1] == "555 5.5.4"


def test_what_the_next_server_would_not_take_is_not_sent_to_it() -> None:
    mail = b"MAIL FROM:<a@c.example> BY=5;R\r\n"
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    stream = hop(OK, OK, GO_ON, TAKEN, offers=("DELIVERBY 100",))
    relay = Relay(EHLO + mail + RCPT + b"RSET\r\n" + message + mail + RCPT, hops=[stream], config=EVERYTHING)

    assert [code for code in relay.codes if code.startswith("5")] == ["554 5.5.0", "554 5.5.0"]
    assert sum("taken" in reply for reply in relay.dialogue.replies) == 1
    assert b" BY=" not in stream.output


def test_who_names_no_recipient_needs_no_next_server() -> None:
    relay = Relay(EHLO + MAIL + QUIT, hops=[])
    assert relay.dialogue.stream.opened == []


def test_a_message_that_is_larger_than_the_next_server_takes_is_refused_at_once() -> None:
    mail = b"MAIL FROM:<a@c.example> SIZE=2000\r\n"
    assert Relay(EHLO + mail + RCPT, hops=[hop(offers=("SIZE 1000",))]).codes[1] == "552 5.3.4"


def test_octets_beyond_ASCII_do_not_reach_a_server_that_takes_none() -> None:
    for body in (b"A: \xff\r\n\r\n", BODY + b"\xc3\xa9\r\n"):
        stream = hop(OK, OK, GO_ON, TAKEN, offers=())
        relay = Relay(EHLO + MAIL + RCPT + DATA, body, b"more\r\n.\r\n" + QUIT, hops=[stream])

        assert relay.codes[3] == "554 5.6.3"
        assert stream.output.isascii()
        assert not stream.output.endswith(b"\r\n.\r\n")


def test_ASCII_reaches_it_though_the_client_promised_less() -> None:
    codes, sent = relay_one(mail=b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n")
    assert codes[-1] == "250 2.0.0"
    assert sent[0] == MAIL


def test_a_client_that_breaks_its_promise_is_refused() -> None:
    stream = hop(OK, OK, GO_ON, TAKEN)
    mail = b"MAIL FROM:<a@c.example> BODY=7BIT\r\n"
    relay = Relay(EHLO + mail + RCPT + DATA, BODY + b"\xff\r\n.\r\n" + QUIT, hops=[stream])

    assert relay.codes[3].startswith("554")
    assert not stream.output.endswith(b"\r\n.\r\n")


def test_non_ASCII_addresses_do_not_reach_a_server_that_takes_none() -> None:
    international = "MAIL FROM:<grüße@c.example> SMTPUTF8\r\n".encode()
    assert Relay(EHLO + international + RCPT, hops=[hop()]).codes[1] == "550 5.6.7"

    mail, rcpt = b"MAIL FROM:<a@c.example> SMTPUTF8\r\n", "RCPT TO:<grüße@s.example>\r\n".encode()
    assert Relay(EHLO + mail + rcpt, hops=[hop(OK)]).codes[1] == "553 5.6.7"


def test_nor_does_a_header_in_UTF8() -> None:
    mail = b"MAIL FROM:<a@c.example> SMTPUTF8\r\n"
    stream = hop(OK, OK)
    relay = Relay(EHLO + mail + RCPT + DATA, "Subject: grüße\r\n\r\n.\r\n".encode(), hops=[stream])
    assert relay.codes[3] == "554 5.6.9"
    assert b"DATA" not in stream.output

    stream = hop(OK, OK, GO_ON, TAKEN)
    relay = Relay(EHLO + mail + RCPT + DATA, "Subject: hi\r\n\r\ngrüße\r\n.\r\n".encode(), hops=[stream])
    assert relay.codes[3] == "250 2.0.0"


def test_a_binary_body_goes_to_who_takes_it() -> None:
    stream = hop(OK, OK, TAKEN, offers=("8BITMIME", "BINARYMIME", "CHUNKING"))
    mail = b"MAIL FROM:<a@c.example> BODY=BINARYMIME\r\n"
    relay = Relay(EHLO + mail + RCPT + b"BDAT 6 LAST\r\nA\n\r\xff\0b", hops=[stream], trace=False)

    assert relay.codes[-1] == "250 2.0.0"
    assert stream.sent[-2:] == [b"BDAT 6 LAST\r\nA\n\r\xff\0b", QUIT]


def test_chunks_go_to_who_takes_them() -> None:
    codes, sent = relay_one("8BITMIME", "CHUNKING")
    assert codes[-1] == "250 2.0.0"
    assert sent[2] == b"BDAT 22 LAST\r\n" + BODY.replace(b"..", b".")


def test_a_claimed_submitter_is_passed_on_for_who_is_authenticated_only() -> None:
    config = replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True)
    app = App()
    app.on("auth")(lambda session, question: True)
    mail = b"MAIL FROM:<a@c.example> AUTH=x@y.example\r\n"
    codes, sent = relay_one("AUTH PLAIN", mail=mail, config=config, app=app)
    assert codes[-1] == "250 2.0.0"
    assert sent[0] == b"MAIL FROM:<a@c.example> AUTH=<>\r\n"

    app = App()
    app.on("auth")(lambda session, question: True)
    login = b"AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n"
    codes, sent = relay_one("AUTH PLAIN", mail=login + mail, config=config, app=app)
    assert sent[0] == mail


@pytest.mark.parametrize(
    ("offers", "options", "code"),
    [
        (("REQUIRETLS",), {"tls": TlsMode.IMPLICIT}, "250 2.1.0"),
        (("REQUIRETLS",), {"tls": TlsMode.NONE}, "550 5.7.30"),
        (("REQUIRETLS",), {"tls": TlsMode.IMPLICIT, "context": ssl._create_unverified_context()}, "550 5.7.30"),
        ((), {"tls": TlsMode.IMPLICIT}, "550 5.7.30"),
    ],
)
def test_REQUIRETLS_needs_verified_TLS_to_a_server_that_promises_the_same(
    offers: tuple[str, ...], options: dict[str, Any], code: str
) -> None:
    script = EHLO + b"STARTTLS\r\n", EHLO + b"MAIL FROM:<a@c.example> REQUIRETLS\r\n" + RCPT
    relay = Relay(*script, hops=[hop(OK, OK, offers=offers)], config=UNDER_TLS, server_tls=SERVER_TLS, **options)
    assert relay.codes[-1] == code


SERVER_TLS = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
UNDER_TLS = replace(EVERYTHING, tls=True)


def test_a_notification_may_go_where_REQUIRETLS_is_not_known() -> None:
    script = EHLO + b"STARTTLS\r\n", EHLO + b"MAIL FROM:<> REQUIRETLS\r\n" + RCPT
    relay = Relay(*script, hops=[hop(OK, OK)], config=UNDER_TLS, server_tls=SERVER_TLS)
    assert relay.codes[-1] == "250 2.1.0"


# LMTP


def test_an_LMTP_server_behind_SMTP_gets_one_recipient_at_a_time() -> None:
    stream = hop(OK, OK, GO_ON, TAKEN)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, hops=[stream], lmtp=True)

    assert relay.codes == ["250 2.1.0", "250 2.1.0", "452 4.5.3", "354", "250 2.0.0"]
    assert stream.sent[0] == b"LHLO relay.example\r\n"


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
def test_with_a_bounce_it_gets_all_of_them(replies: bytes, code: str, bounced: dict[str, int], is_async: bool) -> None:
    told: dict[str, int] = {}

    def bounce(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        told.update({str(path): reply.code for path, reply in refused.items()})

    async def bounce_later(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        bounce(session, message, refused)

    stream = hop(OK, OK, OK, GO_ON, replies)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, hops=[stream], lmtp=True, bounce=bounce_later if is_async else bounce)

    assert relay.codes[-1] == code
    assert told == bounced


def test_a_bounce_that_fails_leaves_the_message_with_our_client() -> None:
    def bounce(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        raise OSError("no disk")

    stream = hop(OK, OK, OK, GO_ON, b"250 2.0.0 a\r\n552 5.2.2 full\r\n")
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    assert Relay(*script, hops=[stream], lmtp=True, bounce=bounce).codes[-1] == "451 4.3.0"


def test_LMTP_behind_LMTP_passes_each_reply_on() -> None:
    stream = hop(OK, OK, OK, GO_ON, b"250 2.0.0 a\r\n552 5.2.2 full\r\n")
    script = LHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, hops=[stream], config=LMTP, lmtp=True)
    assert relay.codes[-2:] == ["250 2.0.0", "552 5.2.2"]


def test_SMTP_behind_LMTP_has_one_reply_for_all() -> None:
    stream = hop(OK, OK, OK, GO_ON, TAKEN)
    script = LHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, hops=[stream], config=LMTP)
    assert relay.codes[-2:] == ["250 2.0.0", "250 2.0.0"]


# Who the client is


def test_the_next_server_may_be_told_of_the_client() -> None:
    peer = Address("2001:db8::9", 4)
    stream = FakeStream(
        GREETING, ehlo("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"), b"220 x\r\n",
        ehlo("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"), OK, OK, OK,
    )  # fmt: skip
    relay = Relay(EHLO + MAIL + RCPT, hops=[stream], xclient=True, xforward=True, peer=peer)

    assert relay.codes[-1] == "250 2.1.0"
    sent = commands(stream)
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
def test_a_server_that_does_not_want_to_know_gets_no_mail(option: str, offered: bool) -> None:
    keywords = [f"{option.upper()} NAME ADDR"] if offered else []
    stream = FakeStream(GREETING, ehlo(*keywords), b"550 5.7.0 not you\r\n")
    options: dict[str, Any] = {option: True}
    relay = Relay(EHLO + MAIL + RCPT, hops=[stream], **options)

    assert relay.codes[-1] == "451 4.3.2"
    assert stream.closings


def test_a_PROXY_header_tells_of_the_client() -> None:
    for peer, command in [
        (Address("192.0.2.9", 4), ProxyCommand.PROXY),
        (Address("2001:db8::9", 4), ProxyCommand.LOCAL),
        (None, ProxyCommand.LOCAL),
    ]:
        stream = hop(OK, OK)
        Relay(EHLO + MAIL + RCPT, hops=[stream], proxy_protocol=True, peer=peer)
        reader = ProxyReader()
        reader.receive_data(stream.sent[0])
        header = reader.next_header()
        assert isinstance(header, ProxyHeader)
        assert header.command is command


def test_XCLIENT_and_a_login_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude"):
        Forward("hop.example", xclient=True, auth=("tim", "secret"))


def test_timeouts_are_those_of_a_client() -> None:
    stream = hop(OK, OK)
    Relay(EHLO + MAIL + RCPT, hops=[stream], timeouts=ClientTimeouts(rcpt=7))
    assert 7 in [round(limit) for limit in stream.limits]


def test_what_the_next_server_says_cannot_break_a_reply() -> None:
    long = "x" * 3000
    stream = hop(OK, f"550-grüße {long}\r\n".encode() * 100 + b"550 end\r\n")
    relay = Relay(EHLO + MAIL + RCPT + QUIT, hops=[stream])
    lines = relay.dialogue.replies[-2].split("\n")

    assert len(lines) <= 20
    assert all(len(line) <= 510 and line.isascii() for line in lines)
    assert relay.codes[-1] == "221 2.0.0"
