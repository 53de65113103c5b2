"""Spans: session, step, attempt, phase, node, query, made from events, with derived ids and the events' times.

A level that says nothing of its own is left out: the step of a run that has one, the first attempt of a step. A span's
parent must be known when it ends, not when the run does, so it is the first attempt, and not the only one, that has no
span: those after it have.

A phase begins where the one before has ended, from the start of dbt's process to the end of the session: so no time of
a session is without a span. Within the phase that runs nodes, what is none of a node's has two spans: one for what is
done before the first, one for what is done after the last.
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
from opentelemetry.util.types import AttributeValue

from spanline import events
from spanline.dbt.arguments import command_of
from spanline.events import Event
from spanline.journal import ids
from spanline.journal.state import DONE, SKIPPED, SUCCESS, RunState
from spanline.results import conventions, naming
from spanline.runner.shared import exit_codes
from spanline.sinks.base import Message
from spanline.sinks.otel import failing
from spanline.sinks.otel.attributes import Attributes, Place, of_node, of_place, of_result, of_session
from spanline.sinks.otel.failing import Failed
from spanline.sinks.otel.queries import Query, attributes_of, name_of, upstream
from spanline.sinks.otel.sampling import Sampling, decide, sampler_of
from spanline.sinks.otel.scope import SCOPE
from spanline.sinks.otel.sql import Shown

_GOOD: Final = DONE | {SKIPPED}
_UNSET: Final = Status(StatusCode.UNSET)
_DESCRIPTION: Final = 1000
_MESSAGE: Final = 8192
"""How many characters of an error are sent."""
_FIRST: Final = 1
"""dbt's exit code where it left none."""
_SHORTEST: Final = 1_000
"""Nanoseconds: Jaeger counts in microseconds, and takes a duration of none for a negative one."""
_PARSES_NOTHING: Final = frozenset(("clean", "debug", "deps", "docs serve", "init"))
"""Commands of dbt's that have no phases of their own."""


class _Delivery(msgspec.Struct, frozen=True):
    """What goes on from the session's end, and whose word it is that it is over: a replay has a delivery of its own."""

    writer: str
    started: int


