"""A caller that asks again: its last run is found, followed, waited for, resumed, or left alone."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import spanline
from spanline.errors import RunBusy, UsageError
from spanline.home import callers, home, lease, prune
from spanline.home.spec import RunSpec
from spanline.supervisor.cancel import CancelOrder, order_cancel
from tests.support.project import SILENT, Project
from tests.support.waiting import eventually

CALLER = {"dag_id": "shop", "run_id": "scheduled__2026", "task_id": "build", "map_index": "-1"}


def ask(project: Project, *steps: str, **more: object) -> spanline.Run:
    return spanline.start_or_resume(
        list(steps),
        project_dir=project.path,
        home_dir=project.home,
        **{"caller": CALLER, "detached": True, **more},  # type: ignore[arg-type]
    )


def test_what_failed_is_resumed_and_its_result_covers_both_sessions(project: Project) -> None:
    broken = project.path / "models" / "customers.sql"
    good = broken.read_text()
    broken.write_text("select nowhere() as id")
    first = ask(project, "build", environment={"OPENLINEAGE_URL": "", "TRACEPARENT": ""})
    failed = first.wait()
    assert failed.outcome == "failed"
    broken.write_text(good)
    again = ask(project, "build", environment={"OPENLINEAGE_NAMESPACE": "elsewhere"})
    assert again.id == first.id
    result = again.wait()
    assert (result.outcome, result.sessions, result.attempts) == ("success", 2, 2)
    assert len(set(result.invocation_ids)) == len(set(result.trace_ids)) == 2
    assert {node.unique_id for node in result.nodes} >= {node.unique_id for node in failed.nodes}
    assert {node.status for node in result.nodes} <= {"success", "pass", "warn"}
    assert result.total == result.completed == len(result.nodes)
    assert result.artifacts["run_results.json"].parent.name == "2-1-1"

    # Now that it has succeeded, asked once more, it is another run.
    another = ask(project, "build")
    assert another.id != first.id
    assert another.wait().success
    assert spanline.find(caller=CALLER, home_dir=project.home).id == another.id  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_run_under_way_is_followed_and_nothing_else_is_started_beside_it(project: Project) -> None:
    slow = {"detached": True, "environment": {"DBT_ENV_CUSTOM_ENV_WAIT": "x"}}
    project.write("models/slow.sql", "select count(*) as n from range(3000000000) a, range(1000) b")
    run = ask(project, "build", "--select", "slow", **slow)
    eventually(lambda: run.state.open_nodes, "dbt is in the slow model")
    try:
        followed = ask(project, "build", "--select", "slow", **slow)
        assert (followed.id, followed.supervised_here) == (run.id, False)
        with pytest.raises(RunBusy, match=f"spanline cancel {run.id}"):
            ask(project, "build", **slow)
        with pytest.raises(RunBusy):
            ask(project, "build", "--select", "slow", detached=True)  # other variables
    finally:
        run.cancel(by="a test", reason="it has seen enough")
    # It is ending: who asks now waits for that, then resumes.
    project.write("models/slow.sql", "select 1 as n")
    resumed = ask(project, "build", "--select", "slow", **slow)
    result = resumed.wait()
    assert (resumed.id, result.outcome, result.sessions) == (run.id, "success", 2)


def test_a_cancel_before_the_run_exists_is_obeyed_at_its_beginning(project: Project) -> None:
    run_id = spanline.new_run_id()
    spanline.cancel(run_id, home_dir=project.home, by="on_kill", reason="marked failed")
    result = project.start("build", run_id=run_id).wait()
    assert (result.outcome, result.cancelled_by, result.cancel_reason) == ("cancelled", "on_kill", "marked failed")
    assert not list((project.home / "runs").glob(".*.cancel"))
    # It was for that session alone.
    resumed = spanline.retry(run_id, home_dir=project.home, stdio=SILENT).wait()
    assert resumed.success


@pytest.mark.slow
def test_the_caller_of_a_resumed_run_may_be_another(project: Project) -> None:
    run = project.start("build", "--select", "nothing_of_the_kind", caller=CALLER)
    run.wait()
    other = {**CALLER, "run_id": "manual__2026"}
    spanline.retry(run.id, home_dir=project.home, caller=other, full=True, stdio=SILENT).wait()
    assert RunSpec.load(run.directory.spec).caller == other
    assert spanline.find(caller=other, home_dir=project.home).id == run.id  # type: ignore[union-attr]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home"


def kept_run(place: Path, caller: dict[str, str]) -> str:
    run_id = spanline.new_run_id()
    spec = RunSpec(run_id=run_id, steps=[["build"]], cwd="/p", project_dir="/p", python="python", caller=caller)
    _, held = home.create_run(place, run_id, spec.encode())
    held.release()
    return run_id


def test_a_home_from_before_callers_were_kept_is_searched(place: Path) -> None:
    newer = max(kept_run(place, CALLER) for _ in range(2))
    kept_run(place, {**CALLER, "task_id": "another"})
    assert spanline.find(caller=CALLER, home_dir=place).id == newer  # type: ignore[union-attr]
    assert spanline.find(caller={"task_id": "nobody"}, home_dir=place) is None


def test_a_caller_is_the_same_whatever_its_reason(place: Path) -> None:
    run_id = kept_run(place, {**CALLER, "trigger_reason": "a backfill"})
    for caller in (CALLER, {**CALLER, "trigger_reason": "late data"}):
        assert spanline.find(caller=caller, home_dir=place).id == run_id  # type: ignore[union-attr]
        callers.remember(place, caller, run_id)
    assert len(list((place / "callers").iterdir())) == 1


@pytest.mark.slow
def test_who_has_no_run_and_whose_run_was_removed_is_nobody(project: Project) -> None:
    assert spanline.find(caller=CALLER, home_dir=project.home) is None
    run = project.start("build", "--select", "nothing_of_the_kind", caller=CALLER)
    run.wait()
    assert prune.prune(run.directory, undelivered_too=True, dry_run=False) is None
    assert spanline.find(caller=CALLER, home_dir=project.home) is None
    prune.sweep(project.home)
    assert list((project.home / "callers").iterdir()) == []


def test_an_id_that_is_none_cannot_be_cancelled(place: Path) -> None:
    with pytest.raises(UsageError, match="UUIDv7"):
        spanline.cancel("../../etc", home_dir=place)


def test_a_whole_id_is_found_without_a_look_at_the_other_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = kept_run(place, {})
    (place / "runs").chmod(0o300)  # it can be entered, and not listed
    try:
        if os.geteuid() == 0:
            monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("the home was listed"))
        assert spanline.attach(run_id, home_dir=place).id == run_id
    finally:
        (place / "runs").chmod(0o700)


@pytest.mark.slow
def test_an_order_that_came_while_a_resume_waited_is_the_next_sessions(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was there before is of the session that it has ended."""
    waits, sleep = threading.Event(), time.sleep

    def noticed(seconds: float) -> None:
        if threading.current_thread().name.startswith("resuming"):
            waits.set()
        sleep(seconds)

    run = project.start("build", "--select", "nothing_of_the_kind", caller=CALLER)
    run.wait()
    order_cancel(run.directory, CancelOrder(by="somebody", reason="of old"))
    held = lease.acquire(run.directory.lease)
    monkeypatch.setattr(time, "sleep", noticed)
    with ThreadPoolExecutor(thread_name_prefix="resuming") as pool:
        resuming = pool.submit(spanline.retry, run.id, home_dir=project.home, full=True, stdio=SILENT)
        assert waits.wait(30), "it waits for the lease"
        order_cancel(run.directory, CancelOrder(by="on_kill", reason="meanwhile"))
        held.release()
        result = resuming.result().wait()
    assert (result.outcome, result.cancelled_by, result.sessions) == ("cancelled", "on_kill", 2)


