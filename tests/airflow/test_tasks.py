"""dbt as tasks of a real Airflow, with scheduler, triggerer and workers, seen from its REST API and its lineage."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

import spanline
from tests.support.airflow_site import Site
from tests.support.clouds import Cloud
from tests.support.project import Project
from tests.support.receivers import Receiver
from tests.support.waiting import eventually

pytestmark = pytest.mark.airflow

KEYS = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing-to-hide"}
BOTH = pytest.mark.parametrize("dag_id", ["attached", "deferred"])


class Task:
    """A task that runs dbt in a project, where the model `gate` is built once its file is there."""

    def __init__(self, site: Site, project: Project, dag_id: str, **conf: object) -> None:
        self.site, self.project, self.dag_id = site, project, dag_id
        self.gate = project.path / "gate_is_open"
        self.run_id = site.trigger(dag_id, project=str(project.path), **conf)

    @classmethod
    def waiting(cls, site: Site, project: Project, dag_id: str) -> Task:
        """One that is at the gate, and deferred where that is asked for."""
        task = cls(site, project, dag_id, select="gate", gate=str(project.path / "gate_is_open"))
        run = task.run
        eventually(lambda: any("gate" in node.unique_id for node in run.state.open_nodes), "dbt at the gate")
        if "deferred" in dag_id:
            task.reaches("deferred")
        return task

    @property
    def run(self) -> spanline.Run:
        """Its run, as soon as it has begun."""

        def found() -> list[Path]:
            return list((self.project.home / "runs").glob("[0-9a-f]*/journal.jsonl"))

        (journal,) = eventually(found, "the run's start")
        return spanline.attach(journal.parent.name, home_dir=self.project.home)

    @property
    def seen(self) -> dict[str, Any]:
        return self.site.task(self.dag_id, self.run_id)

    @property
    def log(self) -> str:
        return self.site.log(self.dag_id, self.run_id)

    @property
    def ended(self) -> str:
        return self.site.ended(self.dag_id, self.run_id)

    def reaches(self, *states: str) -> dict[str, Any]:
        return self.site.reaches(self.dag_id, self.run_id, *states)

    def mark(self, state: str) -> None:
        self.site.mark(self.dag_id, self.run_id, state)

    def xcom(self, key: str = "return_value") -> Any:
        return self.site.xcom(self.dag_id, self.run_id, key)


def told_of(receiver: Receiver, run: spanline.Run) -> list[dict[str, Any]]:
    """The events that OpenLineage was sent of the run's sessions, at their end."""
    return [
        event
        for event in receiver.lineage
        if event.get("job", {}).get("name") == "dbt-run-shop"
        and event["run"]["facets"]["spanline_run"]["run_id"] == run.id
    ]


def kinds_of(receiver: Receiver, run: spanline.Run) -> list[str]:
    return [event["eventType"] for event in told_of(receiver, run)]


def is_over(run: spanline.Run) -> bool:
    return not run.live


@BOTH
def test_a_task_that_succeeds(site: Site, project: Project, lineage_of_site: Receiver, dag_id: str) -> None:
    task = Task(site, project, dag_id, select="+totals")
    assert task.ended == "success", task.log
    run = task.run
    found = json.loads(task.xcom()) if isinstance(task.xcom(), str) else task.xcom()
    assert (found["run_id"], found["status"]) == (run.id, "success")
    assert found["counts"] == {"success": 4}, "three models, and the ephemeral one"
    assert task.xcom("job_run_id") == run.id
    session = run.state.session
    assert session is not None
    assert task.xcom("job_run_url") == f"http://jaeger.example/trace/{session.trace_id}"
    shown = site.links(dag_id, task.run_id)
    assert str(shown.pop("dbt Docs")).startswith("http://docs.example/#!/model/model.shop.")
    assert shown == {
        "Artifacts": f"http://files.example/dbt/{dag_id}/dbt/{task.run_id.replace(':', '%3A').replace('+', '%2B')}/",
        "Trace": f"http://jaeger.example/trace/{session.trace_id}",
        "Lineage": "http://marquez.example/lineage/job/dbt/dbt-run-shop",
    }
    assert "model totals: success" in task.log
    events = told_of(lineage_of_site, run)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    parent = events[0]["run"]["facets"]["parent"]
    assert parent["job"]["name"] == f"{dag_id}.dbt"
    assert parent["root"]["job"]["name"] == dag_id

    def of_tasks() -> list[dict[str, Any]]:
        """Airflow sends its own a moment after the task has ended."""
        return [
            event
            for event in lineage_of_site.lineage
            if event["run"]["runId"] == parent["run"]["runId"] and event["eventType"] == "COMPLETE"
        ]

    (of_task,) = eventually(of_tasks, "the task's own event")
    assert {output["name"] for output in of_task["outputs"]} == {
        f"shop.main.{n}" for n in ("customers", "orders", "totals")
    }


@BOTH
def test_a_failing_model_uses_no_retry_of_airflow(site: Site, project: Project, dag_id: str) -> None:
    task = Task(site, project, dag_id, select="+fragile", vars='{"break": true}')
    assert task.ended == "failed"
    assert task.seen["try_number"] == 1
    assert "no_such_column" in task.log
    assert "PermanentRuntimeException" in task.log
    assert task.run.session == 1


