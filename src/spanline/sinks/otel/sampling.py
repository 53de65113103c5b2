"""Whether a session is sampled: the SDK's sampler decides, once for all of it, for spans as for log records."""

from __future__ import annotations

from typing import Final

import msgspec
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import SpanContext, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT, TraceState

from spanline.events import SessionStarted
from spanline.journal import ids
from spanline.results import conventions

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)


class Sampling(msgspec.Struct, frozen=True):
    """The trace of a session: what it is part of, and whether it is sampled."""

    trace_id: int = 0
    parent: SpanContext = INVALID_SPAN_CONTEXT
    sampled: bool = True
    trace_state: TraceState | None = None

    @property
    def flags(self) -> TraceFlags:
        """Those of its spans and records."""
        return _SAMPLED if self.sampled else _NOT_SAMPLED

    def context(self, span_id: int) -> SpanContext:
        """One of its spans."""
        return SpanContext(
            self.trace_id, span_id, is_remote=False, trace_flags=self.flags, trace_state=self.trace_state
        )


def sampler_of(resource: Resource) -> Sampler:
    """The sampler that OTEL_TRACES_SAMPLER names."""
    return TracerProvider(resource=resource).sampler


def decide(sampler: Sampler, event: SessionStarted) -> Sampling:
    """Ask the sampler about the session that begins."""
    carrier = {"traceparent": event.traceparent or "", "tracestate": event.tracestate or ""}
    around = TraceContextTextMapPropagator().extract(carrier, Context())
    parent = get_current_span(around).get_span_context()
    trace_id = ids.session_trace_id(event.run_id, event.session, event.traceparent)
    result = sampler.should_sample(around, trace_id, conventions.SESSION)
    sampled = result.decision is Decision.RECORD_AND_SAMPLE
    return Sampling(trace_id, parent, sampled, result.trace_state or parent.trace_state)
