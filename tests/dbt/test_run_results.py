"""The results that a killed dbt has left to the journal to tell, as dbt itself reads them."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
from dbt.artifacts.schemas.run import RunResultsArtifact

from spanline import events
from tests.support.journals import journal
from tests.support.project import DEADLINE, Project
from tests.support.waiting import eventually


@pytest.mark.slow
def test_a_killed_dbt_leaves_results_that_dbt_can_read_and_retry(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = project.path / "open"
    monkeypatch.setenv("GATE", str(gate))
    project.write("models/after_gate.sql", "select * from {{ ref('gate') }}")
    run = project.start("run", "-s", "customers gate after_gate")
    done = {"model.shop.customers"}
    eventually(lambda: done <= {n.unique_id for n in run.state.nodes.values() if n.status == "success"}, "customers")
    eventually(lambda: "model.shop.gate" in run.state.nodes, "the gate")
    (attempt,) = [event for event in journal(run) if isinstance(event, events.AttemptStarted)]
    os.kill(attempt.pid, signal.SIGKILL)
    run.wait(DEADLINE)

    (file,) = run.result().directory.glob("artifacts/**/run_results.json")
    found = RunResultsArtifact.read_and_check_versions(str(file))
    assert {result.unique_id: str(result.status) for result in found.results} == {
        "model.shop.customers": "success",
        "model.shop.gate": "error",
        "model.shop.after_gate": "skipped",
    }
    (kept,) = [e for e in journal(run) if isinstance(e, events.ArtifactKept) and e.name == "run_results.json"]
    assert kept.size == file.stat().st_size

    gate.touch()
    shutil.copy(file, project.path / "target" / "run_results.json")
    again = project.dbt("retry", GATE=str(gate))
    assert again.returncode == 0, again.stdout.decode()
    ran = json.loads((project.path / "target" / "run_results.json").read_text())["results"]
    models = {result["unique_id"] for result in ran if result["unique_id"].startswith("model.")}
    assert models == {"model.shop.gate", "model.shop.after_gate"}


def test_a_cancel_says_how_far_the_run_had_come(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    project.write("models/slow.sql", "select count(*) as n from range(100000000000) a, {{ ref('customers') }}")
    run = project.start("run", "-s", "customers slow")
    eventually(lambda: "model.shop.slow" in run.state.nodes, "the slow model")
    run.cancel()
    run.wait(DEADLINE)
    assert "cancelled: 1 of 2 nodes were completed" in caplog.text
