"""TLS contexts for servers, certificates that can be renewed, and facts about a finished handshake."""

from ._contexts import File, ServerTls, self_signed_context, server_context

__all__ = ["File", "ServerTls", "self_signed_context", "server_context"]
