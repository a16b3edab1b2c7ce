"""One call sends one message."""

from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from smtpcore import LocalProtocolError, Rcpt, Reply
from smtpcore_adapters import App, RecipientsRefused, SendResult, Session, TlsMode
from tests.adapters.fakes import CONFIG, MessageStore
from tests.adapters.harness import BACKENDS, Running, module_of, run_in, running

OPTIONS: Any = {"tls": TlsMode.NONE, "hostname": "c.example"}


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return MessageStore()


@pytest.fixture(scope="module")
def server(store: MessageStore) -> Iterator[Running]:
    app = App()

    @app.on("RCPT")
    def take(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(550, "no") if rcpt.forward_path.local_part == "nobody" else Reply(250, "taken")

    app.include(store)
    with running("threads", app, config=CONFIG) as server:
        yield server


def message_to(*recipients: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "a@c.example"
    message["To"] = ", ".join(recipients)
    message["Bcc"] = "secret@s.example"
    message.set_content("hi")
    return message


def send(backend: str, server: Running, *args: Any, **options: Any) -> SendResult:
    options = {"host": "127.0.0.1", "port": server.server.address.port, **OPTIONS, **options}
    if backend == "threads":
        result: SendResult = module_of(backend).send(*args, **options)
        return result

    async def main() -> SendResult:
        result: SendResult = await module_of(backend).send(*args, **options)
        return result

    return run_in(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_call_sends_a_message_to_the_addresses_of_its_header(
    backend: str, server: Running, store: MessageStore
) -> None:
    store.bodies.clear()
    result = send(backend, server, message_to("b@s.example", "nobody@s.example"))

    assert [str(path) for path in result.accepted] == ["b@s.example", "secret@s.example"]
    assert result["nobody@s.example"].code == 550
    (body,) = store.bodies
    assert b"Bcc" not in body
    assert b"secret" not in body
    with pytest.raises(RecipientsRefused):
        result.raise_for_refused()


def test_one_call_takes_any_body_with_an_envelope(server: Running) -> None:
    assert send("threads", server, b"hi\r\n", sender="", recipients=["b@s.example"], smtputf8=False).accepted
    with pytest.raises(LocalProtocolError, match="give the sender and the recipients"):
        send("threads", server, b"hi\r\n")


@pytest.mark.parametrize("option", ["retries", "lmpt"])
def test_unknown_option_of_one_call_is_an_error(option: str, server: Running) -> None:
    with pytest.raises(TypeError, match=f"'{option}' is not an option of send"):
        send("threads", server, message_to("b@s.example"), **{option: True})


@pytest.mark.parametrize(("option", "use"), [("to", "recipients"), ("mail_from", "sender"), ("to_addrs", "recipients")])
def test_other_name_of_the_envelope_is_an_error_that_says_what_to_use(option: str, use: str) -> None:
    with pytest.raises(TypeError, match=f"^'{option}' is not an option of send: pass {use}=$"):
        module_of("threads").send(b"hi\r\n", host="host.invalid", **{option: "b@s.example"})


def test_header_is_checked_before_the_connection_is_made() -> None:
    with pytest.raises(LocalProtocolError, match="no address in Sender or From"):
        module_of("threads").send(EmailMessage(), host="host.invalid", **OPTIONS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{"recipients": b"b@s.example"}, {"sender": 5}, {"recipients": "b@@s.example"}])
def test_envelope_is_checked_before_connecting(backend: str, server: Running, options: Any) -> None:
    with pytest.raises((TypeError, LocalProtocolError)):
        send(backend, server, message_to("b@s.example"), port=1, **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_recipients_may_be_an_iterator(backend: str, server: Running) -> None:
    recipients = iter(["b@s.example", "c@s.example"])
    assert len(send(backend, server, message_to("x@s.example"), recipients=recipients).accepted) == 2
