"""A store that sends each message to an HTTP endpoint while the message arrives.

The package h11 is needed: `pip install 'smtpcore[webhook]'`.
"""

# Two forms of the request. `raw` has the message as its body, and the envelope as JSON in one header field. JSON in
# ASCII is one line without control characters, so no address can add a field. `multipart` has the parts `envelope`,
# `message` and, with a secret, `signature`.
#
# The signature can be computed only when the message has ended. So it is the last part, or a trailer field of `raw`.
# Its time is the end of the message too, so a receiver can refuse old requests, however long the message took.

import hmac
import json
import re
import secrets
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from smtpcore import Config, LocalProtocolError, Reply, __version__, show_texts
from smtpcore.trace import MAX_HOPS

from .._extras import from_extra
from ..server._message import Message
from ..server._session import Session
from ..streams._blocking import open_blocking_stream
from ..streams._socket_stream import complete
from ..streams._stream import Stream, is_loopback
from ._envelope import Envelope
from ._handler import StoreHandler, logger
from ._store import Runtime, StoreRefusal, StoreUnavailable, Writer

with from_extra("webhook"):
    from ._http import Answer, Exchange, Headers

_BLOCK_SIZE = 65_536
"""Octets of a block: a slow client then leaves the endpoint without input for a shorter time."""
_PORTS: Final = {"http": 80, "https": 443}
_TIME_TO_CHECK = 5.0  # seconds for each step of the check at the start
_MOST_WAIT = 1.0  # seconds that the start of the server waits for this check

_LONGEST = 1_000_000.0  # seconds; sockets have no infinite number

_NOT_ABOUT_THE_MESSAGE = frozenset({401, 404, 405, 407, 408, 411, 414, 417, 421, 425, 426, 429, 431})
"""4yz statuses that say something about the endpoint, its configuration or its load, not about the message.

A wrong URL or token must not make every sender give up, so the client gets a 451.
"""
_DUPLICATE: Final = 409
_TOO_LARGE: Final = 413
_MAX_HEADER = 7_500
"""Maximum octets of an envelope in a header field. Common servers accept fields of 8,190 octets or more."""
_MAX_RECIPIENTS = 100  # RFC 5321 4.5.3.1.8: a server has to accept at least this number
_match_url = re.compile(
    r"https?://(?:\[[\da-f:.]+\]|[\w.-]+)(?::\d{1,5})?(?:[/?][!-\"$-~]*)?", re.ASCII | re.I
).fullmatch
_not_printable = re.compile(r"[^ -~]+")


