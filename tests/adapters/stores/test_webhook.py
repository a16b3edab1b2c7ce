"""Messages are sent to an HTTP endpoint, and its answer decides about the reply."""

import hmac
import json
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import h11
import pytest
import trustme

from benchmarks.ports import reserved_ports
from smtpcore import Config, Path, Rcpt
from smtpcore_adapters.stores import Envelope, webhook
from smtpcore_adapters.stores.webhook import Webhook
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    ENVELOPE,
    MAIL,
    RCPT,
    SILENCE,
    Early,
    FakeStream,
    Step,
    accepting,
    step,
)
from tests.adapters.harness import running
from tests.adapters.playbook import SessionPlaybook, session
from tests.certificates import context_trusting

from .endpoint import parts_of, running_endpoint, scripted
from .test_envelope import MINIMAL
from .tried import without_fields

URL = "http://127.0.0.1:8080/mail?box=in"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
BODY = b"Subject: x\r\n\r\nhello\r\n"
MOST = 100_000_000
LARGE = (b"x" * 98 + b"\r\n") * 20_000


def answer(status: int, body: bytes = b"", kind: str = "text/plain") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        kind.encode(),
        len(body),
        body,
    )


class Hook:
    """A session with a webhook whose endpoint follows a script in memory."""

    def __init__(self, *script: Step, config: Any = CONFIG, hello: bytes = EHLO, **options: Any) -> None:
        self.stream = FakeStream(*script)
        self.webhook = Webhook(URL, **options)
        self.dialogue: SessionPlaybook = session(accepting(self.webhook), config=config)
        self.dialogue.stream.opened_streams.append(self.stream)
        self._hello = hello

    def deliver(self, body: bytes = BODY, envelope: bytes = MAIL + RCPT + DATA) -> str:
        """Deliver a message, and return the last reply."""
        return self.dialogue.send(self._hello + envelope, body + b".\r\n").end().replies[-1]

    def request(self) -> tuple[h11.Request, bytes, dict[str, str]]:
        """Return the request with its body and its trailers."""
        server = h11.Connection(h11.SERVER)
        server.receive_data(self.stream.output)
        request, body = server.next_event(), b""
        assert isinstance(request, h11.Request)
        while isinstance(event := server.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        return request, body, {name.decode(): value.decode() for name, value in event.headers}


def headers_of(request: h11.Request) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in request.headers}


# Requests


def test_message_is_the_body_of_the_request_and_the_envelope_is_a_header_field() -> None:
    hook = Hook(OK, token="letmein")
    assert hook.deliver() == f"250 2.0.0 Stored as {hook.dialogue.session.id}.1"
    assert hook.dialogue.stream.opened == [("127.0.0.1", 8080)]
    request, body, trailers = hook.request()
    headers = headers_of(request)
    envelope = json.loads(headers["smtp-envelope"])
    assert (request.method, request.target) == (b"POST", b"/mail?box=in")
    assert without_fields(body) == BODY
    assert trailers == {}
    assert (headers["host"], headers["content-type"]) == ("127.0.0.1:8080", "message/rfc822")
    assert headers["authorization"] == "Bearer letmein"
    assert re.fullmatch("[0-9a-f]{32}", headers["idempotency-key"])
    assert envelope["sender"] == {"address": "a@c.example", "parameters": {}}
    assert envelope["recipients"] == [{"address": "u@s.example", "parameters": {}}]
    assert "received" not in envelope
    assert "trailer" not in headers
    assert hook.stream.close_timeouts


@pytest.mark.parametrize("form", [webhook._Raw, webhook._Multipart])
def test_control_characters_of_a_user_are_escaped(form: Any) -> None:
    user = "".join(map(chr, (*range(33), 127, 128, 0x2028, 0xDC80)))
    envelope: str = form(replace(MINIMAL, identity=user), None).envelope
    assert envelope.isascii()
    assert envelope.isprintable()
    assert json.loads(envelope)["identity"] == user


