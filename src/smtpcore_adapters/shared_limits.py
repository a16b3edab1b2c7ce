"""Limits that hold for several machines together: the counts of `Limits` on a server of Redis or Valkey.

Pass a `RedisCounts` as the option `counts` of a server. `pip install 'smtpcore[shared-limits]'` installs what it needs.
"""

# Two kinds of calls reach the store. A session that has to know a number waits for the store, in a thread, so the event
# loop never waits. Everything else, such as the end of a connection, is written by a thread of this module. This thread
# also connects: a session uses only a connection that exists, so it never waits for the DNS or for a handshake. One
# lock orders all calls, so that the store gets the numbers of a connection in the order in which they arose.
#
# Connections. Each process has a key with a random name, its lease, which expires unless the process renews it. A hash
# for each address has the number of connections of each process, by the name of its lease. The number of a process
# without a lease does not count, and is removed. So a process that is killed frees its share when its lease expires. A
# process writes its own number, not a difference: a lost reply leaves no wrong number. After a failure the process
# takes a new name and writes all of its numbers again.
#
# Rates. A hash has the level of a leaky bucket and the time of its last event. The time is that of the store, so the
# clocks of the machines do not matter. The strategies of the package `limits` do not fit: none counts events beyond its
# limit, none returns the number of events, and none has leases for connections.
#
# Failures. If the store does not answer in time, or is slow on average, all counts are those of this process until the
# thread has connected again. Every number is also counted locally, so the local counts are complete for the clients of
# this process.

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from smtpcore import show_texts

from ._extras import from_extra
from .server._counts import Counts, MemoryCounts, RateLimit, give_back_all, take_all

with from_extra("shared-limits"):
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

__all__ = ["RedisCounts"]

logger: logging.Logger = logging.getLogger("smtpcore")

_SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
"""The schemes of a URL, with the scheme that the package `redis` reads."""
_CONNECT_TIMEOUT = 2.0  # seconds; only the thread of this module waits so long
_RETRY = 1.0  # seconds until the next attempt to connect
_MAX_RETRY = 30.0  # the wait doubles with each failure, up to this maximum
_MAX_WAITING = 3  # calls that wait for the connection; they hold threads that other functions of the program need
_SLOW = 0.1  # the share of the timeout that an answer may take on average
_GATHER = 0.01  # seconds in which changes gather before they are written together
_BATCH = 500  # keys written together, so that a session waits only shortly for the connection
_FORGET = 86_400_000  # milliseconds until the hash of an address without new connections is removed

_TAKE = """
for i, key in ipairs(KEYS) do
  local sum = tonumber(ARGV[2 * i + 2])
  local all = redis.call('HGETALL', key)
  for j = 1, #all, 2 do
    if all[j] ~= ARGV[2] then
      if redis.call('EXISTS', ARGV[1] .. all[j]) == 1 then
        sum = sum + tonumber(all[j + 1])
      else
        redis.call('HDEL', key, all[j])
      end
    end
  end
  if sum > tonumber(ARGV[2 * i + 3]) then
    return i
  end
end
for i, key in ipairs(KEYS) do
  redis.call('HSET', key, ARGV[2], ARGV[2 * i + 2])
  redis.call('PEXPIRE', key, ARGV[3])
end
return 0
"""
"""Set the numbers of a process in the hashes `KEYS`, and return 0, or return the place of the key that is full."""

_RATE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local limit, seconds, added = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local bucket = redis.call('HMGET', KEYS[1], 'level', 'time')
local level = 0
if bucket[1] then
  level = math.max(0, tonumber(bucket[1]) - math.max(0, now - tonumber(bucket[2])) * limit / seconds)
