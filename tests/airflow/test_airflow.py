"""The example in a real Airflow: lineage goes from the DAG over its task and dbt's run down to each node."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.airflow_site import airflow, settings

pytestmark = pytest.mark.airflow

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_lineage_goes_from_the_dag_over_its_task_and_dbts_run_down_to_each_node(tmp_path: Path) -> None:
    environment = settings(
        tmp_path / "airflow",
        EXAMPLES / "airflow",
        {
            "COFFEE_SHOP": str(shutil.copytree(EXAMPLES / "coffee_shop", tmp_path / "shop")),
            "OPENLINEAGE__TRANSPORT__TYPE": "file",
            "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(tmp_path / "lineage.jsonl"),
            "OPENLINEAGE__TRANSPORT__APPEND": "true",
        },
    )
    prepared = airflow(environment, "db", "migrate")
    assert prepared.returncode == 0, prepared.stderr
    done = airflow(environment, "dags", "test", "coffee_shop")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "model order_totals: success" in said, "a line for each node is in the task's log"

    lines = (tmp_path / "lineage.jsonl").read_text().splitlines()
    told = [event for event in map(json.loads, lines) if "run" in event]
    names = {event["run"]["runId"]: event["job"]["name"] for event in told}
    parents = {
        event["run"]["runId"]: event["run"]["facets"]["parent"]["run"]["runId"]
        for event in told
        if "parent" in event["run"]["facets"]
    }
    (session,) = (run_id for run_id, name in names.items() if name == "dbt-run-coffee_shop")
    assert names[parents[session]] == "coffee_shop.build"
    assert names[parents[parents[session]]] == "coffee_shop"
    nodes = [run_id for run_id, parent in parents.items() if parent == session]
    assert len(nodes) > 40
    roots = {
        event["run"]["facets"]["parent"]["root"]["run"]["runId"]
        for event in told
        if event["run"]["runId"] in (session, *nodes)
    }
    assert roots == {parents[parents[session]]}
    ends = [event["eventType"] for event in told if event["eventType"] != "START"]
    assert set(ends) == {"COMPLETE"}
    assert len(ends) == len(names)
    (of_task,) = (e for e in told if e["job"]["name"] == "coffee_shop.build" and e["eventType"] == "COMPLETE")
    # Four seeds, four staging models, four marts, the snapshot.
    assert len(of_task["outputs"]) == 13
