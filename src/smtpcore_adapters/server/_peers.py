"""State of addresses and users that outlives a session: connections, failed logins, and the log quota."""

# The numbers are in a `Counts`: the memory of this process, or of several workers. Their size is bounded: a client with
# many addresses can displace the state of others, but cannot exhaust the memory. Several threads may use a table.

from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address, ip_network
from threading import RLock
from unicodedata import normalize

from ._counts import RATES, Counts, MemoryCounts, RateLimit, RemoteCounts, take_all
from ._limits import Limits
from ._returns import Returns

_ALL = ""  # the key of the number of all connections
_REPORT_EVERY = 60.0  # seconds
_LIMIT_OF_PLACE = ("connections_per_address", "connections_per_prefix")
_LOGINS = RateLimit("logins", 1, RATES["logins"])


class PeerTable:
    """The clients of one server: their connections, failed authentications and log records.

    A client is identified by its host: an IP address, or another name that distinguishes it from other clients.

    Args:
        limits: The limits.
        counts: The numbers, by default in the memory of this process.
        most_here: The number of connections that this process has file descriptors for.
    """

    def __init__(self, limits: Limits, counts: Counts | None = None, most_here: int | None = None) -> None:
        self._limits = limits
        self._counts: Counts = MemoryCounts() if counts is None else counts
        self._remote = counts if isinstance(counts, RemoteCounts) else None
        self._local: Counts = self._remote.local if self._remote else self._counts
        """The counts of this server alone."""
        self.waits: bool = self._remote is not None
        """Whether a method other than `leave` and `may_log` may wait for another machine, and needs a thread."""
        self._most_of_places = (limits.connections_per_address, limits.most_per_prefix)
        self._most_here = limits.connections if most_here is None else most_here
        self._returns = Returns[None](self._subtract)
        self._here = 0
        """The number of admitted sessions in this process."""
        self._lock_of_log = RLock()
        self.are_many: bool = False
        """Whether less than a tenth of `Limits.connections` was free when a session of this process began or ended."""
        self._arrivals = _rate("connections_per_minute", limits.connections_per_minute)
        self._failures = _rate("auth_failures_per_hour", limits.auth_failures_per_hour)
        self._account_failures = _rate("account_failures_per_hour", limits.account_failures_per_hour)
        self._records = _rate("log_records_per_minute", limits.log_records_per_minute)
        self._important_records = _rate("important_log_records_per_minute", limits.log_records_per_minute)
        self._left_out = 0
        self._reported = float("-inf")

    # Connections

    def enter(self, host: str, now: float) -> str | None:
        """Admit a connection and return None, or return the name of the limit that forbids it.

        After None, the caller must call `leave` at the end of the connection.
        """
        places = self._places(host)
        # Refused connections count too.
        is_too_often = places and self._arrivals and self._is_over(self._arrivals, self._key(host), now)
        refusal = self._take(places)
        if refusal is None and is_too_often:
            self.leave(host)
            return "connections_per_minute"

        return refusal

    def leave(self, host: str) -> None:
        """Remove an admitted connection."""
        for key in self._places(host):
            self._counts.give_back(key)
        self._local.give_back(_ALL)
        self._returns.queue.append(None)
        self._update()

    def _take(self, places: tuple[str, ...]) -> str | None:
        with self._returns.lock:
            if self._returns.queue:
                self._subtract()
            if self._here >= self._most_here:
                return "connections"
            self._here += 1

        # The number of all connections is that of this server: another machine adds to what all can serve.
        full: str | None = "connections"
        if self._local.take(_ALL, self._limits.connections):
            of_places = dict(zip(places, self._most_of_places, strict=False))
            key = self._remote.take_all(of_places) if self._remote else take_all(self._counts, of_places)
            full = None if key is None else _LIMIT_OF_PLACE[places.index(key)]
            if full:
                self._local.give_back(_ALL)

        if full:
            self._returns.queue.append(None)
        self._update()
        return full

    def _subtract(self) -> None:
        while self._returns.queue:
            self._returns.queue.popleft()
            self._here -= 1

    def _update(self) -> None:
        if self._returns.queue:
            self._returns.settle()
        here, most = self._most_here, self._limits.connections
        self.are_many = here - self._here < here // 10 or most - self._local.count(_ALL) < most // 10

    # Failed authentications

    def may_authenticate(self, host: str, now: float) -> bool:
        """Return whether the client is below the limit of failed authentications."""
        rate = self._failures
        if rate is None:
            return True

        return self._counts_of(host).level(rate, self._key(host), now) + 1 <= rate.limit

    def may_log_in_as(self, user: str, host: str, now: float) -> bool:
        """Return whether failed logins as `user` are below their limit, or `user` has logged in from here recently.

        Without the second condition, anyone could lock a user out by wrong passwords.
        """
        rate = self._account_failures
        if rate is None:
            return True

        account = _account(user)
        if self._counts.level(rate, account, now) + 1 <= rate.limit:
            return True

        return self._counts_of(host).level(_LOGINS, f"{account} {self._key(host)}", now) > 0

    def logged_in(self, user: str, host: str, now: float) -> None:
        """Remember that `user` has logged in from this host."""
        if self._account_failures:
            self._counts_of(host).add(_LOGINS, f"{_account(user)} {self._key(host)}", now)

    def auth_failed(self, host: str, now: float, user: str | None = None) -> int:
        """Count a failed authentication, as `user` if the client gave a name.

        Return the number of recent failures of the client or of the user, whichever is higher; 1 if failures are not
        limited.
        """
        failures = 1.0
        if self._failures:
            failures = self._counts_of(host).add(self._failures, self._key(host), now)
        if self._account_failures and user is not None:
            failures = max(failures, self._counts.add(self._account_failures, _account(user), now))

        return round(failures)

    # The log quota

    def may_log(self, host: str, now: float, *, important: bool = False) -> bool:
        """Count a log record that this client causes, and return whether to write it.

        Important records have a quota of their own, so that other records cannot displace them.
        """
        rate = self._important_records if important else self._records
        if rate is None:
            return True

        is_over = self._local.add(rate, self._key(host), now) > rate.limit
        if is_over:
            with self._lock_of_log:
                self._left_out += 1

        return not is_over

    def _is_over(self, rate: RateLimit, key: str, now: float) -> bool:
        """Count an event, and return whether it exceeds the limit."""
        return self._counts.add(rate, key, now) > rate.limit

    def take_left_out(self, now: float) -> int:
        """Return the number of records left out since the last report; 0 within a minute after a report."""
        with self._lock_of_log:
            if not self._left_out or now - self._reported < _REPORT_EVERY:
                return 0

            count, self._left_out = self._left_out, 0
            self._reported = now
            return count

    # Addresses

    def _counts_of(self, host: str) -> Counts:
        # The path of a Unix socket has a meaning on this machine only.
        return self._counts if self._places(host) else self._local

    def _places(self, host: str) -> tuple[str, ...]:
        return _places(host, self._limits.ipv4_prefix, self._limits.ipv6_prefix)

    def _key(self, host: str) -> str:
        # An IPv6 client can use any number of addresses, but only within the prefix that its provider assigned.
        places = self._places(host)
        return places[":" in places[0]] if places else host


def _account(user: str) -> str:
    # A handler may ignore the case of a name, so all spellings count together. The digest limits the length of the key.
    return blake2b(
        normalize("NFKC", user).casefold().strip().encode("utf-8", "surrogatepass"), digest_size=16
    ).hexdigest()


def _rate(name: str, limit: int | None) -> RateLimit | None:
    return None if limit is None else RateLimit(name, limit, RATES[name])


@lru_cache(1024)
def _places(host: str, ipv4_prefix: int, ipv6_prefix: int) -> tuple[str, ...]:
    # Returns the address and its network, or nothing if the host is not an address, such as the path of a Unix socket.
    try:
        address = ip_address(host)
    except ValueError:
        return ()

    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    return str(address), str(ip_network((address, prefix), strict=False))


def network_of(host: str) -> str:
    """Return the network of an address, with the default prefixes of `Limits`; `""` if `host` is no address."""
    places = _places(host, _DEFAULTS.ipv4_prefix, _DEFAULTS.ipv6_prefix)
    return places[1] if places else ""


_DEFAULTS = Limits()
