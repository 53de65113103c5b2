"""`dbtRunner(callbacks=[spanline.callback()])`: dbt runs in somebody else's process, which may die."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import Sandbox, alive, until
from tests.faults.test_resume import assert_one_start_and_one_end

CALL = """
import os, signal, spanline, sys
from dbt.cli.main import dbtRunner
runner = dbtRunner(callbacks=[spanline.callback()])
for node in sys.argv[1:]:
    result = runner.invoke(["build", "--select", node])
    print("success" if result.success else "failed", flush=True)
"""


def test_finished_runs(duckdb_sandbox: Sandbox) -> None:
    caller = duckdb_sandbox.script(CALL, "fast", "fast")
    assert caller.ends() == 0, caller.text
    assert caller.text.count("success") >= 2
    duckdb_sandbox.all_gone()
    runs = duckdb_sandbox.runs()
    assert [run.outcome for run in runs] == ["success", "success"]
    assert len({run.one("dbt_started")["invocation_id"] for run in runs}) == 2
    for run in runs:
        assert run.shown()["outcome"] == "success"


def test_observer_is_gone_while_the_caller_lives_on(duckdb_sandbox: Sandbox) -> None:
    caller = duckdb_sandbox.script(CALL + "\nsys.stdin.read()", "fast", stdin=-1)
    run = duckdb_sandbox.run()
    run.waits_for("session_ended", outcome="success")
    until(lambda: [p.pid for p in duckdb_sandbox.processes()] == [caller.pid], "the end of the observer")
    caller.popen.stdin.close()
    assert caller.ends() == 0, caller.text


def test_home_is_removed(duckdb_sandbox: Sandbox, backend: Backend) -> None:
    sandbox = duckdb_sandbox
    sandbox.close_gate()
    caller = sandbox.script(CALL, "gate", env=backend.environment)
    sandbox.run().waits_for("node_started", unique_id="model.faults.gate")
    until(lambda: backend.lineage, "an observer at work")
    shutil.rmtree(sandbox.home)
    sandbox.open_gate()
    assert caller.ends() == 0, caller.text
    (said,) = [line for line in caller.text.splitlines() if line.startswith("spanline: ")]
    assert f"{sandbox.home} is gone" in said
    assert caller.text.count("success") >= 1
    sandbox.all_gone()
    assert_one_start_and_one_end(backend.lineage)
    assert {e["eventType"] for e in backend.lineage} == {"START", "COMPLETE"}
    assert not sandbox.home.exists()


@pytest.mark.parametrize("fork", [False, True], ids=["", "forked"])
def test_caller_killed(sandbox: Sandbox, fork: bool) -> None:
    sandbox.queries_may_stay = True  # nobody is left to cancel them: dbt itself was killed
    forking = """
import threading, time
def fork():
    while not os.path.exists("fork"):
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        signal.pause()
    open("forked.new", "w").write(str(child))
    os.rename("forked.new", "forked")
threading.Thread(target=fork, daemon=True).start()
"""
    caller = sandbox.script("import os, signal\n" + (forking if fork else "") + CALL, "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    spared = []
    if fork:
        (sandbox.project / "fork").touch()
        until((sandbox.project / "forked").exists, "the fork")
        spared = [int((sandbox.project / "forked").read_text())]
    caller.send(signal.SIGKILL)
    run.waits_for("session_ended", outcome="died")
    sandbox.all_gone(*spared)
    assert run.one("runner_died")
    assert run.node("slow") == "interrupted"
    for child in spared:
        assert alive(child)
        os.kill(child, signal.SIGKILL)


def test_caller_interrupted(sandbox: Sandbox) -> None:
    caller = sandbox.script(CALL, "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    caller.send(signal.SIGINT)
    caller.ends()
    ended = run.waits_for("session_ended")
    assert ended["exit_code"] != 0
    assert ended["outcome"] != "success"
