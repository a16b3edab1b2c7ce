"""Counts in memory that several processes of one machine share, so that a limit holds for all of them together."""

# The parent process makes the memory before it forks the workers. The memory has a fixed size, and consists of tables.
# A table is an array of slots, divided into groups. The slot of a key is any slot in the group that follows from the
# digest of the key, so a search reads one group only. The digests depend on a secret of the server: a client cannot
# choose addresses that all fall into one group, and the memory contains no name.
#
# Locks. A group is changed under a lock of its own: a range lock (`fcntl.lockf`) on a file without a name. The system
# releases such a lock when its process dies. So a worker that is killed leaves no lock behind. A process holds at most
# one lock at a time, so there is no deadlock.
#
# Deaths. A worker may be killed between any two writes, so each order of writes below leaves a table that is valid:
#
# - Connections are counted in a column for each worker, which only this worker writes. When a worker has died, the
#   parent sets its column to zero.
# - A slot of connections is free if the sum of its columns is zero; its digest alone has no meaning. So a slot with
#   open connections is never given to another key, and a worker needs no lock to subtract a connection.
# - A slot of a rate is cleared before it gets a new key, and the digest is written last.
#
# A full group. A new key of a rate replaces the key whose last event is the oldest. A new key of connections is
# refused. This does not happen in practice, as the table has eight slots for each connection that it is made for.

import fcntl
import os
import threading
from hashlib import blake2b
from mmap import mmap
from tempfile import mkstemp
from types import TracebackType

from ._counts import RATES, RateLimit
from ._rate_limit import level_after
from ._returns import Returns

_DIGEST = 16  # octets
_GROUP = 64  # slots of connections in a group
_SPARE = 8  # slots for each connection; a connection uses at most two, for its address and its network
_RATE_GROUP = 32  # slots of a rate in a group
_RATE_SLOTS = 16_384  # slots of each rate, for some 10,000 keys
_RATE_GROUPS = _RATE_SLOTS // _RATE_GROUP
_RATE_OCTETS = _RATE_SLOTS * (_DIGEST + 16)


class SharedCounts:
    """The counts of `workers` processes that the current process is going to fork.

    The memory is some 130 octets and 32 more per worker for each of `connections`, and 0.5 MB for each rate.
    """

    def __init__(self, workers: int, connections: int) -> None:
        self.workers = workers
        """The number of columns."""
        self.groups: int = -(-_SPARE * connections // _GROUP)
        """The number of groups of slots for connections."""
        self.slots: int = self.groups * _GROUP
        """The number of slots for connections."""
        digests = self.slots * _DIGEST
        columns = workers * self.slots * 4
        self.memory = mmap(-1, digests + columns + len(RATES) * _RATE_OCTETS)
        """The digests of the connections, then their columns, then the rates."""
        view = memoryview(self.memory)
        self.columns: memoryview[int] = view[digests : digests + columns].cast("I")
        """The number of connections in each slot, for one worker after the other."""
        self.rates: dict[str, _RateTable] = {
            name: _RateTable(self.memory, digests + columns, self.groups, number) for number, name in enumerate(RATES)
        }
        """The table of each rate, by name."""
        self._file, path = mkstemp(prefix="smtpcore-")  # for the locks only; it stays empty
        os.unlink(path)
        self._secret = os.urandom(_DIGEST)

    def of_worker(self, number: int) -> "WorkerCounts":
        """Return the counts for use in the worker with this number, from 0."""
        return WorkerCounts(self, number)

    def forget(self, number: int) -> None:
        """Remove the connections of a worker that has died."""
        self.columns[number * self.slots : (number + 1) * self.slots] = memoryview(bytes(self.slots * 4)).cast("I")

    def digest(self, key: str) -> bytes:
        """Return the digest of a key."""
        return blake2b(key.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=_DIGEST).digest()

    def lock(self, place: int) -> None:
        """Wait for the lock of a group."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, place)

    def unlock(self, place: int) -> None:
        """Release the lock of a group, if this process holds it."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)

    def __enter__(self) -> "SharedCounts":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)


class _RateTable:
    """The slots of one rate: a digest, a level and the time of the last event in each."""

    def __init__(self, memory: mmap, start: int, locks: int, number: int) -> None:
        self._memory = memory
        self.first_lock: int = locks + number * _RATE_GROUPS
        """The lock of the first group."""
        self._digests = start + number * _RATE_OCTETS
        after = self._digests + _RATE_SLOTS * _DIGEST
        numbers = memoryview(memory)[after : after + 16 * _RATE_SLOTS].cast("d")
        self.levels = numbers[:_RATE_SLOTS]
        self.times = numbers[_RATE_SLOTS:]

    def find(self, digest: bytes, group: int) -> int:
        """Return the slot of a key, or -1."""
        start = self._digests + group * _RATE_GROUP * _DIGEST
        place = self._memory.find(digest, start, start + _RATE_GROUP * _DIGEST)
        return (place - self._digests) // _DIGEST if place >= 0 else -1

    def replace_oldest(self, digest: bytes, group: int) -> int:
        """Give the slot with the oldest event to a new key, and return the slot. A free slot has the time 0."""
        first = group * _RATE_GROUP
        times = self.times[first : first + _RATE_GROUP].tolist()
        slot = first + times.index(min(times))
        place = self._digests + slot * _DIGEST
        self._memory[place : place + _DIGEST] = bytes(_DIGEST)
        self.levels[slot] = self.times[slot] = 0.0
        self._memory[place : place + _DIGEST] = digest
        return slot


