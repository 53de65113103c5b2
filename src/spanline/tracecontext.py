"""The W3C trace context: what a run is part of, and what dbt's process is told that it is part of.

https://www.w3.org/TR/trace-context/, in the variables of https://opentelemetry.io/docs/specs/otel/context/env-carriers/.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from spanline import ids

VARIABLES: Final = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")
_DBTS_OWN: Final = "DBT_ENGINE_SNOWFLAKE_PROJECTS_OTEL"
"""Turns on dbt Core 1.12's own spans, of the same nodes."""


def current(environ: Mapping[str, str]) -> dict[str, str]:
    """The context around the caller: that of an active OpenTelemetry span in this thread, else the environment's."""
    return _active() or {name: environ[name] for name in VARIABLES if environ.get(name)}


def _active() -> dict[str, str]:
    # Who has an active span has imported the API; nobody else needs to.
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    if not carrier:
        return {}
    W3CBaggagePropagator().inject(carrier)
    # An empty one hides what another context has left in the environment.
    return {name: carrier.get(name.lower(), "") for name in VARIABLES}


def for_dbt(run_id: str, session: int, traceparent: str | None, *parts: object) -> dict[str, str]:
    """The variable with which what dbt's process sends is beneath the span that `parts` name."""
    trace = ids.session_trace_id(run_id, session, traceparent)
    span = ids.span_id(run_id, session, *parts)
    flags = traceparent.strip()[53:55] if traceparent and ids.is_traceparent(traceparent) else "01"
    return {"TRACEPARENT": f"00-{trace:032x}-{span:016x}-{flags}"}


def without_dbts_own_spans(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which dbt doesn't make spans of the nodes as well."""
    return {name: value for name, value in environ.items() if name != _DBTS_OWN}
