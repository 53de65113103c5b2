"""RunState: the state of a run after its events.

A pure fold: `apply` uses only the state and the event. So the same events give the same state, however they were split
into reads. This is the only module that says what an event *means*.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, Final, Literal

import msgspec

from spanline import events
from spanline.events import Event
from spanline.journal.batches import ModelBatches
from spanline.journal.clock import Clock

RUNNING: Final = "running"
CANCELLED: Final = "cancelled"
INTERRUPTED: Final = "interrupted"
"""Status of a node that was running when its process died. Every other status is dbt's own."""
CUT_OFF: Final = frozenset((CANCELLED, INTERRUPTED))
SKIPPED: Final = "skipped"

FAILED: Final = frozenset(("error", "fail", "runtime error", "partial success"))
DONE: Final = frozenset(("success", "pass", "warn", "no-op", "reused"))
"""Statuses of nodes that do not have to run again: the same as in `dbt retry`."""

TIME_OUT: Final = "time limit"
"""The source of a cancel that a limit caused, not a person."""

TRIGGER_REASON: Final = "trigger_reason"
"""What a caller may say besides who it is: why it asks."""

SUCCESS: Final = "success"
FAILURE: Final = "failed"
DIED: Final = "died"
"""With `CANCELLED`, the outcomes of a session."""
Outcome = Literal["success", "failed", "cancelled", "died"]
TIMED_OUT: Final = "timed out"
"""The outcome of a session that a limit cancelled, for readers that judge runs: see `outcome_of`."""


class NodeState(msgspec.Struct, kw_only=True):
    """The state of one node, hook or operation in a session. Times are nanoseconds, by the session's clock."""

    unique_id: str
    status: str
    attempt: int = 0
    step: int = 0
    started: int | None = None
    finished: int | None = None
    execution_time: float = 0.0
    message: str | None = None
    failing_rows: int | None = None
    rows_affected: int | None = None
    cause: str | None = None
    line: tuple[int, str] | None = None
    freshness: events.FreshnessResult | None = None

    @property
    def said(self) -> str:
        """Dbt's message about it, or its status if there is none."""
        return self.message or self.status

    def end(self, status: str, at: int) -> None:
        """End it with this status at this time."""
        self.status = status
        self.finished = max(at, self.started or 0)

    @property
    def skipped_for(self) -> str | None:
        """The failed upstream node that caused it to be skipped. `cause` may also be another node (`--fail-fast`)."""
        return self.cause if self.status == SKIPPED else None

    @property
    def open(self) -> bool:
        """Whether the node has started and not ended."""
        return self.status == RUNNING

    @property
    def is_failure(self) -> bool:
        """Whether the node ended in failure."""
        return self.status in FAILED

    @property
    def is_completed(self) -> bool:
        """Whether dbt has finished the node, with whatever status."""
        return self.status not in (RUNNING, SKIPPED, *CUT_OFF)

    @property
    def is_done(self) -> bool:
        """Whether the node ended well, so that a resume leaves it alone."""
        return self.status in DONE


def outcome_of(state: RunState, event: events.SessionEnded) -> str:
    """The outcome of the session that this event ends. It is `timed out` if a limit cancelled it, not a person."""
    return TIMED_OUT if event.outcome == CANCELLED and state.cancelled_by_limit else event.outcome


class AttemptState(msgspec.Struct, kw_only=True):
    """One try of a step, in the session that it belongs to."""

    session: int
    step: int
    attempt: int
    argv: list[str] = []
    invocation_id: str | None = None
    command: str = ""
    repeats: str | None = None
    selection: list[str] = []
    phase: str | None = None
    finished: events.DbtFinished | None = None
    exit_code: int | None = None
    died: events.RunnerDied | None = None
    runner_exception: str | None = None

    @property
    def under_way(self) -> bool:
        """Whether it has neither ended nor died."""
        return self.exit_code is None and self.died is None

    @property
    def exception(self) -> str | None:
        """The exception for which dbt gave up, or that it did not catch, if there was one."""
        return (self.finished.exception if self.finished is not None else None) or self.runner_exception