class Webhook:
    """A store that sends every message to an HTTP endpoint: `app.include(Webhook("https://api.example.org/mail"))`.

    Each message is a POST request on a connection of its own, and its body is sent while the message arrives. The
    status of the answer decides: 2xx is a 250, 409 (a duplicate) is a 250, other 4xx are a 5yz with the first line of
    the answer, and all others are a 451. So are statuses such as 401, 404 and 429, which say something about the
    endpoint. Redirects are not followed, and proxies in environment variables are not used.
    `docs/stores.md` describes the request, the signature and the answer.

    Raises `ValueError` for a wrong URL or option.
    """

    def __init__(
        self,
        url: str,
        *,
        format: Literal["raw", "multipart"] = "raw",
        secret: str | bytes | None = None,
        token: str | None = None,
        allow_http: bool = False,
        context: ssl.SSLContext | None = None,
        connect_timeout: float = 10.0,
        timeout: float = 60.0,
        max_hops: int = MAX_HOPS,
    ) -> None:
        """Configure the endpoint.

        Args:
            url: the URL of the endpoint, without login and fragment.
            format: `"raw"` for the message as the body of the request, `"multipart"` for a form.
            secret: the key of the signature (HMAC-SHA256); without a secret the requests are not signed.
            token: the token of `Authorization: Bearer`.
            allow_http: whether `http://` is allowed for hosts other than loopback addresses.
            context: the TLS settings, by default those of `ssl.create_default_context()`.
            connect_timeout: seconds to connect, and again for the TLS handshake.
            timeout: seconds to send a block, and again for the whole answer.
            max_hops: maximum `Received:` fields; a message with more fields is refused as a mail loop.
        """
        parts = _checked(url, allow_http)
        if format not in ("raw", "multipart"):
            raise ValueError(f'format is {format!r}: it must be "raw" or "multipart"')
        if not (0 < connect_timeout <= _LONGEST and 0 < timeout <= _LONGEST):
            raise ValueError(f"connect_timeout and timeout must be greater than 0, and at most {_LONGEST:.0f}")
        _check_secrets(secret, token)

        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._authority = parts.netloc
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._token = token
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._is_multipart = format == "multipart"
        self._check: threading.Thread | None = None
        self.handler: StoreHandler = StoreHandler(self, max_hops=max_hops, block_size=_BLOCK_SIZE)
        """The handler that writes messages into this store; also for messages without a session."""
        self.origin: str = f"{parts.scheme}://{parts.netloc}"
        """The URL without its path, which may be a secret: the name of the endpoint in the log."""

    def on_config(self, config: Config) -> Config:
        """Log a warning if the endpoint cannot be reached when the server starts.

        With the format `raw`, the server accepts at most 100 recipients for each message, so that the envelope fits
        into a header field.
        """
        # In a thread, because the caller may run an event loop, which the connecting would block.
        if self._check is None:
            self._check = threading.Thread(target=self._check_endpoint, daemon=True)
            self._check.start()
            self._check.join(_MOST_WAIT)

        return config if self._is_multipart else replace(config, max_recipients=_MAX_RECIPIENTS)

    async def on_message(self, session: Session[Any], message: Message) -> Reply | list[Reply]:
        """Send `message` to the endpoint, and return the reply that its answer means."""
        return await self.handler.on_message(session, message)

    async def open(self, envelope: Envelope, runtime: Runtime) -> Writer:
        """Connect to the endpoint, and send the header of a request."""
        form = (_Multipart if self._is_multipart else _Raw)(envelope, self._secret)
        try:
            stream = await self._connect(runtime.open_stream, self._connect_timeout)
        except OSError as exc:
            raise StoreUnavailable(f"{self.origin}: {exc}") from exc

        writer = _WebhookWriter(envelope, form, Exchange(stream, self._timeout), self.origin)
        try:
            await writer.begin(self._target, [*self._headers(), ("Idempotency-Key", _key_of(envelope))])
        except BaseException:
            with runtime.shield(1.0):
                await writer.abort()
            raise

        return writer

    def _headers(self) -> Headers:
        headers = [("Host", self._authority), ("User-Agent", f"smtpcore/{__version__}"), ("Connection", "close")]
        headers.append(("Accept", "application/json, text/plain"))
        return [*headers, ("Authorization", f"Bearer {self._token}")] if self._token else headers

    async def _connect(self, open_stream: Callable[..., Any], timeout: float) -> Stream:
        stream: Stream = await open_stream(self._host, self._port, timeout)
        if self._context:
            try:
                await stream.start_tls(self._context, timeout, server_name=self._host)
            except BaseException:
                await stream.aclose(0)
                raise

        return stream

    def _check_endpoint(self) -> None:
        try:
            stream = complete(self._connect(open_blocking_stream, min(self._connect_timeout, _TIME_TO_CHECK)))
        except OSError as exc:
            logger.warning("%s cannot be reached; messages get a 451 until it can: %s", self.origin, exc)
        else:
            complete(stream.aclose(0))


def _key_of(envelope: Envelope) -> str:
    # A queue may try again for some of the recipients only, and the endpoint must not take this for a duplicate.
    text = "".join(f"{rcpt}\n" for rcpt in envelope.recipients)
    return sha256(f"{envelope.key}\n{text}".encode()).hexdigest()[:32]


def _check_secrets(secret: str | bytes | None, token: str | None) -> None:
    if token is not None and (not token or _not_printable.search(token)):
        raise ValueError("the token must be printable ASCII")
    if secret is not None and not secret:
        raise ValueError("the secret must not be empty")


