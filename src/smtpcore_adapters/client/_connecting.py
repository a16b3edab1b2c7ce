"""Connect to a server: greeting, EHLO, TLS and login."""

import platform
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Unpack

from smtpcore import ClientConfig, Ehlo, LocalProtocolError, Reply, StartTls
from smtpcore.sasl import Channel

from ..streams._stream import Stream
from ._client import Client
from ._driver import ClientDriver, say_hello
from ._login import log_in
from ._options import ConnectOptions, Opener, TlsMode
from ._results import Refused
from ._timeouts import ClientTimeouts


@asynccontextmanager
async def connected(
    open_stream: Opener, host: str, port: int, **options: Unpack[ConnectOptions]
) -> AsyncGenerator[Client, None]:
    """Connect to a server for the time of an `async with` block, and yield the `Client`.

    Raises:
        OSError: there is no connection, or it is lost; `ssl.SSLError` for a certificate that is not valid.
        TimeoutError: the server is too slow.
        Refused: it denies its service, TLS where that is required, or, as `AuthenticationRefused`, the authentication.
        RemoteProtocolError: what it says is no SMTP.
    """
    client = await open_client(open_stream, host, port, **options)
    try:
        yield client
    finally:
        await client.aclose()


async def open_client(open_stream: Opener, host: str, port: int, **options: Unpack[ConnectOptions]) -> Client:
    """Connect to a server. `Client.aclose` has to be called at the end. Raises as `connected` does."""
    timeouts = options.get("timeouts") or ClientTimeouts()
    stream = await open_stream(
        host, port, timeouts.connect, local_address=options.get("local_address"), path=options.get("path")
    )
    try:
        return await _introduce(stream, host, port, timeouts, options)
    except BaseException:
        await stream.aclose(0)
        raise


async def _introduce(stream: Stream, host: str, port: int, timeouts: ClientTimeouts, options: ConnectOptions) -> Client:
    mode = options.get("tls", TlsMode.OPPORTUNISTIC)
    driver = ClientDriver(stream, _config(stream, options), timeouts)
    proxy = options.get("proxy")
    if proxy:
        await stream.send(proxy.encode(), timeouts.block)

    is_verified = mode is TlsMode.IMPLICIT and await _start_tls(driver, host, options)
    greeting = await driver.listen()
    _demand(greeting, "the server denies its service")
    _demand(await say_hello(driver), "the server refuses to be greeted")
    if mode in (TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED):
        is_verified = await _secure(driver, host, options, is_required=mode is TlsMode.REQUIRED)

    login = options.get("auth")
    if login:
        bindings = stream.tls.bindings if stream.tls else ()
        channel = Channel(tls=is_verified, bindings=bindings, host=host or None, port=port or None)
        await log_in(driver, login, channel, plaintext_auth=options.get("plaintext_auth", False))

    return Client(driver, greeting, host=host, is_verified=is_verified, chunking=options.get("chunking", True))


async def _secure(driver: ClientDriver, host: str, options: ConnectOptions, *, is_required: bool) -> bool:
    if "STARTTLS" not in driver.connection.extensions:
        if is_required:
            raise Refused("the server does not offer STARTTLS")
        return False

    reply = await driver.ask(StartTls())
    if reply.is_positive:
        is_verified = await _start_tls(driver, host, options)
        _demand(await say_hello(driver), "the server refuses to be greeted under TLS")  # RFC 3207 4.2
        return is_verified
    if is_required or not driver.is_open:
        raise Refused("the server does not start TLS", reply)

    return False


async def _start_tls(driver: ClientDriver, host: str, options: ConnectOptions) -> bool:
    """Start TLS, and tell whether the server has proved who it is."""
    context = options.get("context") or ssl.create_default_context()
    await driver.start_tls(context, host)
    return context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def _demand(reply: Reply, what: str) -> None:
    if not reply.is_positive:
        raise Refused(what, reply)


def _config(stream: Stream, options: ConnectOptions) -> ClientConfig:
    return ClientConfig(
        hostname=options.get("hostname") or _own_name(stream),
        lmtp=options.get("lmtp", False),
        pipelining=options.get("pipelining", True),
        plaintext_auth=options.get("plaintext_auth", False),
        max_text_line=None,  # real mail has lines of more than 1,000 octets; it is the server's to say what it takes
    )


def _own_name(stream: Stream) -> str:
    # RFC 5321 4.1.4, 4.1.3: the domain that this client can be found by; if there is none, its address.
    name = platform.node()
    try:
        if "." in name:
            return Ehlo(name).domain
        address = ip_address(stream.local.host if stream.local else "")
    except (LocalProtocolError, ValueError):
        return "localhost"

    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
