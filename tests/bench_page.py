"""What the benchmark found, as tables, targets and a figure; written into the pages of ``docs``."""

from __future__ import annotations

import csv
import math
import os
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles

from bench_load import Load

from cds_service.runtime import utc_today

DOCS = Path(__file__).parent.parent / "docs"
PEERS = Path(__file__).parent / "bench_peers.csv"
MIB = 1024 * 1024
FLOOR, SERVICE, BOTH, PEER = "floor", "service", "service with both", "healthchain"
# Fewer calls than this have no hundredth that could be slowest.
ENOUGH_FOR_P99 = 100


@dataclass(slots=True)
class Run:
    """One run: every server with every body in rotation. ``others``: cores that other work used meanwhile."""

    cells: dict[tuple[str, str], list[Load]] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    ready_cpu: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    two_workers: Load | None = None
    others: float = 0.0
    left_out: str = ""

    def cpu(self, server: str, body: str) -> float:
        """CPU ms per call: the least of the rounds, since whatever else runs can only add."""
        return min(load.cpu_ms for load in self.cells[server, body])

    def ratio(self, server: str, body: str) -> float:
        return self.cpu(server, body) / self.cpu(FLOOR, body)

    def times(self, server: str, body: str) -> list[float]:
        return sorted(time for load in self.cells[server, body] for time in load.times)

    def p50(self, server: str, body: str) -> float:
        times = self.times(server, body)
        return times[len(times) // 2] * 1000

    def p99(self, server: str, body: str) -> float | None:
        times = self.times(server, body)
        return quantiles(times, n=100)[-1] * 1000 if len(times) >= ENOUGH_FOR_P99 else None

    def rate(self, server: str, body: str) -> float:
        return max(load.rate for load in self.cells[server, body])

    def servers(self) -> list[str]:
        return list(dict.fromkeys(server for server, _ in self.cells))

    def bodies(self) -> list[str]:
        return list(dict.fromkeys(body for _, body in self.cells))


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to be: ``of`` reads it from a run, ``None`` where it was not measured."""

    what: str
    limit: float
    of: Callable[[Run], float | None]
    unit: str = ""
    at_least: bool = False

    def holds(self, found: float) -> bool:
        return found >= self.limit if self.at_least else found <= self.limit


def _times_floor(body: str, limit: float) -> Target:
    return Target(f"{body}: CPU per call", limit, lambda run: run.ratio(SERVICE, body), " × floor")


def _added(run: Run) -> float:
    bodies = ("10 Observations", "200 Observations", "2000 Observations")
    return max(run.cpu(BOTH, body) - run.cpu(SERVICE, body) for body in bodies)


def _spread(run: Run) -> float | None:
    p99 = run.p99(SERVICE, "200 Observations")
    return None if p99 is None else p99 / run.p50(SERVICE, "200 Observations")


TARGETS = (
    _times_floor("10 Observations", 4),
    _times_floor("200 Observations", 4),
    _times_floor("2000 Observations", 5),
    Target("Authentication and audit add, at most of 10, 200, 2000", 2, _added, " ms"),
    _times_floor("no JAK inhibitor, 10", 1.5),
    _times_floor("no JAK inhibitor, 200", 2.5),
    Target("200 Observations: p99", 4, _spread, " × p50"),
    Target(
        "30 Observations, 2 workers on 2 cores",
        500,
        lambda run: run.two_workers.rate if run.two_workers else None,
        " calls/s",
        at_least=True,
    ),
    Target("Peak memory of a worker", 150, lambda run: max(run.peak[SERVICE], run.peak[BOTH]) / MIB, " MiB"),
    Target("Ready after start", 2, lambda run: max(run.ready[SERVICE], run.ready[BOTH]), " s"),
)


def number(value: float | None) -> str:
    """Three figures, never an exponent."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all but the first column are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The kind of machine, in a line."""
    info = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    kind = found.group(1).strip() if found else platform.machine()
    kernel = ".".join(platform.release().split(".")[:2])
    parts = ", ".join(
        f"{name} {version(name)}" for name in ("gunicorn", "Flask", "msgspec", "fhir.resources")
    )
    return (
        f"{utc_today().isoformat()}, {kind}, {os.cpu_count()} cores, Linux {kernel}, "
        f"Python {platform.python_version()}, {parts}"
    )


def cost_table(run: Run) -> str:
    """CPU per call, and how many times the floor's."""
    peer = PEER in run.servers()
    head = ["CPU ms per call", "floor", "service", "× floor", "with both", "× floor"]
    rows = []
    for body in run.bodies():
        row = [body, number(run.cpu(FLOOR, body))]
        for server in (SERVICE, BOTH, *([PEER] if peer else [])):
            row += [number(run.cpu(server, body)), number(run.ratio(server, body))]
        rows.append(row)
    return table([*head, *(["healthchain", "× floor"] if peer else [])], rows)


def answer_table(run: Run) -> str:
    """p50, p99 and calls a second."""
    servers = run.servers()
    head = ["p50 / p99 in ms; calls/s", *servers]
    rows = [
        [
            body,
            *(
                f"{number(run.p50(s, body))} / {number(run.p99(s, body))}; {number(run.rate(s, body))}"
                for s in servers
            ),
        ]
        for body in run.bodies()
    ]
    return table(head, rows)


def process_table(run: Run) -> str:
    rows = [
        [s, number(run.ready[s]), number(run.ready_cpu[s]), number(run.peak[s] / MIB)] for s in run.servers()
    ]
    return table(["server", "ready after s", "of CPU s", "peak memory of a worker, MiB"], rows)


def target_table(runs: Sequence[Run]) -> str:
    """Each target with what every run found."""
    rows = []
    for target in TARGETS:
        found = [target.of(run) for run in runs]
        held = [value is not None and target.holds(value) for value in found]
        sign = "≥" if target.at_least else "≤"
        verdict = "**held**" if all(held) else f"not held ({sum(held)} of {len(held)})"
        if None in found:
            verdict = "not measured"
        rows.append(
            [target.what, f"{sign} {target.limit:g}{target.unit}", ", ".join(map(number, found)), verdict]
        )
    return table(["target", "limit", "found", ""], rows)


def write_section(page: Path, name: str, text: str) -> None:
    """Puts ``text`` between the page's markers of that name."""
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    after, count = pattern.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", before)
    if count != 1:
        raise ValueError(f"{page.name} has no section {name} between its markers; put them back")
    page.write_text(after, encoding="utf-8")


# --- more machines --------------------------------------------------------------------------------

# What one hospital asks, assumed: every medication order fires a hook at each change of its form and at signing.
ORDERS_A_DAY = 3_000
HOOKS_FOR_AN_ORDER = 11
CHARTS_A_DAY = 2_000
BUSIEST_HOUR = 0.15
CONCERNING = 0.01
USED = 0.5
PLACES = {"a health board of 10 hospitals": 10, "a country of 300": 300, "ten thousand": 10_000}


def scaling_text(
    rows: Sequence[Sequence[str]],
    writing: Sequence[tuple[int, float, float, int]],
    cost: dict[str, float],
    span: str,
) -> str:
    """What was measured, and what follows for many hospitals.

    ``cost``: CPU ms of a call that concerns the guideline, and of one that does not, in this order.
    """
    head = [
        "record",
        "workers",
        "calls/s",
        "CPU ms per call",
        "calls/s per core",
        "CPU ms of the database",
        "p50 ms",
    ]
    concerned, other = cost.values()
    mean = CONCERNING * concerned + (1 - CONCERNING) * other
    limit = max(rate for _, rate, _, _ in writing)
    calls_a_day = ORDERS_A_DAY * HOOKS_FOR_AN_ORDER + CHARTS_A_DAY
    needs = []
    for place, hospitals in PLACES.items():
        calls = hospitals * calls_a_day * BUSIEST_HOUR / 3600
        cores = calls * mean / 1000 / USED
        stores = calls / (limit * USED)
        needs.append([place, number(calls), f"{math.ceil(cores):,}", f"{math.ceil(stores):,}"])
    written = [
        [str(writers), number(rate), number(used), str(waited)] for writers, rate, used, waited in writing
    ]
    return "\n\n".join(
        [
            f"{machine()}. The database, the service and the client of the measurement share these cores.",
            f"{span}, tokens and record (but `none`: neither); two connections for each worker:",
            table(head, rows),
            "The record alone: entries of such calls into one chain on PostgreSQL, commits waiting for the disk. Eight "
            "threads of each process hand in their entries; what gathers meanwhile is written in one transaction:",
            table(
                ["processes", "entries/s", "CPU ms of the database each", "in a spool at the end"], written
            ),
            f"With {number(concerned)} ms of CPU for a call that concerns the guideline and {number(other)} ms "
            "for one that "
            f"does not (both with 200 Observations, tokens and record on PostgreSQL), {number(mean)} ms on average:",
            table(["hospitals", "calls/s in the busiest hour", "cores of the service", "databases"], needs),
        ]
    )


# --- the figure -----------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 860, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 240, 30, 60
_X_SPAN, _Y_SPAN = (8.0, 2_600.0), (0.1, 1_000.0)
_COLOURS = {FLOOR: "#555555", SERVICE: "#0b5fa5", BOTH: "#7a3e9d", PEER: "#b34700"}
_PEER_COLOUR = "#8a8a8a"


def _x(observations: float) -> float:
    low, high = map(math.log10, _X_SPAN)
    return _LEFT + (math.log10(observations) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(ms: float) -> float:
    low, high = map(math.log10, _Y_SPAN)
    return _HEIGHT - _BOTTOM - (math.log10(ms) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _curve(points: Sequence[tuple[float, float]], colour: str, *, ours: bool) -> list[str]:
    places = [(_x(n), _y(ms)) for n, ms in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = "" if ours else ' stroke-dasharray="5 4"'
    fill = colour if ours else "#ffffff"
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}"/>' for x, y in places),
    ]


def peers() -> dict[str, list[tuple[float, float]]]:
    """CPU ms per call of other systems by Observations, measured on another day on a machine of this kind."""
    with PEERS.open(encoding="utf-8", newline="") as stream:
        return {
            row["name"]: [(float(n), float(ms)) for n, ms in row.items() if n != "name"]
            for row in csv.DictReader(stream)
        }


def figure(own: dict[str, list[tuple[float, float]]]) -> str:
    """CPU per call against Observations, both logarithmic; ``own``: points of each server of this run."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13" role="img">',
        "<title>CPU per call against the number of Observations</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for n in (10, 30, 100, 300, 1_000):
        parts += [
            _line(_x(n), _TOP, _x(n), _HEIGHT - _BOTTOM),
            _text(_x(n), _HEIGHT - _BOTTOM + 20, f"{n}", "middle"),
        ]
    for ms in (0.1, 1, 10, 100, 1_000):
        parts += [
            _line(_LEFT, _y(ms), _WIDTH - _RIGHT, _y(ms)),
            _text(_LEFT - 8, _y(ms) + 4, f"{ms:g}", "end"),
        ]
    parts += [
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 18, "Observations in the prefetch", "middle"),
        _text(12, 18, "CPU ms per call"),
    ]
    labels: list[tuple[float, str, str]] = []
    for name, points in peers().items():
        parts += _curve(points, _PEER_COLOUR, ours=False)
        labels.append((_y(points[-1][1]), name, _PEER_COLOUR))
    for name, points in own.items():
        parts += _curve(points, _COLOURS[name], ours=True)
        labels.append((_y(points[-1][1]), f"{name}, this run", _COLOURS[name]))
    last = -math.inf
    for y, name, colour in sorted(labels):
        last = max(y, last + 16)
        parts.append(_text(_WIDTH - _RIGHT + 10, last + 4, name, colour=colour))
    return "\n".join([*parts, "</svg>", ""])


def own_points(run: Run) -> dict[str, list[tuple[float, float]]]:
    """The points of each server at 10, 30, 200 and 2,000 Observations."""
    return {
        server: [(n, run.cpu(server, f"{n} Observations")) for n in (10, 30, 200, 2_000)]
        for server in run.servers()
    }
