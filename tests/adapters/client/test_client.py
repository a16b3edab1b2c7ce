"""The client over a scripted stream in memory."""

import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from ipaddress import IPv4Address
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    BodyType,
    ByMode,
    ClientConfig,
    DeliverBy,
    Extension,
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Notify,
    Parameter,
    Params,
    Path,
    ProtocolError,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Ret,
    Submitter,
)
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore.sasl import Credentials, make_client
from smtpcore_adapters import (
    Address,
    AuthenticationRefused,
    Client,
    ClientTimeouts,
    Disconnected,
    Refused,
    SendResult,
    Stream,
    TlsMode,
    Unsendable,
)
from smtpcore_adapters.client._connecting import connected, open_client
from smtpcore_adapters.client._driver import ClientDriver
from tests.adapters.fakes import SILENCE, Early, FakeStream, Silence, Step, step

GREETING = b"220 s.example\r\n"
OK = b"250 ok\r\n"
CONTINUE = b"354 go on\r\n"
ACCEPTED = b"250 2.0.0 taken\r\n"
BYE = b"221 bye\r\n"
SENDER, ONE, TWO = "a@c.example", "b@s.example", "c@s.example"


def ehlo(*keywords: str) -> bytes:
    lines = ["s.example", *keywords]
    return "".join(f"250{'-' if line is not lines[-1] else ' '}{line}\r\n" for line in lines).encode()


class ScriptedClient:
    """A client connected to a scripted stream; each write after the hello is in `stream.sent`."""

    def __init__(self, *script: Step, hello: bytes = ehlo(), **options: Any) -> None:
        self.stream = FakeStream(GREETING, hello, *script)
        self.client = self.connect(**options)
        self.stream.sent.clear()

    def connect(self, **options: Any) -> Client:
        options.setdefault("hostname", "c.example")
        options.setdefault("tls", TlsMode.NONE)
        return step(open_client(opener(self.stream), "s.example", 25, **options))

    def send(self, body: Any = b"hi\r\n", to: Any = ONE, **options: Any) -> SendResult:
        return step(self.client.send(SENDER, to, body, **options))

    @property
    def lines(self) -> list[str]:
        return self.stream.output.decode().split("\r\n")


def opener(stream: FakeStream) -> Any:
    async def open_stream(
        host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        stream.opened.append((host, port))
        return stream

    return open_stream


def connect(*script: Step, **options: Any) -> tuple[Client, FakeStream]:
    stream = FakeStream(*script)
    options.setdefault("hostname", "c.example")
    return step(open_client(opener(stream), "s.example", 25, **options)), stream


def refuse(*script: Step, **options: Any) -> tuple[BaseException, FakeStream]:
    stream = FakeStream(*script)
    options.setdefault("hostname", "c.example")
    with pytest.raises((OSError, ProtocolError)) as caught:
        step(open_client(opener(stream), "s.example", 25, **options))
    return caught.value, stream


# Connecting


def test_client_sends_ehlo_and_quit() -> None:
    stream = FakeStream(GREETING, ehlo("SIZE 1000", "8BITMIME"), BYE)

    async def main() -> None:
        async with connected(opener(stream), "s.example", 25, hostname="c.example") as client:
            clients.append(client)
            assert client.greeting == Reply(220, "s.example")
            assert client.extensions == {"SIZE": 1000, "8BITMIME": True}
            assert client.peer is None
            assert client.is_open
            assert repr(client) == "<Client of s.example at None>"

    clients: list[Client] = []
    step(main())
    assert not clients[0].is_open
    assert repr(clients[0]).endswith(", closed>")
    assert stream.output == b"EHLO c.example\r\nQUIT\r\n"
    assert stream.close_timeouts == [0]
    assert stream.receive_timeouts[-1] <= ClientTimeouts().quit


@pytest.mark.parametrize("code", [500, 502, 550])
def test_client_falls_back_to_helo_if_ehlo_is_refused(code: int) -> None:
    client, stream = connect(GREETING, f"{code} what?\r\n".encode(), OK)

    assert stream.output == b"EHLO c.example\r\nHELO c.example\r\n"
    assert client.extensions == {}


def test_lmtp_client_has_no_fallback_if_lhlo_is_refused() -> None:
    error, stream = refuse(GREETING, b"500 what?\r\n", lmtp=True)

    assert isinstance(error, Refused)
    assert stream.output == b"LHLO c.example\r\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([b"554 no mail here\r\n"], 554),
        ([b"421 later\r\n"], 421),
        ([GREETING, b"421 later\r\n"], 421),
        ([GREETING, b"451 later\r\n"], 451),
        ([GREETING, b"550 no\r\n", b"550 no\r\n"], 550),
    ],
)
def test_negative_greeting_or_hello_reply_raises_refused_with_the_reply(script: list[bytes], code: int) -> None:
    error, stream = refuse(*script)

    assert isinstance(error, Refused)
    assert error.reply
    assert error.reply.code == code
    assert stream.close_timeouts == [0]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([], Disconnected),
        ([b"220"], Disconnected),
        ([GREETING], Disconnected),
        ([ConnectionResetError("gone")], ConnectionResetError),
        ([SILENCE], TimeoutError),
        ([GREETING, SILENCE], TimeoutError),
        ([b"HTTP/1.1 400 Bad Request\r\n"], RemoteProtocolError),
        ([GREETING + b"250 too early\r\n"], RemoteProtocolError),
        ([b"220 a\rb\r\n"], RemoteProtocolError),
        ([b"354 go on\r\n"], RemoteProtocolError),
        ([b"220-x\r\n" * 2000], RemoteProtocolError),
        ([b"220 " + b"x" * 100_000], RemoteProtocolError),
    ],
)
def test_failed_connect_raises_a_documented_error_and_closes_the_stream(
    script: list[Step], kind: type[Exception]
) -> None:
    error, stream = refuse(*script)

    assert isinstance(error, kind)
    assert stream.close_timeouts == [0]


