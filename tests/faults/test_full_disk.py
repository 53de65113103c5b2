"""The disk of the run directory is full: dbt's outcome is its own, said once, and the run is ended all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.conftest import SPANLINE, RunView, Sandbox
from tests.faults.test_resume import ENDS, assert_one_start_and_one_end

SELECT = ("build", "--select", "fast", "gate", "broken", "folded", "late")
DONE = {"fast": "success", "gate": "success", "broken": "error", "late": "success"}


class Disk:
    """A file system of its own, of a few megabytes, that a test can fill."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._filler = place / "filler"

    def fill(self) -> None:
        """Leave not one byte."""
        with open(self._filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def empty(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield Disk(place)
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def filled(disk: Disk, duckdb_sandbox: Sandbox) -> Sandbox:
    """A sandbox whose runs are kept on that disk, which must outlive the sandbox's last checks."""
    sandbox = duckdb_sandbox
    sandbox.home = disk.place
    sandbox.env["SPANLINE_HOME"] = str(disk.place)
    sandbox.journal_may_stop = True
    models = sandbox.project / "models"
    (models / "folded.sql").write_text("{{ config(materialized='ephemeral') }} select * from {{ ref('gate') }}")
    (models / "late.sql").write_text("select * from {{ ref('folded') }}")
    return sandbox


def _at_the_gate(sandbox: Sandbox) -> RunView:
    run = sandbox.run()
    run.waits_for("node_finished", unique_id="model.faults.fast")
    run.waits_for("node_finished", unique_id="model.faults.broken")
    run.waits_for("node_started", unique_id="model.faults.gate")
    return run


@pytest.mark.parametrize("options", [[], ["--detach"]], ids=["attached", "detached"])
def test_full_while_dbt_runs(filled: Sandbox, disk: Disk, backend: Backend, options: list[str]) -> None:
    started = filled.start([SPANLINE, *options, "dbt", *SELECT], backend.environment)
    run = _at_the_gate(filled)
    disk.fill()
    filled.open_gate()
    if not options:
        assert started.ends() == 1, started.text
        assert started.text.count("spanline: ") == 1, "one warning"
        assert "stops here: " in started.text
    filled.all_gone()

    assert run.ends == [("failed", 1)]
    assert len(run.events("journal_stopped")) == 1
    shown = run.shown()
    assert (shown["outcome"], shown["exit_code"]) == ("failed", 1)
    assert "stops here" in shown["incomplete"]
    assert {node["name"] or node["unique_id"].rpartition(".")[2]: node["status"] for node in shown["nodes"]} == DONE
    assert_one_start_and_one_end(backend.lineage)
    session = [e for e in backend.lineage if e["run"]["runId"] == run.id and e["eventType"] in ENDS]
    assert [e["eventType"] for e in session] == ["FAIL"]
    assert {"key": "incomplete", "value": "true", "source": "SPANLINE"} in [
        {name: tag[name] for name in ("key", "value", "source")} for tag in session[0]["run"]["facets"]["tags"]["tags"]
    ]
    (gate,) = [e for e in backend.lineage if ".gate" in e["job"]["name"] and e["eventType"] in ENDS]
    assert gate["eventType"] == "COMPLETE", "as dbt's results say"


def test_full_to_the_last_byte(filled: Sandbox, disk: Disk, backend: Backend) -> None:
    """There isn't even room for the end of the run: a replay, once there is, ends it as dbt's results say."""
    started = filled.dbt(*SELECT, env=backend.environment)
    run = _at_the_gate(filled)
    (run.path / "reserve").unlink()
    disk.fill()
    filled.open_gate()
    assert started.ends() == 1, started.text
    assert started.text.count("spanline: ") == 1
    assert not run.events("session_ended")
    disk.empty()
    filled.did("replay", run.id, env=backend.environment)
    assert run.ends == [("failed", 1)]
    assert {name: run.node(name) for name in DONE} == DONE
    assert run.shown()["incomplete"]
    assert_one_start_and_one_end(backend.lineage)


def test_full_and_dbt_is_killed(filled: Sandbox, disk: Disk, backend: Backend) -> None:
    """No results of this invocation: what was open is aborted."""
    started = filled.dbt(*SELECT, env=backend.environment)
    run = _at_the_gate(filled)
    disk.fill()
    os.kill(run.runner, signal.SIGKILL)
    assert started.ends() == 2
    assert run.outcome == "died"
    (gate,) = [e for e in backend.lineage if ".gate" in e["job"]["name"] and e["eventType"] in ENDS]
    assert gate["eventType"] == "ABORT"
    assert_one_start_and_one_end(backend.lineage)


def test_cancelled_on_a_full_disk(filled: Sandbox, disk: Disk) -> None:
    started = filled.dbt("build", "--select", "fast", "slow", "after")
    run = filled.run()
    run.is_in_slow_query()
    disk.fill()
    filled.did("cancel", run.id)
    assert started.ends() == 2, started.text
    assert run.outcome == "cancelled"
    assert run.node("slow") == "cancelled"
