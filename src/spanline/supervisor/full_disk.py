"""What is still done for a run whose journal had to stop for a full disk: it is ended, as far as that is known.

The supervisor keeps what it can't write, and writes it when there is room: a reserve, given up for that, makes some.
How the nodes ended that the runner could not journal is taken from dbt's `run_results.json` of the same invocation: the
one time that anything but the journal is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import msgspec

from spanline import events
from spanline.events import Event
from spanline.journal.state import RunState
from spanline.system import files

_LARGEST_RESULTS: Final = 1 << 28
"""Bytes of dbt's results: of 1,500 nodes they are three million."""
_MESSAGE_CHARACTERS: Final = 1000
_UNDONE: Final = frozenset(("error", "fail", "runtime error", "skipped", "partial success"))
"""Statuses for which dbt's own exit code is 1."""


class _Metadata(msgspec.Struct):
    invocation_id: str = ""


class _Timing(msgspec.Struct):
    name: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None


class _Result(msgspec.Struct):
    unique_id: str
    status: str
    execution_time: float = 0.0
    thread_id: str = ""
    message: str | None = None
    failures: int | None = None
    timing: list[_Timing] = []
    batch_results: events.Batches | None = None


class _RunResults(msgspec.Struct):
    metadata: _Metadata
    results: list[_Result] = []


class Rest(msgspec.Struct, frozen=True):
    """What the journal doesn't hold of an invocation that dbt has finished."""

    ends: tuple[Event, ...]
    exit_code: int


def rest_of(state: RunState, *, messages: bool = True) -> Rest | None:
    """What dbt's results say of nodes that have no end in the journal; None where they aren't of this invocation.

    And where they may not be all: a dbt that is interrupted writes them before it cancels what is under way.
    """
    attempt, config = state.attempt, state.config
    if attempt is None or attempt.invocation_id is None or config is None or state.cancelling:
        return None
    path = Path(config.project_dir or "", config.target_path or "target", "run_results.json")
    try:
        found = files.read_json(path, _RunResults, _LARGEST_RESULTS, follow=True)
    except OSError:
        return None
    if found.metadata.invocation_id != attempt.invocation_id:
        return None
    ended = {node.unique_id for node in state.nodes.values() if not node.open}
    left = set(attempt.selection) - ended.union(result.unique_id for result in found.results)
    if not all(_is_ephemeral(unique_id, state) for unique_id in left):
        return None
    undone = any(result.status in _UNDONE for result in found.results)
    results = found.results if messages else [msgspec.structs.replace(each, message=None) for each in found.results]
    # Where something failed, it may have been an ephemeral model that could not be compiled.
    compiled = [] if undone else [_Result(unique_id, "success") for unique_id in sorted(left)]
    return Rest(tuple(_ends([*results, *compiled], state)), 1 if undone else 0)


def _is_ephemeral(unique_id: str, state: RunState) -> bool:
    described = state.descriptions.get(unique_id)
    return described is not None and described.is_ephemeral


def end_of_attempt(state: RunState, died: events.RunnerDied, *, messages: bool = True) -> list[Event]:
    """How the last attempt ended, of whose end the journal doesn't speak: by dbt's results, else it has `died`.

    Without `messages` dbt's are left out: for those who don't know all secrets that may stand in them.
    """
    rest = rest_of(state, messages=messages)
    if rest is None:
        return [died]
    stopped = events.JournalStopped(reason="the journal stopped before dbt ended")
    return [stopped, *rest.ends, events.AttemptEnded(exit_code=rest.exit_code)]


def _ends(results: list[_Result], state: RunState) -> Iterator[Event]:
    for result in results:
        known = state.nodes.get(result.unique_id) or state.hooks.get(result.unique_id)
        if known is not None and not known.open:
            continue
        message = result.message[:_MESSAGE_CHARACTERS] if result.message else None
        if result.unique_id.startswith("operation."):
            yield events.HookFinished(
                unique_id=result.unique_id,
                status=result.status,
                execution_time=result.execution_time,
                message=message,
            )
        else:
            times = {timing.name: _times(timing) for timing in result.timing}
            yield events.NodeFinished(
                unique_id=result.unique_id,
                status=result.status,
                thread=result.thread_id,
                execution_time=result.execution_time,
                message=message,
                compile=times.get("compile"),
                execute=times.get("execute"),
                failures=result.failures,
                batches=result.batch_results,
            )


def _times(timing: _Timing) -> tuple[int, int] | None:
    if timing.started_at is None or timing.completed_at is None:
        return None
    return _nanoseconds(timing.started_at), _nanoseconds(timing.completed_at)


def _nanoseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return int(aware.timestamp() * 1_000_000) * 1000
