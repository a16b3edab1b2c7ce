"""Metrics of a server, for Prometheus."""

# With several processes, prometheus_client stores the numbers in files, in the directory that the environment variable
# PROMETHEUS_MULTIPROC_DIR names. The variable must be set before prometheus_client is imported. Counters and histograms
# are then sums over all processes, including those that ended. Open sessions are counted in running processes only.

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from socket import AF_INET6, SHUT_RDWR
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from weakref import WeakKeyDictionary
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from smtpcore import Bdat, ChunkEnd, DataChunk, DataEnd, InvalidData, Reply, ReplyClass, ReplyCode

from ._extras import from_extra
from .server._notifications import (
    HandlerDone,
    LimitReached,
    Observed,
    Refusal,
    SessionClosed,
    SessionOpened,
    TlsEstablished,
    TlsFailed,
)
from .server._session import Session

with from_extra("metrics"):
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
    from prometheus_client.multiprocess import MultiProcessCollector

_logger = logging.getLogger("smtpcore")

_LONG = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 7200)  # seconds; for durations that include waits for the client
_SHORT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)  # seconds; for durations without waits for the client


@dataclass(slots=True)
class _Message:
    begun: float
    ended: bool = False
    at_chunk: bool = False
    """Whether the next reply answers a chunk before the last chunk."""
    accepted: bool = False
    refused: bool = False


