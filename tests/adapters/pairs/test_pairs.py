"""Each pair of documented options and extensions works together over a real socket, on every adapter.

The table has a row for each field of `Budgets`, `Config`, `Timeouts`, `Limits` and `Options`, and for each built-in
extension. An option that has the name of a field of `Config` sets this field, and needs no row. The pairs that make no
sense together are in `excluded.txt`, with the reason; the file is generated from the table.
"""

import random
import ssl
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import trustme
from anyio.from_thread import BlockingPortal, start_blocking_portal

from smtpcore import EXTENSIONS, Budgets, Config
from smtpcore_adapters import Limits, Options, Timeouts
from smtpcore_adapters.server._config_fields import CONFIG_FIELDS
from tests.adapters.clocks import CLOCKS
from tests.adapters.harness import loop_of, module_of
from tests.certificates import context_trusting
from tests.long import long

from .rows_of_extensions import EXTENSION_ROWS
from .rows_of_limits import LIMITS
from .rows_of_options import OPTIONS
from .talk import Hook, Log, Row, Service, Setup, captured_log, converse

ROWS = (*OPTIONS, *LIMITS, *EXTENSION_ROWS)
BY_NAME = {row.name or row.covers[0].partition(".")[2]: row for row in ROWS}
PLACES = frozenset({"Options.budgets", "Options.config", "Options.timeouts", "Options.limits"})
"""Options that consist of fields with rows of their own."""
EXCLUDED = Path(__file__).with_name("excluded.txt")
ADAPTERS = ("asyncio", "trio", "anyio", "threads")
BACKENDS = ("asyncio", "trio", "anyio-asyncio", "anyio-trio")
"""The backends with an event loop. On anyio, one half of the pairs runs on each of its event loops."""


def shared_slot(one: str, other: str) -> str:
    """Return the slot that both rows use, or ""."""
    slot = BY_NAME[one].slot
    return slot if slot == BY_NAME[other].slot else ""


def reason_against(one: str, other: str) -> str | None:
    """Return the reason why two rows make no sense together, or None."""
    if slot := shared_slot(one, other):
        return f"both use {slot}"

    first, second = BY_NAME[one], BY_NAME[other]
    return first.excludes.get(other) or second.excludes.get(one)


ALL_PAIRS = tuple(combinations(BY_NAME, 2))
EXCLUDED_PAIRS = {pair: why for pair in ALL_PAIRS if (why := reason_against(*pair))}
PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in EXCLUDED_PAIRS)


def test_each_option_and_extension_has_a_row() -> None:
    options = {
        f"{kind.__name__}.{field.name}" for kind in (Budgets, Config, Timeouts, Limits) for field in fields(kind)
    }
    options |= {f"Options.{name}" for name in Options.__annotations__.keys() - CONFIG_FIELDS}
    options |= {extension.keyword for extension in EXTENSIONS}
    covered = {name for row in ROWS for name in row.covers}
    assert covered == options - PLACES, "add a row for each new option, and remove the rows of removed options"


def test_rows_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(ROWS)
    unknown = {name for row in ROWS for name in row.excludes} - BY_NAME.keys()
    assert unknown == set(), "an excluded row does not exist"


def test_list_of_excluded_pairs_is_up_to_date() -> None:
    text = "".join(f"{one} + {other}: {why}\n" for (one, other), why in EXCLUDED_PAIRS.items())
    assert EXCLUDED.read_text() == text, "write the generated text to the file"


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("s.example").configure_cert(server)
    client = context_trusting(authority)
    return server, client


Portals = dict[str, BlockingPortal]


