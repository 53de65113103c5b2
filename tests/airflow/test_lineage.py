"""What a task's own lineage and its assets say of a run, and the provider's configuration as a run is given it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import spanline
from spanline.journal.state import RunState
from tests.support.project import Project

pytestmark = pytest.mark.airflow

pytest.importorskip("airflow")


@pytest.fixture(scope="module")
def resumed(copy_project: Callable[[], Project]) -> list[RunState]:
    """The states of a run after a session in which a model failed, and after another in which that was mended."""
    project = copy_project()
    good = (project.path / "models" / "fragile.sql").read_text()
    project.write("models/fragile.sql", "select no_such_column from {{ ref('orders') }}")
    place = {"home_dir": project.home}
    first = spanline.start(["run", "--select", "orders+ customers"], project_dir=project.path, detached=True, **place)
    first.wait()
    before = first.state
    project.write("models/fragile.sql", good)
    second = spanline.retry(first.id, detached=True, **place)
    second.wait()
    assert second.session == 2
    return [before, second.state]


def names_of(found: list) -> set[str]:  # type: ignore[type-arg]
    return {dataset.name for dataset in found}


def test_the_tasks_lineage_is_that_of_all_sessions_and_of_what_was_written(resumed: list[RunState]) -> None:
    from spanline.airflow import lineage

    first, last = (lineage.of_run(state) for state in resumed)
    assert first is not None
    assert last is not None
    assert names_of(first.outputs) == {f"shop.main.{name}" for name in ("customers", "orders", "totals")}
    assert names_of(last.outputs) == {
        f"shop.main.{name}" for name in ("below", "bottom", "customers", "fragile", "orders", "totals")
    }
    assert names_of(last.inputs) == {"shop.main.raw_customers", "shop.main.raw_orders"}


def test_a_run_of_which_dbt_has_said_nothing_has_no_lineage() -> None:
    from spanline.airflow import lineage

    assert lineage.of_run(RunState()) is None


def test_models_that_an_earlier_try_has_built_have_their_asset_events(resumed: list[RunState]) -> None:
    from airflow.sdk import AssetAlias
    from airflow.sdk.execution_time.context import OutletEventAccessors

    from spanline.airflow import assets

    alias, events = AssetAlias("spanline:shop.build"), OutletEventAccessors()
    assert assets.emit(resumed[-1], alias, {"outlet_events": events}) == 6
    told = {event.dest_asset_key.uri.rpartition("/")[2] for event in events[alias].asset_alias_events}
    assert told == {f"shop.main.{name}" for name in ("below", "bottom", "customers", "fragile", "orders", "totals")}


def test_a_transport_with_its_key_in_an_airflow_connection_reaches_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.http import HttpTransport

    from spanline.airflow import lineage
    from spanline.home.variables import kept_of

    transport = {"type": "http", "url": "http://lineage.example", "auth": {"type": "airflow_connection_api_key"}}
    connection = {"conn_type": "generic", "password": "hunter22", "extra": {"transport": transport}}
    monkeypatch.setenv("AIRFLOW_CONN_LINEAGE", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__CONFIG_CONN_ID", "lineage")
    found = lineage.configuration()
    kept, names = kept_of(found)
    assert (kept, names) == ({}, ["OPENLINEAGE__TRANSPORT"]), "spec.json has its name only"

    monkeypatch.chdir(tmp_path)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    sends = OpenLineageClient().transport
    assert isinstance(sends, HttpTransport)
    assert sends.url == "http://lineage.example"
    assert sends.config.auth.get_bearer() == "Bearer hunter22"