class Metrics:
    """An observer that counts events: `app.include(Metrics())`.

    Serve the metrics with `prometheus_client.start_http_server`, or with `metrics_server` for several processes.
    Use one object for all apps of a process. Raises `ValueError` if `registry` already has metrics of these names.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._messages_open: WeakKeyDictionary[Session[Any], _Message] = WeakKeyDictionary()

        self._open = Gauge("smtpcore_open_sessions", "Open sessions", registry=registry, multiprocess_mode="livesum")
        self._opened = Counter("smtpcore_sessions", "Sessions that have started", registry=registry)
        self._closed = Counter("smtpcore_sessions_closed", "Sessions that have ended", ["reason"], registry=registry)
        self._timeouts = Counter("smtpcore_timeouts", "Spent time budgets", ["budget"], registry=registry)
        self._session_time = Histogram(
            "smtpcore_session_seconds", "Durations of sessions", buckets=_LONG, registry=registry
        )
        self._messages = Counter(
            "smtpcore_messages", "Messages: accepted, refused, or aborted by the client", ["outcome"], registry=registry
        )
        self._octets = Counter("smtpcore_message_bytes", "Octets of message bodies", registry=registry)
        self._message_time = Histogram(
            "smtpcore_message_seconds",
            "Time from the start of a body to the reply to the body",
            buckets=_LONG,
            registry=registry,
        )
        self._replies = Counter("smtpcore_replies", "Replies", ["code"], registry=registry)
        self._handler_time = Histogram(
            "smtpcore_handler_seconds",
            "Durations of handlers, without waits for the client",
            ["name"],
            buckets=_SHORT,
            registry=registry,
        )
        self._tls = Counter("smtpcore_tls_handshakes", "TLS handshakes", ["version"], registry=registry)
        self._tls_failures = Counter("smtpcore_tls_failures", "Failed TLS handshakes", registry=registry)
        self._refusals = Counter("smtpcore_refusals", "Negative replies", ["decided_by", "rule"], registry=registry)
        self._limits = Counter("smtpcore_limits_reached", "Limits that clients reached", ["limit"], registry=registry)

    def on_event(self, session: Session[Any], item: Observed) -> None:
        """Count one event of a session."""
        match item:
            case DataChunk(data):
                self._octets.inc(len(data))
                self._begin_message(session)
            case ChunkEnd() | InvalidData():  # a message that cannot be accepted may end with any chunk
                self._begin_message(session).at_chunk = True
            case Bdat():
                self._begin_message(session)
            case DataEnd():
                self._begin_message(session).ended = True
            case Reply():
                self._replies.labels(str(item.code)).inc()
                self._count_message(session, item)
            case HandlerDone(name, seconds):
                self._handler_time.labels(name).observe(seconds)
            case Refusal(_, decided_by, rule):
                self._refusals.labels(decided_by, rule).inc()
            case LimitReached(limit):
                self._limits.labels(limit).inc()
            case TlsEstablished(tls):
                self._tls.labels(tls.version).inc()
            case TlsFailed():
                self._tls_failures.inc()
            case SessionOpened():
                self._open.inc()
                self._opened.inc()
            case SessionClosed(reason, seconds, budget):
                self._finish_message(session)
                self._open.dec()
                self._closed.labels(reason.name.lower()).inc()
                if budget:
                    self._timeouts.labels(budget).inc()
                self._session_time.observe(seconds)

    def _begin_message(self, session: Session[Any]) -> _Message:
        return self._messages_open.setdefault(session, _Message(self._clock()))

    def _count_message(self, session: Session[Any], reply: Reply) -> None:
        if reply.code == ReplyCode.START_MAIL_INPUT:
            self._begin_message(session)
        message = self._messages_open.get(session)
        if message and (message.ended or message.at_chunk):
            # In LMTP there is a reply for each recipient. Each chunk of a message may be refused.
            message.accepted |= message.ended and reply.is_positive
            message.refused |= not reply.is_positive
            message.at_chunk = False
        if session.transaction is None or reply.reply_class is ReplyClass.GOODBYE:
            self._finish_message(session)

    def _finish_message(self, session: Session[Any]) -> None:
        message = self._messages_open.pop(session, None)
        if message:
            outcome = "accepted" if message.accepted else "refused" if message.refused else "aborted"
            self._messages.labels(outcome).inc()
            self._message_time.observe(self._clock() - message.begun)


_MAX_CONNECTIONS = 32  # each is a thread; Prometheus and a few health checks need one for some milliseconds
_MAX_SECONDS = 30.0  # of a connection


class _Server(ThreadingMixIn, WSGIServer):
    """An HTTP server with a thread for each connection.

    Silent clients cannot use up the threads: a further connection than `_MAX_CONNECTIONS` ends the oldest one, and
    after `_MAX_SECONDS` each connection ends.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any, **options: Any) -> None:
        self._begun: dict[Any, float] = {}
        """The time at which each open connection began, the oldest first."""
        self._lock = threading.Lock()
        super().__init__(*args, **options)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # that of HTTPServer waits for the DNS, which may not answer
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._begun[request] = time.monotonic()
        self._end_old()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        self._end_old()  # called twice a second

    def _end_old(self) -> None:
        with self._lock:  # a connection is closed by its thread, after it has left the dictionary
            begun_before = time.monotonic() - _MAX_SECONDS
            surplus = len(self._begun) - _MAX_CONNECTIONS
            for number, (request, begun) in enumerate([*self._begun.items()]):
                if number < surplus or begun < begun_before:
                    del self._begun[request]
                    with suppress(OSError):  # the client has ended the connection
                        request.shutdown(SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._begun.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        # A client that is silent or resets the connection must not fill the log: by default each is a traceback.
        _logger.debug("the request of %s for the metrics failed", client_address, exc_info=True)


class _ServerOnIPv6(_Server):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        pass  # do not log each request of Prometheus


def metrics_server(port: int, *, host: str = "127.0.0.1", is_ready: Callable[[], bool] = lambda: True) -> WSGIServer:
    """Make an HTTP server for the metrics of this process, or of all processes if PROMETHEUS_MULTIPROC_DIR is set.

    `/live` answers 200, and `/ready` answers 200 or 503 as `is_ready` returns. All other paths return the metrics.

    The server is already listening; call its `serve_forever`. Raises `OSError` if the server cannot listen.
    """
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]

    metrics: WSGIApplication = make_wsgi_app(registry)

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path not in ("/live", "/ready"):
            return metrics(environ, start_response)

        is_positive = path == "/live" or is_ready()
        start_response("200 OK" if is_positive else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok\n" if is_positive else b"not ready\n"]

    kind = _ServerOnIPv6 if ":" in host else _Server
    return make_server(host, port, respond, server_class=kind, handler_class=_Handler)
