"""Which sinks the environment turns on, by the backends' own standard variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

TEXTFILE_VARIABLE: Final = "SPANLINE_PROMETHEUS_TEXTFILE"
"""The directory of node-exporter's textfile collector."""


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
    asked = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").split(",")
    exporters = {name.strip() for name in asked} - {""}
    if exporters:
        return exporters != {"none"}
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return any(environ.get(name) for name in endpoints)
