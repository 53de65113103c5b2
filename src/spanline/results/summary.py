"""The summary of a run, as text: one formatter, for the end of a run, `spanline show`, and whatever logs a run."""

from __future__ import annotations

from spanline.journal.state import CANCELLED, DIED
from spanline.results.result import NodeResult, RunResult
from spanline.runner.shared.visible import in_line

_SLOWEST = 5
_MESSAGE_LINES = 8
_CHARACTERS = 2000
"""So much of a message, and of whatever else is in a line, is read by people; all of it is in `show --json`."""


def summary(result: RunResult) -> str:
    """Several lines: totals, counts by status, failed nodes with messages, the slowest nodes, where it is kept."""
    lines = [f"{result.outcome}: {plural(len(result.nodes), 'node')} in {duration(result.elapsed)}{_counts(result)}"]
    if result.outcome in (CANCELLED, DIED) and result.total:
        lines.append(f"  {result.completed} of {result.total} nodes were completed")
    if result.error and not result.failed_nodes:
        lines += ["", *_indented(result.error)]
    for node in result.failed_nodes:
        lines += ["", f"  {node.status} {label(node)}", *_indented(node.message or "", 4)]
    slowest = sorted(result.nodes, key=lambda node: -node.execution_time)[:_SLOWEST]
    slowest = [node for node in slowest if node.execution_time > 0]
    if len(slowest) > 1:
        lines += ["", "  slowest:"]
        lines += [f"    {duration(node.execution_time):>9}  {node.unique_id}" for node in slowest]
    lines += ["", f"  run {result.run_id}", f"  kept in {result.directory}"]
    if result.artifacts_url:
        lines.append(f"  artifacts in {result.artifacts_url}")
    if result.upload_error:
        lines.append(f"  artifacts not stored: {result.upload_error}; try again with: spanline upload {result.run_id}")
    if result.incomplete:
        lines.append(f"  incomplete: {result.incomplete}")
    owed = {sink: count for sink, count in result.undelivered.items() if count}
    if owed:
        what = ", ".join(f"{plural(count, 'message')} to {sink}" for sink, count in owed.items())
        lines.append(f"  not delivered: {what}; send with: spanline replay {result.run_id}")
    return "\n".join(in_line(_cut(line)) for line in lines)


def label(node: NodeResult) -> str:
    """A node's unique id, with its file where that is known."""
    return f"{node.unique_id} ({node.path})" if node.path else node.unique_id


def duration(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `3 min 07 s` or `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _counts(result: RunResult) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(result.counts.items()))
    return f" ({counts})" if counts else ""


def _indented(text: str, width: int = 2) -> list[str]:
    lines = [line.rstrip() for line in _cut(text.strip()).splitlines()]
    if len(lines) > _MESSAGE_LINES:
        lines = [*lines[:_MESSAGE_LINES], "…"]
    return [" " * width + line for line in lines]


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"


def plural(count: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
