"""Turn what was measured into tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from .contenders import CONTENDERS
from .core import lines_of
from .loads import LOADS, THROUGHPUT
from .rounds import Spread, spread

Samples: TypeAlias = dict[str, list[dict[str, float]]]
"""What each round has measured, by server."""

BEGIN, END = "<!-- made by `python -m benchmarks`, as are all lines to the end of it -->", "<!-- the end of it -->"
REFERENCES = ("aiosmtpd", "smtp-sink")


@dataclass(frozen=True, slots=True)
class Aim:
    """What the library wants to reach."""

    load: str
    contender: str
    figure: str
    least: float = 0.0
    """The least ratio to `reference`."""
    most: float = 0.0
    """The greatest ratio to `reference`; without one, the greatest value."""
    reference: str = ""


def _at_least(load: str, reference: str, **ratios: float) -> Iterator[Aim]:
    for contender, ratio in ratios.items():
        yield Aim(load, contender, "per_cpu", least=ratio, reference=reference)


AIMS = (
    *_at_least("large", "aiosmtpd", asyncio=12, uvloop=12, trio=12),
    *_at_least("large", "smtp-sink", asyncio=2, uvloop=2, trio=2),
    *_at_least("dots", "aiosmtpd", asyncio=9, uvloop=9, trio=9),
    *_at_least("medium", "aiosmtpd", asyncio=8, uvloop=9, trio=7),
    *_at_least("medium", "smtp-sink", asyncio=1),
    *_at_least("medium", "nodemailer", uvloop=1),
    *_at_least("small", "aiosmtpd", asyncio=6, uvloop=7, trio=3),
    *_at_least("small", "nodemailer", uvloop=1),
    *_at_least("connections", "aiosmtpd", asyncio=4, uvloop=5, trio=2),
    *_at_least("envelope", "aiosmtpd", asyncio=9, uvloop=10, trio=6),
    *_at_least("recipients", "aiosmtpd", asyncio=6, uvloop=8, trio=4),
    *(Aim("stalled", name, "p99", most=0.020) for name in ("asyncio", "uvloop", "trio")),
    *(Aim("idle", name, "octets", most=0.5, reference="aiosmtpd") for name in ("asyncio", "uvloop")),
    Aim("idle", "trio", "octets", most=0.75, reference="aiosmtpd"),
    *(Aim(load, "anyio", "per_cpu", least=0.85, reference="asyncio") for load in THROUGHPUT),
    *(Aim(load, "anyio-trio", "per_cpu", least=0.85, reference="trio") for load in THROUGHPUT),
)
CORE_AIMS = {
    "commands: NOOP, one at a time": 200_000,
    "commands: MAIL, 2 x RCPT, RSET, one at a time": 200_000,
    "messages: 2 KB, chunks, one command at a time": 25_000,
    "bodies: lines, segments of 65,536, no dots": 120,
}
"""The least that the core alone gets done in a second of CPU time."""
TITLES = {
    **{name: load.title for name, load in LOADS.items()},
    "paced": "Latency: 200 messages of 2 KB a second",
    "stalled": "Latency: the same, while 100 MB arrive in another session",
    "idle": "Memory: 2,000 idle sessions",
}


def ratio(samples: Samples, of: str, to: str, figure: str) -> float | None:
    """The median of the ratios of each round, None where one of the two was not measured."""
    pairs = zip(samples.get(of, ()), samples.get(to, ()), strict=False)
    ratios = [one[figure] / other[figure] for one, other in pairs if other[figure]]
    return median(ratios) if ratios else None


def spread_of(samples: Samples, name: str, figure: str) -> Spread:
    """Over all rounds."""
    return spread(sample[figure] for sample in samples[name])


# The tables


def tables(result: dict[str, Any]) -> Iterator[str]:
    """All of it as Markdown."""
    yield f"Measured on {result['date']}: {result['machine']}."
    yield ""
    servers = result.get("servers", {})
    yield "### Aims"
    yield ""
    yield "| load | server | aim | measured | |"
    yield "|---|---|---|---|---|"
    yield from _aims(servers)
    yield from _core_aims(result.get("core", {}).get("rates", {}))
    yield ""
    for load, samples in servers.items():
        yield f"### {TITLES[load]}"
        yield ""
        yield from TABLE_OF.get(load, _throughput)(load, samples)
        yield ""
    if "core" in result:
        yield "### The core alone"
        yield ""
        yield from lines_of(result["core"])


def _throughput(load: str, samples: Samples) -> Iterator[str]:
    unit = "MB" if LOADS[load].in_octets else "messages"
    yield f"| server | {unit} per second of its CPU | per second | {_heads()} | its CPU | clients' CPU |"
    yield "|---" * (5 + len(REFERENCES)) + "|"
    for name in samples:
        rates = [_with_quartiles(spread_of(samples, name, figure), "{:,.0f}") for figure in ("per_cpu", "per_second")]
        shares = [f"{spread_of(samples, name, figure).median:.0%}" for figure in ("server_share", "client_share")]
        yield _row(name, *rates, *_ratios(samples, name, "per_cpu"), *shares)


def _latency(_load: str, samples: Samples) -> Iterator[str]:
    yield "| server | p50, ms | p99, ms | p99.9, ms |"
    yield "|---|---|---|---|"
    for name in samples:
        figures = [spread_of(samples, name, figure) for figure in ("p50", "p99", "p99.9")]
        yield _row(name, *(_with_quartiles(figure, "{:.1f}", 1e3) for figure in figures))


def _idle(_load: str, samples: Samples) -> Iterator[str]:
    yield f"| server | KiB each | {_heads()} |"
    yield "|---" * (2 + len(REFERENCES)) + "|"
    for name in samples:
        each = _with_quartiles(spread_of(samples, name, "octets"), "{:.1f}", 1 / 1024)
        yield _row(name, each, *_ratios(samples, name, "octets"))


TABLE_OF: dict[str, Callable[[str, Samples], Iterator[str]]] = {"paced": _latency, "stalled": _latency, "idle": _idle}


def _heads() -> str:
    return " | ".join(f"to {reference}" for reference in REFERENCES)


def _row(name: str, *cells: str) -> str:
    return f"| {CONTENDERS[name].title} | {' | '.join(cells)} |"


def _ratios(samples: Samples, name: str, figure: str) -> Iterator[str]:
    for reference in REFERENCES:
        found = ratio(samples, name, reference, figure)
        yield "" if found is None else f"{found:.2f} x"


def _with_quartiles(figure: Spread, form: str, scale: float = 1.0) -> str:
    median, low, high = (form.format(value * scale) for value in (figure.median, figure.low, figure.high))
    return f"{median} ({low} to {high})"


def _aims(servers: dict[str, Samples]) -> Iterator[str]:
    for aim in AIMS:
        found = reached(aim, servers.get(aim.load, {}))
        if found is None:
            continue
        met = found >= aim.least if aim.least else found <= aim.most
        cells = (TITLES[aim.load], CONTENDERS[aim.contender].title, _aim_text(aim), _aim_figure(aim, found))
        yield f"| {' | '.join(cells)} | {_verdict(met)} |"


def _core_aims(rates: dict[str, dict[str, float]]) -> Iterator[str]:
    for name, least in CORE_AIMS.items():
        if name in rates:
            found = rates[name]["median"]
            yield f"| {name} | the core alone | {least:,} or more | {found:,.0f} | {_verdict(found >= least)} |"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def reached(aim: Aim, samples: Samples) -> float | None:
    """The figure that an aim speaks of, None where it was not measured."""
    if aim.reference:
        return ratio(samples, aim.contender, aim.reference, aim.figure)

    return spread_of(samples, aim.contender, aim.figure).median if aim.contender in samples else None


def _aim_text(aim: Aim) -> str:
    if not aim.reference:
        return f"{aim.figure} of {aim.most * 1e3:.0f} ms at most"

    bound = f"{aim.least:g} x or more" if aim.least else f"{aim.most:g} x or less"
    return f"{bound}, to {CONTENDERS[aim.reference].title}"


def _aim_figure(aim: Aim, found: float) -> str:
    return f"{found:.2f} x" if aim.reference else f"{found * 1e3:.1f} ms"


def put_between_markers(path: Path, lines: Iterator[str]) -> None:
    """Replace what stands between `BEGIN` and `END` in a file. Raises `ValueError` if it has no such lines."""
    head, begin, rest = path.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} lacks the lines that the tables belong between")

    path.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines).rstrip() + f"\n\n{END}{tail}")
