"""Byte streams: the interface that sessions use, sockets polled by a framework, and TLS without I/O."""