def _checked(url: str, allow_http: bool) -> SplitResult:
    """Return the parts of the URL of an endpoint. Raises `ValueError`."""
    parts = urlsplit(url)
    if parts.username is not None:
        raise ValueError("a login does not belong in a URL: use token")
    if not _match_url(url) or not parts.hostname or parts.port == 0:
        raise ValueError("the URL of a webhook has the form https://HOST:PORT/PATH")
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname)):
        raise ValueError("http:// is allowed for loopback addresses only: use https://, or allow_http")

    return parts


class _Form(ABC):
    """The form of a request: its header, and the octets around the message."""

    def __init__(self, envelope: Envelope, secret: bytes | None) -> None:
        facts = {name: value for name, value in envelope.as_json().items() if name != "received"}
        # A DEL is the only control character that JSON in ASCII leaves as it is.
        self.envelope: str = json.dumps(facts, separators=(",", ":")).replace("\x7f", "\\u007f")
        self._hash = hmac.new(secret, self.envelope.encode() + b"\n", sha256) if secret else None

    def update(self, block: bytes) -> None:
        """Add a block of the message to the signature."""
        if self._hash:
            self._hash.update(block)

    def signature(self) -> str:
        """Return the signature of the whole message, empty without a secret."""
        if not self._hash:
            return ""

        now = str(int(time.time()))
        self._hash.update(b"\n" + now.encode())
        return f"t={now},v1={self._hash.hexdigest()}"

    @abstractmethod
    def headers(self) -> Headers:
        """Return the header fields of this form."""

    def top(self) -> bytes:
        """Return the octets before the message."""
        return b""

    @abstractmethod
    def end(self) -> tuple[bytes, Headers]:
        """Return the octets after the message, and the trailer fields."""


class _Raw(_Form):
    def __init__(self, envelope: Envelope, secret: bytes | None) -> None:
        super().__init__(envelope, secret)
        if len(self.envelope) > _MAX_HEADER:
            raise StoreUnavailable(f"the envelope has {len(self.envelope)} octets: use the format multipart")

    def headers(self) -> Headers:
        headers = [("Content-Type", "message/rfc822"), ("Transfer-Encoding", "chunked")]
        headers.append(("Smtp-Envelope", self.envelope))
        return [*headers, ("Trailer", "Smtp-Signature")] if self._hash else headers

    def end(self) -> tuple[bytes, Headers]:
        return b"", [("Smtp-Signature", signature)] if (signature := self.signature()) else []


class _Multipart(_Form):
    def __init__(self, envelope: Envelope, secret: bytes | None) -> None:
        super().__init__(envelope, secret)
        self._boundary = secrets.token_hex(16)  # random, so a message cannot contain this line

    def headers(self) -> Headers:
        kind = f"multipart/form-data; boundary={self._boundary}"
        return [("Content-Type", kind), ("Transfer-Encoding", "chunked")]

    def top(self) -> bytes:
        envelope = self._part('name="envelope"', "application/json") + self.envelope
        return (envelope + self._part('name="message"; filename="message.eml"', "message/rfc822")).encode()[2:]

    def end(self) -> tuple[bytes, Headers]:
        signature = self.signature()
        part = self._part('name="signature"', "text/plain") + signature if signature else ""
        return f"{part}\r\n--{self._boundary}--\r\n".encode(), []

    def _part(self, name: str, kind: str) -> str:
        return f"\r\n--{self._boundary}\r\nContent-Disposition: form-data; {name}\r\nContent-Type: {kind}\r\n\r\n"


