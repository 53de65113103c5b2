"""Metrics: what a run amounts to, as the SDK's data points with the events' times, so that a replay sends the same."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource

from spanline.events import Event
from spanline.journal.state import RunState
from spanline.results.measures import Distribution, Instrument, Measures, Point, Snapshot, every_node
from spanline.runner.shared import settings
from spanline.sinks.base import Message
from spanline.sinks.otel.scope import SCOPE

_INTERVAL_MILLISECONDS: Final = 60_000.0
_DELTA: Final = frozenset(("delta", "lowmemory"))


class MetricsTranslator:
    """From events to batches of data points: a function of the events so far, and nothing else."""

    def __init__(self, resource: Resource) -> None:
        preference = os.environ.get(settings.OTLP_TEMPORALITY, "").strip().lower()
        delta = preference in _DELTA
        self._resource = resource
        self._temporality = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
        self._measures = Measures(interval=_interval(), delta=delta, every_node=every_node())

    def __call__(self, event: Event, state: RunState) -> Iterator[Message]:
        """Yield what is to be exported after this event, already applied to the state."""
        for snapshot in self._measures(event, state):
            yield Message(self._exported(snapshot), barrier=True)

    def _exported(self, snapshot: Snapshot) -> MetricsData:
        metrics = [
            self._metric(instrument, list(points), snapshot)
            for instrument, points in groupby(snapshot.points, key=lambda point: point.instrument)
        ]
        return MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(SCOPE, metrics, "")], "")])

    def _metric(self, instrument: Instrument, points: list[Point], snapshot: Snapshot) -> Metric:
        data: Sum | Gauge | Histogram
        if instrument.kind == "gauge":
            data = Gauge([_number(point, snapshot) for point in points])
        elif instrument.kind == "counter":
            data = Sum([_number(point, snapshot) for point in points], self._temporality, is_monotonic=True)
        else:
            data = Histogram([_histogram(point, snapshot) for point in points], self._temporality)
        return Metric(instrument.name, instrument.description, instrument.unit, data)


def _number(point: Point, snapshot: Snapshot) -> NumberDataPoint:
    assert not isinstance(point.value, Distribution)  # noqa: S101 - by the instrument's kind
    since = 0 if point.instrument.kind == "gauge" else snapshot.since
    return NumberDataPoint(dict(point.labels), since, snapshot.at, point.value)


def _histogram(point: Point, snapshot: Snapshot) -> HistogramDataPoint:
    value = point.value
    assert isinstance(value, Distribution)  # noqa: S101 - by the instrument's kind
    return HistogramDataPoint(
        attributes=dict(point.labels),
        start_time_unix_nano=snapshot.since,
        time_unix_nano=snapshot.at,
        count=value.count,
        sum=value.total,
        bucket_counts=value.buckets,
        explicit_bounds=point.instrument.bounds,
        min=value.least,
        max=value.most,
    )


def _interval() -> float:
    try:
        milliseconds = float(os.environ.get(settings.OTEL_METRIC_EXPORT_INTERVAL) or _INTERVAL_MILLISECONDS)
    except ValueError:
        milliseconds = math.nan
    return (milliseconds if milliseconds > 0 else _INTERVAL_MILLISECONDS) / 1000
