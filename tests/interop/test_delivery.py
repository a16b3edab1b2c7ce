"""The smtpcore client delivers to real servers, and the stored message equals the sent message."""

import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, nullcontext
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest

from smtpcore import Notify, Params, Rcpt
from smtpcore import Path as Mailbox
from smtpcore_adapters import AuthenticationRefused, Client, Refused, TlsMode
from tests.adapters.harness import connect_of, run_in
from tests.interop import servers
from tests.interop.servers import PASSWORD, RECIPIENTS, TIMEOUT, USER, MailServer

SENDER = "s@client.example"

# Typical mistakes of transports: dots at the start of lines, a long line, and lines that end in LF alone.
TEXT = b".\n..\n.a dot\n" + b"x" * 900 + b"\nthe last line, without an end"


@pytest.fixture(scope="module", params=servers.NAMES)
def server(request: pytest.FixtureRequest) -> Iterator[MailServer]:
    with ExitStack() as stack:
        yield stack.enter_context(servers.server(request.param))


@pytest.fixture(params=["asyncio", "trio", "threads"])
def backend(request: pytest.FixtureRequest) -> str:
    """An adapter, one for each kind of stream. `tests/adapters` tests all adapters against the smtpcore server."""
    name: str = request.param
    return name


@pytest.fixture
def marker() -> str:
    return uuid4().hex


def run(
    backend: str,
    server: MailServer,
    test: Callable[[Client], Awaitable[None]],
    *,
    port: int | None = None,
    **options: Any,
) -> None:
    if server.ca:
        options.setdefault("context", ssl.create_default_context(cafile=server.ca))
        options.setdefault("tls", TlsMode.REQUIRED)
    if "AUTH" in server.offers:
        options.setdefault("auth", (USER, PASSWORD))

    async def main() -> None:
        connect = partial(connect_of(backend), "localhost", port or server.port, hostname="c.example")
        with nullcontext() if backend == "threads" else anyio.fail_after(TIMEOUT):
            async with connect(lmtp=server.lmtp, **options) as client:
                assert server.offers - {"AUTH", "STARTTLS"} <= set(client.extensions)
                await test(client)

    try:
        run_in(backend, main)
    except TimeoutError as exc:
        raise AssertionError(f"{server.name} says:\n{server.log()}") from exc


def stored(server: MailServer, marker: str) -> bytes:
    return server.message(marker).partition(b"\n\n")[2]


def test_message_is_delivered_unchanged(backend: str, server: MailServer, marker: str) -> None:
    async def send(client: Client) -> None:
        result = await client.send(
            SENDER, [*RECIPIENTS, "nobody@example.org"], b"Subject: " + marker.encode() + b"\n\n" + TEXT
        )
        assert [str(path) for path in result.accepted] == list(RECIPIENTS)
        assert result["nobody@example.org"].code == 550

    run(backend, server, send)
    assert stored(server, marker) == TEXT + b"\n"


@pytest.mark.parametrize("chunking", [False, True])
def test_message_is_delivered_without_pipelining(backend: str, server: MailServer, marker: str, chunking: bool) -> None:
    async def send(client: Client) -> None:
        body = b"Subject: " + marker.encode() + b"\n\n" + TEXT
        assert (await client.send(SENDER, RECIPIENTS[0], body)).accepted
        assert not (await client.send(SENDER, "nobody@example.org", body)).accepted

    run(backend, server, send, pipelining=False, chunking=chunking)
    assert stored(server, marker) == TEXT + b"\n"