class RunState(msgspec.Struct, kw_only=True):
    """The state of a run. `nodes`, `hooks` and `attempts` are those of the last session."""

    run_id: str = ""
    session: events.SessionStarted | None = None
    session_number: int = 0
    ended: events.SessionEnded | None = None
    dbt: events.DbtStarted | None = None
    config: events.DbtConfigured | None = None
    cancel: events.CancelRequested | None = None
    interrupted: bool = False
    killed: bool = False
    incomplete: str = ""
    """Why the session's journal is incomplete, if it is."""
    attempts: list[AttemptState] = []
    descriptions: dict[str, events.NodeDescribed] = {}
    nodes: dict[str, NodeState] = {}
    hooks: dict[str, NodeState] = {}
    earlier: dict[str, NodeState] = {}
    """The nodes that earlier sessions have done, which the last one resumes: they are not run again."""
    sessions: list[events.SessionStarted] = []
    """The beginnings of all sessions."""
    invocation_ids: list[str] = []
    """dbt's ids, one for each attempt of all sessions in which dbt has started."""
    attempt_count: int = 0
    """The number of attempts in all sessions."""
    batches: dict[int, dict[str, ModelBatches]] = {}
    """The batches of microbatch models, by step and unique id. They span sessions: each continues the previous one."""
    artifacts: dict[str, str] = {}
    warnings: int = 0
    begun: int = 0
    """When the run's first session began; `started` is for the last."""
    started: int = 0
    clock: Clock = Clock()
    """The session's clock, used for the times of nodes and for the two fields below."""
    now: int = 0
    """When the last event happened. Events after the session's end belong to the sinks and use the system clock."""
    last: int = 0
    """When the last event up to the end of the session happened."""
    uploaded: events.ArtifactsUploaded | None = None
    """Where the session's artifacts are stored, or why they are not."""
    deliveries: dict[str, events.SinkDelivery] = {}
    """How far each sink got, as last reported. What it has not delivered of a session, it still owes in the next."""

    def apply(self, event: Event) -> None:
        """Take one event into account."""
        if isinstance(event, events.SessionStarted):
            self._begin(event, event.boot_id, "")
        elif self.session is None and not self.begun:
            self._begin(event, "", "its first record cannot be read, so OpenLineage and traces are not told of it")
        self.now = self.clock.at(event) if self.ended is None else event.time
        if self.ended is None:
            self.last = max(self.last, self.now)
        change = _CHANGES.get(type(event))
        if change is not None:
            change(self, event)

    def _begin(self, event: Event, boot_id: str, incomplete: str) -> None:
        """Start a session with this event, even if it is not a `session_started`."""
        self.session_number = event.session
        self.clock = Clock(event.session, event.time, event.mono, boot_id)
        self.begun = self.begun or event.time
        self.started = self.last = event.time
        self.ended = None
        self.incomplete = incomplete

    def fork(self) -> RunState:
        """A copy of this state as it is now. Both share the events, which take most of the memory."""
        replace = msgspec.structs.replace
        return replace(
            self,
            attempts=[replace(attempt) for attempt in self.attempts],
            descriptions=dict(self.descriptions),
            nodes={unique_id: replace(node) for unique_id, node in self.nodes.items()},
            hooks={unique_id: replace(hook) for unique_id, hook in self.hooks.items()},
            earlier=dict(self.earlier),
            sessions=list(self.sessions),
            invocation_ids=list(self.invocation_ids),
            batches=copy.deepcopy(self.batches),
            artifacts=dict(self.artifacts),
            deliveries=dict(self.deliveries),
        )

    @property
    def attempt(self) -> AttemptState | None:
        """The current attempt, or the last."""
        return self.attempts[-1] if self.attempts else None

    @property
    def adapter(self) -> str | None:
        """The adapter's type, once dbt has reported it."""
        return self.config.adapter_type if self.config is not None else None

    @property
    def project(self) -> str:
        """The project's name according to dbt, its file, or its folder, in this order; empty if unknown."""
        if self.config is not None and self.config.project:
            return self.config.project
        session = self.session
        return (session.project or PurePath(session.project_dir).name) if session is not None else ""

    @property
    def trigger_reason(self) -> str | None:
        """Why the caller wanted this session, if it said so."""
        return self.session.caller.get(TRIGGER_REASON) if self.session is not None else None

    @property
    def cancelled_by_limit(self) -> bool:
        """Whether a time limit caused the session's cancel, not a person."""
        return self.cancel is not None and self.cancel.by == TIME_OUT

    @property
    def cancelling(self) -> bool:
        """Whether this session was told to stop."""
        return self.cancel is not None or self.interrupted

    @property
    def total(self) -> int:
        """How many nodes the attempt has to run, as far as is known."""
        attempt = self.attempt
        return len(attempt.selection) if attempt is not None else 0

    @property
    def done(self) -> int:
        """How many of them have ended."""
        attempt = self.attempt
        if attempt is None:
            return 0
        nodes = self.nodes
        return sum(1 for key in attempt.selection if key in nodes and not nodes[key].open)

    @property
    def completed(self) -> int:
        """How many of the attempt's nodes dbt has finished, whether they succeeded or failed."""
        keys = self.attempt.selection if self.attempt is not None else []
        return sum(1 for key in keys if key in self.nodes and self.nodes[key].is_completed)

    @property
    def all_nodes(self) -> dict[str, NodeState]:
        """The nodes of all sessions: one that is done again is the last session's."""
        return {**self.earlier, **self.nodes}

    @property
    def open_nodes(self) -> list[NodeState]:
        """Nodes and hooks that have started but not ended."""
        return [node for group in (self.nodes, self.hooks) for node in group.values() if node.open]

    @property
    def failed_nodes(self) -> list[NodeState]:
        """Nodes and hooks that failed, in the order in which they did."""
        everything = [*self.nodes.values(), *self.hooks.values()]
        return sorted((n for n in everything if n.is_failure), key=lambda n: n.finished or 0)

    @property
    def counted(self) -> list[NodeState]:
        """The nodes, and the hooks that did not succeed, as in dbt's own totals."""
        return [*self.nodes.values(), *(hook for hook in self.hooks.values() if hook.status not in (SUCCESS, RUNNING))]

    @property
    def counts(self) -> dict[str, int]:
        """The number of these per status."""
        return dict(Counter(node.status for node in self.counted))

    def outcome(self, exit_code: int) -> Outcome:
        """The outcome of the session if it ended now, its last runner having left `exit_code`."""
        attempt = self.attempt
        if attempt is not None and attempt.died is not None and not self.cancelling:
            return DIED
        if exit_code == 0:
            return SUCCESS
        return CANCELLED if self.cancelling else FAILURE

    def closed(self) -> RunState:
        """A copy in which all open nodes have ended, for a run without a live process that could report it."""
        return msgspec.structs.replace(self, nodes=self._ended(self.nodes), hooks=self._ended(self.hooks))

    def _ended(self, nodes: dict[str, NodeState]) -> dict[str, NodeState]:
        return {
            unique_id: msgspec.structs.replace(node, status=self._cut_off, finished=self.last) if node.open else node
            for unique_id, node in nodes.items()
        }

    @property
    def _cut_off(self) -> str:
        return CANCELLED if self.cancelling else INTERRUPTED

    def _close_open(self, status: str) -> None:
        for node in self.open_nodes:
            node.end(status, self.now)