class WorkerCounts:
    """The shared counts, as one worker process uses them."""

    def __init__(self, shared: SharedCounts, number: int) -> None:
        self._shared = shared
        self._column = number * shared.slots
        """The index of the first number in the column of this worker."""
        self._lock = threading.RLock()  # a range lock excludes other processes only
        self._returns = Returns[str](self._subtract)
        self._slots: dict[str, int] = {}
        """The slot of each key with a connection of this worker. Such a slot keeps its key."""

    # Connections

    def take(self, key: str, most: int) -> bool:
        """Add a connection to the count of `key`, if the count of all workers is below `most`."""
        shared = self._shared
        with self._lock, self._returns.lock:
            if self._returns.queue:
                self._subtract()
            known = self._slots.get(key)
            digest = shared.digest(key) if known is None else b""
            group = self._group(digest) if known is None else known // _GROUP
            try:
                shared.lock(group)
                slot = self._find_or_claim(digest, group) if known is None else known
                if slot < 0 or self._sum(slot) >= most:
                    return False

                shared.columns[self._column + slot] += 1
                self._slots[key] = slot
                return True
            finally:
                shared.unlock(group)

    def give_back(self, key: str) -> None:
        """Subtract a connection of this worker."""
        self._returns.queue.append(key)
        self._returns.settle()

    def _subtract(self) -> None:
        while self._returns.queue:
            key = self._returns.queue.popleft()
            slot = self._slots[key]
            self._shared.columns[self._column + slot] -= 1
            if not self._shared.columns[self._column + slot]:
                del self._slots[key]

    def count(self, key: str) -> int:
        """Return the count of `key` in all workers. While other workers change the count, it may be too high."""
        if self._returns.queue:
            self._returns.settle()
        with self._lock:
            slot = self._slots.get(key, -1)
            if slot < 0:
                digest = self._shared.digest(key)
                slot = self._find(digest, self._group(digest))

            return self._sum(slot) if slot >= 0 else 0

    def _group(self, digest: bytes) -> int:
        return int.from_bytes(digest[:8]) % self._shared.groups

    def _find(self, digest: bytes, group: int) -> int:
        start = group * _GROUP * _DIGEST
        place = self._shared.memory.find(digest, start, start + _GROUP * _DIGEST)
        return place // _DIGEST if place >= 0 else -1

    def _find_or_claim(self, digest: bytes, group: int) -> int:
        """Return the slot of a key, which may be a free slot that gets the key; -1 if no slot is free."""
        slot = self._find(digest, group)
        if slot >= 0:
            return slot

        for step in range(_GROUP):
            slot = group * _GROUP + (digest[-1] + step) % _GROUP
            if not self._sum(slot):
                self._shared.memory[slot * _DIGEST : (slot + 1) * _DIGEST] = digest
                return slot

        return -1

    def _sum(self, slot: int) -> int:
        return sum(self._shared.columns[slot :: self._shared.slots])

    # Rates

    def level(self, rate: RateLimit, key: str, now: float) -> float:
        """Return the number of recent events of `key` in all workers."""
        return self._at_rate(rate, key, now, adds=False)

    def add(self, rate: RateLimit, key: str, now: float) -> float:
        """Add an event of `key`, and return the number of recent events in all workers."""
        return self._at_rate(rate, key, now, adds=True)

    def _at_rate(self, rate: RateLimit, key: str, now: float, *, adds: bool) -> float:
        shared, table = self._shared, self._shared.rates[rate.name]
        digest = shared.digest(key)
        group = int.from_bytes(digest[:8]) % _RATE_GROUPS
        place = table.first_lock + group
        with self._lock:
            try:
                shared.lock(place)
                slot = table.find(digest, group)
                level = 0.0
                if slot >= 0:
                    level = level_after(table.levels[slot], now - table.times[slot], rate.limit / rate.seconds)
                if adds:
                    if slot < 0:
                        slot = table.replace_oldest(digest, group)
                    level = min(level + 1, 2.0 * rate.limit)
                    # In this order: after a death between the two writes, the level is too high, and not too low.
                    table.times[slot] = max(now, table.times[slot])
                    table.levels[slot] = level
                return level
            finally:
                shared.unlock(place)
