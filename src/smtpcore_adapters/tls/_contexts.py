"""Make the SSL contexts that servers need, and renew their certificates while they serve."""

# What is read from files is put into contexts of its own, which take the place of the old ones when all of them are
# there: a file that is missing or does not fit leaves everything as it was. The context that a server is given stays
# the same. In each handshake it hands over to the one that the client's words ask for, which OpenSSL lets it do.

import ssl
from collections.abc import Callable, Iterable, Mapping
from os import PathLike

from ._channel_binding import ServerContext

File = str | PathLike[str]


class ServerTls:
    """The TLS of a server: give `context` to it, and call `reload()` when the files have changed.

    TLS 1.2 is the least that is spoken. Raises `OSError` if a file cannot be read, and `ssl.SSLError`, which is one, if
    it is not what it should be.
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
        """Read the files, all of which are PEM.

        Args:
            certificate: the chain of certificates, the server's own first.
            key: its private key, which no password protects.
            names: other chains and keys, for clients that ask for these names (RFC 6066 section 3). `*.example.org`
                stands for all names with one label more than `example.org`.
            choose: called with the name that a client asks for, before `names` is looked into; may return a context
                with another certificate. It is called in the midst of a handshake, and should be quick.
            client_ca: the certificates of those whose word is taken for who a client is. With it, clients are
                asked for a certificate, which they need not have: `session.tls.peer_certificate` is the one that was
                checked, and with the mechanism EXTERNAL they can authenticate with it.
            require_client_certificate: whether there is no session without one.
        """
        if require_client_certificate and client_ca is None:
            raise ValueError("require_client_certificate needs client_ca")

        self._files = (certificate, key)
        self._names = {name.lower(): files for name, files in (names or {}).items()}
        self._choose = choose
        self._client_ca = client_ca
        self.context: ServerContext = _context()
        """For `serve(..., tls=tls.context)`."""
        if client_ca is not None:
            required = require_client_certificate
            self.context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL

        self.reload()
        self.context.sni_callback = self._hand_over

    def reload(self) -> None:
        """Read all files again. Handshakes that begin later use what is in them; sessions go on with what they have.

        Raises as the construction does, and then nothing has changed.
        """
        default = self._load(self._files)
        named = {name: self._load(files) for name, files in self._names.items()}
        self._default, self._named = default, named
        # For those who hand over to it, and for what is asked before there is a handshake.
        self._fill(self.context, self._files)
        self.context.binding = default.binding

    def _load(self, files: tuple[File, File]) -> ServerContext:
        context = _context()
        self._fill(context, files)
        return context

    def _fill(self, context: ssl.SSLContext, files: tuple[File, File]) -> None:
        # A password is never asked for: there may be no one to answer.
        context.load_cert_chain(*files, password=lambda: "")
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = self.context.verify_mode  # which ssl asks whether a certificate was checked

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._context_for(name.lower()) if name else self._default

    def _context_for(self, name: str) -> ssl.SSLContext:
        chosen = self._choose(name) if self._choose else None
        return chosen or self._named.get(name) or self._named.get(f"*.{name.partition('.')[2]}") or self._default


def server_context(certificate: File, key: File, *, client_ca: File | None = None) -> ssl.SSLContext:
    """A context for TLS 1.2 and newer with the certificate chain and the private key in these PEM files.

    `ServerTls` says what `client_ca` is, and makes a context whose certificates can be renewed. Raises `OSError` if a
    file cannot be read, and `ssl.SSLError`, which is one, if it is not what it should be.
    """
    return ServerTls(certificate, key, client_ca=client_ca).context


def self_signed_context(names: Iterable[str]) -> ssl.SSLContext:
    """A context with a certificate, made up on the spot, for these host names and addresses. For tests only.

    Raises `ImportError` if trustme is not installed.
    """
    import trustme

    context = _context()
    trustme.CA().issue_cert(*names).configure_cert(context)
    return context


def _context() -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