def _session_started(state: RunState, event: events.SessionStarted) -> None:
    state.run_id = event.run_id
    state.session = event
    state.cancel = state.dbt = state.config = state.uploaded = None
    state.interrupted = state.killed = False
    state.earlier |= {unique_id: node for unique_id, node in state.nodes.items() if node.is_done}
    state.attempts, state.nodes, state.hooks = [], {}, {}
    state.sessions.append(event)
    if not event.resumes:
        state.batches, state.earlier = {}, {}


def _session_ended(state: RunState, event: events.SessionEnded) -> None:
    state._close_open(state._cut_off)
    state.ended = event


def _delivery_ended(state: RunState, event: events.DeliveryEnded) -> None:
    state.deliveries.update((sink.sink, sink) for sink in event.sinks)


def _artifacts_uploaded(state: RunState, event: events.ArtifactsUploaded) -> None:
    state.uploaded = event


def _attempt_started(state: RunState, event: events.AttemptStarted) -> None:
    state.attempt_count += 1
    state.attempts.append(AttemptState(session=event.session, step=event.step, attempt=event.attempt, argv=event.argv))


def _attempt_ended(state: RunState, event: events.AttemptEnded) -> None:
    if state.attempts:
        state.attempts[-1].exit_code = event.exit_code
    state._close_open(state._cut_off)


