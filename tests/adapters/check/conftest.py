"""The client of the checks does not wait: a server of a test that waits for input sends nothing by itself."""

import socket
import ssl
import time
from contextlib import suppress

import pytest

from smtpcore_adapters.check import _raw_client
from smtpcore_adapters.check._raw_client import RawClient
from tests.adapters.peers import PEERS, is_readable


@pytest.fixture(autouse=True)
def without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """End each timeout and each pause as soon as the server of the test (`Peer`) waits for input."""
    receive, pause = _raw_client.receive, RawClient.pause

    def receive_or_time_out(connection: socket.socket, timeout: float) -> bytes:
        peer = PEERS.get(connection.getsockname())
        if peer is None:
            return receive(connection, timeout)

        connection.setblocking(False)
        while True:
            is_idle = peer.is_idle()
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                return connection.recv(65_536)
            if is_idle:
                raise TimeoutError
            time.sleep(0)

    def wait_for_peer(client: RawClient) -> None:
        peer = PEERS.get(client._socket.getsockname())
        if peer is None:
            pause(client)
            return
        while not (peer.is_idle() or is_readable(client._socket)):
            time.sleep(0)

    monkeypatch.setattr(_raw_client, "receive", receive_or_time_out)
    monkeypatch.setattr(RawClient, "pause", wait_for_peer)
