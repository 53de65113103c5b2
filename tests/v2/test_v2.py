"""dbt v2, run for real on DuckDB, beside dbt Core. Marked `v2`; `.ci/run` runs it.

The program comes from PyPI and DuckDB's library from npm; both are kept under `SPANLINE_TEST_VENVS`, where that is set.
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
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from spanline import events
from spanline.journal.reader import Reader
from spanline.journal.state import RunState, state_of
from spanline.runner.shared import process_tree

pytestmark = pytest.mark.v2

E = TypeVar("E", bound=events.Event)
EXAMPLE = Path(__file__).parents[2] / "examples" / "coffee_shop"
SPANLINE = Path(sys.executable).with_name("spanline")
PACKAGE, LIBRARY = "dbt==2.0.0rc196", "@duckdb/node-bindings-linux-x64"
DEADLINE = 60.0
SLOW = "select count(*) as n from range({{ env_var('ROWS') }}) a(i) where hash(i) % 7 = 3 -- {{ ref('stg_menu') }}"
MANY, FEW = "40000000000", "10"
MODEL_BAD, MODEL_BELOW, MODEL_SLOW = (f"model.coffee_shop.{name}" for name in ("bad", "below", "slow"))
TEST_FAILING = "test.coffee_shop.failing"


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter without dbt Core, with dbt v2 beside it, and the driver's manifest in a folder `adbc` there."""
    cache = os.environ.get("SPANLINE_TEST_VENVS")
    place = (Path(cache) if cache else tmp_path_factory.mktemp("venvs")) / "dbt-v2"
    python = place / "bin" / "python"
    manifest = place / "adbc" / "duckdb.toml"
    if not manifest.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed: DuckDB's library comes from there")
        uv = Path(sys.executable).with_name("uv")
        for command in (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, place],
            [uv, "pip", "install", "-q", "--python", python, PACKAGE],
            ["npm", "install", "--silent", "--prefix", place / "node", LIBRARY],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"cannot be installed: {done.stderr.strip()[-300:]}")
        library = place / "node" / "node_modules" / LIBRARY / "libduckdb.so"
        manifest.parent.mkdir()
        manifest.write_text(
            'manifest_version = 1\nname = "DuckDB"\nversion = "1"\n[ADBC]\nversion = "1.1.0"\n'
            f'[Driver]\nentrypoint = "duckdb_adbc_init"\n[Driver.shared]\nlinux_amd64 = "{library}"\n'
        )
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return converted(tmp_path / "shop")


def converted(place: Path) -> Path:
    """The example as v2 takes it: what a test is given stands under `arguments`."""
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("target", "*.duckdb"))
    for file in (place / "models").rglob("*.yml"):
        text = re.sub(r"^( +)((?:values|to): )", r"\1arguments:\n\1  \2", file.read_text(), flags=re.MULTILINE)
        file.write_text(re.sub(r"^( +)(field: )", r"\1  \2", text, flags=re.MULTILINE))
    return place


