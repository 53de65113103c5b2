"""Every dbt Core that we say we run, run: each in a virtual environment of its own, made by uv into a cache.

Marked `versions`; `.ci/run` runs it. The environments are kept under `SPANLINE_TEST_VENVS`, where that is set.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spanline import events, run
from spanline.journal import ids
from spanline.journal.reader import Reader
from spanline.journal.state import RunState
from spanline.profiles import Connection, file, resolve
from spanline.testing import read_by_dbt

pytestmark = pytest.mark.versions

EXAMPLE = Path(__file__).parents[2] / "examples" / "coffee_shop"
VERSIONS = {
    # duckdb 1.1 aborts the interpreter at random when dbt-duckdb 1.8 closes its connections.
    "1.8": ["dbt-core==1.8.10", "dbt-duckdb==1.8.4", "duckdb==1.2.2"],
    "1.9": ["dbt-core==1.9.8", "dbt-duckdb==1.9.6"],
    "1.10": ["dbt-core==1.10.23", "dbt-duckdb==1.11.1"],
    "1.11": ["dbt-core==1.11.16", "dbt-duckdb==1.10.1"],
    "1.12": ["dbt-core==1.12.6", "dbt-duckdb==1.11.1"],
}
LEFT_OUT = "dbt-core-experimental-parser ; sys_platform == 'never'\n"
"""dbt Core 1.12's new parser, whose build fetches files from outside the package index."""
DEADLINE = 120.0


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with one version of dbt Core, and without Spanline."""
    cache = os.environ.get("SPANLINE_TEST_VENVS")
    place = (Path(cache) if cache else tmp_path_factory.mktemp("venvs")) / f"dbt-{request.param}"
    interpreter = place / "bin" / "python"
    if not interpreter.exists():
        uv = Path(sys.executable).with_name("uv")
        override = tmp_path_factory.mktemp("override") / "override.txt"
        override.write_text(LEFT_OUT)
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, place], check=True)
        subprocess.run(
            [uv, "pip", "install", "-q", "--python", interpreter, "--override", override, *VERSIONS[request.param]],
            check=True,
        )
    return interpreter


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "shop"))


def spanline(python: Path, project: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(python, *args), cwd=project, env=environment(**variables), capture_output=True, text=True, check=False
    )


def command(python: Path, *args: str) -> list[str]:
    return [str(Path(sys.executable).with_name("spanline")), "--python", str(python), "dbt", *args]


def environment(**variables: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DBT_", "OPENLINEAGE_", "OTEL_", "SPANLINE_HOME"))
    }
    return {**clean, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DBT_PROFILES_DIR": ".", **variables}


def journal(project: Path) -> tuple[RunState, list[events.Event]]:
    (run,) = (project / ".spanline" / "runs").iterdir()
    state, found = RunState(), []
    for record in Reader(run / "journal.jsonl").read():
        state.apply(record.event)
        found.append(record.event)
    return state, found


def test_a_build_is_journalled_as_dbt_itself_reports_it(python: Path, project: Path) -> None:
    lineage = project / "lineage.jsonl"
    done = spanline(
        python,
        project,
        "build",
        OPENLINEAGE__TRANSPORT__TYPE="file",
        OPENLINEAGE__TRANSPORT__LOG_FILE_PATH=str(lineage),
        OPENLINEAGE__TRANSPORT__APPEND="true",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    state, found = journal(project)

    results = json.loads((project / "target" / "run_results.json").read_text())["results"]
    theirs = {result["unique_id"]: result["status"] for result in results if not is_hook(result["unique_id"])}
    ours = {node.unique_id: node.status for node in state.nodes.values() if not is_ephemeral(state, node.unique_id)}
    assert ours == theirs

    assert state.dbt is not None
    assert state.dbt.dbt_version == installed_version(python)
    assert state.config is not None
    assert (state.config.adapter_type, state.config.project) == ("duckdb", "coffee_shop")
    assert set(state.nodes) == set(state.attempt.selection if state.attempt else ())

    orders = state.descriptions["model.coffee_shop.order_totals"]
    assert orders.relation is not None
    assert orders.relation.schema == "marts"
    assert "order_id" in [column.name for column in orders.columns]
    assert "model.coffee_shop.stg_orders" in orders.depends_on
    compiled = {event.unique_id for event in found if isinstance(event, events.NodeCompiled)}
    assert {"model.coffee_shop.order_totals", "model.coffee_shop.stg_orders"} <= compiled
    queries = [event.query for event in found if isinstance(event, events.QueryStarted)]
    answered = [event.query for event in found if isinstance(event, events.QueryFinished)]
    assert len(queries) > len(theirs)
    assert sorted(answered) == sorted(queries)
    assert [hook.status for hook in state.hooks.values()] == ["success"]

    runs: dict[str, list[str]] = {}
    for line in lineage.read_text().splitlines():
        event = json.loads(line)
        if "run" in event:  # an exposure's has none
            runs.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert set(map(tuple, runs.values())) == {("START", "COMPLETE")}


def test_a_profile_made_of_a_connection_is_read_once_and_as_it_is(
    python: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "IN_MEMORY", tmp_path)
    connection = Connection(
        conn_id="shop",
        conn_type="duckdb",
        host="shop?password=hush-{{ 7*7 }}.duckdb",  # a secret, by its look
        extra={"external_root": "a{{ 7*7 }}b\n", "threads": 3},
    )
    profile = resolve(connection, target="prod", schema="marts")
    (reading,) = read_by_dbt(profile, python=python)
    assert reading.rendered == {
        "type": "duckdb", "path": connection.host, "schema": "marts", "external_root": "a{{ 7*7 }}b\n", "threads": 3,
    }  # fmt: skip
    (project / "profiles.yml").unlink()
    # debug reads it several times
    result = run(["debug"], project_dir=project, python=python, profile=profile, environment=environment())
    assert result.outcome == "success", result.error
    state, _ = journal(project)
    assert state.config is not None
    assert state.config.adapter_type == "duckdb"
    assert (project / str(connection.host)).exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith("spanline-profiles-")] == []
    for path in (project / ".spanline").rglob("*"):
        assert path.is_dir() or b"hush-" not in path.read_bytes()


def installed_version(python: Path) -> str:
    asked = "import importlib.metadata as metadata; print(metadata.version('dbt-core'))"
    return subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def is_hook(unique_id: str) -> bool:
    return unique_id.startswith("operation.")


def is_ephemeral(state: RunState, unique_id: str) -> bool:
    described = state.descriptions.get(unique_id)
    return described is not None and described.materialized == "ephemeral"


def test_failures_and_usage_errors_leave_with_dbts_exit_codes(python: Path, project: Path) -> None:
    (project / "models" / "broken.sql").write_text("select * from nowhere")
    failed = spanline(python, project, "run", "--select", "broken")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    state, _ = journal(project)
    (node,) = state.failed_nodes
    assert node.unique_id == "model.coffee_shop.broken"
    assert "nowhere" in (node.message or "")

    wrong = spanline(python, project, "run", "--selct", "broken")
    assert wrong.returncode == 2
    assert "--selct" in wrong.stderr
    assert "Usage: dbt run" in wrong.stderr


def test_statements_name_the_spans_of_their_nodes(python: Path, project: Path) -> None:
    done = spanline(
        python,
        project,
        "build",
        SPANLINE_QUERY_COMMENTS="traceparent",
        OTEL_TRACES_EXPORTER="console",
        DBT_LOG_FORMAT_FILE="json",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    state, _ = journal(project)
    trace = f"{ids.session_trace_id(state.run_id, 1, None):032x}"
    kinds = set()
    for line in (project / "logs" / "dbt.log").read_text().splitlines():
        logged = json.loads(line)
        sql = logged["data"].get("sql", "")
        if logged["info"]["name"] != "SQLQuery" or '"app": "dbt"' not in sql:
            continue  # what dbt puts its own comment on neither
        unique_id = logged["data"].get("node_info", {}).get("unique_id", "")
        place = (1, 1, unique_id) if unique_id else ids.level(1, 1, 1)
        expected = f"/*traceparent='00-{trace}-{ids.span_id(state.run_id, 1, *place):016x}-01'*/"
        assert re.search(rf"\n{re.escape(expected)};*\Z", sql), (unique_id, sql)
        kinds.add(unique_id.partition(".")[0])
    assert kinds >= {"", "operation", "model", "seed", "test", "unit_test"}


def test_an_interrupt_cancels_the_query_under_way(python: Path, project: Path) -> None:
    (project / "models" / "slow.sql").write_text(SLOW)
    with at_the_slow_query(python, project, "run", "--select", "slow") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) != 0
    state, found = journal(project)
    assert state.ended is not None
    assert state.ended.outcome == "cancelled"
    assert state.nodes["model.coffee_shop.slow"].status == "cancelled"
    assert not any(isinstance(event, events.RunnerKilled) for event in found)


def test_fail_fast_cancels_what_runs_beside_a_test_whose_event_is_empty(python: Path, project: Path) -> None:
    """dbt's event holds up to 2³¹ - 1 failures, and nothing at all where there are more."""
    huge = 8_146_686_662
    waits = f"import os, time\ndef model(dbt, session):\n    while not os.path.exists({str(project / 'gate')!r}):\n"
    answers = "        time.sleep(0.01)\n    return session.sql('select 1 as id')\n"
    (project / "models" / "slow.sql").write_text(SLOW)
    (project / "models" / "gate.py").write_text(waits + answers)
    counted = f"{{{{ config(fail_calc='count(*) + {huge}') }}}} select * from {{{{ ref('gate') }}}} where false"
    (project / "tests").mkdir(exist_ok=True)
    (project / "tests" / "huge.sql").write_text(counted)
    build = ("build", "--fail-fast", "--threads", "2", "--select", "gate", "slow")
    with at_the_slow_query(python, project, *build) as process:
        (project / "gate").touch()
        assert process.wait(DEADLINE) == 1
    state, found = journal(project)
    test, slow = state.nodes["test.coffee_shop.huge"], state.nodes["model.coffee_shop.slow"]
    assert (test.status, test.failing_rows) == ("fail", huge)
    assert (slow.status, slow.cause) == ("cancelled", "test.coffee_shop.huge")
    assert state.failed_nodes == [test]
    assert set(state.nodes) == {"model.coffee_shop.gate", "model.coffee_shop.slow", "test.coffee_shop.huge"}
    assert not [e for e in found if isinstance(e, events.Log) and e.name == "RecorderError"]


