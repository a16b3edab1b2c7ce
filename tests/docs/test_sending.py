"""The examples of sending and forwarding mail run as described."""

import ssl
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import dkim  # type: ignore[import-untyped]
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from smtpcore import Config, Notify, Rcpt, Reply, Ret
from smtpcore.sasl import Answer, CheckToken, Question, TokenError
from smtpcore_adapters import App, SendResult, Session, Timeouts, TlsMode, connected
from smtpcore_adapters.asyncio import connect, serving
from tests.adapters.fakes import CONFIG, MessageStore, accepting, step
from tests.adapters.harness import running
from tests.adapters.playbook import next_server
from tests.certificates import context_trusting
from tests.docs.test_readme import run_example
from tests.playbook import offer

CLIENT: Any = {"tls": TlsMode.NONE, "hostname": "c.example"}


def test_readme_example_sends_a_file(tmp_path: Path) -> None:
    deliver = run_example("async def deliver(host, port, path)")["deliver"]
    store = MessageStore()
    (tmp_path / "message").write_bytes(b"Subject: hi\n")

    async def main() -> SendResult:
        async with serving(accepting(store), config=CONFIG) as server:
            result: SendResult = await deliver("127.0.0.1", server.address.port, tmp_path / "message")
            return result

    assert anyio.run(main)["you@example.org"].is_positive
    assert store.bodies == [b"Subject: hi\r\n"]


def test_invitation_example_sends_to_the_addresses_of_the_header() -> None:
    invite = run_example("async def invite")["invite"]
    store = MessageStore()

    async def main() -> SendResult:
        async with serving(accepting(store), config=CONFIG) as server:
            result: SendResult = await invite(
                "127.0.0.1", server.address.port, "a@s.example, b@s.example", **CLIENT, auth=None
            )
            return result

    assert len(anyio.run(main).accepted) == 3
    assert b"The ministry is open" in store.bodies[0]
    assert b"archive" not in store.bodies[0]


def test_pool_example_sends_all_messages() -> None:
    send_all = run_example("async def send_all")["send_all"]
    store = MessageStore()

    def message(number: int) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"] = "a@c.example", f"b{number}@s.example"
        return message

    async def main() -> list[SendResult]:
        async with serving(accepting(store), config=CONFIG) as server:
            results: list[SendResult] = await send_all(
                "127.0.0.1", server.address.port, map(message, range(9)), **CLIENT
            )
            return results

    assert [str(path) for result in anyio.run(main) for path in result.accepted] == [
        f"b{n}@s.example" for n in range(9)
    ]
    assert len(store.bodies) == 9


def test_announcement_example_reports_refused_recipients(capsys: pytest.CaptureFixture[str]) -> None:
    announce = run_example("def announce")["announce"]
    app = App()
    app.include(MessageStore())

    @app.on("RCPT")
    def take_one(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250, "Taken") if rcpt.forward_path == "a@s.example" else Reply(550, "no")

    async def main() -> SendResult:
        async with serving(app, config=CONFIG) as server:
            result: SendResult = await announce(
                "127.0.0.1", server.address.port, ["a@s.example", "b@s.example"], b"hi", **CLIENT
            )
            return result

    assert len(anyio.run(main).accepted) == 1
    assert capsys.readouterr().out == "b@s.example was refused: 550 5.0.0 no\n"


def test_options_example_sends_parameters() -> None:
    send_with_proof = run_example("def send_with_proof")["send_with_proof"]
    app = App()
    app.include(MessageStore())
    mail_params: list[Any] = []
    notify_params: list[Any] = []

    @app.on("RCPT")
    def take(session: Session, rcpt: Rcpt) -> Reply:
        notify_params.append(rcpt.params.notify)
        return Reply(250, "Taken")

    app.on("MAIL")(lambda session, mail: mail_params.append(mail.params))

    async def main() -> SendResult:
        config = Config(hostname="s.example", disabled=frozenset())
        async with serving(app, config=config) as server, connect("127.0.0.1", server.address.port, **CLIENT) as client:
            result: SendResult = await send_with_proof(client, b"hi\n")
            return result

    assert len(anyio.run(main).accepted) == 2
    assert (mail_params[0].ret, mail_params[0].envid.value) == (Ret.HDRS, "invoice 17")
    assert notify_params == [frozenset({Notify.SUCCESS, Notify.FAILURE}), frozenset({Notify.NEVER})]


