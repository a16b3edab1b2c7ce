"""HTTP endpoints for webhooks: a real server with a program that keeps messages, and scripts on a socket."""

import json
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from typing import Any, Final

import pytest

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Endpoint:
    """A program on a real HTTP server. It keeps whole messages, by the path of the request."""

    def __init__(self) -> None:
        self.messages: dict[str, list[bytes]] = {}
        """The messages of each path."""
        self.envelopes: dict[str, list[Any]] = {}
        """The envelopes of each path."""
        self.headers: dict[str, dict[str, str]] = {}
        """The header fields of the last request to each path."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = bytearray()
        while (event := await receive())["type"] == "http.request":
            body += event["body"]
            if not event["more_body"]:
                break
        else:
            return  # the client has closed the connection before the end of the body

        path = scope["path"]
        if headers["content-type"] == "message/rfc822":
            envelope, message = headers["smtp-envelope"].encode(), bytes(body)
        else:
            parts = parts_of(headers["content-type"], bytes(body))
            envelope, message = parts["envelope"], parts["message"]
        self.messages.setdefault(path, []).append(message)
        self.envelopes.setdefault(path, []).append(json.loads(envelope))
        self.headers[path] = headers
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def parts_of(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the parts of a form by name."""
    boundary = content_type.partition("boundary=")[2].encode()
    first, *parts, last = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    found: dict[str, bytes] = {}
    for part in parts:
        header, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'; name="(\w+)"', header)
        assert name
        found[name[1].decode()] = content
    return found


def _serve(program: Any) -> tuple[Any, threading.Thread, str]:
    """Start a real HTTP server in a thread. Return the server, the thread and the URL."""
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(program, lifespan="off", log_level="critical", ws="none", http="h11"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    return server, thread, origin


@contextmanager
def running_program(program: Any) -> Iterator[str]:
    """Run an ASGI program on a real HTTP server, and yield its URL without a path."""
    server, thread, origin = _serve(program)
    try:
        yield origin
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@cache
def _started() -> tuple[Endpoint, str]:
    endpoint = Endpoint()
    return endpoint, _serve(endpoint)[2]


_number: Final = count()


@contextmanager
def running_endpoint() -> Iterator[tuple[Endpoint, str, str]]:
    """Yield the endpoint, a URL, and the path of this URL. The server runs until the end of the process."""
    endpoint, origin = _started()
    path = f"/{next(_number)}"
    yield endpoint, origin + path, path


@contextmanager
def scripted(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """Yield the URL of a server that calls `serve` with its first connection, and then closes the connection."""
    done = threading.Event()

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            try:
                serve(connection)
            except OSError:
                pass  # the client has closed the connection
            finally:
                done.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
            assert done.wait(10)
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # no thread may wait for a connection when the listener is closed
            thread.join(10)
