"""Which sinks the environment configures: asked at the start of every run, so this imports no client library.

With none of their standard variables set, sinks are off and cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spanline.sinks.base import Sink

TEXTFILE_VARIABLE: Final = "SPANLINE_PROMETHEUS_TEXTFILE"
"""The directory of node-exporter's textfile collector."""


def openlineage() -> Sink | None:
    """The OpenLineage sink, where openlineage-python has been told where to send events."""
    if not openlineage_is_configured(os.environ):
        return None
    file = os.environ.get("OPENLINEAGE_CONFIG")
    if file and not Path(file).is_file() and not os.environ.get("OPENLINEAGE_URL"):
        raise LookupError(f"OPENLINEAGE_CONFIG names {file}, and there is no such file")  # the client would print all
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
    directory = os.environ.get(TEXTFILE_VARIABLE)
    if not directory:
        return None
    from spanline.measures import every_node  # noqa: PLC0415 - see the module's docstring
    from spanline.sinks.textfile import TextfileSink  # noqa: PLC0415

    return TextfileSink(Path(directory), every_node=every_node())


def otel_logs() -> Sink | None:
    """The sink of OpenTelemetry log records, as above."""
    if not otel_is_configured(os.environ, "logs"):
        return None
    from spanline.sinks.otel import logs  # noqa: PLC0415 - see the module's docstring

    return logs()


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
