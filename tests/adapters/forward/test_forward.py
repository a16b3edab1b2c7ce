"""Forwarding of messages while they arrive, over scripted streams in memory."""

import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import EXTENSIONS, Config, Extension, NextHop, Parameter, Path, Rcpt, Reply
from smtpcore.proxy import ProxyCommand, ProxyHeader, ProxyReader
from smtpcore_adapters import Address, App, ClientTimeouts, Message, Session, TlsMode
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.recipients import AnyRecipient
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT, SILENCE, Dialogue, FakeStream, Step

OK = b"250 2.1.0 ok\r\n"
CONTINUE = b"354 go on\r\n"
ACCEPTED = b"250 2.0.0 taken\r\n"
TWO = b"RCPT TO:<v@s.example>\r\n"
BODY = b"Subject: hi\r\n\r\n..text\r\n"
ALL_EXTENSIONS = replace(CONFIG, disabled=frozenset({"BURL"}))
LMTP = replace(CONFIG, lmtp=True)
LHLO = EHLO.replace(b"EHLO", b"LHLO")


def ehlo(*keywords: str) -> bytes:
    lines = ["hop.example", *keywords]
    return "".join(f"250{'-' if line is not lines[-1] else ' '}{line}\r\n" for line in lines).encode()


GREETING = b"220 hop.example\r\n"


def next_server(*script: Step, offers: tuple[str, ...] = ("8BITMIME",)) -> FakeStream:
    return FakeStream(GREETING, ehlo(*offers), *script)


class Relay:
    """A session that forwards its mail to scripted servers."""

    def __init__(
        self,
        *script: Step,
        next_servers: list[Any],
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
        extensions = options.get("extensions", EXTENSIONS)
        self.dialogue = Dialogue(self.app, *script, config=config, tls=server_tls, peer=peer, extensions=extensions)
        self.dialogue.stream.opened_streams.extend(next_servers)
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
    """Return the writes of `stream`, without EHLO, LHLO and QUIT."""
    return [line for line in stream.sent if not line.startswith((b"EHLO", b"LHLO", b"QUIT"))]


def relay_one(*keywords: str, mail: bytes = MAIL, rcpt: bytes = RCPT, **options: Any) -> tuple[list[str], list[bytes]]:
    """Forward one message to a server that offers `keywords` and accepts it."""
    chunks = "CHUNKING" in keywords
    stream = next_server(OK, OK, *([] if chunks else [CONTINUE]), ACCEPTED, offers=keywords)
    relay = Relay(EHLO + mail + rcpt + DATA, BODY + b".\r\n", next_servers=[stream], trace=False, **options)
    return relay.codes, commands(stream)


def test_message_is_forwarded_and_replies_of_the_next_server_are_returned() -> None:
    stream = next_server(OK, OK, b"550 5.1.1 who?\r\n", CONTINUE, ACCEPTED, b"221 bye\r\n")
    relay = Relay(
        EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n" + QUIT, next_servers=[stream], peer=Address("192.0.2.9", 4)
    )

    assert relay.codes == ["250 2.1.0", "250 2.1.0", "550 5.1.1", "354", "250 2.0.0", "221 2.0.0"]
    assert "taken" in relay.dialogue.replies[-2]
    sent = commands(stream)
    assert sent[:4] == [b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n", RCPT, TWO, b"DATA\r\n"]
    trace, _, rest = sent[4].partition(b"Subject")
    assert trace.startswith(b"Received: from c.example ([192.0.2.9])\r\n\tby s.example with ESMTP id ")
    assert b"for <u@s.example>" in trace
    assert b"Subject" + rest + sent[5] == BODY + b".\r\n"
    assert stream.sent[-1] == QUIT
    assert stream.close_timeouts


def test_body_is_forwarded_while_it_arrives() -> None:
    seen: list[int] = []

    def record_size() -> None:
        seen.append(len(stream.output))

    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    pieces: list[Step] = []
    for _ in range(8):
        pieces += [(b"x" * 998 + b"\r\n") * 98, record_size]
    Relay(EHLO + MAIL + RCPT + DATA, b"A: b\r\n\r\n", *pieces, b".\r\n", next_servers=[stream])

    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_session_reuses_its_connection_to_the_next_server() -> None:
    stream = next_server(OK, OK, CONTINUE, ACCEPTED, OK, OK, OK, OK, OK, CONTINUE, ACCEPTED)
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + message + MAIL + RCPT + b"RSET\r\n" + message + QUIT, next_servers=[stream])

    assert relay.dialogue.stream.opened == [("hop.example", 2525)]
    assert sum("taken" in reply for reply in relay.dialogue.replies) == 2
    assert commands(stream).count(b"RSET\r\n") == 1


def test_connection_closed_by_the_next_server_is_replaced() -> None:
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    for end in (b"", b"421 idle\r\n", ConnectionResetError("gone")):
        first = next_server(OK, OK, CONTINUE, ACCEPTED, end)
        second = next_server(OK, OK, CONTINUE, ACCEPTED)
        relay = Relay(EHLO + message + message + QUIT, next_servers=[first, second])

        assert relay.codes.count("250 2.0.0") == 2
        assert first.close_timeouts


def test_refused_sender_is_reported_in_the_reply_to_rcpt() -> None:
    stream = next_server(b"550 5.7.1 not you\r\n", OK, OK, CONTINUE, ACCEPTED)
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + MAIL + RCPT + TWO + b"RSET\r\n" + message + QUIT, next_servers=[stream])

    assert relay.codes[:4] == ["250 2.1.0", "550 5.7.1", "550 5.7.1", "250 2.0.0"]
    assert relay.codes[-2] == "250 2.0.0"