end
if added > 0 then
  level = math.min(level + added, 2 * limit)
  redis.call('HSET', KEYS[1], 'level', string.format('%.9f', level), 'time', string.format('%.6f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil(2000 * seconds))
end
return string.format('%.9f', level)
"""
"""Add events to the bucket `KEYS[1]`, and return its level. The rules are those of `server._rate_limit.Rate`."""


class RedisCounts:
    """Counts on a server of Redis 6.2 or Valkey, or newer, for all processes that use the same server and `prefix`.

    Connections, rates, failed logins and greylists are shared; the number of all connections, and the quota of the log,
    remain those of each server. A process that is killed frees its share of the connections after `lease` seconds.

    If the store fails or does not answer in time, or if its answers take over a tenth of `timeout` on average, the
    process counts alone, logs this once, and logs once when the store answers again. A session waits at most `timeout`
    seconds for each answer, and other sessions do not wait.

    Args:
        url: The address of the store, such as `redis://:password@10.0.0.5:6379/0`, with `rediss` for TLS, or
            `unix:///run/redis/redis.sock`. The schemes `valkey` and `valkeys` mean the same. The parameters `timeout`,
            `lease` and `prefix` of the URL take precedence over the arguments: `redis://10.0.0.5?timeout=0.5`.
        local: The counts of this server, by default in the memory of this process.
        prefix: The beginning of all keys.
        timeout: The time in seconds that a session waits for an answer, 0.2 by default.
        lease: The time in seconds after which a silent process is no longer counted, 15 by default.

    Raises:
        ValueError: The URL is wrong, or a time is not more than 0. The text does not contain the URL.
    """

    def __init__(
        self,
        url: str,
        *,
        local: Counts | None = None,
        prefix: str = "smtpcore:",
        timeout: float = 0.2,
        lease: float = 15.0,
    ) -> None:
        self._url, parameters = _parse(url)
        timeout, lease = (
            _seconds(name, parameters.get(name, value)) for name, value in (("timeout", timeout), ("lease", lease))
        )
        self.local: Counts = MemoryCounts() if local is None else local
        """The counts of this server alone."""
        self.address: str = _address_of(url)
        """The host and the port of the store, or the path of its socket."""
        self._prefix = parameters.get("prefix", prefix)
        self._lease = lease
        self._step_timeout = timeout / 2  # for the lock, and again for the reply
        self._slow = _SLOW * timeout
        """Seconds that an answer may take on average."""
        self._usual = 0.0
        """Seconds that the last answers took, on average."""
        self._calls = threading.Lock()
        """Held during each call of the store."""
        self._waiting = 0
        """The number of calls that wait for the lock."""
        self._client: Redis | None = None
        """The connection; None while the process counts alone."""
        self._node = ""
        """The name of the lease."""
        self._mine: dict[str, int] = {}
        """The number of open connections of this process, by key."""
        self._changed = threading.Condition()
        """Protects the attributes except for the calls, and reports to the thread that something has changed."""
        self._dirty: set[str] = set()
        """Keys whose number has to be written."""
        self._thread: threading.Thread | None = None
        self._tried = threading.Event()
        """Set after the first attempt to connect."""
        self._is_closed = False
        self._failed = False
        """Whether a failure was logged, and no return of the store since then."""

    def __repr__(self) -> str:
        return f"<RedisCounts at {self.address}>"

    # Connections

    def take(self, key: str, most: int) -> bool:
        """Add a connection to the count of `key`, if the count of all machines is below `most`."""
        return self.take_all({key: most}) is None

    def take_all(self, most: Mapping[str, int]) -> str | None:
        """Add a connection to the count of each key, or return a key whose count is at least its number in `most`."""
        full = take_all(self.local, most)
        if full is None and most:
            full = self._take_shared(most)
            if full is not None:
                give_back_all(self.local, most)

        return full

    def _take_shared(self, most: Mapping[str, int]) -> str | None:
        keys = [*most]
        names = [f"{self._prefix}connections:{key}" for key in keys]
        with self._calling() as client:
            numbers = self._add(keys, 1)
            if client:
                pairs = [number for key in keys for number in (numbers[key], most[key])]
                full = client.eval(
                    _TAKE, len(keys), *names, f"{self._prefix}process:", self._node, str(_FORGET), *map(str, pairs)
                )
                if full:
                    self._add(keys, -1)
                    return keys[int(full) - 1]
                return None

        self._add(keys, 0)
        return None

    def give_back(self, key: str) -> None:
        """Subtract a connection. The store gets the number a moment later."""
        self.local.give_back(key)
        self._add([key], -1)

    def _add(self, keys: list[str], change: int) -> dict[str, int]:
        """Change the numbers of this process, and return them. All but a number that a call is writing become dirty."""
        with self._changed:
            for key in keys:
                self._mine[key] = self._mine.get(key, 0) + change
                if not self._mine[key]:
                    del self._mine[key]
            if change <= 0:
                self._dirty.update(keys)
                self._changed.notify()
            return {key: self._mine.get(key, 0) for key in keys}

    def count(self, key: str) -> int:
        """Return the count of `key` in this server."""
        return self.local.count(key)

    # Rates

    def level(self, rate: RateLimit, key: str, now: float) -> float:
        """Return the number of recent events of `key` on all machines."""
        return max(self.local.level(rate, key, now), self._at_rate(rate, key, 0))

    def add(self, rate: RateLimit, key: str, now: float) -> float:
        """Add an event of `key`, and return the number of recent events on all machines."""
        return max(self.local.add(rate, key, now), self._at_rate(rate, key, 1))

    def _at_rate(self, rate: RateLimit, key: str, added: int) -> float:
        level = 0.0
        with self._calling() as client:
            if client:
                name = f"{self._prefix}{rate.name}:{key}"
                level = float(client.eval(_RATE, 1, name, str(rate.limit), str(rate.seconds), str(added)))

        return level

    # The connection

    def is_available(self) -> bool:
        """Return whether the store answered the last call."""
        self._start()
        return self._client is not None

    def close(self) -> None:
        """Remove the connections of this process from the store, and end the thread. From then on, count alone."""
        with self._changed:
            self._is_closed = True
            thread = self._thread
            self._changed.notify()
        self._tried.set()
        if thread:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        """Start the thread with the first call, so in the process that a server may have forked."""
        if self._tried.is_set():
            return
        with self._changed:
            if not (self._thread or self._is_closed):
                self._thread = threading.Thread(target=self._run, name="shared limits", daemon=True)
                self._thread.start()
        self._tried.wait(2 * self._step_timeout)

    @contextmanager
    def _calling(self) -> Iterator[Redis | None]:
        """Yield the connection for one call, or None to count alone. An error of the store ends the block."""
        self._start()
        if self._client is None or not self._acquire():
            yield None
            return

        begun = time.monotonic()
        try:
            yield self._client
            self._check_speed(time.monotonic() - begun)
        except (RedisError, OSError) as exc:
            self._fail(exc)
        finally:
            self._calls.release()

    def _acquire(self) -> bool:
        """Wait for the lock, and return whether this call holds it. It does not wait if several calls wait already."""
        with self._changed:
            if self._waiting >= _MAX_WAITING:
                return False
            self._waiting += 1
        try:
            return self._calls.acquire(timeout=self._step_timeout)
        finally:
            with self._changed:
                self._waiting -= 1

    def _check_speed(self, seconds: float) -> None:
        self._usual += (seconds - self._usual) / 8
        if self._usual > self._slow:
            raise TimeoutError(f"answers take {1000 * self._usual:.0f} ms")

    def _fail(self, exc: Exception) -> None:
        with self._changed:
            client, self._client = self._client, None
            is_first, self._failed = not self._failed, True
            self._changed.notify()
        if client:
            client.close()
        if is_first:
            reason = str(exc) or type(exc).__name__
            logger.warning("shared limits: no answer from %s, so this process counts alone: %s", self.address, reason)

    # The thread

    def _run(self) -> None:
        delay = _RETRY
        while not self._is_closed:
            self._try(self._connect)
            self._tried.set()
            begun = time.monotonic()
            self._keep_writing()
            if time.monotonic() - begun > _MAX_RETRY:
                delay = _RETRY
            self._wait(lambda: False, delay)
            delay = min(2 * delay, _MAX_RETRY)

        with self._calls:
            client, self._client = self._client, None
            if client:
                with client, suppress(RedisError, OSError):
                    client.delete(self._lease_of(self._node))

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (RedisError, OSError) as exc:
            self._fail(exc)

    def _wait(self, is_due: Callable[[], object], seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or is_due(), seconds)

    def _connect(self) -> None:
        client: Redis = Redis.from_url(
            self._url,
            socket_timeout=self._step_timeout,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            former, self._node = self._node, secrets.token_hex(8)
            if former:
                client.delete(self._lease_of(former))
            begun = time.monotonic()
            self._renew(client)
            self._usual = time.monotonic() - begun
            self._check_speed(self._usual)
            with self._changed:
                self._dirty = {*self._mine}
            while self._dirty:
                self._write(client)
        except BaseException:
            client.close()
            raise
        if self._failed:
            logger.warning("shared limits: %s answers again", self.address)
        with self._changed:
            self._client = client
            self._failed = False

    def _keep_writing(self) -> None:
        due = time.monotonic() + self._lease / 3
        while (client := self._client) and not self._is_closed:
            self._wait(lambda: self._dirty or not self._client, due - time.monotonic())
            self._wait(lambda: not self._client, _GATHER)
            is_due = time.monotonic() >= due
            with self._calls:
                if self._client is client:
                    self._try(partial(self._update, client, renews=is_due))
            if is_due:
                due = time.monotonic() + self._lease / 3

    def _update(self, client: Redis, *, renews: bool) -> None:
        if renews:
            self._renew(client)
        self._write(client)

    def _write(self, client: Redis) -> None:
        """Write the numbers of some dirty keys."""
        with self._changed:
            keys = [self._dirty.pop() for _ in range(min(_BATCH, len(self._dirty)))]
            numbers = [(key, self._mine.get(key, 0)) for key in keys]
        if not numbers:
            return

        with client.pipeline(transaction=False) as pipeline:
            for key, number in numbers:
                name = f"{self._prefix}connections:{key}"
                if number:
                    pipeline.hset(name, self._node, str(number))
                    pipeline.pexpire(name, _FORGET)
                else:
                    pipeline.hdel(name, self._node)
            pipeline.execute()

    def _renew(self, client: Redis) -> None:
        """Extend the lease. If it has expired, or the store has lost its data, write all numbers again."""
        former: Any = client.set(self._lease_of(self._node), "1", px=int(1000 * self._lease), get=True)
        if former is None:
            with self._changed:
                self._dirty.update(self._mine)

    def _lease_of(self, node: str) -> str:
        return f"{self._prefix}process:{node}"


def _parse(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL for the package `redis`, and our own parameters. No error contains the URL."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    if scheme not in _SCHEMES or not rest:
        raise ValueError("the URL of the store must be like redis://:PASSWORD@HOST:PORT/0 or unix:///PATH")

    given = dict(parse_qsl(query))
    own: dict[str, str] = {name: given.pop(name) for name in ("timeout", "lease", "prefix") if name in given}
    for name in given:
        if name != "db" and not name.startswith("ssl_"):
            raise ValueError(f"the URL of the store has the unknown parameter {name!r}: use timeout, lease or prefix")

    return f"{_SCHEMES[scheme]}://{place}?{urlencode(given)}", own


def _seconds(name: str, value: float | str) -> float:
    try:
        if float(value) > 0:
            return float(value)
    except ValueError:
        pass

    raise ValueError(f"the URL of the store or an argument has the {name} {value!r}: use more than 0 seconds")


def _address_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "localhost"
        return parts.path if parts.scheme == "unix" else f"{host}:{parts.port or 6379}"
    except ValueError:
        raise ValueError("the URL of the store has no valid host and port") from None


show_texts(globals())