@BOTH
def test_a_kill_by_the_user_cancels_the_run_however_long_that_takes(
    site: Site, project: Project, lineage_of_site: Receiver, dag_id: str
) -> None:
    task = Task.waiting(site, project, dag_id)
    run, pid = task.run, task.seen["pid"]
    task.mark("failed")
    eventually(lambda: run.state.cancelling, "the order to cancel")
    assert run.state.cancel is not None
    assert run.state.cancel.by == "Airflow"
    if dag_id == "attached":
        eventually(lambda: not psutil.pid_exists(pid), "Airflow's kill of the task")
    assert run.live, "dbt cannot leave the model, and its supervisor waits for it"
    task.gate.touch()
    eventually(lambda: is_over(run), "the end of the run")
    assert run.result().outcome == "cancelled"
    assert kinds_of(lineage_of_site, run) == ["START", "ABORT"]
    assert task.ended == "failed"


@pytest.mark.parametrize("ended", [False, True], ids=["under way", "ended"])
def test_a_new_try_takes_over_the_run_that_its_killed_worker_has_left(
    site: Site, project: Project, ended: bool
) -> None:
    task = Task.waiting(site, project, "attached")
    run = task.run
    pid = task.seen["pid"]
    if ended:
        os.kill(pid, signal.SIGSTOP)
        task.gate.touch()
        eventually(lambda: is_over(run), "the end of the run")
        os.kill(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: f"run {run.id}" in site.log("attached", task.run_id, attempt=2), "the second try")
        task.gate.touch()
    assert task.ended == "success", task.log
    assert task.seen["try_number"] == 2
    assert task.run.id == run.id
    assert run.session == 1, "dbt was not started again"


@BOTH
def test_a_run_whose_processes_were_killed_is_resumed(site: Site, project: Project, dag_id: str) -> None:
    task = Task.waiting(site, project, dag_id)
    run = task.run
    session = run.state.session
    assert session is not None
    task.gate.touch()
    for process in [*psutil.Process(session.pid).children(recursive=True), psutil.Process(session.pid)]:
        process.kill()
    assert task.ended == "success", task.log
    assert run.session == 2
    assert task.seen["try_number"] == 1, "no retry of Airflow was needed"
    assert task.xcom()["run_id"] == run.id


def test_a_restart_of_the_triggerer_leaves_the_run_as_it_is(site: Site, project: Project) -> None:
    task = Task.waiting(site, project, "deferred")
    assert site.links("deferred", task.run_id)["dbt Docs"] == "http://docs.example", "links survive the deferral"
    site.stop_one("triggerer")
    site.start_one("triggerer", "--skip-serve-logs")
    task.gate.touch()
    assert task.ended == "success", task.log
    assert task.run.result().sessions == 1


@pytest.mark.parametrize("dag_id", ["timed", "timed_deferred"])
def test_execution_timeout_cancels_the_run(
    site: Site, project: Project, lineage_of_site: Receiver, dag_id: str
) -> None:
    task = Task(site, project, dag_id, select="gate", gate=str(project.path / "gate_is_open"))
    run = task.run
    eventually(lambda: run.state.cancelling, "the time limit")
    task.gate.touch()
    assert task.ended == "failed"
    eventually(lambda: is_over(run), "the end of the run")
    assert run.result().outcome == "cancelled"
    assert kinds_of(lineage_of_site, run) == ["START", "ABORT"]
    assert ("DbtTimeout" if dag_id == "timed_deferred" else "AirflowTaskTimeout") in task.log


def test_the_dags_that_people_have_run_as_they_are(site: Site, shop_of_site: Project, bucket: Cloud) -> None:
    before = site.trigger("before")
    assert site.ended("before", before) == "success", site.log("before", before, "dbt_run")
    after = site.trigger("after")
    assert site.ended("after", after) == "success", site.log("after", after, "dbt_run")
    schemas = []
    for dag_id, run_id in (("before", before), ("after", after)):
        found = site.xcom(dag_id, run_id, task_id="dbt_run")
        run = spanline.attach(found["run_id"], home_dir=shop_of_site.home)
        relation = run.state.descriptions["model.shop.orders"].relation
        assert relation is not None
        schemas.append(relation.schema)
    assert schemas == ["main", "chosen"]
    stored = site.xcom("after", after, task_id="dbt_run")["artifacts_url"]
    assert stored.startswith(f"{bucket.url}/dbt-artifacts/after/dbt_run/")
    client = boto3.client("s3", endpoint_url=bucket.endpoint, region_name="us-east-1", **KEYS)
    kept = client.list_objects_v2(Bucket=bucket.url.removeprefix("s3://"))["Contents"]
    assert any("manifest.json" in item["Key"] for item in kept)


def test_a_dag_scheduled_on_a_models_asset_starts(site: Site, shop_of_site: Project) -> None:
    run_id = site.trigger("producer", project=str(shop_of_site.path), select="+orders")
    assert site.ended("producer", run_id) == "success", site.log("producer", run_id)
    (started,) = eventually(lambda: site.ask("/dags/consumer/dagRuns")["dag_runs"], "the consumer's start")
    assert started["run_type"] == "asset_triggered"


def test_mapped_tasks_have_a_run_each(site: Site, project: Project) -> None:
    run_id = site.trigger("mapped", project=str(project.path), reason="because")
    assert site.ended("mapped", run_id) == "success"
    runs = [spanline.attach(path.name, home_dir=project.home) for path in (project.home / "runs").glob("0*")]
    sessions = [run.state.session for run in runs]
    assert {session.caller["map_index"] for session in sessions if session is not None} == {"0", "1"}
    assert {session.caller["trigger_reason"] for session in sessions if session is not None} == {"because"}
