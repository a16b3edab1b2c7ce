"""TLS contexts for servers, renewal of their certificates, and the results of a handshake."""

from smtpcore import show_texts

from ._contexts import File, ServerTls, self_signed_context, server_context

__all__ = ["File", "ServerTls", "self_signed_context", "server_context"]

show_texts(globals())
