"""OpenTelemetry: a run's traces, metrics and logs, by the SDK's own exporters and variables.

All configuration is the SDK's: https://opentelemetry.io/docs/languages/sdk-configuration/.
"""

from __future__ import annotations

import os

from spanline.sinks.otel.export import OtelSink, resource
from spanline.sinks.otel.logs import LogTranslator
from spanline.sinks.otel.metrics import MetricsTranslator
from spanline.sinks.otel.spans import Translator
from spanline.sinks.otel.sql import shown


def traces() -> OtelSink:
    """The sink of spans."""
    return OtelSink("traces", Translator(resource(), shown(os.environ)))


def metrics() -> OtelSink:
    """The sink of metrics."""
    return OtelSink("metrics", MetricsTranslator(resource()), one_at_a_time=True)


def logs() -> OtelSink:
    """The sink of log records."""
    return OtelSink("logs", LogTranslator(resource(), shown(os.environ)))
