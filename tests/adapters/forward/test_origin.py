"""The attributes of a session's client that `Forward` sends to the next server."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from smtpcore import Tolerance
from smtpcore.proxy import Endpoint, ProxyHeader, ProxyReader
from smtpcore_adapters import App
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT
from tests.adapters.forward.relay import BODY, OK, commands, forwarding
from tests.adapters.playbook import ACCEPTED, ScriptedServer, next_server, trusted
from tests.playbook import GO_AHEAD, offer

MESSAGE = MAIL + RCPT + DATA + BODY + b".\r\n"
XFORWARD = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"


def relayed(script: bytes, *hops: ScriptedServer, **options: Any) -> list[list[bytes]]:
    """Run a session of a trusted peer, and forward its mail over the connections `hops`.

    Return the commands that each connection received.
    """
    app = App()
    app.include(forwarding(**options))
    dialogue = trusted(app)
    dialogue.stream.opened_streams.extend(hop.stream for hop in hops)
    dialogue.send(EHLO + script + QUIT).end()
    return [commands(hop) for hop in hops]


def xforward_of(script: bytes) -> bytes:
    """Return the XFORWARD that the next server gets if the peer sends `script`."""
    hop = next_server(XFORWARD).send(OK, OK, OK)
    return relayed(script + MAIL + RCPT, hop, xforward=True)[0][0]


def test_xforward_of_a_trusted_peer_is_passed_on() -> None:
    told = b" NAME=c.example ADDR=203.0.113.5 PORT=99 PROTO=SMTP HELO=h.example IDENT=7 SOURCE=LOCAL\r\n"
    assert xforward_of(b"XFORWARD" + told) == b"XFORWARD" + told


def test_attributes_that_the_peer_did_not_forward_are_unknown() -> None:
    sent = xforward_of(b"XFORWARD ADDR=203.0.113.5\r\nXFORWARD HELO=[UNAVAILABLE]\r\n")
    assert sent.startswith(
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=203.0.113.5 PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] IDENT="
    )
    assert sent.endswith(b" SOURCE=REMOTE\r\n")


def test_xforward_describes_the_client_of_the_session_if_nothing_was_forwarded() -> None:
    assert b" ADDR=192.0.2.80 PORT=40000 PROTO=ESMTP HELO=c.example " in xforward_of(b"")


def test_forwarded_attributes_of_the_previous_client_are_dropped_at_xclient() -> None:
    sent = xforward_of(b"XFORWARD ADDR=203.0.113.5 NAME=old\r\nXCLIENT ADDR=203.0.113.6 NAME=new\r\n" + EHLO)
    assert b" NAME=new ADDR=203.0.113.6 " in sent


def test_each_message_has_its_own_forwarded_attributes() -> None:
    replies = (OK, OK, OK, GO_AHEAD, ACCEPTED)
    hop = next_server(XFORWARD).send(*replies, *replies)
    first, second = b"XFORWARD ADDR=203.0.113.5\r\n", b"XFORWARD ADDR=203.0.113.6\r\n"
    (sent,) = relayed(first + MESSAGE + second + MESSAGE, hop, xforward=True)
    assert [b"203.0.113.5" in each for each in sent if each.startswith(b"XFORWARD")] == [True, False]


def xclient_hop() -> ScriptedServer:
    return next_server(XCLIENT).send(b"220 x\r\n", offer("8BITMIME"), OK, OK, GO_AHEAD, ACCEPTED)


def test_name_from_xclient_is_passed_on_with_xclient() -> None:
    (sent,) = relayed(b"XCLIENT NAME=c.example ADDR=203.0.113.5\r\n" + EHLO + MESSAGE, xclient_hop(), xclient=True)
    assert sent[0].startswith(b"XCLIENT NAME=c.example ADDR=203.0.113.5 ")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"ADDR=203.0.113.1 LOGIN=alice NAME=a", b"ADDR=203.0.113.2 LOGIN=[UNAVAILABLE]"),
        (b"ADDR=203.0.113.1 LOGIN=alice NAME=a PORT=7", b"ADDR=203.0.113.2"),
        (b"ADDR=203.0.113.2 LOGIN=alice NAME=[UNAVAILABLE]", b"LOGIN=[UNAVAILABLE]"),
    ],
)
def test_another_client_gets_another_connection_to_the_next_server(first: bytes, second: bytes) -> None:
    script = b"".join(b"XCLIENT " + told + b"\r\n" + EHLO + MESSAGE for told in (first, second))
    one, two = relayed(script, xclient_hop(), xclient_hop(), xclient=True)
    assert b" LOGIN=alice " in one[0]
    assert two[0].startswith(b"XCLIENT NAME=[UNAVAILABLE] ADDR=203.0.113.2 PORT=[UNAVAILABLE] ")
    assert b" LOGIN=[UNAVAILABLE] " in two[0]


def test_another_hello_gets_another_connection() -> None:
    script = MESSAGE + EHLO.replace(b"c.", b"d.") + MESSAGE
    one, two = relayed(script, xclient_hop(), xclient_hop(), xclient=True)
    assert b" HELO=c.example " in one[0]
    assert b" HELO=d.example " in two[0]


def test_unchanged_client_keeps_its_connection() -> None:
    hop = xclient_hop().send(OK, OK, GO_AHEAD, ACCEPTED)
    (sent,) = relayed(MESSAGE + b"NOOP\r\n" + EHLO + MESSAGE, hop, xclient=True)
    assert sum(each.startswith(b"XCLIENT") for each in sent) == 1
    assert sum(each.startswith(b"MAIL") for each in sent) == 2


def test_connection_is_kept_if_the_next_server_gets_no_client_attributes() -> None:
    hop = next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED, OK, OK, GO_AHEAD, ACCEPTED)
    (sent,) = relayed(MESSAGE + b"XCLIENT ADDR=203.0.113.1\r\n" + EHLO + MESSAGE, hop)
    assert sum(each.startswith(b"MAIL") for each in sent) == 2


def header_of(hop: ScriptedServer) -> ProxyHeader:
    reader = ProxyReader()
    reader.receive_data(hop.sent[0])
    header = reader.next_header()
    assert isinstance(header, ProxyHeader)
    return header


def test_proxy_header_is_sent_again_for_another_client() -> None:
    def accepting_hop() -> ScriptedServer:
        return next_server("8BITMIME").send(OK, OK, GO_AHEAD, ACCEPTED)

    hops = accepting_hop(), accepting_hop()
    relayed(MESSAGE + b"XCLIENT ADDR=203.0.113.1 PORT=5\r\n" + EHLO + MESSAGE, *hops, proxy_protocol=True)
    assert [header_of(hop).source for hop in hops] == [
        Endpoint(ip_address("192.0.2.80"), 40_000),
        Endpoint(ip_address("203.0.113.1"), 5),
    ]


@pytest.mark.parametrize(
    ("told", "source", "destination"),
    [
        (b"ADDR=IPV6:2001:db8::9 PORT=4", "2001:db8::9", "::ffff:192.0.2.25"),
        (b"ADDR=192.0.2.9 PORT=4 DESTADDR=IPV6:2001:db8::1 DESTPORT=25", "::ffff:192.0.2.9", "2001:db8::1"),
    ],
)
def test_proxy_header_has_ipv6_addresses_if_only_one_address_is_ipv4(
    told: bytes, source: str, destination: str
) -> None:
    hop = next_server("8BITMIME").send(OK, OK)
    relayed(b"XCLIENT " + told + b"\r\n" + EHLO + MAIL + RCPT, hop, proxy_protocol=True)
    header = header_of(hop)
    assert header.source == Endpoint(ip_address(source), 4)
    assert header.destination == Endpoint(ip_address(destination), 25)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("My PC", b" HELO=My+20PC "),
        ("b\u00fcro", b" HELO=b+C3+BCro "),
        ("\u00fc" * 200, b" HELO=[UNAVAILABLE] "),
    ],
)
def test_name_of_the_client_is_encoded_and_fits_into_the_line(name: str, sent: bytes) -> None:
    hop = next_server(XFORWARD).send(OK, OK, OK)
    app = App()
    app.include(forwarding(xforward=True))
    dialogue = trusted(app, config=replace(CONFIG, tolerance=Tolerance.LENIENT))
    dialogue.stream.opened_streams.append(hop.stream)
    dialogue.send(f"EHLO {name}\r\n".encode() + MAIL + RCPT + QUIT).end()

    assert sent in commands(hop)[0]
