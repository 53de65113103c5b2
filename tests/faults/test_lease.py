"""Whoever else wants a run that is under way follows it, or is refused: there is never a second dbt."""

from __future__ import annotations

import json
import os
import re
import signal

import psutil
import pytest

from spanline.home.lease import is_held
from spanline.journal import ids
from tests.faults.conftest import Sandbox, Started, alive, until

WANT = """
import spanline, sys
try:
    run = spanline.start(["build", "--select", *sys.argv[2:]], run_id=sys.argv[1])
except spanline.RunBusy as error:
    sys.exit(f"RunBusy: {error}")
print("has it", flush=True)
print(run.wait().outcome, flush=True)
"""


def test_stopped_supervisor_keeps_the_run(sandbox: Sandbox) -> None:
    run_id = ids.new_run_id()
    sandbox.close_gate()
    first = sandbox.script(WANT, run_id, "gate")
    run = sandbox.run()
    run.waits_for("node_started", unique_id="model.faults.gate")
    first.send(signal.SIGSTOP)

    second = sandbox.script(WANT, run_id, "gate")
    second.says("has it")
    other = sandbox.script(WANT, run_id, "fast")
    assert other.ends() == 1
    assert "RunBusy" in other.text
    assert str(first.pid) in other.text, "the message should say who holds the run"

    runner = run.runner
    sandbox.open_gate()
    run.waits_for("dbt_exited", exit_code=0)
    until(lambda: not alive(runner), "the end of the runner")
    third = sandbox.script(WANT, run_id, "gate")  # held by the stopped supervisor alone
    third.says("has it")
    assert second.popen.poll() is None
    assert not run.events("session_ended")

    first.send(signal.SIGCONT)
    for process in (first, second, third):
        assert process.ends() == 0
        assert process.text.split()[-1] == "success"
    assert run.outcome == "success"


def test_run_without_supervisor_is_held_by_its_runner(sandbox: Sandbox) -> None:
    run_id = ids.new_run_id()
    first = sandbox.script(WANT, run_id, "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    runner = psutil.Process(run.runner)
    runner.suspend()
    first.send(signal.SIGKILL)
    until(lambda: not alive(first.pid), "the end of the supervisor")
    second = sandbox.script(WANT, run_id, "slow")
    second.says("has it")
    assert runner.is_running()
    runner.resume()
    assert second.ends() == 0
    assert second.text.split()[-1] == "died"


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
def test_many_want_one_run_at_once(duckdb_sandbox: Sandbox, detached: bool) -> None:
    sandbox = duckdb_sandbox
    run_id = ids.new_run_id()
    script = f"""
import os, pathlib, spanline, sys, time
import spanline.api.start
pathlib.Path(f"ready-{{os.getpid()}}").touch()
while not os.path.exists("go"):
    pass
run = spanline.start(["build", "--select", "fast"], run_id="{run_id}", detached={detached})
print(run.wait().outcome)
"""
    rivals: list[Started] = [sandbox.script(script) for _ in range(6)]
    until(lambda: len(list(sandbox.project.glob("ready-*"))) == len(rivals), "all to be ready")
    (sandbox.project / "go").touch()
    for rival in rivals:
        assert rival.ends() == 0, rival.text
        assert rival.text.split()[-1] == "success", rival.text
    run = sandbox.run()
    assert len(run.events("attempt_started")) == 1


def test_two_runs_of_one_project_do_not_mix(duckdb_sandbox: Sandbox) -> None:
    sandbox = duckdb_sandbox
    sandbox.close_gate()
    first = sandbox.dbt("build", "--select", "fast", "gate", env={"FAULT_DUCKDB": "one.duckdb"})
    second = sandbox.dbt("build", "--select", "gate", env={"FAULT_DUCKDB": "two.duckdb"})
    until(lambda: len(sandbox.runs()) == 2, "two runs")
    runs = sandbox.runs()
    for run in runs:
        run.waits_for("node_started", unique_id="model.faults.gate")
    sandbox.open_gate()
    assert (first.ends(), second.ends()) == (0, 0), first.text + second.text
    invocations = set()
    for run in runs:
        assert run.outcome == "success"
        invocation = run.one("dbt_started")["invocation_id"]
        invocations.add(invocation)
        selected = set(run.one("selection")["unique_ids"])
        assert {e["unique_id"] for e in run.events("node_finished")} == selected
        assert {e["writer"].partition("-")[0] for e in run.events()} == {"supervisor", "runner"}
        assert len({e["writer"] for e in run.events()}) == 2
        for path in (run.path / "artifacts").rglob("*.json"):
            assert json.loads(path.read_text())["metadata"]["invocation_id"] == invocation
    assert len(invocations) == 2


def test_fork_at_any_moment_keeps_nothing(duckdb_sandbox: Sandbox) -> None:
    """Children forked while a run begins hold neither the lease nor the lifeline."""
    sandbox = duckdb_sandbox
    caller = sandbox.script("""
import os, signal, spanline
run = spanline.start(["build", "--select", "slow"])
children = []
while not run.state.attempts:
    child = os.fork()
    if child == 0:
        signal.pause()
    children.append(child)
print("children", *children, flush=True)
run.wait()
""")
    run = sandbox.run()
    run.is_in_slow_query()
    # dbt writes to the same stream.
    line = until(lambda: re.search(r"^children((?: \d+)+)$", caller.text, re.MULTILINE), "the children")
    children = list(map(int, line.group(1).split()))
    assert children
    caller.send(signal.SIGKILL)
    run.waits_for("dbt_exited")
    sandbox.all_gone(*children)
    assert not is_held(run.path / "lease")
    for child in children:
        os.kill(child, signal.SIGKILL)