def test_filter_example_refuses_programs_and_forwards_the_rest() -> None:
    make_filter = run_example("class NoPrograms")["make_filter"]
    store = MessageStore()

    async def main() -> list[Reply]:
        async with (
            serving(accepting(store), config=CONFIG, trusted=["127.0.0.1"]) as next_server,
            serving(make_filter("127.0.0.1", next_server.address.port), config=CONFIG) as server,
            connect("127.0.0.1", server.address.port, **CLIENT) as client,
        ):
            bodies = b"Subject: hi\n\nhello\n", b"\n\nTVqQAAMAAAAEAAAA//8AALgAAAA\n", b"\n\nbye\n"
            return [(await client.send("a@c.example", "b@s.example", body)).final for body in bodies]

    replies = anyio.run(main)
    assert [reply.code for reply in replies] == [250, 550, 250]
    assert replies[1] == Reply(550, "Programs are not accepted", enhanced="5.7.1")
    assert len(store.bodies) == 2
    assert store.bodies[0].startswith(b"Received: from c.example ([127.0.0.1])")
    assert store.bodies[0].endswith(b"Subject: hi\r\n\r\nhello\r\n")


def test_blocking_example_sends_mail() -> None:
    deliver_all = run_example("def deliver_all")["deliver_all"]
    store = MessageStore()
    with running("threads", accepting(store), config=CONFIG) as server:
        results = deliver_all("127.0.0.1", server.server.address.port, [b"one\n", b"two\n"])

    assert all(result.accepted for result in results)
    assert store.bodies == [b"one\r\n", b"two\r\n"]


def test_token_example_renews_a_refused_token() -> None:
    send_with_token = run_example("def send_with_token")["send_with_token"]
    store = MessageStore()
    app = accepting(store)

    @app.on("auth")
    def check(session: Session, question: Question) -> Answer:
        is_new = isinstance(question, CheckToken) and question.token == "new"
        return "me@example.org" if is_new else TokenError("401")

    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusting = context_trusting(authority)
    config = replace(CONFIG, auth_mechanisms=("XOAUTH2",))

    class Cache:
        def get(self) -> str:
            return "old"

        async def renew(self) -> str:
            return "new"

    async def main() -> SendResult:
        async with serving(app, config=config, tls=tls, timeouts=Timeouts(auth_delay=0)) as server:
            port = server.address.port
            result: SendResult = await send_with_token("127.0.0.1", port, b"hi\r\n", Cache(), context=trusting)
            return result

    assert anyio.run(main).accepted
    assert store.bodies == [b"hi\r\n"]


def test_certificate_example_shows_the_certificate_of_the_client(tmp_path: Path) -> None:
    send_with_certificate = run_example("def send_with_certificate")["send_with_certificate"]
    store = MessageStore()
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    own = authority.issue_cert("client@c.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    message = EmailMessage()
    message["From"], message["To"] = "a@c.example", "b@s.example"

    async def main() -> SendResult:
        async with serving(accepting(store), config=CONFIG, tls=tls, implicit_tls=True) as server:
            files = [str(tmp_path / name) for name in ("ca.pem", "chain.pem", "key.pem")]
            result: SendResult = await send_with_certificate("127.0.0.1", server.address.port, message, *files)
            return result

    assert anyio.run(main).accepted
    assert len(store.bodies) == 1


def test_on_demand_example_tries_one_login_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    log_in_with_any = run_example("def log_in_with_any")["log_in_with_any"]
    server = next_server("STARTTLS").send(b"220 go\r\n", offer("AUTH PLAIN"), b"535 5.7.8 no\r\n", b"235 welcome\r\n")

    async def main() -> Reply:
        async with connected(server.open, "s.example", 25, **CLIENT) as client:
            reply: Reply = await log_in_with_any(client, [("tim", "wrong"), ("tim", "secret")])
            return reply

    assert step(main()).code == 235
    assert capsys.readouterr().out == "s.example:25: the server refuses AUTH PLAIN: 535 5.7.8 no\n"


def test_signing_example_signs_what_the_server_gets() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    send_signed = run_example("def send_signed")["send_signed"]
    shown: list[tuple[int, int]] = []
    bar = SimpleNamespace(show=lambda sent, total: shown.append((sent, total)))
    store = MessageStore()

    async def main() -> None:
        async with (
            serving(accepting(store), config=CONFIG) as server,
            connect("127.0.0.1", server.address.port, **CLIENT) as client,
        ):
            assert (await send_signed(client, b"From: me@example.org\n\nhi\n", private, bar)).accepted

    anyio.run(main)
    (data,) = store.bodies
    record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
    assert dkim.verify(data, dnsfunc=lambda name, timeout: record)
    assert shown == [(len(data), len(data))]