def _dbt_exited(state: RunState, event: events.DbtExited) -> None:
    if state.attempts:
        state.attempts[-1].exit_code = event.exit_code


def _runner_died(state: RunState, event: events.RunnerDied) -> None:
    if state.attempts:
        state.attempts[-1].died = event
    state._close_open(state._cut_off)


def _runner_failed(state: RunState, event: events.RunnerFailed) -> None:
    if state.attempts:
        state.attempts[-1].runner_exception = event.exception


def _runner_killed(state: RunState, _event: events.RunnerKilled) -> None:
    state.killed = True


def _journal_stopped(state: RunState, event: events.JournalStopped) -> None:
    state.incomplete = event.reason


def _cancel_requested(state: RunState, event: events.CancelRequested) -> None:
    state.cancel = state.cancel or event


def _interrupt_received(state: RunState, _event: events.InterruptReceived) -> None:
    state.interrupted = True


def _dbt_started(state: RunState, event: events.DbtStarted) -> None:
    state.dbt = event
    if state.attempts:
        state.attempts[-1].invocation_id = event.invocation_id
        state.invocation_ids.append(event.invocation_id)
        state.attempts[-1].command = event.command


def _dbt_configured(state: RunState, event: events.DbtConfigured) -> None:
    state.config = event


def _phase_started(state: RunState, event: events.PhaseStarted) -> None:
    if state.attempts:
        state.attempts[-1].phase = event.phase


def _selection(state: RunState, event: events.Selection) -> None:
    if state.attempts:
        state.attempts[-1].selection = event.unique_ids
        state.attempts[-1].repeats = event.repeats


def _dbt_finished(state: RunState, event: events.DbtFinished) -> None:
    if state.attempts:
        state.attempts[-1].finished = event
    # dbt ended normally with open nodes: it has cancelled them, on request or because of --fail-fast.
    state._close_open(CANCELLED)


def _artifact_written(state: RunState, event: events.ArtifactWritten) -> None:
    state.artifacts[event.artifact_type] = event.path


def _log(state: RunState, event: events.Log) -> None:
    if event.level == "warn":
        state.warnings += 1


def _node_described(state: RunState, event: events.NodeDescribed) -> None:
    state.descriptions[event.unique_id] = event


def _started(state: RunState, event: events.NodeStarted | events.HookStarted) -> NodeState:
    return NodeState(
        unique_id=event.unique_id,
        status=RUNNING,
        started=state.now,
        step=event.step,
        attempt=event.attempt,
    )


def _node_started(state: RunState, event: events.NodeStarted) -> None:
    state.nodes[event.unique_id] = _started(state, event)


def _hook_started(state: RunState, event: events.HookStarted) -> None:
    state.hooks[event.unique_id] = _started(state, event)