def test_client_hostname_defaults_to_its_domain_or_address_literal(monkeypatch: pytest.MonkeyPatch) -> None:
    for node, local, name in [
        ("mail.c.example", None, b"mail.c.example"),
        ("laptop", Address("192.0.2.1", 9), b"[192.0.2.1]"),
        ("laptop", Address("2001:db8::1", 9), b"[IPv6:2001:db8::1]"),
        ("laptop", Address("/run/x"), b"localhost"),
        ("laptop", None, b"localhost"),
        ("not a.name", None, b"localhost"),
    ]:
        monkeypatch.setattr("platform.node", lambda node=node: node)
        stream = FakeStream(GREETING, ehlo())
        stream.local = local
        step(open_client(opener(stream), "s.example", 25))
        assert stream.output == b"EHLO " + name + b"\r\n"


def test_proxy_header_is_sent_first() -> None:
    header = ProxyHeader(
        ProxyCommand.PROXY,
        source=Endpoint(IPv4Address("192.0.2.1"), 1),
        destination=Endpoint(IPv4Address("192.0.2.2"), 25),
    )
    _, stream = connect(GREETING, ehlo(), proxy=header)

    assert stream.sent[0] == header.encode()


# TLS


STARTTLS = ehlo("STARTTLS", "SIZE 1")


def test_offered_starttls_is_used_and_extensions_offered_before_tls_are_discarded() -> None:
    client, stream = connect(GREETING, STARTTLS, b"220 go\r\n", ehlo("8BITMIME"))

    assert stream.output == b"EHLO c.example\r\nSTARTTLS\r\nEHLO c.example\r\n"
    assert stream.server_name == "s.example"
    assert client.extensions == {"8BITMIME": True}
    assert client.tls
    assert client.is_verified


def test_tls_is_opportunistic_by_default() -> None:
    client, _ = connect(GREETING, ehlo())
    assert not client.tls
    client, _ = connect(GREETING, STARTTLS, b"454 not now\r\n")
    assert not client.tls
    assert client.is_open


def test_tls_mode_none_ignores_offered_starttls() -> None:
    client, stream = connect(GREETING, STARTTLS, tls=TlsMode.NONE)

    assert stream.output == b"EHLO c.example\r\n"
    assert not client.is_verified


@pytest.mark.parametrize("script", [[GREETING, ehlo()], [GREETING, STARTTLS, b"454 not now\r\n"]])
def test_connect_fails_if_required_tls_is_not_available(script: list[bytes]) -> None:
    error, _ = refuse(*script, tls=TlsMode.REQUIRED)
    assert isinstance(error, Refused)


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED])
def test_421_to_starttls_raises_refused(mode: TlsMode) -> None:
    error, _ = refuse(GREETING, STARTTLS, b"421 bye\r\n", tls=mode)
    assert isinstance(error, Refused)


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED])
def test_plaintext_after_the_reply_to_starttls_is_an_error(mode: TlsMode) -> None:
    error, _ = refuse(GREETING, STARTTLS, b"220 go\r\n250 injected\r\n", tls=mode)
    assert isinstance(error, RemoteProtocolError)


def test_nothing_is_sent_in_plaintext_after_a_failed_handshake() -> None:
    stream = FakeStream(GREETING, STARTTLS, b"220 go\r\n")
    stream.handshake_error = ssl.SSLCertVerificationError("not valid")
    with pytest.raises(ssl.SSLCertVerificationError):
        step(open_client(opener(stream), "s.example", 25, hostname="c.example"))

    assert stream.output.endswith(b"STARTTLS\r\n")
    assert stream.close_timeouts == [0]


def test_implicit_tls_starts_before_the_greeting() -> None:
    client, stream = connect(GREETING, ehlo("STARTTLS"), tls=TlsMode.IMPLICIT)

    assert stream.output == b"EHLO c.example\r\n"
    assert client.is_verified


def test_client_is_not_verified_with_a_context_that_does_not_verify() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client, _ = connect(GREETING, ehlo(), tls=TlsMode.IMPLICIT, context=context)

    assert client.tls
    assert not client.is_verified


# AUTH


def greeting_with_auth(mechanisms: str) -> tuple[bytes, ...]:
    return GREETING, ehlo(f"AUTH {mechanisms}")


def test_strongest_suitable_mechanism_is_chosen() -> None:
    script = [*greeting_with_auth("LOGIN PLAIN CRAM-MD5"), b"334 PDE+\r\n", b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=("tim", "secret"))
    assert stream.sent[1] == b"AUTH CRAM-MD5\r\n"

    script = [*greeting_with_auth("XOAUTH2 PLAIN"), b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=Credentials(username="tim", token="abc"))
    assert stream.sent[1].startswith(b"AUTH XOAUTH2 ")


def test_given_mechanism_object_is_used() -> None:
    login = make_client("LOGIN", Credentials(username="tim", password="secret"))
    script = [*greeting_with_auth("PLAIN LOGIN"), b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=login)

    assert stream.sent[1:] == [b"AUTH LOGIN\r\n", b"dGlt\r\n", b"c2VjcmV0\r\n"]