class Shop:
    """A project, and `spanline` in it."""

    def __init__(self, python: Path | None, project: Path) -> None:
        self.project = project
        self._options = ["--python", str(python)] if python is not None else []
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DBT_", "OPENLINEAGE_", "OTEL_", "SPANLINE_HOME"))
        }
        drivers = {"ADBC_DRIVER_PATH": str(python.parents[1] / "adbc")} if python is not None else {}
        self._environment = {**clean, **drivers, "DBT_PROFILES_DIR": ".", "ROWS": FEW}

    def dbt(self, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.spanline(*self._options, "dbt", *args, **variables)

    def spanline(self, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**self._environment, **variables}
        return subprocess.run(
            [SPANLINE, *args], cwd=self.project, env=environment, capture_output=True, text=True, check=False
        )

    def begun(self, *args: str, **variables: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [SPANLINE, *self._options, "dbt", *args],
            cwd=self.project,
            env={**self._environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def events(self) -> list[events.Event]:
        found = sorted((self.project / ".spanline" / "runs").glob("*/journal.jsonl"))
        return [record.event for record in Reader(found[-1]).read()] if found else []

    @property
    def state(self) -> RunState:
        return state_of(self.events)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def datasets(self) -> dict[str, tuple[list[str], list[str]]]:
        """What OpenLineage is told that each job of a node reads and writes."""
        found = {}
        for line in (self.project / "lineage.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event.get("eventType") == "COMPLETE" and (event["inputs"] or event["outputs"]):
                sides = (
                    sorted(f"{each['namespace']}/{each['name']}" for each in event[s]) for s in ("inputs", "outputs")
                )
                found[event["job"]["name"]] = tuple(sides)
        return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def without_hash(unique_id: str) -> str:
    """Both engines end a generic test's id with a hash, each with its own."""
    return re.sub(r"\.[0-9a-f]{10}$", "", unique_id)


def test_both_engines_give_the_same_nodes_statuses_and_datasets(v2: Path, tmp_path: Path) -> None:
    one = Shop(None, Path(shutil.copytree(EXAMPLE, tmp_path / "one" / "shop")))
    two = Shop(v2, converted(tmp_path / "two" / "shop"))
    for shop in (one, two):
        transport = {"type": "file", "log_file_path": "lineage.jsonl", "append": True}
        done = shop.dbt("build", OPENLINEAGE__TRANSPORT=json.dumps(transport))
        assert done.returncode == 0, done.stdout + done.stderr
    assert [two.of(events.DbtStarted)[0].dbt_version, two.of(events.DbtStarted)[0].command] == [
        "2.0.0-preview.196",
        "build",
    ]

    def runs(shop: Shop, unique_id: str) -> bool:
        """Whether it is neither an exposure nor an ephemeral model, of which only dbt Core has results."""
        node = shop.state.descriptions[unique_id]
        return node.resource_type != "exposure" and not node.is_ephemeral

    def statuses(shop: Shop) -> dict[str, str]:
        nodes = (node for node in shop.state.nodes.values() if runs(shop, node.unique_id))
        return {without_hash(node.unique_id): node.status for node in nodes}

    def selected(shop: Shop) -> set[str]:
        (selection,) = shop.of(events.Selection)
        return {without_hash(unique_id) for unique_id in selection.unique_ids if runs(shop, unique_id)}

    def described(shop: Shop) -> dict[str, tuple[object, ...]]:
        return {
            without_hash(one.unique_id): (
                *(one.resource_type, one.name, one.path, one.description, one.relation, one.columns, sorted(one.tags)),
                *(one.owners, sorted(map(without_hash, one.depends_on)), one.on_schema_change, one.added_columns),
            )
            for one in shop.of(events.NodeDescribed)
        }

    assert statuses(two) == statuses(one)
    assert selected(two) == selected(one) == set(statuses(one))
    assert described(two) == described(one)
    assert len(one.datasets) > 10
    assert two.datasets == one.datasets


def test_failures_and_skips_are_told_as_what_they_are_and_retried(v2: Path, project: Path) -> None:
    shop = Shop(v2, project)
    (project / "models" / "bad.sql").write_text("select * from {{ env_var('TABLE', ref('stg_menu') | string) }}")
    (project / "models" / "below.sql").write_text("select * from {{ ref('bad') }}")
    (project / "tests" / "failing.sql").write_text("select 1 where {{ env_var('FAILS', 'false') }}")
    assert shop.dbt("build", TABLE="no_such_table", FAILS="true").returncode == 1
    nodes = shop.state.nodes
    bad, failing, below = (nodes[name] for name in (MODEL_BAD, TEST_FAILING, MODEL_BELOW))
    assert (bad.status, failing.status, below.status) == ("error", "fail", "skipped")
    assert "no_such_table does not exist" in bad.said
    assert "<unknown>" not in bad.said
    assert (failing.failing_rows, failing.message) == (1, "Got 1 result, configured to fail if != 0")
    assert below.cause == MODEL_BAD

    assert shop.spanline("retry", "latest").returncode == 0
    again = {event.unique_id for event in shop.of(events.NodeStarted) if event.session == 2}
    assert again == {MODEL_BAD, TEST_FAILING, MODEL_BELOW}
    assert {shop.state.nodes[unique_id].status for unique_id in again} == {"success", "pass"}


def test_a_cancel_cancels_the_query_and_the_rest_is_done_by_a_retry(v2: Path, project: Path) -> None:
    shop = Shop(v2, project)
    (project / "models" / "slow.sql").write_text(f"{{{{ config(materialized='table') }}}} {SLOW}")
    process = shop.begun("build", ROWS=MANY)
    until(lambda: any(MANY in event.sql for event in shop.of(events.QueryStarted)))
    assert shop.spanline("cancel", "latest").returncode == 0
    assert process.wait(DEADLINE) == 1
    state = shop.state
    assert state.ended is not None
    assert state.ended.outcome == "cancelled"
    assert state.nodes[MODEL_SLOW].status == "cancelled"
    assert any(event.status == "canceled" for event in shop.of(events.QueryFinished))
    assert_retried(shop)


def test_a_killed_runner_takes_dbt_with_it_and_the_rest_is_done_by_a_retry(v2: Path, project: Path) -> None:
    shop = Shop(v2, project)
    (project / "models" / "slow.sql").write_text(f"{{{{ config(materialized='table') }}}} {SLOW}")
    process = shop.begun("build", ROWS=MANY)
    until(lambda: any(MANY in event.sql for event in shop.of(events.QueryStarted)))
    runner = shop.of(events.AttemptStarted)[0].pid
    started = process_tree.descendants(runner)
    os.kill(runner, signal.SIGKILL)
    assert process.wait(DEADLINE) == 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert started
    state = shop.state
    assert state.ended is not None
    assert (state.ended.outcome, state.nodes[MODEL_SLOW].status) == ("died", "interrupted")
    assert_retried(shop)


def assert_retried(shop: Shop) -> None:
    """What had succeeded isn't run again, and all the rest is."""
    before = {node.unique_id for node in shop.state.nodes.values() if node.status in ("success", "pass")}
    assert len(before) > 5
    (selection,) = shop.of(events.Selection)
    assert shop.spanline("retry", "latest").returncode == 0
    again = {event.unique_id for event in shop.of(events.NodeStarted) if event.session == 2}
    assert again == set(selection.unique_ids) - before
    assert MODEL_SLOW in again


def test_secret_vars_stand_nowhere(v2: Path, project: Path) -> None:
    shop = Shop(v2, project)
    assert shop.dbt("build", "-s", "raw_menu", "--vars", "{api_token: s3cr3t-of-v2}").returncode == 0
    kept = [path for path in (project / ".spanline").rglob("*") if path.is_file() and path.name != "spec.json"]
    assert [path for path in kept if b"s3cr3t-of-v2" in path.read_bytes()] == []


def test_a_program_that_is_not_v2_is_refused(project: Path) -> None:
    done = Shop(None, project).spanline("--dbt", sys.executable, "dbt", "build")
    assert done.returncode == 2
    assert "is not dbt v2" in done.stderr
