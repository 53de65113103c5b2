"""Spans: session, step, attempt, phase, node, query, made from events, with derived ids and the events' times.

A level that says nothing of its own is left out: the step of a run that has one, the first attempt of a step. A span's
parent must be known when it ends, not when the run does, so it is the first attempt, and not the only one, that has no
span: those after it have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT
from opentelemetry.trace.status import Status, StatusCode

from spanline import events
from spanline.dbt.arguments import command_of
from spanline.events import Event, NodeDescribed
from spanline.journal import ids
from spanline.journal.progress import DONE
from spanline.journal.state import SUCCESS, NodeState, RunState, outcome_of
from spanline.lineage.statements import changes, operation
from spanline.results import conventions
from spanline.runner.shared import exit_codes
from spanline.sinks.base import Message
from spanline.sinks.otel import failing
from spanline.sinks.otel.failing import Failed, response_code
from spanline.sinks.otel.sampling import Sampling, decide, sampler_of
from spanline.sinks.otel.scope import SCOPE
from spanline.sinks.otel.sql import Shown

Attributes = dict[str, "str | int | float | bool"]
_Place = tuple[int, int]
"""Step and attempt."""

_GOOD: Final = DONE | {"skipped"}
_UNSET: Final = Status(StatusCode.UNSET)
_DESCRIPTION: Final = 1000
_MESSAGE: Final = 8192
"""How many characters of an error are sent."""
_FIRST: Final = 1
"""dbt's exit code where it left none."""


class _Phase(msgspec.Struct, frozen=True):
    name: str
    place: _Place
    started: int


class _Query(msgspec.Struct, frozen=True):
    number: int
    started: int
    sql: str
    unique_id: str | None
    place: _Place
    above: SpanContext


class _Level(msgspec.Struct, frozen=True):
    """A step or an attempt under way."""

    name: str
    place: _Place
    started: int


