"""Connect to a server, and set up the session."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Unpack

from smtpcore import EXTENSIONS, ClientBudgets, ClientConfig

from ..streams._stream import Address, Stream
from ._client import Client
from ._domains import ehlo_name, host_in_ascii
from ._driver import ClientDriver, explained
from ._naming import naming
from ._options import CONNECT_TIMEOUT, ConnectOptions, Opener, TlsMode, check_connect_options, default_tls
from ._setup import Setup


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
    """Connect to a server; the caller must call `Client.aclose` at the end. Raises the same errors as `connected`."""
    check_connect_options(host, port, options)
    server = options.get("path") or str(Address(host, port))
    stream = options.get("stream") or await _open(open_stream, host, port, server, options)
    try:
        config, extensions = _config(stream, options), options.get("extensions", EXTENSIONS)
        budgets, watched = options.get("budgets") or ClientBudgets(), options.get("observer")
        mode = options.setdefault("tls", default_tls(port, options.get("path")))
        has_tls = mode is TlsMode.IMPLICIT or stream.tls is not None
        driver = ClientDriver(
            stream, config, budgets, extensions=extensions, implicit_tls=has_tls, server=server, observer=watched
        )
    except BaseException:
        await stream.aclose(0)
        raise

    try:
        setup = Setup(driver, host, port, server, options)
        return Client(setup, await setup.begin(), chunking=options.get("chunking", True))
    except BaseException:
        await driver.aclose()  # RFC 5321 4.1.1.10: this sends QUIT, if a command can still be sent
        raise


async def _open(open_stream: Opener, host: str, port: int, server: str, options: ConnectOptions) -> Stream:
    timeout = options.get("connect_timeout", CONNECT_TIMEOUT)
    sock = options.get("sock")
    # Only the `open_stream` of an adapter knows `sock`, so other functions need not have this parameter.
    how: dict[str, Any] = {"local_address": options.get("local_address"), "path": options.get("path")}
    with naming(server), explained(f"no connection within {timeout:g} seconds"):
        return await open_stream(host_in_ascii(host), port, timeout, **(how if sock is None else {"sock": sock}))


def _config(stream: Stream, options: ConnectOptions) -> ClientConfig:
    return ClientConfig(
        hostname=ehlo_name(options.get("hostname"), stream.local),
        lmtp=options.get("lmtp", False),
        pipelining=options.get("pipelining", True),
        plaintext_auth=options.get("plaintext_auth", False),
        max_text_line=None,  # real mail has lines of more than 1,000 octets; the server decides whether to accept them
    )