@pytest.mark.parametrize(
    ("next_servers", "code"),
    [
        ([ConnectionRefusedError("no one")], "451 4.4.1"),
        ([TimeoutError("slow")], "451 4.4.1"),
        ([FakeStream(SILENCE)], "451 4.4.1"),
        ([FakeStream(b"554 no\r\n")], "451 4.3.2"),
        ([FakeStream(b"nonsense\r\n")], "451 4.5.0"),
        ([next_server(SILENCE)], "451 4.4.2"),
        ([next_server(b"421 busy\r\n")], "451"),
        ([next_server(OK, b"421 4.3.2 busy\r\n")], "451 4.3.2"),
        ([next_server(OK, b"521 5.3.2 never\r\n")], "554 5.3.2"),
        ([next_server(OK, b"")], "451 4.4.2"),
        ([next_server(OK, b"354 what\r\n")], "451 4.5.0"),
        ([next_server(OK, b"598 odd\r\n")], "550"),
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
        ([CONTINUE, b"552 5.2.2 full\r\n"], "552 5.2.2"),
        ([CONTINUE, b"421 4.3.2 bye\r\n"], "451 4.3.2"),
        ([CONTINUE, b""], "451 4.4.2"),
        ([CONTINUE, SILENCE], "451 4.4.2"),
        ([CONTINUE, b"354 what\r\n"], "451 4.5.0"),
    ],
)
def test_failure_at_the_body_becomes_the_reply_to_the_message(answers: list[Step], code: str) -> None:
    stream = next_server(OK, OK, *answers)
    relay = Relay(EHLO + MAIL + RCPT + DATA, BODY + b".\r\n", QUIT, next_servers=[stream])

    assert relay.codes[3] == code
    assert relay.codes[-1] == "221 2.0.0"


@pytest.mark.parametrize("end", [b"", ConnectionResetError("gone"), SILENCE])
def test_incomplete_body_is_never_ended_at_the_next_server(end: Step) -> None:
    for offers in (("8BITMIME",), ("8BITMIME", "CHUNKING")):
        stream = next_server(OK, OK, CONTINUE, ACCEPTED, offers=offers)
        Relay(EHLO + MAIL + RCPT + DATA, BODY + b"x" * 300_000 + b"\r\n", end, next_servers=[stream])

        assert not stream.output.endswith((b"\r\n.\r\n", QUIT))
        assert b"LAST" not in stream.output
        assert stream.close_timeouts == [0]


def test_body_refused_by_the_relay_is_never_ended_at_the_next_server() -> None:
    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    relay = Relay(EHLO + MAIL + RCPT + DATA, BODY, b"bare\nline\r\n.\r\n" + QUIT, next_servers=[stream])

    assert relay.codes[3] == "550 5.6.0"
    assert not stream.output.endswith(b"\r\n.\r\n")


def test_mail_loop_is_refused_before_the_body_is_sent() -> None:
    trace = b"Received: from a\r\n\tby b\r\n" * 100
    stream = next_server(OK, OK, OK, OK, OK, CONTINUE, ACCEPTED)
    again = MAIL + RCPT + DATA + BODY + b".\r\n"
    relay = Relay(EHLO + MAIL + RCPT + DATA, trace + BODY + b".\r\n" + again + QUIT, next_servers=[stream])

    assert relay.codes[3] == "554 5.4.6"
    assert commands(stream)[2] == b"RSET\r\n"
    assert relay.codes[-2] == "250 2.0.0"