class _Level(msgspec.Struct, frozen=True):
    """A step, an attempt, a phase or a part of one, under way."""

    name: str
    place: Place
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
            events.DbtStarted: self._dbt_started,
            events.PhaseStarted: self._phase_started,
            events.NodeStarted: self._node_started,
            events.HookStarted: self._hook_started,
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
            events.DeliveryEnded: self._delivery_ended,
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
        self._phase: _Level | None = None
        self._part: _Level | None = None
        self._idle = 0
        self._delivery: _Delivery | None = None
        self._open_nodes: dict[str, tuple[Place, SpanContext]] = {}
        self._queries: dict[tuple[str, int], Query] = {}
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
        self._delivery = _Delivery(event.writer, state.now)
        yield Message(
            self._span(
                _name_of_session(state),
                self._root,
                parent if parent.is_valid else None,
                of_session(event, state),
                (state.started, state.now),
                failed,
                links=before,
                notes=self._notes,
                kind=SpanKind.SERVER,
            ),
            barrier=True,
        )

    def _delivery_ended(self, event: events.DeliveryEnded, state: RunState) -> Iterable[Message]:
        delivery, self._delivery = self._delivery, None
        if delivery is not None and delivery.writer == event.writer:
            context = self._context(state, conventions.DELIVERY)
            times = (delivery.started, state.clock.at(event))
            yield Message(self._span(conventions.DELIVERY, context, self._root, {}, times))

    # --- steps, attempts, phases ----------------------------------------------------------------------------------

    def _step_started(self, event: events.StepStarted, state: RunState) -> Iterable[Message]:
        yield from self._close_step(state)
        if _steps(state) > 1:
            self._step = _Level(f"{conventions.SESSION} {command_of(event.argv)}".strip(), (event.step, 0), state.now)

    def _attempt_started(self, event: events.AttemptStarted, state: RunState) -> Iterable[Message]:
        yield from self._close_attempt(state)
        if event.attempt > _FIRST:
            self._attempt = _Level(conventions.ATTEMPT, (event.step, event.attempt), state.now)
        self._enter(conventions.START, event, state)

    def _dbt_started(self, event: events.DbtStarted, state: RunState) -> Iterable[Message]:
        yield from self._close_phase(state)
        self._enter(conventions.EXECUTE if event.command in _PARSES_NOTHING else conventions.CONFIGURE, event, state)

    def _phase_started(self, event: events.PhaseStarted, state: RunState) -> Iterable[Message]:
        yield from self._close_phase(state)
        name = conventions.PHASES.get(event.phase, event.phase)
        self._enter(name, event, state)
        if name == conventions.EXECUTE:
            self._part = _Level(conventions.PREPARE, (event.step, event.attempt), state.now)

    def _dbt_finished(self, event: events.DbtFinished, state: RunState) -> Iterable[Message]:
        yield from self._close_phase(state)
        self._enter(conventions.EXIT, event, state)

    def _attempt_ended(self, event: Event, state: RunState) -> Iterable[Message]:
        yield from self._close_attempt(state)
        self._enter(conventions.END, event, state)

    def _died(self, event: events.RunnerDied, state: RunState) -> Iterable[Message]:
        how = {conventions.REASON: event.how}
        self._note(conventions.DIED, state.now, {**how, conventions.EXCEPTION_MESSAGE: event.detail})
        yield from self._attempt_ended(event, state)

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

    def _enter(self, phase: str, event: Event, state: RunState) -> None:
        self._phase = _Level(phase, (event.step, event.attempt), state.now)

    def _close_phase(self, state: RunState) -> Iterator[Message]:
        for unique_id in list(self._open_nodes):
            yield from self._end_node(unique_id, None, state)
        for key in list(self._queries):
            yield self._query_span(self._queries.pop(key), state, failed=failing.given_up_for(state))
        if self._phase is None:
            return
        if self._idle and self._idle < state.now:
            self._beside_nodes(state)
        yield from self._close_part(state)
        self._idle = 0
        phase, self._phase = self._phase, None
        yield self._of_phase(phase, self._above(state), state)

    def _close_part(self, state: RunState) -> Iterator[Message]:
        if self._part is not None and self._phase is not None:
            part, self._part = self._part, None
            yield self._of_phase(part, self._context_of(self._phase, state), state)

    def _of_phase(self, phase: _Level, above: SpanContext, state: RunState) -> Message:
        own = self._context_of(phase, state)
        return Message(self._span(phase.name, own, above, of_place(phase.place), (phase.started, state.now)))

    def _context_of(self, phase: _Level, state: RunState) -> SpanContext:
        return self._context(state, *phase.place, "phase", phase.name)

    def _level(self, level: _Level, above: SpanContext, state: RunState) -> Message:
        own = self._context(state, *ids.level(*level.place, steps=_steps(state)))
        last = state.attempt
        bad = last is not None and (last.exit_code != 0 or last.died is not None)
        attributes = of_place(level.place)
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
        return self._context_of(self._phase, state) if self._phase is not None else self._above(state)

    def _beside_nodes(self, state: RunState) -> SpanContext:
        """The span of what is none of a node's: that of what comes before the first, or after the last, or above."""
        if self._part is None and self._phase is not None and self._idle:
            self._part = _Level(conventions.FINISH, self._phase.place, self._idle)
        return self._context_of(self._part, state) if self._part is not None else self._phase_or_above(state)

    def _leave_preparation(self, state: RunState) -> Iterator[Message]:
        """Have a node begin, or be left out."""
        if self._part is not None and self._part.name == conventions.PREPARE:
            yield from self._close_part(state)
        self._idle = 0

    def _note_idle(self, ended: int) -> None:
        """Have a node ended then: if no other is open it may have been the last."""
        running = self._phase is not None and self._phase.name == conventions.EXECUTE
        if running and not self._open_nodes and self._part is None:
            self._idle = self._idle or ended

    # --- what happens to the session, as events of its span -------------------------------------------------------

    def _retry(self, event: events.RetryScheduled, state: RunState) -> Iterable[Message]:
        self._note(conventions.RETRY, state.now, {conventions.DELAY: event.delay, conventions.REASON: event.reason})
        yield from self._close_phase(state)
        self._enter(conventions.WAIT, event, state)

    def _cancel(self, event: events.CancelRequested, state: RunState) -> Iterable[Message]:
        self._note(conventions.CANCEL, state.now, {conventions.REASON: event.reason or event.by})
        return ()

    def _killed(self, event: events.RunnerKilled, state: RunState) -> Iterable[Message]:
        self._note(conventions.KILLED, state.now, {conventions.REASON: event.reason})
        return ()

    def _note(self, name: str, at: int, attributes: Attributes) -> None:
        self._notes.append(SpanEvent(name, self._of_event(attributes), at))

    # --- nodes and hooks ------------------------------------------------------------------------------------------

    def _node_started(self, event: events.NodeStarted, state: RunState) -> Iterable[Message]:
        yield from self._leave_preparation(state)
        self._open_nodes[event.unique_id] = ((event.step, event.attempt), self._phase_or_above(state))

    def _hook_started(self, event: events.HookStarted, state: RunState) -> Iterable[Message]:
        self._open_nodes[event.unique_id] = ((event.step, event.attempt), self._beside_nodes(state))
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
        attributes = {**of_node(node, described), **of_place(place)}
        if isinstance(event, events.NodeFinished):
            attributes.update(of_result(event))
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
                naming.name_of(unique_id, state),
                own,
                above,
                attributes,
                (node.started, node.finished or state.now),
                failed,
                links=[Link(self._ran[key]) for key in upstream(described, state, self._ran) if key in self._ran],
            )
        )
        self._note_idle(state.now)

    def _node_skipped(self, event: events.NodeSkipped, state: RunState) -> Iterable[Message]:
        described = state.descriptions.get(event.unique_id)
        place = (event.step, event.attempt)
        cause = state.nodes.get(event.cause) if event.cause else None
        yield from self._leave_preparation(state)
        self._note_idle(state.now + _SHORTEST)
        yield Message(
            self._span(
                naming.name_of(event.unique_id, state),
                self._context(state, *place, event.unique_id),
                self._phase_or_above(state),
                {**of_node(state.nodes[event.unique_id], described), **of_place(place)},
                (state.now, state.now),
                links=[Link(self._context(state, cause.step, cause.attempt, cause.unique_id))] if cause else [],
            )
        )

    # --- queries --------------------------------------------------------------------------------------------------

    def _query_started(self, event: events.QueryStarted, state: RunState) -> Iterable[Message]:
        place = (event.step, event.attempt)
        in_node = event.unique_id in self._open_nodes if event.unique_id else False
        above = self._context(state, *place, event.unique_id) if in_node else self._beside_nodes(state)
        self._queries[event.writer, event.query] = Query(
            event.query, state.now, event.sql, event.unique_id, place, above
        )
        return ()

    def _query_finished(self, event: events.QueryFinished, state: RunState) -> Iterable[Message]:
        query = self._queries.pop((event.writer, event.query), None)
        if query is not None:
            yield self._query_span(query, state, event.status)

    def _query_span(self, query: Query, state: RunState, outcome: str = "", *, failed: Failed | None = None) -> Message:
        attributes = attributes_of(query, state, self._shown, failed)
        name = name_of(attributes)
        if outcome:
            attributes[conventions.QUERY_OUTCOME] = outcome
        return Message(
            self._span(
                name,
                self._context(state, *query.place, "query", query.number),
                query.above,
                attributes,
                (query.started, state.now),
                failing.of_query(failed) if failed is not None else None,
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
            end_time=max(times[1], times[0] + _SHORTEST),
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

    def _bounded(self, attributes: Attributes) -> Mapping[str, AttributeValue]:
        """The attributes within the SDK's limits. Its own container takes a third of the time of a span."""
        limits = self._limits
        most = limits.max_span_attributes
        if limits.max_span_attribute_length is None and (most is None or len(attributes) <= most):
            return dict(attributes)
        return BoundedAttributes(
            limits.max_span_attributes, dict(attributes), immutable=True, max_value_len=limits.max_span_attribute_length
        )


def _name_of_session(state: RunState) -> str:
    """`dbt build shop`; of a run with several steps, `dbt seed, run, test shop`."""
    steps = state.session.steps if state.session is not None else []
    commands = ", ".join(map(command_of, steps))
    if len(steps) == 1 and state.attempt is not None and state.attempt.command:
        commands = state.attempt.command  # dbt's own word, as `source freshness`
    return " ".join(filter(None, (conventions.SESSION, commands, state.project)))


def _steps(state: RunState) -> int:
    return len(state.session.steps) if state.session is not None else 1


def _first(limit: int | None, items: Sequence[Any]) -> Sequence[Any]:
    """As many as OTEL_SPAN_*_COUNT_LIMIT allows; the SDK's list counts the others as dropped."""
    return items if limit is None or len(items) <= limit else BoundedList.from_seq(limit, items)
