"""What a fault has left undone is done by `spanline retry`, that and no more; what it has left untold, by a replay."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter, defaultdict
from datetime import datetime, timezone

import duckdb
import pytest
from dbt.artifacts.schemas.run import RunResultsArtifact

from tests.faults.backend import Backend
from tests.faults.conftest import SPANLINE, RunView, Sandbox, Started, alive, until

NOW_FAST = {"FAULT_FAST": "1"}
"""Makes the query that never ends end at once: what was in the way is gone."""
ENDS = ("COMPLETE", "FAIL", "ABORT")


def assert_one_start_and_one_end(lineage: list[dict]) -> None:
    """https://openlineage.io/docs/spec/run-cycle."""
    kinds = defaultdict(list)
    for event in lineage:
        kinds[event["run"]["runId"]].append(event["eventType"])
    for run_id, of_run in kinds.items():
        assert (of_run.count("START"), sum(map(of_run.count, ENDS))) == (1, 1), (run_id, of_run)


def _end_of(job: str, backend: Backend) -> str:
    (end,) = [e["eventType"] for e in backend.lineage if e["eventType"] in ENDS and job in e["job"]["name"]]
    return end


def killed_supervisor(sandbox: Sandbox, run: RunView) -> None:
    """Kill it once dbt has done one node and is in the query of the next."""
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.is_in_slow_query()
    os.kill(run.one("session_started")["pid"], signal.SIGKILL)
    run.waits_for("interrupt_received", reason="the supervisor is gone")
    run.waits_for("dbt_exited", exit_code=2)
    sandbox.all_gone()
    assert not run.events("session_ended")


@pytest.mark.parametrize("options", [[], ["--detach"]], ids=["attached", "detached"])
def test_supervisor_killed_then_replayed_and_resumed(sandbox: Sandbox, backend: Backend, options: list[str]) -> None:
    sandbox.expected_steps = 2
    sandbox.start([SPANLINE, *options, "dbt", "build", "--select", "fast", "slow", "after"], backend.environment)
    run = sandbox.run()
    until(lambda: any("slow" in e["job"]["name"] for e in backend.lineage), "the start of the slow model")
    killed_supervisor(sandbox, run)
    before = list(backend.acknowledged)

    sandbox.did("replay", run.id, env=backend.environment)
    assert_one_start_and_one_end(backend.lineage)
    assert {e["run"]["runId"] for e in map(json.loads, before)} <= {e["run"]["runId"] for e in backend.lineage}
    assert [_end_of(job, backend) for job in (".fast.", ".slow.", "dbt-run-")] == ["COMPLETE", "ABORT", "ABORT"]
    assert run.id in {e["run"]["runId"] for e in backend.lineage}, "the first session's run is the run itself"
    everything = set(backend.acknowledged)
    sandbox.did("replay", run.id, "--all", env=backend.environment)
    assert set(backend.acknowledged) == everything, "made again, every event is byte for byte the same"

    sandbox.did("retry", run.id, env={**backend.environment, **NOW_FAST})
    assert Counter(run.begun(session=2)) == {"slow": 1, "after": 1}
    assert run.ends == [("cancelled", 2), ("success", 0)]
    assert_one_start_and_one_end(backend.lineage)
    assert "there is nothing left to do" in sandbox.did("retry", run.id)


def test_supervisor_and_runner_killed_at_once_then_resumed(duckdb_sandbox: Sandbox, backend: Backend) -> None:
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    supervisor = sandbox.dbt("build", "--select", "fast", "slow", "after", env=backend.environment)
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.is_in_slow_query()
    supervisor.send(signal.SIGSTOP)  # so that it can't see the runner's death
    os.kill(run.runner, signal.SIGKILL)
    supervisor.send(signal.SIGKILL)
    sandbox.all_gone()
    sandbox.did("retry", run.id, env={**backend.environment, **NOW_FAST})
    assert Counter(run.begun(session=2)) == {"slow": 1, "after": 1}
    assert run.ends == [("died", 2), ("success", 0)]
    assert_one_start_and_one_end(backend.lineage)