@pytest.fixture(scope="module")
def portals() -> Iterator[Portals]:
    """An event loop in a thread for each adapter that has one."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(start_blocking_portal(loop_of(name))) for name in BACKENDS}


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    with captured_log() as log:
        yield log


@contextmanager
def serving(backend: str, portals: Portals, service: Service) -> Iterator[None]:
    """Run the server of a pair."""
    block = module_of(backend).serving(service.setup.app, **service.setup.all_options())
    clock = service.setup.clock
    with ThreadPoolExecutor(1) as pool, ExitStack() as loop, ExitStack() as stack:
        if clock:
            CLOCKS[service.setup.app] = clock
        if backend in portals:
            portal = portals[backend]
            if clock:
                portal = loop.enter_context(start_blocking_portal(loop_of(backend), clock.backend_options(backend)))
                loop.enter_context(clock.attached_to(portal))
            block = portal.wrap_async_context_manager(block)
        service.server = stack.enter_context(block)
        stopped: list[Future[None]] = []

        def stop() -> Future[None]:
            if not stopped:
                stopped.append(pool.submit(stack.pop_all().close))
            return stopped[0]

        service.stop = stop
        try:
            yield
        finally:
            stop().result(10)


class Bench:
    """The portals, TLS contexts, directory and log that all pairs share."""

    def __init__(
        self, portals: Portals, contexts: tuple[ssl.SSLContext, ssl.SSLContext], directory: Path, log: Log
    ) -> None:
        self.portals = portals
        self.contexts = contexts
        self.directory = directory
        self.log = log

    def try_pair(self, backend: str, names: tuple[str, str]) -> str | None:
        """Return why a pair does not work, or None."""
        rows = [BY_NAME[name] for name in names]
        lasts: list[Hook | None] = [row.last for row in rows if row.last]
        uses: list[Callable[[Service], None]] = [partial(converse, rows=rows, last=last) for last in lasts or [None]]
        uses += [row.own for row in rows if row.own]
        try:
            for use in uses:
                self._run(backend, rows, use)
        except Exception:
            return f"{names} on {backend}: {traceback.format_exc()}"

        return None

    def _run(self, backend: str, rows: list[Row], use: Callable[[Service], None]) -> None:
        setup = Setup(self.contexts, str(self.directory))
        for row in rows:
            row.on(setup)
        service = Service(setup, self.log)
        with serving(backend, self.portals, service):
            use(service)


@pytest.fixture
def bench(portals: Portals, contexts: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path, log: Log) -> Bench:
    return Bench(portals, contexts, tmp_path, log)


def backend_of(adapter: str, number: int) -> str:
    """Return the backend on which the pair with this number runs."""
    return f"anyio-{('asyncio', 'trio')[number % 2]}" if adapter == "anyio" else adapter


def sample_for(adapter: str) -> list[tuple[int, tuple[str, str]]]:
    """Return a few of the pairs, with their numbers: the same in each run, with each row at least once."""
    shuffled = list(enumerate(PAIRS))
    random.Random(adapter).shuffle(shuffled)
    sample, seen = [], set[str]()
    for number, pair in shuffled:
        if not seen.issuperset(pair):
            sample.append((number, pair))
            seen.update(pair)
    return sample


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_sample_of_options_works_in_pairs(adapter: str, bench: Bench) -> None:
    assert failures(bench, adapter, sample_for(adapter)) == []


@long
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", BY_NAME)
def test_options_work_in_pairs(name: str, adapter: str, bench: Bench) -> None:
    mine = [(number, pair) for number, pair in enumerate(PAIRS) if pair[number % 2] == name]
    assert failures(bench, adapter, mine) == []


def test_excluded_pairs_do_not_work(bench: Bench) -> None:
    pairs = [pair for pair in EXCLUDED_PAIRS if not shared_slot(*pair)]
    assert len(failures(bench, "asyncio", list(enumerate(pairs)))) == len(pairs), "remove what excludes a pair"


def failures(bench: Bench, adapter: str, pairs: list[tuple[int, tuple[str, str]]]) -> list[str]:
    """Try the pairs, several at once because clients and servers wait for each other, and return the failures."""
    with ThreadPoolExecutor(8) as pool:
        tried = pool.map(lambda each: bench.try_pair(backend_of(adapter, each[0] // 2), each[1]), pairs)
        return [failure for failure in tried if failure]