def test_long_initial_response_is_sent_after_an_empty_challenge() -> None:
    script = [*greeting_with_auth("PLAIN"), b"334 \r\n", b"235 welcome\r\n"]
    _, stream = connect(*script, tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600))
    assert stream.sent[1] == b"AUTH PLAIN\r\n"
    assert len(stream.sent[2]) > 800

    error, stream = refuse(*greeting_with_auth("PLAIN"), b"504 no\r\n", tls=TlsMode.IMPLICIT, auth=("tim", "x" * 600))
    assert isinstance(error, AuthenticationRefused)


def test_password_is_sent_without_tls_only_with_plaintext_auth() -> None:
    script = [GREETING, ehlo("AUTH PLAIN"), b"235 welcome\r\n"]
    error, stream = refuse(*script, auth=("tim", "secret"))
    assert isinstance(error, AuthenticationRefused)
    assert b"AUTH" not in stream.output

    _, stream = connect(*script, auth=("tim", "secret"), plaintext_auth=True)
    assert b"AUTH PLAIN" in stream.output


def test_password_is_not_sent_to_an_unverified_server() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    error, stream = refuse(*greeting_with_auth("PLAIN"), tls=TlsMode.IMPLICIT, context=context, auth=("tim", "secret"))

    assert isinstance(error, AuthenticationRefused)
    assert "only over verified TLS" in str(error)
    assert b"AUTH" not in stream.output


@pytest.mark.parametrize("offered", [[], ["AUTH X-UNKNOWN"]])
def test_connect_fails_without_a_common_mechanism(offered: list[str]) -> None:
    error, _ = refuse(GREETING, ehlo(*offered), tls=TlsMode.IMPLICIT, auth=("tim", "secret"))

    assert isinstance(error, AuthenticationRefused)
    assert error.reply is None
    assert "secret" not in str(error)


def test_refused_login_raises_authentication_refused_with_the_reply() -> None:
    error, _ = refuse(*greeting_with_auth("PLAIN"), b"535 5.7.8 no\r\n", tls=TlsMode.IMPLICIT, auth=("tim", "secret"))

    assert isinstance(error, AuthenticationRefused)
    assert error.reply == Reply(535, "no", enhanced="5.7.8")


def test_malformed_challenge_is_cancelled() -> None:
    script = [*greeting_with_auth("CRAM-MD5"), b"334 ***\r\n", b"501 cancelled\r\n"]
    error, stream = refuse(*script, tls=TlsMode.IMPLICIT, auth=("tim", "secret"))

    assert isinstance(error, RemoteProtocolError)
    assert stream.sent[-1] == b"*\r\n"


def test_scram_success_without_server_signature_is_an_error() -> None:
    error, _ = refuse(
        *greeting_with_auth("SCRAM-SHA-256"), b"235 trust me\r\n", tls=TlsMode.IMPLICIT, auth=("tim", "secret")
    )

    assert isinstance(error, RemoteProtocolError)


# Sending


def test_each_command_waits_for_its_reply_without_pipelining() -> None:
    script = ScriptedClient(OK, OK, OK, CONTINUE, ACCEPTED)
    result = script.send(to=[ONE, TWO])

    assert script.stream.sent == [
        b"MAIL FROM:<a@c.example>\r\n",
        b"RCPT TO:<b@s.example>\r\n",
        b"RCPT TO:<c@s.example>\r\n",
        b"DATA\r\n",
        b"hi\r\n",
        b".\r\n",
    ]
    assert result == SendResult({Path(ONE): ACCEPTED_REPLY, Path(TWO): ACCEPTED_REPLY}, ACCEPTED_REPLY)
    assert result.accepted == (Path(ONE), Path(TWO))
    assert result.refused == {}
    assert result[ONE] == result[Path(ONE)] == result[Mailbox(ONE)] == ACCEPTED_REPLY
    assert list(result) == [Path(ONE), Path(TWO)]
    assert len(result) == 2


ACCEPTED_REPLY = Reply(250, "taken", enhanced="2.0.0")


def test_envelope_is_one_write_with_pipelining() -> None:
    script = ScriptedClient(OK + OK + b"550 no\r\n" + CONTINUE, ACCEPTED, hello=ehlo("PIPELINING"))
    result = script.send(to=[ONE, TWO])

    assert script.stream.sent == [
        b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nRCPT TO:<c@s.example>\r\nDATA\r\n",
        b"hi\r\n",
        b".\r\n",
    ]
    assert result.accepted == (Path(ONE),)
    assert result.refused == {Path(TWO): Reply(550, "no")}
    assert result.final == ACCEPTED_REPLY


def test_many_recipients_are_pipelined_in_groups_of_bounded_size() -> None:
    recipients = [f"user{number}@s.example" for number in range(1000)]
    sizes: list[int] = []

    def answer() -> None:
        commands = script.stream.sent[-1].count(b"\r\n")
        sizes.append(len(script.stream.sent[-1]))
        ends = script.stream.sent[-1].endswith(b"DATA\r\n")
        replies = OK * (commands - ends) + (CONTINUE if ends else b"")
        script.stream.script.extendleft([answer, replies] if not ends else [ACCEPTED, replies])

    script = ScriptedClient(hello=ehlo("PIPELINING"))
    script.stream.script.append(answer)
    result = script.send(to=recipients)

    assert len(result.accepted) == 1000
    assert len(sizes) > 1
    assert max(sizes) <= 16_384


