"""The metrics of a run: their names and units, and their values, computed from events.

Two sinks send them in their backend's format: `spanline.sinks.otel.metrics` and `spanline.sinks.prometheus`.
Here, a run is one session. docs/metrics.md explains each metric.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from math import fsum
from pathlib import Path
from typing import Final, Literal

import msgspec

from spanline import events
from spanline.dbt.arguments import command_of, option
from spanline.events import Event
from spanline.journal.state import (
    CANCELLED,
    DIED,
    FAILURE,
    INTERRUPTED,
    SUCCESS,
    TIMED_OUT,
    NodeState,
    RunState,
    outcome_of,
)
from spanline.results.timing import Queue, critical_path, ran, resource_type, seconds_of, time_lost
from spanline.runner.shared import settings

Kind = Literal["counter", "histogram", "gauge"]
Labels = tuple[tuple[str, str], ...]

OUTCOMES: Final = (SUCCESS, FAILURE, CANCELLED, TIMED_OUT, DIED)
STATUSES: Final = (
    "success",
    "pass",
    "warn",
    "fail",
    "error",
    "runtime error",
    "partial success",
    "skipped",
    "no-op",
    "reused",
    CANCELLED,
    INTERRUPTED,
)
"""Statuses of nodes: dbt's, and two of Spanline's."""

SLOWEST: Final = 20
"""How many of the slowest nodes are named, besides the failed ones."""


_RUN_SECONDS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800)
_NODE_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_CLOSING: Final = (events.DbtFinished, events.AttemptEnded, events.RunnerDied, events.SessionEnded)


class Instrument(msgspec.Struct, frozen=True):
    """A metric's definition: https://opentelemetry.io/docs/specs/semconv/general/metrics/."""

    name: str
    unit: str
    kind: Kind
    description: str
    bounds: tuple[float, ...] = ()


RUN_RESULTS: Final = Instrument("dbt.run.results", "{run}", "counter", "Runs that have ended, by outcome")
RUN_DURATION: Final = Instrument(
    "dbt.run.duration", "s", "histogram", "Time from a run's start to its end", _RUN_SECONDS
)
RUN_RETRIES: Final = Instrument(
    "dbt.run.retries", "{retry}", "counter", "Further attempts, by the category of the error that led to them"
)
NODE_RESULTS: Final = Instrument("dbt.node.results", "{node}", "counter", "Nodes that have ended, by status")
NODE_DURATION: Final = Instrument("dbt.node.duration", "s", "histogram", "Time that a node took", _NODE_SECONDS)
NODE_QUEUE: Final = Instrument(
    "dbt.node.time_in_queue", "s", "histogram", "Time from a node's being ready to its start", _NODE_SECONDS
)
NODE_ROWS: Final = Instrument("dbt.node.rows_affected", "{row}", "counter", "Rows that nodes have written")
LAST_TIMESTAMP: Final = Instrument(
    "dbt.last_run.timestamp", "s", "gauge", "When the last run with this outcome ended, since the epoch"
)
LAST_DURATION: Final = Instrument("dbt.last_run.duration", "s", "gauge", "Duration of the last run with this outcome")
LAST_OUTCOME: Final = Instrument("dbt.last_run.outcome", "{run}", "gauge", "1 for the outcome of the last run, else 0")
LAST_NODES: Final = Instrument("dbt.last_run.nodes", "{node}", "gauge", "Nodes of the last run by their last status")
LAST_ROWS: Final = Instrument("dbt.last_run.rows_affected", "{row}", "gauge", "Rows that the last run has written")
LAST_RETRIES: Final = Instrument(
    "dbt.last_run.retries", "{retry}", "gauge", "Further attempts of the last run, by category"
)
LAST_NODE: Final = Instrument(
    "dbt.last_run.node.duration", "s", "gauge", "Time that a failed node, or one of the slowest, took in the last run"
)
LAST_PATH: Final = Instrument(
    "dbt.last_run.critical_path.duration", "s", "gauge", "Time of the longest chain of dependent nodes in the last run"
)
LAST_LOST: Final = Instrument(
    "dbt.last_run.critical_path.time_lost",
    "s",
    "gauge",
    "Time that nodes of that chain took beyond the median of their resource type",
)
LAST_ARTIFACT: Final = Instrument("dbt.last_run.artifact.size", "By", "gauge", "Size of an artifact of the last run")

SINK_LAG: Final = Instrument(
    "dbt.sink.lag", "s", "gauge", "Time from the first event that a sink's backend has not acknowledged to the last"
)
SINK_UNDELIVERED: Final = Instrument(
    "dbt.sink.undelivered", "{message}", "gauge", "Messages that a sink has not delivered yet"
)

INSTRUMENTS: Final = (
    RUN_RESULTS,
    RUN_DURATION,
    RUN_RETRIES,
    NODE_RESULTS,
    NODE_DURATION,
    NODE_QUEUE,
    NODE_ROWS,
    LAST_TIMESTAMP,
    LAST_DURATION,
    LAST_OUTCOME,
    LAST_NODES,
    LAST_ROWS,
    LAST_RETRIES,
    LAST_NODE,
    LAST_PATH,
    LAST_LOST,
    LAST_ARTIFACT,
    SINK_LAG,
    SINK_UNDELIVERED,
)