def test_received_lines_in_the_text_do_not_count_as_trace_fields() -> None:
    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    text = b"A: b\r\n\r\n" + b"Received: x\r\n" * 200
    assert Relay(EHLO + MAIL + RCPT + DATA, text + b".\r\n", next_servers=[stream]).codes[3] == "250 2.0.0"
    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    assert Relay(EHLO + MAIL + RCPT + DATA, b"\r\n" + text + b".\r\n", next_servers=[stream]).codes[3] == "250 2.0.0"


def test_large_header_is_forwarded_without_buffering_all_of_it() -> None:
    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    header = b"A: " + b"x" * 60_000 + b"\r\n"
    relay = Relay(EHLO + MAIL + RCPT + DATA, *[header] * 10, b"\r\n.\r\n", next_servers=[stream])
    assert relay.codes[3] == "250 2.0.0"


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

    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[stream], app=app, fields=fields, trace=False)

    assert relay.codes == ["250 2.1.0", "250 2.1.0", "550 5.7.1", "354", "250 2.0.0"]
    assert b"".join(stream.sent[-3:-1]) == b"X-Score: 22\r\n" + BODY + b".\r\n"


def test_recipients_accepted_by_other_handlers_are_checked_before_the_body() -> None:
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n" + QUIT
    for replies, code in [([OK, OK, CONTINUE, ACCEPTED], "250 2.0.0"), ([OK, b"550 5.1.1 who?\r\n"], "550 5.1.1")]:
        app = App()
        app.include(AnyRecipient())
        stream = next_server(OK, *replies)
        relay = Relay(*script, next_servers=[stream], app=app)

        assert relay.codes[4] == code
        assert (b"DATA\r\n" in commands(stream)) == (code == "250 2.0.0")

    app = App()
    app.include(AnyRecipient())
    assert Relay(*script, next_servers=[ConnectionRefusedError("no one")], app=app).codes[4] == "451 4.4.1"


# Extensions


def test_parameters_supported_by_the_next_server_are_forwarded() -> None:
    offers = ("8BITMIME", "SMTPUTF8", "SIZE 1000", "DSN", "MT-PRIORITY", "NO-SOLICITING", "RRVS", "DELIVERBY", "XFOO")
    mail = (
        b"MAIL FROM:<gr\xc3\xbc\xc3\x9fe@c.example> SMTPUTF8 SIZE=20 BODY=7BIT RET=HDRS ENVID=QQ MT-PRIORITY=3 "
        b"SOLICIT=net.example:ADV BY=120;R\r\n"
    )
    rcpt = b"RCPT TO:<u@s.example> NOTIFY=SUCCESS ORCPT=rfc822;u@s.example RRVS=2020-01-01T00:00:00Z\r\n"
    codes, sent = relay_one(*offers, mail=mail, rcpt=rcpt, config=ALL_EXTENSIONS)

    assert codes[-1] == "250 2.0.0"
    assert sent[:2] == [mail, rcpt]


def test_optional_parameters_are_dropped_if_the_next_server_lacks_the_extension() -> None:
    mail = (
        b"MAIL FROM:<a@c.example> SMTPUTF8 SIZE=20 BODY=8BITMIME RET=HDRS ENVID=QQ MT-PRIORITY=3 "
        b"SOLICIT=net.example:ADV\r\n"
    )
    rcpt = b"RCPT TO:<u@s.example> NOTIFY=FAILURE ORCPT=rfc822;u@s.example RRVS=2020-01-01T00:00:00Z;C\r\n"
    codes, sent = relay_one(mail=mail, rcpt=rcpt, config=ALL_EXTENSIONS)

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
def test_required_mail_parameter_unsupported_by_the_next_server_is_refused(params: bytes, code: str) -> None:
    mail = b"MAIL FROM:<a@c.example> " + params + b"\r\n"
    relay = Relay(EHLO + mail + RCPT + RCPT + QUIT, next_servers=[next_server()], config=ALL_EXTENSIONS)
    assert relay.codes[1:3] == [code, code]


