"""The runner dies or doesn't listen: an event says so, an exception is raised, nothing hangs."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.faults.conftest import Sandbox, alive, until


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_killed_by_a_signal(duckdb_sandbox: Sandbox, signum: signal.Signals) -> None:
    sandbox = duckdb_sandbox
    supervisor = sandbox.dbt("build", "--select", "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signum)
    assert supervisor.ends() == 2
    died = run.one("runner_died")
    assert died["signal"] == signum.name
    if signum != signal.SIGKILL:
        assert "Fatal Python error" in died["detail"]
    assert run.outcome == "died"
    assert run.node("slow") == "interrupted"
    assert signum.name in run.shown()["error"]


def test_raise_for_failure(duckdb_sandbox: Sandbox) -> None:
    caller = duckdb_sandbox.script("""
import spanline
result = spanline.run(["build", "--select", "slow"])
print("exit code", result.exit_code)
try:
    result.raise_for_failure()
except spanline.RunnerDied as error:
    print("RunnerDied", error.signal)
""")
    run = duckdb_sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGKILL)
    assert caller.ends() == 0
    assert caller.text.splitlines()[-2:] == ["exit code 2", "RunnerDied SIGKILL"]


def test_children_of_a_killed_runner(duckdb_sandbox: Sandbox) -> None:
    supervisor = duckdb_sandbox.dbt("build", "--select", "stuck")
    run = duckdb_sandbox.run()
    child = duckdb_sandbox.project / "stuck.pid"
    until(child.exists, "the node's own process")
    os.kill(run.runner, signal.SIGKILL)
    assert supervisor.ends() == 2
    until(lambda: not alive(int(child.read_text())), "the end of what the runner had started", 10)


def test_sigterm_to_the_runner_cancels(sandbox: Sandbox) -> None:
    supervisor = sandbox.dbt("build", "--select", "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGTERM)
    assert supervisor.ends() == 2
    assert run.one("interrupt_received")["reason"] == "SIGTERM"
    assert run.outcome == "cancelled"
    assert run.node("slow") == "cancelled"


def test_stopped_runner_is_killed_after_the_grace(duckdb_sandbox: Sandbox) -> None:
    supervisor = duckdb_sandbox.dbt("build", "--select", "slow")
    run = duckdb_sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGSTOP)
    duckdb_sandbox.did("cancel", run.id, "--grace", "1")
    assert supervisor.ends() == 2
    assert run.one("runner_killed")
    assert run.one("cancel_requested")["grace"] == 1
    assert run.outcome == "cancelled"
    assert run.node("slow") == "cancelled"


def test_stuck_runner_is_killed_with_its_children(duckdb_sandbox: Sandbox) -> None:
    supervisor = duckdb_sandbox.dbt("build", "--select", "stuck")
    run = duckdb_sandbox.run()
    child = duckdb_sandbox.project / "stuck.pid"
    until(child.exists, "the node's own process")
    assert alive(int(child.read_text()))
    duckdb_sandbox.did("cancel", run.id, "--grace", "1")
    assert supervisor.ends() == 2
    assert not alive(int(child.read_text()))
    assert run.one("interrupt_received")
    assert run.one("runner_killed")
    assert run.outcome == "cancelled"


def test_sigterm_to_the_runner_while_a_hook_runs(sandbox: Sandbox) -> None:
    """Nobody but the runner is told, and its main thread is inside the driver."""
    supervisor = sandbox.dbt("build", "--select", "fast", env={"FAULT_HOOK": "1"})
    run = sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGTERM)
    assert supervisor.ends(20) == 2
    assert run.one("interrupt_received")["reason"] == "SIGTERM"
    assert run.outcome == "cancelled"
    assert not run.events("node_started")


def test_interrupted_when_dbt_has_ended(duckdb_sandbox: Sandbox) -> None:
    """Too late: dbt has done it all, and only Python's own end is left."""
    supervisor = duckdb_sandbox.dbt("build", "--select", "fast")
    run = duckdb_sandbox.run()
    runner = run.runner
    run.waits_for("dbt_exited", exit_code=0)
    while alive(runner):  # in every moment of Python's own end
        with contextlib.suppress(ProcessLookupError):
            os.kill(runner, signal.SIGINT)
    assert supervisor.ends() == 0, supervisor.text
    assert run.outcome == "success"
    assert not run.events("runner_died")
    assert "Traceback" not in supervisor.text


def test_killed_with_a_cancel_on_its_way(duckdb_sandbox: Sandbox) -> None:
    """The supervisor learns of the cancel and of the runner's death at once."""
    supervisor = duckdb_sandbox.dbt("build", "--select", "slow")
    run = duckdb_sandbox.run()
    run.is_in_slow_query()
    supervisor.send(signal.SIGSTOP)
    duckdb_sandbox.did("cancel", run.id, "--no-wait")
    os.kill(run.runner, signal.SIGKILL)
    until(lambda: not alive(run.runner), "the end of the runner")
    supervisor.send(signal.SIGCONT)
    assert supervisor.ends() == 2
    assert run.one("cancel_requested")
    assert run.outcome == "cancelled"


def test_second_cancel_shortens_the_grace(duckdb_sandbox: Sandbox) -> None:
    supervisor = duckdb_sandbox.dbt("build", "--select", "stuck")
    run = duckdb_sandbox.run()
    until((duckdb_sandbox.project / "stuck.pid").exists, "the node's own process")
    duckdb_sandbox.did("cancel", run.id, "--no-wait")
    run.waits_for("cancel_requested", grace=30.0)
    duckdb_sandbox.did("cancel", run.id, "--grace", "0")
    assert supervisor.ends() == 2
    assert run.outcome == "cancelled"
