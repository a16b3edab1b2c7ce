"""Try the mutants that mutmut made, quickly: `python -m tests.mutation` runs this in the directory `mutants`.

mutmut starts pytest again for each mutant, and lets each call of the core choose between a function and its mutants.
Here the tests are collected once. Each mutant runs in a fork of that process, where its code replaces the
function. The tests run at their usual speed, and only those that execute the statement that the mutant changes. Tests
that detected other mutants of this function run first, then those of the test file of its module. Many tests execute a
statement of the core, so that a budget of time ends before the last.

Calls made while the core is imported or the tests are collected have already happened by then. If a mutant of such a
function survives, the core is imported again with this mutant. Then the test file of the module and the files that call
the function are collected and run again, unless they take too long.

The executed lines are recorded with `sys.monitoring`, which came with Python 3.12.
"""

import argparse
import ast
import fnmatch
import gc
import inspect
import json
import os
import pickle
import resource
import signal
import sys
import textwrap
import time
from array import array
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutmut.configuration import config
from mutmut.mutation import trampoline

SURVIVED, KILLED, NO_TESTS, TIMEOUT = 0, 1, 33, 36  # exit codes of mutmut
MEMORY = 4 << 30  # octets of address space, to stop a mutant that appends forever
SECONDS = 2.0  # added to the time of a test, to stop a mutant that loops forever
PYTEST = [
    *("-x", "-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:logging"),
    *("--hypothesis-profile", "mutants", "--assert=plain", "--override-ini=addopts=--strict-markers"),
]

monitoring: Any = getattr(sys, "monitoring", None)
TOOL = 2  # sys.monitoring.PROFILER_ID

SECONDS_ANEW = 60.0
ANEW = -1  # the place of tests that are collected again
IMPORTED_ANEW = ("smtpcore", "smtpcore_adapters", "tests", "fuzz", "benchmarks", "tools")
WRAP = trampoline.wrap_in_trampoline  # of mutmut itself: each call chooses the mutant in the environment
DESELECTED = [option for option in config().pytest_add_cli_args_test_selection if option.startswith("--deselect")]

Pair = tuple[FunctionType, FunctionType]  # a function and a mutant of it


Lines = dict[str, set[int]]
"""Executed lines by function, counted from the line of its `def`."""


class Watch:
    """Records the lines of the functions with mutants that are executed."""

    def __init__(self) -> None:
        self._functions: dict[int, tuple[FunctionType, dict[str, FunctionType], int]] = {}
        """The function of each code object, its mutants, and its first line, by the id of the code."""
        self._lines: Lines = defaultdict(set)
        monitoring.use_tool_id(TOOL, "mutants")
        monitoring.register_callback(TOOL, monitoring.events.LINE, self._note)

    def add(self, function: FunctionType, mutants: dict[str, FunctionType]) -> None:
        """Watch a function. Its mutants are made later."""
        first = first_line(function)
        codes = [function.__code__]
        for code in codes:
            self._functions[id(code)] = function, mutants, first
            monitoring.set_local_events(TOOL, code, monitoring.events.LINE)
            codes += [each for each in code.co_consts if isinstance(each, CodeType)]

    def start(self) -> None:
        """Clear the record and start recording."""
        self._lines = defaultdict(set)
        monitoring.restart_events()

    def lines(self) -> Lines:
        """Return the lines that were executed since the start."""
        return self._lines

    def stop(self) -> None:
        """Stop recording."""
        monitoring.free_tool_id(TOOL)

    def _note(self, code: CodeType, line: int) -> Any:
        function, mutants, first = self._functions[id(code)]
        self._lines[name_of(function, mutants)].add(line - first)
        return monitoring.DISABLE


class Results:
    """The results of the mutants, in the files of mutmut."""

    def __init__(self) -> None:
        self._files = {path: json.loads(path.read_text()) for path in sorted(Path("src").rglob("*.meta"))}

    def choose(self, patterns: list[str], *, again: bool) -> list[tuple[Path, str]]:
        """Return files and names of the mutants without a result (with `again`, also of the survivors)."""
        return [
            (path, name)
            for path, file in self._files.items()
            for name, code in file["exit_code_by_key"].items()
            if code is None or (again and code in (SURVIVED, NO_TESTS))
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]

    def keep(self, path: Path, name: str, code: int, seconds: float) -> None:
        """Store one result."""
        file = self._files[path]
        file["exit_code_by_key"][name] = code
        file["durations_by_key"][name] = seconds
        path.write_text(json.dumps(file, indent=4))


