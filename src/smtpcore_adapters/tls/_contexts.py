"""SSL contexts for servers, and the renewal of their certificates while the server runs."""

# The certificates are loaded into contexts of their own. New contexts replace the old contexts only when all files are
# loaded, so that a missing or wrong file changes nothing. The server always uses the same context, `ServerTls.context`.
# In each handshake, its SNI callback switches to the context for the name that the client sent.

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from os import PathLike

from smtpcore.sasl import ChannelBinding

from ._channel_binding import ServerContext

File = str | PathLike[str]
_match_name = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*", re.ASCII).fullmatch


class ServerTls:
    """The certificates of a server: pass `context` to the server, and call `reload()` when the files have changed.

    The minimum version is TLS 1.2. Raises `OSError` if a file cannot be read, and `ssl.SSLError`, which is an
    `OSError`, if the content of a file is not valid. Raises `ValueError` for a wrong name in `names`.
    """

    def __init__(
        self,
        certificate: File,
        key: File,
        *,
        names: Mapping[str, tuple[File, File]] | None = None,
        choose: Callable[[str], ssl.SSLContext | None] | None = None,
        client_ca: File | None = None,
        require_client_certificate: bool = False,
    ) -> None:
        """Load the files, which are in PEM format.

        Args:
            certificate: The certificate chain, with the server's own certificate first.
            key: The private key, without a password.
            names: Other chains and keys, by the server name that a client asks for (RFC 6066 section 3).
                `*.example.org` stands for all names with one more label than `example.org`.
            choose: Called with the server name that a client asks for, before the lookup in `names`; may return a
                context with another certificate. The call is part of the handshake, so it has to be quick. If the
                context has a higher `minimum_version`, or requires a client certificate, other handshakes fail.
            client_ca: The CA certificates that verify client certificates. With `client_ca`, the server asks clients
                for a certificate; the client may send none. `session.tls.peer_certificate` is the verified certificate,
                and the SASL mechanism EXTERNAL authenticates with it.
            require_client_certificate: Whether the handshake fails without a client certificate.
        """
        if require_client_certificate and client_ca is None:
            raise ValueError("require_client_certificate needs client_ca")
        for name in names or {}:
            if _match_name(name) is None:
                raise ValueError(f"names: no client asks for {name!r}: write a host name in ASCII, or *.example.org")

        self._files = (certificate, key)
        self._names = {name.lower(): files for name, files in (names or {}).items()}
        if len(self._names) < len(names or {}):
            raise ValueError("names: two names differ only in upper and lower case")
        self._choose = choose
        self._client_ca = client_ca
        self.context: ServerContext = _context()
        """The context of the server: `serve(..., tls=tls.context)`."""
        if client_ca is not None:
            required = require_client_certificate
            self.context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL

        self._bindings: list[ChannelBinding | None] | None = None
        self.reload()
        self.context.sni_callback = self._hand_over

    def reload(self) -> None:
        """Load all files again, for the handshakes that begin later; running sessions are not affected.

        If a certificate has changed, or with `client_ca`, no earlier TLS session is resumed after the call. Raises the
        same errors as the constructor. After an error, the old certificates stay in use.
        """
        default = self._load(self._files)
        named = {name: self._load(files) for name, files in self._names.items()}
        self._default, self._named = default, named
        # Also load the default files into `context` itself: other contexts may switch to it in their `sni_callback`,
        # and the server reads `binding` before any handshake.
        self._fill(self.context, self._files)
        self.context.binding = default.binding
        bindings = [each.binding for each in (default, *named.values())]
        if self._client_ca is not None or self._bindings not in (None, bindings):
            # In a resumed session, the client binds SCRAM -PLUS to the certificate that the server has shown in the
            # first handshake. And the client's own certificate was verified in the first handshake, perhaps by an
            # authority that was removed since then.
            self.context.successor = self._load(self._files)
        self._bindings = bindings

    def _load(self, files: tuple[File, File]) -> ServerContext:
        context = _context()
        self._fill(context, files)
        return context

    def _fill(self, context: ssl.SSLContext, files: tuple[File, File]) -> None:
        # Without this empty password, OpenSSL would ask for the password of an encrypted key on the terminal.
        context.load_cert_chain(*files, password=lambda: "")
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            # `getpeercert` depends on the `verify_mode` of the context that the handshake has switched to.
            context.verify_mode = self.context.verify_mode

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._context_for(name.lower()) if name else self._default

    def _context_for(self, name: str) -> ssl.SSLContext:
        chosen = self._choose(name) if self._choose else None
        return chosen or self._named.get(name) or self._named.get(f"*.{name.partition('.')[2]}") or self._default


def server_context(certificate: File, key: File, *, client_ca: File | None = None) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and newer, with the certificate chain and the private key from these PEM files.

    `ServerTls` makes a context whose certificates can be renewed, and describes `client_ca` and the errors.
    """
    return ServerTls(certificate, key, client_ca=client_ca).context


def self_signed_context(names: Iterable[str]) -> ssl.SSLContext:
    """Return a context with a newly made certificate for these host names and addresses. For tests only.

    Raises `ImportError` if trustme is not installed.
    """
    import trustme

    context = _context()
    trustme.CA().issue_cert(*names).configure_cert(context)
    return context


def _context() -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The default is two tickets, for clients that open several connections at once. A ticket takes a tenth of the CPU
    # time of a handshake with a P-256 certificate, and 255 octets.
    context.num_tickets = 1
    return context
