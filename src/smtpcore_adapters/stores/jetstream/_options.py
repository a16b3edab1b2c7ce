"""The cluster of NATS servers, and the options of the connection to it."""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack
from urllib.parse import urlsplit

from smtpcore import check_values

from ..._names import check_options

PORT = 4222
"""The default port of a NATS server."""
FORM = "nats://HOST[:PORT][,HOST[:PORT]...]/STREAM"
"""The form of the URL, for help and errors."""
DUPLICATES = 120.0
"""Seconds for which the cluster recognises a message that is published again."""
_LONGEST_AGE = 1e9  # seconds; the cluster counts nanoseconds with 64 bits

_match_server = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?").fullmatch
_match_stream = re.compile(r"[A-Za-z0-9_-]{1,32}").fullmatch


class JetStreamOptions(TypedDict, total=False):
    """The options of `JetStream` and `consume`."""

    replicas: int
    """Minimum copies of each message in the cluster, by default 3. A 250 then means that two servers have it. A server
    without a cluster needs 1."""
    timeout: float
    """Seconds to wait for the acknowledgement of the cluster, by default 30 and at most 100. Within this time the
    message is published again if there is no answer."""
    max_age: float
    """Seconds for which the cluster keeps a message that nobody consumes, by default 14 days. Parts of messages that a
    lost server has left behind are deleted after this time, too."""
    user: str | None
    """The user to log in as; by default none."""
    password: str | None
    """The password of `user`."""
    token: str | None
    """The token to log in with, in place of `user`."""
    credentials: str | None
    """The path of a file with the credentials of a user: a JWT and a seed. Needs the package `nkeys`."""
    tls: ssl.SSLContext | None
    """The TLS context; by default no TLS. With a context, nothing is sent to a server without TLS."""
    tls_first: bool
    """Whether TLS begins before the server's first line, as with `handshake_first` of the server. By default false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A stream of a cluster, and how to connect to the cluster."""

    servers: tuple[str, ...]
    """The servers, each a host and a port."""
    stream: str
    """The name of the stream with the records of the messages."""
    replicas: int = 3
    """Minimum copies of each message."""
    timeout: float = 30.0
    """Seconds to wait for an acknowledgement."""
    max_age: float = 14 * 86400.0
    """Seconds after which the cluster deletes a message."""
    user: str | None = None
    """The user to log in as."""
    password: str | None = field(default=None, repr=False)
    """The password of the user."""
    token: str | None = field(default=None, repr=False)
    """The token to log in with."""
    credentials: str | None = None
    """The path of a file of credentials."""
    tls: ssl.SSLContext | None = None
    """The TLS context."""
    tls_first: bool = False
    """Whether TLS begins before the server's first line."""

    def __post_init__(self) -> None:
        for name in ("replicas", "timeout", "max_age"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be more than 0")
        if self.timeout > DUPLICATES - 20:
            raise ValueError(f"timeout is {self.timeout:g}: it must be at most 100 seconds, for duplicates to be found")
        if self.max_age > _LONGEST_AGE:
            raise ValueError(f"max_age is {self.max_age:g}: it must be at most {_LONGEST_AGE:.0f} seconds")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password need each other: give both")
        if sum(each is not None for each in (self.user, self.token, self.credentials)) > 1:
            raise ValueError("user, token and credentials exclude each other: give one of them")
        if self.tls_first and not self.tls:
            raise ValueError("tls_first has no effect without tls: give both")

    def __str__(self) -> str:
        return f"nats://{','.join(self.servers)}/{self.stream}"

    @property
    def bodies(self) -> str:
        """The name of the stream with the chunks of long bodies."""
        return f"{self.stream}_bodies"


def cluster_of(url: str, **options: Unpack[JetStreamOptions]) -> Cluster:
    """Return the cluster of a URL.

    Raises `ValueError` for another URL or an impossible value, `TypeError` for an unknown option or a wrong type, and
    `OSError` if the credentials cannot be read.
    """
    check_options("an option of JetStream", options, JetStreamOptions.__annotations__)
    check_values(options, JetStreamOptions, secret=("password", "token"))
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("a login does not belong in a URL: use the options user and password, token or credentials")

    servers = parts.netloc.split(",")
    stream = parts.path.removeprefix("/")
    is_complete = parts.scheme == "nats" and not (parts.query or parts.fragment)
    if not is_complete or not all(map(_match_server, servers)) or not _match_stream(stream):
        raise ValueError(f"{url!r} does not have the form {FORM}")

    credentials = options.get("credentials")
    if credentials is not None:
        Path(credentials).read_bytes()  # the library reads the file only when a server asks for a login
    return Cluster(servers=tuple(map(_with_port, servers)), stream=stream, **options)


def _with_port(server: str) -> str:
    has_port = ":" in server.rpartition("]")[2]
    return server if has_port else f"{server}:{PORT}"
