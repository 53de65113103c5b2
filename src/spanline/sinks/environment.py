"""Which sinks the environment configures: asked at the start of every run, so this imports no client library.

With none of their standard variables set, sinks are off and cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from spanline.sinks.base import Sink


def openlineage() -> Sink | None:
    """The OpenLineage sink, where openlineage-python has been told where to send events."""
    if not openlineage_is_configured(os.environ):
        return None
    from spanline.sinks.openlineage import OpenLineageSink  # noqa: PLC0415 - see the module's docstring

    return OpenLineageSink()


def otel_traces() -> Sink | None:
    """The sink of OpenTelemetry spans, where the SDK's variables name an exporter or an OTLP endpoint."""
    if not otel_is_configured(os.environ, "traces"):
        return None
    from spanline.sinks.otel import traces  # noqa: PLC0415 - see the module's docstring

    return traces()


def openlineage_is_configured(environ: Mapping[str, str]) -> bool:
    """Whether OpenLineage is on: https://openlineage.io/docs/client/python/configuration."""
    if environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OPENLINEAGE_URL") or environ.get("OPENLINEAGE_CONFIG"):
        return True
    if any(name.startswith("OPENLINEAGE__TRANSPORT") for name in environ):
        return True
    places = (Path.cwd(), Path.home() / ".openlineage")
    return any((place / "openlineage.yml").is_file() for place in places)


def otel_is_configured(environ: Mapping[str, str], signal: str) -> bool:
    """Whether a signal (`traces`, `metrics` or `logs`) is exported.

    The SDK's default exporter is OTLP to localhost; here that must be asked for, by a variable that names an exporter
    or an endpoint: https://opentelemetry.io/docs/languages/sdk-configuration/.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
    if exporters:
        return exporters != "none"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return any(environ.get(name) for name in endpoints)