class Runner:
    """A pytest plugin that runs the tests once for each mutant."""

    def __init__(self, results: Results, chosen: list[tuple[Path, str]], budget: float, processes: int) -> None:
        self._results, self._chosen, self._budget, self._processes = results, chosen, budget, processes
        self._functions: list[tuple[FunctionType, dict[str, FunctionType]]] = []
        self._watch = Watch()
        self._starting: set[str] = set()
        """The functions that are called before the collection, while conftest files import the core."""
        self._collecting: dict[Path, set[str]] = defaultdict(set)
        """The functions that the collection of each file calls."""
        self._tests: dict[str, dict[int, array[int]]] = {}
        """The places of the tests that execute a line, by function and line."""
        self._seconds: list[float] = []
        """Seconds that each test takes while recorded."""
        self._places: dict[str, list[int]] = defaultdict(list)
        """The places of the tests of each file."""
        self._noticed: dict[str, Counter[int]] = defaultdict(Counter)
        """Number of mutants that each test has noticed, by function; the key "" counts all functions."""
        vars(trampoline)["wrap_in_trampoline"] = self._define
        self._watch.start()

    def _define(self, mutants: dict[str, FunctionType], is_classmethod: bool = False) -> Callable[..., FunctionType]:
        """Return a decorator that records a function. The decorator of mutmut would choose a mutant in each call."""

        def decorate(function: FunctionType) -> FunctionType:
            self._functions.append((function, mutants))
            self._watch.add(function, mutants)
            return function

        return decorate

    def pytest_sessionstart(self) -> None:
        """Keep the record of the calls before the collection."""
        self._starting = set(self._watch.lines())

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        """Record the calls during the collection of a file."""
        self._watch.start()
        report = yield
        self._collecting[collector.path] |= self._watch.lines().keys()
        return report

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all tests once, and then, for each mutant, the tests that call its function."""
        items = session.items
        self._tests, self._seconds = in_fork(lambda: self._try_tests(items))
        self._watch.stop()
        for place, item in enumerate(items):
            self._places[str(item.path)].append(place)

        gc.collect()
        gc.freeze()
        early = next(
            (function, mutants)
            for function, mutants in self._functions
            if name_of(function, mutants) in self._starting and self._files(name_of(function, mutants), function)
        )
        for function, mutants in [early, *self._functions[:: len(self._functions) // 5]]:
            original = mutants["_mutmut_orig"]
            failed = self._first_failure(items, name_of(function, mutants), (function, original), original)
            assert failed is None, f"tests fail with an unchanged copy of {function.__qualname__}"

        parts = split(self._chosen, self._processes)
        pids = [start_fork(partial(self._try_mutants, items, part)) for part in parts]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        return not any(codes) or sys.exit("not all mutants were tried")

    def _try_tests(self, items: list[pytest.Item]) -> tuple[dict[str, dict[int, array[int]]], list[float]]:
        """Return the tests of each line of each function, and the seconds of each test."""
        tests: dict[str, dict[int, array[int]]] = defaultdict(lambda: defaultdict(partial(array, "i")))
        seconds = []
        for place, (item, following) in enumerate(pairwise([*items, None])):
            assert item
            clear_caches()  # otherwise only the first test would call a cached function
            start = time.process_time()
            self._watch.start()
            passed = run(item, following)
            for name, lines in self._watch.lines().items():
                for line in lines:
                    tests[name][line].append(place)
            assert passed, f"fails without any mutant: {item.nodeid}"
            seconds.append(time.process_time() - start)

        return {name: dict(lines) for name, lines in tests.items()}, seconds

    def _try_mutants(self, items: list[pytest.Item], chosen: list[tuple[Path, str]]) -> None:
        pairs = {
            f"{function.__module__}.{name}": ((function, mutant), mutants["_mutmut_orig"])
            for function, mutants in self._functions
            for name, mutant in mutants.items()
        }
        counts, began = Counter[int](), time.monotonic()
        for number, (path, mutant) in enumerate(chosen, 1):
            start = time.monotonic()
            code = self._try(items, mutant, *pairs[mutant])
            self._results.keep(path, mutant, code, time.monotonic() - start)
            counts[code] += 1
            if number % 50 == 0 or number == len(chosen):
                took = time.monotonic() - began
                sys.stdout.write(f"{number} of {len(chosen)} in {took:.0f} s: {dict(counts)}\n")
                sys.stdout.flush()

    def _try(self, items: list[pytest.Item], mutant: str, pair: Pair, original: FunctionType) -> int:
        """Try one mutant. Return its exit code."""
        name = mutant.partition("__mutmut_")[0]
        try:
            failed = self._first_failure(items, name, pair, original)
        except TimeoutError:
            return TIMEOUT

        if failed is None:
            return SURVIVED if name in self._tests else NO_TESTS

        self._noticed[name][failed] += 1
        self._noticed[""][failed] += 1
        return KILLED

    def _first_failure(self, items: list[pytest.Item], name: str, pair: Pair, original: FunctionType) -> int | None:
        """Return the place of the first test that fails with this mutant, or None."""
        here, everywhere = self._noticed[name], self._noticed[""]
        places = self._places_of(name, changed_lines(original, pair[1]))
        own = test_file(pair[0].__module__)
        others = {place for place in places if str(items[place].path) != own}
        places.sort(key=lambda place: (-here[place], place in others, self._seconds[place] / (1 + everywhere[place])))
        budget = list(accumulate(self._seconds[place] for place in places))
        numbered = [(place, items[place]) for place in places[: bisect(budget, self._budget)]]
        failed: int | None = in_fork(lambda: self._run_with(numbered, self._files(name, pair[0]), *pair), quiet=True)
        return failed

    def _places_of(self, name: str, lines: set[int]) -> list[int]:
        """Return the places of the tests that execute one of these lines; if none does, of those that call it."""
        tests = self._tests.get(name, {})
        chosen = tests.keys() & lines or tests
        return sorted({place for line in chosen for place in tests[line]})

    def _files(self, name: str, function: FunctionType) -> list[str]:
        """Return the files to collect again for `function`, none unless it is called before the tests.

        The test file of its module comes first, then the quickest of the files whose collection calls `function`.
        """
        calling = [str(path) for path, names in self._collecting.items() if name in names]
        if not calling and name not in self._starting:
            return []

        own = test_file(function.__module__)
        seconds = {file: sum(self._seconds[place] for place in self._places[file]) for file in {own, *calling}}
        files = [file for file in seconds if self._places[file]]
        files.sort(key=lambda file: (file != own, seconds[file]))
        return files[: bisect(list(accumulate(seconds[file] for file in files)), self._budget)]

    def _run_with(
        self, items: list[tuple[int, pytest.Item]], files: list[str], function: FunctionType, mutant: FunctionType
    ) -> int | None:
        """Run tests with a mutant in place of its function. Return the place of the first failure, or None."""
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        function.__code__ = mutant.__code__
        function.__defaults__, function.__kwdefaults__ = mutant.__defaults__, mutant.__kwdefaults__
        clear_caches()
        following = [item for _, item in items[1:]]
        for (place, item), after in zip(items, [*following, None], strict=False):
            signal.setitimer(signal.ITIMER_PROF, SECONDS + 10 * self._seconds[place])
            if not run(item, after):
                return place

        signal.setitimer(signal.ITIMER_PROF, SECONDS_ANEW)
        return None if run_anew(files, f"{mutant.__module__}.{mutant.__name__}") else ANEW

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport | None:
        """Report a failure without its text, which takes long to format."""
        if call.excinfo is None or call.excinfo.errisinstance(pytest.skip.Exception):
            return None

        assert call.when != "collect"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", None, call.when)


def name_of(function: FunctionType, mutants: dict[str, FunctionType]) -> str:
    """Return the name of a function as used in the names of its mutants."""
    return f"{function.__module__}.{next(reversed(mutants))}".partition("__mutmut_")[0]


def first_line(function: FunctionType) -> int:
    """Return the number of the line with the `def` of a function, which follows its decorators."""
    lines, first = inspect.getsourcelines(function)
    return first + next(place for place, line in enumerate(lines) if line.split(maxsplit=1)[0] in ("def", "async"))


def changed_lines(original: FunctionType, mutant: FunctionType) -> set[int]:
    """Return the lines of the statement that a mutant changes, without the statements inside it.

    The lines are counted from that of the `def`. The set is empty if the mutant changes the `def` itself.
    """
    source = textwrap.dedent(inspect.getsource(original))
    before, after = source.splitlines(), textwrap.dedent(inspect.getsource(mutant)).splitlines()
    pairs = enumerate(zip(before, after, strict=False))
    changed = next((place for place, (old, new) in pairs if place and old != new), 0)
    inside = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)][1:]
    spans = [range(node.lineno - 1, (node.end_lineno or node.lineno)) for node in inside]
    around = min((span for span in spans if changed in span), key=len, default=range(0))
    return set(around).difference(*(span for span in spans if set(span) < set(around)))


def run(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Run one test. Return whether it passes."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    return not item.session.testsfailed


def split(chosen: list[tuple[Path, str]], number: int) -> list[list[tuple[Path, str]]]:
    """Divide mutants among processes. All mutants of a file go to the same process, which writes their results."""
    by_file: dict[Path, list[tuple[Path, str]]] = defaultdict(list)
    for path, name in chosen:
        by_file[path].append((path, name))

    parts: list[list[tuple[Path, str]]] = [[] for _ in range(number)]
    for mutants in sorted(by_file.values(), key=len, reverse=True):
        min(parts, key=len).extend(mutants)
    return [part for part in parts if part]


def start_fork(work: Callable[[], None]) -> int:
    """Call `work` in a fork of this process. Return its process id."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