def _died_at_the_gate(sandbox: Sandbox, *select: str) -> RunView:
    """A run whose dbt was killed while a node waited at the gate."""
    sandbox.close_gate()
    first = sandbox.dbt("build", "--select", *select)
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.waits_for("node_started", unique_id="model.faults.gate")
    os.kill(run.runner, signal.SIGKILL)
    assert first.ends() == 2
    return run


@pytest.mark.parametrize(("select", "code"), [(["fast", "gate"], 0), (["fast", "gate", "broken"], 1)])
def test_many_retry_at_the_same_moment(duckdb_sandbox: Sandbox, select: list[str], code: int) -> None:
    """One runs, the others follow it and end as it does, also where it fails again and there is something to retry."""
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    run = _died_at_the_gate(sandbox, *select)
    rivals: list[Started] = [sandbox.start([SPANLINE, "retry", run.id]) for _ in range(4)]
    run.waits_for("session_started", session=2)
    sandbox.open_gate()
    assert [rival.ends() for rival in rivals] == [code] * len(rivals), [rival.text for rival in rivals]
    said = Counter("following it" in rival.text for rival in rivals)
    assert said == {True: len(rivals) - 1, False: 1}
    assert len(run.events("session_started")) == 2
    assert len(run.events("attempt_started")) == 2


@pytest.mark.parametrize("ending", ["cancelled", "supervisor killed"])
def test_resumed_while_the_session_is_only_ending(duckdb_sandbox: Sandbox, ending: str) -> None:
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    first = sandbox.dbt("build", "--select", "fast", "slow", "after")
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.is_in_slow_query()
    runner = run.runner
    os.kill(runner, signal.SIGSTOP)  # it can't end yet
    if ending == "cancelled":
        sandbox.did("cancel", run.id, "--no-wait", "--grace", "120")
        run.waits_for("cancel_requested")
    else:
        first.send(signal.SIGKILL)
        until(lambda: not alive(first.pid), "the end of the supervisor")
    resumed = sandbox.start([SPANLINE, "retry", run.id], NOW_FAST)
    resumed.says("is ending: it will be resumed after that")
    assert len(run.events("session_started")) == 1
    assert alive(runner)
    os.kill(runner, signal.SIGCONT)
    assert resumed.ends() == 0, resumed.text
    assert Counter(run.begun(session=2)) == {"slow": 1, "after": 1}
    assert run.ends == [("cancelled", 2), ("success", 0)]


ENDLESS = "range(100000000000000)"
"""Rows that DuckDB counts for hours: those of `slow_query()` take it ten seconds where nobody asks for their number."""
MICROBATCH = """
{{{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='happened',
          batch_size='{size}', begin='{begin}', concurrent_batches={concurrent}) }}}}
{{% set start = model.batch.event_time_start if model.batch else modules.datetime.datetime(2020, 1, 1) %}}
{{% set number = start.{size} | string %}}
select timestamp '{{{{ start.strftime("%Y-%m-%d") }}}}' as happened, '{{{{ invocation_id }}}}' as made_by
{{% if number in env_var('FAULT_BAD', '').split() %}} from nowhere
{{% elif number in env_var('FAULT_SLOW', '').split() %}} from (select count(*) from {endless}) {{% endif %}}
"""
"""A model each row of which tells by which invocation it was made. Its batches are slow, or fail, by number."""
FIVE_DAYS = ("--event-time-start", "2020-01-01", "--event-time-end", "2020-01-06")


def _write_daily(sandbox: Sandbox, size: str = "day", begin: str = "2020-01-01", *, concurrent: bool = False) -> None:
    text = MICROBATCH.format(size=size, begin=begin, concurrent=str(concurrent).lower(), endless=ENDLESS)
    (sandbox.project / "models" / "daily.sql").write_text(text)


def _is_in_slow_batch(run: RunView, session: int) -> None:
    def sent() -> list[dict]:
        queries = run.events("query_started")
        return [e for e in queries if e["session"] == session and ENDLESS in e["sql"]]

    until(sent, "the query of the slow batch")


def _kill_runner(run: RunView) -> None:
    os.kill(run.events("attempt_started")[-1]["pid"], signal.SIGKILL)


