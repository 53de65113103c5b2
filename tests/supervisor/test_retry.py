"""Another attempt does what is left and no more; a run is resumed from its journal, however it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import spanline
from spanline import events
from spanline.api.run import Run
from spanline.events import Batch, Event
from spanline.failures.classify import classify
from spanline.home.spec import RunSpec
from spanline.journal import ids
from spanline.journal.progress import Progress, StepProgress, progress_of
from spanline.journal.state import DONE, RunState
from tests.support.journals import journal
from tests.support.project import DEADLINE, SPANLINE, Project, last_run
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

LOCKED = """
{{ config(materialized='table', pre_hook="attach '" ~ env_var('OTHER') ~ "' as other") }}
select 1 as id from {{ ref('customers') }} limit 1
"""
HOLDER = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def started(run: Run, session: int | None = None) -> Counter[str]:
    """How often each node was begun."""
    return Counter(
        event.unique_id
        for event in journal(run)
        if isinstance(event, events.NodeStarted) and session in (None, event.session)
    )


def ended(run: Run) -> list[tuple[str, int]]:
    return [(e.outcome, e.exit_code) for e in journal(run) if isinstance(e, events.SessionEnded)]


@contextmanager
def held_by_another(database: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the database open, as DuckDB allows one at a time only."""
    command = [sys.executable, "-c", HOLDER, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.kill()


def test_what_passes_by_itself_is_tried_again_and_what_succeeded_is_not(project: Project, receiver: Receiver) -> None:
    project.write("models/locked.sql", LOCKED)
    project.write("models/below_locked.sql", "select * from {{ ref('locked') }}")
    other = project.path / "other.duckdb"
    environment = {**os.environ, **receiver.lineage_environment, "OTHER": str(other)}
    options = ["--retry-limit", "3", "--retry-delay", "0.5"]
    with (
        held_by_another(other) as holder,
        subprocess.Popen(
            [SPANLINE, *options, "dbt", "run", "-s", "customers", "locked", "below_locked"],
            cwd=project.path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as spanline_process,
    ):  # fmt: skip
        eventually(lambda: list(project.home.glob("runs/*/journal.jsonl")), "the run")
        run = last_run(project)
        eventually(lambda: [e for e in journal(run) if isinstance(e, events.RetryScheduled)], "the first failure")
        holder.kill()
        _, said = spanline_process.communicate(timeout=60)
    assert spanline_process.returncode == 0, said.decode()
    assert b"the attempt failed: concurrency (duckdb.lock); trying again in" in said
    attempts = [e for e in journal(run) if isinstance(e, events.AttemptStarted)]
    assert [(e.attempt, e.unfinished) for e in attempts] == [(1, None), (2, 2)]
    begun = started(run)
    assert begun["model.shop.locked"] == 2
    assert {key for key, count in begun.items() if count > 1} == {"model.shop.locked"}
    assert ended(run) == [("success", 0)]

    # In lineage the second attempt is a new run of the same job, under the same session's run.
    of_job = [e for e in receiver.lineage if e["job"]["name"] == "shop.main.shop.locked"]
    assert [e["eventType"] for e in of_job] == ["START", "FAIL", "START", "COMPLETE"]
    expected = [ids.lineage_run_id(run.id, 1, 1, attempt, "model.shop.locked") for attempt in (1, 1, 2, 2)]
    assert [e["run"]["runId"] for e in of_job] == expected
    assert {e["run"]["facets"]["parent"]["run"]["runId"] for e in of_job} == {run.id}


def test_what_fail_fast_has_cut_off_is_done_in_the_attempt_after_what_may_pass(project: Project) -> None:
    size = project.path / "size.csv"
    size.write_text("n\n1000000000\n")
    project.write("models/locked.sql", LOCKED.replace("customers", "gate"))
    project.write("models/below_locked.sql", "select * from {{ ref('locked') }}")
    project.write("models/long.sql", f"select count(*) as n from read_csv('{size}') s, range(s.n) a, range(s.n) b")
    project.write("models/below_long.sql", "select * from {{ ref('long') }}")
    other, gate = project.path / "other.duckdb", project.path / "gate"
    environment = {"OTHER": str(other), "GATE": str(gate)}
    with held_by_another(other) as holder:
        run = project.start(
            "run", "--fail-fast", "-s", "gate+", "long+", retry_limit=2, retry_delay=0.5, environment=environment
        )
        eventually(lambda: [e for e in journal(run) if isinstance(e, events.QueryStarted) and str(size) in e.sql])
        gate.touch()
        eventually(lambda: [e for e in journal(run) if isinstance(e, events.RetryScheduled)], "the first failure")
        holder.kill()
        size.write_text("n\n1\n")
        result = run.wait(DEADLINE)
    (retry,) = [e for e in journal(run) if isinstance(e, events.RetryScheduled)]
    assert retry.reason == "concurrency (duckdb.lock)"
    (interrupted,) = [e for e in journal(run) if isinstance(e, events.NodeFinished) and e.cause is not None]
    assert (interrupted.unique_id, interrupted.cause) == ("model.shop.long", "model.shop.locked")
    assert interrupted.attempt == 1
    begun = started(run)
    assert begun == {
        "model.shop.gate": 1,
        "model.shop.locked": 2,
        "model.shop.long": 2,
        "model.shop.below_locked": 1,
        "model.shop.below_long": 1,
    }
    assert result.success
    assert result.counts == {"success": 5}


def test_what_is_final_is_not_tried_again(project: Project) -> None:
    run = project.run("run", "-s", "fragile", "--vars", "{break: true}", retry_limit=3)
    assert not run.result().success
    assert [e for e in journal(run) if isinstance(e, (events.RetryScheduled, events.AttemptStarted))][1:] == []


def test_an_attempt_that_would_begin_too_late_is_not_waited_for(project: Project) -> None:
    project.write("models/locked.sql", LOCKED)
    other = project.path / "other.duckdb"
    options = {"retry_limit": 3, "retry_delay": 600.0, "retry_within": 30.0, "environment": {"OTHER": str(other)}}
    with held_by_another(other):
        run = project.run("run", "-s", "customers locked", **options)
    assert run.result().failed_nodes
    assert not [e for e in journal(run) if isinstance(e, events.RetryScheduled)]


def test_in_part_what_may_pass_is_tried_again_without_what_will_not(project: Project) -> None:
    project.write("models/locked.sql", LOCKED)
    project.write("models/broken.sql", "select no_such_column from {{ ref('customers') }}")
    project.write("models/below_both.sql", "select * from {{ ref('broken') }}, {{ ref('locked') }}")
    other = project.path / "other.duckdb"
    options = {"retry_limit": 2, "retry_delay": 0.1, "environment": {"OTHER": str(other)}}
    with held_by_another(other):
        whole = project.run("run", "-s", "+locked broken below_both", **options)
        run = project.run("run", "-s", "+locked broken below_both", retry_partial=True, **options)
    assert not [e for e in journal(whole) if isinstance(e, events.RetryScheduled)], "something will not pass"
    begun = started(run)
    assert (begun["model.shop.locked"], begun["model.shop.broken"], begun["model.shop.below_both"]) == (2, 1, 0)
    attempts = [e for e in journal(run) if isinstance(e, events.AttemptStarted)]
    assert [(e.attempt, e.unfinished) for e in attempts] == [(1, None), (2, 1)]
    assert ended(run) == [("failed", 1)]


def test_a_failed_run_is_resumed_with_what_is_left(project: Project) -> None:
    project.write("models/fragile.sql", "select id{{ env_var('COLUMN', '') }} from {{ ref('orders') }}")
    assert project.spanline("dbt", "build", COLUMN=", no_such_column").returncode == 1
    run = last_run(project)
    first = started(run)

    done = project.spanline("retry", "latest")
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert ended(run) == [("failed", 1), ("success", 0)]
    assert set(started(run, session=2)) == {
        "model.shop.fragile", "model.shop.below", "model.shop.bottom",
        *(key for key in started(run, session=2) if key.startswith("test.shop.not_null_fragile")),
    }  # fmt: skip
    assert set(first) & set(started(run, session=2)) == {"model.shop.fragile"}
    assert run.result().success

    again = project.spanline("retry", "latest")
    assert again.returncode == 0
    assert b"there is nothing left to do" in again.stdout
    assert len(ended(run)) == 2
    assert project.spanline("retry", run.id[:13], "--full").returncode == 0
    assert set(first) <= set(started(run, session=3))


def test_the_events_of_a_resumed_run_are_those_of_its_new_session(project: Project) -> None:
    project.run("run", "-s", "customers fragile", "--vars", "{break: true}")
    done = project.spanline("--output", "json", "retry", "latest")
    assert done.returncode == 1, done.stderr.decode()
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["session"] for event in printed} == {2}
    assert (printed[0]["type"], printed[-1]["type"]) == ("session_started", "session_ended")


def test_a_run_whose_dbt_was_killed_is_resumed_from_its_journal(project: Project) -> None:
    gate = project.path / "open"
    run = project.start("run", "-s", "customers", "gate", environment={"GATE": str(gate)}, grace=5)
    begun = eventually(lambda: [e for e in journal(run) if isinstance(e, events.NodeFinished)] and run.state.open_nodes)
    assert [node.unique_id for node in begun] == ["model.shop.gate"]
    pid = next(e.pid for e in journal(run) if isinstance(e, events.AttemptStarted))
    os.kill(pid, signal.SIGKILL)
    assert run.wait(60).outcome == "died"
    assert not (project.path / "target" / "run_results.json").exists()

    gate.touch()
    resumed = spanline.retry(run.id, home_dir=project.home)
    assert resumed.wait(60).success
    assert set(started(run, session=2)) == {"model.shop.gate"}
    assert ended(run) == [("died", 2), ("success", 0)]


def test_the_steps_that_were_left_are_done_and_no_others(project: Project) -> None:
    project.write("models/fragile.sql", "select id{{ env_var('COLUMN', '') }} from {{ ref('orders') }}")
    run = spanline.start(
        [["seed"], ["run", "-s", "+fragile"], ["test", "-s", "never"]],
        project_dir=project.path,
        environment={"SHOP_DB": "shop.duckdb"},
    )
    assert run.wait(60).success
    os.environ["COLUMN"] = ", no_such_column"
    try:
        again = project.start(["seed"], ["run", "-s", "+fragile"], ["test", "-s", "never"])
        assert not again.wait(60).success
    finally:
        del os.environ["COLUMN"]
    resumed = spanline.retry(again.id, home_dir=project.home)
    assert resumed.wait(60).success
    steps = [e.step for e in journal(again) if isinstance(e, events.StepStarted) and e.session == 2]
    assert steps == [2, 3]


def test_a_build_runs_a_unit_test_before_its_model_when_resumed_too(project: Project) -> None:
    text = project.path.joinpath("models/totals.sql").read_text()
    project.write("models/totals.sql", text.replace("sum(o.cents)", "sum(o.cents) + {{ env_var('OFF_BY', '0') }}"))
    assert project.spanline("dbt", "build", "-s", "+totals", OFF_BY="1").returncode == 1
    run = last_run(project)
    statuses = {node.unique_id: node.status for node in run.state.nodes.values()}
    assert statuses["unit_test.shop.totals.totals_are_sums"] == "fail"
    assert statuses["model.shop.totals"] == "skipped"

    assert project.spanline("retry", "latest").returncode == 0
    order = [e.unique_id for e in journal(run) if isinstance(e, events.NodeStarted) and e.session == 2]
    assert order.index("unit_test.shop.totals.totals_are_sums") < order.index("model.shop.totals")
    assert not project.spanline("retry", "latest").stderr


def test_a_run_with_a_failed_hook_is_repeated(project: Project) -> None:
    project.write(
        "dbt_project.yml",
        project.path.joinpath("dbt_project.yml")
        .read_text()
        .replace("select 'over'", "{{ env_var('HOOK', 'select') }} 'o'"),
    )
    assert project.spanline("dbt", "run", "-s", "customers", HOOK="nonsense").returncode == 1
    assert project.spanline("retry", "latest").returncode == 0
    run = last_run(project)
    assert ended(run) == [("failed", 1), ("success", 0)]


def test_microbatches_go_on_at_the_failed_ones(project: Project) -> None:
    project.write(
        "models/daily.sql",
        project.path.joinpath("models/daily.sql").read_text()
        + "{% if model.batch and model.batch.id == env_var('BAD', '') %} and no_such_column = 1 {% endif %}",
    )
    project.write("models/daily.sql", project.path.joinpath("models/daily.sql").read_text().replace(
        "select * from {{ source('raw', 'raw_events') }}",
        "select * from {{ source('raw', 'raw_events') }} where 1 = 1",
    ))  # fmt: skip
    period = ("--event-time-start", "2020-01-01", "--event-time-end", "2020-01-04")
    arguments = ("dbt", "run", "-s", "daily", "--vars", "{microbatch: true}", *period)
    assert project.spanline(*arguments, BAD="20200102").returncode == 1
    run = last_run(project)
    assert project.spanline("retry", "latest").returncode == 0, run.state
    batches = [(e.session, e.status) for e in journal(run) if isinstance(e, events.BatchFinished)]
    assert sorted(batches) == [(1, "error"), (1, "success"), (1, "success"), (2, "success")]


def test_changed_code_is_resumed_with_a_warning(project: Project) -> None:
    assert project.spanline("dbt", "run", "-s", "+fragile", "--vars", "{break: true}").returncode == 1
    project.write("models/fragile.sql", "select id from {{ ref('orders') }}")
    done = project.spanline("retry", "latest")
    assert done.returncode == 0
    assert b"the code has changed since this run began: model.shop.fragile" in done.stderr


GONE = b"no longer in the project, or disabled: "


def test_a_run_whose_nodes_have_left_the_project_is_resumed_to_its_end(project: Project) -> None:
    run = project.run("run", "-s", "+fragile+", "--vars", "{break: true}")
    project.write("models/fragile.sql", "select id from {{ ref('orders') }}")
    project.write("models/below.sql", "{{ config(enabled=false) }} select * from {{ ref('fragile') }}")
    (project.path / "models/bottom.sql").rename(project.path / "models/renamed.sql")
    project.write("models/renamed.sql", "select * from {{ ref('fragile') }}")
    done = project.spanline("retry", "latest")
    assert done.returncode == 0, done.stderr.decode()
    assert GONE + b"model.shop.below, model.shop.bottom (" in done.stderr
    assert set(started(run, session=2)) == {"model.shop.fragile"}
    assert ended(run) == [("failed", 1), ("success", 0)]
    again = project.spanline("retry", "latest")
    said = f"run {run.id} is complete: there is nothing left to do (--full does it all again)\n"
    assert again.stdout.decode() == said


@pytest.mark.parametrize("command", ["run", "build"])
def test_a_run_of_which_all_that_was_left_is_gone_is_done(project: Project, command: str) -> None:
    run = project.run(command, "-s", "customers fragile", "--vars", "{break: true}")
    for name in ("fragile", "below", "bottom"):
        (project.path / f"models/{name}.sql").unlink()
    described = (project.path / "models/shop.yml").read_text()
    project.write("models/shop.yml", re.sub(r"  - name: fragile\n.*\n", "", described))
    done = project.spanline("retry", "latest")
    assert done.returncode == 0, done.stderr.decode()
    assert GONE + b"model.shop.fragile" in done.stderr
    assert ended(run) == [("failed", 1), ("success", 0)]


def test_what_leaves_the_project_between_two_attempts_is_not_waited_for(project: Project) -> None:
    project.write("models/locked.sql", LOCKED)
    project.write("models/below_locked.sql", "select * from {{ ref('locked') }}")
    other = project.path / "other.duckdb"
    with held_by_another(other) as holder:
        run = project.start("run", "-s", "+locked+", retry_limit=3, retry_delay=1.0, environment={"OTHER": str(other)})
        eventually(lambda: [e for e in journal(run) if isinstance(e, events.RetryScheduled)], "the first failure")
        (project.path / "models/below_locked.sql").unlink()
        holder.kill()
        assert run.wait(60).success
    gone = [e.unique_ids for e in journal(run) if isinstance(e, events.NodesGone)]
    assert gone
    assert {*map(tuple, gone)} == {("model.shop.below_locked",)}


def test_a_secret_variable_must_be_set_again(project: Project) -> None:
    project.spanline("dbt", "run", "-s", "fragile", "--vars", "{break: true}", DBT_ENV_SECRET_KEY="hush-hush")
    done = project.spanline("retry", "latest")
    assert done.returncode == 2
    assert done.stderr == b"spanline: to resume this run, set DBT_ENV_SECRET_KEY: secrets are not kept\n"
    assert len(ended(last_run(project))) == 1


def test_options_before_retry_hold_for_the_resumed_run(project: Project) -> None:
    run = project.run("run", "-s", "fragile", "--vars", "{break: true}", retry_delay=2.5, timeout=600.0, grace=7.0)
    before = RunSpec.load(run.directory.spec)
    done = project.spanline("--timeout", "0.5", "--retry-limit", "3", "--node-timeout", "9", "retry", "latest")
    assert done.returncode in (1, 2), "1 where click hears of it, before dbt does"
    assert [outcome for outcome, _ in ended(run)] == ["failed", "cancelled"]
    assert run.result().timed_out
    spec = RunSpec.load(run.directory.spec)
    assert spec == msgspec.structs.replace(
        before, limits=before.limits.amended(retry_limit=3, timeout=0.5, node_timeout=9.0)
    )
    assert (spec.limits.retry_delay, spec.limits.grace) == (2.5, 7.0)
    assert run.directory.spec.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("full", [False, True])
def test_a_run_is_resumed_by_a_supervisor_of_its_own(project: Project, *, full: bool) -> None:
    project.write("models/fragile.sql", "select id{{ env_var('COLUMN', '') }} from {{ ref('orders') }}")
    project.spanline("dbt", "run", "-s", "customers +fragile", COLUMN=", no_such_column")
    run = last_run(project)
    done = project.spanline("--detach", "retry", "latest", *(["--full"] if full else []), DBT_ENV_SECRET_KEY="hush")
    assert (done.returncode, done.stdout.decode()) == (0, f"{run.id}\n")
    assert run.wait(60).success
    session = run.state.session
    assert session is not None
    assert (session.session, session.detached, session.resumes) == (2, True, not full)
    assert ("model.shop.customers" in started(run, session=2)) is full
    again = project.spanline("--detach", "retry", "latest")
    said = f"run {run.id} is complete: there is nothing left to do (--full does it all again)\n"
    assert again.stdout.decode() == said


def test_a_resume_takes_limits_in_python_too(project: Project) -> None:
    run = project.run("run", "-s", "fragile", "--vars", "{break: true}", retry_limit=2)
    resumed = spanline.retry(run.id, home_dir=project.home, grace=3.0, retry_partial=True, detached=True)
    assert resumed.wait(60).outcome == "failed"
    spec = RunSpec.load(run.directory.spec)
    assert (spec.limits.grace, spec.limits.retry_partial, spec.limits.retry_limit) == (3.0, True, 2)


def test_a_run_under_way_is_followed(project: Project) -> None:
    gate = project.path / "open"
    run = project.start("run", "-s", "gate", environment={"GATE": str(gate)})
    eventually(lambda: run.state.open_nodes, "the open node")
    same = spanline.retry(run.id, home_dir=project.home)
    assert not same.supervised_here
    gate.touch()
    assert same.wait(60).success
    assert run.wait(60).success
    assert len(ended(run)) == 1


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"timeout": 1.5}, "the run took longer than 1.5 s"), ({"node_timeout": 0.5}, "model.shop.gate took longer than")],
)
def test_what_takes_too_long_is_cancelled(project: Project, limits: dict[str, float], said: str) -> None:
    run = project.start("run", "-s", "gate", environment={"GATE": str(project.path / "never")}, grace=3, **limits)
    result = run.wait(60)
    assert result.outcome == "cancelled"
    assert said in str(result.error)
    with pytest.raises(spanline.DbtTimeout, match=said) as raised:
        result.raise_for_failure()
    assert "timeout: allow more time" in str(raised.value)
    assert raised.value.category == "timeout"
    named = "node_timeout" in limits
    assert raised.value.failed_nodes == (("model.shop.gate",) if named else ())
    assert ("(models/gate.py)" in str(raised.value)) is named