@pytest.mark.parametrize("pipelining", [False, True])
def test_refused_sender_is_the_result_of_all_recipients(pipelining: bool) -> None:
    no = b"550 5.7.1 not you\r\n"
    rest = [no + b"503 what\r\n" * 2 + b"503 what\r\n"] if pipelining else [no]
    script = ScriptedClient(*rest, OK, OK, CONTINUE, ACCEPTED, hello=ehlo(*["PIPELINING"] * pipelining))
    result = script.send(to=[ONE, TWO])

    assert not result.accepted
    assert result.final == Reply(550, "not you", enhanced="5.7.1")
    if not pipelining:
        assert result.refused == {Path(ONE): result.final, Path(TWO): result.final}
        assert script.send().accepted, "the connection stays usable"


def test_connection_stays_usable_after_a_pipelined_sender_is_refused() -> None:
    script = ScriptedClient(
        b"550 no\r\n503 what\r\n503 what\r\n", OK + OK + CONTINUE, ACCEPTED, hello=ehlo("PIPELINING")
    )
    assert script.send()[ONE].code == 503 or script.client.is_open
    assert script.send().accepted


def test_no_body_is_sent_if_all_recipients_are_refused() -> None:
    script = ScriptedClient(OK, b"550 no\r\n", b"450 later\r\n", OK, OK, OK, CONTINUE, ACCEPTED)
    result = script.send(to=[ONE, TWO])

    assert script.lines[-2:] == ["RSET", ""]
    assert {path: reply.code for path, reply in result.refused.items()} == {Path(ONE): 550, Path(TWO): 450}
    assert result.final.code == 450
    assert script.send().accepted


def test_354_without_accepted_recipients_is_answered_with_an_empty_body() -> None:
    script = ScriptedClient(OK + b"550 no\r\n" + CONTINUE, b"554 no valid recipients\r\n", hello=ehlo("PIPELINING"))
    result = script.send()

    assert script.stream.sent[1:] == [b".\r\n"]
    assert result[ONE].code == 550
    assert result.final.code == 554


def test_refused_data_command_is_the_result_and_resets_the_transaction() -> None:
    script = ScriptedClient(OK, OK, b"451 later\r\n", OK)
    result = script.send()

    assert result[ONE] == Reply(451, "later")
    assert script.lines[-2:] == ["RSET", ""]


@pytest.mark.parametrize(
    "script",
    [
        [b"421 bye\r\n"],
        [OK, b"421 bye\r\n"],
        [OK, OK, b"421 bye\r\n"],
        [OK, OK, CONTINUE, b"421 bye\r\n"],
        [OK, OK, CONTINUE, Early(b"421 bye\r\n")],
    ],
)
def test_421_is_the_result_of_pending_recipients_and_closes_the_connection(script: list[bytes]) -> None:
    ran = ScriptedClient(*script)
    result = ran.send(to=[ONE, TWO] if len(script) == 2 else ONE)

    assert set(result.values()) == {Reply(421, "bye")}
    assert not ran.client.is_open
    with pytest.raises(Disconnected, match="421 bye") as caught:
        ran.send()
    assert caught.value.reply == Reply(421, "bye")


def test_421_during_the_body_stops_sending() -> None:
    taken = 0

    def body() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * 262_142 + b"\r\n"

    script = ScriptedClient(OK, OK, CONTINUE, Early(b"421 4.3.2 going down\r\n"))
    result = script.send(body())

    assert result[ONE] == Reply(421, "going down", enhanced="4.3.2")
    assert taken < 5
    assert not script.stream.output.endswith(b".\r\n")


def test_421_is_read_after_a_failed_write() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, b"421 bye\r\n")
    script.stream.send_errors.extend([None, None, None, BrokenPipeError("gone")])
    assert script.send()[ONE] == Reply(421, "bye")

    script = ScriptedClient(OK, OK, CONTINUE, ConnectionResetError("gone"))
    script.stream.send_errors.extend([None, None, None, BrokenPipeError("gone")])
    with pytest.raises(BrokenPipeError):
        script.send()

    script = ScriptedClient(OK, OK, CONTINUE)
    script.stream.send_errors.extend([None, None, None, TimeoutError("full")])
    with pytest.raises(TimeoutError):
        script.send()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([b""], Disconnected),
        ([OK, b""], Disconnected),
        ([OK, OK, b""], Disconnected),
        ([OK, OK, CONTINUE, b""], Disconnected),
        ([OK, OK, CONTINUE, Early(b"")], Disconnected),
        ([OK, OK, CONTINUE, SILENCE], TimeoutError),
        ([CONTINUE], RemoteProtocolError),
        ([OK, OK, OK], RemoteProtocolError),
        ([OK, OK, CONTINUE, Early(b"250 already\r\n")], RemoteProtocolError),
        ([OK, OK, CONTINUE, CONTINUE], RemoteProtocolError),
        ([OK + OK], RemoteProtocolError),
        ([b"2500 ok\r\n"], RemoteProtocolError),
    ],
)
def test_connection_loss_timeout_or_protocol_violation_raises_and_closes(
    script: list[Step], kind: type[Exception]
) -> None:
    ran = ScriptedClient(*script)
    with pytest.raises(kind):
        ran.send()

    assert not ran.client.is_open
    with pytest.raises(Disconnected):
        step(ran.client.noop())
    step(ran.client.aclose())
    assert b"QUIT" not in ran.stream.output
    assert ran.stream.close_timeouts == [0]


# LMTP


def test_lmtp_result_has_a_reply_for_each_recipient() -> None:
    script = ScriptedClient(OK, OK, b"550 no\r\n", OK, CONTINUE, b"250 one\r\n452 full\r\n", hello=ehlo(), lmtp=True)
    result = script.send(to=[ONE, "x@s.example", TWO])

    assert {str(path): reply.code for path, reply in result.items()} == {ONE: 250, "x@s.example": 550, TWO: 452}