@pytest.mark.parametrize(
    ("params", "code"), [(b"NOTIFY=SUCCESS,FAILURE", "554 5.3.3"), (b"RRVS=2020-01-01T00:00:00Z", "550 5.7.19")]
)
def test_required_rcpt_parameter_unsupported_by_the_next_server_is_refused(params: bytes, code: str) -> None:
    rcpt = b"RCPT TO:<u@s.example> " + params + b"\r\n"
    assert Relay(EHLO + MAIL + rcpt, next_servers=[next_server(OK)], config=ALL_EXTENSIONS).codes[1] == code


def test_hold_for_is_refused_if_the_next_server_lacks_futurerelease() -> None:
    config = replace(ALL_EXTENSIONS, max_hold_for=100, max_hold_until=datetime(2100, 1, 1, tzinfo=UTC))
    mail = b"MAIL FROM:<a@c.example> HOLDFOR=60\r\n"
    assert Relay(EHLO + mail + RCPT, next_servers=[next_server()], config=config).codes[1] == "555 5.5.4"


def test_by_time_below_the_minimum_of_the_next_server_is_not_sent() -> None:
    mail = b"MAIL FROM:<a@c.example> BY=5;R\r\n"
    message = MAIL + RCPT + DATA + BODY + b".\r\n"
    stream = next_server(OK, OK, CONTINUE, ACCEPTED, offers=("DELIVERBY 100",))
    relay = Relay(
        EHLO + mail + RCPT + b"RSET\r\n" + message + mail + RCPT, next_servers=[stream], config=ALL_EXTENSIONS
    )

    assert [code for code in relay.codes if code.startswith("5")] == ["554 5.5.0", "554 5.5.0"]
    assert sum("taken" in reply for reply in relay.dialogue.replies) == 1
    assert b" BY=" not in stream.output


TENANT = b"MAIL FROM:<a@c.example> XTENANT=acme\r\n"


def tenants(relay: Any = None) -> tuple[Extension, ...]:
    """Return the built-in extensions and one with a parameter XTENANT."""
    parameter = Parameter("XTENANT", str, str, octets=20, relay=relay)
    return (*EXTENSIONS, Extension(keyword="XTENANTS", mail=(parameter,)))


def test_parameter_of_a_custom_extension_is_forwarded_if_offered_and_refused_otherwise() -> None:
    codes, sent = relay_one("XTENANTS", mail=TENANT, extensions=tenants())
    assert codes[-1] == "250 2.0.0"
    assert sent[0] == TENANT

    relay = Relay(EHLO + TENANT + RCPT, next_servers=[next_server()], extensions=tenants())
    assert relay.codes[1] == "555 5.5.4"


def test_custom_relay_rule_decides_which_value_is_sent() -> None:
    def rule(tenant: str, hop: NextHop) -> str | Reply | None:
        if not hop.path.domain.startswith("c."):
            return Reply(550, "Not this tenant")
        return tenant.upper() if "XTENANTS" in hop.offers else None

    assert relay_one("XTENANTS", mail=TENANT, extensions=tenants(rule))[1][0] == TENANT.replace(b"acme", b"ACME")
    assert relay_one(mail=TENANT, extensions=tenants(rule))[1][0] == MAIL
    script = EHLO + TENANT.replace(b"@c", b"@d") + RCPT
    assert Relay(script, next_servers=[next_server()], extensions=tenants(rule)).codes[1] == "550 5.0.0"


def test_parameter_of_an_unknown_extension_is_refused() -> None:
    config = replace(CONFIG, unknown_parameters=True)
    stream = next_server(offers=("XTENANT",))
    assert Relay(EHLO + TENANT + RCPT, next_servers=[stream], config=config).codes[:2] == ["250 2.1.0", "555 5.5.4"]


def test_no_connection_is_opened_before_the_first_recipient() -> None:
    relay = Relay(EHLO + MAIL + QUIT, next_servers=[])
    assert relay.dialogue.stream.opened == []


def test_size_above_the_limit_of_the_next_server_is_refused_at_rcpt() -> None:
    mail = b"MAIL FROM:<a@c.example> SIZE=2000\r\n"
    assert Relay(EHLO + mail + RCPT, next_servers=[next_server(offers=("SIZE 1000",))]).codes[1] == "552 5.3.4"


def test_8bit_body_is_not_sent_to_a_server_without_8bitmime() -> None:
    for body in (b"A: \xff\r\n\r\n", BODY + b"\xc3\xa9\r\n"):
        stream = next_server(OK, OK, CONTINUE, ACCEPTED, offers=())
        relay = Relay(EHLO + MAIL + RCPT + DATA, body, b"more\r\n.\r\n" + QUIT, next_servers=[stream])

        assert relay.codes[3] == "554 5.6.3"
        assert stream.output.isascii()
        assert not stream.output.endswith(b"\r\n.\r\n")


