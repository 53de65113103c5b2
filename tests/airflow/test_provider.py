"""What Airflow finds of the provider: connection type, hook, links, trigger; and the hook at work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.airflow

pytest.importorskip("airflow")


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A connection of type `dbt` to a DuckDB file."""
    extra = {"adapter": "duckdb", "dbt_docs_url": "http://docs.example"}
    connection = {"conn_type": "dbt", "host": str(tmp_path / "warehouse.duckdb"), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    return "warehouse"


def test_airflow_finds_the_connection_type_the_hook_and_the_links() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "spanline" in manager.providers
    assert manager.hooks["dbt"].hook_class_name == "spanline.airflow.hook.DbtHook"
    assert "spanline.airflow.links.DbtDocsLink" in manager.extra_links_class_names
    assert {"extra__dbt__adapter", "extra__dbt__dbt_docs_url"} <= set(manager.connection_form_widgets)


def test_a_trigger_is_the_same_in_another_process() -> None:
    from airflow.sdk.module_loading import import_string

    from spanline.airflow import DbtExecutionTrigger

    trigger = DbtExecutionTrigger("01a22fde-ed98-74bf-8973-57ae9a3a0f77", "/home", deadline=12.5, check_interval=7.0)
    path, arguments = json.loads(json.dumps(trigger.serialize()))
    assert import_string(path)(**arguments).serialize() == trigger.serialize()


def test_urls_of_links() -> None:
    from spanline.airflow import links

    assert links.docs_url("", "model.shop.a") == ""
    assert links.docs_url("http://docs/") == "http://docs/"
    assert links.docs_url("http://docs/", "seed.shop.a") == "http://docs/#!/seed/seed.shop.a"
    assert links.artifacts_url("", "d", "t", "r") == ""
    assert links.artifacts_url("http://f/x", "d", "g.t", "scheduled__2026-01-01T00:00:00+00:00") == (
        "http://f/x/d/g.t/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00/"
    )
    assert links.filled("http://j/{trace_id}?{other}", trace_id="a/b") == "http://j/a%2Fb?{other}"


def test_the_hook_runs_dbt_by_a_connection(project: Project, warehouse: str) -> None:
    from spanline.airflow import DbtHook

    hook = DbtHook(project.path, venv_path=sys.prefix, conn_id=warehouse)
    assert hook.get_manifest()["nodes"], "before it has a run, it reads target/"
    assert hook.get_run_results() == {}
    result = hook.run_dbt_task("seed")
    assert (result.success, result.counts) == (True, {"success": 2})
    ran = {node["unique_id"] for node in hook.get_run_results()["results"]}
    assert {"seed.shop.raw_customers", "seed.shop.raw_orders"} <= ran
    assert hook.get_manifest(result.run_id)["metadata"]["project_name"] == "shop"
    assert hook.get_catalog() == {}
    assert hook.wait_for_run(result.run_id).status == "success"
    assert hook.urls() == {"dbt_docs_url": "http://docs.example"}
    assert Path(json.loads(json.dumps(hook.get_conn().output))["path"]).exists(), "the warehouse is the connection's"


def test_the_connections_button(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from spanline.airflow import DbtHook

    assert DbtHook(conn_id=warehouse).test_connection() == (True, "dbt connects to the warehouse")
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", json.dumps({"conn_type": "duckdb", "host": "/no/such/folder/x.duckdb"}))
    connects, said = DbtHook(conn_id="nowhere").test_connection()
    assert not connects
    assert "/no/such/folder" in said