class Distribution(msgspec.Struct, frozen=True):
    """A histogram's value; `buckets` has one more than the instrument has bounds."""

    count: int
    total: float
    least: float
    most: float
    buckets: tuple[int, ...]


class Point(msgspec.Struct, frozen=True):
    """A value of an instrument, for one set of labels."""

    instrument: Instrument
    labels: Labels
    value: float | Distribution


class Snapshot(msgspec.Struct, frozen=True):
    """All values at a moment; counters and histograms count from `since`. Times are nanoseconds since the epoch."""

    since: int
    at: int
    points: tuple[Point, ...]


class _Tally(msgspec.Struct):
    """The counts of a session."""

    since: int = 0
    at: int = 0
    counts: Counter[tuple[Instrument, Labels]] = msgspec.field(default_factory=Counter)
    observed: dict[tuple[Instrument, Labels], list[float]] = {}
    counted: set[tuple[int, int, str]] = set()
    open: set[str] = set()
    queue: Queue = msgspec.field(default_factory=Queue)
    retries: Counter[str] = msgspec.field(default_factory=Counter)
    artifacts: dict[str, int] = {}


class Measures:
    """Make snapshots from events: a pure function of the events so far."""

    def __init__(self, *, interval: float | None = None, delta: bool = False, every_node: bool = False) -> None:
        """Make a snapshot every `interval` seconds of the journal's time, at the session's end, and of sinks after it.

        With `delta`, each counts from the one before, otherwise from the session's start. `every_node` names all nodes.
        """
        self._interval = interval
        self._delta = delta
        self._every_node = every_node
        self._tally = _Tally()

    def __call__(self, event: Event, state: RunState) -> Iterator[Snapshot]:
        """Yield the snapshot that is due with this event, which was already applied to the state."""
        if isinstance(event, events.SessionStarted):
            self._tally = _Tally(since=state.now, at=state.now)
        elif isinstance(event, (events.NodeStarted, events.NodeFinished, events.NodeSkipped)):
            self._node(event, state)
        elif isinstance(event, _CLOSING):
            for unique_id in sorted(self._tally.open):
                self._node_ended(unique_id, state)
        else:
            self._count(event)
        if isinstance(event, events.SessionEnded):
            yield self._last(event, state)
        elif isinstance(event, events.DeliveryEnded):
            yield _of_the_sinks(event, state)
        elif self._due(state):
            yield self._snapshot(state.now, state, ())

    def _count(self, event: Event) -> None:
        tally = self._tally
        if isinstance(event, events.AttemptStarted):
            tally.queue = Queue()
        elif isinstance(event, events.RetryScheduled):
            tally.retries[event.category] += 1
            tally.counts[RUN_RETRIES, _labels(category=event.category)] += 1
        elif isinstance(event, events.ArtifactKept):
            tally.artifacts[Path(event.name).stem] = event.size

    def _node(self, event: events.NodeStarted | events.NodeFinished | events.NodeSkipped, state: RunState) -> None:
        if isinstance(event, events.NodeStarted):
            self._node_started(event, state)
        else:
            self._node_ended(event.unique_id, state)

    def _node_started(self, event: events.NodeStarted, state: RunState) -> None:
        tally = self._tally
        tally.open.add(event.unique_id)
        wait = tally.queue.started(event.unique_id, state.now, state.descriptions)
        labels = _labels(resource_type=resource_type(event.unique_id))
        tally.observed.setdefault((NODE_QUEUE, labels), []).append(wait)

    def _node_ended(self, unique_id: str, state: RunState) -> None:
        tally = self._tally
        tally.open.discard(unique_id)
        node = state.nodes.get(unique_id)
        if node is None or (node.step, node.attempt, unique_id) in tally.counted:
            return
        tally.counted.add((node.step, node.attempt, unique_id))
        tally.queue.ended(unique_id, state.now, state.descriptions)
        kind = resource_type(unique_id)
        labels = _labels(resource_type=kind, status=node.status)
        tally.counts[NODE_RESULTS, labels] += 1
        if node.started is not None:
            tally.observed.setdefault((NODE_DURATION, labels), []).append(seconds_of(node))
        if rows := _rows(node):
            tally.counts[NODE_ROWS, _labels(resource_type=kind)] += rows

    def _due(self, state: RunState) -> bool:
        due = self._interval is not None and state.now - self._tally.at >= self._interval * 1e9
        return due and state.config is not None and state.ended is None

    def _last(self, event: events.SessionEnded, state: RunState) -> Snapshot:
        tally = self._tally
        outcome = _labels(outcome=outcome_of(state, event))
        tally.counts[RUN_RESULTS, outcome] += 1
        tally.observed[RUN_DURATION, outcome] = [(state.now - state.started) / 1e9]
        return self._snapshot(max(state.now, tally.at), state, self._of_the_last_run(event, state))

    def _snapshot(self, at: int, state: RunState, gauges: Iterable[Point]) -> Snapshot:
        tally = self._tally
        counted = [Point(instrument, labels, count) for (instrument, labels), count in tally.counts.items()]
        observed = [
            Point(instrument, labels, _distribution(found, instrument.bounds))
            for (instrument, labels), found in tally.observed.items()
        ]
        points = _labelled((*counted, *observed, *gauges), state)
        since, tally.at = tally.since, at
        if self._delta:
            tally.since = at
            tally.counts.clear()
            tally.observed.clear()
        return Snapshot(since, at, points)

    def _of_the_last_run(self, event: events.SessionEnded, state: RunState) -> Iterator[Point]:
        ended = outcome_of(state, event)
        outcome = _labels(outcome=ended)
        yield Point(LAST_TIMESTAMP, outcome, event.time / 1e9)  # the system's: it is compared with what the time is
        yield Point(LAST_DURATION, outcome, (state.now - state.started) / 1e9)
        for one in OUTCOMES:
            yield Point(LAST_OUTCOME, _labels(outcome=one), int(one == ended))
        counts = {**dict.fromkeys(STATUSES, 0), **state.counts}
        for status, count in counts.items():
            yield Point(LAST_NODES, _labels(status=status), count)
        yield Point(LAST_ROWS, (), sum(map(_rows, state.nodes.values())))
        for category, count in (self._tally.retries or {"": 0}).items():
            yield Point(LAST_RETRIES, _labels(category=category), count)
        for node in self._named_nodes(state):
            labels = _labels(unique_id=node.unique_id, resource_type=resource_type(node.unique_id), status=node.status)
            yield Point(LAST_NODE, labels, seconds_of(node))
        yield from _of_the_critical_path(state)
        for artifact, size in self._tally.artifacts.items():
            yield Point(LAST_ARTIFACT, _labels(artifact=artifact), size)

    def _named_nodes(self, state: RunState) -> Iterable[NodeState]:
        slowest = sorted(ran(state.nodes), key=lambda node: (-seconds_of(node), node.unique_id))
        named = slowest if self._every_node else slowest[:SLOWEST]
        return {node.unique_id: node for node in (*state.failed_nodes, *named)}.values()


