"""Whether the backends that are configured answer, and how fast. Each is sent one small probe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from typing import Final

from spanline.doctor.finding import OFF, OK, PROBLEM, Finding
from spanline.sinks.base import Probed, Sink, announced
from spanline.sinks.error_text import in_short, without_secrets

_SWITCHES: Final = {
    "openlineage": "OPENLINEAGE_URL turns it on",
    "otel_logs": "OTEL_LOGS_EXPORTER or OTEL_EXPORTER_OTLP_ENDPOINT turns it on",
    "otel_metrics": "OTEL_METRICS_EXPORTER or OTEL_EXPORTER_OTLP_ENDPOINT turns it on",
    "otel_traces": "OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_ENDPOINT turns it on",
    "prometheus_textfile": "SPANLINE_PROMETHEUS_TEXTFILE turns it on",
}
_ADVICE: Final = "start the backend or correct its variables; until then, runs keep what `spanline replay` sends later"


def backends() -> Iterator[Finding]:
    """A finding for each sink that is installed. All are asked at once, because one that is down takes seconds."""
    points = announced()
    with ThreadPoolExecutor(max_workers=max(1, len(points))) as pool:
        yield from pool.map(_ask, points)


def _ask(point: EntryPoint) -> Finding:
    try:
        sink = point.load()()
    except Exception as error:  # noqa: BLE001 - whatever a sink raises is what the user has to know
        return Finding(PROBLEM, point.name, f"is configured, but cannot start: {in_short(error)}", _ADVICE)
    if sink is None:
        return Finding(OFF, point.name, "no backend is configured", _SWITCHES.get(point.name, ""))
    try:
        return _probed(point.name, sink)
    except Exception as error:  # noqa: BLE001 - as above
        return Finding(PROBLEM, point.name, f"the backend did not take a probe: {in_short(error)}", _ADVICE)
    finally:
        sink.close()


def _probed(name: str, sink: Sink) -> Finding:
    if not isinstance(sink, Probed):
        return Finding(OK, name, "is configured; it has no probe")
    begun = time.monotonic()
    where = without_secrets(sink.probe())
    return Finding(OK, name, f"{where} answered in {(time.monotonic() - begun) * 1e3:.0f} ms")
