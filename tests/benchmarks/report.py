"""From measurements to numbers that can be compared, and to text: paired ratios, percentiles, targets."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks.callback import Callback
from tests.benchmarks.cases import BUSY_SECONDS, CASES, PLAIN, Case
from tests.benchmarks.measure import Latency, Measurement

_ROOT: Final = Path(__file__).parents[2]
_CONFIDENCE: Final = 0.95
_MANY: Final = 1000
"""Nodes of a run in which what the supervisor takes to begin and to end doesn't count."""
_WALL: Final = {"journal": 0.86, "backends": 0.95, "dead": 0.9}
"""The wall time that is aimed at, by that of plain dbt, with 1,000 models."""
_PACKAGES: Final = ("spanline", "dbt-core", "dbt-duckdb", "openlineage-python", "opentelemetry-sdk")


class Estimate(msgspec.Struct, frozen=True):
    """A median with an interval that has it with the probability `coverage`."""

    median: float
    low: float
    high: float
    coverage: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Target(msgspec.Struct, frozen=True):
    """What was promised, and what was found."""

    what: str
    limit: float
    found: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the promise holds."""
        return self.found <= self.limit


class Group(msgspec.Struct):
    """The measurements on a project of one size."""

    models: int
    nodes: int
    measurements: list[Measurement] = []

    def of(self, case: Case) -> list[Measurement]:
        """The measurements of one case, by repetition."""
        found = [measurement for measurement in self.measurements if measurement.case == case.name]
        return sorted(found, key=lambda measurement: measurement.repetition)

    def cases(self) -> list[Case]:
        """The cases that were measured, in the order in which they are shown."""
        return [case for case in CASES if self.of(case)]

    def ratio(self, case: Case, value: Callable[[Measurement], float]) -> Estimate:
        """How many times the plain run's value is that of the case, each paired with that of its repetition."""
        plain = {measurement.repetition: value(measurement) for measurement in self.of(PLAIN)}
        return estimate([value(found) / plain[found.repetition] for found in self.of(case)])


class Results(msgspec.Struct):
    """Everything that was measured, and on what."""

    environment: dict[str, str]
    groups: list[Group]
    callback: Callback | None = None
    help_seconds: list[float] = []
    targets: list[Target] = []


def estimate(values: Sequence[float]) -> Estimate:
    """The median and the narrowest interval between two order statistics that has it with 95 % or more.

    It assumes nothing of the distribution. Six values are the fewest that have one; of fewer it is their whole range,
    with the coverage that this has.
    """
    ordered = sorted(values)
    count = len(ordered)
    outside = 0  # the outermost pair, unless a narrower one is wide enough
    while outside + 1 < count // 2 and _coverage(count, outside + 1) >= _CONFIDENCE:
        outside += 1
    return Estimate(
        statistics.median(ordered), ordered[outside], ordered[count - 1 - outside], _coverage(count, outside)
    )