def test_a_spec_keeps_what_a_resume_needs(project: Project) -> None:
    run = project.run("run", "-s", "customers", retry_limit=4, retry_delay=2.5, timeout=60.0, node_timeout=30.0)
    spec = RunSpec.load(run.directory.spec)
    assert (spec.limits.retry_limit, spec.limits.retry_delay, spec.limits.timeout, spec.limits.node_timeout) == (
        4,
        2.5,
        60.0,
        30.0,
    )


# --- the fold

UNIQUE_IDS = [f"model.shop.m{number}" for number in range(4)]
STATUSES = st.sampled_from(["success", "error", "skipped", "pass", "warn", "fail", "partial success"])


@given(st.lists(st.tuples(st.sampled_from(UNIQUE_IDS), STATUSES, st.booleans()), max_size=12))
def test_what_is_done_and_what_is_left_are_the_selection(happened: list[tuple[str, str, bool]]) -> None:
    place = {"session": 1, "step": 1, "attempt": 1}
    told: list[Event] = [
        events.AttemptStarted(argv=["build"], pid=1, python="p", **place),
        events.Selection(unique_ids=UNIQUE_IDS, **place),
    ]
    last: dict[str, str] = {}
    for unique_id, status, only_started in happened:
        told.append(events.NodeStarted(unique_id=unique_id, thread="t", **place))
        last[unique_id] = "running"
        if not only_started:
            told.append(events.NodeFinished(unique_id=unique_id, status=status, **place))
            last[unique_id] = status
    step = progress_of(told).steps[1]
    assert set(step.unfinished) == {unique_id for unique_id in UNIQUE_IDS if last.get(unique_id) not in DONE}
    restriction = step.restriction()
    assert (restriction.unfinished if restriction else []) == step.unfinished
    assert not step.done, "its runner has not ended"


