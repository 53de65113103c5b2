"""The supervisor dies, and the runner with it: by the lifeline, its queries cancelled, or by the watchdog."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Sandbox, alive, until

START = """
import spanline, sys, signal
run = spanline.start(["build", "--select", *sys.argv[1:]], grace=GRACE)
run.wait()
"""

CLOSE_STREAMS = "import os\nfor fd in range(3): os.close(fd)\n"
"""The first descriptor that is opened would be number 0."""


def _lineage(sandbox: Sandbox) -> tuple[dict[str, str], Path]:
    file = sandbox.project / "lineage.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    return {"OPENLINEAGE__TRANSPORT": json.dumps(transport)}, file


def _ends_by_itself(sandbox: Sandbox, run, killed_at: float) -> None:
    """The runner must have cancelled itself and returned from dbt, long before the grace period's 30 s."""
    run.waits_for("interrupt_received", reason="the supervisor is gone")
    run.waits_for("dbt_exited", exit_code=2)
    sandbox.all_gone()
    assert time.monotonic() - killed_at < 20
    assert not run.events("session_ended")


def test_killed_while_nodes_run(sandbox: Sandbox) -> None:
    configured, lineage = _lineage(sandbox)
    supervisor = sandbox.dbt("build", "--select", "fast", "slow", "after", env=configured)
    run = sandbox.run()
    run.is_in_slow_query()
    supervisor.send(signal.SIGKILL)
    _ends_by_itself(sandbox, run, time.monotonic())

    shown = run.shown()
    assert shown["outcome"] == "died"
    assert "supervisor" in shown["error"]

    sandbox.did("replay", run.id, env=configured)
    assert run.outcome == "cancelled"
    assert run.node("slow") == "cancelled"
    sandbox.did("replay", run.id, env=configured)
    assert len(run.events("session_ended")) == 1

    # Delivery is at least once: what was sent again is the same, so each OpenLineage run has one start and one end.
    sent = {json.dumps(e, sort_keys=True): e for e in map(json.loads, lineage.read_text().splitlines())}.values()
    by_run: dict[str, list[str]] = {}
    for event in sent:
        by_run.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert run.id in by_run
    for types in by_run.values():
        assert types.count("START") == 1
        assert sum(types.count(end) for end in ("COMPLETE", "FAIL", "ABORT")) == 1


def test_killed_while_a_hook_runs(sandbox: Sandbox) -> None:
    supervisor = sandbox.dbt("build", "--select", "fast", env={"FAULT_HOOK": "1"})
    run = sandbox.run()
    run.is_in_slow_query()
    supervisor.send(signal.SIGKILL)
    _ends_by_itself(sandbox, run, time.monotonic())
    assert not run.events("node_started"), "the interrupt was lost"
    assert run.events("hook_started")


def test_killed_while_dbt_is_imported(duckdb_sandbox: Sandbox) -> None:
    supervisor = duckdb_sandbox.dbt("build", "--select", "slow")
    run = duckdb_sandbox.run()
    run.waits_for("attempt_started")
    supervisor.send(signal.SIGKILL)
    duckdb_sandbox.all_gone()
    assert not run.events("node_started")


@pytest.mark.parametrize(
    "fork",
    [
        "pid = os.fork() or (signal.pause(), os._exit(0))",
        "child = multiprocessing.get_context('fork').Process(target=signal.pause); child.start(); pid = child.pid",
    ],
    ids=["os.fork", "multiprocessing"],
)
def test_caller_killed_after_it_has_forked(sandbox: Sandbox, fork: str) -> None:
    caller = sandbox.script(
        f"""
import multiprocessing, os, signal, spanline
run = spanline.start(["build", "--select", "slow"])
for event in run.events():
    if isinstance(event, spanline.events.NodeStarted):
        break
{fork}
print("forked", pid, flush=True)
run.wait()
"""
    )
    caller.says("forked")
    until(lambda: caller.text.endswith("\n"), "the line")
    child = int(caller.text.split()[-1])
    run = sandbox.run()
    run.is_in_slow_query()
    caller.send(signal.SIGKILL)
    run.waits_for("interrupt_received", reason="the supervisor is gone")
    run.waits_for("dbt_exited")
    sandbox.all_gone(child)
    assert alive(child), "the child should have lived on"
    sandbox.did("tail", run.id)  # the run is over for everybody, though the child lives
    assert run.shown()["outcome"] == "died"
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("first", ["", CLOSE_STREAMS], ids=["", "its streams closed"])
def test_watchdog_kills_a_stopped_runner(duckdb_sandbox: Sandbox, first: str) -> None:
    caller = duckdb_sandbox.script(first + START.replace("GRACE", "1"), "slow")
    run = duckdb_sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGSTOP)
    caller.send(signal.SIGKILL)
    duckdb_sandbox.all_gone(seconds=15)
    assert not run.events("dbt_exited")


def test_watchdog_kills_a_stuck_runner_and_its_children(duckdb_sandbox: Sandbox) -> None:
    caller = duckdb_sandbox.script(START.replace("GRACE", "1"), "stuck")
    run = duckdb_sandbox.run()
    child = duckdb_sandbox.project / "stuck.pid"
    until(child.exists, "the node's own process")
    assert alive(int(child.read_text()))
    caller.send(signal.SIGKILL)
    run.waits_for("interrupt_received")
    duckdb_sandbox.all_gone(seconds=15)
    assert not run.events("dbt_exited")


def test_supervisor_and_runner_killed_at_once(duckdb_sandbox: Sandbox) -> None:
    sandbox = duckdb_sandbox
    configured, _ = _lineage(sandbox)
    supervisor = sandbox.dbt("build", "--select", "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    supervisor.send(signal.SIGSTOP)  # so that it can't see the runner's death
    os.kill(run.runner, signal.SIGKILL)
    supervisor.send(signal.SIGKILL)
    sandbox.all_gone()
    shown = run.shown()
    assert (shown["outcome"], shown["exit_code"]) == ("died", 2)
    assert "died" in sandbox.did("runs")
    sandbox.did("replay", run.id, env=configured)
    assert run.outcome == "died"
    assert run.one("runner_died")
    assert run.node("slow") == "interrupted"


def test_detached_supervisor_killed(duckdb_sandbox: Sandbox) -> None:
    sandbox = duckdb_sandbox
    sandbox.did("--detach", "dbt", "build", "--select", "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    os.kill(run.one("session_started")["pid"], signal.SIGKILL)
    _ends_by_itself(sandbox, run, time.monotonic())


@pytest.mark.parametrize(("cancelled", "status"), [(False, "interrupted"), (True, "cancelled")])
def test_no_node_of_a_run_without_a_process_is_running(duckdb_sandbox: Sandbox, cancelled: bool, status: str) -> None:
    """Supervisor and runner are killed at once: the journal leaves the node open, and is left as it is."""
    sandbox = duckdb_sandbox
    supervisor = sandbox.dbt("build", "--select", "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGSTOP)  # so that it can't say a last word
    if cancelled:
        sandbox.did("cancel", run.id, "--no-wait", "--grace", "120")
        run.waits_for("cancel_requested")
    supervisor.send(signal.SIGKILL)
    os.kill(run.runner, signal.SIGKILL)
    sandbox.all_gone()
    journal = (run.path / "journal.jsonl").read_bytes()
    assert run.node("slow") == status
    assert f"1 {status}" in sandbox.did("show", run.id).splitlines()[0]
    assert json.loads(sandbox.did("runs", "--json"))["counts"] == {status: 1}
    assert (run.path / "journal.jsonl").read_bytes() == journal
