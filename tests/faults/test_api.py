"""The Python API away from the main thread, and cancels at awkward moments."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.faults.conftest import Sandbox, alive, until


def test_run_outside_the_main_thread(duckdb_sandbox: Sandbox) -> None:
    caller = duckdb_sandbox.script("""
import spanline, threading
def work():
    print(spanline.run(["build", "--select", "fast"]).outcome)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""")
    assert caller.ends() == 0, caller.text
    assert caller.text.split()[-1] == "success"
    assert duckdb_sandbox.run().outcome == "success"


def test_cancel_from_another_thread(sandbox: Sandbox) -> None:
    caller = sandbox.script(
        """
import spanline, sys, threading
found = []
def work():
    found.append(spanline.start(["build", "--select", "slow"]))
    print(found[0].wait().outcome, flush=True)
worker = threading.Thread(target=work)
worker.start()
def cancel():
    sys.stdin.readline()
    found[0].cancel(reason="asked by a test")
threading.Thread(target=cancel).start()
worker.join()
""",
        stdin=-1,
    )
    run = sandbox.run()
    run.is_in_slow_query()
    caller.popen.stdin.write(b"\n")
    caller.popen.stdin.close()
    assert caller.ends() == 0, caller.text
    assert caller.text.split()[-1] == "cancelled"
    assert run.one("cancel_requested")["reason"] == "asked by a test"
    assert run.node("slow") == "cancelled"


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
def test_cancel_at_once(duckdb_sandbox: Sandbox, detached: bool) -> None:
    caller = duckdb_sandbox.script(f"""
import spanline
run = spanline.start(["build", "--select", "slow"], detached={detached})
run.cancel()
result = run.wait()
try:
    result.raise_for_failure()
except spanline.DbtCancelled:
    print("DbtCancelled")
""")
    assert caller.ends() == 0, caller.text
    assert caller.text.split()[-1] == "DbtCancelled"
    assert not duckdb_sandbox.run().events("node_started")


def test_keyboard_interrupt_in_wait(sandbox: Sandbox) -> None:
    caller = sandbox.script("""
import spanline
run = spanline.start(["build", "--select", "slow"])
try:
    run.wait()
except KeyboardInterrupt:
    print("KeyboardInterrupt", run.result().outcome)
""")
    run = sandbox.run()
    run.is_in_slow_query()
    caller.send(signal.SIGINT)
    assert caller.ends() == 0, caller.text
    assert caller.text.splitlines()[-1] == "KeyboardInterrupt cancelled"


def test_second_keyboard_interrupt_in_wait_kills(duckdb_sandbox: Sandbox) -> None:
    """As a second Ctrl-C on the command line does; one that follows at once is the same keystroke."""
    caller = duckdb_sandbox.script("""
import spanline
run = spanline.start(["build", "--select", "slow"])
try:
    run.wait()
except KeyboardInterrupt:
    print("KeyboardInterrupt", run.result().outcome)
""")
    run = duckdb_sandbox.run()
    run.is_in_slow_query()
    os.kill(run.runner, signal.SIGSTOP)  # it can't end by itself
    caller.send(signal.SIGINT)
    first = run.waits_for("cancel_requested")
    caller.send(signal.SIGINT)
    until(lambda: time.time() > first["time"] / 1e9 + 1.2, "what isn't the same keystroke any more")
    assert alive(run.runner)
    caller.send(signal.SIGINT)
    assert caller.ends(20) == 0, caller.text
    assert caller.text.splitlines()[-1] == "KeyboardInterrupt cancelled"
    assert [e["grace"] for e in run.events("cancel_requested")] == [30, 0]
    assert run.one("runner_killed")


def test_cancel_between_two_steps(duckdb_sandbox: Sandbox) -> None:
    """Asked for when one step had just ended well: the next one must not run."""
    sandbox = duckdb_sandbox
    sandbox.expected_steps = 2
    caller = sandbox.script("""
import spanline
result = spanline.run([["build", "--select", "gate"], ["build", "--select", "fast"]])
print(result.outcome)
""")
    run = sandbox.run()
    run.waits_for("node_started")
    caller.send(signal.SIGSTOP)
    sandbox.open_gate()
    run.waits_for("dbt_exited")
    until(lambda: not [p for p in sandbox.processes() if p.pid != caller.pid], "the end of the first step's runner")
    sandbox.did("cancel", run.id, "--no-wait")
    caller.send(signal.SIGCONT)
    assert caller.ends() == 0, caller.text
    assert caller.text.split()[-1] == "cancelled"
    assert "model.faults.fast" not in [e["unique_id"] for e in run.events("node_started")]


def test_caller_ends_without_waiting(duckdb_sandbox: Sandbox) -> None:
    """A program that comes to its end waits for its run."""
    caller = duckdb_sandbox.script("""
import spanline
spanline.start(["build", "--select", "gate"])
""")
    run = duckdb_sandbox.run()
    run.waits_for("node_started")
    assert caller.popen.poll() is None
    duckdb_sandbox.open_gate()
    assert caller.ends() == 0
    assert run.outcome == "success"


def test_caller_exits_hard(duckdb_sandbox: Sandbox) -> None:
    caller = duckdb_sandbox.script("""
import os, spanline
run = spanline.start(["build", "--select", "slow"])
for event in run.events():
    if isinstance(event, spanline.events.NodeStarted):
        os._exit(3)
""")
    assert caller.ends() == 3
    run = duckdb_sandbox.run()
    run.waits_for("interrupt_received", reason="the supervisor is gone")
    run.waits_for("dbt_exited")
    assert not os.path.exists(f"/proc/{caller.pid}")
