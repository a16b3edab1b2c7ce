"""What outlives the sessions of a client."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from smtpcore_adapters import Limits
from smtpcore_adapters.server._peers import PeerTable


def test_places_are_counted_in_total_by_address_and_by_network() -> None:
    clients = PeerTable(Limits(connections=5, connections_per_address=2, connections_per_prefix=3))
    asked = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1", "", "203.0.113.1"]
    assert [clients.enter(host, 0) for host in asked] == [
        *(None, None, "connections_per_address", None, "connections_per_prefix", None, None, "connections"),
    ]


def test_who_leaves_gives_the_place_back() -> None:
    clients = PeerTable(Limits(connections=1))
    for host in ("192.0.2.1", "2001:db8::1", "", "/run/smtp"):
        assert clients.enter(host, 0) is None
        assert clients.enter(host, 0) == "connections"
        clients.leave(host)
    assert not clients._here


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("192.0.2.1", "192.0.2.255", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.2", True),
        ("/run/a", "/run/a", False),
    ],
)
def test_a_network_is_a_24_of_ipv4_and_a_64_of_ipv6(first: str, second: str, together: bool) -> None:
    clients = PeerTable(Limits(connections_per_prefix=1))
    clients.enter(first, 0)
    assert clients.enter(second, 0) == ("connections_per_prefix" if together else None)


def test_the_length_of_a_prefix_can_be_chosen() -> None:
    clients = PeerTable(Limits(connections_per_prefix=1, ipv4_prefix=16, ipv6_prefix=128))
    assert [clients.enter(host, 0) for host in ("192.0.2.1", "192.0.99.1", "2001:db8::1", "2001:db8::2")] == [
        *(None, "connections_per_prefix", None, None)
    ]


def test_new_connections_are_counted_by_the_minute_the_refused_ones_too() -> None:
    clients = PeerTable(Limits(connections_per_minute=2))
    assert [clients.enter("192.0.2.1", now) for now in (0, 0, 0)] == [None, None, "connections_per_minute"]
    assert clients.enter("192.0.2.2", 0) is None
    assert clients.enter("192.0.2.1", 31) == "connections_per_minute"
    assert clients.enter("192.0.2.1", 200) is None


def test_a_network_of_ipv6_is_one_client() -> None:
    clients = PeerTable(Limits(connections_per_minute=1))
    assert clients.enter("2001:db8::1", 0) is None
    assert clients.enter("2001:db8::2", 0) == "connections_per_minute"
    assert clients.enter("192.0.2.1", 0) is None
    assert clients.enter("192.0.2.2", 0) is None


def test_failures_to_authenticate_are_answered_ever_later() -> None:
    clients = PeerTable(Limits(auth_delay=0.5, max_auth_delay=4))
    assert [clients.auth_failed("192.0.2.1", 0) for _ in range(6)] == [0.5, 1, 2, 4, 4, 4]
    assert clients.auth_failed("192.0.2.2", 0) == 0.5
    assert clients.auth_failed("192.0.2.1", 100_000) == 0.5


def test_too_many_failures_end_the_guessing_and_time_forgives() -> None:
    clients = PeerTable(Limits(auth_failures_per_hour=3))
    for _ in range(3):
        assert clients.may_authenticate("192.0.2.1", 0)
        clients.auth_failed("192.0.2.1", 0)
    assert not clients.may_authenticate("192.0.2.1", 0)
    assert clients.may_authenticate("192.0.2.2", 0)
    assert not clients.may_authenticate("192.0.2.1", 1100)
    assert clients.may_authenticate("192.0.2.1", 1300)


def test_without_limits_nothing_is_remembered() -> None:
    clients = PeerTable(Limits(auth_failures_per_hour=None, log_records_per_minute=None, auth_delay=3))
    assert [clients.auth_failed("192.0.2.1", 0) for _ in range(3)] == [3, 3, 3]
    assert clients.may_authenticate("192.0.2.1", 0)
    assert all(clients.may_log("192.0.2.1", 0) for _ in range(1000))
    assert clients.take_left_out(1000) == 0


def test_records_are_left_out_and_their_number_is_told_once_a_minute() -> None:
    clients = PeerTable(Limits(log_records_per_minute=2))
    assert [clients.may_log("192.0.2.1", 0) for _ in range(5)] == [True, True, False, False, False]
    assert clients.may_log("192.0.2.2", 0)
    assert clients.take_left_out(0) == 3
    assert not clients.may_log("192.0.2.1", 1)
    assert clients.take_left_out(59) == 0
    assert clients.take_left_out(60) == 1
    assert clients.take_left_out(600) == 0


def test_threads_may_share_it() -> None:
    clients = PeerTable(Limits(connections=10, connections_per_minute=1_000_000))

    def come_and_go(number: int) -> int:
        refused = 0
        for _ in range(500):
            if clients.enter(f"192.0.2.{number}", 0):
                refused += 1
            else:
                clients.leave(f"192.0.2.{number}")
        return refused

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(come_and_go, range(8))) == 0
    assert clients._total == 0
    assert not clients._here
