"""Measure servers side by side, over loopback."""

# The servers use one CPU and the clients another, if there are two. The main figure is the throughput in a second of
# the server's CPU time: it is the same whether or not the machine is quiet, and whether or not the clients keep the
# server busy. The throughput per second of wall time is reported as well.

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from statistics import quantiles
from typing import Any

from .contenders import CONTENDERS, Contender, Running, allow_many_files, running
from .loads import LOADS, THROUGHPUT

LATENCIES = {"paced": False, "stalled": True}
"""For each latency test, whether a large message arrives at the same time."""
IDLE = "idle"
ALL_LOADS = (*THROUGHPUT, *LATENCIES, IDLE)
PERCENTILES = {"p50": 500, "p99": 990, "p99.9": 999}


def cpus() -> tuple[int | None, int | None]:
    """Return the CPU of the servers and the CPU of the clients."""
    available = sorted(os.sched_getaffinity(0))
    return (available[-1], available[0]) if len(available) > 1 else (None, None)


class Failed(Exception):
    """A server could not be measured."""


class Arena:
    """The servers that are measured, and the start of their clients."""

    def __init__(self, contenders: Iterable[str], *, seconds: float) -> None:
        self.contenders = [name for name in contenders if is_available(name, CONTENDERS[name])]
        self._seconds = seconds
        self._server_cpu, self._client_cpu = cpus()

    def samples(self, loads: Iterable[str], *, rounds: int) -> Iterator[tuple[str, str, dict[str, float]]]:
        """Yield load, server and figures, in interleaved rounds. Each round starts with another server."""
        with ExitStack() as stack:
            servers = {name: stack.enter_context(self._start(name)) for name in self.contenders}
            for number in range(rounds):
                for load in loads:
                    for name in rotated(self.contenders, number):
                        try:
                            yield load, name, self._measure(load, name, servers[name])
                        except Failed as exc:
                            print(f"failed: {name}: {exc}", file=sys.stderr)

    def _start(self, name: str) -> AbstractContextManager[Running]:
        return running(CONTENDERS[name], self._server_cpu)

    def _measure(self, load: str, name: str, server: Running) -> dict[str, float]:
        if load in LATENCIES:
            return self._latency(server, stalled=LATENCIES[load])
        if load == IDLE:
            with self._start(name) as fresh:
                return {"octets": self._result(self._generate("idle", "idle", fresh))["octets"]}

        spins = self._client_cpu is not None
        return _throughput(load, self._result(self._generate("steady", load, server, spins=spins)))

    def _latency(self, server: Running, *, stalled: bool) -> dict[str, float]:
        # A longer run, because the 99.9th percentile needs thousands of messages.
        seconds = 4 * self._seconds
        background = self._generate("steady", "background", server, seconds=seconds, polite=True) if stalled else None
        try:
            latencies = self._result(self._generate("paced", "paced", server, seconds=seconds))["latencies"]
        finally:
            if background:
                self._result(background)

        cuts = quantiles(latencies, n=1000, method="inclusive")
        return {name: cuts[permille - 1] for name, permille in PERCENTILES.items()}

    def _generate(
        self,
        mode: str,
        load: str,
        server: Running,
        *,
        seconds: float | None = None,
        polite: bool = False,
        spins: bool = False,
    ) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "benchmarks.generator", mode, load]
        command += ["--port", str(server.port), "--pid", str(server.pid), "--seconds", str(seconds or self._seconds)]
        command += ["--spin"] * spins
        prepare = partial(_prepare, self._client_cpu, 10 if polite else 0)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)

    def _result(self, process: "subprocess.Popen[str]") -> Any:
        output, errors = process.communicate()
        if process.returncode:
            raise Failed(errors.strip()[-500:])

        return json.loads(output)


def is_available(name: str, contender: Contender) -> bool:
    """Return whether a server can be started. Otherwise print the reason."""
    why = contender.missing()
    if why:
        print(f"skipped: {name}: {why}", file=sys.stderr)

    return why is None


def rotated(names: list[str], by: int) -> list[str]:
    """Return the names in the order of a round, which starts with another name in each round."""
    start = by % len(names) if names else 0
    return names[start:] + names[:start]


def _prepare(cpu: int | None, niceness: int) -> None:
    os.nice(niceness)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def _throughput(load: str, result: dict[str, float]) -> dict[str, float]:
    amount = result["messages"] * (LOADS[load].size / 1e6 if LOADS[load].in_octets else 1)
    return {
        "per_cpu": amount / result["server"],
        "per_second": amount / result["seconds"],
        "server_share": result["server"] / result["seconds"],
        "client_share": result["load"] / result["seconds"],
    }


def measure(
    contenders: Iterable[str] = CONTENDERS, loads: Iterable[str] = ALL_LOADS, *, rounds: int, seconds: float
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return the figures of each round, by load and server."""
    allow_many_files()
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for load, name, sample in Arena(contenders, seconds=seconds).samples(tuple(loads), rounds=rounds):
        found.setdefault(load, {}).setdefault(name, []).append(sample)
        figures = ", ".join(f"{key} {value:,.4g}" for key, value in sample.items())
        print(f"{load:12} {name:16} {figures}", file=sys.stderr)

    return found