def in_fork(work: Callable[[], Any], *, quiet: bool = False) -> Any:
    """Return the result of `work` in a fork of this process. Raise `TimeoutError` if the fork runs out of time."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        if quiet:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)

        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(work(), pipe)

        os._exit(0)

    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()

    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == -signal.SIGPROF:
        raise TimeoutError

    return pickle.loads(data) if data else sys.exit(f"A fork of this process ended with {code}.")


def clear_caches() -> None:
    """Clear the caches of the core, which hold results of the unchanged functions."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "smtpcore":
            for value in vars(module).values():
                getattr(value, "cache_clear", lambda: None)()


def test_file(module: str) -> str:
    """Return the path of the test file of a module: `tests/smtpcore/bodies/test_lines.py` for `_bodies._lines`."""
    *packages, name = (part.lstrip("_") for part in module.split("."))
    return str(Path("tests", *packages, f"test_{name}.py").absolute())


def run_anew(files: list[str], mutant: str) -> bool:
    """Import the core with a mutant, collect the tests in these files again and run them. Return whether they pass."""
    if not files:
        return True

    for name in [name for name in sys.modules if name.partition(".")[0] in IMPORTED_ANEW]:
        del sys.modules[name]

    vars(trampoline)["wrap_in_trampoline"] = WRAP
    trampoline.set_mutant_under_test(mutant)
    return not pytest.main([*PYTEST, *files, *DESELECTED])


def main() -> None:
    """Try mutants."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("names", nargs="*", help="names of mutants, in which * stands for any part; all by default")
    parser.add_argument("--again", action="store_true", help="also try mutants that survived")
    parser.add_argument("--seconds", type=float, default=15.0, help="test time per mutant, as measured while recording")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="mutants tried at the same time")
    options = parser.parse_args()
    if monitoring is None:
        sys.exit("The executed lines cannot be recorded: use Python 3.12 or later.")

    results = Results()
    chosen = results.choose(options.names or ["*"], again=options.again)
    sys.stdout.write(f"{len(chosen)} mutants\n")
    runner = Runner(results, chosen, options.seconds, options.processes)
    sys.exit(pytest.main([*PYTEST, *config().pytest_add_cli_args_test_selection], plugins=[runner]))


if __name__ == "__main__":
    main()