@pytest.mark.slow
def test_an_order_of_an_earlier_session_is_over(project: Project) -> None:
    run = project.start("build", "--select", "nothing_of_the_kind", caller=CALLER)
    run.wait()
    order_cancel(run.directory, CancelOrder(by="somebody"))
    assert spanline.retry(run.id, home_dir=project.home, full=True, stdio=SILENT).wait().success


def test_callers_that_are_the_same_take_turns(place: Path) -> None:
    begun, seen = threading.Event(), []

    def first() -> None:
        with callers.turn(place, CALLER):
            begun.set()
            seen.append("first begins")
            threading.Event().wait(0.2)
            seen.append("first ends")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    with callers.turn(place, {**CALLER, "trigger_reason": "another"}):
        seen.append("second begins")
    thread.join()
    assert seen == ["first begins", "first ends", "second begins"]
    with callers.turn(place, CALLER), callers.turn(place, {**CALLER, "task_id": "another"}):
        pass


def test_the_callers_of_older_runs_are_kept_with_the_first_new_one(place: Path) -> None:
    old = kept_run(place, CALLER)
    other = {**CALLER, "task_id": "another"}
    callers.remember(place, other, kept_run(place, other))
    assert spanline.find(caller=CALLER, home_dir=place).id == old  # type: ignore[union-attr]