BATCHES = [(f"2020-01-{day:02}T00:00:00+00:00", f"2020-01-{day + 1:02}T00:00:00+00:00") for day in range(1, 7)]
ENDINGS = st.sampled_from(["killed", "told", "told of none that ended late"])
MODEL = "model.shop.daily"


def test_what_was_gone_and_is_there_again_is_left_to_do() -> None:
    place = {"session": 1, "step": 1}
    step = progress_of([
        events.AttemptStarted(argv=["build"], pid=1, python="p", **place),
        events.Selection(unique_ids=UNIQUE_IDS[:3], **place),
        events.NodeFinished(unique_id=UNIQUE_IDS[0], status="success", **place),
        events.AttemptEnded(exit_code=1, **place),
        events.AttemptStarted(argv=["build"], pid=1, python="p", unfinished=2, **place),
        events.NodesGone(unique_ids=UNIQUE_IDS[1:2], **place),
        events.AttemptEnded(exit_code=1, **place),
    ]).steps[1]  # fmt: skip
    assert step.unfinished == UNIQUE_IDS[2:3]
    again = step.restriction()
    assert again is not None
    assert again.unfinished == UNIQUE_IDS[1:3]
    happened = [
        events.AttemptStarted(argv=["build"], pid=1, python="p", unfinished=2, **place),
        events.NodeFinished(unique_id=UNIQUE_IDS[2], status="success", **place),
        events.AttemptEnded(exit_code=0, **place),
    ]
    progress = Progress({1: step})
    for event in happened:
        progress.apply(event)
    assert not step.done


