"""Which sinks the environment turns on, by the backends' own standard variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spanline.runner.shared import settings


def openlineage_is_configured(environ: Mapping[str, str]) -> bool:
    """Whether OpenLineage is on: https://openlineage.io/docs/client/python/configuration."""
    if environ.get(settings.OPENLINEAGE_DISABLED, "").strip().lower() == "true":
        return False
    if environ.get(settings.OPENLINEAGE_URL) or environ.get(settings.OPENLINEAGE_CONFIG):
        return True
    if any(name.startswith(settings.OPENLINEAGE_TRANSPORT_PREFIX) for name in environ):
        return True
    places = (Path.cwd(), Path.home() / ".openlineage")
    return any((place / "openlineage.yml").is_file() for place in places)


def otel_is_configured(environ: Mapping[str, str], signal: str) -> bool:
    """Whether a signal (`traces`, `metrics` or `logs`) is exported.

    The SDK's default exporter is OTLP to localhost; here that must be asked for, by a variable that names an exporter
    or an endpoint: https://opentelemetry.io/docs/languages/sdk-configuration/.
    """
    if environ.get(settings.OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return False
    asked = environ.get(settings.exporter_variable(signal), "").split(",")
    exporters = {name.strip() for name in asked} - {""}
    if exporters:
        return exporters != {"none"}
    endpoints = (settings.OTLP_ENDPOINT, settings.otlp_variable(signal, "ENDPOINT"))
    return any(environ.get(name) for name in endpoints)