def _cut_off(sandbox: Sandbox, run: RunView, process: Started, how: str, session: int = 1) -> None:
    """End the run's dbt in its slow batch."""
    _is_in_slow_batch(run, session)
    if how == "cancelled":
        sandbox.did("cancel", run.id)
    elif how == "both killed":
        process.send(signal.SIGSTOP)  # so that it can't see the runner's death
        _kill_runner(run)
        process.send(signal.SIGKILL)
    elif how == "runner killed":
        _kill_runner(run)
    else:
        assert how == "too long"
    process.ends()
    sandbox.all_gone()


def _done(run: RunView) -> dict[int, list[int]]:
    """By session the batches that succeeded, by their number in the plan that the run began with."""
    planned = [start for start, _ in run.events("batches_planned")[0]["batches"]["failed"]]
    found = defaultdict(list)
    for event in run.events("batch_finished"):
        if event["status"] == "success":
            found[event["session"]].append(planned.index(event["start"]) + 1)
    return {session: sorted(numbers) for session, numbers in found.items()}


def _rows(sandbox: Sandbox, run: RunView) -> dict[int, list[int]]:
    """By session the rows of the table that it made, by number of the batch that they are of."""
    made_by = {e["invocation_id"]: e["session"] for e in run.events("dbt_started")}
    planned = [start[:10] for start, _ in run.events("batches_planned")[0]["batches"]["failed"]]
    found = defaultdict(list)
    for happened, invocation in _ask(sandbox, "select cast(happened as date), made_by from daily order by 1"):
        found[made_by[invocation]].append(planned.index(str(happened)) + 1)
    return dict(found)


def _ask(sandbox: Sandbox, sql: str) -> list[tuple]:
    with duckdb.connect(str(sandbox.project / "faults.duckdb")) as warehouse:
        return warehouse.execute(sql).fetchall()


def _results(run: RunView, session: int) -> dict[str, list[int]]:
    """The days of the batches of which `run_results.json` says that they succeeded, and failed, as dbt reads it."""
    (file,) = run.path.glob(f"artifacts/**/{session}-1-1/run_results.json")
    results = RunResultsArtifact.read_and_check_versions(str(file)).results
    (batches,) = [result.batch_results for result in results if result.unique_id == "model.faults.daily"]
    return {name: [start.day for start, _ in getattr(batches, name)] for name in ("successful", "failed")}


@pytest.mark.parametrize("how", ["runner killed", "both killed", "cancelled", "too long"])
def test_microbatch_model_that_was_cut_off_goes_on_at_the_batch(duckdb_sandbox: Sandbox, how: str) -> None:
    """What comes after it in the build is done too."""
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    _write_daily(sandbox)
    (sandbox.project / "models" / "report.sql").write_text("select happened from {{ ref('daily') }}")
    limit = ("--node-timeout", "10") if how == "too long" else ()
    first = sandbox.dbt("build", "-s", "fast", "daily", "report", *FIVE_DAYS, options=limit, env={"FAULT_SLOW": "3"})
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    _cut_off(sandbox, run, first, how)
    if how == "runner killed":
        assert _results(run, 1) == {"successful": [1, 2], "failed": [3, 4, 5]}
    if how in ("cancelled", "too long"):
        assert run.node("daily") == "cancelled", "not the partial success that dbt calls it"

    sandbox.did("retry", run.id)
    assert Counter(run.begun(session=2)) == {"daily": 1, "report": 1}
    assert _done(run) == _rows(sandbox, run) == {1: [1, 2], 2: [3, 4, 5]}
    assert len(_ask(sandbox, "select * from report")) == 5
    assert run.ends[-1] == ("success", 0)


@pytest.mark.parametrize("options", [(), ("--full-refresh",)], ids=["begins with no table", "full refresh"])
def test_microbatch_model_cut_off_goes_on_up_to_its_first_end(duckdb_sandbox: Sandbox, options: tuple[str]) -> None:
    """With no period given dbt would do the latest only, as the table is there; or with --full-refresh make it anew."""
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    year = datetime.now(timezone.utc).year
    _write_daily(sandbox, "year", f"{year - 5}-01-01")
    first = sandbox.dbt("run", "-s", "daily", *options, env={"FAULT_SLOW": str(year - 3)})
    _cut_off(sandbox, run := sandbox.run(), first, "runner killed")
    sandbox.did("retry", run.id)
    assert _done(run) == _rows(sandbox, run) == {1: [1, 2], 2: [3, 4, 5, 6]}


