"""Clients that keep a connection for as long as they can: each server has to disconnect them on time, and not early.

The servers have the default `Budgets`, STARTTLS and AUTH. `advance` moves the clock of the server forward, after the
server has read all that was sent. The clock also runs by itself, so a budget that must not be spent yet has 20 seconds
left. The tests of the adapters and of the documented loops run all of these clients.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Final

from tests.adapters.harness import Client

EHLO = b"EHLO c.example\r\n"
ENVELOPE = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"

Advance = Callable[[float], None]
Attack = Callable[[Client, Advance], None]


def is_ended(client: Client) -> None:
    """Check that the session has ended with a 421."""
    reply = client.read()
    assert reply.startswith("421 4.4.2 "), reply
    assert reply.endswith("closing: you took too long"), reply
    assert client.rest() == b""


def be_silent(client: Client, advance: Advance) -> None:
    advance(280)
    client.send(EHLO).expect(250)
    advance(280)
    client.send(b"NOOP\r\n").expect(250)
    advance(301)
    is_ended(client)


def send_octets_of_the_first_command(client: Client, advance: Advance) -> None:
    for octet in b"EHL":
        client.send(bytes([octet]))
        advance(99)
    client.send(b"O")
    advance(4)
    is_ended(client)


def send_octets_of_a_command(client: Client, advance: Advance) -> None:
    client.send(EHLO).expect(250)
    for octet in b"NOO":
        client.send(bytes([octet]))
        advance(93)
    client.send(b"P\r\n").expect(250)
    for octet in b"NOO":
        client.send(bytes([octet]))
        advance(99)
    client.send(b"P")
    advance(4)
    is_ended(client)


def send_commands_now_and_then(client: Client, advance: Advance) -> None:
    client.send(EHLO).expect(250)
    for _ in range(28):
        advance(250)
        client.send(b"NOOP\r\n").expect(250)
    advance(170)
    client.send(b"NOOP\r\n").expect(250)
    advance(31)
    is_ended(client)


def be_silent_in_a_body(client: Client, advance: Advance) -> None:
    client.send(EHLO + ENVELOPE + b"Subject: x\r\n").expect(250, 250, 250, 354)
    advance(280)
    client.send(b"x\r\n.\r\n").expect(250)
    client.send(ENVELOPE + b"Subject: x\r\n").expect(250, 250, 354)
    advance(302)
    is_ended(client)


def send_octets_of_a_body(client: Client, advance: Advance) -> None:
    client.send(EHLO + ENVELOPE).expect(250, 250, 250, 354)
    for _ in range(10):  # the minimum rate is 500 octets per second
        client.send((b"x" * 498 + b"\r\n") * 100)
        advance(99)
    client.send(b".\r\n").expect(250)
    client.send(ENVELOPE).expect(250, 250, 354)
    for _ in range(3):
        client.send(b"x\r\n")
        advance(99)
    client.send(b"x\r\n")
    advance(4)
    is_ended(client)


def send_octets_of_a_chunk(client: Client, advance: Advance) -> None:
    client.send(EHLO + ENVELOPE.replace(b"DATA", b"BDAT 100000")).expect(250, 250, 250)
    for _ in range(3):
        client.send(b"x\r\n")
        advance(99)
    client.send(b"x\r\n")
    advance(4)
    is_ended(client)


def send_octets_of_a_handshake(client: Client, advance: Advance) -> None:
    client.send(EHLO + b"STARTTLS\r\n").expect(250, 220)
    for octet in b"\x16\x03\x01":
        client.send(bytes([octet]))
        advance(19)
    client.send(b"\x02")
    advance(4)
    assert client.is_closed()


def send_octets_of_a_login(client: Client, advance: Advance) -> None:
    client.send(EHLO + b"AUTH LOGIN\r\n").expect(250, 334)
    for octet in b"dGl":
        client.send(bytes([octet]))
        advance(99)
    client.send(b"t")
    advance(4)
    is_ended(client)


ATTACKS: Final[dict[str, Attack]] = {
    attack.__name__: attack
    for attack in (
        be_silent,
        send_octets_of_the_first_command,
        send_octets_of_a_command,
        send_commands_now_and_then,
        be_silent_in_a_body,
        send_octets_of_a_body,
        send_octets_of_a_chunk,
        send_octets_of_a_handshake,
    )
}
ATTACKS_UNDER_TLS: Final[dict[str, Attack]] = {
    name: attack for name, attack in ATTACKS.items() if attack is not send_octets_of_a_handshake
} | {"send_octets_of_a_login": send_octets_of_a_login}


def run_attack(name: str, client: Client, advance: Advance, tls: ssl.SSLContext | None) -> None:
    """Run one attack, under TLS if `tls` is given."""
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each octet is sent at once
    client.expect(220)
    if tls:
        client.send(EHLO + b"STARTTLS\r\n").expect(250, 220)
        client.start_tls(tls, "localhost")
    (ATTACKS_UNDER_TLS if tls else ATTACKS)[name](client, advance)


CASES: Final = [*((name, False) for name in ATTACKS), *((name, True) for name in ATTACKS_UNDER_TLS)]
"""The name of each attack, and whether to run it under TLS."""
