"""Log lines of a run as plain data, for OpenTelemetry and for JSON on standard output."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec

from spanline import events
from spanline.events import Event
from spanline.failures.classify import Failure, failure_of
from spanline.failures.matching import Category
from spanline.journal import ids
from spanline.journal.state import CANCELLED, CUT_OFF, FAILED, SUCCESS, TIMED_OUT, NodeState, RunState, outcome_of
from spanline.results import conventions
from spanline.results.from_state import result_of
from spanline.results.naming import name_of
from spanline.results.summary import duration, summary
from spanline.runner.shared import settings

Severity = Literal["info", "warn", "error"]
Attributes = dict[str, str | int | float]
Told = Callable[[str, Failure], str]
"""From a message, and what it is, to what may be said of it."""

ECS_VERSION: Final = "8.11.0"
"""The version of the Elastic Common Schema that the names in the JSON lines follow."""
_SERVICE: Final = "dbt"
_BODY: Final = 400
"""How many characters of an error a line about a node shows. The whole message is in `error.message`."""
_TEXT: Final = 8_192
"""The largest number of characters of any text in a line."""

_LEVELS: Final[Mapping[str, Severity]] = {"info": "info", "warn": "warn", "error": "error"}
_WARNED: Final = CUT_OFF | {"warn"}
_CUT_OFF_BY: Final[Mapping[str, Category]] = {CANCELLED: "cancelled", TIMED_OUT: "timeout"}
_RESTATING: Final = frozenset(
    (
        *(f"Log{kind}Result" for kind in ("Freshness", "Function", "Model", "Node", "Seed", "Snapshot", "Test")),
        *(f"RunResult{kind}" for kind in ("Error", "ErrorNoMessage", "Failure", "Warning", "WarningMessage")),
        "LogHookEndLine",
        "LogSkipBecauseError",
        "SkippingDetails",
    )
)
"""dbt's lines that repeat the line of a node's result."""
_PRINTED: Final = frozenset(
    ("CompiledNode", "DebugCmdOut", "DebugCmdResult", "JinjaLogInfo", "ListCmdOut", "PrintEvent", "ShowNode")
)
"""dbt's lines that are requested output: the output of a command, and what a macro prints."""

_Place = tuple[int, int]


