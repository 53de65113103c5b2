"""RunState is a pure fold of the events: what they amount to, however they are cut into reads."""

from __future__ import annotations

import tempfile
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline import events
from spanline.events import Event
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.results.from_state import result_of

NODES = [f"model.shop.m{number}" for number in range(4)]
STATUSES = ["success", "error", "skipped", "pass", "fail", "warn", "runtime error", "partial success", "no-op"]

_texts = st.sampled_from(["", "a", "ü\n", '"'])
_batches = st.lists(st.tuples(_texts, _texts), max_size=3)
_by_name: dict[str, st.SearchStrategy[object]] = {
    "unique_id": st.sampled_from(NODES),
    "cause": st.sampled_from(NODES) | st.none(),
    "unique_ids": st.lists(st.sampled_from(NODES), unique=True).map(sorted),
    "status": st.sampled_from(STATUSES),
    "level": st.sampled_from(["info", "warn", "error"]),
    "time": st.integers(0, 10**6),
    "session": st.integers(1, 2),
    "step": st.integers(1, 2),
    "attempt": st.integers(1, 2),
    "sinks": st.lists(st.builds(events.SinkDelivery, _texts, st.integers(0, 3), st.just(0.5)), max_size=2),
}


def _of_type(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = typing.get_type_hints(kind)
    fields = {}
    for name in kind.__struct_fields__:
        if name in _by_name:
            fields[name] = _by_name[name]
        elif hints[name] is str:
            fields[name] = _texts
        elif hints[name] is int:
            fields[name] = st.integers(0, 3)
        elif hints[name] is float:
            fields[name] = st.sampled_from([0.0, 0.5])
        elif hints[name] is bool:
            fields[name] = st.booleans()
        elif hints[name] == list[str]:
            fields[name] = st.lists(_texts, max_size=2)
        elif hints[name] == list[list[str]]:
            fields[name] = st.lists(st.lists(_texts, max_size=2), max_size=2)
        elif hints[name] in (events.Batches, events.Batches | None):
            fields[name] = st.builds(events.Batches, _batches, _batches)
    return st.builds(kind, **fields)


vocabulary = st.one_of([_of_type(kind) for kind in typing.get_args(events.EventType)])
sequences = st.lists(vocabulary, max_size=40)


def fold(*happened: Event) -> RunState:
    state = RunState()
    for event in happened:
        state.apply(event)
    return state


@given(before=sequences, after=sequences)
def test_a_fork_is_the_same_and_goes_its_own_way(before: list[Event], after: list[Event]) -> None:
    one = fold(*before)
    other = one.fork()
    assert msgspec.structs.asdict(other) == msgspec.structs.asdict(one)
    for event in after:
        other.apply(event)
    assert msgspec.structs.asdict(one) == msgspec.structs.asdict(fold(*before))
    assert msgspec.structs.asdict(other) == msgspec.structs.asdict(fold(*before, *after))


@given(happened=sequences, cuts=st.lists(st.floats(0, 1), max_size=6), fresh=st.booleans())
def test_the_same_events_give_the_same_state_however_they_are_cut_into_reads(
    happened: list[Event], cuts: list[float], *, fresh: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(b"".join(b"\n" + msgspec.json.encode(event) + b"\n" for event in happened))
        size = path.stat().st_size
        in_cuts, reader = RunState(), Reader(path)
        for limit in [*sorted(int(cut * size) for cut in cuts), size]:
            for record in reader.read(limit=limit):
                in_cuts.apply(record.event)
            if fresh:  # another reader goes on from the cursor, as after a restart
                reader = Reader(path, reader.offset)
    assert msgspec.to_builtins(in_cuts) == msgspec.to_builtins(fold(*happened))


@given(happened=sequences)
def test_a_fold_leaves_the_events_as_they_are(happened: list[Event]) -> None:
    before = msgspec.json.encode(happened)
    fold(*happened, *happened)
    assert msgspec.json.encode(happened) == before


@given(happened=sequences)
def test_whatever_happened_the_numbers_fit_together(happened: list[Event]) -> None:
    state = fold(*happened)
    assert 0 <= state.done <= state.total
    assert sum(state.counts.values()) == len(state.counted) >= len(state.nodes)
    result_of(state, Path(), {})


@given(happened=sequences)
def test_nothing_is_open_once_a_session_has_ended(happened: list[Event]) -> None:
    state = fold(*happened, events.SessionEnded(outcome="failed", exit_code=1))
    assert state.open_nodes == []


# --- cases computed by hand

A, B, C = NODES[:3]
T = 10**9


def started(unique_id: str, at: int = 0) -> Event:
    return events.NodeStarted(unique_id=unique_id, thread="Thread-1", time=at, step=1, attempt=1)


def finished(unique_id: str, status: str, at: int = 0, **more: object) -> Event:
    return events.NodeFinished(unique_id=unique_id, status=status, time=at, step=1, attempt=1, **more)  # type: ignore[arg-type]


def skipped(unique_id: str, cause: str | None) -> tuple[Event, Event]:
    """What dbt fires for a skipped node."""
    return (
        events.NodeSkipped(unique_id=unique_id, cause=cause, step=1, attempt=1),
        finished(unique_id, "skipped"),
    )


BEGIN = (
    events.SessionStarted(
        run_id="r",
        lineage_run_id="r",
        trace_id="t",
        spanline_version="0",
        steps=[["build"]],
        project_dir="/p",
        host="h",
        pid=1,
        session=1,
        time=5 * T,
    ),
    events.AttemptStarted(argv=["build"], pid=2, python="python", session=1, step=1, attempt=1),
    events.Selection(unique_ids=[A, B, C]),
)
CANCEL = events.CancelRequested(by="somebody", grace=30.0)
DIED = events.RunnerDied(signal="SIGKILL", time=9 * T)


def statuses(state: RunState) -> dict[str, str]:
    return {unique_id: node.status for unique_id, node in state.nodes.items()}


def test_done_and_total_are_of_the_selection() -> None:
    state = fold(*BEGIN, started(A))
    assert (state.done, state.total) == (0, 3)
    state.apply(finished(A, "success"))
    state.apply(started(B))
    assert (state.done, state.total) == (1, 3)
    for event in (finished(B, "error"), *skipped(C, B)):
        state.apply(event)
    assert (state.done, state.total) == (3, 3)
    assert state.counts == {"success": 1, "error": 1, "skipped": 1}
    assert [node.unique_id for node in state.failed_nodes] == [B]


def test_a_node_keeps_what_dbt_says_of_it() -> None:
    state = fold(
        *BEGIN,
        started(A, 6 * T),
        finished(A, "fail", 8 * T, execution_time=1.5, message="Got 3", failures=3, rows_affected=7),
    )
    node = state.nodes[A]
    assert (node.started, node.finished, node.execution_time) == (6 * T, 8 * T, 1.5)
    assert (node.message, node.failing_rows, node.rows_affected) == ("Got 3", 3, 7)
    assert node.is_failure


@pytest.mark.parametrize("stop", [CANCEL, events.InterruptReceived(reason="SIGINT")])
@pytest.mark.parametrize("late", ["error", "fail", "runtime error"])
def test_after_a_cancel_a_late_error_of_an_open_node_is_cancelled(stop: Event, late: str) -> None:
    state = fold(*BEGIN, started(A), stop, finished(A, late, message="Interrupted!"))
    assert statuses(state) == {A: "cancelled"}
    assert state.failed_nodes == []
    assert state.outcome(1) == "cancelled"


def test_what_failed_before_the_cancel_has_failed() -> None:
    state = fold(*BEGIN, started(A), finished(A, "error"), CANCEL)
    assert statuses(state) == {A: "error"}


def test_what_succeeds_after_the_cancel_has_succeeded() -> None:
    state = fold(*BEGIN, started(A), CANCEL, finished(A, "success"), events.AttemptEnded(exit_code=0))
    assert statuses(state) == {A: "success"}
    assert state.outcome(0) == "success"


def test_nodes_that_were_open_when_a_cancelled_run_was_killed_are_cancelled() -> None:
    state = fold(*BEGIN, started(A), CANCEL, events.RunnerKilled(reason="grace"), DIED)
    assert statuses(state) == {A: "cancelled"}
    assert state.outcome(2) == "cancelled"


def test_nodes_and_hooks_that_were_open_when_the_runner_died_were_interrupted() -> None:
    hook = events.HookStarted(unique_id="operation.shop.hook", step=1, attempt=1)
    state = fold(*BEGIN, started(A), finished(A, "success"), started(B), hook, DIED)
    assert statuses(state) == {A: "success", B: "interrupted"}
    assert state.hooks["operation.shop.hook"].status == "interrupted"
    assert state.nodes[B].finished == 9 * T
    assert state.open_nodes == []
    assert state.failed_nodes == []
    assert state.outcome(2) == "died"


def test_fail_fast_cancels_what_was_open() -> None:
    state = fold(
        *BEGIN,
        started(A),
        started(B),
        finished(A, "error"),
        events.DbtFinished(success=False, exit_code=1, elapsed=1.0, time=7 * T),
        events.AttemptEnded(exit_code=1),
    )
    assert statuses(state) == {A: "error", B: "cancelled"}
    assert state.nodes[B].finished == 7 * T
    assert state.outcome(1) == "failed"


def test_what_fail_fast_has_interrupted_is_cancelled_and_not_failed() -> None:
    beside = finished(B, "error", message="server closed the connection unexpectedly", cause=A)
    state = fold(*BEGIN, started(A), started(B), finished(A, "error"), beside, finished(C, "success", cause=A))
    assert statuses(state) == {A: "error", B: "cancelled", C: "success"}
    assert (state.nodes[B].cause, state.nodes[B].skipped_for) == (A, None)
    assert [node.unique_id for node in state.failed_nodes] == [A]
    assert state.outcome(1) == "failed"


def test_a_hook_that_did_not_end_well_counts_and_one_behind_it_says_because_of_which() -> None:
    def ended(number: int, status: str) -> Event:
        return events.HookFinished(unique_id=f"operation.shop.{number}", status=status, step=1, attempt=1)

    state = fold(
        *BEGIN, started(A), finished(A, "success"), ended(0, "success"), ended(1, "error"), ended(2, "skipped")
    )
    assert state.counts == {"success": 1, "error": 1, "skipped": 1}
    assert [node.unique_id for node in result_of(state, Path(), {}).nodes] == [
        A,
        "operation.shop.1",
        "operation.shop.2",
    ]
    assert state.hooks["operation.shop.2"].cause == "operation.shop.1"
    assert fold(*BEGIN, events.HookStarted(unique_id="operation.shop.1", step=1, attempt=1)).counts == {}


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (
            "error",
            {
                "age": 108_720.0,
                "error_after": "12 hour",
                "max_loaded_at": "2026-11-29T13:47:00Z",
            },
            "stale: last loaded 30.2 hours ago, error_after is 12 hours (max_loaded_at 2026-11-29T13:47:00Z)",
        ),
        (
            "warn",
            {"age": 90.0, "warn_after": "1 minute"},
            "stale: last loaded 1.5 minutes ago, warn_after is 1 minute",
        ),
        (
            "error",
            {"age": 6e10, "error_after": "1 day", "max_loaded_at": "0001-01-01T00:00:00+00:00"},
            "stale: never loaded, error_after is 1 day (max_loaded_at 0001-01-01T00:00:00+00:00)",
        ),
        (
            "error",
            {"age": 7.0, "error_after": "a while"},
            "stale: last loaded 7.0 seconds ago, error_after is a while",
        ),
        ("error", {"age": 7.0}, "error"),
        ("runtime error", {"error_after": "1 day"}, "runtime error"),
        ("pass", {"age": 7.0, "warn_after": "1 day"}, "pass"),
    ],
)
def test_a_stale_source_says_how_stale_it_is_and_against_which_limit(
    status: str, fields: dict[str, object], expected: str
) -> None:
    result = events.FreshnessResult(unique_id=A, status=status, **fields)  # type: ignore[arg-type]
    state = fold(*BEGIN, started(A), result, finished(A, status))
    assert state.nodes[A].said == expected
    worded = fold(*BEGIN, started(A), result, finished(A, status, message="so it is"))
    assert worded.nodes[A].said == "so it is"


