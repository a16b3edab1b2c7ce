"""Per-address state that outlives a session: connections, failed logins, and the log quota."""

# All of this state is in the memory of one process, and its size is bounded: a client with many addresses can displace
# the state of others, but cannot exhaust the memory. Several threads may use it.

from collections import Counter
from functools import lru_cache
from ipaddress import ip_address, ip_network
from threading import Lock

from ._limits import Limits
from ._rate_limit import Rate

_KEYS = 10_000  # hosts per rate limit; about 2 MB
_REPORT_EVERY = 60.0  # seconds


class PeerTable:
    """The clients of one server: their connections, failed authentications and log records.

    A client is identified by its host: an IP address, or another name that distinguishes it from other clients.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()
        self._connected: Counter[str] = Counter()
        """The number of admitted sessions, by address and by prefix."""
        self._total = 0
        self.are_many: bool = False
        """Whether less than a tenth of `Limits.connections` is free."""
        self._arrivals = _rate(limits.connections_per_minute, 60.0)
        self._failures = _rate(limits.auth_failures_per_hour, 3600.0)
        self._records = _rate(limits.log_records_per_minute, 60.0)
        self._important_records = _rate(limits.log_records_per_minute, 60.0)
        self._left_out = 0
        self._reported = float("-inf")

    # Connections

    def enter(self, host: str, now: float) -> str | None:
        """Admit a connection and return None, or return the name of the limit that forbids it.

        After None, the caller must call `leave` at the end of the connection.
        """
        with self._lock:
            refusal = self._find_refusal(host, now)
            if self._arrivals:
                self._arrivals.add(self._key(host), now)  # refused connections count too
            if refusal is None:
                self._count(1)
                self._connected.update(self._places(host))

            return refusal

    def leave(self, host: str) -> None:
        """Remove an admitted connection."""
        with self._lock:
            self._count(-1)
            for place in self._places(host):
                self._connected[place] -= 1
                if not self._connected[place]:
                    del self._connected[place]

    def _count(self, change: int) -> None:
        self._total += change
        self.are_many = self._limits.connections - self._total < self._limits.connections // 10

    def _find_refusal(self, host: str, now: float) -> str | None:
        limits = self._limits
        if self._total >= limits.connections:
            return "connections"

        places = self._places(host)
        if places and self._connected[places[0]] >= limits.connections_per_address:
            return "connections_per_address"
        if places and self._connected[places[1]] >= limits.most_per_prefix:
            return "connections_per_prefix"
        if places and self._arrivals and self._arrivals.is_full(self._key(host), now):
            return "connections_per_minute"

        return None

    # Failed authentications

    def may_authenticate(self, host: str, now: float) -> bool:
        """Return whether the client is below the limit of failed authentications."""
        with self._lock:
            return self._failures is None or not self._failures.is_full(self._key(host), now)

    def auth_failed(self, host: str, now: float) -> int:
        """Count a failed authentication, and return the number of recent failures; 1 if failures are not limited."""
        with self._lock:
            return round(self._failures.add(self._key(host), now)) if self._failures else 1

    # The log quota

    def may_log(self, host: str, now: float, *, important: bool = False) -> bool:
        """Count a log record that this client causes, and return whether to write it.

        Important records have a quota of their own, so that other records cannot displace them.
        """
        with self._lock:
            records = self._important_records if important else self._records
            if records is None:
                return True

            is_full = records.is_full(self._key(host), now)
            records.add(self._key(host), now)
            self._left_out += is_full
            return not is_full

    def take_left_out(self, now: float) -> int:
        """Return the number of records left out since the last report; 0 within a minute after a report."""
        with self._lock:
            if not self._left_out or now - self._reported < _REPORT_EVERY:
                return 0

            count, self._left_out = self._left_out, 0
            self._reported = now
            return count

    # Addresses

    def _places(self, host: str) -> tuple[str, ...]:
        return _places(host, self._limits.ipv4_prefix, self._limits.ipv6_prefix)

    def _key(self, host: str) -> str:
        # An IPv6 client can use any number of addresses, but only within the prefix that its provider assigned.
        places = self._places(host)
        return places[":" in places[0]] if places else host


def _rate(limit: int | None, seconds: float) -> Rate | None:
    return None if limit is None else Rate(limit, seconds, keys=_KEYS)


@lru_cache(1024)
def _places(host: str, ipv4_prefix: int, ipv6_prefix: int) -> tuple[str, ...]:
    # Returns the address and its network, or nothing if the host is not an address, such as the path of a Unix socket.
    try:
        address = ip_address(host)
    except ValueError:
        return ()

    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    return str(address), str(ip_network((address, prefix), strict=False))
