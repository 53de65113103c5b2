"""Which sinks the environment configures: asked at the start of every run, so this imports no client library.

With none of their standard variables set, sinks are off and cost nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from spanline.runner.shared import settings
from spanline.sinks.base import Sink
from spanline.sinks.enabled import openlineage_is_configured, otel_is_configured


def openlineage() -> Sink | None:
    """The OpenLineage sink, where openlineage-python has been told where to send events."""
    if not openlineage_is_configured(os.environ):
        return None
    file = os.environ.get(settings.OPENLINEAGE_CONFIG)
    if file and not Path(file).is_file() and not os.environ.get(settings.OPENLINEAGE_URL):
        # Without this the client would print all events.
        raise LookupError(f"{settings.OPENLINEAGE_CONFIG} names {file}, and there is no such file")
    from spanline.sinks.openlineage import OpenLineageSink  # noqa: PLC0415 - see the module's docstring

    return OpenLineageSink()


def otel_traces() -> Sink | None:
    """The sink of OpenTelemetry spans, where the SDK's variables name an exporter or an OTLP endpoint."""
    if not otel_is_configured(os.environ, "traces"):
        return None
    from spanline.sinks.otel import traces  # noqa: PLC0415 - see the module's docstring

    return traces()


def otel_metrics() -> Sink | None:
    """The sink of OpenTelemetry metrics, as above."""
    if not otel_is_configured(os.environ, "metrics"):
        return None
    from spanline.sinks.otel import metrics  # noqa: PLC0415 - see the module's docstring

    return metrics()


def prometheus_textfile() -> Sink | None:
    """The sink that writes files for node-exporter, where it is told into which directory."""
    directory = os.environ.get(settings.PROMETHEUS_TEXTFILE)
    if not directory:
        return None
    from spanline.results.measures import every_node  # noqa: PLC0415 - see the module's docstring
    from spanline.sinks.prometheus import TextfileSink  # noqa: PLC0415

    return TextfileSink(Path(directory), every_node=every_node())


def otel_logs() -> Sink | None:
    """The sink of OpenTelemetry log records, as above."""
    if not otel_is_configured(os.environ, "logs"):
        return None
    from spanline.sinks.otel import logs  # noqa: PLC0415 - see the module's docstring

    return logs()