def test_ascii_body_declared_as_8bitmime_is_sent_to_a_server_without_8bitmime() -> None:
    codes, sent = relay_one(mail=b"MAIL FROM:<a@c.example> BODY=8BITMIME\r\n")
    assert codes[-1] == "250 2.0.0"
    assert sent[0] == MAIL


def test_8bit_body_declared_as_7bit_is_refused() -> None:
    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    mail = b"MAIL FROM:<a@c.example> BODY=7BIT\r\n"
    relay = Relay(EHLO + mail + RCPT + DATA, BODY + b"\xff\r\n.\r\n" + QUIT, next_servers=[stream])

    assert relay.codes[3].startswith("554")
    assert not stream.output.endswith(b"\r\n.\r\n")


def test_non_ascii_address_is_not_sent_to_a_server_without_smtputf8() -> None:
    international = "MAIL FROM:<grüße@c.example> SMTPUTF8\r\n".encode()
    assert Relay(EHLO + international + RCPT, next_servers=[next_server()]).codes[1] == "550 5.6.7"

    mail, rcpt = b"MAIL FROM:<a@c.example> SMTPUTF8\r\n", "RCPT TO:<grüße@s.example>\r\n".encode()
    assert Relay(EHLO + mail + rcpt, next_servers=[next_server(OK)]).codes[1] == "553 5.6.7"


def test_utf8_header_is_not_sent_to_a_server_without_smtputf8() -> None:
    mail = b"MAIL FROM:<a@c.example> SMTPUTF8\r\n"
    stream = next_server(OK, OK)
    relay = Relay(EHLO + mail + RCPT + DATA, "Subject: grüße\r\n\r\n.\r\n".encode(), next_servers=[stream])
    assert relay.codes[3] == "554 5.6.9"
    assert b"DATA" not in stream.output

    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    relay = Relay(EHLO + mail + RCPT + DATA, "Subject: hi\r\n\r\ngrüße\r\n.\r\n".encode(), next_servers=[stream])
    assert relay.codes[3] == "250 2.0.0"


def test_binary_body_is_sent_to_a_server_with_binarymime() -> None:
    stream = next_server(OK, OK, ACCEPTED, offers=("8BITMIME", "BINARYMIME", "CHUNKING"))
    mail = b"MAIL FROM:<a@c.example> BODY=BINARYMIME\r\n"
    relay = Relay(EHLO + mail + RCPT + b"BDAT 6 LAST\r\nA\n\r\xff\0b", next_servers=[stream], trace=False)

    assert relay.codes[-1] == "250 2.0.0"
    assert stream.sent[-2:] == [b"BDAT 6 LAST\r\nA\n\r\xff\0b", QUIT]


def test_bdat_is_used_for_a_server_with_chunking() -> None:
    codes, sent = relay_one("8BITMIME", "CHUNKING")
    assert codes[-1] == "250 2.0.0"
    assert sent[2] == b"BDAT 22 LAST\r\n" + BODY.replace(b"..", b".")


def test_auth_parameter_is_forwarded_for_authenticated_clients_only() -> None:
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
def test_requiretls_needs_verified_tls_and_requiretls_at_the_next_server(
    offers: tuple[str, ...], options: dict[str, Any], code: str
) -> None:
    script = EHLO + b"STARTTLS\r\n", EHLO + b"MAIL FROM:<a@c.example> REQUIRETLS\r\n" + RCPT
    relay = Relay(
        *script, next_servers=[next_server(OK, OK, offers=offers)], config=UNDER_TLS, server_tls=SERVER_TLS, **options
    )
    assert relay.codes[-1] == code


SERVER_TLS = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
UNDER_TLS = replace(ALL_EXTENSIONS, tls=True)


def test_notification_with_requiretls_is_sent_to_a_server_without_requiretls() -> None:
    script = EHLO + b"STARTTLS\r\n", EHLO + b"MAIL FROM:<> REQUIRETLS\r\n" + RCPT
    relay = Relay(*script, next_servers=[next_server(OK, OK)], config=UNDER_TLS, server_tls=SERVER_TLS)
    assert relay.codes[-1] == "250 2.1.0"


# LMTP