@given(st.lists(st.tuples(st.sets(st.sampled_from(BATCHES)), ENDINGS), min_size=1, max_size=4))
def test_batches_that_are_done_and_batches_that_are_left_are_those_planned(
    attempts: list[tuple[set[Batch], str]],
) -> None:
    """Over any number of attempts, each ended in any way, after any of its batches in any order."""
    step, state, done = StepProgress(selection={MODEL: None}), RunState(), set[Batch]()
    progress = Progress({1: step})
    for number, (succeed, ending) in enumerate(attempts, 1):
        left = [batch for batch in BATCHES if batch not in done]
        ended = [batch for batch in left if batch in succeed]
        for event in _of_attempt(number, sorted(done), left, ended, ending):
            progress.apply(event)
            state.apply(event)
        done.update(ended)
        restriction = step.restriction()
        assert restriction is not None
        found = restriction.batches[MODEL]
        assert (found.successful, found.failed) == (sorted(done), [batch for batch in BATCHES if batch not in done])
        assert state.batches[1][MODEL].batches == events.Batches(found.successful, found.failed)


def _of_attempt(
    number: int, before: list[Batch], left: list[Batch], ended: list[Batch], ending: str
) -> Iterator[Event]:
    place = {"session": 1, "step": 1, "attempt": number, "unique_id": MODEL}
    yield events.NodeStarted(thread="t", **place)
    yield events.BatchesPlanned(batches=events.Batches(before, left), **place)
    for start, end in left:
        status = "success" if (start, end) in ended else "error"
        yield events.BatchFinished(status=status, batch=1, batches=len(left), start=start, end=end, **place)
    if ending != "killed":
        late = set(ended) if ending == "told of none that ended late" else set()
        told = events.Batches(
            [*(batch for batch in ended if batch not in late), *before],
            [batch for batch in left if batch not in ended or batch in late],
        )
        yield events.NodeFinished(status="partial success", batches=told, **place)