def test_idempotency_key_is_that_of_a_message_and_its_recipients() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield BODY

    def key(envelope: Envelope) -> str:
        stream = FakeStream()
        runtime = session(accepting()).send(EHLO)
        runtime.stream.opened_streams.append(stream)
        step(Webhook(URL).handler.deliver(envelope, body(), runtime.session))
        found = re.search(rb"Idempotency-Key: (\w+)", stream.output)
        assert found
        return found[1].decode()

    one, other = Rcpt(Path("a@s.example")), Rcpt(Path("b@s.example"))
    envelope = replace(MINIMAL, recipients=(one, other))
    keys = [
        key(each) for each in (envelope, envelope, replace(envelope, recipients=(one,)), replace(envelope, key="x"))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_form_has_the_envelope_the_message_and_the_signature() -> None:
    hook = Hook(OK, format="multipart", secret="secret")
    assert hook.deliver().startswith("250")
    request, body, _ = hook.request()
    headers = headers_of(request)
    parts = parts_of(headers["content-type"], body)
    assert list(parts) == ["envelope", "message", "signature"]
    assert json.loads(parts["envelope"])["sender"]["address"] == "a@c.example"
    assert without_fields(parts["message"]) == BODY
    assert is_signed(parts["signature"].decode(), parts["envelope"], parts["message"])
    assert "smtp-envelope" not in headers


def test_form_without_a_secret_has_no_signature() -> None:
    hook = Hook(OK, format="multipart")
    hook.deliver()
    request, body, _ = hook.request()
    assert list(parts_of(headers_of(request)["content-type"], body)) == ["envelope", "message"]


def is_signed(signature: str, envelope: bytes, message: bytes) -> bool:
    fields = dict(field.split("=") for field in signature.split(","))
    expected = hmac.new(b"secret", envelope + b"\n" + message + b"\n" + fields["t"].encode(), sha256)
    return hmac.compare_digest(fields["v1"], expected.hexdigest())


def test_signature_of_a_raw_request_is_a_trailer_field() -> None:
    hook = Hook(OK, secret=b"secret")
    hook.deliver()
    request, body, trailers = hook.request()
    headers = headers_of(request)
    assert headers["trailer"] == "Smtp-Signature"
    assert is_signed(trailers["smtp-signature"], headers["smtp-envelope"].encode(), body)
    assert not is_signed(trailers["smtp-signature"], headers["smtp-envelope"].encode(), body + b"x")


@pytest.mark.parametrize("format", ["raw", "multipart"])
def test_address_cannot_add_a_field_or_a_part(format: Any) -> None:
    address = '"x\\, \\"--y\\":<>é"@c.example'
    hook = Hook(OK, format=format)
    hook.deliver(envelope=f"MAIL FROM:<{address}> SMTPUTF8\r\n".encode() + RCPT + DATA)
    request, body, _ = hook.request()
    headers = headers_of(request)
    envelope = headers.get("smtp-envelope") or parts_of(headers["content-type"], body)["envelope"].decode()
    assert envelope.isascii()
    assert envelope.isprintable()
    assert json.loads(envelope)["sender"]["address"] == address


def test_raw_request_has_at_most_100_recipients() -> None:
    assert Hook(OK).webhook.on_config(CONFIG).max_recipients == 100
    assert Hook(OK, format="multipart").webhook.on_config(CONFIG) == CONFIG


def test_envelope_that_does_not_fit_into_a_field_is_a_temporary_refusal(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(OK)
    many = b"".join(b"RCPT TO:<%b%d@s.example>\r\n" % (b"x" * 60, number) for number in range(90))
    assert hook.deliver(envelope=MAIL + many + DATA).startswith("451 4.3.0")
    assert "use the format multipart" in caplog.text


def test_body_is_sent_while_the_message_arrives() -> None:
    hook = Hook()
    hook.dialogue.send(ENVELOPE)
    assert len(hook.stream.sent) == 1
    hook.dialogue.send(LARGE[:200_000])
    assert len(hook.stream.sent) == 4
    hook.dialogue.end()
    assert b"\r\n0\r\n" not in hook.stream.output
    assert hook.stream.close_timeouts == [0]


# Answers


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (answer(200), "250 2.0.0 Stored as "),
        (answer(201, b"whatever"), "250 2.0.0 Stored as "),
        (answer(202, b"{}", "application/json"), "250 2.0.0 Stored as "),
        (answer(200, b"[1, 2]", "application/json"), "250 2.0.0 Stored as "),
        (answer(409, b"seen"), "250 2.0.0 Stored as "),
        (answer(422, b"No spam here\nmore"), "550 5.7.1 No spam here"),
        (answer(400, "nö\x1b[2J\0x\r\n".encode()), "550 5.7.1 n [2J x"),
        (answer(403, b"x" * 10_000), "550 5.7.1 " + "x" * 480),
        (answer(410, b"<html>", "text/html"), "550 5.7.1 The message was refused (HTTP 410)"),
        (answer(413), "552 5.3.4 The message is too large"),
        (b"HTTP/1.0 403 X\r\n\r\nno", "550 5.7.1 no"),
        *((answer(status, b"later"), "451 4.3.0 Message ") for status in (401, 404, 408, 425, 429, 431, 500, 503)),
        *((answer(status), "451 4.3.0 Message ") for status in (301, 307, 304)),
        (b"", "451 4.3.0 Message "),
        (b"220 mail.example ESMTP\r\n", "451 4.3.0 Message "),
    ],
)
def test_status_decides_about_the_reply(octets: bytes, reply: str) -> None:
    for form in ("raw", "multipart"):
        hook = Hook(octets, format=form)
        assert hook.deliver().startswith(reply)
        assert hook.stream.close_timeouts == [0]


