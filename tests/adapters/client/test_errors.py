"""Each error of a client names the server, the step, and the side that was slow: all errors at all steps."""

import pickle
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from ssl import SSLError
from typing import Any, NamedTuple

import pytest

from smtpcore import ClientBudgets, ClientConfig, Data, Mail, Path, Rcpt, RemoteProtocolError, Reply
from smtpcore.sasl import TokenError
from smtpcore_adapters import (
    AuthenticationRefused,
    Disconnected,
    Outcome,
    RecipientsRefused,
    Refused,
    SendResult,
    TlsMode,
    Unsendable,
    open_client,
)
from smtpcore_adapters.client._driver import ClientDriver
from tests.adapters.fakes import SILENCE, Step, step
from tests.adapters.playbook import ONE, SENDER, ClientPlaybook, client, new_client, next_server
from tests.playbook import GO_AHEAD, GREETING, OK, offer

SERVER = "s.example:25"
HELLO = offer("AUTH LOGIN", "STARTTLS")
RESET = ConnectionResetError(104, "Connection reset by peer")


class Case(NamedTuple):
    """A step of a session, and the errors of a server at this step."""

    missing: str
    """The reply that the errors name."""
    run: Callable[[Step], object]
    """Run a session in which the server answers this step with `Step`."""


def connecting(*before: Step, **options: Any) -> Callable[[Step], object]:
    def run(end: Step) -> object:
        defaults = {"tls": TlsMode.NONE, "plaintext_auth": True, "auth_mechanisms": None}
        return new_client(**{**defaults, **options}).send(*before, end, b"").connect()

    return run


def sending(*before: Step, offers: tuple[str, ...] = ()) -> Callable[[Step], object]:
    def run(end: Step) -> object:
        return client(*offers).send(*before, end, b"").deliver().raise_for_refused()

    return run


def asking(ask: Callable[[ClientPlaybook], Any]) -> Callable[[Step], object]:
    def run(end: Step) -> object:
        book = client("AUTH LOGIN", "STARTTLS", plaintext_auth=True).send(end, b"")
        return step(ask(book))

    return run


LOGIN: dict[str, Any] = {"auth": ("tim", "secret"), "auth_mechanisms": ["LOGIN"]}
STEPS = {
    "greeting": Case("its greeting", connecting()),
    "EHLO": Case("the reply to EHLO", connecting(GREETING)),
    "HELO": Case("the reply to HELO", connecting(GREETING, b"500 what\r\n")),
    "STARTTLS": Case("the reply to STARTTLS", connecting(GREETING, HELLO, tls=TlsMode.REQUIRED)),
    "EHLO after STARTTLS": Case("the reply to EHLO", connecting(GREETING, HELLO, OK, tls=TlsMode.REQUIRED)),
    "AUTH": Case("the reply to AUTH", connecting(GREETING, HELLO, **LOGIN)),
    "AUTH, second step": Case("the reply to AUTH", connecting(GREETING, HELLO, b"334 \r\n", **LOGIN)),
    "MAIL": Case("the reply to MAIL", sending()),
    "RCPT": Case("the reply to RCPT", sending(OK)),
    "DATA": Case("the reply to DATA", sending(OK, OK)),
    "message": Case("the reply to the message", sending(OK, OK, GO_AHEAD)),
    "BDAT": Case("the reply to the message", sending(OK, OK, offers=("CHUNKING",))),
    "NOOP": Case("the reply to NOOP", asking(lambda book: book.client.noop())),
    "STARTTLS on demand": Case("the reply to STARTTLS", asking(lambda book: book.client.starttls())),
    "login on demand": Case("the reply to AUTH", asking(lambda book: book.client.login(("tim", "secret")))),
}