def test_smtp_to_lmtp_accepts_one_recipient_per_message() -> None:
    stream = next_server(OK, OK, CONTINUE, ACCEPTED)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[stream], lmtp=True)

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
def test_smtp_to_lmtp_with_bounce_accepts_many_recipients(
    replies: bytes, code: str, bounced: dict[str, int], is_async: bool
) -> None:
    bounced_codes: dict[str, int] = {}

    def bounce(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        bounced_codes.update({str(path): reply.code for path, reply in refused.items()})

    async def bounce_later(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        bounce(session, message, refused)

    stream = next_server(OK, OK, OK, CONTINUE, replies)
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[stream], lmtp=True, bounce=bounce_later if is_async else bounce)

    assert relay.codes[-1] == code
    assert bounced_codes == bounced


def test_failing_bounce_becomes_a_temporary_refusal() -> None:
    def bounce(session: Session, message: Message, refused: Mapping[Path, Reply]) -> None:
        raise OSError("no disk")

    stream = next_server(OK, OK, OK, CONTINUE, b"250 2.0.0 a\r\n552 5.2.2 full\r\n")
    script = EHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    assert Relay(*script, next_servers=[stream], lmtp=True, bounce=bounce).codes[-1] == "451 4.3.0"


def test_lmtp_to_lmtp_returns_the_reply_of_each_recipient() -> None:
    stream = next_server(OK, OK, OK, CONTINUE, b"250 2.0.0 a\r\n552 5.2.2 full\r\n")
    script = LHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[stream], config=LMTP, lmtp=True)
    assert relay.codes[-2:] == ["250 2.0.0", "552 5.2.2"]


def test_lmtp_to_smtp_repeats_the_reply_for_each_recipient() -> None:
    stream = next_server(OK, OK, OK, CONTINUE, ACCEPTED)
    script = LHLO + MAIL + RCPT + TWO + DATA, BODY + b".\r\n"
    relay = Relay(*script, next_servers=[stream], config=LMTP)
    assert relay.codes[-2:] == ["250 2.0.0", "250 2.0.0"]


# Identity of the client


def test_xclient_and_xforward_describe_the_client() -> None:
    peer = Address("2001:db8::9", 4)
    stream = FakeStream(
        GREETING, ehlo("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"), b"220 x\r\n",
        ehlo("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"), OK, OK, OK,
    )  # fmt: skip
    relay = Relay(EHLO + MAIL + RCPT, next_servers=[stream], xclient=True, xforward=True, peer=peer)

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
def test_missing_or_refused_xclient_or_xforward_is_a_temporary_refusal(option: str, offered: bool) -> None:
    keywords = [f"{option.upper()} NAME ADDR"] if offered else []
    stream = FakeStream(GREETING, ehlo(*keywords), b"550 5.7.0 not you\r\n")
    options: dict[str, Any] = {option: True}
    relay = Relay(EHLO + MAIL + RCPT, next_servers=[stream], **options)

    assert relay.codes[-1] == "451 4.3.2"
    assert stream.close_timeouts


def test_proxy_header_describes_the_client() -> None:
    for peer, command in [
        (Address("192.0.2.9", 4), ProxyCommand.PROXY),
        (Address("2001:db8::9", 4), ProxyCommand.LOCAL),
        (None, ProxyCommand.LOCAL),
    ]:
        stream = next_server(OK, OK)
        Relay(EHLO + MAIL + RCPT, next_servers=[stream], proxy_protocol=True, peer=peer)
        reader = ProxyReader()
        reader.receive_data(stream.sent[0])
        header = reader.next_header()
        assert isinstance(header, ProxyHeader)
        assert header.command is command


def test_xclient_with_auth_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="exclude"):
        Forward("hop.example", xclient=True, auth=("tim", "secret"))


def test_client_timeouts_apply() -> None:
    stream = next_server(OK, OK)
    Relay(EHLO + MAIL + RCPT, next_servers=[stream], timeouts=ClientTimeouts(rcpt=7))
    assert 7 in [round(limit) for limit in stream.receive_timeouts]


def test_long_or_non_ascii_reply_of_the_next_server_is_cut_to_a_valid_reply() -> None:
    long = "x" * 3000
    stream = next_server(OK, f"550-grüße {long}\r\n".encode() * 100 + b"550 end\r\n")
    relay = Relay(EHLO + MAIL + RCPT + QUIT, next_servers=[stream])
    lines = relay.dialogue.replies[-2].split("\n")

    assert len(lines) <= 20
    assert all(len(line) <= 510 and line.isascii() for line in lines)
    assert relay.codes[-1] == "221 2.0.0"