def _whole(message: str, _failure: Failure) -> str:
    return message


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `time` is in nanoseconds since the epoch; the ids are those of its span."""

    time: int
    severity: Severity
    body: str
    attributes: Attributes
    trace_id: int
    span_id: int


class LogLines:
    """From events to log lines: warnings, errors, the result of each node, the end of the run.

    A function of the events so far. With `printed` also what dbt prints because it was asked to: a macro's `log()` and
    `print()`, the output of `ls` and `show`. `told` says what may be said of messages, which may quote SQL and data.
    """

    def __init__(self, *, printed: bool = False, told: Told = _whole) -> None:
        self._printed = printed
        self._told = told
        self._with_span: set[tuple[_Place, str]] = set()
        self._reported: set[tuple[_Place, str]] = set()
        self._open: dict[str, _Place] = {}

    def __call__(self, event: Event, state: RunState) -> Iterator[LogLine]:
        """Yield the lines for this event, which was already applied to the state."""
        make = _MAKERS.get(type(event))
        if make is not None:
            yield from make(self, event, state)

    def _on_session_started(self, _event: events.SessionStarted, _state: RunState) -> Iterator[LogLine]:
        for known in (self._with_span, self._reported, self._open):
            known.clear()
        yield from ()

    def _on_started(self, event: events.NodeStarted | events.HookStarted, _state: RunState) -> Iterator[LogLine]:
        place = _place(event)
        self._with_span.add((place, event.unique_id))
        self._open[event.unique_id] = place
        yield from ()

    def _on_finished(self, event: events.NodeFinished | events.HookFinished, state: RunState) -> Iterator[LogLine]:
        yield from self._result(event, _place(event), event.unique_id, state)

    def _on_skipped(self, event: events.NodeSkipped, state: RunState) -> Iterator[LogLine]:
        self._with_span.add((_place(event), event.unique_id))
        yield from self._result(event, _place(event), event.unique_id, state)

    def _on_closing(self, event: Event, state: RunState) -> Iterator[LogLine]:
        for unique_id, place in list(self._open.items()):
            yield from self._result(event, place, unique_id, state)

    def _result(self, event: Event, place: _Place, unique_id: str, state: RunState) -> Iterator[LogLine]:
        """Yield the line of a node's result once, whether dbt reported its end or it was cut off."""
        self._open.pop(unique_id, None)
        node = state.nodes.get(unique_id) or state.hooks.get(unique_id)
        if node is None or (place, unique_id) in self._reported:
            return
        self._reported.add((place, unique_id))
        described = state.descriptions.get(unique_id)
        severity = _severity(node)
        message = node.message or ""
        attributes: Attributes = {conventions.UNIQUE_ID: unique_id, conventions.OUTCOME: node.status}
        if described is not None:
            attributes[conventions.NODE_TYPE] = described.resource_type
            attributes[conventions.FILE_PATH] = described.path or ""
        attributes[conventions.EXECUTION_TIME] = node.execution_time or ""
        attributes[conventions.ROWS] = node.rows_affected if node.rows_affected is not None else ""
        attributes[conventions.FAILURES] = node.failing_rows if node.failing_rows is not None else ""
        attributes[conventions.CAUSE] = node.skipped_for or ""
        if isinstance(event, (events.NodeFinished, events.NodeSkipped, events.HookFinished)):
            attributes[conventions.EVENT_NAME] = _DBT_NAMES[type(event)]
        if node.is_failure:
            attributes.update(self._error(message or node.status, state))
        body = f"{name_of(unique_id, state)}: {_how(node)}"
        if severity != "info" and message and node.cause is None:
            body = f"{body}: {_one_line(self._said(message, state))}"
        yield self._line(event, state, severity, body, attributes, node=(place, unique_id))

    def _on_log(self, event: events.Log, state: RunState) -> Iterator[LogLine]:
        severity = _LEVELS.get(event.level, "info")
        if severity == "info" and not (self._printed and event.name in _PRINTED):
            return
        if event.unique_id is not None and event.name in _RESTATING:
            return
        attributes: Attributes = {conventions.UNIQUE_ID: event.unique_id or "", conventions.EVENT_NAME: event.name}
        described = state.descriptions.get(event.unique_id or "")
        if described is not None:
            attributes[conventions.NODE_TYPE] = described.resource_type
        if severity == "error":
            attributes.update(self._error(event.message, state))
        node = (_place(event), event.unique_id) if event.unique_id else None
        said = self._said(event.message, state)
        body = said if said == event.message else f"{event.name}: {said}"
        yield self._line(event, state, severity, body.strip(), attributes, node=node)

    def _on_runner_failed(self, event: events.RunnerFailed, state: RunState) -> Iterator[LogLine]:
        attributes, said = self._error(event.exception, state), self._said(event.exception, state)
        named = event.exception.partition(":")[0]
        attributes[conventions.EXCEPTION_TYPE] = named if named.isidentifier() else ""
        if said == event.exception:  # a stack trace ends with it
            attributes[conventions.STACKTRACE] = _cut_inside(event.traceback)
        yield self._line(event, state, "error", f"dbt ended with {_one_line(said)}", attributes)

    def _on_runner_died(self, event: events.RunnerDied, state: RunState) -> Iterator[LogLine]:
        yield from self._on_closing(event, state)
        body = f"the process that ran dbt died ({event.how})"
        yield self._line(event, state, "error", body, self._error(event.said, state))

    def _on_killed(self, event: events.RunnerKilled, state: RunState) -> Iterator[LogLine]:
        yield self._line(event, state, "warn", f"the process that ran dbt was killed: {event.reason}", {})

    def _on_cancel(self, event: events.CancelRequested, state: RunState) -> Iterator[LogLine]:
        why = f": {event.reason}" if event.reason else ""
        yield self._line(event, state, "warn", f"the run is being cancelled, as asked by {event.by}{why}", {})

    def _on_retry(self, event: events.RetryScheduled, state: RunState) -> Iterator[LogLine]:
        body = (
            f"attempt {event.attempt} failed and another begins in {duration(event.delay)}: {_one_line(event.reason)}"
        )
        yield self._line(event, state, "warn", body, {})

    def _on_session_ended(self, event: events.SessionEnded, state: RunState) -> Iterator[LogLine]:
        yield from self._on_closing(event, state)
        result, outcome = result_of(state, Path(), {}), outcome_of(state, event)
        attributes: Attributes = {conventions.RUN_OUTCOME: outcome, conventions.EXIT_CODE: event.exit_code}
        for status, count in sorted(result.counts.items()):
            attributes[f"{conventions.NODES}{status.replace(' ', '_')}"] = count
        severity: Severity = "info" if outcome == SUCCESS else "warn" if outcome == CANCELLED else "error"
        if result.error is not None:
            cut_off = _CUT_OFF_BY.get(outcome)
            failure = Failure(cut_off) if cut_off else result.failure or failure_of(result.error, state.adapter)
            said = result.error if cut_off else self._told(result.error, failure)
            attributes |= {conventions.ERROR_TYPE: failure.category, conventions.ERROR_MESSAGE: said}
        yield self._line(event, state, severity, summary(result).partition("\n")[0], attributes)

    def _said(self, message: str, state: RunState) -> str:
        return self._told(message, failure_of(message, state.adapter))

    def _error(self, message: str, state: RunState) -> Attributes:
        """Return what the message is, by the rules that a retry goes by, and the message."""
        failure = failure_of(message, state.adapter)
        return {
            conventions.ERROR_TYPE: failure.category,
            conventions.ERROR_MESSAGE: self._told(message.strip(), failure),
        }

    def _line(
        self,
        event: Event,
        state: RunState,
        severity: Severity,
        body: str,
        attributes: Attributes,
        *,
        node: tuple[_Place, str] | None = None,
    ) -> LogLine:
        traceparent = state.session.traceparent if state.session else None
        parts = (*node[0], node[1]) if node is not None and node in self._with_span else ("session",)
        everything = {**attributes, **_of_run(state), **_of_place(event)}
        return LogLine(
            time=state.now,
            severity=severity,
            body=_cut(body, _TEXT),
            attributes={key: _bounded(value) for key, value in everything.items() if value != ""},
            trace_id=ids.session_trace_id(state.run_id, state.session_number, traceparent),
            span_id=ids.span_id(state.run_id, state.session_number, *parts),
        )


