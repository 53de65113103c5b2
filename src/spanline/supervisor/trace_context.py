"""The W3C trace context: what a run is part of, and what dbt's process is told that it is part of.

https://www.w3.org/TR/trace-context/, in the variables of https://opentelemetry.io/docs/specs/otel/context/env-carriers/.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from spanline.journal import ids
from spanline.runner.shared import settings

_RATIO_BITS: Final = 1 << 64
"""The SDK's sampler by ratio looks at so many of the trace id's last bits."""
_SAMPLER: Final = "parentbased_always_on"
"""The SDK's default, also where it doesn't know what is asked for."""
_SAMPLERS: Final = frozenset(
    f"{prefix}{name}" for prefix in ("", "parentbased_") for name in ("always_on", "always_off", "traceidratio")
)


def current(environ: Mapping[str, str], given: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The context that a run was given, else that around the caller.

    That is an active OpenTelemetry span's in this thread, else the environment's.
    """
    if settings.TRACEPARENT in given:
        found = {name: given.get(name, "") for name in settings.TRACE_CONTEXT}
    else:
        found = _active() or {name: environ[name] for name in settings.TRACE_CONTEXT if environ.get(name)}
    if not ids.is_traceparent(found.get(settings.TRACEPARENT, "")):
        found.pop(settings.TRACESTATE, None)  # it means nothing without
    return found


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
    return {name: carrier.get(name.lower(), "") for name in settings.TRACE_CONTEXT}


def for_dbt(
    run_id: str, session: int, traceparent: str | None, parts: tuple[object, ...], environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables with which what dbt's process sends is beneath the span that `parts` name."""
    trace = ids.session_trace_id(run_id, session, traceparent)
    span = ids.span_id(run_id, session, *parts)
    flags = f"{int(_is_sampled(environ, trace, traceparent)):02x}"
    own = {settings.TRACEPARENT: f"00-{trace:032x}-{span:016x}-{flags}"}
    # A state without its parent is of some other trace; to be empty is to be unset.
    return own if ids.is_traceparent(traceparent or "") else {**own, settings.TRACESTATE: ""}


def _is_sampled(environ: Mapping[str, str], trace: int, traceparent: str | None) -> bool:
    """What the SDK's sampler will decide of the session's span: to import it here would keep dbt waiting.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration
    """
    asked = environ.get(settings.OTEL_TRACES_SAMPLER, "").strip().lower()
    sampler = asked if asked in _SAMPLERS else _SAMPLER
    if sampler.startswith("parentbased_") and traceparent and ids.is_traceparent(traceparent):
        return bool(int(traceparent.strip()[53:55], 16) & 1)
    if sampler.endswith("traceidratio"):
        return trace % _RATIO_BITS < round(_ratio(environ) * _RATIO_BITS)
    return not sampler.endswith("always_off")


def _ratio(environ: Mapping[str, str]) -> float:
    try:
        return float(environ.get(settings.OTEL_TRACES_SAMPLER_ARG, "") or 1)
    except ValueError:
        return 1.0


def without_dbts_own_spans(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which dbt doesn't make spans of the nodes as well."""
    return {name: value for name, value in environ.items() if name != settings.DBT_OWN_SPANS}