def text_of(run: Callable[[Step], object], end: Step, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        run(end)
    assert type(caught.value) is kind or kind is Refused
    return str(caught.value)


@pytest.mark.parametrize("case", STEPS.values(), ids=STEPS)
def test_timeout_names_the_server_the_step_and_the_slow_side(case: Case) -> None:
    text = text_of(case.run, SILENCE, TimeoutError)
    assert re.fullmatch(rf"{SERVER}: the server did not send {case.missing} within \d+ seconds", text)


@pytest.mark.parametrize("case", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize(("end", "place"), [(b"", "before"), (b"250-a\r\n", "inside")])
def test_end_of_the_connection_names_the_server_and_the_step(case: Case, end: bytes, place: str) -> None:
    text = text_of(case.run, end, Disconnected)
    assert text == f"{SERVER}: the connection was closed {place} {case.missing}"


@pytest.mark.parametrize("case", STEPS.values(), ids=STEPS)
def test_reset_names_the_server_and_the_step(case: Case) -> None:
    text = text_of(case.run, ConnectionResetError(*RESET.args), ConnectionResetError)
    assert text == f"[Errno 104] Connection reset by peer before {case.missing}: '{SERVER}'"


@pytest.mark.parametrize("case", STEPS.values(), ids=STEPS)
def test_invalid_reply_names_the_server_and_the_step(case: Case) -> None:
    text = text_of(case.run, b"HTTP/1.1 400\r\n", RemoteProtocolError)
    assert text.startswith(f"{SERVER}: this is not SMTP")
    assert text.endswith(f", while waiting for {case.missing}")


@pytest.mark.parametrize("name", [name for name in STEPS if name != "NOOP"])
def test_refusal_names_the_server_and_the_step(name: str) -> None:
    case = STEPS[name]
    text = text_of(case.run, b"421 bye\r\n", Refused)
    assert text.startswith(f"{SERVER}: ")
    assert text.endswith(": 421 bye")
    assert case.missing.removeprefix("the reply to ").removeprefix("its ") in text


def test_input_without_a_command_names_the_server() -> None:
    book = client().send(b"250 OK\r\n250 stray\r\n")
    step(book.client.noop())
    with pytest.raises(RemoteProtocolError, match=rf"^{SERVER}: the server sent 250 without a request$"):
        step(book.client.noop())


@pytest.mark.parametrize("challenge", [b"334 !\r\n", b"334 cj14LHM9eCxpPTE=\r\n"])
def test_error_of_a_mechanism_names_the_server_and_the_mechanism(challenge: bytes) -> None:
    names = ["SCRAM-SHA-256"]
    book = new_client(tls=TlsMode.NONE, auth=("tim", "secret"), auth_mechanisms=names, plaintext_auth=True)
    book.send(GREETING, offer("AUTH SCRAM-SHA-256"), challenge, b"501 cancelled\r\n")
    error = book.fail()
    assert isinstance(error, RemoteProtocolError)
    assert re.match(rf"{SERVER}: .*(AUTH|SCRAM-SHA-256)", str(error))


def test_refused_login_without_a_mechanism_names_the_server() -> None:
    error = new_client(tls=TlsMode.NONE, auth=("tim", "secret"), plaintext_auth=True).send(GREETING, offer()).fail()
    assert isinstance(error, AuthenticationRefused)
    assert str(error).startswith(f"{SERVER}: ")


def test_failed_handshake_names_the_server() -> None:
    for failure in (SSLError(1, "[SSL] wrong version"), TimeoutError("slow")):
        book = new_client(tls=TlsMode.REQUIRED).send(GREETING, HELLO, OK)
        book.stream.handshake_error = failure
        error = book.fail()
        assert str(error).startswith(f"{SERVER}: ")
        assert isinstance(error, SSLError) or "the server did not complete the TLS handshake within" in str(error)


def test_failed_connection_names_the_server() -> None:
    async def fail(host: str, port: int, timeout: float, **options: object) -> Any:
        raise failures.pop()

    failures: list[OSError] = [TimeoutError("slow"), ConnectionRefusedError(111, "Connection refused")]
    with pytest.raises(ConnectionRefusedError, match=rf"refused: '{SERVER}'$"):
        step(open_client(fail, "s.example", 25))
    with pytest.raises(TimeoutError, match=rf"^{SERVER}: no connection within 30 seconds$"):
        step(open_client(fail, "s.example", 25))


@pytest.mark.parametrize(
    ("offers", "body", "options"),
    [
        (("SIZE 3",), b"four", {}),
        ((), "Subject: \u00fc\r\n\r\n", {}),
        ((), b"\xff", {}),
        (
            (),
            b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b--\r\n",
            {},
        ),
        ((), b"hi", {"to": "b\u00fc@s.example"}),
        ((), b"hi", {"requiretls": True}),
        (("LIMITS RCPTMAX=1",), (b"hi" * 150_000 for _ in range(1)), {"to": [ONE, "c@s.example"]}),
    ],
)
def test_message_that_cannot_be_sent_names_the_server(offers: tuple[str, ...], body: Any, options: Any) -> None:
    with pytest.raises(Unsendable) as caught:
        client(*offers).deliver(body, **options)
    assert str(caught.value) == f"{SERVER}: {caught.value.reply}"


def test_closed_connection_names_the_server() -> None:
    book = client()
    step(book.client.aclose())
    with pytest.raises(Disconnected, match=rf"^the connection to {SERVER} is closed$"):
        step(book.client.noop())


# The slow side of a body


@pytest.mark.parametrize("offers", [(), ("CHUNKING",)])
@pytest.mark.parametrize("seconds", [0.0, 100.0])
@pytest.mark.parametrize(
    ("budgets", "what"),
    [
        (ClientBudgets(), "the server did not read all that was sent within 180 seconds"),
        (
            ClientBudgets(session=110),
            "the session took longer than 110 seconds before the server read all that was sent",
        ),
    ],
)
def test_timeout_of_a_body_names_the_slow_side(
    offers: tuple[str, ...], seconds: float, budgets: ClientBudgets, what: str
) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"one\r\n" * 100_000
        hop.stream.now += seconds
        yield b"two\r\n" * 100_000

    hop = next_server(*offers).send(OK, OK, OK if offers else GO_AHEAD)
    config = ClientConfig(hostname="c.example", pipelining=False)
    driver = ClientDriver(hop.stream, config, budgets, clock=hop.stream.clock, server=SERVER)
    step(driver.read_greeting())
    step(driver.ask(driver.connection.hello))
    step(driver.ask_all([Mail(Path(SENDER)), Rcpt(Path(ONE)), *([] if offers else [Data()])], []))
    hop.stream.send_errors.extend([None, TimeoutError("slow")] if not offers else [TimeoutError("slow")])
    with pytest.raises(TimeoutError) as caught:
        step(driver.send_chunks(body(), []) if offers else driver.send_body(body(), []))
    remark = f"; this side took {seconds:.0f} seconds for a piece of the body" if seconds else ""
    assert str(caught.value) == f"{SERVER}: {what}{remark}"


# Advice


def tls_error(reason: str) -> SSLError:
    error = SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def test_failure_of_the_wrong_tls_mode_advises_another() -> None:
    book = new_client(tls=TlsMode.IMPLICIT)
    book.stream.handshake_error = tls_error("WRONG_VERSION_NUMBER")
    assert "try tls=TlsMode.REQUIRED" in book.fail().__notes__[0]
    assert "use tls=TlsMode.IMPLICIT" in new_client().send(SILENCE).fail().__notes__[0]


@pytest.mark.parametrize("tls", [TlsMode.IMPLICIT, TlsMode.REQUIRED])
def test_other_failures_have_no_advice(tls: TlsMode) -> None:
    book = new_client(tls=tls).send(GREETING, HELLO, OK)
    book.stream.handshake_error = tls_error("HANDSHAKE_FAILURE")
    assert not hasattr(book.fail(), "__notes__")
    silent = new_client(tls=TlsMode.IMPLICIT).send(SILENCE)
    assert not hasattr(silent.fail(), "__notes__")


def errors() -> Iterator[Exception]:
    yield Disconnected("closed", Reply(421, "bye"))
    yield Refused("no TLS", Reply(454, "later"))
    yield AuthenticationRefused("no", Reply(535, "no"), TokenError("401", "", ""))
    yield Unsendable(Reply(552, "too large"))
    yield RecipientsRefused(
        SendResult.of([Outcome(Rcpt(Path(ONE)), Reply(550, "no"), "RCPT")], Reply(550, "no"), SERVER)
    )


@pytest.mark.parametrize("error", [*errors()], ids=lambda error: type(error).__name__)
def test_error_can_be_pickled(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert vars(again) == vars(error)
