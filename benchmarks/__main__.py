"""Measure the core alone, compare servers, and print the results; with `--publish`, update the README and the plots."""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import builds, core, servers
from .contenders import COMPILED, CONTENDERS
from .report import put_between_markers, tables

HERE = Path(__file__).parent


def machine() -> str:
    """Return a description of the machine."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}, Linux {platform.release()}, {python}"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the selected benchmarks."""
    result: dict[str, Any] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
    rounds, seconds = (1, 0.3) if options.quick else (options.rounds, options.seconds)
    if options.only != "core":
        result["servers"] = servers.measure(options.contender, options.load, rounds=rounds, seconds=seconds)
    if options.only != "servers":
        result["core"] = core.measure(quick=options.quick, pythons=options.python)
        if COMPILED in os.environ:
            pythons = (sys.executable, os.environ[COMPILED])
            result["builds"] = builds.measure(pythons, rounds=rounds, seconds=min(seconds, 0.3))

    return result


def publish(result: dict[str, Any]) -> None:
    """Update the results, tables and plots in the repository."""
    from .plots import draw  # imported here, because only this function needs matplotlib

    (HERE / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    put_between_markers(HERE / "README.md", tables(result))
    draw(result, HERE / "plots")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=("core", "servers"), help="run only the core, or only the servers")
    parser.add_argument("--contender", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="servers to run")
    parser.add_argument("--load", nargs="+", choices=servers.ALL_LOADS, default=servers.ALL_LOADS, help="loads to run")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="duration of each measurement (default: 1.5)")
    parser.add_argument("--quick", action="store_true", help="one short round, for a test of the benchmarks")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PATH", help="interpreters for the newline check"
    )
    parser.add_argument(
        "--compiled", metavar="PYTHON", help="the interpreter of an environment with the compiled build, to compare it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--publish", action="store_true", help="also update results.json, the plots and the README")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="do not measure; use the figures in FILE"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Run the command."""
    options = parse(arguments)
    if options.compiled:
        os.environ[COMPILED] = options.compiled
    result = json.loads(options.source.read_text()) if options.source else measure(options)
    print("\n".join(tables(result)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.publish:
        publish(result)


if __name__ == "__main__":
    main(sys.argv[1:])