def test_microbatch_model_cut_off_in_its_first_batch(duckdb_sandbox: Sandbox) -> None:
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    _write_daily(sandbox)
    first = sandbox.dbt("run", "-s", "daily", *FIVE_DAYS, env={"FAULT_SLOW": "1"})
    _cut_off(sandbox, run := sandbox.run(), first, "runner killed")
    sandbox.did("retry", run.id)
    assert _done(run) == _rows(sandbox, run) == {2: [1, 2, 3, 4, 5]}


@pytest.mark.parametrize("how", ["runner killed", "cancelled"])
def test_batches_add_up_over_many_sessions(duckdb_sandbox: Sandbox, how: str) -> None:
    """One with failed batches, whose resume is cut off in its turn, and again."""
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 4
    _write_daily(sandbox)
    sandbox.did("dbt", "run", "-s", "daily", *FIVE_DAYS, code=1, env={"FAULT_BAD": "2 4 5"})
    run = sandbox.run()
    for session, slow in ((2, "4"), (3, "4")):
        _cut_off(sandbox, run, sandbox.start([SPANLINE, "retry", run.id], {"FAULT_SLOW": slow}), how, session)
    if how == "runner killed":
        assert _results(run, 3) == {"successful": [1, 2, 3], "failed": [4, 5]}
    sandbox.did("retry", run.id)
    assert _done(run) == _rows(sandbox, run) == {1: [1, 3], 2: [2], 4: [4, 5]}
    assert "there is nothing left to do" in sandbox.did("retry", run.id)


def test_concurrent_batches_that_were_cut_off(duckdb_sandbox: Sandbox) -> None:
    """Those that have overtaken the slow one stay done."""
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    _write_daily(sandbox, concurrent=True)
    sandbox.did("dbt", "run", "-s", "daily", *FIVE_DAYS, env={"SPANLINE_HOME": str(sandbox.project / "other")})
    _ask(sandbox, "delete from daily")  # the table is there, without which no batches are concurrent
    arguments = ("run", "-s", "daily", "--threads", "4", *FIVE_DAYS)
    first = sandbox.dbt(*arguments, env={"FAULT_SLOW": "3"})
    run = sandbox.run()
    run.waits_for("batch_finished", batch=2, status="success")
    run.waits_for("batch_finished", batch=4, status="success")
    _cut_off(sandbox, run, first, "runner killed")
    sandbox.did("retry", run.id)
    assert _done(run) == _rows(sandbox, run) == {1: [1, 2, 4], 2: [3, 5]}


@pytest.mark.parametrize("change", ["code", "batch size", "table"])
def test_microbatch_model_starts_over_where_its_batches_no_longer_fit(duckdb_sandbox: Sandbox, change: str) -> None:
    """And does all the time of the run again, whether or not the table is there."""
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    _write_daily(sandbox)
    first = sandbox.dbt("run", "-s", "daily", *FIVE_DAYS, env={"FAULT_SLOW": "3"})
    _cut_off(sandbox, run := sandbox.run(), first, "runner killed")
    if change == "code":
        with (sandbox.project / "models" / "daily.sql").open("a") as file:
            file.write("\n-- changed")
    elif change == "batch size":
        _write_daily(sandbox, "month")
    else:
        _ask(sandbox, "drop table daily")
    said = sandbox.did("retry", run.id)
    assert ("daily has changed since 2 of its 5 batches were done: it starts over" in said) == (change != "table")
    done = [(e["start"][:10], e["end"][:10]) for e in run.events("batch_finished") if e["session"] == 2]
    if change == "batch size":
        assert done == [("2020-01-01", "2020-02-01")]
    else:
        assert _done(run)[2] == [1, 2, 3, 4, 5]
        assert _rows(sandbox, run) == {2: [1, 2, 3, 4, 5]}
