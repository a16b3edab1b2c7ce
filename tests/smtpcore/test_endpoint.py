"""The part of a connection that server and client share."""

from collections.abc import Callable
from typing import Any

import pytest

from smtpcore import (
    ClientConnection,
    Connection,
    ConnectionClosed,
    LocalProtocolError,
    Noop,
    RemoteProtocolError,
    Reply,
    StartTls,
    State,
)

from ..helpers import public_properties
from ..playbook import READY, client, new_client, new_server, server

Endpoint = Connection | ClientConnection


def server_ready() -> Endpoint:
    return server(READY, starttls=True).connection


def client_ready() -> Endpoint:
    return client("STARTTLS").connection


def server_before_tls() -> Endpoint:
    return server(READY + b"STARTTLS\r\n", starttls=True).connection


def client_before_tls() -> Endpoint:
    return client("STARTTLS").ask(StartTls()).send(b"220 go\r\n").connection


def server_with_output() -> Endpoint:
    conn = server(READY).connection
    conn.receive_data(b"NOOP\r\n")
    conn.next_event()
    conn.send(Reply(250))
    return conn


def client_with_output() -> Endpoint:
    conn = client().connection
    conn.send(Noop())
    return conn


ready = pytest.mark.parametrize("make", [server_ready, client_ready])
before_tls = pytest.mark.parametrize("make", [server_before_tls, client_before_tls])
with_output = pytest.mark.parametrize("make", [server_with_output, client_with_output])
unused = pytest.mark.parametrize(
    "make", [lambda: new_server(starttls=True).connection, lambda: new_client().connection], ids=["server", "client"]
)
implicit = pytest.mark.parametrize(
    "make",
    [lambda: new_server(implicit_tls=True).connection, lambda: new_client(implicit_tls=True).connection],
    ids=["server", "client"],
)

Make = Callable[[], Endpoint]


@unused
def test_new_endpoint_is_connected_and_has_no_data_about_the_peer(make: Make) -> None:
    conn = make()

    assert (conn.state, conn.tls, conn.authenticated) == (State.CONNECTED, False, False)
    assert (conn.helo, conn.transaction, conn.trailing_data, conn.data_to_send()) == (None, None, b"", b"")


@with_output
def test_data_to_send_is_returned_only_once(make: Make) -> None:
    conn = make()

    assert conn.data_to_send().endswith(b"\r\n")
    assert conn.data_to_send() == b""


@with_output
def test_failed_write_discards_the_output_and_closes_the_connection(make: Make) -> None:
    conn = make()
    conn.send_failed()

    assert (conn.state, conn.data_to_send()) == (State.CLOSED, b"")
    assert conn.next_event() == ConnectionClosed()


@ready
def test_end_of_stream_is_final(make: Make) -> None:
    conn = make()
    conn.receive_data(b"")
    conn.receive_data(b"250 OK\r\n")

    assert conn.trailing_data == b""
    assert conn.next_event() == ConnectionClosed()
    conn.receive_data(b"250 OK\r\n")
    assert conn.trailing_data == b""


@ready
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_received_octets_of_any_type_are_copied(make: Make, kind: Any) -> None:
    conn = make()
    data = bytearray(b"25")
    conn.receive_data(kind(data))
    data[:] = b"xx"

    assert conn.trailing_data == b"25"


@before_tls
def test_plaintext_before_the_handshake_is_a_remote_error(make: Make) -> None:
    """R3207-4.2-03, R3207-4.2-05"""
    conn = make()

    with pytest.raises(RemoteProtocolError, match="before TLS"):
        conn.receive_data(b"250 injected\r\n")
    assert conn.state is State.CLOSED


@before_tls
def test_handshake_discards_hello_transaction_and_authentication(make: Make) -> None:
    """R3207-4.2-01, R3207-4.2-04"""
    conn = make()
    conn.tls_established()

    assert (conn.state, conn.tls) == (State.GREETED, True)
    assert (conn.helo, conn.transaction, conn.authenticated) == (None, None, False)


@implicit
def test_implicit_tls_starts_before_the_greeting(make: Make) -> None:
    conn = make()
    conn.tls_established()

    assert (conn.state, conn.tls) == (State.CONNECTED, True)


@ready
def test_tls_outside_of_starttls_is_refused_and_changes_nothing(make: Make) -> None:
    conn = make()
    known = public_properties(conn)

    with pytest.raises(LocalProtocolError, match="TLS cannot start"):
        conn.tls_established()
    assert public_properties(conn) == known