SLOW = "{{ config(materialized='table') }} select count(*) as n from range(100000000000) a, range(100) b"


@contextmanager
def at_the_slow_query(python: Path, project: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command(python, *args),
        cwd=project,
        env=environment(PYTEST_CURRENT_TEST=""),  # under pytest dbt raises where it can't fill an event
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_for_query(project)
        yield process
    finally:
        process.kill()


def wait_for_query(project: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        runs = project / ".spanline" / "runs"
        if runs.exists() and list(runs.iterdir()):
            _, found = journal(project)
            if any(isinstance(e, events.QueryStarted) and "100000000000" in e.sql for e in found):
                return
        time.sleep(0.05)
    raise AssertionError("the slow query never started")


def test_a_failed_build_is_resumed_with_what_is_left(python: Path, project: Path) -> None:
    (project / "models" / "flaky.sql").write_text("select {{ env_var('COLUMN', '1') }} as id")
    (project / "models" / "below.sql").write_text("select * from {{ ref('flaky') }}")
    assert spanline(python, project, "build", COLUMN="no_such_column").returncode == 1
    resumed = subprocess.run(
        [str(Path(sys.executable).with_name("spanline")), "retry", "latest"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    _, found = journal(project)
    again = [e.unique_id for e in found if isinstance(e, events.NodeStarted) and e.session == 2]
    assert again == ["model.coffee_shop.flaky", "model.coffee_shop.below"]
