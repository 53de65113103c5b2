"""A detached run outlives whoever started it, and answers to anybody."""

from __future__ import annotations

import os
import signal

from tests.faults.conftest import SPANLINE, Sandbox, until

WAIT = """
import spanline, sys
run = spanline.attach(sys.argv[1])
print("attached", flush=True)
print(run.wait().outcome)
"""


def test_outlives_its_starter(sandbox: Sandbox) -> None:
    sandbox.close_gate()
    starter = sandbox.start(
        ["sh", "-c", f"{SPANLINE} --detach dbt build --select gate; exec sleep 600"], start_new_session=True
    )
    run = sandbox.run()
    run.waits_for("node_started", unique_id="model.faults.gate")
    starter.says(run.id)
    supervisor, runner = run.one("session_started")["pid"], run.runner
    assert len({os.getsid(pid) for pid in (starter.pid, supervisor)}) == 2
    os.killpg(starter.pid, signal.SIGKILL)
    starter.ends()
    assert {supervisor, runner} <= {p.pid for p in sandbox.processes()}
    waiting = sandbox.script(WAIT, run.id)
    waiting.says("attached")
    sandbox.open_gate()
    assert waiting.ends() == 0
    assert waiting.text.split()[-1] == "success"
    assert run.outcome == "success"
    assert not run.events("interrupt_received", "cancel_requested")


def test_starter_killed_at_once(duckdb_sandbox: Sandbox) -> None:
    """The starter dies as soon as there is a run: that run ends by itself, or goes on, but doesn't hang half-way."""
    sandbox = duckdb_sandbox
    starter = sandbox.start([SPANLINE, "--detach", "dbt", "build", "--select", "fast"], start_new_session=True)
    until(lambda: any((r.path / "supervisor.log").exists() for r in sandbox.runs()), "the supervisor's log")
    os.killpg(starter.pid, signal.SIGKILL)
    starter.ends()
    sandbox.all_gone()
    (run,) = sandbox.runs()
    if run.events("session_started"):  # the kill may have come before the supervisor was there at all
        assert run.outcome == "success"


def test_is_cancelled_from_elsewhere(sandbox: Sandbox) -> None:
    run_id = sandbox.did("--detach", "dbt", "build", "--select", "slow").split()[-1]
    run = sandbox.run()
    assert run.id == run_id
    run.is_in_slow_query()
    waiting = sandbox.script(WAIT, run_id)
    waiting.says("attached")
    assert "cancelled" in sandbox.did("cancel", run_id)
    assert waiting.ends() == 0
    assert waiting.text.split()[-1] == "cancelled"
    assert run.node("slow") == "cancelled"
    assert not run.events("runner_killed")


def test_signals_to_a_detached_supervisor(duckdb_sandbox: Sandbox) -> None:
    sandbox = duckdb_sandbox
    sandbox.did("--detach", "dbt", "build", "--select", "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    supervisor = run.one("session_started")["pid"]
    for signum in (signal.SIGTERM, signal.SIGINT) * 5:
        os.kill(supervisor, signum)
    run.waits_for("session_ended", outcome="cancelled")
    assert not run.events("runner_killed", "runner_died")
