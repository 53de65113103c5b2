"""Metrics as a Prometheus textfile, for those without OTLP: node-exporter reads it from its directory.

One file for each (project, target, command), which appears whole. It says what the last run was and keeps, of outcomes
that this run didn't have, when and how long the last such run was. Names are those that Prometheus gives to the OTLP
metrics: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

try:
    import prometheus_client
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}; it comes with: pip install 'spanline[prometheus]'") from error
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from spanline.events import DeliveryEnded, Event
from spanline.journal.state import RunState
from spanline.results.measures import (
    LAST_OUTCOME,
    LAST_TIMESTAMP,
    Distribution,
    Instrument,
    Labels,
    Measures,
    Point,
    labels_of,
)
from spanline.runner.shared import settings
from spanline.sinks.base import Message, Rejected
from spanline.system import files

NAME: Final = "prometheus_textfile"
_FOR_ALL: Final = 0o644
"""Another user's node-exporter reads the files."""
_LARGEST: Final = 1 << 24
_UNITS: Final = {"s": "seconds", "By": "bytes"}


class _Written(msgspec.Struct, frozen=True):
    """What is to be in a file: the points of one session."""

    file: str
    points: tuple[Point, ...]


class TextfileSink:
    """Writes what a run amounts to when its session has ended."""

    lanes = 1
    batch = 1
    linger = 0.0

    def __init__(self, directory: Path, *, every_node: bool = False) -> None:
        """`directory` is where node-exporter looks: its option `--collector.textfile.directory`."""
        self._directory = directory
        self._measures = Measures(every_node=every_node)
        self._of_run: tuple[Point, ...] = ()

    def translate(self, event: Event, state: RunState) -> Iterator[Message]:
        """Yield what the file is to say: at the session's end, and once more when sinks have delivered."""
        for snapshot in self._measures(event, state):
            of_sinks = snapshot.points if isinstance(event, DeliveryEnded) else ()
            if not of_sinks:
                self._of_run = snapshot.points
            yield Message(_Written(file_name(labels_of(state)), (*self._of_run, *of_sinks)), barrier=True)

    def deliver(self, payloads: Sequence[object]) -> None:
        """Write the file. Raises `Rejected` where there is no directory for it, `OSError` where it can't be written."""
        for written in payloads:
            assert isinstance(written, _Written)  # noqa: S101 - made by `translate`
            with _file(self._directory, written.file) as path:
                _write(path, _merged(_families(written.points), _read(path)))

    def close(self) -> None:
        """Nothing is open."""


def file_name(labels: Labels) -> str:
    """The file of a project, target and command; no two share one."""
    named = dict(labels)
    parts = (named.get(key, "") for key in ("project", "target", "command"))
    return ".".join(("dbt", *(quote(part, safe="").replace(".", "%2E") for part in parts), "prom"))


def prometheus_name(instrument: Instrument) -> str:
    """The name of the instrument's metric in Prometheus, as the OpenTelemetry specification derives it."""
    unit = _UNITS.get(instrument.unit, "")
    total = "total" if instrument.kind == "counter" else ""
    return "_".join(filter(None, (instrument.name.replace(".", "_"), unit, total)))


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _file(directory: Path, name: str) -> Iterator[Path]:
    """The file's path, while no other process is at it."""
    if not directory.is_dir():
        raise Rejected(
            f"{directory} is not a directory: create it, or set another in {settings.PROMETHEUS_TEXTFILE}; "
            "`spanline replay RUN --all` writes this run's figures then"
        )
    path = directory / name
    with files.open_to_append(path.with_suffix(".lock"), _FOR_ALL) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def _read(path: Path) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(files.read(path, _LARGEST).decode()))
    except (FileNotFoundError, ValueError):  # none yet, or none of ours
        return []


def _write(path: Path, families: Iterable[Metric]) -> None:
    registry = prometheus_client.CollectorRegistry(auto_describe=False)
    registry.register(_Families([family for family in families if family.samples]))
    files.write(path, prometheus_client.generate_latest(registry), _FOR_ALL)


class _Families(Collector):
    """Metric families for the library to write."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return sorted(self._families, key=lambda family: family.name)


# --- what is in them --------------------------------------------------------------------------------------------------


def _families(points: Iterable[Point]) -> list[Metric]:
    ordered = sorted(points, key=lambda point: point.instrument.name)
    by_instrument = groupby(ordered, key=lambda point: point.instrument)
    return [_family(instrument, list(found)) for instrument, found in by_instrument]


def _family(instrument: Instrument, points: Sequence[Point]) -> Metric:
    name, text = prometheus_name(instrument), instrument.description
    keys = sorted({key for point in points for key, _ in point.labels})
    family: Metric
    if instrument.kind == "histogram":
        histogram = family = HistogramMetricFamily(name, text, labels=keys)
        for point in points:
            assert isinstance(point.value, Distribution)  # noqa: S101 - by the instrument's kind
            histogram.add_metric(_values(point, keys), _buckets(point.value, instrument), point.value.total)
        return family
    numbers = family = (CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily)(
        name, text, labels=keys
    )
    for point in points:
        assert not isinstance(point.value, Distribution)  # noqa: S101 - by the instrument's kind
        numbers.add_metric(_values(point, keys), point.value)
    return family


def _values(point: Point, keys: Sequence[str]) -> list[str]:
    labels = dict(point.labels)
    return [labels.get(key, "") for key in keys]  # to Prometheus an empty label is none


def _buckets(value: Distribution, instrument: Instrument) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, instrument.bounds), "+Inf"]
    return [(bound, sum(value.buckets[: number + 1])) for number, bound in enumerate(bounds)]


def _merged(ours: Sequence[Metric], there: Sequence[Metric]) -> list[Metric]:
    """What the file is to say: of each outcome what the later run with it says, of all else what the later run says."""
    our_ends, their_ends = _ends(ours), _ends(there)
    we_are_later = max(our_ends.values(), default=0) >= max(their_ends.values(), default=0)

    def said_by_us(family: Metric, outcome: str | None) -> bool:
        if outcome is None or family.name == prometheus_name(LAST_OUTCOME):
            return we_are_later
        return our_ends.get(outcome, 0) >= their_ends.get(outcome, 0)

    found: dict[str, Metric] = {}
    for families, us in ((ours, True), (there, False)):
        for family in families:
            kept = [s for s in family.samples if said_by_us(family, s.labels.get("outcome")) == us]
            into = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            into.samples += kept
    return list(found.values())


def _ends(families: Iterable[Metric]) -> dict[str, float]:
    """When the last run with each outcome ended, as a file says it."""
    name = prometheus_name(LAST_TIMESTAMP)
    return {s.labels["outcome"]: s.value for family in families if family.name == name for s in family.samples}
