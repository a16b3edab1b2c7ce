"""Connect to a server: PROXY header, greeting, EHLO, TLS and login."""

import platform
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Unpack

from smtpcore import EXTENSIONS, ClientConfig, LocalProtocolError, Reply, StartTls
from smtpcore.sasl import Channel

from ..streams._stream import Stream
from ._client import Client
from ._driver import ClientDriver, say_hello
from ._login import log_in
from ._options import ConnectOptions, Opener, TlsMode, check_connect_options
from ._results import Refused
from ._timeouts import ClientTimeouts


@asynccontextmanager
async def connected(
    open_stream: Opener, host: str, port: int, **options: Unpack[ConnectOptions]
) -> AsyncGenerator[Client, None]:
    """Connect to a server for the time of an `async with` block, and yield the `Client`.

    Raises:
        OSError: the connection failed or was lost; `ssl.SSLError` if TLS fails, for example for a bad certificate.
        TimeoutError: the server did not reply in time.
        Refused: the server refuses the session, or TLS where TLS is required.
        AuthenticationRefused: the login failed; a subclass of `Refused`.
        RemoteProtocolError: the server's answer is not valid SMTP.
    """
    client = await open_client(open_stream, host, port, **options)
    try:
        yield client
    finally:
        await client.aclose()


async def open_client(open_stream: Opener, host: str, port: int, **options: Unpack[ConnectOptions]) -> Client:
    """Connect to a server; the caller must call `Client.aclose` at the end. Raise as `connected` does."""
    check_connect_options(options)
    timeouts = options.get("timeouts") or ClientTimeouts()
    stream = await open_stream(
        host, port, timeouts.connect, local_address=options.get("local_address"), path=options.get("path")
    )
    try:
        return await _begin_session(stream, host, port, timeouts, options)
    except BaseException:
        await stream.aclose(0)
        raise


async def _begin_session(
    stream: Stream, host: str, port: int, timeouts: ClientTimeouts, options: ConnectOptions
) -> Client:
    mode = options.get("tls", TlsMode.OPPORTUNISTIC)
    driver = ClientDriver(stream, _config(stream, options), timeouts, extensions=options.get("extensions", EXTENSIONS))
    proxy = options.get("proxy")
    if proxy:
        await stream.send(proxy.encode(), timeouts.block)

    is_verified = mode is TlsMode.IMPLICIT and await _start_tls(driver, host, options)
    greeting = await driver.read_greeting()
    _require_positive(greeting, "the server refuses the connection in its greeting")
    _require_positive(await say_hello(driver), f"the server refuses {driver.connection.hello.verb}")
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
        # RFC 3207 4.2
        _require_positive(await say_hello(driver), f"the server refuses {driver.connection.hello.verb} after STARTTLS")
        return is_verified
    if is_required or not driver.is_open:
        raise Refused("the server refuses STARTTLS", reply)

    return False


async def _start_tls(driver: ClientDriver, host: str, options: ConnectOptions) -> bool:
    """Start TLS, and return whether the server's certificate was verified."""
    context = options.get("context") or ssl.create_default_context()
    await driver.start_tls(context, host)
    return context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def _require_positive(reply: Reply, what: str) -> None:
    if not reply.is_positive:
        raise Refused(what, reply)


def _config(stream: Stream, options: ConnectOptions) -> ClientConfig:
    return ClientConfig(
        hostname=options.get("hostname") or _own_name(stream),
        lmtp=options.get("lmtp", False),
        pipelining=options.get("pipelining", True),
        plaintext_auth=options.get("plaintext_auth", False),
        max_text_line=None,  # real mail has lines of more than 1,000 octets; the server decides whether to accept them
    )


def _own_name(stream: Stream) -> str:
    # RFC 5321 4.1.4, 4.1.3: the fully qualified domain of this host, or its address literal if the host has no domain.
    name = platform.node()
    try:
        if "." in name:
            return ClientConfig(hostname=name).hostname
        address = ip_address(stream.local.host if stream.local else "")
    except (LocalProtocolError, ValueError):
        return "localhost"

    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