class Translator:
    """From events to finished spans: a function of the events so far, and nothing else."""

    def __init__(self, resource: Resource, shown: Shown, sampler: Sampler | None = None) -> None:
        """`shown` says what of a query's SQL may be seen. Without a `sampler` it is the one that OTEL_* name."""
        self._resource = resource
        self._shown = shown
        self._sampler = sampler or sampler_of(resource)
        self._limits = SpanLimits()
        self._before: SpanContext | None = None
        self._root = INVALID_SPAN_CONTEXT
        # By unique id, of all sessions that one resumes another: some 200 bytes a node.
        self._ran: dict[str, SpanContext] = {}
        self._begin(Sampling())
        self._handlers: dict[type[Event], Callable[[Any, RunState], Iterable[Message]]] = {
            events.SessionStarted: self._session_started,
            events.StepStarted: self._step_started,
            events.AttemptStarted: self._attempt_started,
            events.PhaseStarted: self._phase_started,
            events.NodeStarted: self._node_started,
            events.HookStarted: self._node_started,
            events.NodeFinished: self._node_finished,
            events.HookFinished: self._node_finished,
            events.NodeSkipped: self._node_skipped,
            events.QueryStarted: self._query_started,
            events.QueryFinished: self._query_finished,
            events.RetryScheduled: self._retry,
            events.CancelRequested: self._cancel,
            events.RunnerKilled: self._killed,
            events.RunnerDied: self._died,
            events.DbtFinished: self._dbt_finished,
            events.AttemptEnded: self._attempt_ended,
            events.SessionEnded: self._session_ended,
        }

    def __call__(self, event: Event, state: RunState) -> Iterable[Message]:
        """Yield the spans that this event, already applied to the state, ends; none where the run isn't known."""
        handler = self._handlers.get(type(event))
        if handler is None or state.session is None:
            return
        made = handler(event, state)
        if self._sampling.sampled:
            yield from made
        else:
            for _ in made:
                pass  # what it notes on the way holds all the same

    def _begin(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._step: _Level | None = None
        self._attempt: _Level | None = None
        self._phase: _Phase | None = None
        self._open_nodes: dict[str, tuple[_Place, SpanContext]] = {}
        self._queries: dict[tuple[str, int], _Query] = {}
        self._notes: list[SpanEvent] = []

    # --- the session ----------------------------------------------------------------------------------------------

    def _session_started(self, event: events.SessionStarted, state: RunState) -> Iterable[Message]:
        self._before = self._root if self._root.is_valid else None
        if not event.resumes:
            self._ran = {}  # whatever it is made from is made anew
        self._begin(decide(self._sampler, event))
        self._root = self._context(state, "session")
        return ()

    def _session_ended(self, event: events.SessionEnded, state: RunState) -> Iterable[Message]:
        yield from self._close_attempt(state)
        yield from self._close_step(state)
        good = event.outcome == SUCCESS
        parent = self._sampling.parent
        before = [Link(self._before)] if self._before is not None else []
        failed = None if good else failing.of_level(state, event.outcome)
        yield Message(
            self._span(
                _name_of_session(state),
                self._root,
                parent if parent.is_valid else None,
                _of_session(event, state),
                (state.started, state.now),
                failed,
                links=before,
                notes=self._notes,
                kind=SpanKind.SERVER,
            ),
            barrier=True,
        )

    # --- steps, attempts, phases ----------------------------------------------------------------------------------

    def _step_started(self, event: events.StepStarted, state: RunState) -> Iterable[Message]:
        yield from self._close_step(state)
        if _steps(state) > 1:
            self._step = _Level(f"{conventions.SESSION} {command_of(event.argv)}".strip(), (event.step, 0), state.now)

    def _attempt_started(self, event: events.AttemptStarted, state: RunState) -> Iterable[Message]:
        yield from self._close_attempt(state)
        if event.attempt > _FIRST:
            self._attempt = _Level(conventions.ATTEMPT, (event.step, event.attempt), state.now)

    def _phase_started(self, event: events.PhaseStarted, state: RunState) -> Iterable[Message]:
        yield from self._close_phase(state)
        name = conventions.PHASES.get(event.phase, event.phase)
        self._phase = _Phase(name, (event.step, event.attempt), state.now)

    def _dbt_finished(self, event: events.DbtFinished, state: RunState) -> Iterable[Message]:
        yield from self._close_phase(state)

    def _attempt_ended(self, event: events.AttemptEnded, state: RunState) -> Iterable[Message]:
        yield from self._close_attempt(state)

    def _died(self, event: events.RunnerDied, state: RunState) -> Iterable[Message]:
        how = {conventions.REASON: event.how}
        self._note(conventions.DIED, state.now, {**how, conventions.EXCEPTION_MESSAGE: event.detail})
        yield from self._close_attempt(state)

    def _close_step(self, state: RunState) -> Iterator[Message]:
        yield from self._close_attempt(state)
        if self._step is not None:
            level, self._step = self._step, None
            yield self._level(level, self._root, state)

    def _close_attempt(self, state: RunState) -> Iterator[Message]:
        yield from self._close_phase(state)
        if self._attempt is not None:
            level, self._attempt = self._attempt, None
            yield self._level(level, self._above(state), state)

    def _close_phase(self, state: RunState) -> Iterator[Message]:
        for unique_id in list(self._open_nodes):
            yield from self._end_node(unique_id, None, state)
        for key in list(self._queries):
            yield self._query_span(self._queries.pop(key), state, failed=failing.given_up_for(state))
        if self._phase is not None:
            phase, self._phase = self._phase, None
            yield Message(
                self._span(
                    phase.name,
                    self._context(state, *phase.place, "phase", phase.name),
                    self._above(state),
                    _of_place(phase.place),
                    (phase.started, state.now),
                )
            )

    def _level(self, level: _Level, above: SpanContext, state: RunState) -> Message:
        own = self._context(state, *ids.level(*level.place, steps=_steps(state)))
        last = state.attempt
        bad = last is not None and (last.exit_code != 0 or last.died is not None)
        attributes = _of_place(level.place)
        if last is not None and last.exit_code is not None:
            attributes[conventions.EXIT_CODE] = last.exit_code
        outcome = state.outcome((last.exit_code if last is not None else None) or exit_codes.ERROR)
        failed = failing.of_level(state, outcome, *level.place) if bad else None
        return Message(self._span(level.name, own, above, attributes, (level.started, state.now), failed))

    def _above(self, state: RunState) -> SpanContext:
        """The span of the attempt, step or session that is under way."""
        attempt, step = self._attempt, self._step
        place = attempt.place if attempt is not None else step.place if step is not None else (0, 0)
        return self._context(state, *ids.level(*place, steps=_steps(state)))

    def _phase_or_above(self, state: RunState) -> SpanContext:
        phase = self._phase
        return self._context(state, *phase.place, "phase", phase.name) if phase is not None else self._above(state)

    # --- what happens to the session, as events of its span -------------------------------------------------------

    def _retry(self, event: events.RetryScheduled, state: RunState) -> Iterable[Message]:
        self._note(conventions.RETRY, state.now, {conventions.DELAY: event.delay, conventions.REASON: event.reason})
        return ()

    def _cancel(self, event: events.CancelRequested, state: RunState) -> Iterable[Message]:
        self._note(conventions.CANCEL, state.now, {conventions.REASON: event.reason or event.by})
        return ()

    def _killed(self, event: events.RunnerKilled, state: RunState) -> Iterable[Message]:
        self._note(conventions.KILLED, state.now, {conventions.REASON: event.reason})
        return ()

    def _note(self, name: str, at: int, attributes: Attributes) -> None:
        self._notes.append(SpanEvent(name, self._of_event(attributes), at))

    # --- nodes and hooks ------------------------------------------------------------------------------------------

    def _node_started(self, event: events.NodeStarted | events.HookStarted, state: RunState) -> Iterable[Message]:
        self._open_nodes[event.unique_id] = ((event.step, event.attempt), self._phase_or_above(state))
        return ()

    def _node_finished(self, event: events.NodeFinished | events.HookFinished, state: RunState) -> Iterable[Message]:
        yield from self._end_node(event.unique_id, event, state)

    def _end_node(self, unique_id: str, event: Event | None, state: RunState) -> Iterator[Message]:
        place, above = self._open_nodes.pop(unique_id, (None, self._root))
        node = state.nodes.get(unique_id) or state.hooks.get(unique_id)
        if place is None or node is None or node.started is None:
            return
        good = node.status in _GOOD
        failed = None if good else failing.of_node(node, state.adapter)
        for key in [key for key, query in self._queries.items() if query.unique_id == unique_id]:
            # dbt tells of a query that the warehouse has answered, but not of one that failed.
            yield self._query_span(self._queries.pop(key), state, failed=failed)
        described = state.descriptions.get(unique_id)
        attributes = {**_of_node(node, described), **_of_place(place)}
        if isinstance(event, events.NodeFinished):
            attributes.update(_of_result(event))
        attributes[conventions.OPENLINEAGE_RUN] = ids.lineage_run_id(
            state.run_id, state.session_number, *place, node.unique_id
        )
        own = self._context(state, *place, unique_id)
        if node.status in DONE:
            self._ran[unique_id] = own
        else:
            self._ran.setdefault(unique_id, own)  # what an earlier try has made is still there
        yield Message(
            self._span(
                _name(unique_id, described),
                own,
                above,
                attributes,
                (node.started, node.finished or state.now),
                failed,
                links=self._upstream(described, state),
            )
        )

    def _node_skipped(self, event: events.NodeSkipped, state: RunState) -> Iterable[Message]:
        described = state.descriptions.get(event.unique_id)
        place = (event.step, event.attempt)
        cause = state.nodes.get(event.cause) if event.cause else None
        yield Message(
            self._span(
                _name(event.unique_id, described),
                self._context(state, *place, event.unique_id),
                self._phase_or_above(state),
                {**_of_node(state.nodes[event.unique_id], described), **_of_place(place)},
                (state.now, state.now),
                links=[Link(self._context(state, cause.step, cause.attempt, cause.unique_id))] if cause else [],
            )
        )

    def _upstream(self, described: NodeDescribed | None, state: RunState) -> list[Link]:
        return [Link(self._ran[unique_id]) for unique_id in self._upstream_that_ran(described, state, set())]

    def _upstream_that_ran(self, described: NodeDescribed | None, state: RunState, seen: set[str]) -> Iterator[str]:
        """What ran, in this session or before, of what the node depends on; through ephemeral ones, to those behind."""
        for unique_id in described.depends_on if described is not None else ():
            if unique_id in seen:
                continue
            seen.add(unique_id)
            if unique_id in self._ran:
                yield unique_id
                continue
            upstream = state.descriptions.get(unique_id)
            if upstream is not None and upstream.is_ephemeral:
                yield from self._upstream_that_ran(upstream, state, seen)

    # --- queries --------------------------------------------------------------------------------------------------

    def _query_started(self, event: events.QueryStarted, state: RunState) -> Iterable[Message]:
        place = (event.step, event.attempt)
        of_node = event.unique_id in self._open_nodes if event.unique_id else False
        above = self._context(state, *place, event.unique_id) if of_node else self._phase_or_above(state)
        self._queries[event.writer, event.query] = _Query(
            event.query, state.now, event.sql, event.unique_id, place, above
        )
        return ()

    def _query_finished(self, event: events.QueryFinished, state: RunState) -> Iterable[Message]:
        query = self._queries.pop((event.writer, event.query), None)
        if query is not None:
            yield self._query_span(query, state, event.status)

    def _query_span(
        self, query: _Query, state: RunState, outcome: str = "", *, failed: Failed | None = None
    ) -> Message:
        name = operation(query.sql) or conventions.QUERY
        attributes: Attributes = {**_of_warehouse(state), conventions.DB_OPERATION: name}
        changed = _changed(query, state)
        if changed is not None:
            attributes |= {conventions.DB_COLLECTION: changed, conventions.DB_SUMMARY: f"{name} {changed}"}
        code = response_code(failed.message, state.adapter) if failed is not None else None
        if code is not None:
            attributes[conventions.DB_CODE] = code
        shown = self._shown(query.sql, state.adapter or "")
        if shown is not None:
            attributes[conventions.DB_QUERY] = shown
        if outcome:
            attributes[conventions.QUERY_OUTCOME] = outcome
        if query.unique_id:
            attributes[conventions.UNIQUE_ID] = query.unique_id
        return Message(
            self._span(
                name,
                self._context(state, *query.place, "query", query.number),
                query.above,
                attributes,
                (query.started, state.now),
                Failed("the warehouse gave no answer", failed.failure, raised=False) if failed is not None else None,
                kind=SpanKind.CLIENT,
            )
        )

    # --- spans ----------------------------------------------------------------------------------------------------

    def _context(self, state: RunState, *parts: object) -> SpanContext:
        return self._sampling.context(ids.span_id(state.run_id, state.session_number, *parts))

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        times: tuple[int, int],
        failed: Failed | None = None,
        *,
        links: Sequence[Link] = (),
        notes: Sequence[SpanEvent] = (),
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> ReadableSpan:
        if failed is not None:
            attributes = {**attributes, **failed.attributes}
            notes = [*notes, self._exception(failed, times[1])] if failed.raised else notes
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=self._bounded(attributes),
            events=_first(self._limits.max_events, notes),
            links=_first(self._limits.max_links, links),
            kind=kind,
            status=_UNSET if failed is None else Status(StatusCode.ERROR, failed.told(self._shown)[:_DESCRIPTION]),
            start_time=times[0],
            # The clock may be set back while something lasts.
            end_time=max(times),
            instrumentation_scope=SCOPE,
        )

    def _exception(self, failed: Failed, at: int) -> SpanEvent:
        said = {
            conventions.EXCEPTION_TYPE: failed.exception_type,
            conventions.EXCEPTION_MESSAGE: failed.told(self._shown)[:_MESSAGE],
        }
        return SpanEvent(conventions.EXCEPTION, self._of_event({**said}), at)

    def _of_event(self, attributes: Attributes) -> BoundedAttributes:
        limits = self._limits
        return BoundedAttributes(
            limits.max_event_attributes, dict(attributes), immutable=True, max_value_len=limits.max_attribute_length
        )

    def _bounded(self, attributes: Mapping[str, str | int | float | bool]) -> BoundedAttributes:
        limits = self._limits
        return BoundedAttributes(
            limits.max_span_attributes, dict(attributes), immutable=True, max_value_len=limits.max_span_attribute_length
        )


