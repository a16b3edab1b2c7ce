"""A program that serves the small server on a port."""

import socket

from .servers import SmallServer, SocketServer


def main(port: int) -> None:
    """Serve until the process is stopped."""
    SmallServer.delivered = []
    with socket.create_server(("127.0.0.1", port)) as listener:
        SocketServer(listener, SmallServer).run()
