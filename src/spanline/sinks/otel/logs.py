"""Log records of OpenTelemetry, made from log lines; the SDK's classes for them have changed, and this knows both."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from typing import Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk import _logs as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from spanline.events import Event, SessionStarted
from spanline.journal.state import RunState
from spanline.results.log_lines import LogLine, LogLines, Severity
from spanline.sinks.base import Message
from spanline.sinks.otel.failing import told
from spanline.sinks.otel.sampling import Sampling, decide, sampler_of
from spanline.sinks.otel.scope import SCOPE
from spanline.sinks.otel.sql import SHOWN_WHOLE, Shown

_SEVERITIES: Final[dict[Severity, SeverityNumber]] = {
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
}


class LogTranslator:
    """From events to log records: a function of the events so far, and nothing else."""

    def __init__(self, resource: Resource, shown: Shown = SHOWN_WHOLE) -> None:
        """`shown` says what of SQL may be seen: where not all, errors are told by what they are, as spans tell them."""
        self._resource = resource
        self._sampler = sampler_of(resource)
        self._sampling = Sampling()
        self._lines = LogLines(told=functools.partial(told, shown=shown))
        if hasattr(sdk, "ReadableLogRecord"):
            self._record = _readable
        else:
            self._record = _log_data
            # Versions 1.35 to 1.38 warn of their own classes, which their exporters still want.
            warnings.filterwarnings("ignore", module=re.escape(__name__))

    def __call__(self, event: Event, state: RunState) -> Iterator[Message]:
        """Yield the records of this event, already applied to the state."""
        if isinstance(event, SessionStarted):
            self._sampling = decide(self._sampler, event)
        for line in self._lines(event, state):
            yield Message(self._record(line, self._resource, self._sampling.flags))


def _readable(line: LogLine, resource: Resource, flags: TraceFlags) -> object:
    """Return what exporters take since version 1.39 of the SDK."""
    from opentelemetry._logs import LogRecord  # noqa: PLC0415 - older versions have another of that name

    span = NonRecordingSpan(SpanContext(line.trace_id, line.span_id, is_remote=False, trace_flags=flags))
    record = LogRecord(
        timestamp=line.time,
        observed_timestamp=line.time,  # not the time of this call: a replay sends the same bytes
        context=set_span_in_context(span),
        severity_number=_SEVERITIES[line.severity],
        severity_text=line.severity.upper(),
        body=line.body,
        attributes=line.attributes,
    )
    bounded = sdk.ReadWriteLogRecord(record, resource, SCOPE)  # by OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT
    return sdk.ReadableLogRecord(bounded.log_record, resource, SCOPE, bounded.limits)


def _log_data(line: LogLine, resource: Resource, flags: TraceFlags) -> object:
    """Return what they take before."""
    record = sdk.LogRecord(  # type: ignore[attr-defined]
        timestamp=line.time,
        observed_timestamp=line.time,
        trace_id=line.trace_id,
        span_id=line.span_id,
        trace_flags=flags,
        severity_number=_SEVERITIES[line.severity],
        severity_text=line.severity.upper(),
        body=line.body,
        resource=resource,
        attributes=line.attributes,
        limits=sdk.LogLimits(),
    )
    return sdk.LogData(record, SCOPE)  # type: ignore[attr-defined]