def test_log_names_the_endpoint_without_its_path(caplog: pytest.LogCaptureFixture) -> None:
    Hook(answer(503, b"maintenance\n"), token="letmein", secret="topsecret").deliver()
    (record,) = [record for record in caplog.records if "could not be stored" in record.message]
    assert record.message.endswith("could not be stored: http://127.0.0.1:8080: answered 503 maintenance")
    for secret in ("/mail", "letmein", "topsecret"):
        assert secret not in caplog.text


def test_endpoint_that_cannot_be_reached_is_a_temporary_refusal(caplog: pytest.LogCaptureFixture) -> None:
    dialogue = session(accepting(Webhook(URL)))
    dialogue.stream.opened_streams.append(ConnectionRefusedError("refused"))
    assert dialogue.send(ENVELOPE, BODY + b".\r\n").end().codes[-1] == 451
    assert "http://127.0.0.1:8080: refused" in caplog.text


def test_failure_to_send_the_header_is_a_temporary_refusal() -> None:
    hook = Hook()
    hook.stream.send_errors.append(BrokenPipeError("gone"))
    assert hook.deliver().startswith("451")
    assert hook.stream.close_timeouts == [0]


def test_failure_to_send_the_end_is_a_temporary_refusal() -> None:
    hook = Hook()
    hook.stream.send_errors.extend([None, None, BrokenPipeError("gone")])
    assert hook.deliver().startswith("451")