@pytest.mark.parametrize(
    ("message", "adapter", "expected"),
    [
        (
            'IO Error: Could not set lock on file "/x/shop.duckdb": Conflicting lock is held in dbt (PID 7)',
            "duckdb",
            "duckdb.lock",
        ),
        ("deadlock detected\nDETAIL:  Process 1 waits for ShareLock", "postgres", "postgres.deadlock"),
        ("could not serialize access due to concurrent update", "postgres", "postgres.serialization"),
        ("FATAL:  the database system is starting up", "postgres", "postgres.starting"),
        (
            'connection to server at "db" (10.0.0.1), port 5432 failed: Connection refused',
            "postgres",
            "postgres.refused",
        ),
        ("FATAL:  sorry, too many clients already", "postgres", "postgres.too_many"),
        # a name is no error
        ('Database Error in model connection_refused\n  column "deadlock_detected" does not exist', "postgres", None),
        ('FATAL:  password authentication failed for user "x"', "postgres", None),
        ("Binder Error: Could not set lock_on file", "duckdb", None),
        ("deadlock detected", "duckdb", None),
    ],
)
def test_only_what_is_known_to_pass_is_transient(message: str, adapter: str, expected: str | None) -> None:
    found = classify(message, adapter=adapter)
    assert (found.rule if found.transient else None) == expected