def test_421_after_the_first_lmtp_reply_is_the_result_of_remaining_recipients() -> None:
    script = ScriptedClient(OK, OK, OK, CONTINUE, b"250 one\r\n421 bye\r\n", lmtp=True)
    result = script.send(to=[ONE, TWO])

    assert [reply.code for reply in result.values()] == [250, 421]


# CHUNKING


def test_bdat_is_used_and_pipelined_if_offered() -> None:
    body = b"x" * 299_998 + b"\r\n"
    script = ScriptedClient(OK + OK, OK, ACCEPTED, hello=ehlo("PIPELINING", "CHUNKING"))
    result = script.send(body)

    first, second = 262_144, 300_000 - 262_144
    assert script.stream.sent[1][:20].startswith(b"BDAT 262144\r\n")
    assert len(script.stream.sent[1]) == first + len("BDAT 262144\r\n")
    assert script.stream.sent[2].startswith(f"BDAT {second} LAST\r\n".encode())
    assert result.accepted


def test_each_chunk_waits_for_its_reply_without_pipelining() -> None:
    script = ScriptedClient(OK, OK, OK, OK, ACCEPTED, hello=ehlo("CHUNKING"))
    assert script.send(b"x" * 262_142 + b"\r\n" + b"y" * 262_142 + b"\r\nz\r\n").accepted
    assert len(script.stream.sent) == 5


def test_refused_chunk_is_the_result_and_resets_the_transaction() -> None:
    pieces = [b"x" * 262_142 + b"\r\n"] * 4
    script = ScriptedClient(
        OK + OK, b"552 5.3.4 full\r\n503 what\r\n", OK, OK + OK, ACCEPTED, hello=ehlo("PIPELINING", "CHUNKING")
    )
    result = script.send(pieces)

    assert result[ONE] == Reply(552, "full", enhanced="5.3.4")
    assert script.lines[-2:] == ["RSET", ""]
    assert script.send().accepted


def test_refusal_of_the_first_chunk_overrides_the_reply_to_the_last_chunk() -> None:
    pieces = [b"x" * 262_142 + b"\r\n", b"end\r\n"]
    script = ScriptedClient(OK + OK, b"552 5.3.4 full\r\n503 what\r\n", OK, hello=ehlo("PIPELINING", "CHUNKING"))

    assert script.send(pieces)[ONE] == Reply(552, "full", enhanced="5.3.4")


def test_empty_body_is_one_empty_last_chunk() -> None:
    script = ScriptedClient(OK + OK, ACCEPTED, hello=ehlo("PIPELINING", "CHUNKING"))
    assert script.send(b"").accepted
    assert script.stream.sent[-1] == b"BDAT 0 LAST\r\n"


def test_chunking_option_false_uses_data() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, ACCEPTED, hello=ehlo("CHUNKING"), chunking=False)
    assert script.send().accepted


def test_pipelining_option_false_waits_for_each_reply() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, ACCEPTED, hello=ehlo("PIPELINING"), pipelining=False)
    assert script.send().accepted
    assert len(script.stream.sent) == 5


def test_binary_body_is_sent_unchanged() -> None:
    script = ScriptedClient(OK, OK, ACCEPTED, hello=ehlo("CHUNKING", "BINARYMIME", "8BITMIME"))
    assert script.send(b"\x00\n\r\xff", body_type=BodyType.BINARYMIME).accepted
    assert script.stream.sent[0] == b"MAIL FROM:<a@c.example> BODY=BINARYMIME\r\n"
    assert script.stream.sent[-1] == b"BDAT 4 LAST\r\n\x00\n\r\xff"


# Parameters of MAIL and RCPT


FULL = ehlo("PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS")


def envelope(*args: Any, hello: bytes = FULL, recipients: int = 1, **options: Any) -> list[str]:
    script = ScriptedClient(OK * (recipients + 1) + CONTINUE, ACCEPTED, hello=hello)
    assert script.send(*args, **options).accepted
    return script.stream.sent[0].decode().split("\r\n")[: recipients + 1]


def test_size_is_declared_if_known() -> None:
    assert envelope(b"a\nb\n") == ["MAIL FROM:<a@c.example> SIZE=6", "RCPT TO:<b@s.example>"]
    assert envelope(io.BytesIO(b"hi\r\n"))[0] == "MAIL FROM:<a@c.example> SIZE=4 BODY=8BITMIME"
    assert envelope([b"hi\r\n"], size=77)[0] == "MAIL FROM:<a@c.example> BODY=8BITMIME SIZE=77"


def test_8bit_body_is_declared() -> None:
    assert envelope("grüße\r\n".encode())[0] == "MAIL FROM:<a@c.example> SIZE=9 BODY=8BITMIME"


def test_send_options_become_parameters() -> None:
    mail, rcpt = envelope(
        b"",
        ret=Ret.HDRS,
        envid="QQ 1",
        by=DeliverBy(120, ByMode.RETURN),
        mt_priority=3,
        smtputf8=True,
        notify=[Notify.SUCCESS, Notify.FAILURE],
        hello=FULL,
    )
    assert mail == ("MAIL FROM:<a@c.example> SIZE=0 SMTPUTF8 RET=HDRS ENVID=QQ+201 BY=120;R MT-PRIORITY=3")
    assert rcpt == "RCPT TO:<b@s.example> NOTIFY=FAILURE,SUCCESS"