def _of_the_sinks(event: events.DeliveryEnded, state: RunState) -> Snapshot:
    sinks = state.deliveries.values()  # those too that this event says nothing of
    lags = [Point(SINK_LAG, _labels(sink=sink.sink), sink.lag) for sink in sinks]
    owed = [Point(SINK_UNDELIVERED, _labels(sink=sink.sink), sink.undelivered) for sink in sinks]
    return Snapshot(event.time, event.time, _labelled((*lags, *owed), state))


def _labelled(points: Iterable[Point], state: RunState) -> tuple[Point, ...]:
    """The points in order, with the labels that all points of a session have."""
    base = labels_of(state)
    found = [Point(point.instrument, tuple(sorted((*base, *point.labels))), point.value) for point in points]
    return tuple(sorted(found, key=lambda point: (point.instrument.name, point.labels)))


def _of_the_critical_path(state: RunState) -> Iterator[Point]:
    path = critical_path(state.nodes, state.descriptions)
    yield Point(LAST_PATH, (), fsum(map(seconds_of, path)))
    for kind, seconds in time_lost(path, state.nodes).items():
        yield Point(LAST_LOST, _labels(resource_type=kind), seconds)


def _distribution(observed: list[float], bounds: tuple[float, ...]) -> Distribution:
    buckets = [0] * (len(bounds) + 1)
    for value in observed:
        buckets[bisect_left(bounds, value)] += 1  # a bound belongs to the bucket below it
    return Distribution(len(observed), fsum(observed), min(observed), max(observed), tuple(buckets))


def _labels(**labels: str) -> Labels:
    return tuple((key, value) for key, value in labels.items() if value)


def _rows(node: NodeState) -> int:
    return max(0, node.rows_affected or 0)  # some adapters report -1 for unknown


def labels_of(state: RunState) -> Labels:
    """The labels that every point of a session has."""
    config, session = state.config, state.session
    steps = session.steps if session is not None else []
    commands = [command_of(argv) for argv in steps]
    if not any(commands):  # not started by Spanline: dbt reports it
        commands = [attempt.command for attempt in state.attempts[:1]]
    return _labels(
        project=state.project,
        target=(config.target if config else None) or _asked_target(steps) or "",
        command=" ".join(filter(None, commands)),
        adapter=state.adapter or "",
    )


def _asked_target(steps: list[list[str]]) -> str | None:
    return next((found for argv in steps for found in (option(argv, "--target"), option(argv, "-t")) if found), None)


def every_node() -> bool:
    """Whether the environment asks for all nodes of the last run by name."""
    return os.environ.get(settings.METRICS_NODES, "").strip().lower() == "all"
