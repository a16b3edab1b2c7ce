"""The smtpcore client logs in to real servers, on demand, with each mechanism, and where mechanisms do not work."""

import hashlib
import ssl
import uuid
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from email.message import EmailMessage
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from benchmarks.ports import reserved_ports
from smtpcore_adapters import AuthenticationRefused, Client, TlsMode
from smtpcore_adapters.asyncio import connect
from tests.adapters.harness import run_in
from tests.interop import servers
from tests.interop.servers import PASSWORD, RECIPIENTS, USER, MailServer

HASHED = "hashed"
"""A user whose password the server stores as a hash only."""


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with servers.server("postfix") as running:
        if "AUTH" not in running.offers:
            pytest.skip("Postfix has no SASL without Dovecot")
        with (running.directory / "dovecot/users").open("a") as users:
            digest = b64encode(hashlib.sha256(PASSWORD.encode()).digest()).decode()
            users.write(f"{HASHED}:{{SHA256}}{digest}::::::\n")
        yield running


def run(server: MailServer, test: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connect("localhost", server.port, hostname="c.example", tls=TlsMode.NONE) as client:
            await client.starttls(ssl.create_default_context(cafile=server.ca))
            await test(client)

    run_in("asyncio", main)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_login_on_demand_succeeds_after_a_wrong_password(server: MailServer, mechanism: str) -> None:
    async def test(client: Client) -> None:
        with pytest.raises(AuthenticationRefused, match="535"):
            await client.login((USER, "wrong"), auth_mechanisms=[mechanism])
        assert (await client.login((USER, PASSWORD), auth_mechanisms=[mechanism])).code == 235

    run(server, test)


def test_user_with_a_hashed_password_can_log_in_although_scram_fails(server: MailServer) -> None:
    async def test(client: Client) -> None:
        for mechanism in ("SCRAM-SHA-256", "CRAM-MD5"):
            with pytest.raises(AuthenticationRefused, match="535"):
                await client.login((HASHED, PASSWORD), auth_mechanisms=[mechanism])
        assert (await client.login((HASHED, PASSWORD))).code == 235

    run(server, test)


def test_dkim_signature_is_valid_after_the_delivery(server: MailServer) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    marker = uuid.uuid4().hex

    async def test(client: Client) -> None:
        text = f"From: s@client.example\nSubject: {marker}\n\n.\nhello"
        sign = lambda data: dkim.sign(data, b"s", b"client.example", private)  # noqa: E731
        assert (await client.send("s@client.example", RECIPIENTS[0], text, sign=sign)).accepted

    run(server, test)
    record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
    assert dkim.verify(server.message(marker).replace(b"\n", b"\r\n"), dnsfunc=lambda name, timeout: record)


class Collector:
    """A handler of aiosmtpd that keeps envelopes."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 OK"


def test_aiosmtpd_gets_a_labels_and_the_login() -> None:
    def authenticate(server: object, session: object, envelope: object, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"tim", b"secret"), handled=False)

    async def main() -> None:
        async with connect("127.0.0.1", port, hostname="192.0.2.1", plaintext_auth=True) as client:
            with pytest.raises(AuthenticationRefused, match="535"):
                await client.login(("tim", "wrong"))
            await client.login(("tim", "secret"))
            message = EmailMessage()
            message["To"] = "Bü <b@bücher.example>"
            message.set_content("Grüße\n")
            assert (await client.send_message(message, sender="a@müller.example")).accepted

    collector = Collector()
    options = {
        "enable_SMTPUTF8": False,
        "auth_require_tls": False,
        "authenticator": authenticate,
        "data_size_limit": 1_000_000,
    }
    with reserved_ports(1) as (port,):
        controller = Controller(collector, hostname="127.0.0.1", port=port, **options)
        controller.start()
        try:
            run_in("asyncio", main)
        finally:
            controller.stop()
    (envelope,) = collector.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("a@xn--mller-kva.example", ["b@xn--bcher-kva.example"])
    assert b"<b@xn--bcher-kva.example>" in envelope.content