def test_future_release_solicit_and_submitter_options_become_parameters() -> None:
    hello = ehlo("PIPELINING", "FUTURERELEASE 1000 2030-01-01T00:00:00Z", "NO-SOLICITING", "AUTH PLAIN", "XFOO")
    options: dict[str, Any] = {
        "hold_for": 60,
        "solicit": ("net.example:ADV",),
        "submitter": Submitter(Mailbox("x@y.example")),
    }
    mail, _ = envelope(b"", hello=hello, **options)
    assert mail == "MAIL FROM:<a@c.example> AUTH=x@y.example HOLDFOR=60 SOLICIT=net.example:ADV".replace(
        " AUTH=x@y.example HOLDFOR=60 SOLICIT=net.example:ADV", " HOLDFOR=60 SOLICIT=net.example:ADV AUTH=x@y.example"
    )
    mail, _ = envelope(b"", hello=hello, hold_until=datetime(2029, 1, 1, tzinfo=UTC))
    assert mail == "MAIL FROM:<a@c.example> HOLDUNTIL=2029-01-01T00:00:00Z"


def test_parameter_of_a_custom_extension_is_sent() -> None:
    parameter = Parameter("XTENANT", str, str, octets=20)
    extensions = (*EXTENSIONS, Extension(keyword="XTENANTS", mail=(parameter,)))
    script = ScriptedClient(OK, OK, CONTINUE, ACCEPTED, hello=ehlo("XTENANTS"), extensions=extensions)
    assert script.send(b"", params={"XTENANT": "acme"}).accepted
    assert script.stream.sent[0] == b"MAIL FROM:<a@c.example> XTENANT=acme\r\n"


def test_false_options_add_no_parameter() -> None:
    assert envelope(b"", smtputf8=False, requiretls=False, hello=ehlo("PIPELINING"))[0] == "MAIL FROM:<a@c.example>"


def test_parameters_of_a_single_recipient_override_the_options() -> None:
    own = Rcpt(Path(TWO), Params({"NOTIFY": frozenset({Notify.NEVER})}))
    _, *rcpts = envelope(b"", to=[Path(ONE), own, Mailbox("d@s.example")], recipients=3, notify=[Notify.DELAY])
    assert rcpts == [
        "RCPT TO:<b@s.example> NOTIFY=DELAY",
        "RCPT TO:<c@s.example> NOTIFY=NEVER",
        "RCPT TO:<d@s.example> NOTIFY=DELAY",
    ]


def test_duplicate_recipients_are_sent_once() -> None:
    assert envelope(b"", to=[ONE, "b@S.example"], recipients=1)[1:] == ["RCPT TO:<b@s.example>"]


def test_empty_sender_is_the_null_reverse_path() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, ACCEPTED)
    step(script.client.send("", ONE, b""))
    assert script.stream.sent[0] == b"MAIL FROM:<>\r\n"


def test_non_ascii_address_adds_smtputf8() -> None:
    script = ScriptedClient(OK + OK + CONTINUE, ACCEPTED, hello=FULL)
    assert script.send(to="grüße@s.example").accepted
    assert script.stream.sent[0].startswith(b"MAIL FROM:<a@c.example> SIZE=4 SMTPUTF8\r\nRCPT TO:<gr\xc3\xbc")


@pytest.mark.parametrize(
    ("body", "options", "enhanced"),
    [
        (b"x" * 2000, {}, "5.3.4"),
        (b"", {"to": "grüße@s.example"}, "5.6.7"),
        (b"", {"smtputf8": True}, "5.6.7"),
        (b"\xff", {}, "5.6.3"),
        (b"", {"requiretls": True}, "5.7.30"),
    ],
)
def test_message_that_needs_a_missing_extension_raises_unsendable(
    body: bytes, options: dict[str, Any], enhanced: str
) -> None:
    script = ScriptedClient(hello=ehlo("SIZE 1000"))
    with pytest.raises(Unsendable) as caught:
        script.send(body, **options)

    assert caught.value.reply.enhanced == enhanced
    assert script.stream.output == b""
    assert script.client.is_open


def test_requiretls_is_sent_over_verified_tls() -> None:
    stream = FakeStream(GREETING, ehlo("REQUIRETLS"), OK, OK, CONTINUE, ACCEPTED)
    client = step(open_client(opener(stream), "s.example", 465, hostname="c.example", tls=TlsMode.IMPLICIT))
    assert step(client.send(SENDER, ONE, b"", requiretls=True)).accepted
    assert b"MAIL FROM:<a@c.example> REQUIRETLS\r\n" in stream.sent


@pytest.mark.parametrize(
    "options",
    [
        {"to": []},
        {"to": "no address"},
        {"to": "a@b.example\r\nRCPT TO:<x@y.example>"},
        {"envid": "a\r\nDATA"},
        {"ret": Ret.FULL},
        {"params": {"XFOO": "bar"}},
        {"notify": [Notify.NEVER]},
    ],
)
def test_invalid_argument_raises_and_keeps_the_connection_usable(options: dict[str, Any]) -> None:
    script = ScriptedClient(*([OK, OK] if "notify" in options else []), OK, OK, CONTINUE, ACCEPTED)
    with pytest.raises(LocalProtocolError):
        script.send(**options)

    assert b"DATA" not in script.stream.output
    assert script.send().accepted


# Bodies


def sent_body(body: Any, hello: bytes = ehlo("8BITMIME")) -> bytes:
    script = ScriptedClient(OK, OK, CONTINUE, ACCEPTED, hello=hello)
    assert script.send(body).accepted
    return b"".join(script.stream.sent[3:])