def test_a_skipped_node_has_a_cause_and_never_started() -> None:
    state = fold(*BEGIN, started(A), finished(A, "error"), *skipped(B, A), *skipped(C, None))
    assert (state.nodes[B].status, state.nodes[B].cause, state.nodes[B].started) == ("skipped", A, None)
    assert (state.nodes[C].status, state.nodes[C].cause) == ("skipped", None)
    assert [node.unique_id for node in state.failed_nodes] == [A]


def test_a_second_session_begins_anew_but_remembers_what_nodes_are() -> None:
    described = events.NodeDescribed(unique_id=A, resource_type="model", name="a", package_name="shop")
    ended = events.SessionEnded(outcome="cancelled", exit_code=2)
    again = msgspec.structs.replace(BEGIN[0], session=2, time=20 * T)
    state = fold(*BEGIN, described, started(A), CANCEL, ended, again)
    assert state.nodes == {}
    assert state.attempts == []
    assert not state.cancelling
    assert state.ended is None
    assert (state.session_number, state.started) == (2, 20 * T)
    assert state.descriptions == {A: described}


def test_an_attempt_that_runs_a_node_again_replaces_its_result() -> None:
    retry = events.AttemptStarted(argv=["retry"], pid=3, python="python", session=1, step=1, attempt=2)
    again = events.NodeStarted(unique_id=A, thread="Thread-1", step=1, attempt=2)
    state = fold(*BEGIN, started(A), finished(A, "error", message="no"), retry, again)
    assert statuses(state) == {A: "running"}
    good = events.NodeFinished(unique_id=A, status="success", step=1, attempt=2)
    state.apply(good)
    assert statuses(state) == {A: "success"}
    assert state.nodes[A].message is None


def test_unknown_events_change_nothing_but_the_time() -> None:
    state = fold(*BEGIN, started(A))
    before = msgspec.to_builtins(state)
    state.apply(events.Unknown(name="future", raw={}, time=99 * T))
    assert {**before, "now": 99 * T, "last": 99 * T} == msgspec.to_builtins(state)
