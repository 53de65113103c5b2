"""When dbt's results may stand in for a journal that had to stop, and when not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from spanline import events
from spanline.events import Event
from spanline.journal.state import RunState
from spanline.supervisor.full_disk import end_of_attempt
from tests.support.lineage_events import described, finished, in_order, invoked, opened, started

A, B = "model.shop.a", "model.shop.b"
DIED = events.RunnerDied(detail="it is gone", session=1, step=1, attempt=1)
PLACE = {"session": 1, "step": 1, "attempt": 1}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path


def results(project: Path, invocation_id: str = "build-1", **statuses: str) -> None:
    """What dbt has written of `a` and `b`."""
    found = [
        {"unique_id": f"model.shop.{name}", "status": status, "execution_time": 1.0, "message": "said"}
        for name, status in statuses.items()
    ]
    path = project / "target" / "run_results.json"
    path.write_text(json.dumps({"metadata": {"invocation_id": invocation_id}, "results": found}))


def state_of(project: Path, *more: Event | Sequence[Event]) -> RunState:
    """A run of `a` and `b`, of which `a` has ended and `b` is under way."""
    selection = events.Selection(unique_ids=[A, B], **PLACE)
    nodes = [described(A), described(B), started(A), finished(A), started(B)]
    state = RunState()
    for event in in_order(opened(), invoked(project_dir=str(project)), selection, nodes, *more):
        state.apply(event)
    return state


def test_results_that_tell_of_all_end_the_attempt(project: Path) -> None:
    results(project, a="success", b="error")
    stopped, end, ended = end_of_attempt(state_of(project), DIED)
    assert isinstance(stopped, events.JournalStopped)
    assert isinstance(end, events.NodeFinished)
    assert (end.unique_id, end.status, end.message) == (B, "error", "said")
    assert isinstance(ended, events.AttemptEnded)
    assert ended.exit_code == 1


def test_results_tell_which_batches_are_done(project: Path) -> None:
    """So that a resume goes on at the batch."""
    days = [[f"2020-01-0{day}T00:00:00+00:00", f"2020-01-0{day + 1}T00:00:00+00:00"] for day in (1, 2, 3)]
    batches = {"successful": days[:2], "failed": days[2:]}
    found = [
        {"unique_id": A, "status": "success", "batch_results": None},
        {"unique_id": B, "status": "partial success", "batch_results": batches},
    ]
    text = json.dumps({"metadata": {"invocation_id": "build-1"}, "results": found})
    (project / "target" / "run_results.json").write_text(text)
    _, end, _ = end_of_attempt(state_of(project), DIED)
    assert isinstance(end, events.NodeFinished)
    assert end.batches == msgspec.convert(batches, events.Batches)


def test_messages_are_left_out_where_the_secrets_in_them_are_not_known(project: Path) -> None:
    results(project, a="success", b="error")
    _, end, _ = end_of_attempt(state_of(project), DIED, messages=False)
    assert isinstance(end, events.NodeFinished)
    assert end.message is None


def test_results_that_leave_nodes_out_are_no_end(project: Path) -> None:
    results(project, a="success")
    assert end_of_attempt(state_of(project), DIED) == [DIED]


@pytest.mark.parametrize(("status", "ended"), [("success", [B, "model.shop.c"]), ("error", [B])])
def test_ephemeral_models_which_dbt_never_names_are_none_that_are_left_out(
    project: Path, status: str, ended: list[str]
) -> None:
    """Where something failed, it may have been theirs: a resume compiles them again."""
    results(project, a="success", b=status)
    state = state_of(project, described("model.shop.c", materialized="ephemeral"))
    state.attempts[-1].selection = [A, B, "model.shop.c"]
    _, *ends, _ = end_of_attempt(state, DIED)
    assert [end.unique_id for end in ends if isinstance(end, events.NodeFinished)] == ended


@pytest.mark.parametrize(
    "told",
    [
        events.CancelRequested(by="somebody", session=1),
        events.InterruptReceived(reason="SIGTERM", **PLACE),
    ],
)
def test_results_of_a_dbt_that_was_interrupted_are_no_end(project: Path, told: Event) -> None:
    results(project, a="success", b="success")
    assert end_of_attempt(state_of(project, told), DIED) == [DIED]


def test_results_of_another_invocation_are_no_end(project: Path) -> None:
    results(project, invocation_id="another", a="success", b="success")
    assert end_of_attempt(state_of(project), DIED) == [DIED]