async def chunks(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    "body",
    [
        b"a\n.b\r\nc\rd",
        io.BytesIO(b"a\n.b\r\nc\rd"),
        [b"a\n.b\r", b"\nc", b"\rd"],
        [b"", b"a", b"\n", b".", b"b\r", b"", b"\n", b"c\r", b"d"],
    ],
)
def test_each_form_of_body_is_sent_with_crlf_line_ends_and_dot_stuffing(body: Any) -> None:
    assert sent_body(body) == b"a\r\n..b\r\nc\r\nd\r\n.\r\n"


def test_async_generator_body() -> None:
    assert sent_body(chunks(b"a\r", b"\r", b"b\r")) == b"a\r\n\r\nb\r\n.\r\n"


class AsyncPieces:
    """An asynchronous iterator that is not a generator, and has a `read` method."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def __aiter__(self) -> "AsyncPieces":
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)

    async def read(self) -> bytes:
        raise AssertionError("the client reads a body in pieces")


def test_async_iterator_body_with_a_read_method_is_iterated() -> None:
    assert sent_body(AsyncPieces(b"a\r", b"\nb")) == b"a\r\nb\r\n.\r\n"


@pytest.mark.parametrize("body", [b"", [], [b""], io.BytesIO()])
def test_empty_body_is_sent_as_a_single_dot(body: Any) -> None:
    assert sent_body(body) == b".\r\n"


class Pipe:
    """A file that cannot seek."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, size: int = -1, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_body_from_a_file_that_cannot_seek() -> None:
    assert sent_body(Pipe(b"a\n", b"b\n")) == b"a\r\nb\r\n.\r\n"


def test_file_body_is_sent_from_its_current_position() -> None:
    file = io.BytesIO(b"header\r\nrest\r\n")
    file.seek(8)
    assert sent_body(file) == b"rest\r\n.\r\n"


@pytest.mark.parametrize("body", ["text", io.StringIO("text"), 1, None])
def test_body_of_a_wrong_type_is_a_type_error(body: Any) -> None:
    script = ScriptedClient()
    with pytest.raises(TypeError):
        script.send(body)
    assert script.stream.output == b""


def message(subject: str = "hello") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "a@c.example"
    mail["To"] = "Bé <b@s.example>"
    mail["Bcc"] = "secret@s.example"
    mail["Subject"] = subject
    mail.set_content("Grüße\n.\n")
    return mail


def test_email_message_is_sent_without_bcc() -> None:
    mail = message()
    body = sent_body(mail)

    assert b"Bcc" not in body
    assert b"secret" not in body
    assert mail["Bcc"] == "secret@s.example"
    assert body.endswith(b"\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n..\r\n.\r\n")
    assert b"\n" not in body.replace(b"\r\n", b"")


def test_email_message_is_encoded_as_7bit_for_a_server_without_8bitmime() -> None:
    body = sent_body(message("grüße"), hello=ehlo())

    assert body.isascii()
    assert b"Content-Transfer-Encoding: 8bit" not in body


def test_email_message_with_non_ascii_addresses_needs_smtputf8() -> None:
    mail = message()
    mail.replace_header("From", "grüße@c.example")
    script = ScriptedClient(OK + OK + CONTINUE, ACCEPTED, hello=FULL)
    assert script.send(mail).accepted
    assert b" SMTPUTF8\r\n" in script.stream.sent[0]
    assert "From: grüße@c.example".encode() in script.stream.output

    with pytest.raises(Unsendable):
        ScriptedClient(hello=ehlo("8BITMIME")).send(mail)


def test_exception_in_a_body_iterator_leaves_the_message_unfinished() -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * 600_000
        raise KeyError("lost")

    for hello in (ehlo("8BITMIME"), ehlo("8BITMIME", "CHUNKING")):
        script = ScriptedClient(OK, OK, CONTINUE if hello == ehlo("8BITMIME") else OK, OK, ACCEPTED, hello=hello)
        with pytest.raises(KeyError):
            script.send(body())
        assert not script.client.is_open
        assert not script.stream.output.endswith(b"\r\n.\r\n")
        assert b"LAST" not in script.stream.output


def test_undeclared_8bit_octets_leave_the_message_unfinished() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, hello=ehlo())
    with pytest.raises(LocalProtocolError, match="beyond ASCII"):
        script.send([b"fine\r\n", b"\xff\r\n"])
    assert not script.client.is_open
    assert not script.stream.output.endswith(b".\r\n")


def test_invalid_octet_in_a_chunk_closes_the_connection() -> None:
    script = ScriptedClient(OK, OK, hello=ehlo("CHUNKING"))
    with pytest.raises(LocalProtocolError, match="NUL"):
        script.send([b"\0\r\n"])
    assert b"LAST" not in script.stream.output


# A transaction command by command


def open_transaction(script: ScriptedClient) -> None:
    assert step(script.client.ask(Mail(Path(SENDER)))).is_positive
    assert step(script.client.ask(Rcpt(Path(ONE)))).is_positive


def test_transaction_command_by_command() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, ACCEPTED)
    open_transaction(script)
    (answer,) = step(script.client.send_body(chunks(b"hi\n")))

    assert answer.reply == ACCEPTED_REPLY
    assert script.stream.output.endswith(b"DATA\r\nhi\r\n.\r\n")


def test_send_body_returns_the_refusal_of_data() -> None:
    script = ScriptedClient(OK, OK, b"451 later\r\n", OK, OK)
    open_transaction(script)
    (answer,) = step(script.client.send_body(chunks(b"hi\n")))
    step(script.client.give_up())
    step(script.client.give_up())

    assert answer.reply.code == 451
    assert script.lines[-3:] == ["DATA", "RSET", ""]