def _coverage(count: int, outside: int) -> float:
    """Probability that a median is between the order statistics that leave out `outside` values at either end."""
    return max(0.0, 1 - 2 * sum(math.comb(count, k) for k in range(outside + 1)) / 2.0**count)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all don't exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def environment_facts() -> dict[str, str]:
    """What the numbers depend on; nothing that names this machine, or a place on it."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = " with changes" if _git("status", "--porcelain", "--untracked-files=no", "src") else ""
    return {
        "CPUs": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "commit": f"{commit}{changed}",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


# --- targets ----------------------------------------------------------------------------------------------------------


def targets(results: Results) -> list[Target]:
    """The promises that these measurements can judge."""
    found = [target for group in results.groups for target in _run_targets(group)]
    if results.callback is not None:
        cost = results.callback
        found.append(Target("callback, CPU of a record", 25, cost.records.microseconds, "µs"))
        found.append(Target("callback, CPU of any other event, again", 1, cost.unjournalled.microseconds, "µs"))
        in_place = cost.unjournalled_in_place.microseconds
        found.append(Target("callback, CPU of any other event, as it came", 1, in_place, "µs"))
    if results.help_seconds:
        found.append(Target("`spanline --help`", 0.2, statistics.median(results.help_seconds), "s"))
    return found


def _run_targets(group: Group) -> Iterator[Target]:
    for case in group.cases():
        if case.tool != "spanline":
            continue
        if case.backend == "busy":
            yield Target("events received twice, busy", 0, sum(m.duplicates for m in group.of(case)))
            yield Target("time / a busy backend's own, busy", 1 / 0.95, max(map(_share, group.of(case))))
            continue
        yield Target(f"wall / plain, {case.name}", _WALL.get(case.name, 1.05), group.ratio(case, _run_wall).median)
        yield Target(f"dbt's peak / plain, {case.name}", 1.1, group.ratio(case, lambda m: m.process.peak).median)
        if case.backend == "none":
            yield Target(f"CPU / plain, {case.name}", 0.9, group.ratio(case, lambda m: m.process.cpu).median)
        elif case.backend == "fast" and group.nodes >= _MANY:
            used = statistics.median(m.process.own_cpu for m in group.of(case)) / group.nodes * 1500
            yield Target(f"supervisor's CPU for 1,500 nodes, {case.name}", 5, used, "s")
        yield Target(f"supervisor's peak, {case.name}", 80, max(m.process.own_peak for m in group.of(case)), "MB")
        later = _later_start(group, case)
        if later is not None:
            yield Target(f"first node later than plain, {case.name}", 0.2, later, "s")
        for backend, latencies in _latencies(group, case).items():
            if case.backend == "fast" and latencies.milliseconds:
                limit = 250 if case.cold else 50
                yield Target(
                    f"receipt P99, {backend}, {case.name}", limit, percentile(latencies.milliseconds, 0.99), "ms"
                )
            yield Target(f"events missing, {backend}, {case.name}", 0, latencies.missing)
        last = [m.journalled.last_receipt for m in group.of(case) if m.journalled and m.journalled.last_receipt]
        if case.backend == "slow" and last:
            yield Target(f"last receipt after dbt's end, {case.name}", 10, max(last), "s")


def _later_start(group: Group, case: Case) -> float | None:
    """Median of the seconds by which the first node started later than in the plain run of the same repetition."""
    plain = {m.repetition: m.first_node for m in group.of(PLAIN)}
    pairs = [(m.first_node, plain.get(m.repetition)) for m in group.of(case)]
    later = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    return statistics.median(later) if later else None


def _latencies(group: Group, case: Case) -> dict[str, Latency]:
    """Of all repetitions together."""
    found: dict[str, Latency] = {}
    for measurement in group.of(case):
        journalled = measurement.journalled
        if journalled is None or journalled.lineage is None or journalled.spans is None:
            continue
        for backend, latency in (("OpenLineage", journalled.lineage), ("OTLP", journalled.spans)):
            total = found.setdefault(backend, Latency([]))
            total.milliseconds += latency.milliseconds
            total.missing += latency.missing
    return found


def _share(measurement: Measurement) -> float:
    """How many times as long all events but the first took as the backend has worked on them."""
    return measurement.lineage_seconds / ((measurement.lineage_events - 1) * BUSY_SECONDS)


def _run_wall(measurement: Measurement) -> float:
    return measurement.run_wall


# --- text -------------------------------------------------------------------------------------------------------------


def markdown(results: Results) -> str:
    """The report."""
    parts = ["## Environment", *(f"- {name}: {value}" for name, value in results.environment.items())]
    for group in results.groups:
        parts += ["", f"## {group.models} models, {group.nodes} nodes", "", *_ratios(group), "", *_absolutes(group)]
        parts += _receipts(group)
    if results.callback is not None:
        parts += ["", "## Callback: CPU time of dbt's thread", "", *_callback(results.callback)]
    if results.targets:
        parts += ["", "## Targets", "", *_targets(results.targets)]
    return "\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---", *["---:"] * (len(head) - 1)]), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ratios(group: Group) -> list[str]:
    cases = [case for case in group.cases() if case is not PLAIN]
    if not cases:
        return []
    coverage = min(group.ratio(case, _run_wall).coverage for case in cases)
    say = f"Ratios to the plain run of the same repetition: median [{coverage:.0%} interval]."
    head = ("case", "wall until dbt's end", "wall in all", "CPU, all processes", "peak memory, dbt")
    values: tuple[Callable[[Measurement], float], ...] = (
        _run_wall,
        lambda m: m.process.wall,
        lambda m: m.process.cpu,
        lambda m: m.process.peak,
    )
    return [say, "", *_table(head, [[case.title, *(str(group.ratio(case, v)) for v in values)] for case in cases])]


def _absolutes(group: Group) -> list[str]:
    head = (
        "median of",
        "runs",
        "wall s",
        "wait for backends s",
        "CPU s",
        "supervisor CPU s",
        "receivers CPU s",
        "dbt peak MB",
        "supervisor peak MB",
        "first node s",
        "journal events",
        "OpenLineage events",
        "OTLP requests",
    )
    return _table(head, [[case.title, *_absolute(case, group.of(case))] for case in group.cases()])


def _absolute(case: Case, found: list[Measurement]) -> Iterator[str]:
    ours = case.tool != "dbt"
    journals = [m.journalled for m in found if m.journalled is not None]
    yield str(len(found))
    yield _median([m.process.wall for m in found])
    yield _median([m.process.wall - m.run_wall for m in found if m.journalled is not None])
    yield _median([m.process.cpu for m in found])
    yield _median([m.process.own_cpu for m in found if ours])
    yield _median([journal.receiver_cpu for journal in journals if journal.receiver_cpu])
    yield _median([m.process.peak for m in found], 0)
    yield _median([m.process.own_peak for m in found if ours], 0)
    yield _median([m.first_node for m in found if m.first_node is not None])
    yield _median([journal.events for journal in journals], 0)
    yield _median([m.lineage_events for m in found if m.lineage_events], 0)
    yield _median([m.trace_requests for m in found if m.trace_requests], 0)


def _median(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f}" if values else ""


def _receipts(group: Group) -> list[str]:
    rows = []
    for case in group.cases():
        journals = [m.journalled for m in group.of(case) if m.journalled is not None]
        last = _median([j.last_receipt for j in journals if j.last_receipt is not None])
        for backend, latency in _latencies(group, case).items():
            values = latency.milliseconds
            shown = [f"{percentile(values, share):.1f}" for share in (0.5, 0.99, 1)] if values else ["", "", ""]
            rows.append([case.title, backend, *shown, str(latency.missing), last])
    if not rows:
        return []
    head = ("from a node's end to its receipt", "backend", "P50 ms", "P99 ms", "max ms", "missing", "last of all s")
    return ["", *_table(head, rows)]


def _callback(cost: Callback) -> list[str]:
    rows = [
        ("records journalled", cost.records),
        ("journalled", cost.journalled),
        ("not journalled, given again", cost.unjournalled),
        ("not journalled, as they came", cost.unjournalled_in_place),
        *((f"journalled: {name}", found) for name, found in list(cost.by_event.items())[:8]),
    ]
    return _table(("events", "number", "µs each"), [(n, str(c.calls), f"{c.microseconds:.2f}") for n, c in rows])


def _targets(found: Iterable[Target]) -> list[str]:
    rows = [
        (t.what, f"{t.limit:g} {t.unit}".strip(), f"{t.found:.3g} {t.unit}".strip(), "yes" if t.met else "**no**")
        for t in found
    ]
    return _table(("target", "at most", "found", "met"), rows)
