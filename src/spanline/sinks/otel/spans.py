"""Spans: one for the session, each node and each query, made from events, with derived ids and the events' times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT
from opentelemetry.trace.status import Status, StatusCode

from spanline import __version__, events, ids
from spanline.events import Event, NodeDescribed
from spanline.sinks.base import Message
from spanline.state import SUCCESS, NodeState, RunState

Attributes = dict[str, str | int | float | bool | list[str]]

_CLOSING: Final = (events.DbtFinished, events.AttemptEnded, events.RunnerDied, events.SessionEnded)
_SCOPE: Final = InstrumentationScope("spanline", __version__)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_GOOD: Final = frozenset(("success", "pass", "warn", "no-op"))
_OPERATION: Final = re.compile(r"(?:\s|/\*.*?\*/|--[^\n]*\n)*([A-Za-z]+)", re.DOTALL)


class _OpenQuery(msgspec.Struct, frozen=True):
    started: int
    sql: str
    unique_id: str | None
    place: tuple[int, int, int]


class Translator:
    """From events to finished spans: a function of the events so far, and nothing else."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._open_nodes: dict[str, tuple[int, int, int]] = {}
        self._queries: dict[tuple[str, int], _OpenQuery] = {}
        self._parent = INVALID_SPAN_CONTEXT

    def __call__(self, event: Event, state: RunState) -> Iterator[Message]:
        """Yield the spans that this event, already applied to the state, ends."""
        place = (event.session, event.step, event.attempt)
        if isinstance(event, events.SessionStarted):
            self._open_nodes.clear()
            self._queries.clear()
            self._parent = _remote_parent(event.traceparent)
        elif isinstance(event, (events.NodeStarted, events.HookStarted)):
            self._open_nodes[event.unique_id] = place
        elif isinstance(event, events.QueryStarted):
            self._queries[event.writer, event.query] = _OpenQuery(event.time, event.sql, event.unique_id, place)
        elif isinstance(event, events.QueryFinished):
            yield from self._end_query(event, state)
        elif isinstance(event, (events.NodeFinished, events.HookFinished)):
            yield from self._end_node(event.unique_id, state)
        elif isinstance(event, _CLOSING):
            for unique_id in list(self._open_nodes):
                yield from self._end_node(unique_id, state)
            if isinstance(event, events.SessionEnded):
                yield self._session(event, state)

    def _session(self, event: events.SessionEnded, state: RunState) -> Message:
        attempt = state.attempt
        command = attempt.command if attempt is not None else ""
        attributes: Attributes = {
            "spanline.run.id": state.run_id,
            "spanline.session": event.session,
            "cicd.pipeline.result": "success" if event.outcome == SUCCESS else "failure",
            "process.exit.code": event.exit_code,
        }
        if state.dbt is not None:
            attributes["dbt.version"] = state.dbt.dbt_version
            attributes["dbt.invocation_id"] = state.dbt.invocation_id
        if state.config is not None:
            attributes["db.system.name"] = state.config.adapter_type
            attributes["dbt.project"] = state.config.project or ""
            attributes["dbt.target"] = state.config.target or ""
        for status, count in state.counts.items():
            attributes[f"dbt.nodes.{status.replace(' ', '_')}"] = count
        return Message(
            self._span(
                f"dbt {command}".strip(),
                self._context(state, "session"),
                self._parent if self._parent.is_valid else None,
                attributes,
                (state.started, event.time),
                _status(event.outcome == SUCCESS, event.outcome),
            ),
            barrier=True,
        )

    def _end_node(self, unique_id: str, state: RunState) -> Iterator[Message]:
        place = self._open_nodes.pop(unique_id, None)
        node = state.nodes.get(unique_id) or state.hooks.get(unique_id)
        if place is None or node is None or node.started is None:
            return
        described = state.descriptions.get(unique_id)
        links = [
            Link(self._context(state, *place[1:], upstream))
            for upstream in (described.depends_on if described else ())
            if upstream in state.nodes and state.nodes[upstream].attempt == node.attempt
        ]
        yield Message(
            self._span(
                _node_name(unique_id, described),
                self._context(state, *place[1:], unique_id),
                self._context(state, "session"),
                _node_attributes(node, described),
                (node.started, node.finished or state.last),
                _status(node.status in _GOOD, node.message or node.status),
                links,
            )
        )

    def _end_query(self, event: events.QueryFinished, state: RunState) -> Iterator[Message]:
        query = self._queries.pop((event.writer, event.query), None)
        if query is None:
            return
        _, *place = query.place
        operation = _OPERATION.match(query.sql)
        name = operation.group(1).upper() if operation else "query"
        parent = [*place, query.unique_id] if query.unique_id else ["session"]
        attributes: Attributes = {
            "db.query.text": query.sql,
            "db.operation.name": name,
            "db.response.status_code": event.status,
        }
        if state.config is not None:
            attributes["db.system.name"] = state.config.adapter_type
        if query.unique_id:
            attributes["unique_id"] = query.unique_id
        yield Message(
            self._span(
                name,
                self._context(state, *place, "query", event.query),
                self._context(state, *parent),
                attributes,
                (query.started, event.time),
                Status(StatusCode.UNSET),
                kind=SpanKind.CLIENT,
            )
        )

    def _context(self, state: RunState, *parts: object) -> SpanContext:
        traceparent = state.session.traceparent if state.session else None
        trace = ids.session_trace_id(state.run_id, state.session_number, traceparent)
        span = ids.span_id(state.run_id, state.session_number, *parts)
        return SpanContext(trace, span, is_remote=False, trace_flags=_SAMPLED)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        times: tuple[int, int],
        status: Status,
        links: Sequence[Link] = (),
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> ReadableSpan:
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            links=links,
            kind=kind,
            status=status,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=_SCOPE,
        )


def _remote_parent(traceparent: str | None) -> SpanContext:
    if not traceparent:
        return INVALID_SPAN_CONTEXT
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    return get_current_span(context).get_span_context()


def _node_name(unique_id: str, described: NodeDescribed | None) -> str:
    if described is None:
        return f"hook {unique_id}"
    return f"{described.resource_type} {described.name}"


def _node_attributes(node: NodeState, described: NodeDescribed | None) -> Attributes:
    attributes: Attributes = {"unique_id": node.unique_id, "node_outcome": node.status}
    if node.rows_affected is not None:
        attributes["rows_affected"] = node.rows_affected
    if described is None:
        return attributes
    attributes["node_type"] = described.resource_type
    if described.materialized:
        attributes["materialization"] = described.materialized
    if described.path:
        attributes["code.file.path"] = described.path
    relation = described.relation
    if relation is not None:
        attributes["database"] = relation.database or ""
        attributes["schema"] = relation.schema or ""
        attributes["identifier"] = relation.identifier
    return attributes


def _status(good: bool, description: str) -> Status:
    return Status(StatusCode.OK) if good else Status(StatusCode.ERROR, description[:1000])
