"""OpenTelemetry: a run's traces, by the SDK's own exporters and variables.

All configuration is the SDK's: https://opentelemetry.io/docs/languages/sdk-configuration/.
"""

from __future__ import annotations

from spanline.sinks.otel.export import OtelSink, resource
from spanline.sinks.otel.spans import Translator


def traces() -> OtelSink:
    """The sink of spans."""
    return OtelSink("otel_traces", "traces", Translator(resource()))
