"""The public functions of the adapters for anyio and trio, and the documentation for all adapters."""

# The other adapters have functions of the same names with their own code, whose docstrings describe only differences.
# `documented_as` adds the docstrings from here, so that `help(smtpcore_adapters.asyncio.serve)` is complete.

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from inspect import getdoc
from typing import Any, TypeVar, Unpack

from .client._client import Client
from .client._connecting import connected
from .client._options import ConnectOptions
from .client._results import SendResult
from .client._sending import OneCallOptions, send_over
from .client._sources import Body
from .server._acceptor import OnReady, OnStop, Server
from .server._app import App
from .server._background import RunningServer, run_until_stopped
from .server._config import Options
from .server._serving import serve_on, serving_on
from .streams._framework import Framework, TaskGroup
from .streams._polled import open_polled_stream
from .streams._stream import HowToConnect, Stream

Function = TypeVar("Function", bound=Callable[..., Any])


class Adapter:
    """The functions of an adapter, built on the functions of its framework."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework

    def serving(self, app: App[Any], port: int = 0, **options: Unpack[Options]) -> AbstractAsyncContextManager[Server]:
        """Serve inside an `async with` block. If the block is cancelled, all sessions are cancelled at once.

        The block gets the `Server`; its `address` has the port that the system picked.

        At the end of the block the server stops accepting connections, and each session ends with a 421 at its next
        command. Sessions that still run after `grace` seconds are cancelled.

        Args:
            app: The handlers.
            port: The TCP port to listen on. With 0, the default, the system picks a free port.
            **options: `host`, `grace`, `tls`, `listeners` and the other options in `smtpcore_adapters.Options`.

        Raises:
            OSError: The server cannot listen on an address, for example because the port is in use.
        """
        return serving_on(self._framework, app, port, **options)

    async def start(self, tasks: TaskGroup, app: App[Any], port: int = 0, **options: Unpack[Options]) -> RunningServer:
        """Start a server as a task of a task group, and return when the server listens.

        `server = await start(tasks, app, port)` starts it, and `await server.stop()` stops it, from any task. When
        `tasks` is cancelled, all sessions are cancelled at once.

        Args:
            tasks: A task group of anyio, or a nursery of trio, whose block ends after the server.
            app: The handlers.
            port: The TCP port to listen on. With 0, the default, the system picks a free port.
            **options: `host`, `grace`, `tls`, `listeners` and the other options in `smtpcore_adapters.Options`.

        Raises:
            OSError: The server cannot listen on an address, for example because the port is in use.
        """
        server: RunningServer = await tasks.start(partial(run_until_stopped, self._framework, app, port, options))
        return server

    async def serve(
        self,
        app: App[Any],
        port: int = 0,
        *,
        on_ready: OnReady = None,
        on_stop: OnStop = None,
        handle_signals: bool = False,
        **options: Unpack[Options],
    ) -> None:
        """Serve until cancelled or, with `handle_signals`, until SIGINT or SIGTERM.

        The server then shuts down as `serving` does at the end of its block.

        Args:
            app: The handlers.
            port: The TCP port to listen on. With 0, the default, the system picks a free port.
            on_ready: Called with the address of the server once the server listens there.
            on_stop: Called at the first signal. Returns the seconds until listening ends; a second signal ends it now.
            handle_signals: Whether SIGINT and SIGTERM end the server; only the main thread can handle signals.
            **options: `host`, `grace`, `tls`, `listeners` and the other options in `smtpcore_adapters.Options`.

        Raises:
            OSError: The server cannot listen on an address, for example because the port is in use.
        """
        await serve_on(
            self._framework, app, port, on_ready=on_ready, on_stop=on_stop, handle_signals=handle_signals, **options
        )

    async def open_stream(self, host: str, port: int, timeout: float, **how: Unpack[HowToConnect]) -> Stream:
        """Connect to a server, and return the byte stream.

        Args:
            host: The host name or IP address of the server. All addresses of a name are tried (RFC 8305).
            port: The TCP port of the server.
            timeout: Seconds for all attempts together.
            **how: `local_address` to connect from, or the `path` of a Unix socket, or a connected `sock`.

        Raises:
            TimeoutError: No connection succeeds within `timeout` seconds.
            OSError: The host is unknown, or no address accepts the connection.
        """
        return await open_polled_stream(self._framework, host, port, timeout, **how)

    def connect(self, host: str, port: int, **options: Unpack[ConnectOptions]) -> AbstractAsyncContextManager[Client]:
        """Connect to a server for an `async with` block, which gets the `Client` that sends mail.

        At the end of the block the client sends QUIT and closes the connection.

        Args:
            host: The host name or IP address of the server. The server's certificate has to be valid for this name.
            port: The TCP port of the server.
            **options: `tls`, `auth`, `budgets` and the other options in `smtpcore_adapters.ConnectOptions`.

        Raises:
            OSError: The server cannot be reached, or the connection is lost; `ssl.SSLError` if TLS fails.
            TimeoutError: The server is too slow.
            Refused: The server refuses the session, or TLS where TLS is required. If the server refuses the login, the
                exception is an `AuthenticationRefused`.
            smtpcore.RemoteProtocolError: The server violates the protocol.
        """
        return connected(self.open_stream, host, port, **options)

    async def send(self, message: Body, *, host: str, port: int = 25, **options: Unpack[OneCallOptions]) -> SendResult:
        """Connect to a server, send one message, and disconnect. Return the decisive reply for each recipient.

        A refusal of the message is a result: `result.raise_for_refused()` makes it an exception.

        Args:
            message: An `EmailMessage`; or a body of another type, with `sender` and `recipients`.
            host: The host name or IP address of the server. The server's certificate has to be valid for this name.
            port: The TCP port of the server, by default 25.
            **options: The options of `connect`, such as `tls` and `auth`, and of `Client.send`, such as `notify`. By
                default the address in Sender, or else the first in From, gets failure reports, and all addresses in To,
                Cc and Bcc are recipients; `sender` and `recipients` replace them. Bcc itself is not sent.

        Raises:
            OSError: The server cannot be reached, or the connection is lost; `ssl.SSLError` if TLS fails.
            TimeoutError: The server is too slow.
            Refused: The server refuses the session, or TLS where TLS is required. If the server refuses the login, the
                exception is an `AuthenticationRefused`.
            Unsendable: The server cannot accept this message.
            smtpcore.LocalProtocolError: The header shows no envelope, or an argument cannot be sent to any server.
            smtpcore.RemoteProtocolError: The server violates the protocol.
        """
        return await send_over(self.open_stream, message, host, port, options)


def documented_as(original: Callable[..., Any], *, without: str = "") -> Callable[[Function], Function]:
    """Append the docstring of `original` to the docstring of the decorated function.

    The first line of `original` is left out. If `without` names a parameter, its line is left out too.
    """

    def document(function: Function) -> Function:
        lines = (getdoc(original) or "").split("\n")[1:]
        more = [line for line in lines if not (without and line.startswith(f"    {without}:"))]
        function.__doc__ = "\n".join([getdoc(function) or "", *more])
        return function

    return document
