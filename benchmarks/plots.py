"""Draw the results as SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .contenders import CONTENDERS
from .loads import LOADS, THROUGHPUT
from .report import TITLES, Samples, spread_of

OURS, OTHERS = "#2a6f97", "#b0b7bf"
LATENCIES = ("paced", "stalled")
PERCENTILES = {"p50": "o", "p99": "s", "p99.9": "D"}


def draw(result: dict[str, Any], directory: Path) -> list[Path]:
    """Draw all plots for which there are results, and return the files."""
    mpl.rcParams.update({"svg.hashsalt": "smtpcore", "svg.fonttype": "none", "font.size": 8})
    directory.mkdir(parents=True, exist_ok=True)
    servers: dict[str, Samples] = result.get("servers", {})
    figures = {
        "throughput.svg": _throughput({load: servers[load] for load in THROUGHPUT if load in servers}),
        "latency.svg": _latencies({load: servers[load] for load in LATENCIES if load in servers}),
    }
    drawn = {directory / name: figure for name, figure in figures.items() if figure}
    for path, figure in drawn.items():
        figure.supxlabel(f"{result['date']}, {result['machine']}", fontsize=6, color="#555555")
        figure.savefig(path, metadata={"Date": None})

    return list(drawn)


def _color(name: str) -> str:
    return OURS if CONTENDERS[name].title.startswith("smtpcore") else OTHERS


def _throughput(loads: dict[str, Samples]) -> Figure | None:
    if not loads:
        return None

    rows = (len(loads) + 1) // 2
    figure = Figure(figsize=(9, 2.4 * rows), layout="constrained")
    figure.suptitle("Throughput in one second of a server's CPU time", fontsize=10)
    axes = figure.subplots(rows, 2, squeeze=False, sharey=True).flat
    for axis in axes[len(loads) :]:
        axis.set_visible(False)
    for axis, (load, samples) in zip(axes, loads.items(), strict=False):
        names = list(samples)[::-1]
        rates = [spread_of(samples, name, "per_cpu") for name in names]
        errors = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
        titles = [CONTENDERS[name].title for name in names]
        axis.barh(titles, [rate.median for rate in rates], xerr=errors, color=[_color(name) for name in names])
        unit = "MB" if LOADS[load].in_octets else "messages"
        axis.set_title(f"{TITLES[load]}: {unit}", loc="left", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)

    return figure


def _latencies(loads: dict[str, Samples]) -> Figure | None:
    if not loads:
        return None

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    figure.suptitle("Milliseconds until a message is accepted: median (circle), p99 (square), p99.9", fontsize=10)
    axes = figure.subplots(1, len(loads), squeeze=False, sharey=True, sharex=True).flat
    for axis, (load, samples) in zip(axes, loads.items(), strict=True):
        names = list(samples)[::-1]
        for percentile, marker in PERCENTILES.items():
            values = [spread_of(samples, name, percentile).median * 1e3 for name in names]
            titles = [CONTENDERS[name].title for name in names]
            axis.scatter(values, titles, marker=marker, c=[_color(name) for name in names], s=18, label=percentile)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_title(TITLES[load].removeprefix("Latency: "), loc="left", fontsize=8)
        axis.grid(axis="x", color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)

    return figure
