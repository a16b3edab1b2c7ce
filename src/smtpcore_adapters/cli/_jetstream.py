"""The destination `nats:`, a stream of NATS JetStream, and the parameters of its URL."""

import logging
import re
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from ..stores import StoreFull, StoreHandler, StoreUnavailable
from ._files import Checking, check_regular, first_line, trusting

if TYPE_CHECKING:
    from ..stores.jetstream import JetStreamOptions

_logger = logging.getLogger("smtpcore")

JETSTREAM_PARAMETERS: Final[Mapping[str, Any]] = {
    "replicas": int,
    "timeout": float,
    "user": str,
    "password_file": str,
    "token_file": str,
    "credentials": str,
    "tls": Literal["none", "required", "first"],
    "tls_ca": str,
    "tls_cert": str,
    "tls_key": str,
}
"""The parameters of the URL, with their types."""
match_servers = re.compile(r"//[^/?#@]+/[\w-]+").fullmatch
_TIME_TO_START = 3.0  # seconds


class Located(Protocol):
    """A destination with the parameters of its URL."""

    @property
    def url(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


def make_jetstream(target: Located, server: Checking) -> object | None:
    """Return the handler that writes messages into a stream. A cluster that cannot be used now is a warning.

    If the server is only checked, the cluster is not asked, and the result is None.
    """
    url, options = jetstream_of(target)
    from ..stores.jetstream import JetStream

    store = JetStream(url, **options)
    if server.is_check:
        return None

    soon: JetStreamOptions = {**options, "timeout": min(options.get("timeout", _TIME_TO_START), _TIME_TO_START)}
    try:
        JetStream(url, **soon).check()
    except (StoreFull, StoreUnavailable) as exc:
        _logger.warning("each message gets a 451 until the destination can be used: %s", exc)

    return StoreHandler(store)


def jetstream_of(target: Located) -> "tuple[str, JetStreamOptions]":
    """Return the URL and the options of the stream that a destination describes. Raises `ValueError` or `OSError`."""
    if find_spec("nats") is None:
        raise ValueError(f"{target.url} needs other packages: pip install 'smtpcore[nats]'")
    given = target.parameters
    if ("user" in given) != ("password_file" in given):
        raise ValueError(f"{target.url}: user and password_file need each other: give both")

    options: JetStreamOptions = {"tls": _context(target), "tls_first": given.get("tls") == "first"}
    if "replicas" in given:
        options["replicas"] = given["replicas"]
    if "timeout" in given:
        options["timeout"] = given["timeout"]
    if "credentials" in given:
        check_regular(given["credentials"])
        options["credentials"] = given["credentials"]
    if "user" in given:
        options |= {"user": given["user"], "password": first_line(given["password_file"])}
    if "token_file" in given:
        options["token"] = first_line(given["token_file"])
    return f"nats:{target.path}", options


def _context(target: Located) -> ssl.SSLContext | None:
    given = target.parameters
    files = [name for name in ("tls_ca", "tls_cert", "tls_key") if name in given]
    mode = given.get("tls", "required" if files else "none")
    if mode == "none":
        if files:
            raise ValueError(f"{target.url}: {files[0]} has no effect with tls=none")
        return None

    for name in files:
        check_regular(given[name])
    context = trusting(given["tls_ca"]) if "tls_ca" in given else ssl.create_default_context()
    if "tls_cert" in given:
        try:
            context.load_cert_chain(given["tls_cert"], given.get("tls_key"))
        except ssl.SSLError as exc:
            raise ValueError(f"tls_cert: {given['tls_cert']} has no certificate with its key in PEM") from exc
    elif "tls_key" in given:
        raise ValueError(f"{target.url}: tls_key has no effect without tls_cert: give both")
    return context