def _node_finished(state: RunState, event: events.NodeFinished) -> None:
    node = state.nodes.get(event.unique_id)
    if node is None or node.attempt != event.attempt or node.step != event.step:
        node = NodeState(unique_id=event.unique_id, status=RUNNING, step=event.step, attempt=event.attempt)
        state.nodes[event.unique_id] = node
    if event.status == SKIPPED:
        node.end(event.status, state.now)
        node.message = event.message
        return
    # dbt reports an error for what it has just cancelled: for a microbatch model, for the current batch.
    late = (state.cancelling or event.cause is not None) and event.status in FAILED
    node.end(CANCELLED if late else event.status, state.now)
    node.cause = event.cause
    node.execution_time = max(0.0, event.execution_time)
    node.message = event.message or (node.freshness.complaint if node.freshness is not None else None)
    node.failing_rows = event.failures
    node.rows_affected = event.rows_affected
    node.line = event.line
    if event.batches is not None:
        _batches(state, event.step, event.unique_id).node_finished(event.batches)


def _freshness_result(state: RunState, event: events.FreshnessResult) -> None:
    node = state.nodes.get(event.unique_id)
    if node is not None:
        node.freshness = event


def _batches(state: RunState, step: int, unique_id: str) -> ModelBatches:
    return state.batches.setdefault(step, {}).setdefault(unique_id, ModelBatches())


def _batches_planned(state: RunState, event: events.BatchesPlanned) -> None:
    _batches(state, event.step, event.unique_id).planned(event)


def _batch_finished(state: RunState, event: events.BatchFinished) -> None:
    _batches(state, event.step, event.unique_id).batch_finished(event)


def _hook_finished(state: RunState, event: events.HookFinished) -> None:
    hook = state.hooks.setdefault(event.unique_id, NodeState(unique_id=event.unique_id, status=RUNNING))
    late = state.cancelling and event.status in FAILED
    hook.end(CANCELLED if late else event.status, state.now)
    if event.status == SKIPPED:
        hook.cause = next((other.unique_id for other in reversed(state.hooks.values()) if other.is_failure), None)
    hook.execution_time = max(0.0, event.execution_time)
    hook.message = event.message


def _node_skipped(state: RunState, event: events.NodeSkipped) -> None:
    state.nodes[event.unique_id] = NodeState(
        unique_id=event.unique_id,
        status=SKIPPED,
        finished=state.now,
        cause=event.cause,
        step=event.step,
        attempt=event.attempt,
    )


_CHANGES: Final[dict[type[Event], Callable[[RunState, Any], None]]] = {
    events.SessionStarted: _session_started,
    events.SessionEnded: _session_ended,
    events.DeliveryEnded: _delivery_ended,
    events.ArtifactsUploaded: _artifacts_uploaded,
    events.AttemptStarted: _attempt_started,
    events.AttemptEnded: _attempt_ended,
    events.RunnerDied: _runner_died,
    events.RunnerFailed: _runner_failed,
    events.RunnerKilled: _runner_killed,
    events.JournalStopped: _journal_stopped,
    events.CancelRequested: _cancel_requested,
    events.InterruptReceived: _interrupt_received,
    events.DbtStarted: _dbt_started,
    events.DbtConfigured: _dbt_configured,
    events.PhaseStarted: _phase_started,
    events.Selection: _selection,
    events.DbtFinished: _dbt_finished,
    events.DbtExited: _dbt_exited,
    events.ArtifactWritten: _artifact_written,
    events.Log: _log,
    events.NodeDescribed: _node_described,
    events.NodeStarted: _node_started,
    events.FreshnessResult: _freshness_result,
    events.NodeFinished: _node_finished,
    events.BatchesPlanned: _batches_planned,
    events.BatchFinished: _batch_finished,
    events.NodeSkipped: _node_skipped,
    events.HookStarted: _hook_started,
    events.HookFinished: _hook_finished,
}


def state_of(happened: Iterable[Event]) -> RunState:
    """The state after these events."""
    found = RunState()
    for event in happened:
        found.apply(event)
    return found
