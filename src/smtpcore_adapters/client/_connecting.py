"""Connect to a server: PROXY header, greeting, EHLO, TLS and login."""

import os
import platform
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Unpack

from smtpcore import EXTENSIONS, ClientBudgets, ClientConfig, LocalProtocolError, Reply, StartTls
from smtpcore.sasl import Channel

from ..streams._stream import Address, Stream
from ._client import Client
from ._driver import ClientDriver, explained, say_hello
from ._login import log_in
from ._naming import name, naming
from ._options import CONNECT_TIMEOUT, ConnectOptions, Opener, TlsMode, check_connect_options
from ._results import Refused


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
    check_connect_options(options)
    server = options.get("path") or str(Address(host, port))
    timeout = options.get("connect_timeout", CONNECT_TIMEOUT)
    with naming(server), explained(f"no connection within {timeout:g} seconds"):
        stream = await open_stream(
            host, port, timeout, local_address=options.get("local_address"), path=options.get("path")
        )
    try:
        config, extensions = _config(stream, options), options.get("extensions", EXTENSIONS)
        budgets, is_implicit = options.get("budgets") or ClientBudgets(), options.get("tls") is TlsMode.IMPLICIT
        driver = ClientDriver(stream, config, budgets, extensions=extensions, implicit_tls=is_implicit, server=server)
    except BaseException:
        await stream.aclose(0)
        raise

    try:
        return await _begin_session(driver, host, port, options)
    except BaseException as exc:
        if isinstance(exc, Refused):
            name(exc, server)
        await driver.aclose()  # RFC 5321 4.1.1.10: this sends QUIT, if a command can still be sent
        raise


async def _begin_session(driver: ClientDriver, host: str, port: int, options: ConnectOptions) -> Client:
    stream = driver.stream
    mode = options.get("tls", TlsMode.OPPORTUNISTIC)
    proxy = options.get("proxy")
    if proxy:
        await stream.send(proxy.encode(), driver.connection.budgets.send)

    is_verified = mode is TlsMode.IMPLICIT and await _start_tls(driver, host, options)
    greeting = await driver.read_greeting()
    _require_positive(greeting, "the server refuses the connection in its greeting")
    _require_positive(await say_hello(driver), f"the server refuses {driver.connection.hello.verb}")
    if mode in (TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED):
        is_verified = await _secure(driver, host, options, is_required=mode is TlsMode.REQUIRED)

    login = options.get("auth")
    if login:
        bindings = stream.tls.bindings if stream.tls else ()
        channel = Channel(tls=is_verified, bindings=bindings, host=_without_dot(host) or None, port=port or None)
        names = options.get("auth_mechanisms")
        await log_in(driver, login, channel, names=names, plaintext_auth=options.get("plaintext_auth", False))

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
    # A thread makes the default context: loading its certificates would block an event loop for many milliseconds.
    given = options.get("context")
    context: ssl.SSLContext = given if given else await driver.stream.run_blocking(_default_context)
    await driver.start_tls(context, _without_dot(host))
    return context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def _without_dot(host: str) -> str:
    """Return the name of the server for TLS and SASL.

    RFC 6066 section 3: this name has no final dot. The zone of an IPv6 address has a meaning only on this machine.
    """
    return host.partition("%")[0].removesuffix(".")


def _default_context() -> ssl.SSLContext:
    paths = ssl.get_default_verify_paths()
    return _make_context(tuple((path, os.stat(path).st_mtime_ns) for path in (paths.cafile, paths.capath) if path))


@lru_cache(maxsize=1)
def _make_context(certificates: tuple[tuple[str, int], ...]) -> ssl.SSLContext:
    """Return the default context. The cache returns the same context until the system's `certificates` change."""
    return ssl.create_default_context()


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
    # Many servers refuse an address without brackets, and many refuse names such as `localhost.localdomain`.
    name = platform.node().removesuffix(".")
    top_level = name.rpartition(".")[2]
    if "." in name and not top_level.isdigit() and top_level != "localdomain":
        with suppress(LocalProtocolError):  # the name may be no domain, such as "my_host.local"
            return ClientConfig(hostname=name).hostname
    try:
        address = ip_address(stream.local.host.partition("%")[0] if stream.local else "")
    except ValueError:
        return "localhost"

    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"
