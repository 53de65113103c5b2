"""Started by a shell in the background, where SIGINT or SIGHUP is ignored; and signals to the supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import SPANLINE, Sandbox, Started

FORMS = {
    "nohup": f"nohup {SPANLINE} dbt build --select fast NODE & wait",
    "background": f"{SPANLINE} dbt build --select fast NODE & wait $!; echo CODE=$?",
}


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest) -> str:
    return request.param


def _ignores(pid: int, signum: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
    return bool(mask >> (signum - 1) & 1)


def _start(sandbox: Sandbox, form: str, node: str) -> Started:
    return sandbox.start(["sh", "-c", FORMS[form].replace("NODE", node)])


def test_in_the_background_it_finishes(sandbox: Sandbox, form: str) -> None:
    sandbox.close_gate()
    shell = _start(sandbox, form, "gate")
    run = sandbox.run()
    run.waits_for("node_started", unique_id="model.faults.gate")
    supervisor = run.one("session_started")["pid"]
    assert _ignores(supervisor, signal.SIGINT), "the shell has it ignored, and that must stay"
    os.kill(supervisor, signal.SIGINT)
    if form == "nohup":
        assert _ignores(supervisor, signal.SIGHUP)
        assert _ignores(run.runner, signal.SIGHUP)
        os.kill(supervisor, signal.SIGHUP)
        os.kill(run.runner, signal.SIGHUP)
    sandbox.open_gate()
    assert shell.ends() == 0
    assert run.outcome == "success"
    assert not run.events("cancel_requested", "interrupt_received")


def test_in_the_background_it_can_be_cancelled(sandbox: Sandbox, form: str) -> None:
    shell = _start(sandbox, form, "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    assert "cancelled" in sandbox.did("cancel", run.id)
    shell.ends()
    assert run.outcome == "cancelled"
    assert run.one("dbt_exited")["exit_code"] == 2
    assert not run.events("runner_killed")
    assert run.node("slow") == "cancelled"


def test_in_the_background_the_death_of_the_supervisor_cancels(sandbox: Sandbox) -> None:
    shell = _start(sandbox, "background", "slow")
    run = sandbox.run()
    run.is_in_slow_query()
    os.kill(run.one("session_started")["pid"], signal.SIGKILL)
    shell.ends()
    run.waits_for("interrupt_received", reason="the supervisor is gone")
    run.waits_for("dbt_exited")


def test_sigterm_to_the_supervisor(sandbox: Sandbox) -> None:
    supervisor = sandbox.dbt("build", "--select", "slow", "after")
    run = sandbox.run()
    run.is_in_slow_query()
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 2
    assert run.one("cancel_requested")["by"] == "SIGTERM"
    assert run.outcome == "cancelled"
    assert not run.events("runner_killed")
    assert run.node("slow") == "cancelled"


def test_a_signal_that_the_system_hands_to_another_thread(duckdb_sandbox: Sandbox) -> None:
    """As it does with two at once, now and then; the main thread isn't woken by it."""
    supervisor = duckdb_sandbox.dbt("build", "--select", "slow")
    run = duckdb_sandbox.run()
    run.is_in_slow_query()
    another = next(thread.id for thread in psutil.Process(supervisor.pid).threads() if thread.id != supervisor.pid)
    assert ctypes.CDLL(None).tgkill(supervisor.pid, another, signal.SIGTERM) == 0
    assert supervisor.ends() == 2
    assert run.one("cancel_requested")["by"] == "SIGTERM"


def test_signals_of_every_kind_at_once(duckdb_sandbox: Sandbox) -> None:
    supervisor = duckdb_sandbox.dbt("build", "--select", "slow")
    run = duckdb_sandbox.run()
    run.is_in_slow_query()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) * 3:
        supervisor.send(signum)
        os.kill(run.runner, signum)
    assert supervisor.ends() == 2
    assert len(run.events("interrupt_received")) == 1
    assert len(run.events("cancel_requested")) == 1
    assert run.outcome == "cancelled"
    assert not run.events("runner_killed", "runner_died")
