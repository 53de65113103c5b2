"""The trigger in an event loop of its own, over real runs: its one event, its deadline, a kill."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

import spanline
from tests.support.project import Project
from tests.support.waiting import eventually

pytestmark = pytest.mark.airflow

pytest.importorskip("airflow")


async def event_of(trigger: Any) -> dict[str, Any]:
    async for event in trigger.run():
        return json.loads(json.dumps(event.payload))
    raise AssertionError("the trigger ended without an event")


def trigger_for(project: Project, run_id: str, **more: object) -> Any:
    from spanline.airflow import DbtExecutionTrigger

    return DbtExecutionTrigger(run_id, str(project.home), check_interval=0.1, **more)


def test_the_event_of_a_run_that_succeeded_and_of_one_that_failed(project: Project) -> None:
    good, bad = project.run("seed"), project.run("run", "--select", "+fragile", "--vars", "break: true")
    event = asyncio.run(event_of(trigger_for(project, good.id)))
    assert (event["status"], event["run_id"]) == ("success", good.id)
    assert event["results"]["counts"] == {"success": 2}
    event = asyncio.run(event_of(trigger_for(project, bad.id)))
    assert event["status"] == "error"
    assert "no_such_column" in event["message"]


def test_a_run_that_the_triggerer_cannot_see(project: Project) -> None:
    event = asyncio.run(event_of(trigger_for(project, spanline.new_run_id())))
    assert event["status"] == "error"
    assert "share" in event["message"]


@pytest.mark.parametrize("how", ["deadline", "kill"])
def test_at_its_deadline_and_when_it_is_killed_it_cancels_the_run(project: Project, how: str) -> None:
    gate = project.path / "gate_is_open"
    run = project.start("run", "--select", "gate", environment={"GATE": str(gate)}, detached=True)
    eventually(lambda: run.state.open_nodes, "dbt at the gate")
    if how == "deadline":
        event = asyncio.run(event_of(trigger_for(project, run.id, deadline=time.time())))
        assert event["status"] == "timeout"
    else:
        asyncio.run(trigger_for(project, run.id).on_kill())
    eventually(lambda: run.state.cancelling, "the cancel")
    gate.touch()
    assert run.wait().outcome == "cancelled"
    event = asyncio.run(event_of(trigger_for(project, run.id)))
    assert event["status"] == "cancelled"
