"""Progress: what is done of a run's steps, over all attempts and sessions, and what the next attempt must do.

A pure fold of the events, like `RunState`. `RunState` covers one session; this covers the whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any, Final

import msgspec

from spanline import events
from spanline.events import Event
from spanline.journal.batches import ModelBatches
from spanline.journal.state import DONE, FAILED, SKIPPED
from spanline.runner.shared import exit_codes


class BatchesLeft(events.Batches, frozen=True, kw_only=True):
    """The progress of a microbatch model, and the checksum of its code."""

    checksum: str | None


class Restriction(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes that the next attempt is limited to. `started` is the start of the first attempt, in ISO 8601."""

    unfinished: list[str]
    started: str
    batches: dict[str, BatchesLeft] = {}


class StepProgress(msgspec.Struct):
    """The progress of one step."""

    started: int = 0
    selection: dict[str, None] = {}
    statuses: dict[str, str] = {}
    batches: dict[str, ModelBatches] = {}
    hooks: dict[str, str] = {}
    checksums: dict[str, str] = {}
    gone: frozenset[str] = frozenset()
    exit_code: int | None = None

    @property
    def unfinished(self) -> list[str]:
        """Nodes of the selection that have not succeeded, and that still exist in the project."""
        return [unique_id for unique_id in self._undone if unique_id not in self.gone]

    @property
    def _undone(self) -> list[str]:
        return [unique_id for unique_id in self.selection if self.statuses.get(unique_id) not in DONE]

    @property
    def done(self) -> bool:
        """Whether the step has nothing left to do."""
        return self.exit_code == 0 and not self.unfinished

    def restriction(self, without: Iterable[str] = ()) -> Restriction | None:
        """What the next attempt must do; None means the whole command again.

        The whole command runs again if it failed before a node ran, or only in its hooks: hooks belong to the command,
        as in dbt. `without` are nodes that are not worth another attempt.
        """
        useless = set(without)
        if useless.issuperset(self.unfinished):
            return None
        # A node that was removed may exist again.
        unfinished = [unique_id for unique_id in self._undone if unique_id not in useless]
        batches = {unique_id: self._batches_left(unique_id) for unique_id in unfinished if unique_id in self.batches}
        started = datetime.fromtimestamp(self.started / 1e9, timezone.utc).isoformat()
        return Restriction(unfinished=unfinished, started=started, batches=batches)

    def _batches_left(self, unique_id: str) -> BatchesLeft:
        model = self.batches[unique_id]
        found = model.batches
        return BatchesLeft(successful=found.successful, failed=found.failed, checksum=model.checksum)


class Progress(msgspec.Struct):
    """The progress of a run, by step."""

    steps: dict[int, StepProgress] = {}

    def apply(self, event: Event) -> None:
        """Take one event into account."""
        if isinstance(event, events.SessionStarted):
            if not event.resumes:
                self.steps.clear()
        elif event.step:
            _apply(self.steps.setdefault(event.step, StepProgress()), event)


def _apply(step: StepProgress, event: Event) -> None:
    change = _CHANGES.get(type(event))
    if change is not None:
        change(step, event)


def _attempt_started(step: StepProgress, event: events.AttemptStarted) -> None:
    step.exit_code = None
    step.hooks.clear()
    if event.unfinished is not None:  # else it does the whole command, and won't say again what is gone
        step.gone = frozenset()


def _dbt_started(step: StepProgress, event: events.DbtStarted) -> None:
    step.started = step.started or event.time


def _selection(step: StepProgress, event: events.Selection) -> None:
    if not step.selection:  # later ones are what was left of it
        step.selection = dict.fromkeys(event.unique_ids)


def _nodes_gone(step: StepProgress, event: events.NodesGone) -> None:
    step.gone = frozenset(event.unique_ids)


def _node_described(step: StepProgress, event: events.NodeDescribed) -> None:
    if event.checksum:
        step.checksums[event.unique_id] = event.checksum


def _node_started(step: StepProgress, event: events.NodeStarted) -> None:
    step.statuses[event.unique_id] = "running"


def _node_skipped(step: StepProgress, event: events.NodeSkipped) -> None:
    step.statuses[event.unique_id] = SKIPPED


def _node_finished(step: StepProgress, event: events.NodeFinished) -> None:
    step.statuses[event.unique_id] = event.status
    if event.batches is not None and (event.batches.successful or event.batches.failed):
        model = step.batches.setdefault(event.unique_id, ModelBatches())
        model.node_finished(event.batches, step.checksums.get(event.unique_id))


def _batches_planned(step: StepProgress, event: events.BatchesPlanned) -> None:
    model = step.batches.setdefault(event.unique_id, ModelBatches())
    model.planned(event, step.checksums.get(event.unique_id))


def _batch_finished(step: StepProgress, event: events.BatchFinished) -> None:
    if event.unique_id in step.batches:
        step.batches[event.unique_id].batch_finished(event)


def _hook_finished(step: StepProgress, event: events.HookFinished) -> None:
    step.hooks[event.unique_id] = event.status


def _ended(step: StepProgress, event: events.AttemptEnded | events.DbtExited) -> None:
    failed_hook = any(status in FAILED for status in step.hooks.values())
    step.exit_code = 1 if failed_hook and event.exit_code == 0 else event.exit_code


def _runner_died(step: StepProgress, _event: events.RunnerDied) -> None:
    step.exit_code = exit_codes.ERROR


_CHANGES: Final[dict[type[Event], Callable[[StepProgress, Any], None]]] = {
    events.AttemptStarted: _attempt_started,
    events.DbtStarted: _dbt_started,
    events.Selection: _selection,
    events.NodesGone: _nodes_gone,
    events.NodeDescribed: _node_described,
    events.NodeStarted: _node_started,
    events.NodeSkipped: _node_skipped,
    events.NodeFinished: _node_finished,
    events.BatchesPlanned: _batches_planned,
    events.BatchFinished: _batch_finished,
    events.HookFinished: _hook_finished,
    events.AttemptEnded: _ended,
    events.DbtExited: _ended,
    events.RunnerDied: _runner_died,
}


def progress_of(happened: Iterable[Event]) -> Progress:
    """The progress of a run after these events."""
    found = Progress()
    for event in happened:
        found.apply(event)
    return found