def test_quit_may_be_answered_by_closing_the_connection() -> None:
    script = ScriptedClient()
    step(script.client.aclose())
    assert script.lines == ["QUIT", ""]


def test_partial_reply_during_the_body_is_read_to_its_end() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, Early(b"421 "), Early(b"bye\r\n"))
    assert script.send()[ONE] == Reply(421, "bye")

    script = ScriptedClient(OK, OK, CONTINUE, b"421 ")
    script.stream.send_errors.extend([None, None, None, BrokenPipeError("gone")])
    with pytest.raises(BrokenPipeError):
        script.send()


def test_readable_stream_without_a_complete_reply_does_not_stop_the_body() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, Silence.HALF, ACCEPTED)
    assert script.send().accepted
    assert script.stream.receive_timeouts[-2] <= 1


# Limits of the server


def test_recipients_above_rcptmax_are_split_into_transactions() -> None:
    script = ScriptedClient(
        OK + OK + OK + CONTINUE, ACCEPTED, OK + OK + CONTINUE, ACCEPTED, hello=ehlo("PIPELINING", "LIMITS RCPTMAX=2")
    )
    result = script.send(io.BytesIO(b"hi\r\n"), to=[ONE, TWO, "d@s.example"])

    assert len(result.accepted) == 3
    assert script.stream.output.count(b"hi\r\n.\r\n") == 2


def test_body_from_an_iterator_cannot_be_split_into_transactions() -> None:
    script = ScriptedClient(hello=ehlo("LIMITS RCPTMAX=1"))
    with pytest.raises(Unsendable):
        script.send([b"hi\r\n"], to=[ONE, TWO])
    assert script.stream.output == b""


def test_421_between_two_transactions_is_the_result_of_remaining_recipients() -> None:
    script = ScriptedClient(OK, b"421 bye\r\n", hello=ehlo("LIMITS RCPTMAX=1"))
    assert set(script.send(to=[ONE, TWO]).values()) == {Reply(421, "bye")}


# Other commands


def test_methods_for_noop_vrfy_expn_and_help() -> None:
    script = ScriptedClient(
        OK, b"252 maybe\r\n", b"250 <b@s.example>\r\n", b"214 no\r\n", OK, hello=ehlo("EXPN", "HELP")
    )
    client = script.client

    assert step(client.noop()).code == 250
    assert step(client.vrfy("b")).code == 252
    assert step(client.expn("list")).code == 250
    assert step(client.help()).code == 214
    assert step(client.ask(Noop("x"))).code == 250
    assert script.lines == ["NOOP", "VRFY b", "EXPN list", "HELP", "NOOP x", ""]


def test_xclient_restarts_the_session() -> None:
    script = ScriptedClient(
        b"220 again\r\n", ehlo("SIZE"), b"550 no\r\n", hello=ehlo("XCLIENT NAME ADDR", "XFORWARD NAME")
    )
    assert step(script.client.xclient({"ADDR": "192.0.2.1", "NAME": None})).code == 250
    assert script.lines == ["XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]", "EHLO c.example", ""]
    assert script.client.extensions == {"SIZE": None}


def test_refused_xclient_returns_the_reply_without_restart() -> None:
    script = ScriptedClient(b"550 no\r\n", hello=ehlo("XCLIENT NAME ADDR"))
    assert step(script.client.xclient({"ADDR": "192.0.2.1"})).code == 550
    assert script.lines == ["XCLIENT ADDR=192.0.2.1", ""]


def test_xforward_sends_attributes() -> None:
    script = ScriptedClient(OK, hello=ehlo("XFORWARD NAME"))
    assert step(script.client.xforward({"NAME": "x.example"})).code == 250
    assert script.lines == ["XFORWARD NAME=x.example", ""]


# Timeouts


def test_each_reply_has_the_timeout_of_its_command() -> None:
    timeouts = ClientTimeouts(greeting=1, mail=2, rcpt=3, data=4, end=5, command=6)
    stream = FakeStream(GREETING, ehlo(), OK, OK, CONTINUE, ACCEPTED)
    options: dict[str, Any] = {"hostname": "c.example", "tls": TlsMode.NONE, "timeouts": timeouts}
    client = step(open_client(opener(stream), "s.example", 25, **options))
    step(client.send(SENDER, ONE, b"hi\r\n"))

    assert [round(limit) for limit in stream.receive_timeouts] == [1, 6, 2, 3, 4, 5]


def test_byte_by_byte_reply_does_not_extend_the_timeout() -> None:
    stream = FakeStream()
    pieces: list[Step] = [b"2", b"2", b"0", b" ", b"s", b"."]
    for piece in pieces:
        stream.script.extend([stream.advance(100.0), piece])
    driver = ClientDriver(stream, ClientConfig(hostname="c.example"), ClientTimeouts(), clock=stream.clock)
    with pytest.raises(TimeoutError):
        step(driver.read_greeting())

    assert len(stream.receive_timeouts) == 3


def test_timeout_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="timeout block is 0"):
        ClientTimeouts(block=0)


def test_concurrent_use_of_a_client_is_an_error() -> None:
    script = ScriptedClient(OK, OK, CONTINUE)

    async def body() -> AsyncIterator[bytes]:
        yield b"hi\r\n" * 100_000
        with pytest.raises(LocalProtocolError, match="in use"):
            await script.client.noop()
        await script.client.aclose()
        yield b"more"

    with pytest.raises((LocalProtocolError, AssertionError)):
        script.send(body())
    assert b"QUIT" not in script.stream.output