def _name_of_session(state: RunState) -> str:
    """`dbt build`; of a run with several steps, `dbt seed, run, test`."""
    steps = state.session.steps if state.session is not None else []
    commands = ", ".join(map(command_of, steps))
    if len(steps) == 1 and state.attempt is not None and state.attempt.command:
        commands = state.attempt.command  # dbt's own word, as `source freshness`
    return f"{conventions.SESSION} {commands}".strip()


def _steps(state: RunState) -> int:
    return len(state.session.steps) if state.session is not None else 1


def _first(limit: int | None, items: Sequence[Any]) -> Sequence[Any]:
    """As many as OTEL_SPAN_*_COUNT_LIMIT allows; the SDK's list counts the others as dropped."""
    return items if limit is None or len(items) <= limit else BoundedList.from_seq(limit, items)


def _name(unique_id: str, described: NodeDescribed | None) -> str:
    """Of low cardinality as a route is: a project has so many nodes, however often it is run."""
    return f"{described.resource_type} {described.name}" if described is not None else f"{conventions.HOOK} {unique_id}"


def _of_place(place: _Place) -> Attributes:
    step, attempt = place
    return {conventions.STEP_NUMBER: step, **({conventions.ATTEMPT_NUMBER: attempt} if attempt else {})}


def _of_session(event: events.SessionEnded, state: RunState) -> Attributes:
    outcome = outcome_of(state, event)
    result = conventions.RESULTS.get(outcome, outcome)
    found: Attributes = {
        conventions.RUN: state.run_id,
        conventions.SESSION_NUMBER: event.session,
        conventions.PIPELINE_RUN: state.run_id,
        conventions.PIPELINE_RESULT: result,
        conventions.EXIT_CODE: event.exit_code,
        **_of_warehouse(state),
    }
    if state.session is not None:
        found[conventions.OPENLINEAGE_RUN] = state.session.lineage_run_id
    if state.dbt is not None:
        found[conventions.DBT_VERSION] = state.dbt.dbt_version
        found[conventions.INVOCATION] = state.dbt.invocation_id
    if state.config is not None:
        found[conventions.PIPELINE_NAME] = found[conventions.PROJECT] = state.config.project or ""
        found[conventions.TARGET] = state.config.target or ""
    for status, count in state.counts.items():
        found[f"{conventions.NODES}{status.replace(' ', '_')}"] = count
    return found