@pytest.mark.parametrize(
    ("status", "reply"), [(422, "550 5.7.1 no"), (503, "451 4.3.0"), (200, "451 4.3.0"), (409, "250 2.0.0")]
)
def test_answer_before_the_end_of_the_message(status: int, reply: str, caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(Early(answer(status, b"no\n")))
    assert hook.deliver(LARGE).startswith(reply)
    assert len(hook.stream.sent) == 1
    assert hook.stream.close_timeouts == [0]
    assert ("answered 200 before the end of the message" in caplog.text) is (status == 200)


def test_silent_endpoint_is_a_temporary_refusal() -> None:
    assert Hook(SILENCE).deliver().startswith("451")


# Results of recipients

TWO = MAIL + RCPT + b"RCPT TO:<v@s.example>\r\n" + DATA
FINE, UNKNOWN = {"code": 250}, {"code": 550, "text": "unknown\r\n", "enhanced": "5.1.1"}


def results(*values: object) -> bytes:
    return answer(200, json.dumps({"results": values}).encode(), "application/json; charset=utf-8")


def lmtp(*script: Step) -> Hook:
    return Hook(*script, config=replace(CONFIG, lmtp=True), hello=b"LHLO c.example\r\n")


def test_client_of_lmtp_gets_the_result_of_each_recipient() -> None:
    hook = lmtp(results(FINE, UNKNOWN))
    hook.deliver(envelope=TWO)
    assert hook.dialogue.replies[-2:] == ["250 2.0.0 Accepted", "550 5.1.1 unknown"]
    request, _, _ = hook.request()
    assert json.loads(headers_of(request)["smtp-envelope"])["protocol"] == "LMTP"


def test_client_of_lmtp_gets_the_same_reply_for_all_without_results() -> None:
    for octets, code in ((OK, 250), (answer(422), 550), (answer(200, b'{"a": 5}', "application/json"), 250)):
        hook = lmtp(octets)
        hook.deliver(envelope=TWO)
        assert hook.dialogue.codes[-2:] == [code, code]


def test_client_of_smtp_gets_a_refusal_for_mixed_results() -> None:
    assert Hook(results(FINE, UNKNOWN)).deliver(envelope=TWO).startswith("550-5.1.1 Accepted for 1 of 2 recipients")


@pytest.mark.parametrize(
    "octets",
    [
        results(),
        results(FINE),
        results(FINE, FINE, FINE),
        results(FINE, "no result"),
        results(FINE, {"code": 354}),
        results(FINE, {"code": True}),
        results(FINE, {"code": 299}),
        results(FINE, {"code": 250, "text": 5}),
        results(FINE, {"code": 250, "enhanced": "x"}),
        results(FINE, {}),
        answer(200, b"{", "application/json"),
        answer(200, b"[" * 100_000, "application/json"),
        answer(200, b'{"results": 5}', "application/json"),
        answer(200, b'{"results": {}}', "application/json"),
        answer(200, b'{"results": ""}', "application/json"),
        answer(200, b'{"results": null}', "application/json"),
        answer(200, b"x" * 200_000, "application/json"),
    ],
)
def test_invalid_results_are_a_temporary_refusal(octets: bytes) -> None:
    hook = lmtp(octets)
    hook.deliver(envelope=TWO)
    assert hook.dialogue.codes[-2:] == [451, 451]


# Options


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("ftp://a.example/", {}, "has the form https://HOST:PORT/PATH"),
        ("https:///x", {}, "has the form https://HOST:PORT/PATH"),
        ("https://a.example:0/", {}, "has the form https://HOST:PORT/PATH"),
        ("https://a.example:70000/", {}, "Port out of range"),
        ("https://a.example/#x", {}, "has the form https://HOST:PORT/PATH"),
        ("https://a.example/x y", {}, "has the form https://HOST:PORT/PATH"),
        ("https://a.example/\r\nX: y", {}, "has the form https://HOST:PORT/PATH"),
        ("https://ä.example/", {}, "has the form https://HOST:PORT/PATH"),
        ("https://tim:pass@a.example/", {}, "a login does not belong in a URL"),
        ("http://a.example/", {}, "http:// is allowed for loopback addresses only"),
        ("https://a.example/", {"format": "xml"}, "format is 'xml'"),
        ("https://a.example/", {"token": "x\r\nX: y"}, "the token must be printable ASCII"),
        ("https://a.example/", {"token": ""}, "the token must be printable ASCII"),
        ("https://a.example/", {"timeout": 0.0}, "connect_timeout and timeout must be greater than 0"),
        ("https://a.example/", {"connect_timeout": float("nan")}, "connect_timeout and timeout must be greater than 0"),
        ("https://a.example/", {"timeout": float("inf")}, "and at most 1000000"),
        ("https://a.example/", {"secret": ""}, "the secret must not be empty"),
    ],
)
def test_wrong_options_are_an_error(url: str, options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error) as caught:
        Webhook(url, **options)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost/", "http://[::1]:80", "http://127.0.0.2?x=y", "https://a.example"])