def test_email_message_is_delivered(backend: str, server: MailServer, marker: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, RECIPIENTS[0], f"{marker} grüße"
    mail["Bcc"] = "secret@example.org"
    mail.set_content("Grüße\n.\n")

    async def send(client: Client) -> None:
        assert (await client.send(SENDER, RECIPIENTS[0], mail)).accepted

    run(backend, server, send)
    assert stored(server, marker).decode() == "Grüße\n.\n"
    assert b"secret" not in server.message(marker)


def test_non_ascii_addresses_are_accepted_with_smtputf8(backend: str, server: MailServer, marker: str) -> None:
    if "SMTPUTF8" not in server.offers:
        pytest.skip(f"{server.name} does not offer SMTPUTF8")

    async def send(client: Client) -> None:
        assert (
            await client.send("grüße@client.example", "grüße@example.org", f"Subject: {marker} ü\n\n".encode())
        ).accepted

    run(backend, server, send)
    assert "ü" in server.message(marker).decode()


def test_notify_parameter_is_accepted_with_dsn(backend: str, server: MailServer, marker: str) -> None:
    if "DSN" not in server.offers:
        pytest.skip(f"{server.name} does not offer DSN")

    async def send(client: Client) -> None:
        never = Rcpt(Mailbox(RECIPIENTS[0]), Params({"NOTIFY": frozenset({Notify.NEVER})}))
        result = await client.send(SENDER, [never], f"Subject: {marker}\n\n".encode(), envid=marker)
        assert result.accepted

    run(backend, server, send)
    server.message(marker)


def test_connection_is_reused_after_refusals(backend: str, server: MailServer) -> None:
    markers = [uuid4().hex for _ in range(5)]

    async def send(client: Client) -> None:
        for marker in markers:
            assert not (await client.send(SENDER, "nobody@example.org", b"")).accepted
            assert (await client.send(SENDER, RECIPIENTS[1], [f"Subject: {marker}\n".encode(), b"\n"])).accepted
        assert (await client.noop()).is_positive

    run(backend, server, send)
    for marker in markers:
        server.message(marker)


def test_message_arrives_over_implicit_tls(backend: str, server: MailServer, marker: str) -> None:
    if not server.tls_port:
        pytest.skip(f"{server.name} has no port for implicit TLS")

    async def send(client: Client) -> None:
        assert client.is_verified
        assert (await client.send(SENDER, RECIPIENTS[0], f"Subject: {marker}\n\n".encode())).accepted

    run(backend, server, send, port=server.tls_port, tls=TlsMode.IMPLICIT)
    server.message(marker)


async def do_nothing(client: Client) -> None:
    pass


def test_certificate_of_an_unknown_authority_is_rejected(backend: str, server: MailServer) -> None:
    if "STARTTLS" not in server.offers:
        with pytest.raises(Refused, match="STARTTLS"):
            run(backend, server, do_nothing, tls=TlsMode.REQUIRED)
        return

    with pytest.raises(ssl.SSLCertVerificationError):
        run(backend, server, do_nothing, context=ssl.create_default_context())


def test_wrong_password_is_refused(backend: str, server: MailServer) -> None:
    if "AUTH" not in server.offers:
        pytest.skip(f"{server.name} does not offer AUTH")

    with pytest.raises(AuthenticationRefused, match="535"):
        run(backend, server, do_nothing, auth=(USER, "wrong"))


# In a new process, because the maximum resident set size of a process never shrinks.
SEND_LARGE = """
import asyncio, resource, ssl, sys
from smtpcore_adapters import TlsMode
from smtpcore_adapters.asyncio import connect

port, ca, lmtp, marker, megabytes = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True", sys.argv[4], int(sys.argv[5])
line = b"x" * 76 + b"\\r\\n"

def pieces():
    yield f"Subject: {marker}\\r\\n\\r\\n".encode()
    for _ in range(megabytes * 1_000_000 // len(line) // 1000):
        yield line * 1000

async def main():
    mode = TlsMode.REQUIRED if ca else TlsMode.NONE
    context = ssl.create_default_context(cafile=ca or None)
    async with connect("localhost", port, lmtp=lmtp, tls=mode, context=context) as client:
        await client.send("s@client.example", "a@example.org", b"warm up")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = await client.send("s@client.example", "a@example.org", pieces())
        assert result.accepted, result.final
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""
MEGABYTES = 20


def test_large_body_is_sent_in_constant_memory(server: MailServer, marker: str) -> None:
    arguments = [str(server.port), str(server.ca or ""), str(server.lmtp), marker, str(MEGABYTES)]
    done = subprocess.run(
        [sys.executable, "-c", SEND_LARGE, *arguments], capture_output=True, text=True, timeout=2 * TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8_000, "kilobytes more than before, for 20,000 sent"
    file: Path = server.file(marker)
    assert file.stat().st_size > MEGABYTES * 1_000_000 * 76 // 78 - 100_000