_MAKERS: Final[dict[type[Event], Callable[[LogLines, Any, RunState], Iterator[LogLine]]]] = {
    events.SessionStarted: LogLines._on_session_started,
    events.NodeStarted: LogLines._on_started,
    events.HookStarted: LogLines._on_started,
    events.NodeFinished: LogLines._on_finished,
    events.NodeSkipped: LogLines._on_skipped,
    events.HookFinished: LogLines._on_finished,
    events.Log: LogLines._on_log,
    events.RunnerFailed: LogLines._on_runner_failed,
    events.RunnerDied: LogLines._on_runner_died,
    events.RunnerKilled: LogLines._on_killed,
    events.CancelRequested: LogLines._on_cancel,
    events.RetryScheduled: LogLines._on_retry,
    events.DbtFinished: LogLines._on_closing,
    events.AttemptEnded: LogLines._on_closing,
    events.SessionEnded: LogLines._on_session_ended,
}
_DBT_NAMES: Final[dict[type[Event], str]] = {
    events.NodeFinished: "NodeFinished",
    events.NodeSkipped: "SkippingDetails",
    events.HookFinished: "LogHookEndLine",
}


def json_line(line: LogLine, service: str) -> bytes:
    """Return the line as one JSON object, without a newline.

    Its names are the Elastic Common Schema's, in the order of https://github.com/elastic/ecs-logging/tree/main/spec.
    """
    return msgspec.json.encode(
        {
            "@timestamp": _iso(line.time),
            "log.level": line.severity,
            "message": line.body,
            "ecs.version": ECS_VERSION,
            "service.name": service,
            "trace.id": f"{line.trace_id:032x}",
            "span.id": f"{line.span_id:016x}",
            **line.attributes,
        }
    )


def service_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return the service's name as OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say it, else `dbt`."""
    pairs = (pair.partition("=") for pair in environ.get(settings.OTEL_RESOURCE_ATTRIBUTES, "").split(","))
    named = [unquote(value.strip()) for key, _, value in pairs if key.strip() == "service.name"]
    return environ.get(settings.OTEL_SERVICE_NAME) or next(filter(None, named), _SERVICE)


def _iso(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06}Z"


def _of_run(state: RunState) -> Attributes:
    attributes: Attributes = {conventions.RUN: state.run_id, conventions.SESSION_NUMBER: state.session_number}
    if state.dbt is not None:
        attributes[conventions.INVOCATION] = state.dbt.invocation_id
    attributes[conventions.PROJECT] = state.project
    attributes[conventions.TARGET] = (state.config.target if state.config is not None else None) or ""
    return attributes


def _of_place(event: Event) -> Attributes:
    return {conventions.STEP_NUMBER: event.step or "", conventions.ATTEMPT_NUMBER: event.attempt or ""}


def _place(event: Event) -> _Place:
    return event.step, event.attempt


def _severity(node: NodeState) -> Severity:
    if node.status in FAILED:
        return "error"
    return "warn" if node.status in _WARNED or node.cause is not None else "info"


def _how(node: NodeState) -> str:
    how = f"{node.status} in {duration(node.execution_time)}" if node.execution_time else node.status
    return f"{how}, because {node.cause} failed" if node.cause else how


def _one_line(text: str) -> str:
    return _cut(" ".join(text.split()), _BODY)


def _bounded(value: str | float) -> str | int | float:
    return _cut(value, _TEXT) if isinstance(value, str) else value


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _cut_inside(text: str) -> str:
    """Cut the middle of a stack trace: its start says where it came from, and its end names the error."""
    kept = (_TEXT - 1) // 2
    return text if len(text) <= _TEXT else f"{text[:kept]}…{text[-kept:]}"