class _WebhookWriter:
    """A message that is being sent to the endpoint."""

    def __init__(self, envelope: Envelope, form: _Form, exchange: Exchange, origin: str) -> None:
        self._envelope = envelope
        self._form = form
        self._exchange = exchange
        self._origin = origin
        self._is_duplicate = False
        """Whether the endpoint has answered 409, so that it needs no more of the message."""

    async def begin(self, target: str, headers: Headers) -> None:
        """Send the header of the request, and the octets before the message."""
        try:
            await self._exchange.begin(target, [*headers, *self._form.headers()])
        except OSError as exc:
            raise self._failed(exc) from exc

        await self._send(self._form.top())

    async def write(self, block: bytes) -> None:
        """Send a block of the message."""
        self._form.update(block)
        await self._send(block)

    async def commit(self) -> str | Sequence[Reply]:
        """Send the end of the request, and return what the answer says."""
        octets, trailers = self._form.end()
        await self._send(octets)
        if self._is_duplicate:
            await self._exchange.aclose()
            return self._envelope.id

        try:
            answer = await self._exchange.finish(trailers)
            await self._check(answer)
            is_json = answer.content_type == "application/json" and not self._is_duplicate
            results = self._results(await self._exchange.read()) if is_json else None
        except (OSError, StoreUnavailable) as exc:
            raise self._failed(exc) from exc

        await self._exchange.aclose()
        return results or self._envelope.id

    async def abort(self) -> None:
        """Close the connection before the end of the request."""
        await self._exchange.aclose()

    async def _send(self, octets: bytes) -> None:
        if self._is_duplicate or not octets:
            return

        try:
            answer = await self._exchange.send(octets)
            if answer:
                await self._check(answer)
                if not self._is_duplicate:
                    raise StoreUnavailable(f"answered {answer.status} before the end of the message")
        except (OSError, StoreUnavailable) as exc:
            raise self._failed(exc) from exc

    async def _check(self, answer: Answer) -> None:
        """Raise the error that an answer other than 2xx means."""
        status = answer.status
        self._is_duplicate = status == _DUPLICATE
        if 200 <= status < 300 or self._is_duplicate:
            return

        line = await self._exchange.read_line() if answer.content_type in ("text/plain", "") else b""
        text = _not_printable.sub(" ", line.decode("utf-8", "replace"))[:480].strip()
        if 300 <= status < 400:
            raise StoreUnavailable(f"answered {status}: redirects are not followed")
        if status >= 500 or status in _NOT_ABOUT_THE_MESSAGE:
            raise StoreUnavailable(f"answered {status} {text}".rstrip())
        if status == _TOO_LARGE:
            raise StoreRefusal(Reply(552, text or "The message is too large", enhanced="5.3.4"))

        raise StoreRefusal(Reply(550, text or f"The message was refused (HTTP {status})", enhanced="5.7.1"))

    def _results(self, body: bytes) -> Sequence[Reply]:
        """Return the results of the recipients in the answer, empty if it has no results."""
        try:
            results = _results_in(json.loads(body))
            replies = None if results is None else [_reply(result) for result in results]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, LocalProtocolError) as exc:
            raise StoreUnavailable(f"answered with JSON that has no valid results: {exc!r:.200}") from exc

        if replies is not None and len(replies) != len(self._envelope.recipients):
            text = f"answered with {len(replies)} results for {len(self._envelope.recipients)} recipients"
            raise StoreUnavailable(text)

        return replies or []

    def _failed(self, exc: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self._origin}: {exc}")


def _results_in(value: object) -> list[Any] | None:
    """Return the results, or None for another value. Raises `TypeError` for results that are not a list."""
    if not isinstance(value, dict) or "results" not in value:
        return None

    results: object = value["results"]
    if not isinstance(results, list):
        raise TypeError("the results are not a list")

    return results


def _reply(result: Mapping[str, Any]) -> Reply:
    code, text, enhanced = result["code"], result.get("text", ""), result.get("enhanced")
    if not isinstance(code, int) or code // 100 not in (2, 4, 5) or not isinstance(text, str):
        raise ValueError(f"{result!r:.200} is not a result")

    text = _not_printable.sub(" ", text)[:480].strip() or ("Accepted" if code < 300 else "Refused")
    return Reply(code, text, enhanced=enhanced)


show_texts(globals())
