"""What a fault has left undone is done by `spanline retry`, that and no more; what it has left untold, by a replay."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter, defaultdict

import pytest

from .backend import Backend
from .conftest import SPANLINE, RunView, Sandbox, Started, alive, until

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
    assert "nothing of this run is left to do" in sandbox.did("retry", run.id)


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
    resumed.says("is ending: waiting for that")
    assert len(run.events("session_started")) == 1
    assert alive(runner)
    os.kill(runner, signal.SIGCONT)
    assert resumed.ends() == 0, resumed.text
    assert Counter(run.begun(session=2)) == {"slow": 1, "after": 1}
    assert run.ends == [("cancelled", 2), ("success", 0)]


DAILY = """
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='happened', batch_size='day',
          begin='2020-01-01', concurrent_batches=false) }}
select timestamp '{{ model.batch.event_time_start.strftime("%Y-%m-%d") if model.batch else "2020-01-01" }}' as happened
{% if model.batch and model.batch.id == '20200102' %} from ({{ slow_query() }}) {% endif %}
"""
PERIOD = ("--event-time-start", "2020-01-01", "--event-time-end", "2020-01-04")


@pytest.mark.parametrize("killed", ["runner", "both"])
def test_build_whose_microbatch_model_was_killed_midway(duckdb_sandbox: Sandbox, killed: str) -> None:
    """The model starts over, what was done before it isn't done again, what comes after it is; and no day is lost."""
    import duckdb

    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    (sandbox.project / "models" / "daily.sql").write_text(DAILY)
    (sandbox.project / "models" / "report.sql").write_text("select * from {{ ref('daily') }}")
    first = sandbox.dbt("build", "--select", "fast", "daily", "report", *PERIOD)
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.waits_for("batch_finished", unique_id="model.faults.daily", batch=1, status="success")
    run.is_in_slow_query()
    if killed == "both":
        first.send(signal.SIGSTOP)
    os.kill(run.runner, signal.SIGKILL)
    if killed == "both":
        first.send(signal.SIGKILL)
    first.ends()
    sandbox.all_gone()

    sandbox.did("retry", run.id, env=NOW_FAST)
    assert Counter(run.begun(session=2)) == {"daily": 1, "report": 1}
    assert [e["batch"] for e in run.events("batch_finished") if e["session"] == 2] == [1, 2, 3]
    assert run.ends == [("died", 2), ("success", 0)]
    with duckdb.connect(str(sandbox.project / "faults.duckdb"), read_only=True) as warehouse:
        for table in ("daily", "report"):
            days = warehouse.execute(f"select strftime(happened, '%d') from {table} order by 1").fetchall()
            assert days == [("01",), ("02",), ("03",)]
