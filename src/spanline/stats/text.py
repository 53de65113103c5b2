"""The report as text: what `spanline stats` prints without `--json`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from spanline.results.summary import duration, plural
from spanline.runner.shared.visible import in_line
from spanline.stats.report import Alert, LeftOut, Report

_GAP: Final = "  "


def text(report: Report) -> str:
    """Several lines: the figures, a table of each list that isn't empty, and the alerts that fire."""
    if not report.runs.total:
        return in_line(f"no run in {report.home} has begun since {_moment(report.since)} and ended")
    firing = [alert for alert in report.alerts if alert.firing]
    lines = [*_figures(report), *_tables(report), *([""] if firing else []), *map(_alert, firing)]
    return "\n".join(map(in_line, lines))


def alerts(all_of_them: Iterable[Alert]) -> str:
    """A line for each alert, whether it fires or not."""
    return "\n".join(map(in_line, map(_alert, all_of_them)))


def left_out(counts: LeftOut) -> str | None:
    """A line about what the figures don't cover; None where they cover all."""
    parts = [
        *([f"{plural(counts.under_way, 'run')} under way"] if counts.under_way else []),
        *([f"{plural(counts.unreadable, 'journal')} that cannot be read"] if counts.unreadable else []),
        *([f"{plural(counts.torn_lines, 'torn line')}"] if counts.torn_lines else []),
    ]
    return f"left out: {', '.join(parts)}" if parts else None


def _figures(report: Report) -> Iterator[str]:
    runs, times = report.runs, report.run_time
    ended = {
        "success": runs.success,
        "failed": runs.failed,
        "died": runs.died,
        "timed out": runs.timed_out,
        "cancelled": runs.cancelled,
    }
    yield f"{plural(runs.total, 'run')} since {_moment(report.since)} ({_counts(ended)})"
    yield f"  success rate  {_percent(runs.success_rate)}"
    yield f"  run time      P50 {_time(times.p50)}, P95 {_time(times.p95)}, P99 {_time(times.p99)}"
    yield f"  retries       {_counts(report.retries.by_category) or 0}"
    yield f"  resumed       {plural(report.retries.resumed_sessions, 'session')}"
    yield f"  artifacts     {_size(report.artifacts.total)}, {_size(report.artifacts.mean)} a run"


def _tables(report: Report) -> Iterator[str]:
    yield from _table(
        ("runs", "success", "P50", "P95", "job"),
        [(str(job.runs), _percent(job.success_rate), _time(job.p50), _time(job.p95), job.job) for job in report.jobs],
    )
    yield from _table(
        ("failed", "of", "failing node"),
        [(_percent(node.failure_rate), str(node.executions), node.unique_id) for node in report.failing_nodes],
    )
    yield from _table(
        ("mean", "P95", "trend", "slowest node"),
        [(_time(node.mean), _time(node.p95), _trend(node.change), node.unique_id) for node in report.slowest_nodes],
    )
    yield from _table(
        ("failed", "of", "flips", "flaky test"),
        [(str(test.failures), str(test.executions), str(test.flips), test.unique_id) for test in report.flaky_tests],
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The names come last: they may be of any length."""
    if not rows:
        return
    yield ""
    *widths, _ = (max(map(len, column)) for column in zip(header, *rows))  # noqa: B905
    for *cells, name in (header, *rows):
        yield _GAP + _GAP.join([*(f"{cell:>{width}}" for cell, width in zip(cells, widths)), name])  # noqa: B905


def _alert(alert: Alert) -> str:
    return f"{alert.severity if alert.firing else 'ok':9}{alert.message}"


def _moment(iso: str) -> str:
    return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M")


def _trend(change: float | None) -> str:
    if change is None:
        return "-"
    return f"{'-' if change < 0 else '+'}{duration(abs(change))}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _size(number: float | None) -> str:
    size = number or 0.0
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
