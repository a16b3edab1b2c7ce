"""Know of clients what outlives their sessions."""

# All of it is held in the memory of one process, and in bounded space: a client that is new each time can fill it, and
# then others are forgotten, but the server is not hurt. Threads may share it.

from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Lock

from ._limits import Limits
from ._rate_limit import Rate

_KEYS = 10_000  # of a rate; about 2 MB
_TELL_EVERY = 60.0  # seconds


class PeerTable:
    """The clients of one server: how many are here, how many came, and how they have behaved.

    A client is known by its host: an IP address, or whatever else tells it from others.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()
        self._here: Counter[str] = Counter()
        """Sessions by address and by prefix, without those that were refused: they take no one's place."""
        self._total = 0
        self.are_many = False
        """Whether few places are left."""
        self._arrivals = _rate(limits.connections_per_minute, 60.0)
        self._failures = _rate(limits.auth_failures_per_hour, 3600.0)
        self._records = _rate(limits.log_records_per_minute, 60.0)
        self._left_out = 0
        self._told = float("-inf")

    # Coming and going

    def enter(self, host: str, now: float) -> str | None:
        """Let one in, or tell which limit forbids it. Who is let in has to `leave`."""
        with self._lock:
            refusal = self._find_refusal(host, now)
            if self._arrivals:
                self._arrivals.add(self._key(host), now)  # the refused ones too
            if refusal is None:
                self._count(1)
                self._here.update(self._places(host))

            return refusal

    def leave(self, host: str) -> None:
        """Give the place of one back that was let in."""
        with self._lock:
            self._count(-1)
            for place in self._places(host):
                self._here[place] -= 1
                if not self._here[place]:
                    del self._here[place]

    def _count(self, change: int) -> None:
        self._total += change
        self.are_many = self._limits.connections - self._total < self._limits.connections // 10

    def _find_refusal(self, host: str, now: float) -> str | None:
        limits = self._limits
        if self._total >= limits.connections:
            return "connections"

        places = self._places(host)
        if places and self._here[places[0]] >= limits.connections_per_address:
            return "connections_per_address"
        if places and self._here[places[1]] >= limits.most_per_prefix:
            return "connections_per_prefix"
        if places and self._arrivals and self._arrivals.is_full(self._key(host), now):
            return "connections_per_minute"

        return None

    # Guessing of passwords

    def may_authenticate(self, host: str, now: float) -> bool:
        """Whether the client has not failed too often of late."""
        with self._lock:
            return self._failures is None or not self._failures.is_full(self._key(host), now)

    def auth_failed(self, host: str, now: float) -> float:
        """Remember a failure, and tell for how many seconds its reply should be held back."""
        with self._lock:
            level = self._failures.add(self._key(host), now) if self._failures else 1.0

        return min(self._limits.auth_delay * 2.0 ** (round(level) - 1), self._limits.max_auth_delay)

    # Filling the log

    def may_log(self, host: str, now: float) -> bool:
        """Whether a record that this client causes is written."""
        with self._lock:
            if self._records is None:
                return True

            is_full = self._records.is_full(self._key(host), now)
            self._records.add(self._key(host), now)
            self._left_out += is_full
            return not is_full

    def take_left_out(self, now: float) -> int:
        """How many records were not written since this was last told, which is no more than once a minute."""
        with self._lock:
            if not self._left_out or now - self._told < _TELL_EVERY:
                return 0

            count, self._left_out = self._left_out, 0
            self._told = now
            return count

    # Who is who

    def _places(self, host: str) -> tuple[str, ...]:
        return _places(host, self._limits.ipv4_prefix, self._limits.ipv6_prefix)

    def _key(self, host: str) -> str:
        # A client of IPv6 has as many addresses as it wants, but of prefixes what it is given.
        places = self._places(host)
        return places[":" in places[0]] if places else host


def _rate(limit: int | None, seconds: float) -> Rate | None:
    return None if limit is None else Rate(limit, seconds, keys=_KEYS)


@lru_cache(1024)
def _places(host: str, ipv4_prefix: int, ipv6_prefix: int) -> tuple[str, ...]:
    # The address and its network; nothing for what is no address, such as the path of a Unix socket.
    try:
        address = ip_address(host)
    except ValueError:
        return ()

    address = _unmapped(address)
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    return str(address), str(ip_network((address, prefix), strict=False))


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