def test_http_is_allowed_for_loopback_addresses(url: str) -> None:
    Webhook(url)


def test_http_is_allowed_on_request() -> None:
    assert Webhook("HTTP://a.example/x", allow_http=True).origin == "http://a.example"


def test_endpoint_that_cannot_be_reached_at_the_start_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with reserved_ports(1) as (port,):
        with socket.create_server(("127.0.0.1", port)):
            reached = Webhook(f"http://127.0.0.1:{port}/")
            reached.on_config(CONFIG)
            assert not caplog.records
        lost = Webhook(f"http://127.0.0.1:{port}/")
        lost.on_config(CONFIG)
        lost.on_config(CONFIG)
    (record,) = caplog.records
    assert f"http://127.0.0.1:{port} cannot be reached; messages get a 451 until it can" in record.message


# Real servers


class Unchecked(Webhook):
    """A webhook without the check at the start, which would take the only connection of a scripted endpoint."""

    def on_config(self, config: Config) -> Config:
        return config


def deliver(backend: str, hook: Webhook, *bodies: bytes) -> Sequence[str]:
    """Deliver messages over a socket to a server on an adapter, and return the replies."""
    replies: list[str] = []
    with running(backend, accepting(hook), config=CONFIG) as server, server.connect() as client:
        client.send(EHLO).expect(220, 250)
        for body in bodies:
            client.send(MAIL + RCPT + DATA).expect(250, 250)
            reply = client.read()
            if reply.startswith("354"):
                client.send(body + b".\r\n")
                reply = client.read()
            replies.append(reply)
    return replies


def read_header(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)


def answers_early(connection: socket.socket) -> None:
    read_header(connection)
    connection.sendall(answer(413, b"no large messages here\n"))


def reads_all(connection: socket.socket) -> None:
    data = b""
    while not data.endswith(b"\r\n0\r\n\r\n"):
        data = data[-10:] + connection.recv(65536)


def closes(connection: socket.socket) -> None:
    read_header(connection)


def hangs(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def never_ends(connection: socket.socket) -> None:
    reads_all(connection)
    connection.sendall(b"HTTP/1.1 422 X\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize(
    ("server", "timeout", "reply"),
    [
        (answers_early, 10, "552 5.3.4 no large"),
        (closes, 10, "451"),
        (hangs, 0.05, "451"),
        (never_ends, 10, "550 5.7.1"),
    ],
)
def test_misbehaving_endpoint_has_a_reply(server: Any, timeout: float, reply: str, backend: str) -> None:
    with scripted(server) as url:
        assert deliver(backend, Unchecked(url, timeout=timeout), LARGE)[0].startswith(reply)


def test_slow_endpoint_stops_the_client(backend: str) -> None:
    goes_on = threading.Event()

    def reads_late(connection: socket.socket) -> None:
        read_header(connection)
        assert goes_on.wait(10)
        reads_all(connection)
        connection.sendall(OK)

    with (
        scripted(reads_late) as url,
        running(backend, accepting(Unchecked(url)), config=CONFIG) as server,
        server.connect() as client,
    ):
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354)
        sent = client.send_until_blocked(LARGE[:100_000], MOST)
        assert sent < MOST
        goes_on.set()
        client.send(LARGE[sent % 100 : 100] + b".\r\n").expect(250)


def test_message_reaches_an_endpoint_over_tls(backend: str, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = context_trusting(authority)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            reads_all(secured)
            secured.sendall(OK)

    with scripted(serve) as url:
        assert deliver(backend, Unchecked(url.replace("http:", "https:"), context=trusting), BODY)[0].startswith("250")


def test_endpoint_with_an_unknown_certificate_gets_no_message(
    backend: str, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError), context.wrap_socket(connection, server_side=True):
            pass

    with scripted(serve) as url:
        hook = Unchecked(url.replace("http:", "https:"))
        assert deliver(backend, hook, BODY)[0].startswith("451")
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with running_endpoint() as (endpoint, url, path):
        assert deliver("asyncio", Webhook(url), BODY)[0].startswith("250")
    assert len(endpoint.messages[path]) == 1