def _of_warehouse(state: RunState) -> Attributes:
    config = state.config
    if config is None:
        return {}
    found: Attributes = {conventions.DB_SYSTEM: conventions.SYSTEMS.get(config.adapter_type, config.adapter_type)}
    for key, name in ((conventions.DB_NAMESPACE, "database"), (conventions.SERVER, "host")):
        value = config.connection.get(name)
        if value:
            found[key] = str(value)
    port = config.connection.get("port")
    if conventions.SERVER in found and port is not None and str(port).isdecimal():
        found[conventions.PORT] = int(port)
    return found


def _changed(query: _Query, state: RunState) -> str | None:
    """The relation of its node, where it is that one, and not one beside it, that the query makes or changes."""
    described = state.descriptions.get(query.unique_id or "")
    relation = described.relation if described is not None else None
    if relation is None or not changes(query.sql, relation.name):
        return None
    return ".".join(filter(None, (relation.schema, relation.identifier)))


def _of_node(node: NodeState, described: NodeDescribed | None) -> Attributes:
    found: Attributes = {conventions.UNIQUE_ID: node.unique_id, conventions.OUTCOME: node.status}
    if node.rows_affected is not None:
        found[conventions.ROWS] = node.rows_affected
    if node.failing_rows is not None:
        found[conventions.FAILURES] = node.failing_rows
    if node.skipped_for:
        found[conventions.CAUSE] = node.skipped_for
    if described is None:
        return found
    found[conventions.NODE_TYPE] = described.resource_type
    if described.materialized:
        found[conventions.MATERIALIZATION] = described.materialized
    if described.path:
        found[conventions.FILE_PATH] = found[conventions.RELATIVE_PATH] = described.path
    relation = described.relation
    if relation is not None:
        found[conventions.DATABASE] = relation.database or ""
        found[conventions.SCHEMA] = relation.schema or ""
        found[conventions.IDENTIFIER] = relation.identifier
    return found


def _of_result(event: events.NodeFinished) -> Attributes:
    known = {
        conventions.BYTES: event.bytes_processed,
        conventions.QUERY_ID: event.query_id,
        conventions.THREAD: event.thread or None,
    }
    return {key: value for key, value in known.items() if value is not None}
