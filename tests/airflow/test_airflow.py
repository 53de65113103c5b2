"""A task of a real Airflow runs dbt by Spanline, as the example has it: lineage goes from the DAG down to each node.

Marked `airflow`; `.ci/run` runs it. The environment is kept under `SPANLINE_TEST_VENVS`, where that is set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DEADLINE = 180.0


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `airflow` of an environment with what `spanline[airflow]` brings."""
    cache = os.environ.get("SPANLINE_TEST_VENVS")
    place = (Path(cache) if cache else tmp_path_factory.mktemp("venvs")) / "airflow"
    uv = Path(sys.executable).with_name("uv")
    if not place.exists():
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, place], check=True)
    # Each time, as the source may be another one than last time.
    wanted = ["-c", ROOT / "constraints.txt", "-e", f"{ROOT}[airflow,duckdb]"]
    subprocess.run([uv, "pip", "install", "-q", "--python", place / "bin" / "python", *wanted], check=True)
    return place / "bin" / "airflow"


@pytest.fixture
def environment(airflow: Path, tmp_path: Path) -> dict[str, str]:
    """Settings of an Airflow of its own, whose DAGs are the examples, and of where both producers of lineage write."""
    names = ("AIRFLOW", "DBT_", "OPENLINEAGE_", "OTEL_", "SPANLINE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {
        **clean,
        "PATH": f"{airflow.parent}{os.pathsep}{clean.get('PATH', '')}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "COFFEE_SHOP": str(shutil.copytree(EXAMPLES / "coffee_shop", tmp_path / "shop")),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "OPENLINEAGE__TRANSPORT__TYPE": "file",
        "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(tmp_path / "lineage.jsonl"),
        "OPENLINEAGE__TRANSPORT__APPEND": "true",
    }


def run(airflow: Path, environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [airflow, *args], env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE
    )


def test_lineage_goes_from_the_dag_over_its_task_and_dbts_run_down_to_each_node(
    airflow: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    prepared = run(airflow, environment, "db", "migrate")
    assert prepared.returncode == 0, prepared.stderr
    done = run(airflow, environment, "dags", "test", "coffee_shop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Completed successfully" in done.stdout + done.stderr, "dbt's output is in the task's log"

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
